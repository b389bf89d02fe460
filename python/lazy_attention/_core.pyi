"""Lazy Attention in C++ (python/src). Arrays are lent, row-major; their shapes and dtypes are checked by arguments.py."""

from typing import Any

from numpy import float32, int32
from numpy.typing import NDArray

def forward(implementation: str, normalizer: str, divisor: str, *arrays: Any) -> None: ...
def backward(implementation: str, normalizer: str, divisor: str, *arrays: Any) -> None: ...
def weights(implementation: str, normalizer: str, divisor: str, *arrays: Any) -> None: ...

class Kernels:
    """One attention call of the GPU kernels (cuda/lazy_attention.h)."""

    forward_workspace: int
    backward_workspace: int
    needs_live_sums: bool
    live_tiles: int
    def __init__(
        self,
        device: str,
        type: str,
        rung: str | None,
        divisor: str,
        batch: int,
        queries: int,
        keys: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int,
    ) -> None: ...
    def forward(self, *tensors_and_stream: Any) -> None: ...
    def backward(self, *tensors_and_stream: Any) -> None: ...

class AttentionSummary:
    """Means over the rows of a pool of attention matrices; definitions in docs/diagnostics.md."""

    mass: float
    sink_mass: float
    rest_mass: float
    sink_ratio: float
    sink_mass_four: float
    sink_ratio_four: float
    density_micro: float
    density_macro: float
    tile_density: float
    dead_rows: float
    entropy: float
    effective_keys: float
    sparsity: float

class Collapse:
    """How alike the hidden states of one sequence are."""

    mean_cosine: float
    rank_residual: float
    variance_footprint: list[float]

class Activations:
    """How far the largest hidden states stand out."""

    largest: float
    median: float
    massive: float
    kurtosis: float

class ModelDiagnostics:
    """The diagnostics of a model's last forward."""

    all: AttentionSummary
    heads: list[list[AttentionSummary]]
    dead_heads: int
    sink_score_rate: float
    sink_score_rate_normalized: float
    layers: list[Collapse]
    activations: list[Activations]

def attention_summary(weights: NDArray[Any], visible: list[int], tile_size: int) -> AttentionSummary: ...
def sink_scores(weights: NDArray[Any], visible: list[int], normalized: bool) -> list[list[float]]: ...
def collapse(x: NDArray[Any]) -> Collapse: ...
def activations(x: NDArray[Any]) -> Activations: ...

class Model:
    """The Transformer that `lazy train` trains, on the CPU. Tokens and targets are [B, T], int32."""

    steps_done: int
    def __init__(self, model: dict[str, Any], training: dict[str, Any], seed: int = 0) -> None: ...
    def forward(self, tokens: NDArray[int32]) -> NDArray[float32]: ...
    def loss(self, tokens: NDArray[int32], targets: NDArray[int32]) -> float: ...
    def step(self, tokens: NDArray[int32], targets: NDArray[int32]) -> tuple[float, float, float]: ...
    def parameters(self) -> dict[str, NDArray[float32]]: ...
    def gradients(self) -> dict[str, NDArray[float32]]: ...
    def first_moment(self) -> dict[str, NDArray[float32]]: ...
    def second_moment(self) -> dict[str, NDArray[float32]]: ...
    def attention_weights(self, layer: int) -> NDArray[float32]: ...
    def hidden_states(self, layer: int) -> NDArray[float32]: ...
    def diagnose(self) -> ModelDiagnostics: ...

def parameter_table(model: dict[str, Any]) -> list[tuple[str, list[int], float, float, bool]]: ...
def preset(name: str) -> tuple[dict[str, Any], dict[str, Any]]: ...
