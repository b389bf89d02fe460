"""Attention in PyTorch, from the layout [B, T, H, D] of a linear layer's output and back to it.

`lazy` is written as the authors' layers compute it: every score in memory, the bias gathered by distance, softmax in
float32, relu(p + tau / i), times V. `softmax` is the same without bias and tau. `sdpa` is PyTorch's own fused kernel: softmax,
two matrix products in the forward, no T x T matrix.
"""

from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from turns import turn


def read(folder, name, *shape):
    return torch.from_numpy(np.fromfile(f"{folder}/{name}.f32", dtype=np.float32).reshape(shape)).clone()


def tables(length, window, device="cpu"):
    """What a layer keeps for a length: [T, T] index into the bias, who lies within the window, who in the future; counts [T, 1]."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return SimpleNamespace(
        index=distance.clamp(0, max(window - 1, 0)),
        outside=(distance < 0) | (distance >= window),
        future=distance < 0,
        visible=(position + 1).float()[:, None],
    )


def load(folder, batch, length, heads, head_dim, window):
    q, k, v, dout = (read(folder, name, batch, length, heads, head_dim) for name in ("q", "k", "v", "dout"))
    return SimpleNamespace(
        inputs={"q": q, "k": k, "v": v, "bias": read(folder, "bias", heads, window), "tau": read(folder, "tau", heads)},
        dout=dout,
        tables=tables(length, window),
    )


def scores(q, k):
    return q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5


def lazy(q, k, v, bias, tau, t):
    s = scores(q, k) + bias[:, t.index].masked_fill(t.outside, 0.0)
    p = torch.softmax(s.masked_fill(t.future, -torch.inf), -1, dtype=torch.float32)
    return torch.relu(p + tau[:, None, None] / t.visible) @ v


def softmax(q, k, v, t):
    p = torch.softmax(scores(q, k).masked_fill(t.future, -torch.inf), -1, dtype=torch.float32)
    return p @ v


def sdpa(q, k, v, t):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


contenders = {"lazy": (lazy, ("q", "k", "v", "bias", "tau")), "softmax": (softmax, ("q", "k", "v"))}
if hasattr(F, "scaled_dot_product_attention"):
    contenders["sdpa"] = (sdpa, ("q", "k", "v"))


def by_heads(function, q, k, v, *rest):
    """[B, T, H, D] in and out around a function of [B, H, T, D]."""
    return function(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), *rest).transpose(1, 2).contiguous()


def forward(problem, contender, needs_gradients):
    function, names = contenders[contender]
    inputs = {name: problem.inputs[name].detach().requires_grad_(needs_gradients) for name in names}
    return by_heads(function, *inputs.values(), problem.tables), inputs


def backward(problem, out, inputs):
    return torch.autograd.grad(out, list(inputs.values()), problem.dout)


def answer(problem, contender, folder):
    out, inputs = forward(problem, contender, True)
    results = {"out": out.detach(), **{"d" + name: d for name, d in zip(inputs, backward(problem, out, inputs))}}
    for name, value in results.items():
        value.contiguous().numpy().tofile(f"{folder}/{name}.f32")


def time(problem, contender, seconds):
    def once():
        a = perf_counter()
        with torch.no_grad():
            forward(problem, contender, False)
        b = perf_counter()
        out, inputs = forward(problem, contender, True)
        c = perf_counter()
        backward(problem, out, inputs)
        d = perf_counter()
        return {"forward": 1e3 * (b - a), "both": 1e3 * (d - b), "backward": 1e3 * (d - c)}

    return turn(seconds, once)
