"""Takes times: contenders in turns, CUDA events, medians; and says who fails."""

import statistics
import time

import torch

ROUNDS, LEAST_MS, SLOW_MS = 10, 15.0, 2000.0
EXCUSES = ("out of memory", "MemoryError", "no time left", "the GPU answers no more")


def said(trouble):
    """An exception in one line."""
    lines = str(trouble).strip().splitlines()
    return type(trouble).__name__ + (f": {lines[0]}" if lines else "")


def excused(text):
    """Whether it names no error: running out of memory or time is none."""
    return any(excuse in text for excuse in EXCUSES)


class Clock:
    """Takes the time of work on the GPU; on the CPU it only runs it. turn_of(name) is told who is next."""

    def __init__(self, gpu, deadline, turn_of=lambda name: None):
        self.gpu, self.deadline, self.turn_of, self.lost = gpu, deadline, turn_of, ""

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

    def warm_up(self, work):
        """Milliseconds of one `work(i)`, after one that may have compiled; more than SLOW_MS is not asked again."""
        work(0)
        if not self.gpu:
            return float("nan")
        first = self.once(work, 1)
        return first if first > SLOW_MS else self.once(work, 1)

    def repeats(self, ms):
        """How often `work(i)` fills LEAST_MS."""
        return max(1, min(200, int(LEAST_MS / max(ms, 1e-3)))) if self.gpu else 1

    def over(self):
        """Why nothing more can be timed; empty if it can."""
        return self.lost or ("no time left" if time.monotonic() > self.deadline else "")

    def recover(self, name):
        """After `name` failed: gives memory back, and looks whether the GPU still answers. After an illegal access it does not."""
        if not self.gpu or self.lost:
            return
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except Exception:
            self.lost = f"the GPU answers no more since {name} failed"


def interleaved(clock, works):
    """Median, least and most milliseconds of each work; whoever fails is out, and said why."""
    times, repeats, trouble = {name: [] for name in works}, {}, {}

    def attempt(name, action):
        if clock.lost:
            return None
        clock.turn_of(name)
        try:
            return action()
        except (Exception, SystemExit) as problem:  # somebody else's program: whatever it raises is its own
            trouble[name] = said(problem)
        repeats.pop(name, None)
        clock.recover(name)  # now that the trace has gone, and with it the memory it holds
        return None

    for name, work in works.items():
        ms = None if clock.over() else attempt(name, lambda: clock.warm_up(work))
        if ms is None:
            trouble.setdefault(name, clock.over())
        elif ms > SLOW_MS:
            times[name].append(ms)
        else:
            repeats[name] = clock.repeats(ms)
    timed_once = set(works) - set(repeats)
    for _ in range(ROUNDS if clock.gpu else 1):
        for name in list(repeats):
            taken = attempt(name, lambda: clock.once(works[name], repeats[name]))
            if taken is not None:
                times[name].append(taken)
        if clock.over():
            break

    def row(name, t):
        if name in trouble or not t:
            return {"failure": trouble.get(name, clock.over())}
        note = {"note": "slow: timed once"} if name in timed_once else {}
        return {"ms": statistics.median(t), "least_ms": min(t), "most_ms": max(t), "rounds": len(t), **note}

    return [{"contender": name, **row(name, t)} for name, t in times.items()]
