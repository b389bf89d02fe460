"""Who is timed beside the kernels. A contender is `function(q, k, v, bias, tau)` on [B, T, H, D] tensors, differentiable."""

import importlib.util
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def eager_lazy(q, k, v, bias, tau):
    """Lazy Attention as a layer without a kernel of its own computes it: scores in memory, softmax in float32."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    length, window = q.shape[2], bias.shape[1]
    position = torch.arange(length, device=q.device)
    distance = position[:, None] - position[None, :]
    gathered = bias[:, distance.clamp(0, window - 1)].masked_fill((distance < 0) | (distance >= window), 0.0)
    s = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5 + gathered
    p = torch.softmax(s.masked_fill(distance < 0, -torch.inf), -1, dtype=torch.promote_types(torch.float32, s.dtype))
    visible = torch.arange(1, length + 1, device=q.device, dtype=p.dtype)[:, None]
    return (torch.relu(p + tau[:, None, None] / visible).to(v.dtype) @ v).transpose(1, 2)


def sdpa(backend):
    def attend(q, k, v, bias, tau):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True).transpose(1, 2)

    return attend


def load(text):
    """The function that FILE.py:function names."""
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"--baseline {text}: expected FILE.py:function")
    path = Path(path).resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


# name -> (function, computes Lazy Attention); softmax contenders get no bias and no tau.
def contenders(baseline, gpu):
    found = {"eager Lazy": (eager_lazy, True)}
    if gpu:
        # Every shape is compiled for itself; beyond its limit PyTorch would fall back to eager without a word.
        torch._dynamo.config.cache_size_limit = 64
        found["compiled Lazy"] = (torch.compile(eager_lazy, dynamic=False), True)
        found["SDPA flash"] = (sdpa(SDPBackend.FLASH_ATTENTION), False)
        found["SDPA cuDNN"] = (sdpa(SDPBackend.CUDNN_ATTENTION), False)
    else:
        found["SDPA"] = (sdpa(SDPBackend.MATH), False)
    if baseline:
        found["baseline"] = (load(baseline), True)
    return found
