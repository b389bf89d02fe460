"""What NVIDIA's own library reaches on this card: a copy in device memory, and a large bf16 product. Prints one JSON object."""

import json
import statistics

import torch


def milliseconds(work):
    for _ in range(3):
        work()
    times = []
    for _ in range(10):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


n = 8192
a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
c = torch.empty_like(a)
product = milliseconds(lambda: torch.mm(a, b, out=c))
source = torch.randn(2**30, device="cuda")
target = torch.empty_like(source)
copy = milliseconds(lambda: target.copy_(source))
print(
    json.dumps(
        {"cublas_bf16_tflops": 2 * n**3 / product * 1e-9, "copy_gb_per_second": 2 * source.numel() * 4 / copy * 1e-6}
    )
)
