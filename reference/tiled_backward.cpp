// Backward of one block of query rows, over the same tiles as forward:
//
//   dA = dO V^T where A > 0, else 0      delta_i = sum_j P_ij dA_ij      dtau = sum_ij dA_ij / n_i
//   dS = P (dA - delta)                  on dead entries too: -P delta
//   dV = A^T dO      dQ = dS K / sqrt(D)      dK = dS^T Q / sqrt(D)      db[i - j] = sum dS_ij
//
// A row's delta needs the whole row, so P and dA of a block are kept for all its keys: two strips,
// O(T) memory. A dead tile owes three products of the five: its scores, and its parts of dQ and dK.

#include <omp.h>

#include <span>
#include <stdexcept>
#include <vector>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"
#include "reference/tiled_block.hpp"

namespace lazy::tiled {
namespace {

constexpr Index piece_rows = 1024;  // query rows a task, about: bounds the work of the longest
constexpr Index bias_copies = 4;     // copies of dbias, so that neighboring keys do not wait for each
                                    // other's stores

template <class T>
struct Workspace {
  AlignedVector<T> keys, values;            // a head's rows, [tiles * 48, padded D]
  AlignedVector<T> dK, dV;                  // likewise
  AlignedVector<T> P, dA;                   // strips [tile][key][48]; P becomes dS
  AlignedVector<T> A;                       // one tile of them
  AlignedVector<T> query_rows, dout_rows;   // [48, padded D]
  AlignedVector<T> queries, douts;          // their transposes
  AlignedVector<T> dQ;                      // [48, padded D]
  AlignedVector<T> dbias;                   // [4][W + margins]
  std::vector<char> live;                   // [tiles]

