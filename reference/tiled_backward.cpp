// Backward of one block of query rows, over the same tiles as forward:
//
//   dA = dO V^T where A > 0, else 0      delta_i = sum_j P_ij dA_ij      dtau = sum_ij dA_ij / n_i
//   dS = P (dA - delta)                  on dead entries too: -P delta
//   dV = A^T dO      dQ = dS K / sqrt(D)      dK = dS^T Q / sqrt(D)      db[i - j] = sum dS_ij
//
// A row's delta needs the whole row, so P and dA of a block are kept for all its keys: two strips,
// O(T) memory. A dead tile owes three products of the five: its scores, and its parts of dQ and dK.
// Beyond the window, where it owes the bias nothing, its dS is not formed: delta is a factor of the
// row, which P K may be given at the end, and Q before.

#include <bit>
#include <stdexcept>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"
#include "reference/tiled_rows.hpp"
#include "reference/tiled_workspace.hpp"

namespace lazy::tiled {
namespace {

// to[r] += scale * from[r] for `rows` rows of D entries.
template <class T>
void add_rows(const T* from, Index from_pitch, Index rows, Index D, T scale, T* to,
              Index to_pitch) {
  for (Index r = 0; r < rows; ++r) {
    const T* source = from + r * from_pitch;
    T* target = to + r * to_pitch;
#pragma omp simd
    for (Index d = 0; d < D; ++d) target[d] += scale * source[d];
  }
}

// to[l] = -delta[l] * from[l] for the rows of a block, of `width` entries.
template <class T>
void scale_rows(const T* delta, const T* from, Index width, T* to) {
  for (Index l = 0; l < block_queries; ++l) {
    const T scale = -delta[l];
#pragma omp simd
    for (Index d = 0; d < width; ++d) to[l * width + d] = scale * from[l * width + d];
  }
}

template <class T>
struct RowSums {
  Vector<T> delta[query_vectors<T>] = {}, live_dA[query_vectors<T>] = {};
  Vector<T> mass[query_vectors<T>] = {};  // sum of P, where there is an extra score
};

// Terms of all rows, which cancel: summed in double.
struct HeadSums {
  double dtau = 0, dsink = 0;
};

// Scores of a tile to P, in place. Assigns which vectors of its groups hold a live entry of A.
template <bool diagonal, class T>
void probabilities(const Block<T>& block, Index tile, T* strip, LiveVectors* live) {
  std::fill_n(live, tile_groups, 0);
  for (Index v = 0; v < block.vectors(); ++v) {
    const Weights<T, diagonal> weights(block, v);
    const Vector<T> reference = load(block.reference + v * lanes<T>);
    const Index seen_groups = block.seen_keys(tile, v) / tile_rows;
    for (Index group = 0; group < seen_groups; ++group) {
      Vector<T> largest = {};
#pragma GCC unroll 8
      for (int r = 0; r < tile_rows; ++r) {
        T* at = strip + (group * tile_rows + r) * block_queries + v * lanes<T>;
        const Vector<T> p = weights.P(exponential<T>(load(at), reference));
        store(at, p);
        largest = simd::max(p, largest);
      }
      live[group] |= LiveVectors(simd::any_positive<T>(elastic_weight(largest, weights.offset)))
                     << v;
    }
  }
}

template <class T>
void call_everything_live(const Block<T>& block, Index tile, LiveVectors* live) {
  for (Index j = 0; j < block.keys(tile); j += tile_rows)
    live[j / tile_rows] =
        (LiveVectors(1) << block.vectors()) - (LiveVectors(1) << block.first_vector(tile, j));
}

// A and dA of the live vectors of one group of keys, from key j of a tile, in three steps: dA, then
// A, the row sums and dV.
template <bool diagonal, class T>
void weight_gradients(const Head<T>& head, const Block<T>& block, Index tile, Index j,
                      LiveVectors live, Workspace<T>& ws, RowSums<T>& sums) {
  const Index width = padded_dim<T>(head.D), key = tile * tile_keys + j;
  const Index first = std::countr_zero(live), last = std::bit_width(live);
  const T* P = ws.strip.data() + key * block_queries;
  T *A = ws.A.data(), *dA = ws.dA.data() + key * block_queries;
  register_tiles(ws.values.data() + key * width, width, 1, ws.douts.data() + first * lanes<T>,
                 block_queries, head.D, last - first, [=](int r, Index v, Vector<T> x) {
                   store(dA + r * block_queries + (first + v) * lanes<T>, x);
                 });
  for (Index v = first; v < last; ++v) {
    const Weights<T, diagonal> weights(block, v);
    Vector<T> delta = sums.delta[v], live_dA = sums.live_dA[v];
#pragma GCC unroll 8
    for (int r = 0; r < tile_rows; ++r) {
      const Index at = r * block_queries + v * lanes<T>;
      const Vector<T> p = load(P + at), a = weights.A(p, j + r);
      const Vector<T> da = where_live<Vector<T>>(a, load(dA + at));
      store(A + at, a);
      store(dA + at, da);
      delta += p * da;
      live_dA += da;
    }
    sums.delta[v] = delta;
    sums.live_dA[v] = live_dA;
  }
  const Index first_lane = std::max({block.first_lane, first * lanes<T>, diagonal ? j : Index(0)});
  const Index last_lane = std::min(block.last_lane, last * lanes<T>);
  accumulate_tiles(A + first_lane, block_queries, 1, ws.dout_rows.data() + first_lane * width,
                   width, last_lane - first_lane, ws.dV.data() + key * width, width,
                   width / lanes<T>);
}

// Adds P of a tile to the rows' masses.
template <class T>
void add_masses(const Block<T>& block, Index tile, const T* P, RowSums<T>& sums) {
  for (Index v = 0; v < block.vectors(); ++v) {
    Vector<T> of_tile = {};
    for (Index j = 0; j < block.seen_keys(tile, v); ++j)
      of_tile += load(P + j * block_queries + v * lanes<T>);
    sums.mass[v] += of_tile;
  }
}

// Of one row: minus the extra score's share times delta. The rounding of lse is a factor of every
// P; it is known from their sum, which should be share(lse, extra score).
template <class T>
double sink_gradient(T extra_score, T lse, T mass, T delta) {
  const T keys_share = share(lse, extra_score);
  const double factor = mass > 0 && keys_share > 0 ? double(mass) / double(keys_share) : 1;
  return -double(delta) / factor / (1 + std::exp(double(lse) - double(extra_score)) * factor);
}

// The first tile of which the bias reaches any entry. At W = 0 the diagonal tile counts as one.
template <class T>
Index first_biased_tile(const Head<T>& head, const Block<T>& block) {
  return std::max<Index>(0, block.tile + 1 - divide_up(head.W + tile_keys - 1, tile_keys));
}

// P of a tile becomes dS = P (dA - delta), where dA is 0 unless `live`; adds it to the bias
// gradient, diagonal by diagonal.
template <class T>
void score_gradients(const Head<T>& head, const Block<T>& block, Index tile,
                     const LiveVectors* live, Workspace<T>& ws, const RowSums<T>& sums) {
  T* P = ws.strip.data() + tile * tile_size;
  const T* dA = ws.dA.data() + tile * tile_size;
  const Index distance_0 = (block.tile - tile) * tile_keys;
  for (Index v = 0; v < block.vectors(); ++v) {
    const Vector<T> delta = sums.delta[v];
    const Index seen_groups = block.seen_keys(tile, v) / tile_rows;
    for (Index group = 0; group < seen_groups; ++group) {
      const Index first = group * tile_rows * block_queries + v * lanes<T>;
      const bool is_live = v >= std::countr_zero(live[group]) && v < std::bit_width(live[group]);
#pragma GCC unroll 8
      for (int r = 0; r < tile_rows; ++r) {
        const Index at = first + r * block_queries;
        // [dead tile backward]
        const Vector<T> da = is_live ? load(dA + at) : Vector<T>{};
        store(P + at, load(P + at) * (da - delta));
        // [dead tile backward]
      }
    }
  }
  if (tile < first_biased_tile(head, block)) return;
  const Index table = BiasTables<T>::table_size(head.W);
  for (Index j = 0; j < block.scored_keys(tile); ++j) {
    T* dbias = ws.dbias.data() + j % bias_copies * table + BiasTables<T>::margin + distance_0 - j;
    for (Index v = block.first_vector(tile, j); v < block.vectors(); ++v) {
      T* to = dbias + v * lanes<T>;
      store(to, load(to) + load(P + j * block_queries + v * lanes<T>));
    }
  }
}

// One block of query rows, given the log-sum-exp [Tq] and dout of its head. dQ is left in ws.rows,
// the rest is added to the sums.
template <class T>
void backward_block(const Head<T>& head, Block<T> block, const T* lse, const T* dout, bool skip,
                    Workspace<T>& ws, HeadSums& head_sums) {
  const Index D = head.D, width = padded_dim<T>(D);
  pack_lanes(block, head.q, head.q_pitch, D, ws.query_rows.data());
  pack_lanes(block, dout, head.q_pitch, D, ws.dout_rows.data());
  transpose_lanes(ws.query_rows.data(), width, query_scale<T>(D), ws.queries.data());
  transpose_lanes(ws.dout_rows.data(), width, T(1), ws.douts.data());

  RowSums<T> sums;
  for (Index tile = block.tile; tile >= 0; --tile) {
    const bool on_diagonal = tile == block.tile;
    T* P = ws.strip.data() + tile * tile_size;
    score_tile(head, block, tile, ws.keys.data(), ws.queries.data(), P);
    if (on_diagonal) {
      set_reference(block, P);
      set_scale(head, block, lse);
    }
    LiveVectors* live = ws.live_vectors.data() + tile * tile_groups;
    on_diagonal ? probabilities<true>(block, tile, P, live)
                : probabilities<false>(block, tile, P, live);
    if (head.has_extra_score()) add_masses(block, tile, P, sums);
    ws.live[tile] = std::any_of(live, live + tile_groups, [](LiveVectors x) { return x != 0; });
    if (!skip)
      call_everything_live(block, tile, live);
    else if (!ws.live[tile])
      continue;
    RowSums<T> of_tile;  // added tile by tile: long sums would lose digits
    for (Index group = 0; group < tile_groups; ++group) {
      const Index j = group * tile_rows;
      if (live[group] == 0) continue;
      if (on_diagonal)
        weight_gradients<true>(head, block, tile, j, live[group], ws, of_tile);
      else
        weight_gradients<false>(head, block, tile, j, live[group], ws, of_tile);
    }
    for (Index v = 0; v < query_vectors<T>; ++v) {
      sums.delta[v] += of_tile.delta[v];
      sums.live_dA[v] += of_tile.live_dA[v];
    }
  }

  std::fill_n(ws.rows.begin(), block_queries * width, T(0));
  // Adds X K to the block's rows and X^T Y to dK.
  const auto accumulate = [&](Index tile, const T* Y) {
    const T* X = ws.strip.data() + tile * tile_size;
    accumulate_queries(block, tile, X, ws.keys.data() + tile * tile_keys * width, ws.rows.data(),
                       width);
    accumulate_keys(block, tile, X, Y, ws.dK.data() + tile * tile_keys * width, width);
  };
  // [dead tiles beyond the window]
  const Index in_window = first_biased_tile(head, block);
  alignas(64) T delta[block_queries];
  for (Index v = 0; v < query_vectors<T>; ++v) store(delta + v * lanes<T>, sums.delta[v]);
  scale_rows(delta, ws.query_rows.data(), width, ws.delta_queries.data());
  for (Index tile = 0; tile < in_window; ++tile)
    if (!ws.live[tile]) accumulate(tile, ws.delta_queries.data());
  scale_rows(delta, ws.rows.data(), width, ws.rows.data());
  // [dead tiles beyond the window]
  for (Index tile = 0; tile <= block.tile; ++tile) {
    if (tile < in_window && !ws.live[tile]) continue;
    score_gradients(head, block, tile, ws.live_vectors.data() + tile * tile_groups, ws, sums);
    accumulate(tile, ws.query_rows.data());
  }

  for (Index l = block.first_lane; l < block.last_lane; ++l) {
    const Index v = l / lanes<T>, lane = l % lanes<T>;
    head_sums.dtau += double(sums.live_dA[v][lane]) / double(head.divisor(block.position(l)));
    if (head.has_extra_score())
      head_sums.dsink += sink_gradient(head.extra_score, lse[block.row_of_lane_0 + l],
                                       sums.mass[v][lane], sums.delta[v][lane]);
  }
}

template <class T>
bool all_finite(const T* x, Index size) {
  constexpr Index chunk = 1 << 14;
  T poison = 0;  // x * 0 is NaN where x is not finite
#pragma omp parallel for schedule(static) reduction(+ : poison)
  for (Index begin = 0; begin < size; begin += chunk) {
    const Index end = std::min(size, begin + chunk);
    Vector<T> zero = {};
    Index i = begin;
    for (; i + lanes<T> <= end; i += lanes<T>) zero += load(x + i) * T(0);
    for (; i < end; ++i) poison += x[i] * 0;
    poison += simd::sum<T>(zero);
  }
  return poison == 0;
}

// Whether the tiles can be trusted: 0 * x is not 0 where x is not finite.
template <class T>
bool all_finite(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in,
                const T* lse, const T* dout) {
  const Index q_size = s.batch * s.queries * s.heads * s.head_dim;
  const Index k_size = s.batch * s.keys * s.kv_heads * s.head_dim;
  bool finite = all_finite(in.q, q_size) && all_finite(in.k, k_size) && all_finite(in.v, k_size) &&
                all_finite(dout, q_size) && all_finite(in.bias, s.heads * s.window) &&
                (rule.normalizer != Normalizer::elastic || all_finite(in.tau, s.heads)) &&
                (rule.normalizer != Normalizer::sink || all_finite(in.sink, s.heads));
  for (Index b = 0; b < s.batch; ++b)
    for (Index row = 0; row < s.queries; ++row)
      if (visible_keys(s, sequence_length(s, in, b), row) > 0)
        for (Index h = 0; h < s.heads; ++h)
          finite = finite && std::isfinite(lse[(b * s.heads + h) * s.queries + row]);
  return finite;
}

// Blocks of a head, cut into `pieces` of about equal work: work grows with the position.
template <class T>
Index piece_begin(const Head<T>& head, Index piece, Index pieces) {
  const double first = double(head.first_block()), end = double(head.end_block());
  const double share = double(piece) / double(pieces);
  return std::lround(std::sqrt(first * first + share * (end * end - first * first)));
}

}  // namespace

template <class T>
void attention_backward(const AttentionShape& s, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                        const T* dout, const AttentionGrads<T>& grads, const Options& options) {
  validate(s, rule, in);
  if (options.counts) *options.counts = {};
  if (s.batch * s.queries == 0) return;
  if (!dout || !forward.lse)
    throw std::invalid_argument("attention: dout and the forward's lse must not be null");
  validate_grads(s, rule, grads);
  if (!is_exponential(rule.normalizer) || !all_finite(s, rule, in, forward.lse, dout))
    return oracle::attention_backward(s, rule, in, dout, grads);

  std::vector<T> own_lse;
  const T* lse = lse_for_tiles(s, rule, in, forward.lse, own_lse);
  const BiasTables<T> bias(s, in.bias);
  const std::span<Workspace<T>> team = team_workspaces<T>();
  for (Workspace<T>& ws : team) ws.reserve_backward(s);
  const Index D = s.head_dim, width = padded_dim<T>(D), group = s.heads / s.kv_heads;
  const Index table = BiasTables<T>::table_size(s.window);
  const T scale = T(1 / std::sqrt(double(D)));
  // Enough tasks for many threads, but no more copies of dk and dv than that takes. The cut, and so
  // every bit, depends on the shape alone.
  const Index pieces = std::clamp<Index>(divide_up(8, s.batch * s.heads), 1,
                                         divide_up(s.queries, 4 * block_queries));
  Index tiles = 0, live_tiles = 0, entries = 0;

#pragma omp parallel for ordered schedule(dynamic, 1) reduction(+ : tiles, live_tiles, entries)
  for (Index task = 0; task < s.batch * s.heads * pieces; ++task) {
    const Index b = task / pieces / s.heads, h = task / pieces % s.heads, piece = task % pieces;
    Workspace<T>& ws = team[omp_get_thread_num()];
    const Head<T> head = make_head(s, rule, in, bias, b, h);
    const bool empty = head.first_row == head.last_row;
    const Index first = empty ? 0 : piece_begin(head, piece, pieces);
    const Index last = empty ? 0 : piece_begin(head, piece + 1, pieces);
    const Index keys = std::min(last * tile_keys, head.end_position()), filled = last * tile_keys;
    HeadSums sums;
    if (first < last) {
      pack_rows(head.k, head.kv_pitch, D, 0, keys, filled, ws.keys.data());
      pack_rows(head.v, head.kv_pitch, D, 0, keys, filled, ws.values.data());
      for (auto* x : {&ws.dK, &ws.dV}) std::fill_n(x->begin(), filled * width, T(0));
      std::fill_n(ws.dbias.begin(), bias_copies * table, T(0));
    }
    for (Index tile = first; tile < last; ++tile) {
      const Block<T> block = make_block(head, tile);
      const Index row = b * s.queries * s.heads + h;
      backward_block(head, block, lse + (b * s.heads + h) * s.queries, dout + row * D,
                     options.skip_dead_tiles, ws, sums);
      add_rows(ws.rows.data() + block.first_lane * width, width, block.rows(), D, scale,
               grads.dq + (row + block.first_row() * s.heads) * D, s.heads * D);
      tiles += tile + 1;
      live_tiles += options.skip_dead_tiles
                        ? std::count(ws.live.begin(), ws.live.begin() + tile + 1, 1)
                        : tile + 1;
      for (Index l = block.first_lane; l < block.last_lane; ++l) entries += block.position(l) + 1;
    }
#pragma omp ordered
    if (first < last) {
      const Index row = b * s.keys * s.kv_heads + h / group;
      add_rows(ws.dK.data(), width, keys, D, scale, grads.dk + row * D, s.kv_heads * D);
      add_rows(ws.dV.data(), width, keys, D, T(1), grads.dv + row * D, s.kv_heads * D);
      for (Index d = 0; d < s.window; ++d)
        for (Index copy = 0; copy < bias_copies; ++copy)
          grads.dbias[h * s.window + d] += ws.dbias[copy * table + BiasTables<T>::margin + d];
      if (rule.normalizer == Normalizer::elastic) grads.dtau[h] += T(sums.dtau);
      if (rule.normalizer == Normalizer::sink) grads.dsink[h] += T(sums.dsink);
    }
  }
  if (options.counts)
    *options.counts = {
        .tiles = tiles, .live_tiles = live_tiles, .entries = entries, .live_entries = 0};
}

template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                 const float*, const AttentionGrads<float>&, const Options&);
template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                 const double*, const AttentionGrads<double>&, const Options&);

}  // namespace lazy::tiled
