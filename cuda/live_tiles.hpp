#pragma once
// One bit for each tile that holds a live entry, as lazy_attention.h lays them out. The forward
// writes them, the backward asks them.

#include "cuda/problem.hpp"

namespace lazy::LAZY_TARGET {

struct LiveTiles {
  Global<std::uint32_t> bits;  // [B, H, row tiles, words]; null: every tile is taken for live
  int row_tiles, words;

  /// The words of one tile of rows; null if there are no bits.
  template <class T>
  __device__ Global<std::uint32_t> row_tile(const Problem<T>& p, int b, int head, int tile) const {
    if (!bits) return bits;
    return bits + ((std::int64_t(b) * p.heads + head) * row_tiles + tile) * words;
  }
};

__device__ inline bool is_live(Global<std::uint32_t> bits, int key_tile) {
  return !bits || (bits[key_tile / 32] >> key_tile % 32 & 1) != 0;
}

/// Sizes of the bits where a tile is `tile_rows` x `tile_keys` and a block has `block_rows` rows.
inline LazySizes tile_sizes(const LazyAttention& a, int tile_rows, int tile_keys, int block_rows) {
  LazySizes sizes{};
  sizes.tile_rows = tile_rows;
  sizes.tile_keys = tile_keys;
  sizes.row_tiles = divided_up<std::int64_t>(a.queries, block_rows) * (block_rows / tile_rows);
  sizes.words = divided_up<std::int64_t>(divided_up<std::int64_t>(a.keys, tile_keys), 32);
  sizes.live_tiles = a.batch * a.heads * sizes.row_tiles * sizes.words * sizeof(std::uint32_t);
  return sizes;
}

inline LiveTiles make_live_tiles(const LazySizes& sizes, void* bits) {
  return {view(static_cast<std::uint32_t*>(bits),
               static_cast<std::int64_t>(sizes.live_tiles / sizeof(std::uint32_t))),
          static_cast<int>(sizes.row_tiles), static_cast<int>(sizes.words)};
}

}  // namespace lazy::LAZY_TARGET
