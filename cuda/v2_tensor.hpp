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
template <class T, int D, int rows>
__device__ void load_tile(Shared<T> to, const HeadRows<T>& from, int first) {
  constexpr int pieces = D / 8, rows_at_once = tensor_threads / pieces;
  const int row0 = thread_index() / pieces, piece = thread_index() % pieces;
  const auto source = from.first + ((first + row0) * from.stride + 8 * piece);
#pragma unroll
  for (int r = 0; r < rows; r += rows_at_once) {
    const int row = first + row0 + r;
    copy_async<T>(to, tile_at<D>(row0 + r, piece), source + r * from.stride,
                  row >= from.begin && row < from.end);
  }
}

/// 16 rows of a tile as the left operand of products over all D components: read again for each
/// product, or kept in registers.
template <class T, int D>
struct TileRows {
  Shared<T> tile;
  int row0;

  __device__ void read(std::uint32_t (&a)[4], int k) const {
    const int lane = thread_index() % warp_size;
    load_matrices(a, tile, tile_at<D>(row0 + lane % 16, 2 * k + lane / 16));
  }
};
template <class T, int D>
struct KeptRows {
  std::uint32_t kept[D / 16][4];

  __device__ explicit KeptRows(const TileRows<T, D>& rows) {
#pragma unroll
    for (int k = 0; k < D / 16; ++k) rows.read(kept[k], k);
  }
  __device__ void read(std::uint32_t (&a)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = kept[k][i];
  }
};

