#pragma once
// What this machine's arithmetic can do at best, in this build: fused multiply-adds that never
// leave the registers. Every percentage of `lazy bench` is of this.

namespace lazy {

/// Bytes of the widest vectors this build uses: 64 with AVX-512, 32 with AVX, otherwise 16.
int vector_bytes();

/// Multiply-adds per second of `threads` threads together, counted as two flop each, in float: the
/// best of several short tries. Takes about 0.2 s.
double fma_peak(int threads);

}  // namespace lazy
