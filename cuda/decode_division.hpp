#pragma once
// How the decoding kernels (decode.cu) divide a sequence among blocks, and read rows of the cache.

#include "cuda/reductions.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int decode_warps = 4, decode_threads = decode_warps * warp_size;
inline constexpr int warp_keys = 64;  // whose weights a warp makes at once
inline constexpr int chunk_unit =
    decode_warps * warp_keys;           // a chunk is so many keys, or a multiple
inline constexpr int rows_at_once = 4;  // rows whose pieces a thread has under way

/// How a warp reads rows of k or v: a lane has one piece of 16 bytes of a row, so that several rows
/// lie side by side in a warp, and `rows_at_once` times as many are read together.
template <class T, int D>
struct Rows {
  static constexpr int numbers = 16 / sizeof(T);  // of a piece
  static constexpr int lanes = D / numbers;       // of a row
  static constexpr int side_by_side = warp_size / lanes;
  static constexpr int together = rows_at_once * side_by_side;
  static_assert(lanes >= rows_at_once && lanes <= warp_size);

  int piece = thread_index() % lanes;              // of the row
  int place = thread_index() % warp_size / lanes;  // of the row among those side by side

  __device__ Rows() {}
};

/// Of a sequence of n keys: the keys of a chunk, and how many of the grid's chunks have any.
struct Division {
  int chunk_keys, chunks;

  __device__ Division(int n, int grid_chunks)
      : chunk_keys(chunk_unit * divided_up(n, chunk_unit * grid_chunks)),
        chunks(n == 0 ? 0 : divided_up(n, chunk_keys)) {}
};

/// What one block of A or B works at: one chunk, one key head, at most `most_heads` of its query
/// heads.
struct Part {
  int chunk = block_index().x, b = block_index().z;
  int head, heads;  // first query head, number of them
  int n;            // keys of the sequence, all visible
  Division division;
  int begin, end;  // keys

  template <class T>
  __device__ Part(const Problem<T>& p, int grid_chunks, int most_heads)
      : n(p.visible_keys(p.length(b), 0)), division(n, grid_chunks) {
    const int group = p.heads / p.kv_heads, parts = divided_up(group, most_heads);
    const int first = int(block_index().y) % parts * most_heads;
    head = int(block_index().y) / parts * group + first;
    heads = group - first < most_heads ? group - first : most_heads;
    begin = chunk * division.chunk_keys;
    end = begin + division.chunk_keys < n ? begin + division.chunk_keys : n;
  }
};

/// log sum_i exp(value(i)), i < count, by one warp; -inf if there is none.
template <class Value>
__device__ float log_sum_exp(int count, Value value) {
  const int lane = thread_index() % warp_size;
  float largest = -infinity, sum = 0;
  for (int i = lane; i < count; i += warp_size) largest = Max()(largest, value(i));
  largest = over_warp(largest, Max());
  // Infinite scores are not subtracted: inf - inf is no number.
  const float shift = largest == infinity || largest == -infinity ? 0.f : largest;
  for (int i = lane; i < count; i += warp_size) sum += exp(value(i) - shift);
  return shift + log(over_warp(sum, Sum()));
}

/// Sums of four numbers over the lanes of a row, a number for each: lane l gets that of number l
/// % 4. Each step halves the numbers instead of adding all of them in all lanes.
template <int lanes>
__device__ float sum_each(const float (&x)[rows_at_once]) {
  const bool odd = thread_index() % 2 != 0, upper = thread_index() / 2 % 2 != 0;
  const float low = (odd ? x[1] : x[0]) + shuffle_xor(odd ? x[0] : x[1], 1);
  const float high = (odd ? x[3] : x[2]) + shuffle_xor(odd ? x[2] : x[3], 1);
  float sum = (upper ? high : low) + shuffle_xor(upper ? low : high, 2);
#pragma unroll
  for (int mask = 4; mask < lanes; mask *= 2) sum += shuffle_xor(sum, mask);
  return sum;
}

}  // namespace lazy::LAZY_TARGET