/// c [16, 8 N] += `rows` . the first 8 N rows of `columns`, over all D components: scores from
/// queries and keys, or the other way round. Of the columns, 16 by 16, only those with a bit in
/// `wanted`.
template <class T, int D, int N, class Rows>
__device__ void add_products(float (&c)[N][4], const Rows& rows, Shared<T> columns,
                             unsigned wanted = ~0u) {
  const int lane = thread_index() % warp_size;
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t a[4];
    rows.read(a, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      if ((wanted >> n / 2 & 1) == 0) continue;
      std::uint32_t b[4];
      load_matrices(b, columns, tile_at<D>(8 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
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
  const auto live = [](float x) { return x != 0 ? 1.f : 0.f; };
  a[0] = pack<T>(live(left[0]), live(left[1]));
  a[1] = pack<T>(live(left[2]), live(left[3]));
  a[2] = pack<T>(live(right[0]), live(right[1]));
  a[3] = pack<T>(live(right[2]), live(right[3]));
}

/// Calls f(n, b0, b1) for 16 rows of `tile` from row0, as the right operand of a product: columns
/// 8 n .. 8 n + 7.
template <class T, int D, class F>
__device__ void for_each_column(Shared<T> tile, int row0, F&& f) {
  const int lane = thread_index() % warp_size;
#pragma unroll
  for (int n = 0; n < D / 8; n += 2) {
    std::uint32_t b[4];
    load_matrices_transposed(b, tile, tile_at<D>(row0 + lane % 16, n + lane / 16));
    f(n, b[0], b[1]);
    f(n + 1, b[2], b[3]);
  }
}

/// c [16, D] += a [16, 16] . 16 rows of `tile` from row0.
template <class T, int D>
__device__ void add_rows(float (&c)[D / 8][4], const std::uint32_t (&a)[4], Shared<T> tile,
                         int row0) {
  for_each_column<T, D>(tile, row0, [&](int n, std::uint32_t b0, std::uint32_t b1) {
    multiply_add<T>(c[n], a, b0, b1);
  });
}

/// What a row's forward leaves to its backward, of two components next to each other: the sum over
/// live j of P V_j, and Ubar = (1/n) sum over live j of V_j.
struct alignas(16) LiveSums {
  float values[2], means[2];
};

// ---- One entry. Inside a kernel scores and lse are in base 2: exp2 is an instruction.

inline constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

/// The bias that the sums of a tile's diagonals start with: slice[i] = sqrt(D) b[first + i]. A
/// thread has one of them. It fetches the next tile's while this tile is computed, and puts it down
/// when this tile has been read.
template <int D>
struct BiasSlice {
  static constexpr float root = D == 32 ? 5.65685425f : D == 64 ? 8.f : 11.3137085f;  // sqrt(D)
  Shared<float> slice;
  int count;
  float fetched = 0;

  __device__ BiasSlice(Shared<float> slice, int count) : slice(slice), count(count) {}
  template <class T>
  __device__ void fetch(const Problem<T>& p, int head, int first) {
    if (first < p.window) fetched = p.bias_at(head, first + thread_index()) * root;
  }
  template <class T>
  __device__ void put(const Problem<T>& p, int first) const {
    if (first < p.window && thread_index() < count) slice[thread_index()] = fetched;
  }
};

/// What the sums of 16 rows start with: c[n][e] = slice[at + step (column - row)], row and column
/// counted from the lane's first. Squares of 8 x 8 on one diagonal share it.
template <int step, int N>
__device__ void start_sums(float (&c)[N][4], bool bias, Shared<float> slice, int at) {
#pragma unroll
  for (int square = -1; square < N; ++square)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float start = bias ? float(slice[at + step * (8 * square + e)]) : 0.f;
      if (square >= 0) c[square][e] = start;
      if (square + 1 < N) c[square + 1][2 + e] = start;
    }
}

/// What the entries of one query row need.
struct alignas(16) RowNumbers {
  float shift;   // minus lse, in base 2; -inf in a row whose scores are all -inf: P = 0 there
  float delta;   // sum over live keys of P dA
  float offset;  // tau / n
  int n;         // visible keys
};

__device__ inline float shift_of(float lse) {
  return lse == -infinity ? lse : -lse * log2_e;
}

/// P = exp(S - lse) from the sum q . k + sqrt(D) b.
__device__ inline float probability(float sum, float scale2, float shift) {
  return exp2_fast(fma(sum, scale2, shift));
}

/// A row of one key has P = 1 and no choice, so no gradient. The multiply-add misses this by a
/// rounding, and the kink at tau = -1 with it.
__device__ inline bool is_single(int n, float shift) {
  return n == 1 && shift > -infinity && shift < infinity;
}

/// The fewest keys that one of `rows` rows from `row` sees: keys before it need no mask.
template <class T>
__device__ int seen_by_all(const Problem<T>& p, int length, int row, int rows) {
  const int first = p.visible_keys(length, row), last = p.visible_keys(length, row + rows - 1);
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
    all_see = seen_by_all(p, length, row0 + strip_row, strip);
    for (int x = 0; x < 2; ++x) {
      n[x] = p.visible_keys(length, row(x));
      offset[x] = n[x] ? p.tau_of(head) / p.divisor(n[x], length) : 0.f;
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
  template <class Rows>
  __device__ void scores(float (&c)[N][4], const Rows& q, Shared<T> k, Shared<float> slice,
                         int key0) const {
    start_sums<-1>(c, has_bias(key0), slice, keys - 1 + strip_row + lane.g - 2 * lane.t);
    add_products<T, D>(c, q, k);
  }

  // Whether some row of the warp does not see all keys of a tile. Only such tiles pay for a mask,
  // and only they hold a row of a single key.
  __device__ bool is_masked(int key0) const { return key0 + keys > all_see; }
  __device__ bool sees(int key0, int i, int e) const { return key0 + lane.column(i, e) < n[e / 2]; }

  // c = the weights, from what `scores` left. Returns whether one of the warp's is not 0.
  __device__ bool weights(float (&c)[N][4], int key0, float scale2, const float (&shift)[2]) const {
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        c[i][e] = elastic_weight(probability(c[i][e], scale2, shift[e / 2]), offset[e / 2]);
    if (is_masked(key0)) {
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (is_single(n[e / 2], shift[e / 2])) c[i][e] = elastic_weight(1.f, offset[e / 2]);
          if (!sees(key0, i, e)) c[i][e] = 0;
        }
    }
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) bits |= bits_of(c[i][e]);
    return any(bits != 0);
  }
};

inline LazySizes tensor_sizes(const LazyAttention& a) {
  return tile_sizes(a, strip, a.head_dim == 128 ? keys_of_tile<128> : keys_of_tile<64>, block_rows);
}

/// A tensor of 16-bit numbers, two by two.
inline Global<std::uint32_t> pairs(void* numbers, std::int64_t count) {
  return view(static_cast<std::uint32_t*>(numbers), count / 2);
}

inline Global<LiveSums> live_sums(const LazyAttention& a, float* numbers) {
  return view(reinterpret_cast<LiveSums*>(numbers), query_count(a) / 2);
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
