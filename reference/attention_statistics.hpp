#pragma once
// The statistics of every row of attention, from weights that come in blocks of rows.

#include <algorithm>
#include <vector>

#include "reference/diagnostics.hpp"

namespace lazy {

/// rows [B, H, Tq] and live_tiles [B, H, Tq, tile_words(Tk)] are assigned. `weights_of`(b, head,
/// first row, count, to) assigns weights [count, Tk] of type T; it is called from several threads,
/// each of which holds no more than `tile_side` rows. `lengths` [B] null: all keys are valid.
template <class T, class WeightsOf>
void attention_statistics(const AttentionShape& s, const Index* lengths, WeightsOf weights_of,
                          RowStatistics* rows, std::uint32_t* live_tiles) {
  const Index blocks = (s.queries + tile_side - 1) / tile_side, words = tile_words(s.keys);
#pragma omp parallel for schedule(dynamic)
  for (Index n = 0; n < s.batch * s.heads * blocks; ++n) {
    const Index matrix = n / blocks, b = matrix / s.heads, first = n % blocks * tile_side;
    const Index count = std::min(tile_side, s.queries - first);
    const Index length = lengths ? lengths[b] : s.keys;
    std::vector<T> weights(count * s.keys);
    weights_of(b, matrix % s.heads, first, count, weights.data());
    for (Index r = 0; r < count; ++r) {
      const Index row = matrix * s.queries + first + r,
                  visible = visible_keys(s, length, first + r);
      rows[row] = row_statistics(std::span<const T>(weights.data() + r * s.keys, visible),
                                 {live_tiles + row * words, std::size_t(words)});
    }
  }
}

}  // namespace lazy
