"""The same small Transformer in PyTorch: pre-RMSNorm, RoPE, eager attention, SwiGLU, tied head, AdamW with clipping."""

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


class Training:
    def __init__(self, contender, folder, **model):
        """model: names, shapes and decays of the parameters in the order of parameters.f32, sizes, AdamW's numbers."""
        self.m, self.contender = model, contender
        values = np.fromfile(f"{folder}/parameters.f32", dtype=np.float32)
        self.parameters, at = {}, 0
        for name, shape in model["table"].items():
            size = int(np.prod(shape))
            slice = torch.from_numpy(values[at : at + size].reshape(shape).copy())
            self.parameters[name] = slice.requires_grad_()
            at += size
        tokens = np.fromfile(f"{folder}/tokens.i32", dtype=np.int32).reshape(-1, model["batch"], model["length"] + 1)
        self.tokens = torch.from_numpy(tokens.astype(np.int64))
        self.rope = rope_table(model["length"], model["channels"] // model["heads"], model["rope_base"])
        self.tables = attention.tables(model["length"], model["window"])
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
        q, k, v = (y.view(*x.shape[:2], m["heads"], -1) for y in (q, k, v))
        q, k = rotate(q, *self.rope), rotate(k, *self.rope)
        rest = {"bias": "distance_bias", "tau": "tau"}
        rest = [p[f"{layer}self_attn.{rest[name]}"] for name in names if name in rest]
        out = attention.by_heads(function, q, k, v, *rest, self.tables)
        return F.linear(out.view(x.shape), p[f"{layer}self_attn.o_proj.weight"])

    def mlp(self, layer, x):
        gate, up, down = (self.parameters[f"{layer}mlp.{w}_proj.weight"] for w in ("gate", "up", "down"))
        return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)

    def loss(self, tokens):
        p, epsilon = self.parameters, self.m["norm_epsilon"]
        embedding = p["model.embed_tokens.weight"]
        x = F.embedding(tokens[:, :-1], embedding)
        for l in range(self.m["layers"]):
            layer = f"model.layers.{l}."
            x = x + self.attend(layer, rms_norm(x, p[layer + "input_layernorm.weight"], epsilon))
            x = x + self.mlp(layer, rms_norm(x, p[layer + "post_attention_layernorm.weight"], epsilon))
        logits = F.linear(rms_norm(x, p["model.norm.weight"], epsilon), p.get("lm_head.weight", embedding))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def step(self, batch):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.tokens[batch % len(self.tokens)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.m["clip"])
        self.optimizer.step()
        return loss.item()

    def time(self, seconds):
        def once():
            start = perf_counter()
            self.step(0)
            return {"step": 1e3 * (perf_counter() - start)}

        return turn(seconds, once)["step"]
