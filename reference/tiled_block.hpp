#pragma once
// What the sweeps of the tiled path share: one head, one block of its query rows, and the scores
// and probabilities of that block, tile of keys by tile of keys.
//
// Vector lanes are queries: a tile of scores is stored as [key][query], so that maxima, sums,
// offsets and gradients of a row are vectors too, and nothing is ever summed across lanes.

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "reference/aligned.hpp"
#include "reference/elastic.hpp"
#include "reference/register_tile.hpp"

namespace lazy::tiled {

using simd::lanes, simd::load, simd::store, simd::Vector;

// 48 is a multiple of the register tile's 6 rows and of every build's vectors.
inline constexpr Index tile_keys = 48, block_queries = 48, tile_size = tile_keys * block_queries;
template <class T>
inline constexpr int query_vectors = block_queries / lanes<T>;
// Backward tells live from dead by vectors of queries and groups of keys, as many as a register
// tile has rows.
inline constexpr Index tile_groups = tile_keys / tile_rows;
/// One group's vectors with a live entry, a bit each.
using LiveVectors = std::uint32_t;

template <class T>
Index padded_dim(Index D) {  // of a row that vectors cross
  return divide_up(D, lanes<T>) * lanes<T>;
}

/// One query head of one sequence.
template <class T>
struct Head {
  const T *q, *k, *v;       // first row of this head; rows are q_pitch, kv_pitch apart
  Index q_pitch, kv_pitch;  // H * D, Hkv * D
  Index D, W;
  const T* bias;              // at distance 0 (see BiasTables)
  T tau;                      // 0 for the softmax rules
  T extra_score;              // one more score in the sum: -inf, 0 (softmax1) or c (sink)
  Index first_row, last_row;  // rows first_row .. last_row - 1 see a key;
  Index first_position;       // the first of them stands here
  T tau_length;               // what tau is divided by, or 0 for the number of visible keys

  /// What tau is divided by for the row at `position`.
  T divisor(Index position) const { return tau_length > 0 ? tau_length : T(position + 1); }
  Index end_position() const { return first_position + last_row - first_row; }
  bool has_extra_score() const { return extra_score > -std::numeric_limits<T>::infinity(); }
  bool has_block(Index tile) const {
    return first_row < last_row && tile >= first_block() && tile < end_block();
  }
  /// Blocks first_block() .. end_block() - 1 hold the rows.
  Index first_block() const { return first_position / tile_keys; }
  Index end_block() const { return divide_up(end_position(), tile_keys); }
};

/// The query rows at the positions of one tile of keys: up to 48, one a lane. The first and last
/// block of a head may be shorter; lanes without a row hold zero queries and weigh nothing.
template <class T>
struct Block {
  Index tile;                   // its diagonal tile; lane l stands at position tile * 48 + l
  Index first_lane, last_lane;  // lanes first_lane .. last_lane - 1 hold rows
  Index row_of_lane_0;          // may be negative
  alignas(64) T offset[block_queries];     // tau / n
  alignas(64) T reference[block_queries];  // the largest score of the diagonal tile
  alignas(64) T scale[block_queries];      // 2^(reference - lse)

