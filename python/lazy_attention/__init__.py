"""Lazy Attention: attention that may look away (arXiv 2601.00919).

`attention_forward`, `attention_backward`, `attention_weights` on NumPy arrays; diagnostics of weights and hidden states;
the Transformer that `lazy train` trains and its checkpoints. For PyTorch: `lazy_attention.torch`.
"""

from ._core import Activations, AttentionSummary, Collapse, Model, ModelDiagnostics
from .attention import Attended, AttentionGradients, attention_backward, attention_forward, attention_weights
from .checkpoint import (
    Checkpoint,
    ModelConfig,
    ParameterSpec,
    TrainingConfig,
    checkpoint_of,
    load_checkpoint,
    load_model,
    make_model,
    parameter_table,
    preset,
    save_checkpoint,
)
from .diagnostics import activations, attention_summary, collapse, sink_scores

__all__ = [
    "Activations",
    "Attended",
    "AttentionGradients",
    "AttentionSummary",
    "Checkpoint",
    "Collapse",
    "Model",
    "ModelConfig",
    "ModelDiagnostics",
    "ParameterSpec",
    "TrainingConfig",
    "activations",
    "attention_backward",
    "attention_forward",
    "attention_summary",
    "attention_weights",
    "checkpoint_of",
    "collapse",
    "load_checkpoint",
    "load_model",
    "make_model",
    "parameter_table",
    "preset",
    "save_checkpoint",
    "sink_scores",
]
