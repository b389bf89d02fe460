#pragma once
// A solution of the exercise.

#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int mass_threads = 64;

struct MassArguments {
  Global<const float> weights;  // [T, T]: row i holds i + 1 weights; what lies behind is not yours
  Global<float> mass;           // [T], to be assigned
  int T;
};

__global__ inline void mass_kernel(MassArguments a) {
  auto scratch = SharedMemory().take<float>(mass_threads / warp_size);
  const int i = block_index().x, me = thread_index();
  float m = 0;
  for (int j = me; j <= i; j += mass_threads) m += a.weights[i * a.T + j];
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) m += shuffle_xor(m, lanes);
  if (me % warp_size == 0) scratch[me / warp_size] = m;
  barrier();
  if (me == 0) a.mass[i] = scratch[0] + scratch[1];
}

/// Bytes of shared memory that a block needs.
inline std::size_t mass_shared_bytes() {
  return shared_bytes_for<float>(mass_threads / warp_size);
}

}  // namespace lazy::LAZY_TARGET
