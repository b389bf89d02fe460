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
  AlignedVector<T> P, dA;                            // strips [tile][key][48]
  AlignedVector<T> A;                                // one tile
  AlignedVector<T> queries, douts;                   // [D][48]
  AlignedVector<T> query_rows, dout_rows, dQ;        // [48, padded D]
  AlignedVector<T> keys, values;                     // copies of tiles
  AlignedVector<T> dK, dV;                           // [keys, padded D]
  AlignedVector<T> dbias;                            // [4][W + margins]
  std::vector<char> live;                            // [tiles]

  void reserve(const AttentionShape& s) {
    const std::size_t tiles = divide_up(s.keys, tile_keys), width = padded_dim<T>(s.head_dim);
    for (auto* strip : {&P, &dA}) strip->resize(std::max(strip->size(), tiles * tile_size));
    for (auto* rows : {&dK, &dV}) rows->resize(std::max(rows->size(), tiles * tile_keys * width));
    A.resize(tile_size);
    for (auto* x : {&queries, &douts}) x->resize(s.head_dim * block_queries);
    for (auto* x : {&query_rows, &dout_rows, &dQ, &keys, &values}) x->resize(tile_keys * width);
    dbias.resize(bias_copies * BiasTables<T>::table_size(s.window));
    live.resize(std::max(live.size(), tiles));
  }
};

// A task: some consecutive query rows of one head.
template <class T>
struct Piece {
  Index b, h, first_row, last_row;
};

// A block's rows of x as rows of whole vectors, [48, padded D]; missing lanes 0.
template <class T>
Rows<T> copy_rows(const Block<T>& block, const T* x, Index pitch, Index D, T* copy) {
  const Index width = padded_dim<T>(D);
  if (block.rows() < block_queries || width > D) std::fill_n(copy, block_queries * width, T(0));
  for (Index l = block.first_lane; l < block.last_lane; ++l)
    std::copy_n(x + (block.row_of_lane_0 + l) * pitch, D, copy + l * width);
  return {copy, width};
}

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
    for (Index j = 0; j < block.scored_keys(tile); ++j) {
      if (block.first_vector(tile, j) > v) break;
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
void weight_gradients(const Head<T>& head, const Block<T>& block, Index tile, Rows<T> values,
                      Workspace<T>& ws, RowSums<T>& sums) {
  const T *P = ws.P.data() + tile * tile_size, *A = ws.A.data();
  T* dA = ws.dA.data() + tile * tile_size;
  for (Index j = 0; j < block.keys(tile); j += tile_rows) {
    const Index first = block.first_vector(tile, j);
    register_tiles(values.data + j * values.pitch, values.pitch, 1,
                   ws.douts.data() + first * lanes<T>, block_queries, head.D,
                   query_vectors<T> - first, [&](int r, Index u, Vector<T> product) {
                     const Index v = first + u, at = (j + r) * block_queries + v * lanes<T>;
                     const Vector<T> da = where_live<Vector<T>>(load(A + at), product);
                     store(dA + at, da);
                     sums.delta[v] += load(P + at) * da;
                     sums.live_dA[v] += da;
                   });
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
  const Index width = padded_dim<T>(head.D);
  Block<T> block = make_block(head, tile_of_block, ws.queries.data());
  transpose_rows(block, dout, head.q_pitch, head.D, T(1), ws.douts.data());
  const Rows<T> queries = copy_rows(block, head.q, head.q_pitch, head.D, ws.query_rows.data());
  const Rows<T> douts = copy_rows(block, dout, head.q_pitch, head.D, ws.dout_rows.data());
  const auto rows_of = [&](const T* x, Index tile, AlignedVector<T>& copy) {
    return tile_rows_of(x, head.kv_pitch, head.D, tile * tile_keys, head.keys, copy.data());
  };

  RowSums<T> sums;
  for (Index tile = block.tile; tile >= 0; --tile) {
    T* P = ws.P.data() + tile * tile_size;
    score_tile(head, block, tile, rows_of(head.k, tile, ws.keys), P);
    if (tile == block.tile) {
      set_reference(block, P);
      set_scale(head, block, lse);
    }
    ws.live[tile] = probabilities(block, tile, ws);
    if (!ws.live[tile]) continue;
    weight_gradients(head, block, tile, rows_of(head.v, tile, ws.values), ws, sums);
    accumulate_keys(block, tile, ws.A.data(), douts, ws.dV.data() + tile * tile_keys * width,
                    width);
  }

  std::fill(ws.dQ.begin(), ws.dQ.end(), T(0));
  for (Index tile = 0; tile <= block.tile; ++tile) {
    score_gradients(head, block, tile, ws, sums);
    const T* dS = ws.P.data() + tile * tile_size;
    accumulate_queries(block, tile, dS, rows_of(head.k, tile, ws.keys), ws.dQ.data(), width);
    accumulate_keys(block, tile, dS, queries, ws.dK.data() + tile * tile_keys * width, width);
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
    const std::size_t used = head.end_block() * tile_keys * width;
    std::fill_n(ws.dK.begin(), used, T(0));
    std::fill_n(ws.dV.begin(), used, T(0));
    std::fill(ws.dbias.begin(), ws.dbias.end(), T(0));
    T dtau = 0;
    const T *lse = forward.lse + (b * s.heads + h) * s.queries, *dO = dout + (b * s.queries * s.heads + h) * D;
    for (Index tile = head.first_block(); tile < head.end_block(); ++tile) {
      dtau += backward_block(head, lse, dO, tile, ws);
      const Index lane_of_first = head.first_position - tile * tile_keys;
      for (Index l = std::max<Index>(0, lane_of_first); l < std::min(tile_keys, head.end_position() - tile * tile_keys); ++l)
        for (Index d = 0; d < D; ++d)
          grads.dq[((b * s.queries + head.first_row + l - lane_of_first) * s.heads + h) * D + d] += scale * ws.dQ[l * width + d];
    }
#pragma omp ordered
    {
      for (Index j = 0; j < head.end_position(); ++j)
        for (Index d = 0; d < D; ++d) {
          const Index at = ((b * s.keys + j) * s.kv_heads + h / group) * D + d;
          grads.dk[at] += scale * ws.dK[j * width + d];
          grads.dv[at] += ws.dV[j * width + d];
        }
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
