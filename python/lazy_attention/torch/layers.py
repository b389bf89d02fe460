"""Lazy Attention as a layer: projections, rotary positions, distance bias, tau."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import NORMALIZERS, choose
from .operator import lazy_attention
from .reference import reference_weights

POSITIONS = ("none", "rope", "alibi", "bias", "rope+bias")
STD_WEIGHT, STD_BIAS = 0.02, 1e-3


def rope_table(length: int, head_dim: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [length, D/2] of position * base^(-2m/D), computed in double and rounded once to the dtype of `like`."""
    wide = torch.float64
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=wide, device=like.device) / head_dim)
    angle = torch.arange(length, dtype=wide, device=like.device)[:, None] * frequency
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs (m, m + D/2) of x [B, T, H, D]."""
    a, b = x.chunk(2, -1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class LazyAttention(nn.Module):
    """Attention of x [B, T, C] with itself, causal; C = heads * head_dim.

    Initial values are the project's: projections ~ N(0, 0.02^2), distance_bias [H, W] ~ N(0, 0.001^2), tau [H] = -1,
    sink [H] = 0. `position`: none, rope, alibi, bias, rope+bias. bias and tau deserve no weight decay
    (`parameter_groups`) and stay in float32: use autocast rather than .half().
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        window: int = 256,
        position: str = "rope+bias",
        normalizer: str = "elastic",
        divisor: str = "visible",
        rope_base: float = 10000.0,
        dropout: float = 0.0,
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        choose("position", position, POSITIONS)
        choose("normalizer", normalizer, NORMALIZERS)
        if dropout != 0.0:
            raise ValueError(f"dropout is {dropout}: it is not supported, weights that are exactly zero are the method's own; drop out elsewhere")
        if channels % heads or heads % kv_heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads}), and those of kv_heads ({kv_heads})")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, channels // heads
        self.uses_rope, self.position = position in ("rope", "rope+bias"), position
        if self.uses_rope and self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim} = {channels} / {heads}) must be even for RoPE; choose other heads or position='bias'")
        self.normalizer, self.divisor, self.rope_base, self.implementation = normalizer, divisor, rope_base, implementation
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.q_proj = nn.Linear(channels, channels, bias=False, **made)
        self.k_proj = nn.Linear(channels, kv_heads * self.head_dim, bias=False, **made)
        self.v_proj = nn.Linear(channels, kv_heads * self.head_dim, bias=False, **made)
        self.o_proj = nn.Linear(channels, channels, bias=False, **made)
        learned = {
            "distance_bias": (position in ("bias", "rope+bias"), (heads, window)),
            "tau": (normalizer == "elastic", (heads,)),
            "sink": (normalizer == "sink", (heads,)),
        }
        for name, (present, shape) in learned.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, **made)) if present else None)
        self.reset_parameters()

    distance_bias: Tensor | None
    tau: Tensor | None
    sink: Tensor | None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.normal_(projection.weight, std=STD_WEIGHT)
        if self.distance_bias is not None:
            nn.init.normal_(self.distance_bias, std=STD_BIAS)
        if self.tau is not None:
            self.tau.fill_(-1.0)
        if self.sink is not None:
            self.sink.zero_()

    def _bias(self, length: int, like: Tensor) -> Tensor | None:
        if self.position != "alibi":
            return self.distance_bias
        head = torch.arange(1, self.heads + 1, device=like.device, dtype=torch.float64)
        distance = torch.arange(length, device=like.device, dtype=torch.float64)
        return (-torch.exp2(-8 * head / self.heads)[:, None] * distance).to(like.dtype)

    def _inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, self.heads, self.head_dim)
        k = self.k_proj(x).view(B, T, self.kv_heads, self.head_dim)
        v = self.v_proj(x).view(B, T, self.kv_heads, self.head_dim)
        if self.uses_rope:  # in the parameters' precision; autocast's comes after
            cos, sin = rope_table(T, self.head_dim, self.rope_base, self.q_proj.weight)
            q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        return q, k, v, self._bias(T, self.q_proj.weight)

    def _rule(self, lengths: Tensor | None) -> dict[str, Any]:
        return {"sink": self.sink, "lengths": lengths, "normalizer": self.normalizer, "divisor": self.divisor}

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, key_padding_mask: Tensor | None = None) -> Tensor:
        """x [B, T, C]; lengths [B] int64 or key_padding_mask [B, T], True where a token is padding, on the right only."""
        if x.is_nested or x.dim() != 3 or x.shape[-1] != self.q_proj.in_features:
            shape = "nested" if x.is_nested else f"of shape {tuple(x.shape)}"
            raise ValueError(f"x is {shape}, expected [B, T, {self.q_proj.in_features}]; pad packed sequences on the right and give lengths")
        q, k, v, bias = self._inputs(x)
        out = lazy_attention(
            q, k, v, bias, self.tau, key_padding_mask=key_padding_mask, implementation=self.implementation, **self._rule(lengths)
        )
        return self.o_proj(out.flatten(2))  # type: ignore[no-any-return]

    @torch.no_grad()
    def weights(self, x: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """The attention weights [B, H, T, T] of x [B, T, C]: for looking at."""
        q, k, _, bias = self._inputs(x)
        return reference_weights(q, k, bias, self.tau, **self._rule(lengths))
