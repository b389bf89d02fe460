// v1, backward: three kernels, and the sums over what they leave. Nothing is added by two blocks,
// so that two runs give the same bytes.
//
//   v1_delta          delta_i = sum over live j of P_ij dA_ij, and the row's part of dtau
//   v1_query_gradient dQ and the diagonals of dS: one block some row tiles
//   v1_key_gradients  dK and dV: one block a key tile and all heads that read it
//
// A tile without a live entry still has dS = -P delta. It costs the products S, dQ and dK; dA and
// dV are left out.

#include "cuda/rungs.hpp"
#include "cuda/v1_tiled.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct BackwardArguments {
  Problem<float> problem;
  LiveTiles live;
  Global<const float> lse, dout;
  Global<float> delta, dtau_rows;  // [B, H, Tq]
  Global<float> dbias_partials;    // [B, H, groups, min(W, Tk)]
  int groups, bias_width;
  Global<float> dq, dk, dv;
};

// P, A and dA of the thread's entries of one tile.
template <int P>
struct Entries {
  float probability[own_rows][own_keys], weight[own_rows][own_keys];
  float weight_gradient[own_rows][own_keys] = {};

  __device__ Entries(const BackwardArguments& a, const Tiles<P>& t, const RowTile& r, int key0,
                     bool live) {
    const Problem<float>& p = a.problem;
    dot_products<P>(probability, t, p.query_rows(p.q, r.b, r.head), r.row0,
                    p.key_rows(p.k, r.b, r.head), key0, p.head_dim);
    make_scores(probability, p, r, key0);
    for (int i = 0; i < own_rows; ++i) {
      const float lse = r.n[i] ? a.lse[p.row(r.b, r.head, r.row(i))] : 0.f;
      for (int j = 0; j < own_keys; ++j) {
        const bool visible = key0 + t.x + 16 * j < r.n[i];
        const float P_ij = lazy::LAZY_TARGET::probability(probability[i][j], lse);
        probability[i][j] = visible ? P_ij : 0.f;
        weight[i][j] = visible ? elastic_weight(P_ij, r.offset[i]) : 0.f;
      }
    }
    if (live)
      dot_products<P>(weight_gradient, t, p.query_rows(a.dout, r.b, r.head), r.row0,
                      p.key_rows(p.v, r.b, r.head), key0, p.head_dim);
  }

  // dS of the thread's entries, in place of dA. Invisible entries have P = 0, and delta may be NaN.
  __device__ void make_score_gradients(const BackwardArguments& a, const RowTile& r, int key0) {
    for (int i = 0; i < own_rows; ++i) {
      const float delta = r.n[i] ? a.delta[a.problem.row(r.b, r.head, r.row(i))] : 0.f;
      for (int j = 0; j < own_keys; ++j) {
        const bool visible = key0 + thread_index() % 16 + 16 * j < r.n[i];
        const float ds =
            score_gradient(probability[i][j], weight[i][j], weight_gradient[i][j], delta);
        weight_gradient[i][j] = visible ? ds : 0.f;
      }
    }
  }
};

template <int P>
__global__ void __launch_bounds__(tiled_threads, 1) v1_delta_kernel(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  const Tiles<P> t{SharedMemory()};
  const int tile = a.live.row_tiles - 1 - block_index().x;
  const RowTile r(p, block_index().z, block_index().y, tile);
  const auto bits = a.live.row_tile(p, r.b, r.head, tile);
  float delta[own_rows] = {}, dtau[own_rows] = {};
  for (int key0 = 0; key0 < r.key_end; key0 += tile_keys) {
    if (!is_live(bits, key0 / tile_keys)) continue;
    const Entries<P> e(a, t, r, key0, true);
    for (int i = 0; i < own_rows; ++i)
      for (int j = 0; j < own_keys; ++j) {
        const float dA = where_live(e.weight[i][j], e.weight_gradient[i][j]);
        delta[i] = fma(e.probability[i][j], dA, delta[i]);
        dtau[i] += dA;
      }
  }
  for (int i = 0; i < own_rows; ++i) {
    const float row_delta = over_row(delta[i], Sum()), row_dtau = over_row(dtau[i], Sum());
    if (t.x != 0 || r.row(i) >= p.queries) continue;
    const std::int64_t row = p.row(r.b, r.head, r.row(i));
    a.delta[row] = row_delta;
    a.dtau_rows[row] = r.n[i] ? row_dtau / p.divisor(r.n[i], r.length) : 0.f;
  }
}

