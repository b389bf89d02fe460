#pragma once
// v2: tensor cores, bfloat16 and float16, sm_80 and newer. What its kernels share: tiles in shared
// memory, the fragments that the matrix instruction wants, and the arithmetic of one entry.
//
// A block is 4 warps of 16 rows each. In a product of 16 rows with columns 8 n .. 8 n + 7, lane
// l = 4 g + t holds in c[n][e] row g + 8 (e / 2), column 8 n + 2 t + e % 2.

#include "cuda/live_tiles.hpp"
#include "cuda/reductions.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int block_warps = 4, tensor_threads = block_warps * warp_size;
/// What a block may have on sm_86, sm_89 and sm_120; other GPUs have more.
inline constexpr std::size_t most_shared_bytes = 99 * 1024;

inline constexpr int strip = 16, block_rows = block_warps * strip;

/// Keys of a tile: fewer where a row is long, so that the accumulators fit the registers.
template <int D>
inline constexpr int keys_of_tile = D == 128 ? 32 : 64;

/// Places of a lane in a fragment of the accumulator.
struct Lane {
  int lane = thread_index() % warp_size, warp = thread_index() / warp_size;
  int g = lane / 4, t = lane % 4;

  __device__ Lane() {}
  /// The row of c[n][e], within the warp's 16.
  __device__ int row(int e) const { return g + 8 * (e / 2); }
  /// Its column.
  __device__ int column(int n, int e) const { return 8 * n + 2 * t + e % 2; }
};

/// Element 8 piece of row `row` of a tile [rows, D]. The 16-byte pieces of a row are turned, so
/// that eight rows of one piece lie in eight different groups of banks.
template <int D>
__device__ int tile_at(int row, int piece) {
  const int turn = D >= 64 ? row % 8 : row / 2 % 4;
  return row * D + 8 * (piece ^ turn);
}

/// Starts copying rows first .. first + rows - 1 into a tile.
template <class T, int D>
__device__ void load_tile(Shared<T> to, int rows, const HeadRows<T>& from, int first) {
  constexpr int pieces = D / 8;
  for (int i = thread_index(); i < rows * pieces; i += tensor_threads) {
    const int row = first + i / pieces, piece = i % pieces;
    const bool there = row >= from.begin && row < from.end;
    copy_async<T>(to + tile_at<D>(i / pieces, piece),
                  from.first + ((there ? row : 0) * from.stride + 8 * piece), there);
  }
}

