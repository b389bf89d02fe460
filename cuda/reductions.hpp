#pragma once
// Sums and maxima over a block, and the sums that end every backward pass. Always in the same
// order.

#include "cuda/problem.hpp"

namespace lazy::LAZY_TARGET {

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

/// `value` of all lanes of the warp combined; every lane gets the result.
template <class T, class Combine>
__device__ T over_warp(T value, Combine combine) {
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2)
    value = combine(value, shuffle_xor(value, lanes));
  return value;
}

/// The same of all threads of the block. `scratch`: one number a warp.
template <class T, class Combine>
__device__ T over_block(T value, int threads, Shared<T> scratch, Combine combine) {
  value = over_warp(value, combine);
  barrier();  // the scratch may be in use
  if (thread_index() % warp_size == 0) scratch[thread_index() / warp_size] = value;
  barrier();
  T result = scratch[0];
  for (int warp = 1; warp < threads / warp_size; ++warp) result = combine(result, T(scratch[warp]));
  return result;
}

struct RowSums {
  int batch, heads, rows;
  Global<const float> values;  // [B, H, rows]
  Global<float> sums;          // [H]
};

/// sums[h] += the values of head h.
void sum_rows(const RowSums& a, Stream stream);

struct PartialSums {
  int batch, heads, partials, width, window;
  Global<const float> values;  // [B, H, partials, width]
  Global<float> sums;          // [H, W], of which the first `width` of a row are added to
};

/// Blocks among which a head's tiles of rows are shared out where each leaves a row of bias
/// gradients: enough of them to fill a GPU, few rows to sum.
inline int bias_groups(const LazyAttention& a, int rows_of_block) {
  constexpr int most = 16;
  const auto tiles = divided_up<std::int64_t>(a.queries, rows_of_block);
  return tiles < most ? static_cast<int>(tiles) : most;
}

/// Entries of such a row: distances that occur.
inline std::int64_t bias_width(const LazyAttention& a) {
  return a.window < a.keys ? a.window : a.keys;
}

/// sums[h, d] += the values of head h in column d.
void sum_partials(const PartialSums& a, Stream stream);

}  // namespace lazy::LAZY_TARGET