  void reserve(const AttentionShape& s) {
    const std::size_t tiles = divide_up(s.keys, tile_keys), width = padded_dim<T>(s.head_dim);
    for (auto* strip : {&P, &dA}) strip->resize(std::max(strip->size(), tiles * tile_size));
    for (auto* rows : {&keys, &values, &dK, &dV})
      rows->resize(std::max(rows->size(), tiles * tile_keys * width));
    for (auto* rows : {&query_rows, &dout_rows, &queries, &douts, &dQ})
      rows->resize(tile_keys * width);
    A.resize(tile_size);
    dbias.resize(bias_copies * BiasTables<T>::table_size(s.window));
    live.resize(std::max(live.size(), tiles));
  }
};

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

// A task: some consecutive query rows of one head.
template <class T>
struct Piece {
  Index b, h, first_row, last_row;
};

template <class T>
struct RowSums {
  Vector<T> delta[query_vectors<T>] = {}, live_dA[query_vectors<T>] = {};
};

template <class T>
bool any_positive(Vector<T> x) {
  bool any = false;
  for (int l = 0; l < lanes<T>; ++l) any |= x[l] > 0;
  return any;
}

// Scores of a tile, in its strip, to P there and A into ws.A. Returns whether an entry is live.
template <class T>
bool probabilities(const Block<T>& block, Index tile, Workspace<T>& ws) {
  T *P = ws.P.data() + tile * tile_size, *A = ws.A.data();
  Vector<T> largest = {};
  for (Index v = 0; v < query_vectors<T>; ++v) {
    const Vector<T> reference = load(block.reference + v * lanes<T>);
    const Vector<T> scale = load(block.scale + v * lanes<T>);
    const Vector<T> offset = load(block.offset + v * lanes<T>);
    for (Index j = 0; j < block.seen_keys(tile, v); ++j) {
      const Index at = j * block_queries + v * lanes<T>;
      const Vector<T> p = probability<T>(exponential<T>(load(P + at), reference), scale);
      Vector<T> a = elastic_weight(p, offset);
      if (tile == block.tile) a = where_visible<T>(v, j, a);
      store(P + at, p);
      store(A + at, a);
      largest = simd::max(a, largest);
    }
  }
  return any_positive<T>(largest);
}

// dA of a live tile into its strip, 0 where A is; adds to the row sums.
template <class T>
void weight_gradients(const Head<T>& head, const Block<T>& block, Index tile, Workspace<T>& ws,
                      RowSums<T>& sums) {
  const T *P = ws.P.data() + tile * tile_size, *A = ws.A.data();
  T* dA = ws.dA.data() + tile * tile_size;
  multiply_tile<T>(block, tile, head.D,
                   ws.values.data() + tile * tile_keys * padded_dim<T>(head.D), ws.douts.data(),
                   nullptr, dA);
  for (Index v = 0; v < query_vectors<T>; ++v) {
    Vector<T> delta = sums.delta[v], live_dA = sums.live_dA[v];
    for (Index j = 0; j < block.seen_keys(tile, v); ++j) {
      const Index at = j * block_queries + v * lanes<T>;
      const Vector<T> da = where_live<Vector<T>>(load(A + at), load(dA + at));
      store(dA + at, da);
      delta += load(P + at) * da;
      live_dA += da;
    }
    sums.delta[v] = delta;
    sums.live_dA[v] = live_dA;
  }
}

// P of a tile becomes dS; adds it to the bias gradient, diagonal by diagonal.
template <class T>
void score_gradients(const Head<T>& head, const Block<T>& block, Index tile, Workspace<T>& ws,
                     const RowSums<T>& sums) {
  T* P = ws.P.data() + tile * tile_size;
  const T* dA = ws.dA.data() + tile * tile_size;
  const bool live = ws.live[tile];
  const Index table = BiasTables<T>::table_size(head.W);
  const Index distance_0 = (block.tile - tile) * tile_keys;
  const bool biased = distance_0 - (tile_keys - 1) < head.W;
  for (Index j = 0; j < block.scored_keys(tile); ++j) {
    T* dbias = ws.dbias.data() + j % bias_copies * table + BiasTables<T>::margin + distance_0 - j;
    for (Index v = block.first_vector(tile, j); v < query_vectors<T>; ++v) {
      const Index at = j * block_queries + v * lanes<T>;
      const Vector<T> dS = load(P + at) * ((live ? load(dA + at) : Vector<T>{}) - sums.delta[v]);
      store(P + at, dS);
      if (biased) store(dbias + v * lanes<T>, load(dbias + v * lanes<T>) + dS);
    }
  }
}

// One block of query rows. dQ is left in ws.dQ, the rest is added to the workspace's sums. Returns
// its part of dtau.
template <class T>
T backward_block(const Head<T>& head, const T* lse, const T* dout, Index tile_of_block,
                 Workspace<T>& ws) {
  const Index D = head.D, width = padded_dim<T>(D);
  Block<T> block = make_block(head, tile_of_block);
  pack_lanes(block, head.q, head.q_pitch, D, ws.query_rows.data());
  pack_lanes(block, dout, head.q_pitch, D, ws.dout_rows.data());
  transpose_lanes(ws.query_rows.data(), width, query_scale<T>(D), ws.queries.data());
  transpose_lanes(ws.dout_rows.data(), width, T(1), ws.douts.data());

  RowSums<T> sums;
  for (Index tile = block.tile; tile >= 0; --tile) {
    T* P = ws.P.data() + tile * tile_size;
    score_tile(head, block, tile, ws.keys.data(), ws.queries.data(), P);
    if (tile == block.tile) {
      set_reference(block, P);
      set_scale(head, block, lse);
    }
    ws.live[tile] = probabilities(block, tile, ws);
    if (!ws.live[tile]) continue;
    weight_gradients(head, block, tile, ws, sums);
    accumulate_keys(block, tile, ws.A.data(), ws.dout_rows.data(),
                    ws.dV.data() + tile * tile_keys * width, width);
  }

  std::fill(ws.dQ.begin(), ws.dQ.end(), T(0));
  for (Index tile = 0; tile <= block.tile; ++tile) {
    score_gradients(head, block, tile, ws, sums);
    const T* dS = ws.P.data() + tile * tile_size;
    accumulate_queries(block, tile, dS, ws.keys.data() + tile * tile_keys * width, ws.dQ.data(),
                       width);
    accumulate_keys(block, tile, dS, ws.query_rows.data(),
                    ws.dK.data() + tile * tile_keys * width, width);
  }

  T dtau = 0;
  for (Index l = block.first_lane; l < block.last_lane; ++l)
    dtau += sums.live_dA[l / lanes<T>][l % lanes<T>] / head.divisor(block.position(l));
  return dtau;
}

}  // namespace

template <class T>
void attention_backward(const AttentionShape& s, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                        const T* dout, const AttentionGrads<T>& grads, const Options& options) {
  const BiasTables<T> bias(s, in.bias);
  static thread_local std::vector<Workspace<T>> workspaces;
  workspaces.resize(std::max<std::size_t>(workspaces.size(), omp_get_max_threads()));
  for (Workspace<T>& ws : workspaces) ws.reserve(s);
  const std::span<Workspace<T>> shared(workspaces);
  const Index D = s.head_dim, width = padded_dim<T>(D), group = s.heads / s.kv_heads;
  const T scale = T(1 / std::sqrt(double(D)));
  (void)options;

#pragma omp parallel for ordered schedule(dynamic, 1)
  for (Index task = 0; task < s.batch * s.heads; ++task) {
    const Index b = task / s.heads, h = task % s.heads;
    Workspace<T>& ws = shared[omp_get_thread_num()];
    const Head<T> head = make_head(s, rule, in, bias, b, h);
    const Index end = head.end_position(), filled = head.end_block() * tile_keys;
    pack_rows(head.k, head.kv_pitch, D, 0, end, filled, ws.keys.data());
    pack_rows(head.v, head.kv_pitch, D, 0, end, filled, ws.values.data());
    std::fill_n(ws.dK.begin(), filled * width, T(0));
    std::fill_n(ws.dV.begin(), filled * width, T(0));
    std::fill(ws.dbias.begin(), ws.dbias.end(), T(0));
    T dtau = 0;
    const T* lse = forward.lse + (b * s.heads + h) * s.queries;
    const Index q_start = (b * s.queries * s.heads + h) * D;
    for (Index tile = head.first_block(); tile < head.end_block(); ++tile) {
      const Block<T> block = make_block(head, tile);
      dtau += backward_block(head, lse, dout + q_start, tile, ws);
      add_rows(ws.dQ.data() + block.first_lane * width, width, block.rows(), D, scale,
               grads.dq + q_start + block.first_row() * s.heads * D, s.heads * D);
    }
#pragma omp ordered
    {
      const Index k_start = (b * s.keys * s.kv_heads + h / group) * D;
      add_rows(ws.dK.data(), width, end, D, scale, grads.dk + k_start, s.kv_heads * D);
      add_rows(ws.dV.data(), width, end, D, T(1), grads.dv + k_start, s.kv_heads * D);
      for (Index d = 0; d < s.window; ++d)
        for (Index c = 0; c < bias_copies; ++c)
          grads.dbias[h * s.window + d] +=
              ws.dbias[c * BiasTables<T>::table_size(s.window) + BiasTables<T>::margin + d];
      grads.dtau[h] += dtau;
    }
  }
}

template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                 const float*, const AttentionGrads<float>&, const Options&);
template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                 const double*, const AttentionGrads<double>&, const Options&);

}  // namespace lazy::tiled