// partials[d] += the sum of the tile's entries at distance d. Thread t takes the diagonal of
// row - key = t - 31 within the tile: neighbours read neighbours, in different banks.
template <int P>
__device__ void add_diagonals(Global<float> partials, int width, const Tiles<P>& t,
                              const RowTile& r, int key0) {
  const int diagonal = thread_index() - (tile_keys - 1);
  const int distance = r.position0 + r.row0 - key0 + diagonal;
  if (diagonal >= tile_rows || !in_bias_window(distance, width)) return;
  float sum = 0;
  for (int key = 0; key < tile_keys; ++key) {
    const int row = diagonal + key;
    if (row >= 0 && row < tile_rows) sum += t.entries[row * Tiles<P>::entry_pitch + key];
  }
  partials[distance] += sum;
}

template <int P>
__global__ void __launch_bounds__(tiled_threads, 1) v1_query_gradient_kernel(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  const Tiles<P> t{SharedMemory()};
  const int group = block_index().x, head = block_index().y, b = block_index().z;
  const auto partials =
      a.dbias_partials + ((std::int64_t(b) * p.heads + head) * a.groups + group) * a.bias_width;
  for (int d = thread_index(); d < a.bias_width; d += tiled_threads) partials[d] = 0;
  barrier();

  for (int tile = group; tile < a.live.row_tiles; tile += a.groups) {
    const RowTile r(p, b, head, tile);
    const auto bits = a.live.row_tile(p, b, head, tile);
    for (int panel = 0; panel < p.head_dim; panel += P) {
      float dq[own_rows][P / 16] = {};
      for (int key0 = 0; key0 < r.key_end; key0 += tile_keys) {
        Entries<P> e(a, t, r, key0, is_live(bits, key0 / tile_keys));
        e.make_score_gradients(a, r, key0);
        store_entries<P>(t, e.weight_gradient);
        barrier();  // the entries are there, and the keys have been read
        if (panel == 0) add_diagonals<P>(partials, a.bias_width, t, r, key0);
        load_panel<P>(t.keys, tile_keys, p.key_rows(p.k, r.b, r.head), key0, panel, p.head_dim);
        barrier();
        add_keys<P>(dq, t);
      }
      for (int i = 0; i < own_rows; ++i)
        for (int c = 0; c < P / 16; ++c) {
          const int d = panel + t.x + 16 * c;
          if (r.n[i] == 0 || d >= p.head_dim) continue;
          float& sum = a.dq[p.query(b, r.row(i), head) + d];
          sum = fma(dq[i][c], p.scale, sum);
        }
    }
  }
}

