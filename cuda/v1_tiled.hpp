#pragma once
// v1: tiles in shared memory, shared by its forward and its backward. A tile is 64 query rows by 32
// keys; a thread owns 4 rows x 2 keys of it, 16 apart, so that the 16 threads of a row and the 16
// of a column each read one word, or 16 neighbours. Components come in panels of P; every D will
// do.

#include "cuda/live_tiles.hpp"
#include "cuda/reductions.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr int tile_rows = 64, tile_keys = 32, tiled_threads = 256;
inline constexpr int own_rows = 4, own_keys = 2;  // of a thread, 16 apart

/// The shared memory of a block and the thread's place in a tile.
template <int P>
struct Tiles {
  static constexpr int pitch = P + 1, entry_pitch = tile_keys + 1;  // odd: columns hit all banks
  Shared<float> rows;                                               // [64, P] of q or dout
  Shared<float> keys;                                               // [32, P] of k or v
  Shared<float> entries;  // [64, 32] weights or score gradients
  Shared<float> scratch;  // [8]
  int y, x;

  static constexpr std::size_t bytes() {
    return shared_bytes_for<float>(tile_rows * pitch) + shared_bytes_for<float>(tile_keys * pitch) +
           shared_bytes_for<float>(tile_rows * entry_pitch) +
           shared_bytes_for<float>(tiled_threads / warp_size);
  }
  __device__ explicit Tiles(SharedMemory memory)
      : rows(memory.take<float>(tile_rows * pitch)),
        keys(memory.take<float>(tile_keys * pitch)),
        entries(memory.take<float>(tile_rows * entry_pitch)),
        scratch(memory.take<float>(tiled_threads / warp_size)),
        y(thread_index() / 16),
        x(thread_index() % 16) {}
};

static_assert(Tiles<128>::bytes() <= 64 * 1024);  // what sm_75 has

/// 64 query rows of one head, and what the thread's four rows are.
struct RowTile {
  int b, head, length, position0;  // position0: of query row 0
  int row0;
  int key_end;             // one past the last key that a row of the tile sees
  int n[own_rows];         // visible keys
  float offset[own_rows];  // tau / n

  __device__ RowTile(const Problem<float>& p, int b, int head, int tile)
      : b(b),
        head(head),
        length(p.length(b)),
        position0(p.first_position(length)),
        row0(tile * tile_rows) {
    const int last_row = row0 + tile_rows < p.queries ? row0 + tile_rows - 1 : p.queries - 1;
    const int last = position0 + last_row < length ? position0 + last_row : length - 1;
    key_end = last >= 0 && last >= position0 + row0 ? last + 1 : 0;
#pragma unroll
    for (int i = 0; i < own_rows; ++i) {
      n[i] = p.visible_keys(length, row(i));
      offset[i] = p.tau_of(head) / p.divisor(n[i], length);
    }
  }

  /// The thread's i-th row.
  __device__ int row(int i) const {
    return row0 + thread_index() / 16 + 16 * i;
  }
};

/// to [count, P] = components panel .. panel + P - 1 of rows first .. first + count - 1.
template <int P>
__device__ void load_panel(Shared<float> to, int count, const HeadRows<float>& from, int first,
                           int panel, int D) {
  for (int i = thread_index(); i < count * P; i += tiled_threads) {
    const int r = first + i / P, d = panel + i % P;
    const bool there = r >= from.begin && r < from.end && d < D;
    to[i / P * Tiles<P>::pitch + i % P] = there ? from.first[r * from.stride + d] : 0.f;
  }
}

/// products[i][j] = (row i) . (key j) over all components, summed from the first to the last: the
/// same bits in every kernel. `loaded`: the only panel of the rows is there already.
template <int P>
__device__ void dot_products(float (&products)[own_rows][own_keys], const Tiles<P>& t,
                             const HeadRows<float>& rows, int row0, const HeadRows<float>& keys,
                             int key0, int D, bool loaded = false) {
#pragma unroll
  for (int i = 0; i < own_rows; ++i)
#pragma unroll
    for (int j = 0; j < own_keys; ++j) products[i][j] = 0;
  for (int panel = 0; panel < D; panel += P) {
    barrier();  // others may still read the last panels
    if (!loaded) load_panel<P>(t.rows, tile_rows, rows, row0, panel, D);
    load_panel<P>(t.keys, tile_keys, keys, key0, panel, D);
    barrier();
    const int width = D - panel < P ? D - panel : P;
    for (int d = 0; d < width; ++d) {
      float key[own_keys];
#pragma unroll
      for (int j = 0; j < own_keys; ++j) key[j] = t.keys[(t.x + 16 * j) * Tiles<P>::pitch + d];
#pragma unroll
      for (int i = 0; i < own_rows; ++i) {
        const float row = t.rows[(t.y + 16 * i) * Tiles<P>::pitch + d];
#pragma unroll
        for (int j = 0; j < own_keys; ++j) products[i][j] = fma(row, key[j], products[i][j]);
      }
    }
  }
}

