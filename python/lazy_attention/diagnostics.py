"""What attention weights and hidden states look like from outside; every formula stands in docs/diagnostics.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._core import Activations, AttentionSummary, Collapse

Array = NDArray[Any]


def _matrices(weights: Array, visible: Any) -> tuple[Array, list[int]]:
    if not isinstance(weights, np.ndarray) or weights.ndim < 2:
        raise ValueError(f"weights has shape {np.shape(weights)}, expected [..., Tq, Tk]: attention matrices")
    if weights.dtype not in (np.float32, np.float64):
        raise TypeError(f"weights is {weights.dtype}, expected float32 or float64; convert it first")
    rows, keys = weights.shape[-2:]
    if visible is None:
        visible = range(keys - rows + 1, keys + 1)
    visible = [int(n) for n in visible]
    if len(visible) != rows:
        raise ValueError(f"visible has {len(visible)} entries, expected {rows}: how many keys each row sees")
    return np.ascontiguousarray(weights.reshape(-1, rows, keys)), visible


def attention_summary(weights: Array, visible: Any = None, tile_size: int = 64) -> AttentionSummary:
    """Mass, sink, density, dead rows and entropy, pooled over all matrices of weights [..., Tq, Tk].

    `visible` [Tq]: how many keys each row sees; left out, the rows are the last Tq positions of Tk tokens.
    """
    return _core.attention_summary(*_matrices(weights, visible), tile_size)


def sink_scores(weights: Array, visible: Any = None, *, normalized: bool = False) -> Array:
    """alpha_k [..., Tk]: mean weight on key k over the rows that see it; normalized: of weight / surviving mass."""
    scores = _core.sink_scores(*_matrices(weights, visible), normalized)
    return np.array(scores).reshape(*weights.shape[:-2], weights.shape[-1])


def _states(x: Array) -> Array:
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, expected [T, C]: the hidden states of one sequence")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x is {x.dtype}, expected float32 or float64; convert it first")
    return np.ascontiguousarray(x)


def collapse(x: Array) -> Collapse:
    """How alike the rows of x [T, C] are: mean cosine of pairs, rank residual, variance of each row."""
    return _core.collapse(_states(x))


def activations(x: Array) -> Activations:
    """How far the largest entries of x [T, C] stand out."""
    return _core.activations(_states(x))
