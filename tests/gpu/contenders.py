"""Who is timed beside the kernels. A contender is `function(q, k, v, bias, tau)` on [B, T, H, D] tensors, differentiable."""

import importlib.util
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def toeplitz(bias, length):
    """[H, T, T] from [H, W]: bias[i - j] in row i, column j <= i, 0 beyond the window; what lies in the future is to be masked.

    Rows of T, cut from one row of T + 1 numbers that is repeated: each starts one number earlier. So the gradient is a sum over
    repetitions, where that of bias[:, distance] would be millions of additions to the same few numbers.
    """
    row = F.pad(bias[:, :length], (0, max(length + 1 - bias.shape[1], 1))).flip(-1).roll(1, -1)  # b[0], 0, b[T-1], ..., b[1]
    repeated = row[:, None, :].expand(-1, length, -1).flatten(1)
    return repeated[:, : length * length].unflatten(1, (length, length))


def eager_lazy(q, k, v, bias, tau):
    """Lazy Attention as a layer without a kernel of its own computes it: scores in memory, softmax in float32."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    length = q.shape[2]
    position = torch.arange(length, device=q.device)
    future = position[:, None] < position[None, :]
    s = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5 + toeplitz(bias, length)
    p = torch.softmax(s.masked_fill(future, -torch.inf), -1, dtype=torch.promote_types(torch.float32, s.dtype))
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


def contenders(gpu):
    """name -> (function, computes Lazy Attention), None where PyTorch has none; softmax contenders get no bias and no tau."""
    found = {"eager Lazy": (eager_lazy, True)}
    if not gpu:
        return found | {"SDPA": (sdpa(SDPBackend.MATH), False)}
    # Every shape is compiled for itself; beyond its limit PyTorch would fall back to eager without a word.
    for limit in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 64)
    found["compiled Lazy"] = (torch.compile(eager_lazy, dynamic=False), True)
    for name, backend in {"SDPA flash": "FLASH_ATTENTION", "SDPA cuDNN": "CUDNN_ATTENTION"}.items():
        found[name] = (sdpa(getattr(SDPBackend, backend)), False) if hasattr(SDPBackend, backend) else None
    return found