template <int P>
__global__ void __launch_bounds__(tiled_threads, 1) v1_key_gradients_kernel(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  const Tiles<P> t{SharedMemory()};
  const int key_tile = block_index().x, key_head = block_index().y, b = block_index().z;
  const int key0 = key_tile * tile_keys, group = p.heads / p.kv_heads;
  const int length = p.length(b), first_row = key0 - p.first_position(length);
  const int first_tile = first_row > 0 ? first_row / tile_rows : 0;

  for (int panel = 0; panel < p.head_dim; panel += P) {
    float dk[own_keys][P / 16] = {}, dv[own_keys][P / 16] = {};
    for (int head = key_head * group; head < (key_head + 1) * group; ++head)
      for (int tile = first_tile; tile < a.live.row_tiles; ++tile) {
        const RowTile r(p, b, head, tile);
        if (key0 >= r.key_end) continue;
        const bool live = is_live(a.live.row_tile(p, b, head, tile), key_tile);
        Entries<P> e(a, t, r, key0, live);
        if (live) {
          store_entries<P>(t, e.weight);
          barrier();
          load_panel<P>(t.rows, tile_rows, p.query_rows(a.dout, r.b, r.head), r.row0, panel,
                        p.head_dim);
          barrier();
          add_rows<P>(dv, t);
        }
        e.make_score_gradients(a, r, key0);
        barrier();
        store_entries<P>(t, e.weight_gradient);
        load_panel<P>(t.rows, tile_rows, p.query_rows(p.q, r.b, r.head), r.row0, panel, p.head_dim);
        barrier();
        add_rows<P>(dk, t);
      }
    for (int j = 0; j < own_keys; ++j)
      for (int c = 0; c < P / 16; ++c) {
        const int key = key0 + t.y + 16 * j, d = panel + t.x + 16 * c;
        if (key >= length || d >= p.head_dim) continue;
        const std::int64_t at = p.key(b, key, key_head) + d;
        a.dk[at] = fma(dk[j][c], p.scale, a.dk[at]);
        a.dv[at] += dv[j][c];
      }
  }
}

struct Buffers {
  Global<float> delta, dtau_rows, dbias_partials;
  std::size_t bytes;
};

Buffers make_buffers(const LazyAttention& a, void* workspace) {
  Workspace w(workspace);
  const auto delta = w.take<float>(row_count(a)), dtau_rows = w.take<float>(row_count(a));
  const auto partials =
      w.take<float>(a.batch * a.heads * bias_groups(a, tile_rows) * bias_width(a));
  return {delta, dtau_rows, partials, w.bytes()};
}

}  // namespace

LazySizes v1_sizes(const LazyAttention& a) {
  LazySizes sizes = tiled_sizes(a);
  sizes.forward_workspace = sizes.live_tiles;
  sizes.backward_workspace = make_buffers(a, nullptr).bytes;
  return sizes;
}

void v1_backward(const LazyAttention& attention, const LazyInputs& in, const LazyOutputs& forward,
                 const void* dout, const LazyGrads& grads, void* workspace, void* stream_) {
  const Problem<float> p = make_problem<float>(attention, in);
  const Buffers buffers = make_buffers(attention, workspace);
  const auto queries = query_count(attention), keys = key_count(attention);
  const int groups = bias_groups(attention, tile_rows),
            width = static_cast<int>(bias_width(attention));
  const BackwardArguments a{
      p,
      make_live_tiles(tiled_sizes(attention), p.skip_dead_tiles ? forward.live_tiles : nullptr),
      view<const float>(forward.lse, row_count(attention)),
      view(static_cast<const float*>(dout), queries),
      buffers.delta,
      buffers.dtau_rows,
      buffers.dbias_partials,
      groups,
      width,
      view(static_cast<float*>(grads.dq), queries),
      view(static_cast<float*>(grads.dk), keys),
      view(static_cast<float*>(grads.dv), keys)};
  const auto stream = static_cast<Stream>(stream_);
  with_panel(attention.head_dim, [&](auto panel) {
    const auto run = [&](const char* name, Dim grid, void (*kernel)(BackwardArguments)) {
      launch({name, grid, tiled_threads, Tiles<panel>::bytes(), stream}, kernel, a);
    };
    run("v1_delta", {a.live.row_tiles, p.heads, p.batch}, v1_delta_kernel<panel>);
    run("v1_query_gradient", {groups, p.heads, p.batch}, v1_query_gradient_kernel<panel>);
    run("v1_key_gradients", {divided_up(p.keys, tile_keys), p.kv_heads, p.batch},
        v1_key_gradients_kernel<panel>);
  });
  sum_partials({p.batch, p.heads, groups, width, p.window, a.dbias_partials,
                view(grads.dbias, attention.heads * attention.window)},
               stream);
  if (grads.dtau)
    sum_rows({p.batch, p.heads, p.queries, a.dtau_rows, view(grads.dtau, attention.heads)}, stream);
}

}  // namespace lazy::LAZY_TARGET
