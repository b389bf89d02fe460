"""Lazy Attention on NumPy arrays: forward, backward, weights.

Letters: B sequences, Tq queries, Tk keys, H heads, Hkv key/value heads, D head dimension, W bias window. Always causal.
Tq == Tk: row r stands at position r. Tq < Tk: the queries are the last Tq positions of each sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from .arguments import Sizes, check_attention, choose, expect_dtype, expect_shape

Array = NDArray[Any]

IMPLEMENTATIONS = ("tiled", "oracle")


class Attended(NamedTuple):
    """What the forward gives and the backward reads."""

    out: Array  #: [B, Tq, H, D]; rows without a key are zero
    lse: Array  #: [B, H, Tq] natural log-sum-exp of the scores; -inf for rows without a key


class AttentionGradients(NamedTuple):
    """Gradients of the loss, each with the shape of its input; None where there was no input."""

    dq: Array
    dk: Array
    dv: Array
    dbias: Array | None
    dtau: Array | None
    dsink: Array | None


class _Call:
    """Checked arguments, row-major; `leading` are the first arguments of every function of _core."""

    def __init__(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        tau: Array | None,
        sink: Array | None,
        lengths: Array | None,
        normalizer: str,
        divisor: str,
        implementation: str,
    ) -> None:
        choose("implementation", implementation, IMPLEMENTATIONS)
        for name, x in (("q", q), ("k", k), ("v", v), ("bias", bias), ("tau", tau), ("sink", sink)):
            if x is not None and not isinstance(x, np.ndarray):
                raise TypeError(f"{name} is a {type(x).__name__}, expected a NumPy array; for PyTorch see lazy_attention.torch")
        if lengths is not None:
            lengths = np.asarray(lengths)
            if lengths.dtype.kind in "iu":
                lengths = lengths.astype(np.int64)
        self.sizes: Sizes = check_attention(
            q, k, v, bias, tau, sink, lengths, normalizer, divisor, ("float32", "float64")
        )
        self.dtype = q.dtype
        q, k, v = (np.ascontiguousarray(x) for x in (q, k, v))
        tables = [None if x is None else np.ascontiguousarray(x) for x in (bias, tau, sink)]
        if self.sizes.window == 0:
            tables[0] = None
        self.bias, self.tau, self.sink = bias, tau, sink
        self.leading: tuple[Any, ...] = (implementation, normalizer, divisor, q, k, v, *tables, lengths)

    def forward(self) -> Attended:
        s = self.sizes
        out = np.empty((s.batch, s.queries, s.heads, s.head_dim), self.dtype)
        lse = np.empty((s.batch, s.heads, s.queries), self.dtype)
        _core.forward(*self.leading, out, lse)
        return Attended(out, lse)

    def attended(self, given: Attended | None) -> Attended:
        if given is None:
            return self.forward()
        s = self.sizes
        expect_shape("forward.out", given.out, (s.batch, s.queries, s.heads, s.head_dim), "the shape of q")
        expect_shape("forward.lse", given.lse, (s.batch, s.heads, s.queries), "what the forward of these inputs gave")
        for name, x in zip(("forward.out", "forward.lse"), given):
            expect_dtype(name, x, str(self.dtype), "that of q")
        return Attended(np.ascontiguousarray(given.out), np.ascontiguousarray(given.lse))


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None = None,
    tau: Array | None = None,
    *,
    sink: Array | None = None,
    lengths: Array | None = None,
    normalizer: str = "elastic",
    divisor: str = "visible",
    implementation: str = "tiled",
) -> Attended:
    """O = A V with A = max(softmax(q.k / sqrt(D) + bias[i - j]) + tau / n, 0), n = visible keys of the row.

    q [B, Tq, H, D], already rotated where rotary positions are used; k, v [B, Tk, Hkv, D], query head h reads key head
    h // (H / Hkv); bias [H, W] or None, a key at distance W or more is visible with bias 0; tau [H]; sink [H], read by
    normalizer="sink" alone; lengths [B] valid keys of each sequence (right padding), None: all Tk.

    All float32 or all float64. Arrays that are not row-major are copied, others are read in place.
    `normalizer`: elastic (the method), softmax, softmax1, sink, sigmoid, entmax15, softpick. `divisor`: what tau is
    divided by, "visible" keys (the method) or the sequence's "length". `implementation`: "tiled", the fast path, or
    "oracle", the equations as dense matrices.

    Returns out [B, Tq, H, D] and lse [B, H, Tq].
    """
    return _Call(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation).forward()


def attention_backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None = None,
    tau: Array | None = None,
    *,
    forward: Attended | None = None,
    sink: Array | None = None,
    lengths: Array | None = None,
    normalizer: str = "elastic",
    divisor: str = "visible",
    implementation: str = "tiled",
) -> AttentionGradients:
    """Gradients of the loss, given its gradient dout [B, Tq, H, D] with respect to out.

    The other arguments are those of `attention_forward`; `forward` is what it gave, computed again if left out.
    """
    call = _Call(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation)
    expect_shape("dout", dout, tuple(q.shape), "the shape of out, which is that of q")
    expect_dtype("dout", dout, str(q.dtype), "that of q")
    dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
    dbias, dtau, dsink = (None if x is None else np.zeros(x.shape, x.dtype) for x in (bias, tau, sink))
    _core.backward(
        *call.leading,
        *call.attended(forward),
        np.ascontiguousarray(dout),
        dq,
        dk,
        dv,
        dbias if call.sizes.window else None,
        dtau,
        dsink,
    )
    return AttentionGradients(dq, dk, dv, dbias, dtau, dsink)


def attention_weights(
    q: Array,
    k: Array,
    bias: Array | None = None,
    tau: Array | None = None,
    *,
    sink: Array | None = None,
    lengths: Array | None = None,
    normalizer: str = "elastic",
    divisor: str = "visible",
    implementation: str = "tiled",
) -> Array:
    """The weights A [B, H, Tq, Tk], with exactly the live entries that forward and backward use.

    Arguments as for `attention_forward`. Memory grows with Tq times Tk: for looking, not for computing.
    """
    call = _Call(q, k, k, bias, tau, sink, lengths, normalizer, divisor, implementation)
    s = call.sizes
    weights = np.zeros((s.batch, s.heads, s.queries, s.keys), q.dtype)
    _core.weights(*call.leading, *call.forward(), weights)
    return weights
