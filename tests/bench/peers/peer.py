"""A co-process of `lazy bench`: reads one JSON object a line, answers with one JSON object a line.

    {"ask": "load", "folder": F, "shape": {...}}          reads F/q.f32 ... once for what follows
    {"ask": "answer", "contender": C, "folder": F}        computes once, writes F/out.f32, F/dq.f32 ...
    {"ask": "time", "contender": C, "seconds": s}         {"forward": ms, "both": ms, "backward": ms}
    {"ask": "load training", "contender": C, "folder": F, "model": {...}, "steps": n}   {"losses": [n]}
    {"ask": "time training", "seconds": s}                {"step": ms}

The first line it prints says who it is. {"error": "..."} answers what cannot be done. Needs PyTorch and numpy.
Usage: peer.py THREADS
"""

import json
import os
import sys


def introduce(threads):
    import torch

    torch.set_num_threads(threads)
    settings = torch.__config__.show()
    libraries = [
        name
        for name, sign in [("MKL", "Math Kernel Library"), ("OpenBLAS", "open"), ("oneDNN", "MKL-DNN")]
        if sign in settings and (name != "OpenBLAS" or "BLAS_INFO=open" in settings)
    ]
    import attention

    return {
        "name": "PyTorch " + torch.__version__.split("+")[0],
        "build": ", ".join(libraries) or "no BLAS named",
        "threads": torch.get_num_threads(),
        "malloc": "tuned" if "MALLOC_TOP_PAD_" in os.environ else "default",
        "contenders": list(attention.contenders),
    }


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
            self.training = training.Training(request["contender"], request["folder"], **request["model"])
            return {"losses": [self.training.step(i) for i in range(request["steps"])]}
        if ask == "time training":
            return {"step": self.training.time(request["seconds"])}
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
            say(desk.answer(json.loads(line)))
        except Exception as error:
            say({"error": type(error).__name__ + ": " + str(error).split("\n")[0]})


if __name__ == "__main__":
    main()