/// c [16, 8 N] += 16 rows of `rows` from row0 . the first 8 N rows of `columns`, over all D
/// components: scores from queries and keys, or the other way round. Of the columns, 16 by 16, only
/// those with a bit in `wanted`.
template <class T, int D, int N>
__device__ void add_products(float (&c)[N][4], Shared<T> rows, int row0, Shared<T> columns,
                             unsigned wanted = ~0u) {
  const int lane = thread_index() % warp_size;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t a[4];
    load_matrices(a, rows + tile_at<D>(row0 + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      if ((wanted >> n / 2 & 1) == 0) continue;
      std::uint32_t b[4];
      load_matrices(b,
                    columns + tile_at<D>(8 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      multiply_add<T>(c[n], a, b[0], b[1]);
      multiply_add<T>(c[n + 1], a, b[2], b[3]);
    }
  }
}

/// Two columns of 8 of an accumulator, rounded to T: the next product's A, without a move between
/// lanes.
template <class T>
__device__ void as_operand(std::uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack<T>(left[0], left[1]);
  a[1] = pack<T>(left[2], left[3]);
  a[2] = pack<T>(right[0], right[1]);
  a[3] = pack<T>(right[2], right[3]);
}

/// The same with 1 for what is not 0: exact in every format, also where the number itself would
/// vanish in it.
template <class T>
__device__ void as_live_operand(std::uint32_t (&a)[4], const float (&left)[4],
                                const float (&right)[4]) {
  constexpr std::uint32_t one = from_float<T>(1.f).bits;
  const auto live = [](float low, float high) {
    return (low != 0 ? one : 0u) | (high != 0 ? one << 16 : 0u);
  };
  a[0] = live(left[0], left[1]);
  a[1] = live(left[2], left[3]);
  a[2] = live(right[0], right[1]);
  a[3] = live(right[2], right[3]);
}

/// c [16, D] += a [16, 16] . 16 rows of `tile` from row0.
template <class T, int D>
__device__ void add_rows(float (&c)[D / 8][4], const std::uint32_t (&a)[4], Shared<T> tile,
                         int row0) {
  const int lane = thread_index() % warp_size;
#pragma unroll
  for (int n = 0; n < D / 8; n += 2) {
    std::uint32_t b[4];
    load_matrices_transposed(b, tile + tile_at<D>(row0 + lane % 16, n + lane / 16));
    multiply_add<T>(c[n], a, b[0], b[1]);
    multiply_add<T>(c[n + 1], a, b[2], b[3]);
  }
}

// ---- One entry. Inside a kernel scores and lse are in base 2: exp2 is an instruction.

inline constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

/// The bias that a tile's diagonals start their sums with: slice[d - first] = sqrt(D) b[d], for
/// `count` distances from `first`.
template <class T>
__device__ void load_bias(Shared<float> slice, const Problem<T>& p, int head, int first,
                          int count) {
  const float root = 1 / p.scale;
  for (int i = thread_index(); i < count; i += tensor_threads)
    slice[i] = p.bias_at(head, first + i) * root;
}

/// What the entries of one query row need.
struct alignas(16) RowNumbers {
  float lse2, delta, offset;  // lse in base 2; offset = tau / n
  int n;
};

/// P = exp(S - lse) from the sum q . k + sqrt(D) b. A row of one key has P = 1, which a fused
/// multiply-add would miss by a rounding, and the kink at tau = -1 with it.
__device__ inline float probability(float sum, float scale2, float lse2, int n) {
  const bool finite = lse2 > -infinity && lse2 < infinity;
  if (n == 1 && finite) return 1;
  return lse2 == -infinity ? 0.f : exp2_fast(fma(sum, scale2, -lse2));
}

/// dS. Where P = 1 there is nothing to choose between, and no gradient, whatever the rounding of O
/// has left in delta.
__device__ inline float score_gradient(float probability, float weight, float weight_gradient,
                                       float delta, int n) {
  if (n == 1 && probability == 1) return 0;
  return score_gradient(probability, weight, weight_gradient, delta);
}

template <class T>
__device__ RowNumbers row_numbers(const Problem<T>& p, int b, int head, int row,
                                  Global<const float> lse, Global<const float> delta) {
  const int length = p.length(b), n = p.visible_keys(length, row);
  if (n == 0) return {0, 0, 0, 0};
  const std::int64_t at = p.row(b, head, row);
  return {lse[at] * log2_e, delta ? delta[at] : 0.f, p.tau_of(head) / p.divisor(n, length), n};
}

/// The fewest keys that a row among 16 from `row` sees: entries of keys before it need no mask.
template <class T>
__device__ int seen_by_all(const Problem<T>& p, int length, int row) {
  const int first = p.visible_keys(length, row), last = p.visible_keys(length, row + strip - 1);
  return first < last ? first : last;
}

/// One block's 64 query rows of one head, and what a lane's two rows of them are.
template <class T, int D>
struct BlockRows {
  static constexpr int keys = keys_of_tile<D>, N = keys / 8;

  const Problem<T>& p;
  int b, head, row0, length;
  Lane lane;
  int strip_row;  // of the warp within the block
  int all_see;    // keys before this one are seen by all rows of the warp
  int n[2];
  float offset[2];  // tau / n

  __device__ BlockRows(const Problem<T>& p, int b, int head, int row0)
      : p(p), b(b), head(head), row0(row0), length(p.length(b)), strip_row(lane.warp * strip) {
    all_see = seen_by_all(p, length, row0 + strip_row);
    for (int x = 0; x < 2; ++x) {
      n[x] = p.visible_keys(length, row(x));
      offset[x] = p.tau_of(head) / p.divisor(n[x], length);
    }
  }
  __device__ int row(int x) const { return row0 + strip_row + lane.g + 8 * x; }

  // One past the last key that a row of the block sees.
  __device__ int key_end() const {
    const int position = p.first_position(length) + row0;
    const int last = p.first_position(length) +
                     (row0 + block_rows < p.queries ? row0 + block_rows : p.queries) - 1;
    const int end = last < length ? last + 1 : length;
    return end > 0 && end > position ? end : 0;
  }

  // Distance of the first row of the block to the last key of a tile.
  __device__ int first_distance(int key0) const {
    return p.first_position(length) + row0 - key0 - (keys - 1);
  }
  __device__ bool has_bias(int key0) const { return first_distance(key0) < p.window; }

  // c = q . k + sqrt(D) b for the warp's 16 rows.
  __device__ void scores(float (&c)[N][4], Shared<T> q, Shared<T> k, Shared<float> slice,
                         int key0) const {
    const bool bias = has_bias(key0);
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        c[i][e] = bias ? float(slice[strip_row + lane.row(e) - lane.column(i, e) + keys - 1]) : 0.f;
    add_products<T, D>(c, q, strip_row, k);
  }

  __device__ bool sees(int key0, int i, int e) const {
    return key0 + keys <= all_see || key0 + lane.column(i, e) < n[e / 2];
  }

  // c = the weights, from what `scores` left. Returns whether one of the warp's is not 0.
  __device__ bool weights(float (&c)[N][4], int key0, float scale2, const float (&lse2)[2]) const {
    bool positive = false;
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int x = e / 2;
        const float w = elastic_weight(probability(c[i][e], scale2, lse2[x], n[x]), offset[x]);
        c[i][e] = sees(key0, i, e) ? w : 0.f;
        positive |= c[i][e] != 0;
      }
    return any(positive);
  }
};

inline LazySizes tensor_sizes(const LazyAttention& a) {
  return tile_sizes(a, strip, a.head_dim == 128 ? keys_of_tile<128> : keys_of_tile<64>, block_rows);
}

/// A tensor of 16-bit numbers, two by two.
inline Global<std::uint32_t> pairs(void* numbers, std::int64_t count) {
  return view(static_cast<std::uint32_t*>(numbers), count / 2);
}

/// Calls f<T, D>() for the call's number format and head dimension.
template <class F>
void with_format(const LazyAttention& a, F&& f) {
  const auto with_dim = [&]<class T>() {
    if (a.head_dim == 32) f.template operator()<T, 32>();
    if (a.head_dim == 64) f.template operator()<T, 64>();
    if (a.head_dim == 128) f.template operator()<T, 128>();
  };
  if (a.type == LAZY_BFLOAT16) with_dim.template operator()<BFloat16>();
  if (a.type == LAZY_FLOAT16) with_dim.template operator()<Float16>();
}

}  // namespace lazy::LAZY_TARGET
