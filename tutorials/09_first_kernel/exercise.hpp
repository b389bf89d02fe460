#pragma once
// Your first kernel: the surviving mass m_i = sum_j A_ij of every row. It compiles, and is wrong.

#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int mass_threads = 64;

struct MassArguments {
  Global<const float> weights;  // [T, T]: row i holds i + 1 weights; what lies behind is not yours
  Global<float> mass;           // [T], to be assigned
  int T;
};

/// One block a row: block_index().x is the row, thread_index() is 0 .. 63. The words: shuffle_xor,
/// barrier, SharedMemory().take<float>(count); see main.cpp. All 64 threads have to take part.
__global__ inline void mass_kernel(MassArguments a) {
  if (thread_index() == 0) a.mass[block_index().x] = 0;
}

/// Bytes of shared memory that a block needs.
inline std::size_t mass_shared_bytes() {
  return 0;
}

}  // namespace lazy::LAZY_TARGET
