"""Times every rung and its contenders side by side: one process, turns in every round, CUDA events, medians.

    timing.py LIBRARY OUT.json [--atomics LIBRARY] [--baseline FILE.py:function] [--rehearse] [--seconds N]

Nobody is timed who errs: every contender is held against float64 on small problems (judge.py), and the kernels again at full size.
Inputs rotate, more than the cache holds, so that nobody finds them there. With --rehearse everything runs on the CPU at tiny sizes, the
kernels emulated, and no time is taken: it shows that the script works. OUT.json is written as it goes. Exit code 1 if a kernel of ours
errs or fails; a contender that fails is said and left out, and so is what memory or time does not suffice for.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

import contenders as others
import decoding
import kernels
from clock import ROUNDS, Clock, excused, interleaved, said
from judge import ERROR, HEAD_SIZES, forward_and_backward, judge, judge_bias, judge_library, judge_rows, problem
from processes import end_together, run

# name: B, H, T, D, W, decay of the bias -distance / decay (None: random). What matters most comes first: time may run out.
CASES = {
    "A": (4, 16, 4096, 64, 512, None),
    "B local /128": (1, 16, 16384, 128, 16384, 128),
    "B": (1, 16, 16384, 128, 512, None),
    "A local /128": (4, 16, 4096, 64, 4096, 128),
    "A local /16": (4, 16, 4096, 64, 4096, 16),
    "laptop": (1, 8, 1024, 64, 512, None),
}
BEFORE_DECODING = 3
REHEARSAL = {
    "A": (2, 2, 80, 64, 32, None),
    "B": (1, 2, 70, 128, 32, None),
    "A local /16": (1, 2, 80, 64, 80, 16),
    "laptop": (1, 2, 48, 64, 16, None),
}
# v0 and v1 compute float32: at full size only where they do not take seconds.
FLOAT_CASES = {"v0": ["laptop"], "v1": ["laptop", "A"]}
MARKS = ("baseline", "compiled Lazy", "eager Lazy")  # whom ours has to beat: the first of them that is timed
BASELINE_SECONDS = 60  # for the process that judges it


def rungs(case_name, dtype):
    return ["v2"] if dtype == torch.bfloat16 else [rung for rung, names in FLOAT_CASES.items() if case_name in names]


def rotation(case, dtype, gpu):
    """How many problems are taken in turn: q, k and v of all together are twice what the cache holds, at least."""
    B, H, T, D, _, _ = case
    cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 128 * 2**20) if gpu else 0
    return max(3, -(-2 * cache // (3 * B * H * T * D * dtype.itemsize))) if gpu else 1


def time_case(clock, library, atomics, valid, case_name, case, dtype, device):
    """Rows of one case in one format; and what our kernels got wrong there. `atomics`: atomics.cu, or None."""
    problems = [problem(case, dtype, device, seed) for seed in range(rotation(case, dtype, clock.gpu))]
    works, faults, facts, rows = {"forward": {}, "forward + backward": {}}, [], {}, []
    about = {"case": case_name, "format": str(dtype).removeprefix("torch.")}

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
        facts[f"Lazy {rung}"] = {"error": judge_rows(call, p), "live_tiles": call.live_share(), "same_bytes_again": again}
        if not facts[f"Lazy {rung}"]["error"] <= ERROR[dtype]:
            faults.append(f"{rung}, {case_name}: out errs by {facts[f'Lazy {rung}']['error']:.1%} of its largest entry")
        if not again:
            faults.append(f"{rung}, {case_name}: two backward runs gave different bytes")

        def forward(i, calls=calls[False]):
            calls[i % len(calls)].forward()

        works["forward"][f"Lazy {rung}"] = forward
        works["forward + backward"][f"Lazy {rung}"] = forward_then_backward(calls[True])

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
        if atomics:
            try:
                calls = [kernels.Call(atomics, *p.inputs, rung="v2") for p in problems]
                works["forward + backward"]["v2 with atomics"] = forward_then_backward(calls)
            except Exception as trouble:
                rows.append({**about, "what": "forward + backward", "contender": "v2 with atomics", "failure": said(trouble)})
        for name, function in valid.items():
            works["forward"][name] = other(function, False)
            works["forward + backward"][name] = other(function, True)

    for what, contenders in works.items():
        if contenders:
            timed = interleaved(clock, contenders)
            mark = next((name for name in MARKS for row in timed if row["contender"] == name and "ms" in row), None)
            for row in timed:
                is_mark = {"mark": True} if row["contender"] == mark else {}
                rows.append({**about, "what": what, **row, **facts.get(row["contender"], {}), **is_mark})
    return rows, faults


def judge_apart(wish, seconds):
    """D -> why the baseline cannot be timed, found in a process of its own: what it does to its GPU context ends with it."""
    out = Path(wish.out).with_suffix(".baseline.json")
    out.unlink(missing_ok=True)
    command = [sys.executable, Path(__file__).with_name("judge.py"), wish.baseline, out, *(["--rehearse"] if wish.rehearse else [])]
    code, output = run(command, seconds)
    if out.exists():
        return {int(D): why for D, why in json.loads(out.read_text()).items()}
    print(output[-1000:], flush=True)
    why = f"took more than {seconds:.0f} s for two small problems" if code == 124 else f"ended its process, exit code {code}"
    return dict.fromkeys(HEAD_SIZES, why)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("out")
    arguments.add_argument("--atomics")
    arguments.add_argument("--baseline")
    arguments.add_argument("--rehearse", action="store_true")
    arguments.add_argument("--seconds", type=float, default=200)
    wish = arguments.parse_args()
    end_together()
    gpu = not wish.rehearse
    device = "cuda" if gpu else "cpu"
    result = {"torch": torch.__version__, "rounds": ROUNDS, "left_out": {}, "faults": [], "cases": CASES, "rows": []}
    left_out = result["left_out"]

    def save(running=""):
        result["running"] = running  # whose turn it was, should the process end in it
        with open(wish.out + ".new", "w") as file:
            json.dump(result, file, indent=1, allow_nan=True)
        os.replace(wish.out + ".new", wish.out)

    clock = Clock(gpu, time.monotonic() + wish.seconds, save)
    save()
    library = kernels.Library(wish.library)
    if not gpu and (why_not := judge_bias()):
        result["faults"].append(why_not)

    def admitted(name, D, why_not):
        print(f"  {name}, D {D}: {why_not or 'computes the same as float64 says'}", flush=True)
        if why_not:
            left_out[f"{name}, D {D}"] = why_not
            clock.recover(name)
        return not why_not

    valid, atomics = {D: {} for D in HEAD_SIZES}, {}  # who is timed at D: name -> function; atomics.cu
    if wish.baseline:
        why_not = judge_apart(wish, min(BASELINE_SECONDS, wish.seconds / 3))
        save("baseline")
        try:
            baseline = None if all(why_not.values()) else others.load(wish.baseline)
        except (Exception, SystemExit) as trouble:  # its file may do anything
            why_not = dict.fromkeys(HEAD_SIZES, f"does not load: {said(trouble)}")
        for D in HEAD_SIZES:
            if admitted("baseline", D, why_not[D]):
                valid[D]["baseline"] = baseline
    for name, found in others.contenders(gpu).items():
        save(name)
        if not found:
            left_out[name] = "this PyTorch has none"
            continue
        for D in HEAD_SIZES:
            if admitted(name, D, judge(*found, D, device)):
                valid[D][name] = found[0]
    if wish.atomics:
        save("v2 with atomics")
        for D in HEAD_SIZES:
            try:
                build = kernels.Library(wish.atomics)
                why_not = judge_library(build, D, device)
            except OSError as trouble:
                why_not = f"does not load: {said(trouble)}"
            if admitted("v2 with atomics", D, why_not):
                atomics[D] = build
            elif not gpu:
                result["faults"].append(f"v2 with atomics, D {D} {why_not}")
    save()

    def attention(name, case, dtype):
        D = case[3]
        return lambda: time_case(clock, library, atomics.get(D), valid[D], name, case, dtype, device)

    def decode(name, case):
        return lambda: decoding.time_case(clock, library, name, case, device)

    cases = CASES if gpu else REHEARSAL
    formats = (torch.bfloat16, torch.float32)
    plan = [(f"{name}, {f}", attention(name, case, f)) for f in formats for name, case in cases.items() if rungs(name, f)]
    decodings = decoding.CASES if gpu else decoding.REHEARSAL
    plan[BEFORE_DECODING:BEFORE_DECODING] = [(name, decode(name, case)) for name, case in decodings.items()]
    for name, time_it in plan:
        if clock.over():
            left_out[name] = clock.over()
            continue
        save("Lazy")
        rows, faults = [], []
        try:
            rows, faults = time_it()
        except Exception as trouble:  # ours, or PyTorch's while it made the inputs
            if excused(said(trouble)):
                left_out[name] = said(trouble)
            else:
                faults = [f"{name}: {said(trouble)}"]
        clock.recover(name)
        result["rows"] += rows
        for row in rows:
            if row["contender"].startswith("Lazy ") and "failure" in row and not excused(row["failure"]):
                faults.append(f"{row['contender']}, {name}, {row['what']}: {row['failure']}")
        result["faults"] += faults
        save()
        print(f"  {name}: {len(rows)} rows, {len(faults)} faults", flush=True)
    result["finished"] = True
    save()
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