  bool holds(Index lane) const { return lane >= first_lane && lane < last_lane; }
  Index rows() const { return last_lane - first_lane; }
  /// Vectors of queries, from lane 0, that are worth computing.
  Index vectors() const { return divide_up(last_lane, lanes<T>); }
  Index first_row() const { return row_of_lane_0 + first_lane; }
  Index position(Index lane) const { return tile * tile_keys + lane; }
  /// Keys of tile `t` that a row of the block sees, and the same in full register tiles.
  Index keys(Index t) const { return t == tile ? last_lane : tile_keys; }
  Index scored_keys(Index t) const { return divide_up(keys(t), tile_rows) * tile_rows; }
  /// The first vector of queries that sees a key of j's register tile in tile `t`.
  Index first_vector(Index t, Index j) const {
    return t == tile ? j / tile_rows * tile_rows / lanes<T> : 0;
  }
  /// Keys of tile `t`, in full register tiles, that the v-th vector of queries sees.
  Index seen_keys(Index t, Index v) const {
    const Index seen = divide_up((v + 1) * lanes<T>, tile_rows) * tile_rows;
    return std::min(scored_keys(t), t == tile ? seen : tile_keys);
  }
};

/// Rows first .. last - 1 of one head as whole vectors, without gaps: to[r] = x[r], [filled, padded
/// D], zeros in the other rows and beyond D. In x they lie H * D apart, a power of two as a rule,
/// and would share a fraction of the cache.
template <class T>
void pack_rows(const T* x, Index pitch, Index D, Index first, Index last, Index filled, T* to) {
  const Index width = padded_dim<T>(D);
  std::fill_n(to, first * width, T(0));
  for (Index r = first; r < last; ++r) {
    Index d = 0;
    for (; d + lanes<T> <= D; d += lanes<T>) store(to + r * width + d, load(x + r * pitch + d));
    for (; d < width; ++d) to[r * width + d] = d < D ? x[r * pitch + d] : T(0);
  }
  std::fill_n(to + last * width, (filled - last) * width, T(0));
}

/// A block's rows of one head's x: to [48, padded D], zeros in lanes without a row.
template <class T>
void pack_lanes(const Block<T>& block, const T* x, Index pitch, Index D, T* to) {
  pack_rows(x + block.row_of_lane_0 * pitch, pitch, D, block.first_lane, block.last_lane,
            block_queries, to);
}

/// to [width][48] = scale * transpose of rows [48][width].
template <class T>
void transpose_lanes(const T* rows, Index width, T scale, T* to) {
  constexpr Index L = lanes<T>;
  for (Index lane = 0; lane < block_queries; lane += L)
    for (Index d = 0; d < width; d += L) {
      Vector<T> square[L];
      for (Index i = 0; i < L; ++i) square[i] = scale * load(rows + (lane + i) * width + d);
      simd::transpose<T>(square);
      for (Index i = 0; i < L; ++i) store(to + (d + i) * block_queries + lane, square[i]);
    }
}

/// The block of the rows at the positions of `tile`.
template <class T>
Block<T> make_block(const Head<T>& head, Index tile) {
  const Index lane_of_first = head.first_position - tile * tile_keys;
  Block<T> block;
  block.tile = tile;
  block.first_lane = std::max<Index>(0, lane_of_first);
  block.last_lane = std::min(tile_keys, lane_of_first + head.last_row - head.first_row);
  block.row_of_lane_0 = head.first_row - lane_of_first;
  for (Index l = 0; l < block_queries; ++l)
    block.offset[l] = block.holds(l) ? head.tau / head.divisor(block.position(l)) : T(-1);
  return block;
}

/// What queries are multiplied with.
template <class T>
T query_scale(Index D) {
  return T(1 / std::sqrt(double(D)));
}

/// X [keys][48] = Y Z for the rows of Y of one tile [48, width] and Z [width][48]: scores from keys
/// and queries, dA from values and dO. Adds table[lane - j] to X[j][lane] unless `table` is null.
/// A vector of queries that sees none of its key is left out.
template <class T>
void multiply_tile(const Block<T>& block, Index tile, Index D, const T* Y, const T* Z,
                   const T* table, T* X) {
  const Index width = padded_dim<T>(D);
  for (Index j = 0; j < block.keys(tile); j += tile_rows) {
    const Index first = block.first_vector(tile, j) * lanes<T>;
    register_tiles(Y + j * width, width, 1, Z + first, block_queries, D,
                   block.vectors() - first / lanes<T>, [=](int r, Index v, Vector<T> x) {
                     const Index lane = first + v * lanes<T>;
                     if (table) x += load(table + lane - (j + r));
                     store(X + (j + r) * block_queries + lane, x);
                   });
  }
}

/// Scores of a tile: strip [keys][48], hidden entries -inf.
template <class T>
void score_tile(const Head<T>& head, const Block<T>& block, Index tile, const T* keys,
                const T* queries, T* strip) {
  const Index distance_0 = (block.tile - tile) * tile_keys;
  const bool biased = distance_0 - (tile_keys - 1) < head.W || tile == block.tile;
  multiply_tile(block, tile, head.D, keys + tile * tile_keys * padded_dim<T>(head.D), queries,
                biased ? head.bias + distance_0 : nullptr, strip);
}

/// exp(S - reference) of a tile's scores, where S may be anything but the block's diagonal tile has
/// been seen: the factor of P that does not need the whole row.
template <class T>
[[gnu::always_inline]] inline Vector<T> exponential(Vector<T> score, Vector<T> reference) {
  return simd::exp<T>(score - reference);
}

/// How far a score may lie above its row's reference: half of what e^x can span.
template <class T>
inline constexpr T farthest_score = T(std::numeric_limits<T>::max_exponent / 2 * std::numbers::ln2);

/// A row's reference, any score near its largest, so that exp(S - reference) neither overflows nor
/// vanishes: the largest of the diagonal tile, which every row sees. `strip` are its scores.
template <class T>
void set_reference(Block<T>& block, const T* strip) {
  for (Index v = 0; v < block.vectors(); ++v) {
    const T* s = strip + v * lanes<T>;
    Vector<T> largest = load(s);
    for (Index j = 1; j < block.seen_keys(block.tile, v); ++j)
      largest = simd::max(load(s + j * block_queries), largest);
    store(block.reference + v * lanes<T>, largest);
  }
  for (Index l = 0; l < block_queries; ++l)  // lanes without a row weigh nothing, whatever the bias
    if (!block.holds(l)) block.reference[l] = std::numeric_limits<T>::max();
}

/// exp(a) / (exp(a) + exp(b)), b = -inf allowed: what is left to scores of log-sum-exp `a` beside
/// one more score `b`.
template <class T>
T share(T a, T b) {
  return b == -std::numeric_limits<T>::infinity() ? T(1) : 1 / (1 + std::exp(b - a));
}

/// What turns exp(S - reference) into P, from the log-sum-exp [Tq]. Never inlined: forward and
/// backward get the same bits from it, so that their live sets are the same. The log-sum-exp of a
/// single key is its score, whoever computed it: its P is 1. A row whose scores rise too far above
/// their reference, for which the oracle has answered, refers to its log-sum-exp.
template <class T>
[[gnu::noinline]] void set_scale(const Head<T>& head, Block<T>& block, const T* lse) {
  alignas(64) T row_lse[block_queries], keys_share[block_queries] = {};
  std::fill_n(row_lse, block_queries, std::numeric_limits<T>::infinity());
  for (Index l = block.first_lane; l < block.last_lane; ++l) {
    T& reference = block.reference[l];
    row_lse[l] = block.position(l) == 0 ? reference : lse[block.row_of_lane_0 + l];
    if (row_lse[l] - reference > T(1.8) * farthest_score<T>) reference = row_lse[l];
    keys_share[l] = share(row_lse[l], head.extra_score);
  }
  for (Index v = 0; v < block_queries; v += lanes<T>)
    store(block.scale + v,
          exponential<T>(load(block.reference + v), load(row_lse + v)) * load(keys_share + v));
}

/// P and A of the v-th vector of queries at one key of `tile`, from exp(S - reference). P is at
/// most 1; without that bound the compiler would fuse the product with the offset where nothing
/// lies between them, and the gates of forward and backward would differ in a last bit. In the
/// diagonal tile A is 0 where the key is hidden; P is 0 there anyway.
template <class T, bool diagonal>
struct Weights {
  Vector<T> scale, offset, lane;

