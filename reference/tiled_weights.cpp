#include <stdexcept>
#include <string>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"
#include "reference/tiled_block.hpp"
#include "reference/tiled_rows.hpp"

namespace lazy::tiled {
namespace {

// A of the block's rows that lie in first_row .. last_row - 1, from the packed keys of its head: to
// weights [last_row - first_row, Tk].
template <class T>
void block_weights(const Head<T>& head, Block<T> block, const AlignedVector<T>& keys, const T* lse,
                   Index first_row, Index last_row, T* weights, Index Tk) {
  const Index D = head.D, width = padded_dim<T>(D);
  AlignedVector<T> rows(width * block_queries), queries(rows.size()), strip(tile_size);
  pack_lanes(block, head.q, head.q_pitch, D, rows.data());
  transpose_lanes(rows.data(), width, query_scale<T>(D), queries.data());
  for (Index tile = block.tile; tile >= 0; --tile) {
    score_tile(head, block, tile, keys.data(), queries.data(), strip.data());
    if (tile == block.tile) {
      set_reference(block, strip.data());
      set_scale(head, block, lse);
    }
    const auto weigh = [&]<bool diagonal>(std::bool_constant<diagonal>) {
      for (Index v = 0; v < query_vectors<T>; ++v) {
        const Weights<T, diagonal> of_block(block, v);
        for (Index j = 0; j < block.seen_keys(tile, v); ++j) {
          T* at = strip.data() + j * block_queries + v * lanes<T>;
          const Vector<T> e = exponential<T>(load(at), load(block.reference + v * lanes<T>));
          store(at, of_block.A(of_block.P(e), j));
        }
      }
    };
    tile == block.tile ? weigh(std::true_type()) : weigh(std::false_type());
    for (Index l = block.first_lane; l < block.last_lane; ++l) {
      const Index row = block.row_of_lane_0 + l;
      if (row < first_row || row >= last_row) continue;
      const Index visible = tile == block.tile ? l + 1 : tile_keys;
      for (Index j = 0; j < visible; ++j)
        weights[(row - first_row) * Tk + tile * tile_keys + j] = strip[j * block_queries + l];
    }
  }
}

}  // namespace

template <class T>
void attention_weights(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& forward, Index b,
                       Index h, Index first_row, Index rows, T* weights) {
  // The oracle checks the arguments, and answers for what is not computed in tiles.
  oracle::attention_weights(s, rule, in, b, h, first_row, rows, weights);
  if (rows == 0 || !is_tiled(s, rule, in)) return;
  if (!forward.lse) throw std::invalid_argument("attention: the forward's lse must not be null");
  std::vector<T> own_lse;
  const T* lse = lse_for_tiles(s, rule, in, forward.lse, own_lse) + (b * s.heads + h) * s.queries;
  bool finite = true;
  for (Index row = first_row; row < first_row + rows; ++row)
    finite =
        finite && (visible_keys(s, sequence_length(s, in, b), row) == 0 || std::isfinite(lse[row]));
  if (!finite) return;

  const BiasTables<T> bias(s, in.bias);
  const Head<T> head = make_head(s, rule, in, bias, b, h);
  const Index filled = head.end_block() * tile_keys;
  AlignedVector<T> keys(filled * padded_dim<T>(s.head_dim));
  pack_rows(head.k, head.kv_pitch, s.head_dim, 0, head.end_position(), filled, keys.data());
  for (Index tile = 0; tile < head.end_block(); ++tile) {
    if (!head.has_block(tile)) continue;
    const Block<T> block = make_block(head, tile);
    if (block.row_of_lane_0 + block.last_lane > first_row && block.first_row() < first_row + rows)
      block_weights(head, block, keys, lse, first_row, first_row + rows, weights, s.keys);
  }
}

template void attention_weights(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                Index, Index, Index, Index, float*);
template void attention_weights(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                Index, Index, Index, Index, double*);

}  // namespace lazy::tiled
