"""The C++ attention as a PyTorch operator, with autograd, under torch.compile."""

from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .. import _core
from ..arguments import check_attention, choose, dtype_name
from .reference import reference_attention

IMPLEMENTATIONS = ("auto", "tiled", "oracle", "cuda", "emulated", "reference")


def _device_type(implementation: str) -> str:
    return "cuda" if implementation == "cuda" else "cpu"


class _Call(NamedTuple):
    """The inputs of one call as the C++ code reads them: row-major, no autograd."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Optional[Tensor]
    tau: Optional[Tensor]
    sink: Optional[Tensor]
    lengths: Optional[Tensor]


def _lend(x: Optional[Tensor]) -> Any:
    return None if x is None else x.detach().contiguous()


def _checked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Optional[Tensor],
    tau: Optional[Tensor],
    sink: Optional[Tensor],
    lengths: Optional[Tensor],
    normalizer: str,
    divisor: str,
    implementation: str,
) -> _Call:
    kernels = implementation in ("cuda", "emulated")
    for name, x in (("q", q), ("k", k), ("v", v), ("bias", bias), ("tau", tau), ("sink", sink), ("lengths", lengths)):
        if x is not None and x.device.type != _device_type(implementation):
            raise ValueError(f"{name} is on {x.device}: {implementation!r} computes on {_device_type(implementation)}; move all to one device")
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} is on {x.device} and q on {q.device}; move all to one device")
    dtypes = ("float32", "bfloat16", "float16") if kernels else ("float32", "float64")
    size = check_attention(q, k, v, bias, tau, sink, lengths, normalizer, divisor, dtypes, "float32" if kernels else None)
    if kernels and normalizer not in ("elastic", "softmax"):
        raise ValueError(f"normalizer {normalizer!r} has no kernel: {implementation!r} computes elastic and softmax; use implementation='reference'")
    if size.window == 0:
        bias = None
    if kernels and normalizer == "softmax":
        tau = None
    return _Call(*(_lend(x) for x in (q, k, v, bias, tau, sink, lengths)))


def _kernels(q: Tensor, k: Tensor, bias: Optional[Tensor], divisor: str, implementation: str, rung: str) -> Any:
    B, Tq, H, D = q.shape
    window = 0 if bias is None else int(bias.shape[1])
    return _core.Kernels(
        implementation, dtype_name(q), rung or None, divisor, int(B), int(Tq), int(k.shape[1]), int(H), int(k.shape[2]), int(D), window
    )


def _stream(q: Tensor) -> int:
    return int(torch.cuda.current_stream(q.device).cuda_stream) if q.is_cuda else 0


def _workspace(size: int, q: Tensor) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=q.device)


def _empty_outputs(
    q: Tensor, k: Tensor, bias: Optional[Tensor], divisor: str, implementation: str, rung: str
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """out [B, Tq, H, D], lse [B, H, Tq], and what the backward of a kernel reads: live sums [B, Tq, H, 2 D], live tiles."""
    B, Tq, H, D = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if implementation not in ("cuda", "emulated"):
        return out, q.new_empty((B, H, Tq)), q.new_empty(0), q.new_empty(0, dtype=torch.int32)
    sizes = _kernels(q, k, bias, divisor, implementation, rung)
    live_sums = torch.empty((B, Tq, H, 2 * D) if sizes.needs_live_sums else (0,), dtype=torch.float32, device=q.device)
    lse = torch.empty((B, H, Tq), dtype=torch.float32, device=q.device)
    return out, lse, live_sums, torch.empty(sizes.live_tiles // 4, dtype=torch.int32, device=q.device)


@torch.library.custom_op("lazy_attention::forward", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Optional[Tensor],
    tau: Optional[Tensor],
    sink: Optional[Tensor],
    lengths: Optional[Tensor],
    normalizer: str,
    divisor: str,
    implementation: str,
    rung: str,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    call = _checked(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation)
    outputs = _empty_outputs(call.q, call.k, call.bias, divisor, implementation, rung)
    if implementation not in ("cuda", "emulated"):
        _core.forward(implementation, normalizer, divisor, *call, *outputs[:2])
        return outputs
    kernels = _kernels(call.q, call.k, call.bias, divisor, implementation, rung)
    workspace = _workspace(kernels.forward_workspace, q)
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
        kernels.forward(call.q, call.k, call.v, call.bias, call.tau, call.lengths, *outputs, workspace, _stream(q))
    return outputs


@_forward.register_fake
def _(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation, rung):  # type: ignore[no-untyped-def]
    return _empty_outputs(q, k, bias if bias is not None and bias.shape[1] > 0 else None, divisor, implementation, rung)


@torch.library.custom_op("lazy_attention::backward", mutates_args=())
def _backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Optional[Tensor],
    tau: Optional[Tensor],
    sink: Optional[Tensor],
    lengths: Optional[Tensor],
    forward: List[Tensor],
    normalizer: str,
    divisor: str,
    implementation: str,
    rung: str,
) -> List[Tensor]:
    call = _checked(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation)
    outputs = [_lend(x) for x in forward]
    grads = [_zeros(x) for x in (q, k, v, bias, tau, sink)]
    dq, dk, dv = grads[:3]
    dbias, dtau, dsink = (None if x is None else g for x, g in zip((call.bias, call.tau, call.sink), grads[3:]))
    if implementation not in ("cuda", "emulated"):
        _core.backward(implementation, normalizer, divisor, *call, *outputs[:2], _lend(dout), dq, dk, dv, dbias, dtau, dsink)
        return grads
    kernels = _kernels(call.q, call.k, call.bias, divisor, implementation, rung)
    workspace = _workspace(kernels.backward_workspace, q)
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
        kernels.backward(
            call.q, call.k, call.v, call.bias, call.tau, call.lengths, *outputs, _lend(dout), dq, dk, dv, dbias, dtau, workspace, _stream(q)
        )
    return grads


def _zeros(x: Optional[Tensor]) -> Tensor:
    return torch.empty(0) if x is None else torch.zeros(x.shape, dtype=x.dtype, device=x.device)


@_backward.register_fake
def _(dout, q, k, v, bias, tau, sink, lengths, forward, normalizer, divisor, implementation, rung):  # type: ignore[no-untyped-def]
    return [_zeros(x) for x in (q, k, v, bias, tau, sink)]


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.normalizer, ctx.divisor, ctx.implementation, ctx.rung = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _autograd(ctx, dout, dlse, dsums, dtiles):  # type: ignore[no-untyped-def]
    if dout is None:
        return (None,) * 11
    inputs, outputs = ctx.saved_tensors[:7], list(ctx.saved_tensors[7:])
    grads = torch.ops.lazy_attention.backward(dout, *inputs, outputs, ctx.normalizer, ctx.divisor, ctx.implementation, ctx.rung)
    return *(g if x is not None else None for x, g in zip(inputs, grads)), *(None,) * 5


_forward.register_autograd(_autograd, setup_context=_setup_context)


@torch.library.custom_op("lazy_attention::lengths_of_mask", mutates_args=())
def _lengths_of_mask(mask: Tensor, batch: int, keys: int) -> Tensor:
    if tuple(mask.shape) != (batch, keys):
        raise ValueError(f"key_padding_mask has shape {tuple(mask.shape)}, expected ({batch}, {keys}): True where a key is padding")
    if mask.dtype != torch.bool:
        raise TypeError(f"key_padding_mask is {dtype_name(mask)}, expected bool: True where a key is padding")
    lengths = (~mask).sum(1)
    if not torch.equal(mask, torch.arange(keys, device=mask.device) >= lengths[:, None]):
        raise ValueError("key_padding_mask: padding stands before or between the keys; only padding on the right is supported, move it there")
    return lengths


@_lengths_of_mask.register_fake
def _(mask, batch, keys):  # type: ignore[no-untyped-def]
    return mask.new_empty(mask.shape[0], dtype=torch.int64)


def _is_plain(x: object) -> bool:
    return isinstance(x, Tensor) and not x.is_nested and x.layout == torch.strided


def lazy_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Optional[Tensor] = None,
    tau: Optional[Tensor] = None,
    *,
    sink: Optional[Tensor] = None,
    lengths: Optional[Tensor] = None,
    key_padding_mask: Optional[Tensor] = None,
    dropout: float = 0.0,
    normalizer: str = "elastic",
    divisor: str = "visible",
    implementation: str = "auto",
    rung: Optional[str] = None,
) -> Tensor:
    """out [B, Tq, H, D] = max(softmax(q.k / sqrt(D) + bias[i - j]) + tau / n, 0) v, causal, n = visible keys of a row.

    q [B, Tq, H, D], rotated already; k, v [B, Tk, Hkv, D]; bias [H, W]; tau [H]; sink [H]; lengths [B] int64, valid keys
    (right padding), or key_padding_mask [B, Tk], True where a key is padding. Tq < Tk: the queries are the last Tq positions.

    `implementation`: "auto" (CPU tensors: tiled; CUDA tensors: cuda), "tiled", "oracle", "cuda", "emulated" (the CUDA
    kernels thread by thread on the CPU: slow) or "reference" (PyTorch's own operations). `rung` names a kernel; None: the last that fits.

    On the CPU q, k and v of 16 bits are computed in float32. bias and tau stay in 32 bits. Tensors that are not row-major
    are copied. Differentiable once, in q, k, v, bias, tau and sink.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not _is_plain(x):
            raise TypeError(
                f"{name} is a packed, nested or sparse sequence ({type(x).__name__}); pad it to [B, T, H, D] "
                "(torch.nn.utils.rnn.pad_sequence) and give lengths"
            )
    if dropout != 0.0:
        raise ValueError(f"dropout is {dropout}: it is not supported, weights that are exactly zero are the method's own; drop out elsewhere")
    choose("implementation", implementation, IMPLEMENTATIONS)
    if key_padding_mask is not None:
        if lengths is not None:
            raise ValueError("lengths and key_padding_mask say the same thing: give one of them")
        lengths = torch.ops.lazy_attention.lengths_of_mask(key_padding_mask, k.shape[0], k.shape[1])
    if implementation == "auto":
        if q.device.type not in ("cpu", "cuda"):
            raise ValueError(f"q is on {q.device}: there is no kernel for it; use implementation='reference'")
        implementation = "tiled" if q.device.type == "cpu" else "cuda"
    if implementation == "reference":
        return reference_attention(q, k, v, bias, tau, sink=sink, lengths=lengths, normalizer=normalizer, divisor=divisor)
    given = q.dtype
    if implementation in ("tiled", "oracle") and given in (torch.bfloat16, torch.float16):
        if k.dtype != given or v.dtype != given:
            raise TypeError(f"k is {dtype_name(k)} and v is {dtype_name(v)}, expected {dtype_name(q)}: that of q")
        q, k, v = q.float(), k.float(), v.float()
    out: Tensor = torch.ops.lazy_attention.forward(q, k, v, bias, tau, sink, lengths, normalizer, divisor, implementation, rung or "")[0]
    return out.to(given)
