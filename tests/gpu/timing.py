"""Times every rung and its contenders side by side: one process, turns in every round, CUDA events, medians.

    timing.py LIBRARY OUT.json [--atomics LIBRARY] [--baseline FILE.py:function] [--rehearse] [--seconds N]

Nobody is timed who errs: every contender is held against float64 on a small problem, and the kernels again at full size. Inputs
rotate, so that nobody finds them in the cache. With --rehearse everything runs on the CPU at tiny sizes, the kernels emulated, and no time
is taken: it shows that the script works. Exit code 1 if a kernel of ours errs.
"""

import argparse
import json
import statistics
import sys
import time
from types import SimpleNamespace

import torch

import contenders as others
import decoding
import kernels

# name: B, H, T, D, W, decay of the bias -distance / decay (None: random). What matters most comes first: time may run out.
CASES = {
    "A": (4, 16, 4096, 64, 512, None),
    "B local /128": (1, 16, 16384, 128, 16384, 128),
    "B": (1, 16, 16384, 128, 512, None),
    "A local /128": (4, 16, 4096, 64, 4096, 128),
    "A local /16": (4, 16, 4096, 64, 4096, 16),
    "laptop": (1, 8, 1024, 64, 512, None),
}
REHEARSAL = {"A": (2, 2, 80, 64, 32, None), "A local /16": (1, 2, 80, 64, 80, 16), "laptop": (1, 2, 48, 32, 16, None)}
# v0 and v1 compute float32: at full size only where they do not take seconds.
FLOAT_CASES = {"v0": ["laptop"], "v1": ["laptop", "A"]}
ROUNDS, LEAST_MS, WARM_UPS = 10, 15.0, 2
ERROR = {torch.bfloat16: 0.03, torch.float32: 1e-4}  # of the largest entry; parity judges more sharply


def problem(case, dtype, device, seed):
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
    inputs = [x.detach().requires_grad_() for x in p.inputs]
    out = function(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, p.dout, allow_unused=True)]


def judge(name, function, is_lazy, device):
    """Why a contender cannot be timed; empty if it can."""
    p = problem((1, 2, 256 if device == "cuda" else 64, 64, 40, None), torch.bfloat16, device, 5)
    try:
        got = forward_and_backward(function, p)
    except Exception as trouble:  # somebody else's program: whatever it raises is its own
        return f"does not run: {type(trouble).__name__}: {str(trouble).splitlines()[0] if str(trouble) else ''}"
    expected = exact(p, others.eager_lazy if is_lazy else softmax_of)
    for tensor, x, y in zip(("out", "dq", "dk", "dv", "dbias", "dtau"), got, expected):
        if x is not None and not (tensor in ("dbias", "dtau") and not is_lazy) and not error(x, y) <= 2 * ERROR[torch.bfloat16]:
            return f"errs: {tensor} by {error(x, y):.1%} of its largest entry"
    return ""


def judge_library(library, device):
    """The same of another build of our kernels."""
    for D in (64, 128):
        p = problem((2, 2, 256 if device == "cuda" else 80, D, 40, None), torch.bfloat16, device, 5)
        call = kernels.Call(library, *p.inputs, rung="v2")
        call.forward()
        got = [call.out, *call.backward(p.dout)]
        for tensor, x, y in zip(("out", "dq", "dk", "dv", "dbias", "dtau"), got, exact(p, others.eager_lazy)):
            if not error(x, y) <= 2 * ERROR[torch.bfloat16]:
                return f"errs: {tensor}, D {D}, by {error(x, y):.1%} of its largest entry"
    return ""


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


class Clock:
    """Takes the time of work on the GPU; on the CPU it only runs it."""

    def __init__(self, gpu, deadline):
        self.gpu, self.deadline = gpu, deadline

    def repeats(self, work):
        """How often `work(i)` fills LEAST_MS; warms up."""
        for i in range(WARM_UPS if self.gpu else 1):
            work(i)
        if not self.gpu:
            return 1
        return max(1, min(200, int(LEAST_MS / max(self.once(work, 1), 1e-3))))

    def once(self, work, repeats):
        """Milliseconds of one `work(i)`, i counting."""
        if not self.gpu:
            work(0)
            return float("nan")
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for i in range(repeats):
            work(i)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / repeats

    def over(self):
        return time.monotonic() > self.deadline


def interleaved(clock, works):
    """Median, least and most milliseconds of each work; whoever fails is out, and said why."""
    repeats, times, trouble = {}, {}, {}

    def attempt(name, action):
        try:
            return action()
        except RuntimeError as problem_:  # out of memory, most often
            trouble[name] = str(problem_).splitlines()[0]
            repeats.pop(name, None)
            torch.cuda.empty_cache()
            return None

    for name, work in works.items():
        repeats[name] = attempt(name, lambda: clock.repeats(work))
        if repeats[name] is None:
            repeats.pop(name)
        times[name] = []
    for _ in range(ROUNDS if clock.gpu else 1):
        for name in list(repeats):
            taken = attempt(name, lambda: clock.once(works[name], repeats[name]))
            if taken is not None:
                times[name].append(taken)
        if clock.over():
            break
    return [
        {"contender": name, "failure": trouble[name]}
        if name in trouble
        else {"contender": name, "ms": statistics.median(t), "least_ms": min(t), "most_ms": max(t), "rounds": len(t)}
        for name, t in times.items()
    ]


