"""The Transformer of `lazy train` in PyTorch: its checkpoints load with strict=True, and go back."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import Checkpoint, ModelConfig, load_checkpoint, parameter_table
from .layers import STD_WEIGHT, LazyAttention


class SwiGLU(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(channels, inner, bias=False)
        self.up_proj = nn.Linear(channels, inner, bias=False)
        self.down_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    def __init__(self, c: ModelConfig, implementation: str) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c.channels, eps=c.norm_epsilon)
        self.self_attn = LazyAttention(
            c.channels,
            c.heads,
            c.kv_heads,
            window=c.window,
            position=c.position,
            normalizer=c.attention,
            divisor=c.divisor,
            rope_base=c.rope_base,
            implementation=implementation,
        )
        self.post_attention_layernorm = nn.RMSNorm(c.channels, eps=c.norm_epsilon)
        self.mlp = SwiGLU(c.channels, c.inner)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), lengths=lengths)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x


class Decoder(nn.Module):
    def __init__(self, c: ModelConfig, implementation: str) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocabulary, c.channels)
        self.layers = nn.ModuleList(Layer(c, implementation) for _ in range(c.layers))
        self.norm = nn.RMSNorm(c.channels, eps=c.norm_epsilon)


class Transformer(nn.Module):
    """Logits [B, T, V] of tokens [B, T]. Parameters are named as in a checkpoint of `lazy train`.

    `implementation`: how attention is computed, see `lazy_attention`; "reference" makes the whole model pure PyTorch.
    """

    def __init__(self, config: ModelConfig, implementation: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, implementation)
        self.lm_head = None if config.tied else nn.Linear(config.channels, config.vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=STD_WEIGHT)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, lengths)
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(self.model.norm(x), head.weight)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean nats over the targets [B, T] that are not -1."""
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten().long(), ignore_index=-1)

    @torch.no_grad()
    def attention_weights(self, tokens: Tensor) -> list[Tensor]:
        """The weights [B, H, T, T] of every layer."""
        x, maps = self.model.embed_tokens(tokens), []
        for layer in self.model.layers:
            maps.append(layer.self_attn.weights(layer.input_layernorm(x)))  # type: ignore[operator, union-attr]
            x = layer(x, None)
        return maps


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """For torch.optim: matrices decay; norms, biases, tau and sink do not."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in module.named_parameters():
        groups[parameter.dim() < 2 or name.endswith("distance_bias")].append(parameter)
    return [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}]


def make_optimizer(model: Transformer, checkpoint: Checkpoint) -> torch.optim.AdamW:
    """AdamW as `lazy train` runs it, its moments from the checkpoint. The learning rate is the schedule's peak."""
    t = checkpoint.training
    optimizer = torch.optim.AdamW(
        parameter_groups(model, t.weight_decay), lr=t.learning_rate, betas=(0.9, 0.95), eps=1e-8
    )
    if checkpoint.step > 0:
        for name, parameter in model.named_parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(checkpoint.step)),
                "exp_avg": torch.from_numpy(checkpoint.first_moment[name]).to(parameter).clone(),
                "exp_avg_sq": torch.from_numpy(checkpoint.second_moment[name]).to(parameter).clone(),
            }
    return optimizer


def load_transformer(source: Checkpoint | str | os.PathLike[str], implementation: str = "auto") -> Transformer:
    """The model of a checkpoint, or of a run's folder."""
    checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
    model = Transformer(checkpoint.model, implementation)
    model.load_state_dict({name: torch.from_numpy(x) for name, x in checkpoint.parameters.items()}, strict=True)
    return model


def checkpoint_of(model: Transformer, optimizer: torch.optim.Optimizer | None = None, like: Checkpoint | None = None) -> Checkpoint:
    """What a model (and its AdamW) holds now, to be given to `save_checkpoint`; everything else as in `like`."""
    arrays = {name: p.detach().float().cpu().numpy().copy() for name, p in model.state_dict().items()}
    ordered = {row.name: arrays[row.name] for row in parameter_table(model.config)}
    fresh = Checkpoint.of(model.config, ordered)
    if like is not None:
        fresh = replace(like, model=model.config, parameters=ordered, first_moment=fresh.first_moment, second_moment=fresh.second_moment, step=0)
    if optimizer is None or not optimizer.state:
        return fresh
    states = {name: optimizer.state[p] for name, p in model.named_parameters()}
    moments = [{n: s[key].float().cpu().numpy().copy() for n, s in states.items()} for key in ("exp_avg", "exp_avg_sq")]
    step = int(max(float(s["step"]) for s in states.values()))
    return replace(fresh, first_moment=moments[0], second_moment=moments[1], step=step)
