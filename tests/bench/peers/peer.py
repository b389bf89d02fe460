"""A co-process of `lazy bench`: reads one JSON object a line, answers with one JSON object a line.

    {"ask": "load", "folder": F, "shape": {...}}          reads F/q.f32 ... once for what follows
    {"ask": "answer", "contender": C, "folder": F}        computes once, writes F/out.f32, F/dq.f32 ...
    {"ask": "time", "contender": C, "seconds": s}         {"forward": ms, "both": ms, "backward": ms}
    {"ask": "load training", "contender": C, "folder": F, "model": {...}, "steps": n}   {"losses": [n]}
    {"ask": "time training", "seconds": s}                {"step": ms}

The first line it prints says who it is. {"error": "..."} answers what cannot be done. Needs PyTorch and numpy.
Usage: peer.py THREADS
"""

import ctypes
import json
import os
import sys


def libraries(torch):
    """What multiplies matrices, and the instructions PyTorch's own kernels use."""
    settings = torch.__config__.show()
    with open("/proc/self/maps") as file:
        loaded = file.read()
    if "Math Kernel Library" in settings:
        yield "MKL"
    elif "openblas" in loaded:
        yield "OpenBLAS"
    else:  # `apt-get install libopenblas0` makes a fair peer of it
        yield "reference BLAS, slow" if "/blas/libblas" in loaded else "other BLAS"
    if "MKL-DNN" in settings:
        yield "oneDNN"
    yield settings.split("CPU capability usage: ")[-1].split()[0]


def introduce(threads):
    import torch

    torch.set_num_threads(threads)
    import attention

    return {
        "name": "PyTorch " + torch.__version__.split("+")[0],
        "build": ", ".join(libraries(torch)),
        "threads": torch.get_num_threads(),
        "malloc": "tuned" if "MALLOC_TOP_PAD_" in os.environ else "default",
        "contenders": list(attention.contenders),
    }


def give_back_memory():
    """To the system, so that the next in turn finds some: the tuned malloc would keep gigabytes."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


class Desk:
    """What was loaded last."""

    def answer(self, request):
        import attention
        import training

        ask = request["ask"]
        if ask == "load":
            self.problem = attention.load(request["folder"], **request["shape"])
            return {}
        if ask == "answer":
            attention.answer(self.problem, request["contender"], request["folder"])
            return {}
        if ask == "time":
            return attention.time(self.problem, request["contender"], request["seconds"])
        if ask == "load training":
            parameters, self.tokens = training.read(request["folder"], **request["model"])
            self.training = training.Training(request["contender"], parameters, **request["model"])
            return {"losses": [self.training.step(self.tokens[i]).item() for i in range(request["steps"])]}
        if ask == "time training":
            return {"step": training.time(self.training, self.tokens[0], request["seconds"])}
        return {"error": "asked for " + ask}


def main():
    threads = int(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)

    try:
        say(introduce(threads))
    except ImportError as error:
        say({"error": str(error)})
        return
    desk = Desk()
    for line in sys.stdin:
        try:
            answer = desk.answer(json.loads(line))
        except Exception as error:  # whatever it is, the next request may go well
            answer = {"error": type(error).__name__ + ": " + str(error).split("\n")[0]}
        give_back_memory()
        say(answer)


if __name__ == "__main__":
    main()