def rungs(case_name, dtype):
    return ["v2"] if dtype == torch.bfloat16 else [rung for rung, names in FLOAT_CASES.items() if case_name in names]


def time_case(clock, library, atomics, valid, case_name, case, dtype, device):
    """Rows of one case in one format; and what our kernels got wrong there. `atomics`: atomics.cu, or None."""
    problems = [problem(case, dtype, device, seed) for seed in range(3 if clock.gpu else 1)]
    works, faults, facts = {"forward": {}, "forward + backward": {}}, [], {}

    def forward_then_backward(calls):
        def work(i):
            calls[i % len(calls)].forward()
            calls[i % len(calls)].backward(problems[i % len(calls)].dout)

        return work

    for rung in rungs(case_name, dtype):
        calls = {training: [kernels.Call(library, *p.inputs, rung=rung, training=training) for p in problems] for training in (False, True)}
        call, p = calls[True][0], problems[0]
        call.forward()
        first = [x.clone() for x in call.backward(p.dout)]
        again = all(torch.equal(x, y) for x, y in zip(first, call.backward(p.dout)))
        facts[rung] = {"error": judge_rows(call, p), "live_tiles": call.live_share(), "same_bytes_again": again}
        if not facts[rung]["error"] <= ERROR[dtype]:
            faults.append(f"{rung}, {case_name}: out errs by {facts[rung]['error']:.1%} of its largest entry")
        if not again:
            faults.append(f"{rung}, {case_name}: two backward runs gave different bytes")

        def forward(i, calls=calls[False]):
            calls[i % len(calls)].forward()

        works["forward"][f"Lazy {rung}"] = forward
        works["forward + backward"][f"Lazy {rung}"] = forward_then_backward(calls[True])

    if atomics and dtype == torch.bfloat16:
        calls = [kernels.Call(atomics, *p.inputs, rung="v2") for p in problems]
        works["forward + backward"]["v2 with atomics"] = forward_then_backward(calls)

    def other(function, gradients):
        def work(i):
            p = problems[i % len(problems)]
            if gradients:
                forward_and_backward(function, p)
            else:
                with torch.no_grad():
                    function(*p.inputs)

        return work

    if dtype == torch.bfloat16:
        for name, (function, _) in valid.items():
            works["forward"][name] = other(function, False)
            works["forward + backward"][name] = other(function, True)

    rows = []
    for what, contenders in works.items():
        if clock.over() or not contenders:
            continue
        for row in interleaved(clock, contenders):
            rung = row["contender"].removeprefix("Lazy ")
            rows.append({"case": case_name, "what": what, "format": str(dtype).removeprefix("torch."), **row, **facts.get(rung, {})})
    return rows, faults


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("out")
    arguments.add_argument("--atomics")
    arguments.add_argument("--baseline")
    arguments.add_argument("--rehearse", action="store_true")
    arguments.add_argument("--seconds", type=float, default=200)
    wish = arguments.parse_args()
    gpu = not wish.rehearse
    device = "cuda" if gpu else "cpu"
    clock = Clock(gpu, time.monotonic() + wish.seconds)
    library = kernels.Library(wish.library)

    result = {"torch": torch.__version__, "rounds": ROUNDS, "left_out": {}, "faults": [], "cases": CASES, "rows": []}

    def save():
        with open(wish.out, "w") as file:
            json.dump(result, file, indent=1, allow_nan=True)

    try:
        everybody = others.contenders(wish.baseline, gpu)
    except Exception as trouble:  # the baseline's file may do anything
        result["left_out"]["baseline"] = f"does not load: {trouble}"
        everybody = others.contenders(None, gpu)
    valid = {}
    for name, (function, is_lazy) in everybody.items():
        why_not = judge(name, function, is_lazy, device)
        if why_not:
            result["left_out"][name] = why_not
        else:
            valid[name] = (function, is_lazy)
        print(f"  {name}: {why_not or 'computes the same as float64 says'}", flush=True)
    atomics = kernels.Library(wish.atomics) if wish.atomics else None
    if atomics and (why_not := judge_library(atomics, device)):
        result["left_out"]["v2 with atomics"], atomics = why_not, None
        result["faults"] += [f"v2 with atomics {why_not}"] if not gpu else []
    save()

    for name, case in (decoding.CASES if gpu else decoding.REHEARSAL).items():
        rows, faults = decoding.time_case(clock, library, interleaved, name, case, device)
        result["rows"] += rows
        result["faults"] += faults
        save()
        print(f"  {name}: {len(rows)} rows, {len(faults)} faults", flush=True)
        if gpu:
            torch.cuda.empty_cache()

    for dtype in (torch.bfloat16, torch.float32):
        for name, case in (CASES if gpu else REHEARSAL).items():
            if clock.over():
                result["left_out"][f"{name}, {dtype}"] = "no time left"
            elif rungs(name, dtype):
                rows, faults = time_case(clock, library, atomics, valid, name, case, dtype, device)
                result["rows"] += rows
                result["faults"] += faults
                save()
                print(f"  {name}, {dtype}: {len(rows)} rows, {len(faults)} faults", flush=True)
            if gpu:
                torch.cuda.empty_cache()
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
