#pragma once
// One matrix product that stays in registers: the piece every product of the fast CPU path is made
// of.
//
//   C[r][v] = sum_t A[r][t] B[t][v],   r < rows, v < vectors * lanes
//
// Each step broadcasts one entry of A per row and multiplies it with a few vectors of B. Strides of
// A are free, so A, A^T and their blocks serve alike; rows of B are contiguous.

#include "reference/attention_types.hpp"
#include "reference/simd.hpp"

namespace lazy {

// rows * vectors sums, the vectors of B and one broadcast fill the registers without spilling.
inline constexpr int tile_rows = 6;
inline constexpr int tile_vectors = simd::vector_registers == 32 ? 4 : 2;

constexpr Index divide_up(Index x, Index by) {
  return (x + by - 1) / by;
}

/// Calls `use(r, v, sum)` for each vector of C. A[r][t] is a[r * a_row + t * a_step], B[t] starts
/// at b + t * b_step.
template <int vectors, class T, class Use>
[[gnu::always_inline]] inline void register_tile(const T* a, Index a_row, Index a_step, const T* b,
                                                 Index b_step, Index depth, Use&& use) {
  using namespace simd;
  Vector<T> sum[tile_rows][vectors] = {};
  for (Index t = 0; t < depth; ++t) {
    Vector<T> row[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) row[v] = load(b + t * b_step + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < tile_rows; ++r) {
      const T x = a[r * a_row + t * a_step];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] += x * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < tile_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) use(r, v, sum[r][v]);
}

/// The same for any number of vectors: pieces as wide as the tile, `use` called with v counted from
/// 0. A single vector would wait for its own sums: 5 are 3 and 2.
template <class T, class Use>
[[gnu::always_inline]] inline void register_tiles(const T* a, Index a_row, Index a_step, const T* b,
                                                  Index b_step, Index depth, Index vectors,
                                                  Use&& use) {
  for (Index first = 0; first < vectors;) {
    const T* from = b + first * simd::lanes<T>;
    const auto shifted = [&](int r, int v, simd::Vector<T> sum) { use(r, first + v, sum); };
    const Index left = vectors - first;
    if (tile_vectors == 4 && left >= 4 && left != 5) {
      register_tile<tile_vectors>(a, a_row, a_step, from, b_step, depth, shifted);
      first += tile_vectors;
    } else if (tile_vectors == 4 && left >= 3) {
      register_tile<3>(a, a_row, a_step, from, b_step, depth, shifted);
      first += 3;
    } else if (left >= 2) {
      register_tile<2>(a, a_row, a_step, from, b_step, depth, shifted);
      first += 2;
    } else {
      register_tile<1>(a, a_row, a_step, from, b_step, depth, shifted);
      first += 1;
    }
  }
}

/// C[r] += sum_t A[r][t] B[t] over `vectors` * lanes columns; C[r] starts at c + r * c_row.
template <class T>
void accumulate_tiles(const T* a, Index a_row, Index a_step, const T* b, Index b_step, Index depth,
                      T* c, Index c_row, Index vectors) {
  register_tiles(a, a_row, a_step, b, b_step, depth, vectors,
                 [=](int r, Index v, simd::Vector<T> sum) {
                   T* to = c + r * c_row + v * simd::lanes<T>;
                   simd::store(to, simd::load(to) + sum);
                 });
}

}  // namespace lazy
