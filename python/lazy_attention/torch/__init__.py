"""Lazy Attention for PyTorch: the operator, the layer, the model, and the same in PyTorch's own operations."""

from .layers import LazyAttention, rope_table, rotate
from .operator import lazy_attention
from .reference import reference_attention, reference_weights
from .transformer import Transformer, checkpoint_of, load_transformer, make_optimizer, parameter_groups

__all__ = [
    "LazyAttention",
    "Transformer",
    "checkpoint_of",
    "lazy_attention",
    "load_transformer",
    "make_optimizer",
    "parameter_groups",
    "reference_attention",
    "reference_weights",
    "rope_table",
    "rotate",
]
