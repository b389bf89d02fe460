#pragma once
// v0: the equations as loops. Shared by its forward and its backward: one block a row, one thread a
// key.

#include "cuda/reductions.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int naive_threads = 128;

inline std::size_t naive_shared_bytes() {
  return shared_bytes_for<float>(naive_threads / warp_size) +
         2 * shared_bytes_for<float>(naive_threads);
}

/// One query row of one head.
struct NaiveRow {
  int batch, head, row, length;
  int n;         // visible keys
  float offset;  // tau / n
  std::int64_t query;

  __device__ NaiveRow(const Problem<float>& p, int batch, int head, int row)
      : batch(batch),
        head(head),
        row(row),
        length(p.length(batch)),
        n(p.visible_keys(length, row)),
        offset(p.tau_of(head) / p.divisor(n, length)),
        query(p.query(batch, row, head)) {}
};

/// a . b over the D components of two rows.
__device__ inline float dot(Global<const float> a, Global<const float> b, int D) {
  float sum = 0;
  for (int d = 0; d < D; ++d) sum = fma(a[d], b[d], sum);
  return sum;
}

/// S_ij = q_i . k_j / sqrt(D) + b[i - j]
__device__ inline float naive_score(const Problem<float>& p, const NaiveRow& r, int j) {
  const std::int64_t key = p.key(r.batch, j, p.key_head(r.head));
  return fma(dot(p.q + r.query, p.k + key, p.head_dim), p.scale, p.bias_at(r.head, r.n - 1 - j));
}

}  // namespace lazy::LAZY_TARGET