  Weights(const Block<T>& block, Index v)
      : scale(load(block.scale + v * lanes<T>)),
        offset(load(block.offset + v * lanes<T>)),
        lane(simd::lane_numbers<T>() + T(v * lanes<T>)) {}

  // [P at most 1]
  Vector<T> P(Vector<T> exponential) const {
    return simd::min(exponential * scale, simd::broadcast(T(1)));
  }
  // [P at most 1]
  Vector<T> A(Vector<T> P, Index j) const {
    const Vector<T> a = elastic_weight(P, offset);
    if constexpr (diagonal) return lane >= simd::broadcast(T(j)) ? a : Vector<T>{};
    return a;
  }
};

/// C[lane] += sum_j X[j][lane] Y[j] over the keys of a tile, for X [keys][48] that is 0 where
/// hidden, Y [keys, width], C [48, width]: what a block's rows gather.
template <class T>
void accumulate_queries(const Block<T>& block, Index tile, const T* X, const T* Y, T* C,
                        Index width) {
  for (Index l = block.first_lane / tile_rows * tile_rows; l < block.last_lane; l += tile_rows) {
    const Index seen = std::min(block.keys(tile), tile == block.tile ? l + tile_rows : tile_keys);
    accumulate_tiles(X + l, 1, block_queries, Y, width, seen, C + l * width, width,
                     width / lanes<T>);
  }
}

/// C[j] += sum_lane X[j][lane] Y[lane], Y [48, width], C [keys, width]: what a tile's keys gather.
template <class T>
void accumulate_keys(const Block<T>& block, Index tile, const T* X, const T* Y, T* C, Index width) {
  for (Index j = 0; j < block.keys(tile); j += tile_rows) {
    const Index first = std::max(block.first_lane, tile == block.tile ? j : Index(0));
    accumulate_tiles(X + j * block_queries + first, block_queries, 1, Y + first * width, width,
                     block.last_lane - first, C + j * width, width, width / lanes<T>);
  }
}

/// Whether the rule is an exponential and an offset, as the tiled path computes it.
inline bool is_exponential(Normalizer rule) {
  return rule == Normalizer::elastic || rule == Normalizer::softmax ||
         rule == Normalizer::softmax1 || rule == Normalizer::sink;
}

/// Whether forward may compute in tiles. Beside the rule that asks for a finite tau or sink: one
/// that is not leaves no trace in lse, by which the tiles notice everything else.
template <class T>
bool is_tiled(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in) {
  const T* x = rule.normalizer == Normalizer::elastic ? in.tau
               : rule.normalizer == Normalizer::sink  ? in.sink
                                                      : nullptr;
  const auto finite = [](T value) { return std::isfinite(value); };
  return is_exponential(rule.normalizer) && (!x || std::all_of(x, x + s.heads, finite));
}

/// The bias of every head, [H] tables of `pitch` entries. As far as a tile may reach,
/// there is 0 beyond the window and -inf at negative distances: the causal mask.
template <class T>
struct BiasTables {
  T* entries;  // in memory that the calling thread keeps: one BiasTables at a time
  Index pitch;

