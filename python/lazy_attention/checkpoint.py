"""Checkpoints of `lazy train`, read and written."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from . import _core
from ._core import Model

Array = NDArray[np.float32]

FORMAT = "lazy-attention-checkpoint-1"
FILE_NAME = "checkpoint.safetensors"
FIRST_MOMENT, SECOND_MOMENT = "optimizer.first_moment.", "optimizer.second_moment."


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a model; the preset `toy` unless told otherwise."""

    vocabulary: int = 256
    layers: int = 4
    channels: int = 128
    heads: int = 4
    kv_heads: int = 4
    inner: int = 352
    context: int = 256
    window: int = 256
    tied: bool = True
    attention: str = "elastic"
    divisor: str = "visible"
    position: str = "rope+bias"
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.channels // self.heads

    @property
    def uses_rope(self) -> bool:
        return self.position in ("rope", "rope+bias")

    @property
    def learns_bias(self) -> bool:
        return self.position in ("bias", "rope+bias")


@dataclass(frozen=True)
class TrainingConfig:
    """The numbers a training run starts from."""

    batch: int = 8
    learning_rate: float = 1e-3
    minimum_rate: float = 0.1
    warmup: int = 50
    schedule_steps: int = 1500
    weight_decay: float = 0.1
    clip: float = 1.0
    evaluate_every: int = 100


def preset(name: str) -> tuple[ModelConfig, TrainingConfig]:
    """The sizes and numbers of `lazy train --preset NAME`: toy, small, backcopy, paper-340m."""
    model, training = _core.preset(name)
    return ModelConfig(**model), TrainingConfig(**training)


@dataclass(frozen=True)
class ParameterSpec:
    """One learned tensor: initial values ~ N(mean, deviation^2); `decay`: whether weight decay applies."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    decay: bool


def parameter_table(model: ModelConfig) -> list[ParameterSpec]:
    """Every learned tensor of a model, in the order of a checkpoint."""
    return [
        ParameterSpec(name, tuple(shape), mean, deviation, decay)
        for name, shape, mean, deviation, decay in _core.parameter_table(asdict(model))
    ]


@dataclass
class Checkpoint:
    """Everything a run needs to go on. Tensors are float32, named as in `parameter_table`."""

    model: ModelConfig
    training: TrainingConfig
    parameters: Mapping[str, Array]
    first_moment: Mapping[str, Array]
    second_moment: Mapping[str, Array]
    step: int = 0
    preset: str = "toy"
    seed: int = 0
    tokenizer: str = "bytes"
    data_kind: str = ""
    data_checksum: str = ""
    sequences_drawn: int = 0
    random: tuple[int, int, int, int] = field(default=(1, 2, 3, 4))  #: state of the generator that draws crops

    @classmethod
    def of(cls, model: ModelConfig, parameters: Mapping[str, Array], training: TrainingConfig | None = None) -> Checkpoint:
        """A checkpoint of parameters alone, its optimizer at rest."""
        zeros = {name: np.zeros_like(x) for name, x in parameters.items()}
        return cls(model, training or TrainingConfig(), parameters, zeros, zeros)


def _path(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    found = given / FILE_NAME if given.is_dir() else given
    if not found.is_file():
        raise FileNotFoundError(f"{found} does not exist; name a folder that `lazy train --out` wrote, or a file in it")
    return found


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint file, or the one in a run's folder."""
    found = _path(path)
    with safe_open(str(found), framework="numpy") as file:
        meta: dict[str, str] = file.metadata() or {}
        if meta.get("format") != FORMAT:
            raise ValueError(f"{found}: its format is {meta.get('format')!r}, expected {FORMAT!r}; it is not a checkpoint of `lazy train`")
        numbers: dict[str, Any] = json.loads(meta["config"])
        model = ModelConfig(**{f.name: numbers[f.name] for f in fields(ModelConfig)})
        training = TrainingConfig(**{f.name: numbers[f.name] for f in fields(TrainingConfig)})
        names = [row.name for row in parameter_table(model)]
        parameters, first, second = (
            {name: file.get_tensor(prefix + name) for name in names} for prefix in ("", FIRST_MOMENT, SECOND_MOMENT)
        )
    return Checkpoint(
        model,
        training,
        parameters,
        first,
        second,
        step=int(meta["step"]),
        preset=meta["preset"],
        seed=int(meta["seed"]),
        tokenizer=meta["tokenizer"],
        data_kind=meta["data_kind"],
        data_checksum=meta["data_checksum"],
        sequences_drawn=int(meta["sequences_drawn"]),
        random=(int(meta["random_0"]), int(meta["random_1"]), int(meta["random_2"]), int(meta["random_3"])),
    )


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint that `lazy generate`, `lazy inspect` and `lazy train --resume` read; returns its path.

    `path`: a folder, made if it is not there, or a file name ending in .safetensors. The file appears whole or not at all.
    """
    c = checkpoint
    target = Path(path)
    if target.suffix != ".safetensors":
        target.mkdir(parents=True, exist_ok=True)
        target = target / FILE_NAME
    tensors: dict[str, Array] = {}
    for prefix, values in (("", c.parameters), (FIRST_MOMENT, c.first_moment), (SECOND_MOMENT, c.second_moment)):
        for row in parameter_table(c.model):
            if row.name not in values:
                raise ValueError(f"tensor {prefix + row.name!r} is missing; a checkpoint of this model has it, shape {row.shape}")
            x = np.ascontiguousarray(values[row.name], dtype=np.float32)
            if x.shape != row.shape:
                raise ValueError(f"tensor {prefix + row.name!r} has shape {x.shape}, expected {row.shape}")
            tensors[prefix + row.name] = x
    meta = {
        "format": FORMAT,
        "config": json.dumps({**asdict(c.model), **asdict(c.training)}, sort_keys=True),
        "preset": c.preset,
        "seed": str(c.seed),
        "tokenizer": c.tokenizer,
        "data_kind": c.data_kind,
        "data_checksum": c.data_checksum,
        "step": str(c.step),
        "sequences_drawn": str(c.sequences_drawn),
        **{f"random_{word}": str(value) for word, value in enumerate(c.random)},
    }
    partial = target.with_name(target.name + ".partial")
    save_file(tensors, str(partial), metadata=meta)
    os.replace(partial, target)
    return target


def make_model(model: ModelConfig, training: TrainingConfig | None = None, seed: int = 0) -> Model:
    """The C++ Transformer with its initial values drawn from `seed`."""
    return Model(asdict(model), asdict(training or TrainingConfig()), seed)


def load_model(source: Checkpoint | str | os.PathLike[str]) -> Model:
    """The C++ Transformer of a checkpoint, its optimizer included."""
    c = source if isinstance(source, Checkpoint) else load_checkpoint(source)
    model = make_model(c.model, c.training)
    pairs = ((model.parameters(), c.parameters), (model.first_moment(), c.first_moment), (model.second_moment(), c.second_moment))
    for to, values in pairs:
        for name, x in to.items():
            x[...] = values[name]
    model.steps_done = c.step
    return model


def checkpoint_of(model: Model, like: Checkpoint) -> Checkpoint:
    """What a C++ Transformer holds now; everything else as in `like`."""
    copies = [
        {name: np.array(x) for name, x in values.items()}
        for values in (model.parameters(), model.first_moment(), model.second_moment())
    ]
    return replace(like, parameters=copies[0], first_moment=copies[1], second_moment=copies[2], step=model.steps_done)
