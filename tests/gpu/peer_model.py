"""The model in PyTorch as it would be trained on a GPU: that of tests/bench/peers, float32 parameters, products in bfloat16
(autocast), fused RMSNorm, AdamW and attention where PyTorch has them."""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from contenders import toeplitz
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench/peers"))
import training  # noqa: E402


def fused_norm(x, weight, epsilon):
    return F.rms_norm(x, weight.shape, weight, epsilon)


def lazy(q, k, v, bias, tau, t):
    """That of tests/bench/peers, but for the bias, whose gradient would take a GPU very long there."""
    s = training.attention.scores(q, k) + toeplitz(bias, q.shape[2])
    p = torch.softmax(s.masked_fill(t.future, -torch.inf), -1, dtype=torch.float32)
    return torch.relu(p + tau[:, None, None] / t.visible) @ v


training.attention.contenders["lazy"] = (lazy, ("q", "k", "v", "bias", "tau"))


class PeerModel(training.Training):
    """contender: lazy, eager and every score in memory, or sdpa. recompute: layers keep nothing, the backward runs them again."""

    norm = staticmethod(fused_norm if hasattr(F, "rms_norm") else training.rms_norm)

    def __init__(self, contender, parameters, model, bfloat16, recompute=False):
        self.device = parameters["model.embed_tokens.weight"].device.type
        self.bfloat16, self.recompute = bfloat16, recompute
        decayed = [tensor["name"] for tensor in model["table"] if tensor["decay"]]
        super().__init__(contender, parameters, **model | {"decayed": decayed})

    def block(self, layer, x):
        return checkpoint(super().block, layer, x, use_reentrant=False) if self.recompute else super().block(layer, x)

    def step(self, tokens):
        # By name, so that nothing slower is taken without a word.
        flash = self.contender == "sdpa" and self.device == "cuda" and self.bfloat16
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext():
            return super().step(tokens)

    def loss(self, tokens):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            return super().loss(tokens)


def read(folder, model, batch, device):
    """Parameters and tokens that the program wrote."""
    table = {tensor["name"]: tensor["shape"] for tensor in model["table"]}
    parameters, tokens = training.read(folder, table, batch, model["length"])
    return {name: p.to(device) for name, p in parameters.items()}, tokens.to(device)


def draw(model, device):
    """Parameters of the same distribution."""
    return {t["name"]: torch.empty(t["shape"], device=device).normal_(t["mean"], t["deviation"]) for t in model["table"]}


def update_flop(model, batch):
    """Of an update: two flop forward and four backward for every weight and token, causal products two forward, four backward."""
    sizes = {t["name"]: torch.Size(t["shape"]).numel() for t in model["table"] if t["decay"]}
    weights = sum(sizes.values())
    if "lm_head.weight" in sizes:  # else the table works as the head
        weights -= sizes["model.embed_tokens.weight"]
    tokens = batch * model["length"]
    return 6 * tokens * (weights + model["layers"] * (model["length"] + 1) * model["channels"])
