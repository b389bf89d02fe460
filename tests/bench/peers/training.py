"""The same small Transformer in PyTorch: pre-RMSNorm, RoPE, eager attention, SwiGLU, AdamW with clipping."""

from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

import attention
from turns import turn


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def rope_table(length, head_dim, base):
    half = torch.arange(0, head_dim, 2, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * base ** (-half / head_dim)
    return angle.cos().float()[:, None], angle.sin().float()[:, None]  # [T, 1, D/2]


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def read(folder, table, batch, length, **rest):
    """Parameters by name, from parameters.f32 in the table's order, and tokens.i32 [steps, B, T + 1]."""
    values, parameters, at = np.fromfile(f"{folder}/parameters.f32", dtype=np.float32), {}, 0
    for name, shape in table.items():
        size = int(np.prod(shape))
        parameters[name] = torch.from_numpy(values[at : at + size].reshape(shape).copy())
        at += size
    tokens = np.fromfile(f"{folder}/tokens.i32", dtype=np.int32).reshape(-1, batch, length + 1)
    return parameters, torch.from_numpy(tokens.astype(np.int64))


class Training:
    norm = staticmethod(rms_norm)

    def __init__(self, contender, parameters, **model):
        """parameters: by name, on the device that trains. model: sizes, names of those that decay, AdamW's numbers."""
        self.m, self.contender = model, contender
        self.parameters = {name: p.requires_grad_() for name, p in parameters.items()}
        device = parameters["model.embed_tokens.weight"].device
        rope = rope_table(model["length"], model["channels"] // model["heads"], model["rope_base"])
        self.rope = [x.to(device) for x in rope]
        self.tables = attention.tables(model["length"], model["window"], device)
        decayed = [p for n, p in self.parameters.items() if n in model["decayed"]]
        others = [p for n, p in self.parameters.items() if n not in model["decayed"]]
        groups = [{"params": decayed, "weight_decay": model["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
        options = dict(lr=model["learning_rate"], betas=tuple(model["betas"]), eps=1e-8)
        try:
            self.optimizer = torch.optim.AdamW(groups, fused=True, **options)
        except (TypeError, RuntimeError):  # older versions fuse on the GPU only
            self.optimizer = torch.optim.AdamW(groups, **options)

    def attend(self, layer, x):
        m, p = self.m, self.parameters
        function, names = attention.contenders[self.contender]
        weights = {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
        q, k, v = (F.linear(x, p[f"{layer}self_attn.{w}.weight"]) for w in weights.values())
        q, k, v = (y.view(*x.shape[:2], -1, m["channels"] // m["heads"]) for y in (q, k, v))
        cos, sin = (x.to(q.dtype) for x in self.rope)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if k.shape[2] < q.shape[2]:  # a key head for several query heads
            k, v = (y.repeat_interleave(q.shape[2] // y.shape[2], 2) for y in (k, v))
        rest = {"bias": "distance_bias", "tau": "tau"}
        rest = [p[f"{layer}self_attn.{rest[name]}"] for name in names if name in rest]
        out = attention.by_heads(function, q, k, v, *rest, self.tables)
        return F.linear(out.view(x.shape), p[f"{layer}self_attn.o_proj.weight"])

    def mlp(self, layer, x):
        gate, up, down = (self.parameters[f"{layer}mlp.{w}_proj.weight"] for w in ("gate", "up", "down"))
        return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)

    def block(self, layer, x):
        p, epsilon = self.parameters, self.m["norm_epsilon"]
        x = x + self.attend(layer, self.norm(x, p[layer + "input_layernorm.weight"], epsilon))
        return x + self.mlp(layer, self.norm(x, p[layer + "post_attention_layernorm.weight"], epsilon))

    def loss(self, tokens):
        """Of tokens [B, T + 1]: each but the first is a target."""
        p = self.parameters
        embedding = p["model.embed_tokens.weight"]
        x = F.embedding(tokens[:, :-1], embedding)
        for l in range(self.m["layers"]):
            x = self.block(f"model.layers.{l}.", x)
        x = self.norm(x, p["model.norm.weight"], self.m["norm_epsilon"])
        logits = F.linear(x, p.get("lm_head.weight", embedding))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def step(self, tokens):
        """One update; the loss before it, where it was computed."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.m["clip"])
        self.optimizer.step()
        return loss.detach()


def time(training, tokens, seconds):
    def once():
        start = perf_counter()
        training.step(tokens).item()
        return {"step": 1e3 * (perf_counter() - start)}

    return turn(seconds, once)["step"]
