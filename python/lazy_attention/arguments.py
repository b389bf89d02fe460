"""What attention accepts, checked once for NumPy arrays and PyTorch tensors: names, shapes, dtypes, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

NORMALIZERS = ("softmax", "softmax1", "sink", "sigmoid", "entmax15", "softpick", "elastic")
DIVISORS = ("visible", "length")


class Sizes(NamedTuple):
    """B sequences, Tq queries, Tk keys, H heads, Hkv key/value heads, D head dimension, W bias window."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int


def dtype_name(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


def choose(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"{what} is {name!r}; choose one of {', '.join(known)}")


def expect_shape(name: str, x: Any, expected: tuple[int | str, ...], why: str) -> None:
    """Sizes given as letters may be anything."""
    shape = tuple(x.shape)
    fits = len(shape) == len(expected) and all(isinstance(e, str) or s == e for s, e in zip(shape, expected))
    if not fits:
        wanted = ", ".join(str(e) for e in expected) + ("," if len(expected) == 1 else "")
        raise ValueError(f"{name} has shape {shape}, expected ({wanted}): {why}")


def expect_dtype(name: str, x: Any, expected: str, why: str) -> None:
    if dtype_name(x) != expected:
        raise TypeError(f"{name} is {dtype_name(x)}, expected {expected}: {why}")


def check_attention(
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    tau: Any,
    sink: Any,
    lengths: Any,
    normalizer: str,
    divisor: str,
    dtypes: tuple[str, ...],
    table_dtype: str | None = None,
) -> Sizes:
    """Raises ValueError or TypeError naming the argument, what it is and what was expected.

    `dtypes`: what q may be; k and v are as q; bias, tau and sink are `table_dtype`, or as q.
    """
    choose("normalizer", normalizer, NORMALIZERS)
    choose("divisor", divisor, DIVISORS)
    expect_shape("q", q, ("B", "Tq", "H", "D"), "sequences, queries, heads, head dimension")
    B, Tq, H, D = map(int, q.shape)
    expect_shape("k", k, (B, "Tk", "Hkv", D), f"as many sequences and as large a head as q {tuple(q.shape)}")
    Tk, Hkv = int(k.shape[1]), int(k.shape[2])
    expect_shape("v", v, (B, Tk, Hkv, D), "the shape of k")
    if Hkv == 0 or H % Hkv:
        raise ValueError(f"q has {H} heads and k has {Hkv}: the heads of q must be a positive multiple of those of k")
    if D == 0:
        raise ValueError("q has shape {}: the head dimension must be at least 1".format(tuple(q.shape)))
    if Tq > Tk:
        raise ValueError(f"q has {Tq} rows and k has {Tk}: every query needs its own key; pass the keys before it too")

    if dtype_name(q) not in dtypes:
        raise TypeError(f"q is {dtype_name(q)}, expected one of {', '.join(dtypes)}; convert it first")
    for name, x in (("k", k), ("v", v)):
        expect_dtype(name, x, dtype_name(q), "that of q")
    table = table_dtype or dtype_name(q)
    why = "that of q" if table_dtype is None else "16 bits cannot hold the steps of tau and bias; keep them in 32"
    window = 0
    if bias is not None:
        expect_shape("bias", bias, (H, "W"), f"one row of W distances for each of {H} heads")
        expect_dtype("bias", bias, table, why)
        window = int(bias.shape[1])
    for name, x, rule in (("tau", tau, "elastic"), ("sink", sink, "sink")):
        if x is not None:
            expect_shape(name, x, (H,), f"one value for each of {H} heads")
            expect_dtype(name, x, table, why)
        elif normalizer == rule:
            raise ValueError(f"{name} is missing: the rule {rule!r} needs one value a head, shape ({H},); or choose normalizer='softmax'")
    if lengths is not None:
        expect_shape("lengths", lengths, (B,), f"the number of valid keys of each of {B} sequences")
        expect_dtype("lengths", lengths, "int64", "they count keys")
    return Sizes(B, Tq, Tk, H, Hkv, D, window)
