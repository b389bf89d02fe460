"""The training step of a model, ours and PyTorch's in turns, one process each; medians.

    training_step.py PROGRAM OUT.json [--rehearse] [--seconds N]

That PyTorch trains the same model is shown first: from the same parameters the losses of three updates of a small one have to agree,
in float32 and in bfloat16. With --rehearse all sizes are tiny, the kernels emulated, and no time is kept.
Exit code 1 if the losses do not agree or ours fails; what memory or time does not suffice for is said.
"""

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time

import torch

import peer_model
from clock import excused, said

SMALL = {"layers": 2, "channels": 128, "heads": 4, "kv_heads": 2, "inner": 144, "context": 96, "window": 40, "vocabulary": 61}
TINY = {"layers": 2, "channels": 64, "heads": 2, "kv_heads": 1, "inner": 48, "context": 24, "window": 16, "vocabulary": 50}
BATCHES, ROUNDS, TURN_SECONDS = (1, 8), 5, 0.4
# Of the loss; and a learning rate at which every gradient shows in the third, where rounding does not hide it.
BUDGET = {"float32": 1e-4, "bfloat16": 2e-3}
RATE = {"float32": 1e-2, "bfloat16": 1e-3}
RULES = {"lazy": "elastic", "sdpa": "softmax"}
NAMES = {"lazy": "eager Lazy", "sdpa": "SDPA flash"}


class OursFails(RuntimeError):
    pass


