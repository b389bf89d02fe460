// Forward of one block of query rows, in two sweeps over its tiles of keys, from the diagonal
// outwards:
//
//   1  E = exp(S - reference)      into a strip [T][48]; its row sums; which tiles can be live
//   2  A = max(E scale + tau / n, 0)      O = A V      over the live tiles alone
//
// One sweep is not enough: whether a weight is positive depends on its whole row.

#include <omp.h>

#include <atomic>
#include <span>
#include <stdexcept>
#include <vector>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"
#include "reference/tiled_block.hpp"

namespace lazy::tiled {
namespace {

// What one thread needs: a head's keys and values, the scores of one block for all its keys.
template <class T>
struct Workspace {
  AlignedVector<T> keys, values;        // [tiles * 48, padded D]
  AlignedVector<T> strip;               // [tile][key][48]: S, then E, then A
  AlignedVector<T> query_rows, queries; // [48, padded D], and transposed
  AlignedVector<T> out;                 // [48, padded D]
  std::vector<char> live;               // [tiles]
  Index packed_head = -1;               // whose keys and values are there

  void reserve(const AttentionShape& s) {
    const std::size_t tiles = divide_up(s.keys, tile_keys), width = padded_dim<T>(s.head_dim);
    strip.resize(std::max(strip.size(), tiles * tile_size));
    live.resize(std::max(live.size(), tiles));
    for (auto* rows : {&keys, &values})
      rows->resize(std::max(rows->size(), tiles * tile_keys * width));
    for (auto* rows : {&query_rows, &queries, &out}) rows->resize(width * tile_keys);
    packed_head = -1;
  }
};

template <class T>
using RowSums = Vector<T>[query_vectors<T>];

template <class T>
bool any_positive(Vector<T> x) {
  bool any = false;
  for (int l = 0; l < lanes<T>; ++l) any |= x[l] > 0;
  return any;
}

// S of a tile to E, in place; adds to the row sums. Returns whether a weight may be positive: the
// sums only grow from here, so a weight that is not positive now never will be.
template <class T>
bool exponentials(const Block<T>& block, Index tile, T* strip, RowSums<T>& sums) {
  Vector<T> margin = {};
  for (Index v = 0; v < query_vectors<T>; ++v) {
    const Vector<T> reference = load(block.reference + v * lanes<T>);
    Vector<T> even = sums[v], odd = {}, largest = load(strip + v * lanes<T>);
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
    sums[v] = even + odd;
    // The slack covers the rounding of what P is computed from, which grows with the scores.
    const Vector<T> size = simd::max(reference, -reference);
    const Vector<T> slack = (32 + 4 * size) * std::numeric_limits<T>::epsilon();
    const Vector<T> largest_e = exponential<T>(largest, reference);
    margin = simd::max(largest_e + largest_e * slack + load(block.offset + v * lanes<T>) * sums[v],
                       margin);
  }
  return any_positive<T>(margin);
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
    lse[block.row_of_lane_0 + l] =
        block.reference[l] / T(std::numbers::log2e) + std::log(sums[l / lanes<T>][l % lanes<T>]);
  set_scale(head, block, lse);
}

// E of a tile to A, in place; hidden entries to 0.
template <class T>
void weigh_tile(const Block<T>& block, Index tile, T* strip) {
  for (Index v = 0; v < query_vectors<T>; ++v) {
    const Vector<T> scale = load(block.scale + v * lanes<T>);
    const Vector<T> offset = load(block.offset + v * lanes<T>);
    for (Index j = 0; j < block.seen_keys(tile, v); ++j) {
      T* at = strip + j * block_queries + v * lanes<T>;
      Vector<T> a = elastic_weight(probability<T>(load(at), scale), offset);
      if (tile == block.tile) a = where_visible<T>(v, j, a);
      store(at, a);
    }
  }
}

// Sweep 2: O = A V over the live tiles.
template <class T>
void value_sweep(const Head<T>& head, const Block<T>& block, Workspace<T>& ws) {
  const Index width = padded_dim<T>(head.D);
  std::fill(ws.out.begin(), ws.out.end(), T(0));
  for (Index tile = block.tile; tile >= 0; --tile) {
    if (!ws.live[tile]) continue;
    T* A = ws.strip.data() + tile * tile_size;
    weigh_tile(block, tile, A);
    accumulate_queries(block, tile, A, ws.values.data() + tile * tile_keys * width, ws.out.data(),
                       width);
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
  if (!is_exponential(rule.normalizer)) return oracle::attention_forward(s, rule, in, out);

  const BiasTables<T> bias(s, in.bias);
  static thread_local std::vector<Workspace<T>> workspaces;
  workspaces.resize(std::max<std::size_t>(workspaces.size(), omp_get_max_threads()));
  for (Workspace<T>& ws : workspaces) ws.reserve(s);
  const std::span<Workspace<T>> shared(workspaces);
  const Index blocks = divide_up(s.keys, tile_keys), D = s.head_dim;

  // Whole heads a task where there are enough of them: each is packed once.
  const Index tasks = s.batch * s.heads * blocks;
  const int chunk = int(std::clamp<Index>(tasks / (8 * omp_get_max_threads()), 1, std::max<Index>(1, blocks)));
#pragma omp parallel for schedule(dynamic, chunk)
  for (Index task = 0; task < tasks; ++task) {
    const Index b = task / blocks / s.heads, h = task / blocks % s.heads;
    const Index tile = blocks - 1 - task % blocks;  // the longest rows of a head first
    Workspace<T>& ws = shared[omp_get_thread_num()];
    const Head<T> head = make_head(s, rule, in, bias, b, h);
    if (tile < head.first_block() || tile >= head.end_block()) continue;
    if (const Index kv = b * s.kv_heads + h / (s.heads / s.kv_heads); ws.packed_head != kv) {
      const Index filled = head.end_block() * tile_keys;
      pack_rows(head.k, head.kv_pitch, D, 0, head.end_position(), filled, ws.keys.data());
      pack_rows(head.v, head.kv_pitch, D, 0, head.end_position(), filled, ws.values.data());
      ws.packed_head = kv;
    }
    Block<T> block = make_block(head, tile);
    pack_lanes(block, head.q, head.q_pitch, D, ws.query_rows.data());
    transpose_lanes(ws.query_rows.data(), padded_dim<T>(D), query_scale<T>(D), ws.queries.data());
    score_sweep(head, block, options.skip_dead_tiles, ws, out.lse + (b * s.heads + h) * s.queries);
    value_sweep(head, block, ws);
    for (Index l = block.first_lane; l < block.last_lane; ++l)
      std::copy_n(ws.out.data() + l * padded_dim<T>(D), D,
                  out.out + ((b * s.queries + block.row_of_lane_0 + l) * s.heads + h) * D);
  }
}

template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                const Options&);
template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                const Options&);

}  // namespace lazy::tiled
