// Forward of one block of query rows, in two sweeps over its tiles of keys, from the diagonal
// outwards:
//
//   1  E = exp(S - reference)      into a strip [T][48]; its row sums; which tiles can be live
//   2  A = max(E scale + tau / n, 0)      O = A V      over the live tiles alone
//
// One sweep is not enough: whether a weight is positive depends on its whole row.

#include <stdexcept>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"
#include "reference/tiled_rows.hpp"
#include "reference/tiled_workspace.hpp"

namespace lazy::tiled {
namespace {

template <class T>
using RowSums = Vector<T>[query_vectors<T>];

// S of a tile to E, in place; adds to the row sums. Returns whether a weight may be positive: the
// sums only grow from here, so a weight that is not positive now never will be.
template <class T>
bool exponentials(const Block<T>& block, Index tile, T* strip, RowSums<T>& sums) {
  Vector<T> margin = {};
  for (Index v = 0; v < block.vectors(); ++v) {
    const Vector<T> reference = load(block.reference + v * lanes<T>);
    Vector<T> even = {}, odd = {}, largest = load(strip + v * lanes<T>);
    for (Index j = 0; j < block.seen_keys(tile, v); j += 2) {
      T* at = strip + j * block_queries + v * lanes<T>;
      const Vector<T> s0 = load(at), s1 = load(at + block_queries);
      const Vector<T> e0 = exponential<T>(s0, reference), e1 = exponential<T>(s1, reference);
      store(at, e0);
      store(at + block_queries, e1);
      even += e0;
      odd += e1;
      largest = simd::max(simd::max(s0, s1), largest);
    }
    sums[v] += even + odd;  // tile by tile: long sums would lose digits
    // Too far above the reference: an infinite sum hands the call to the oracle.
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const Vector<T> rise = largest - reference;
    sums[v] += rise > farthest_score<T> ? simd::broadcast(infinity) : Vector<T>{};
    // [dead tile]
    // The slack covers the rounding of what P is computed from, which grows with the scores.
    const Vector<T> size = simd::max(rise, simd::max(reference, -reference));
    const Vector<T> slack = (32 + 4 * size) * std::numeric_limits<T>::epsilon();
    const Vector<T> largest_e = exponential<T>(largest, reference);
    margin = simd::max(largest_e + largest_e * slack + load(block.offset + v * lanes<T>) * sums[v],
                       margin);
    // [dead tile]
  }
  return simd::any_positive<T>(margin);
}

// Sweep 1. Assigns lse [Tq] of the block's rows.
template <class T>
void score_sweep(const Head<T>& head, Block<T>& block, bool skip, Workspace<T>& ws, T* lse) {
  RowSums<T> sums = {};
  for (Index tile = block.tile; tile >= 0; --tile) {
    T* strip = ws.strip.data() + tile * tile_size;
    score_tile(head, block, tile, ws.keys.data(), ws.queries.data(), strip);
    if (tile == block.tile) set_reference(block, strip);
    const bool live = exponentials(block, tile, strip, sums);
    ws.live[tile] = live || !skip;
  }
  for (Index l = block.first_lane; l < block.last_lane; ++l)
    lse[block.row_of_lane_0 + l] = block.reference[l] + std::log(sums[l / lanes<T>][l % lanes<T>]);
  set_scale(head, block, lse);
}

// E of a tile to A, in place.
template <bool diagonal, class T>
void weigh_tile(const Block<T>& block, Index tile, T* strip) {
  for (Index v = 0; v < block.vectors(); ++v) {
    const Weights<T, diagonal> weights(block, v);
    for (Index j = 0; j < block.seen_keys(tile, v); ++j) {
      T* at = strip + j * block_queries + v * lanes<T>;
      store(at, weights.A(weights.P(load(at)), j));
    }
  }
}

template <class T>
Index count_nonzero(const Block<T>& block, Index tile, const T* A) {
  Index count = 0;
  for (Index j = 0; j < block.keys(tile); ++j)
    for (Index l = tile == block.tile ? j : 0; l < block.last_lane; ++l)
      count += A[j * block_queries + l] != 0;
  return count;
}

// Sweep 2: O = A V over the live tiles. Adds to `counts` if it is given.
template <class T>
void value_sweep(const Head<T>& head, const Block<T>& block, Workspace<T>& ws, TileCounts* counts) {
  const Index width = padded_dim<T>(head.D);
  std::fill_n(ws.rows.begin(), block_queries * width, T(0));
  for (Index tile = block.tile; tile >= 0; --tile) {
    if (!ws.live[tile]) continue;
    T* A = ws.strip.data() + tile * tile_size;
    if (tile == block.tile)
      weigh_tile<true>(block, tile, A);
    else
      weigh_tile<false>(block, tile, A);
    accumulate_queries(block, tile, A, ws.values.data() + tile * tile_keys * width, ws.rows.data(),
                       width);
    if (!counts) continue;
    ++counts->live_tiles;
    counts->live_entries += count_nonzero(block, tile, A);
  }
  if (!counts) return;
  counts->tiles += block.tile + 1;
  for (Index l = block.first_lane; l < block.last_lane; ++l)
    counts->entries += block.position(l) + 1;
}

// Copies the block's output; returns whether it and lse are finite.
template <class T>
bool write_rows(const Head<T>& head, const Block<T>& block, const Workspace<T>& ws, const T* lse,
                T* out) {
  T poison = 0;  // x * 0 is NaN where x is not finite
  for (Index l = block.first_lane; l < block.last_lane; ++l) {
    const T* from = ws.rows.data() + l * padded_dim<T>(head.D);
    T* to = out + (block.row_of_lane_0 + l) * head.q_pitch;
#pragma omp simd reduction(+ : poison)
    for (Index d = 0; d < head.D; ++d) {
      to[d] = from[d];
      poison += from[d] * 0;
    }
    poison += lse[block.row_of_lane_0 + l] * 0;
  }
  return poison == 0;
}

template <class T>
void prepare(const Head<T>& head, const Block<T>& block, Index kv_head, Workspace<T>& ws) {
  const Index D = head.D, filled = head.end_block() * tile_keys;
  if (ws.packed_head != kv_head) {
    pack_rows(head.k, head.kv_pitch, D, 0, head.end_position(), filled, ws.keys.data());
    pack_rows(head.v, head.kv_pitch, D, 0, head.end_position(), filled, ws.values.data());
    ws.packed_head = kv_head;
  }
  pack_lanes(block, head.q, head.q_pitch, D, ws.query_rows.data());
  transpose_lanes(ws.query_rows.data(), padded_dim<T>(D), query_scale<T>(D), ws.queries.data());
}

// Rows without a key: out 0, lse -inf.
template <class T>
void write_empty_rows(const AttentionShape& s, const AttentionInputs<T>& in,
                      const AttentionOutputs<T>& out) {
  for (Index b = 0; b < s.batch; ++b)
    for (Index row = 0; row < s.queries; ++row) {
      if (visible_keys(s, sequence_length(s, in, b), row) > 0) continue;
      std::fill_n(out.out + (b * s.queries + row) * s.heads * s.head_dim, s.heads * s.head_dim,
                  T(0));
      for (Index h = 0; h < s.heads; ++h)
        out.lse[(b * s.heads + h) * s.queries + row] = -std::numeric_limits<T>::infinity();
    }
}

}  // namespace

template <class T>
void attention_forward(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& out,
                       const Options& options) {
  validate(s, rule, in);
  if (s.batch * s.queries > 0 && (!out.out || !out.lse))
    throw std::invalid_argument("attention: out and lse must not be null");
  if (options.counts) *options.counts = {};
  if (!is_tiled(s, rule, in)) return oracle::attention_forward(s, rule, in, out);
  write_empty_rows(s, in, out);
  if (attends_rows<T>(s) && !options.counts) {
    if (!attend_rows(s, rule, in, out)) oracle::attention_forward(s, rule, in, out);
    return;
  }

  const BiasTables<T> bias(s, in.bias);
  const std::span<Workspace<T>> team = team_workspaces<T>();
  for (Workspace<T>& ws : team) ws.reserve_forward(s);
  const Index blocks = divide_up(s.keys, tile_keys), tasks = s.batch * s.heads * blocks;
  // Whole heads a task where there are enough of them: each is packed once.
  const Index share = tasks / (8 * omp_get_max_threads());
  const int chunk = int(std::clamp<Index>(share, 1, std::max<Index>(1, blocks)));
  Index tiles = 0, live_tiles = 0, entries = 0, live_entries = 0;
  bool finite = true;

#pragma omp parallel for schedule(dynamic, chunk) \
    reduction(+ : tiles, live_tiles, entries, live_entries) reduction(&& : finite)
  for (Index task = 0; task < tasks; ++task) {
    const Index b = task / blocks / s.heads, h = task / blocks % s.heads;
    const Index tile = blocks - 1 - task % blocks;  // the longest rows of a head first
    const Head<T> head = make_head(s, rule, in, bias, b, h);
    if (!head.has_block(tile)) continue;
    Workspace<T>& ws = team[omp_get_thread_num()];
    T* lse = out.lse + (b * s.heads + h) * s.queries;
    TileCounts counts;
    Block<T> block = make_block(head, tile);
    prepare(head, block, b * s.kv_heads + h / (s.heads / s.kv_heads), ws);
    score_sweep(head, block, options.skip_dead_tiles, ws, lse);
    value_sweep(head, block, ws, options.counts ? &counts : nullptr);
    finite =
        write_rows(head, block, ws, lse, out.out + (b * s.queries * s.heads + h) * s.head_dim) &&
        finite;
    tiles += counts.tiles;
    live_tiles += counts.live_tiles;
    entries += counts.entries;
    live_entries += counts.live_entries;
  }
  if (options.counts) *options.counts = {tiles, live_tiles, entries, live_entries};
  // NaN and infinities, in the inputs or from overflow: the oracle says what each row makes of
  // them.
  if (!finite) oracle::attention_forward(s, rule, in, out);
}

template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                const Options&);
template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                const Options&);

}  // namespace lazy::tiled
