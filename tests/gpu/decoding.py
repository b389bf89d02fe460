"""Decoding, timed: one query a sequence against a long cache, beside a copy that moves as many bytes as K and V have."""

from types import SimpleNamespace

import torch

import kernels
from clock import interleaved

# name: B, H, Hkv, T, D, W
CASES = {"decode B 16": (16, 32, 8, 16384, 128, 512), "decode B 1": (1, 16, 16, 4096, 64, 512)}
REHEARSAL = {"decode B 2": (2, 4, 2, 300, 32, 40)}
DEAD = 0.6
ERROR = 0.03  # of the largest entry, in bfloat16
NO_CACHE = 512 * 2**20  # bytes that no cache of a GPU holds


def copies(case):
    """How many caches are taken in turn, so that none is found in the GPU's own."""
    B, _, Hkv, T, D, _ = case
    return -(-NO_CACHE // (4 * B * Hkv * T * D))


def problem(case, device, dead, seed=1):
    """Scores near 0; with `dead`, that share of the keys, drawn for each key head, at -8 for all heads of their group."""
    B, H, Hkv, T, D, W = case
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return 0.3 * torch.randn(*shape, generator=generator, device=device)

    q, k, v = normal(B, 1, H, D), normal(B, T, Hkv, D), normal(B, T, Hkv, D)
    q[..., 0] = D**0.5
    k[..., 0] = torch.where(torch.rand(B, T, Hkv, generator=generator, device=device) < dead, -8.0, 0.0)
    tau = torch.full((H,), -1.0 if dead else 0.0, device=device)
    lengths = torch.full((B,), T, dtype=torch.int64, device=device)
    q, k, v = (x.to(torch.bfloat16) for x in (q, k, v))
    return SimpleNamespace(q=q, k=k, v=v, bias=0.1 * normal(H, W), tau=tau, lengths=lengths)


def exact(p, b, group):
    """out [G, D] and weights [G, n] in float64 of the heads of one key head, from the same inputs."""
    H, D = p.q.shape[2:]
    G, n = H // p.k.shape[2], int(p.lengths[b])
    heads = slice(group * G, (group + 1) * G)
    s = p.q[b, 0, heads].double() @ p.k[b, :n, group].double().T * D**-0.5
    near = min(n, p.bias.shape[1])
    s[:, n - near :] += p.bias[heads, :near].double().flip(-1)
    weights = (torch.softmax(s, -1) + p.tau[heads, None].double() / n).clamp(min=0)
    return weights @ p.v[b, :n, group].double(), weights


def judge(call, p):
    """Largest error over the largest entry, and the share of values that some head of their group attends to."""
    B, G = p.q.shape[0], p.q.shape[2] // p.k.shape[2]
    worst, live = 0.0, []
    for b, group in {(0, 0), (B - 1, p.k.shape[2] - 1)}:
        out, weights = exact(p, b, group)
        difference = (call.out[b, 0, group * G : (group + 1) * G].double() - out).abs().max()
        worst = max(worst, float(difference / out.abs().max()) if torch.isfinite(difference) else float("inf"))
        live.append(float((weights > 0).any(0).double().mean()))
    return worst, sum(live) / len(live)


def captured(call, gpu):
    """The call as a graph: what a decoding loop replays."""
    call.run()
    if not gpu:
        return call.run
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    return graph.replay


def time_case(clock, library, name, case, device):
    """Rows of one case, and what the kernels got wrong there."""
    works, facts, faults, caches = {}, {}, [], []
    for contender, dead in ((f"Lazy {DEAD:.0%} dead", DEAD), ("Lazy dense", 0.0)):
        calls = []
        for seed in range(copies(case) if clock.gpu else 1):
            p = problem(case, device, dead, seed)
            calls.append(kernels.Decoding(library, p.q, p.k, p.v, p.bias, p.tau, p.lengths))
            caches.append(p.k)
        replays = [captured(call, clock.gpu) for call in calls]
        call, replay = calls[-1], replays[-1]
        # The same graph for other lengths, then for the lengths that are timed.
        p.lengths.copy_(torch.randint(1, case[3], (case[0],), device=device))
        for lengths in ("some", "all"):
            if lengths == "all":
                p.lengths.fill_(case[3])
            replay()
            error, live = judge(call, p)
            if not error <= ERROR:
                faults.append(f"{contender}, {name}, {lengths} keys: out errs by {error:.1%} of its largest entry")
        once = call.out.clone()
        replay()
        if not torch.equal(once, call.out):
            faults.append(f"{contender}, {name}: two runs gave different bytes")
        works[contender] = lambda i, replays=replays: replays[i % len(replays)]()
        facts[contender] = {"error": error, "live_values": live}
    targets = [torch.empty_like(caches[0]) for _ in caches]
    # Reads K and writes as much: what reading K and V would take.
    works["copy as much"] = lambda i: targets[i % len(caches)].copy_(caches[i % len(caches)])
    rows = [
        {"case": name, "what": "decode", "format": "bfloat16", **row, **facts.get(row["contender"], {})}
        for row in interleaved(clock, works)
    ]
    return rows, faults