/// S_ij of the thread's entries from its products q_i . k_j. Entries that the row does not see get
/// a number, too; whether key0 + x + 16 j < n[i] decides.
__device__ inline void make_scores(float (&s)[own_rows][own_keys], const Problem<float>& p,
                                   const RowTile& r, int key0) {
#pragma unroll
  for (int i = 0; i < own_rows; ++i)
#pragma unroll
    for (int j = 0; j < own_keys; ++j) {
      const int key = key0 + thread_index() % 16 + 16 * j;
      s[i][j] = fma(s[i][j], p.scale, p.bias_at(r.head, r.n[i] - 1 - key));
    }
}

template <int P>
__device__ void store_entries(const Tiles<P>& t, const float (&values)[own_rows][own_keys]) {
#pragma unroll
  for (int i = 0; i < own_rows; ++i)
#pragma unroll
    for (int j = 0; j < own_keys; ++j)
      t.entries[(t.y + 16 * i) * Tiles<P>::entry_pitch + t.x + 16 * j] = values[i][j];
}

/// sums[i][c] += sum_j entries[row i, j] keys[j, c]: the thread's rows, components x + 16 c. An
/// entry of 0 adds nothing, whatever the key's numbers are.
template <int P>
__device__ void add_keys(float (&sums)[own_rows][P / 16], const Tiles<P>& t) {
  for (int j = 0; j < tile_keys; ++j) {
    float entry[own_rows];
#pragma unroll
    for (int i = 0; i < own_rows; ++i)
      entry[i] = t.entries[(t.y + 16 * i) * Tiles<P>::entry_pitch + j];
#pragma unroll
    for (int c = 0; c < P / 16; ++c) {
      const float key = t.keys[j * Tiles<P>::pitch + t.x + 16 * c];
#pragma unroll
      for (int i = 0; i < own_rows; ++i)
        if (entry[i] != 0) sums[i][c] = fma(entry[i], key, sums[i][c]);
    }
  }
}

/// sums[j][c] += sum_i entries[i, key j] rows[i, c]: keys y + 16 j, components x + 16 c.
template <int P>
__device__ void add_rows(float (&sums)[own_keys][P / 16], const Tiles<P>& t) {
  for (int i = 0; i < tile_rows; ++i) {
    float entry[own_keys];
#pragma unroll
    for (int j = 0; j < own_keys; ++j)
      entry[j] = t.entries[i * Tiles<P>::entry_pitch + t.y + 16 * j];
#pragma unroll
    for (int c = 0; c < P / 16; ++c) {
      const float row = t.rows[i * Tiles<P>::pitch + t.x + 16 * c];
#pragma unroll
      for (int j = 0; j < own_keys; ++j)
        if (entry[j] != 0) sums[j][c] = fma(entry[j], row, sums[j][c]);
    }
  }
}

/// `value` of the 16 threads of a row combined.
template <class Combine>
__device__ float over_row(float value, Combine combine) {
  for (int lanes = 8; lanes > 0; lanes /= 2) value = combine(value, shuffle_xor(value, lanes));
  return value;
}

inline LazySizes tiled_sizes(const LazyAttention& a) {
  return tile_sizes(a, tile_rows, tile_keys, tile_rows);
}

/// Calls f with the panel width for head dimension D, as a constant.
template <class F>
void with_panel(std::int64_t D, F&& f) {
  if (D <= 32)
    f(std::integral_constant<int, 32>());
  else if (D <= 64)
    f(std::integral_constant<int, 64>());
  else
    f(std::integral_constant<int, 128>());
}

}  // namespace lazy::LAZY_TARGET
