#pragma once
// The words kernels are written in. The same kernel source is compiled twice: by nvcc, where a word
// is one or two instructions (device.hpp), and by the C++ compiler, where it is a check and its
// effect on the CPU (emulated.hpp). README.md says what that proves.
//
//   place        thread_index() block_index() grid_size()
//   meeting      barrier() warp_barrier()
//   memory       Global<T> Shared<T>: a pointer, an index; SharedMemory hands out a block's memory
//   neighbours   load<n> store: n numbers of global memory at once, as Floats<n>
//   between lanes  shuffle_xor shuffle_down any
//   copies       copy_async<16 bytes> commit_copies wait_copies<groups left>
//   tensor cores load_matrices load_matrices_transposed multiply_add pack
//   arithmetic   fma larger sqrt exp log exp2_fast log2_fast bits_of
//   the host's   view launch shared_bytes_for
//
// Kernels live in namespace lazy::LAZY_TARGET, lazy::cuda or lazy::emulated, so that a program may
// hold both.

#if defined(__CUDACC__)
#define LAZY_TARGET cuda
#include "cuda/simt/device.hpp"
#else
#define LAZY_TARGET emulated
#include "cuda/simt/emulated.hpp"
#endif