class Program:
    """lazy_training_step, asked line by line."""

    def __init__(self, path, device):
        self.process = subprocess.Popen([path, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        answer = json.loads(line) if line else {"error": f"lazy_training_step is gone, exit code {self.process.wait()}"}
        if "error" in answer:
            raise OursFails(answer["error"])
        return answer


def disagreement(program, contender, number_format, sizes, device):
    """Why the two do not train the same model; empty if they do."""
    who, batch = f"{NAMES[contender]}, {number_format}", 2
    with tempfile.TemporaryDirectory() as folder:
        how = {"attention": RULES[contender], "format": number_format, "batch": batch, "learning_rate": RATE[number_format]}
        model = program.ask(ask="load", preset="paper-340m", sizes=sizes, folder=folder, **how)["model"]
        ours = program.ask(ask="losses")["losses"]
        parameters, tokens = peer_model.read(folder, model, batch, device)
    peer = peer_model.PeerModel(contender, parameters, model, number_format == "bfloat16")
    theirs = [float(peer.step(step)) for step in tokens]
    print(f"  {who}: losses {ours}, PyTorch's {theirs}", flush=True)
    if all(abs(a - b) <= BUDGET[number_format] * a for a, b in zip(ours, theirs, strict=True)):
        return ""
    return f"{who}: PyTorch's losses are {theirs}, ours {ours}: not the same model"


class Contenders:
    """work(steps) -> milliseconds a step, for each who is timed; whoever fails is out, and said why."""

    def __init__(self, program, model, device, deadline):
        self.program, self.model, self.device, self.deadline = program, model, device, deadline
        self.gpu, self.works, self.trouble = device == "cuda", {}, {}

    def ours(self, batch):
        return lambda steps: self.program.ask(ask="time", batch=batch, steps=steps)["step"]

    def peer(self, contender, batch, recompute):
        peer = peer_model.PeerModel(contender, peer_model.draw(self.model, self.device), self.model, True, recompute)
        tokens = torch.randint(self.model["vocabulary"], (batch, self.model["length"] + 1), device=self.device)

        def work(steps):
            start = time.monotonic()
            for _ in range(steps):
                loss = peer.step(tokens)
            if not math.isfinite(float(loss)):  # waits
                raise RuntimeError(f"the loss is {float(loss)}")
            return 1e3 * (time.monotonic() - start) / steps

        return work

    def attempt(self, name, action):
        try:
            return action()
        except Exception as trouble:  # out of memory, most often
            self.trouble[name] = said(trouble)
        self.works.pop(name, None)  # now that the trace has gone, and with it what it holds
        self.free()
        return None

    def free(self):
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()

    def start(self, name, make):
        """Warms up (our third update is the first that is replayed) and finds how many steps fill a turn."""

        def warm_up():
            work = make()
            work(3)
            steps = max(1, min(50, round(1e3 * TURN_SECONDS / work(1)))) if self.gpu else 1
            self.works[name] = lambda: work(steps)

        self.attempt(name, warm_up)

    def rows(self, batch):
        self.start("Lazy", lambda: self.ours(batch))
        self.start(NAMES["sdpa"], lambda: self.peer("sdpa", batch, False))
        self.start(NAMES["lazy"], lambda: self.peer("lazy", batch, False))
        if NAMES["lazy"] in self.trouble:  # every score of every layer needs much memory
            self.start("eager, rerun", lambda: self.peer("lazy", batch, True))
        times = {name: [] for name in self.works}
        for _ in range(ROUNDS if self.gpu else 1):
            for name in list(self.works):
                times[name].append(self.attempt(name, self.works[name]))
            if time.monotonic() > self.deadline:
                break
        case = {"case": f"paper-340m B {batch}", "what": "training step", "format": "bfloat16"}
        tokens, flop = batch * self.model["length"], peer_model.update_flop(self.model, batch)
        for name, why in self.trouble.items():
            yield {**case, "contender": name, "failure": why}
        for name in self.works:
            t = times[name] if self.gpu else [math.nan]
            row = {"ms": statistics.median(t), "least_ms": min(t), "most_ms": max(t), "rounds": len(t)}
            speed = {"tokens_per_second": 1e3 * tokens / row["ms"], "tflops": 1e-9 * flop / row["ms"]}
            yield {**case, "contender": name, **row, **speed}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("out")
    arguments.add_argument("--rehearse", action="store_true")
    arguments.add_argument("--seconds", type=float, default=100)
    wish = arguments.parse_args()
    gpu = not wish.rehearse
    device = "cuda" if gpu else "cpu"
    deadline = time.monotonic() + wish.seconds
    program = Program(wish.program, "cuda" if gpu else "emulated")
    result = {"torch": torch.__version__, "faults": [], "rows": []}
    left_out = []

    def save():
        result["left_out"] = "; ".join(left_out)
        with open(wish.out, "w") as file:
            json.dump(result, file, indent=1, allow_nan=True)

    for contender in RULES:
        for number_format in BUDGET:
            try:
                why_not = disagreement(program, contender, number_format, SMALL if gpu else TINY, device)
            except Exception as trouble:
                why_not = f"{NAMES[contender]}, {number_format}: {said(trouble)}"
                if excused(why_not) or (gpu and not isinstance(trouble, OursFails)):  # no error of ours
                    left_out.append(why_not)
                    why_not = ""
            result["faults"] += [why_not] if why_not else []
    save()
    how = {"attention": "elastic", "format": "bfloat16", "batch": 1}
    try:
        loaded = program.ask(ask="load", preset="paper-340m", sizes={} if gpu else TINY, **how)
        result["parameters"] = loaded["parameters"]
    except OursFails as trouble:
        loaded = None
        (left_out if excused(said(trouble)) else result["faults"]).append(said(trouble))
    for batch in (BATCHES if gpu else (2,)) if loaded else ():
        if time.monotonic() > deadline:
            left_out.append(f"batch {batch}: no time left")
            break
        contenders = Contenders(program, loaded["model"], device, deadline)
        result["rows"] += contenders.rows(batch)
        if not excused(why := contenders.trouble.get("Lazy", "no time left")):
            result["faults"].append(f"Lazy, batch {batch}: {why}")
        save()
        contenders.works.clear()
        contenders.free()  # ours needs more for the next
    result["finished"] = True
    save()
    for fault in result["faults"]:
        print("FAULT:", fault)
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
