"""The kernels for PyTorch tensors, through the C interface (cuda/lazy_attention.h) and nothing else.

Layout: q, out [B, T, H, D], k, v [B, T, Hkv, D] in bfloat16, float16 or float32; bias [H, W] and tau [H] in float32.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p

import torch


class LazyAttention(ctypes.Structure):
    _fields_ = [(name, c_int64) for name in ("batch", "queries", "keys", "heads", "kv_heads", "head_dim", "window")] + [
        ("type", c_int),
        ("device", c_int),
        ("rung", c_char_p),
        ("divide_by_length", c_int),
        ("compute_dead_tiles", c_int),
    ]


def pointers(name, *fields):
    return type(name, (ctypes.Structure,), {"_fields_": [(field, c_void_p) for field in fields]})


LazyInputs = pointers("LazyInputs", "q", "k", "v", "bias", "tau", "lengths")
LazyOutputs = pointers("LazyOutputs", "out", "lse", "live_sums", "live_tiles")
LazyGrads = pointers("LazyGrads", "dq", "dk", "dv", "dbias", "dtau")


class LazySizes(ctypes.Structure):
    _fields_ = [
        ("forward_workspace", c_size_t),
        ("backward_workspace", c_size_t),
        ("needs_live_sums", c_int),
        ("tile_rows", c_int64),
        ("tile_keys", c_int64),
        ("row_tiles", c_int64),
        ("words", c_int64),
        ("live_tiles", c_size_t),
    ]


class LazyDecodeSizes(ctypes.Structure):
    _fields_ = [("workspace", c_size_t)]


TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
CUDA, EMULATED = 0, 1


class Library:
    """liblazy_attention_c, as built by CMake."""

    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        self.c.lazy_attention_error.restype = c_char_p
        self.c.lazy_attention_rung.restype = c_char_p
        shape = POINTER(LazyAttention)
        self.c.lazy_attention_rung.argtypes = [shape]
        self.c.lazy_attention_sizes.argtypes = [shape, POINTER(LazySizes)]
        self.c.lazy_attention_forward.argtypes = [shape, POINTER(LazyInputs), POINTER(LazyOutputs), c_void_p, c_void_p]
        self.c.lazy_attention_backward.argtypes = [
            shape,
            POINTER(LazyInputs),
            POINTER(LazyOutputs),
            c_void_p,
            POINTER(LazyGrads),
            c_void_p,
            c_void_p,
        ]

        self.c.lazy_attention_decode_sizes.argtypes = [shape, POINTER(LazyDecodeSizes)]
        self.c.lazy_attention_decode.argtypes = [shape, POINTER(LazyInputs), POINTER(LazyOutputs), c_void_p, c_void_p]

    def must(self, status):
        if status != 0:
            raise RuntimeError(self.c.lazy_attention_error().decode())


def address(tensor):
    return None if tensor is None else tensor.data_ptr()


class Call:
    """One attention call with all the memory it needs, so that running it allocates nothing."""

    def __init__(self, library, q, k, v, bias, tau, rung=None, training=True, compute_dead_tiles=False):
        B, T, H, D = q.shape
        for name, x in {"q": q, "k": k, "v": v, "bias": bias, "tau": tau}.items():
            if not x.is_contiguous():
                raise ValueError(f"{name} {tuple(x.shape)} is not contiguous; call .contiguous() first")
        self.library, self.tensors = library, (q, k, v, bias, tau)
        self.shape = LazyAttention(
            B,
            T,
            k.shape[1],
            H,
            k.shape[2],
            D,
            bias.shape[1],
            TYPES[q.dtype],
            CUDA if q.is_cuda else EMULATED,
            rung.encode() if rung else None,
            0,
            int(compute_dead_tiles),
        )
        self.sizes = LazySizes()
        library.must(library.c.lazy_attention_sizes(self.shape, self.sizes))

        def bytes_(n):
            return torch.empty(max(n, 1), dtype=torch.uint8, device=q.device)

        self.out, self.lse = torch.full_like(q, torch.nan), torch.full((B, H, T), torch.nan, device=q.device)
        needs_sums = training and self.sizes.needs_live_sums
        self.live_sums = torch.full((B, T, H, 2 * D), torch.nan, device=q.device) if needs_sums else None
        self.live_tiles = bytes_(self.sizes.live_tiles) if self.sizes.live_tiles else None
        self.spaces = bytes_(self.sizes.forward_workspace), bytes_(self.sizes.backward_workspace)
        self.grads = [torch.zeros_like(x) for x in self.tensors]
        self.inputs = LazyInputs(*map(address, (q, k, v, bias, tau)), None)
        self.outputs = LazyOutputs(*map(address, (self.out, self.lse, self.live_sums, self.live_tiles)))
        self.gradients = LazyGrads(*map(address, self.grads))

    def stream(self):
        return torch.cuda.current_stream().cuda_stream if self.shape.device == CUDA else None

    def forward(self):
        self.library.must(
            self.library.c.lazy_attention_forward(
                self.shape, self.inputs, self.outputs, address(self.spaces[0]), self.stream()
            )
        )
        return self.out

    def backward(self, dout):
        """Gradients of q, k, v, bias and tau, from zero: the kernels add to what is there."""
        for gradient in self.grads:
            gradient.zero_()
        self.library.must(
            self.library.c.lazy_attention_backward(
                self.shape,
                self.inputs,
                self.outputs,
                address(dout),
                self.gradients,
                address(self.spaces[1]),
                self.stream(),
            )
        )
        return self.grads

    def rung(self):
        return self.library.c.lazy_attention_rung(self.shape).decode()

    def live_share(self):
        """Share of the tiles below the diagonal that hold a live entry; None where the rung keeps no bits."""
        s = self.sizes
        if self.live_tiles is None:
            return None
        words = self.live_tiles.view(torch.int32).reshape(-1, s.row_tiles, s.words).cpu()
        bits = torch.stack([words >> i & 1 for i in range(32)], -1).flatten(2).float()
        first = torch.arange(s.row_tiles) * s.tile_rows
        real = first < self.shape.queries
        last_position = (first + s.tile_rows).clamp(max=self.shape.queries) - 1 + self.shape.keys - self.shape.queries
        visible = torch.where(real, last_position // s.tile_keys + 1, 0)
        return float(bits.sum() / (visible.sum() * len(bits)))


class Decoding:
    """One query a sequence, q [B, 1, H, D], against a cache k, v [B, T, Hkv, D] of which `lengths` [B] keys are valid."""

    def __init__(self, library, q, k, v, bias, tau, lengths):
        B, _, H, D = q.shape
        self.library, self.tensors = library, (q, k, v, bias, tau, lengths)
        device = CUDA if q.is_cuda else EMULATED
        self.shape = LazyAttention(B, 1, k.shape[1], H, k.shape[2], D, bias.shape[1], TYPES[q.dtype], device, None, 0, 0)
        sizes = LazyDecodeSizes()
        library.must(library.c.lazy_attention_decode_sizes(self.shape, sizes))
        self.out, self.lse = torch.full_like(q, torch.nan), torch.full((B, H, 1), torch.nan, device=q.device)
        self.space = torch.empty(max(sizes.workspace, 1), dtype=torch.uint8, device=q.device)
        self.inputs = LazyInputs(*map(address, self.tensors))
        self.outputs = LazyOutputs(address(self.out), address(self.lse), None, None)

    def run(self):
        stream = torch.cuda.current_stream().cuda_stream if self.shape.device == CUDA else None
        self.library.must(
            self.library.c.lazy_attention_decode(self.shape, self.inputs, self.outputs, address(self.space), stream)
        )
        return self.out
