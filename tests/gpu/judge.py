"""Who computes what float64 says. As a program: judges a baseline in a process of its own, which it may break.

    judge.py FILE.py:function OUT.json [--rehearse]

OUT.json: for each D why it cannot be timed, or an empty text. It is there only if the process came to its end.
"""

import argparse
import json
import sys
from types import SimpleNamespace

import torch

import contenders as others
import kernels
from clock import said

HEAD_SIZES = (64, 128)
ERROR = {torch.bfloat16: 0.03, torch.float32: 1e-4}  # of the largest entry; parity judges more sharply
TENSORS = ("out", "dq", "dk", "dv", "dbias", "dtau")


def problem(case, dtype, device, seed):
    """case: B, H, T, D, W, decay of the bias -distance / decay (None: random)."""
    B, H, T, D, W, decay = case
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape, dtype=dtype):
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    bias = 0.5 * normal(H, W, dtype=torch.float32)
    if decay:
        bias = (-torch.arange(W, device=device) / decay).float().expand(H, W).contiguous()
    return SimpleNamespace(
        inputs=(normal(B, T, H, D), normal(B, T, H, D), normal(B, T, H, D), bias, torch.full((H,), -1.0, device=device)),
        dout=normal(B, T, H, D),
    )


def error(got, expected):
    """Largest error over the largest entry; infinite where anything is not finite."""
    difference = (got.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max()) if torch.isfinite(difference) else float("inf")


def exact(p, function):
    """out and the gradients of q, k, v, bias, tau in float64."""
    inputs = [x.double().requires_grad_() for x in p.inputs]
    out = function(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, p.dout.double(), allow_unused=True)]


def softmax_of(q, k, v, bias, tau):
    return others.eager_lazy(q, k, v, torch.zeros_like(bias), torch.zeros_like(tau))


def forward_and_backward(function, p):
    """out and the gradients of q, k, v, bias, tau; of the last two none where softmax is computed."""
    inputs = [x.detach().requires_grad_() for x in p.inputs]
    out = function(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, p.dout, allow_unused=True)]


def small_problem(D, device):
    """Every entry far from the kink, where a rounding would decide who is alive: scores near 0, or -6 at half the distances, tau -0.5."""
    p = problem((2, 2, 256 if device == "cuda" else 80, D, 40, None), torch.bfloat16, device, 5)
    q, k, v, bias, tau = p.inputs
    dead = torch.arange(bias.shape[1], device=device) * 5 % 7 > 3  # not distance 0
    p.inputs = (0.3 * q, 0.3 * k, v, 0.1 * bias - 6.0 * dead, 0.5 * tau)
    return p


def differs(got, expected, is_lazy):
    for tensor, x, y in zip(TENSORS, got, expected):
        if not is_lazy and tensor in ("dbias", "dtau"):
            continue
        if x is None:
            return f"gives no {tensor}"
        if not error(x, y) <= 2 * ERROR[torch.bfloat16]:
            return f"errs: {tensor} by {error(x, y):.1%} of its largest entry"
    return ""


def judge(function, is_lazy, D, device):
    """Why a contender cannot be timed at D; empty if it can."""
    try:
        p = small_problem(D, device)
        return differs(forward_and_backward(function, p), exact(p, others.eager_lazy if is_lazy else softmax_of), is_lazy)
    except (Exception, SystemExit) as trouble:  # somebody else's program: whatever it raises is its own
        return f"does not run: {said(trouble)}"


def judge_library(library, D, device):
    """The same of another build of our kernels."""
    try:
        p = small_problem(D, device)
        call = kernels.Call(library, *p.inputs, rung="v2")
        call.forward()
        return differs([call.out, *call.backward(p.dout)], exact(p, others.eager_lazy), True)
    except Exception as trouble:
        return f"does not run: {said(trouble)}"


def judge_rows(call, p, rows=64):
    """Error of our first and last rows at full size, head by head, against float64 computed from the same inputs."""
    q, k, v, bias, tau = (x.double() for x in p.inputs)
    B, T, H, D = q.shape
    worst = 0.0
    for b, h in ((0, 0), (B - 1, H - 1)):
        for first in (0, T - rows) if T > rows else (0,):
            row = torch.arange(first, min(first + rows, T), device=q.device)
            distance = row[:, None] - torch.arange(T, device=q.device)[None, :]
            within = (distance >= 0) & (distance < bias.shape[1])
            gathered = torch.where(within, bias[h][distance.clamp(0, bias.shape[1] - 1)], 0.0)
            s = q[b, row, h] @ k[b, :, h].T * D**-0.5 + gathered
            weights = torch.softmax(s.masked_fill(distance < 0, -torch.inf), -1) + tau[h] / (row + 1)[:, None]
            expected = weights.clamp(min=0).masked_fill(distance < 0, 0.0) @ v[b, :, h]
            worst = max(worst, error(call.out[b, row, h], expected))
    return worst


def judge_bias():
    """Why the bias of eager Lazy is not bias[i - j]; empty if it is, with its gradient."""
    for length, window in ((7, 3), (5, 5), (4, 9), (1, 2)):
        bias = torch.randn(2, window, dtype=torch.float64, requires_grad=True)
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        seen = distance >= 0
        by_index = bias[:, distance.clamp(0, window - 1)].masked_fill(distance >= window, 0.0)
        by_turns = others.toeplitz(bias, length)
        weight = torch.randn(2, length, length, dtype=torch.float64).masked_fill(~seen, 0.0)
        gradients = [torch.autograd.grad((x * weight).sum(), bias)[0] for x in (by_index, by_turns)]
        if not torch.equal(by_index[:, seen], by_turns[:, seen]) or not torch.allclose(*gradients, rtol=0, atol=1e-12):
            return f"the bias of eager Lazy is not bias[i - j] at T {length}, W {window}"
    return ""


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("baseline")
    arguments.add_argument("out")
    arguments.add_argument("--rehearse", action="store_true")
    wish = arguments.parse_args()
    try:
        function = others.load(wish.baseline)
        verdict = {D: judge(function, True, D, "cpu" if wish.rehearse else "cuda") for D in HEAD_SIZES}
    except (Exception, SystemExit) as trouble:
        verdict = dict.fromkeys(HEAD_SIZES, f"does not load: {said(trouble)}")
    with open(wish.out, "w") as file:
        json.dump(verdict, file)


if __name__ == "__main__":
    sys.exit(main())