  BiasTables(const AttentionShape& s, const T* bias) : pitch(table_size(s.window)) {
    static thread_local AlignedVector<T> kept;
    if (Index(kept.size()) < s.heads * pitch) kept.resize(s.heads * pitch);
    entries = kept.data();
    for (Index h = 0; h < s.heads; ++h) {
      T* table = entries + h * pitch;
      std::fill_n(table, margin, -std::numeric_limits<T>::infinity());
      std::copy_n(bias + h * s.window, s.window, table + margin);
      std::fill_n(table + margin + s.window, margin, T(0));
    }
  }
  const T* at_distance_0(Index head) const { return entries + head * pitch + margin; }

  static constexpr Index margin = 2 * tile_keys;
  static Index table_size(Index window) { return window + 2 * margin; }
};

template <class T>
Head<T> make_head(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in,
                  const BiasTables<T>& bias, Index b, Index h) {
  const Index kv_head = h / (s.heads / s.kv_heads), D = s.head_dim;
  const Index length = sequence_length(s, in, b), position_of_row_0 = query_position(s, length, 0);
  const Index first_row = std::clamp<Index>(-position_of_row_0, 0, s.queries);
  return {.q = in.q + (b * s.queries * s.heads + h) * D,
          .k = in.k + (b * s.keys * s.kv_heads + kv_head) * D,
          .v = in.v + (b * s.keys * s.kv_heads + kv_head) * D,
          .q_pitch = s.heads * D,
          .kv_pitch = s.kv_heads * D,
          .D = D,
          .W = s.window,
          .bias = bias.at_distance_0(h),
          .tau = rule.normalizer == Normalizer::elastic ? in.tau[h] : T(0),
          .extra_score = rule.normalizer == Normalizer::softmax1 ? T(0)
                         : rule.normalizer == Normalizer::sink
                             ? in.sink[h]
                             : -std::numeric_limits<T>::infinity(),
          .first_row = first_row,
          .last_row = std::max(first_row, std::min(s.queries, length - position_of_row_0)),
          .first_position = position_of_row_0 + first_row,
          .tau_length = rule.divisor == Divisor::length ? T(length) : T(0)};
}

}  // namespace lazy::tiled
