"""Lazy Attention as PyTorch's own operations, every weight in memory: to read, to compare with, to differentiate."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_attention, dtype_name

FLOATS = ("float32", "float64", "bfloat16", "float16")
SOFTPICK_EPSILON = 1e-6


def _softmax_beside(s: Tensor, extra: Tensor) -> Tensor:
    """w = e^s / (e^extra + sum e^s), extra one score a row: [..., 1]."""
    return torch.softmax(torch.cat((extra.expand(*s.shape[:-1], 1), s), -1), -1)[..., 1:]


def _entmax15(s: Tensor, visible: Tensor) -> Tensor:
    """w = max(s/2 - t, 0)^2 with t such that a row sums to 1; t from the support, which sorting finds."""
    x = s.masked_fill(~visible, -torch.inf) / 2
    x = x - x.amax(-1, keepdim=True).detach()
    x = torch.where(x > -2, x, -2.0)  # t >= -1: nothing down there has a weight
    with torch.no_grad():
        largest = x.sort(-1, descending=True).values
        k = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        mean = largest.cumsum(-1) / k
        spread = largest.square().cumsum(-1) - k * mean.square()
        t = mean - ((1 - spread) / k).clamp_min(0).sqrt()
        size = (t <= largest).sum(-1, keepdim=True)
        support = x >= largest.gather(-1, size - 1)
    mean = (x * support).sum(-1, keepdim=True) / size
    spread = ((x - mean).square() * support).sum(-1, keepdim=True)
    t = mean - ((1 - spread).clamp_min(1e-12) / size).sqrt()
    return torch.where(support, (x - t).clamp_min(0).square(), 0.0)


def _weights(normalizer: str, s: Tensor, visible: Tensor, n: Tensor, keys: Tensor, tau: Tensor | None, sink: Tensor | None) -> Tensor:
    """Scores [B, H, Tq, Tk] to weights, 0 where not visible. n, keys [B, 1, Tq, 1]: tau's divisor, the keys a row sees."""
    # A row without a key has no largest score: any finite one will do, its weights are 0.
    s = s.masked_fill(~visible, -torch.inf).masked_fill(keys == 0, 0.0)
    if normalizer == "elastic":
        assert tau is not None
        a = torch.relu(torch.softmax(s, -1) + tau[:, None, None] / n)
    elif normalizer == "softmax":
        a = torch.softmax(s, -1)
    elif normalizer == "softmax1":
        a = _softmax_beside(s, s.new_zeros(1))
    elif normalizer == "sink":
        assert sink is not None
        a = _softmax_beside(s, sink[:, None, None])
    elif normalizer == "sigmoid":
        a = torch.sigmoid(s - keys.clamp_min(1).log())
    elif normalizer == "entmax15":
        a = _entmax15(s, visible | (keys == 0))
    else:
        m = s.amax(-1, keepdim=True).clamp_min(0).detach()
        one = torch.exp(-m)
        difference = (torch.exp(s - m) - one).masked_fill(~visible, 0.0)
        a = torch.relu(difference) / (SOFTPICK_EPSILON * one + difference.abs().sum(-1, keepdim=True))
    return a.masked_fill(~visible, 0.0)


def reference_weights(
    q: Tensor,
    k: Tensor,
    bias: Tensor | None = None,
    tau: Tensor | None = None,
    *,
    sink: Tensor | None = None,
    lengths: Tensor | None = None,
    normalizer: str = "elastic",
    divisor: str = "visible",
) -> Tensor:
    """The weights A [B, H, Tq, Tk], float32 or wider; arguments as for `reference_attention`."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    size = check_attention(q, k, k, bias, tau, sink, lengths, normalizer, divisor, FLOATS, dtype_name(torch.empty(0, dtype=wide)))
    Tq, Tk, W = size.queries, size.keys, size.window
    groups = size.heads // size.kv_heads
    device = q.device
    if lengths is None:
        lengths = torch.full((size.batch,), Tk, device=device)

    i = torch.arange(Tq, device=device) + (lengths[:, None] - Tq if Tq < Tk else 0)  # [B or 1, Tq] position of each row
    i = i.expand(size.batch, Tq)
    keys = torch.where((i >= 0) & (i < lengths[:, None]), i + 1, 0)  # visible ones
    distance = i[:, :, None] - torch.arange(Tk, device=device)  # [B, Tq, Tk]
    visible = ((distance >= 0) & (keys > 0)[:, :, None])[:, None]

    s = torch.einsum("bihd,bjhd->bhij", q.to(wide), k.to(wide).repeat_interleave(groups, 2)) * size.head_dim**-0.5
    if bias is not None and W > 0:
        table = torch.cat((bias, bias.new_zeros(size.heads, 1)), 1)  # entry W: every distance without one
        s = s + table[:, torch.where((distance >= 0) & (distance < W), distance, W)].transpose(0, 1)
    rows = keys[:, None, :, None].to(wide)
    n = rows if divisor == "visible" else lengths[:, None, None, None].to(wide)
    return _weights(normalizer, s, visible, n.clamp_min(1), rows, tau, sink)


def reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    tau: Tensor | None = None,
    *,
    sink: Tensor | None = None,
    lengths: Tensor | None = None,
    normalizer: str = "elastic",
    divisor: str = "visible",
) -> Tensor:
    """out [B, Tq, H, D] of q [B, Tq, H, D], k and v [B, Tk, Hkv, D], bias [H, W], tau [H], sink [H], lengths [B].

    The meaning is that of `lazy_attention.attention_forward`; any device, any autograd. Everything up to the weights is
    computed in float32 or wider.
    """
    if k.shape != v.shape:
        raise ValueError(f"v has shape {tuple(v.shape)}, expected {tuple(k.shape)}: the shape of k")
    a = reference_weights(q, k, bias, tau, sink=sink, lengths=lengths, normalizer=normalizer, divisor=divisor)
    values = v.repeat_interleave(q.shape[2] // v.shape[2], 2)
    return torch.einsum("bhij,bjhd->bihd", a, values.to(a.dtype)).to(q.dtype)
