// v1, forward: two passes over the keys in one kernel. The weights of a row need its lse, which
// only the whole row knows; the scores are cheaper to compute twice than to keep.

#include "cuda/rungs.hpp"
#include "cuda/v1_tiled.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct ForwardArguments {
  Problem<float> problem;
  LiveTiles live;
  Global<float> out, lse;
};

// max and sum of the exponentials seen so far, for the thread's rows.
struct OnlineSum {
  float largest[own_rows], sum[own_rows];

  // Infinite scores are not subtracted: inf - inf is no number.
  __device__ float shift(int i) const {
    return largest[i] == infinity || largest[i] == -infinity ? 0.f : largest[i];
  }
  __device__ float lse(int i) const { return shift(i) + log(sum[i]); }
};

// Pass 1 over one tile: takes its scores into the sums. Returns whether, as far as this thread's
// rows can tell, a weight of the tile may come out positive.
__device__ bool add_tile(OnlineSum& o, const RowTile& r, const float (&s)[own_rows][own_keys],
                         int key0) {
  bool may_live = false;
  for (int i = 0; i < own_rows; ++i) {
    const auto visible = [&](int j) { return key0 + thread_index() % 16 + 16 * j < r.n[i]; };
    float largest = -infinity;
    for (int j = 0; j < own_keys; ++j)
      if (visible(j)) largest = Max()(largest, s[i][j]);
    largest = over_row(largest, Max());

    const float before = o.largest[i];
    o.largest[i] = Max()(before, largest);
    const float shift = o.shift(i);
    float sum = 0;
    for (int j = 0; j < own_keys; ++j)
      if (visible(j)) sum += exp(s[i][j] - shift);
    sum = over_row(sum, Sum());
    o.sum[i] = fma(o.sum[i], before == o.largest[i] ? 1.f : exp(before - shift), sum);

    // lse only grows from here on, so that P <= exp(largest - lse) can only fall: a tile far
    // enough below -tau / n is dead, and one near it is not judged here. NaN counts as live.
    const float lse = o.lse(i);
    const float slack = 1e-4f + 1e-6f * (lse < 0 ? -lse : lse);
    const bool dead = r.offset[i] < 0 && largest - lse < log(-r.offset[i]) - slack;
    may_live |= r.n[i] > 0 && !dead;
  }
  return may_live;
}

// One block a tile of 64 query rows.
template <int P>
__global__ void __launch_bounds__(tiled_threads, 1) v1_forward_kernel(ForwardArguments a) {
  const Problem<float>& p = a.problem;
  const Tiles<P> t{SharedMemory()};
  // The longest rows go first.
  const int tile = a.live.row_tiles - 1 - block_index().x;
  const RowTile r(p, block_index().z, block_index().y, tile);
  const auto q = p.query_rows(p.q, r.b, r.head);
  const auto k = p.key_rows(p.k, r.b, r.head), v = p.key_rows(p.v, r.b, r.head);
  const auto bits = a.live.row_tile(p, r.b, r.head, tile);
  const int key_tiles = divided_up(r.key_end, tile_keys), me = thread_index();
  const bool one_panel = p.head_dim <= P;
  if (one_panel) load_panel<P>(t.rows, tile_rows, q, r.row0, 0, p.head_dim);

  const auto scores = [&](float(&s)[own_rows][own_keys], int key0) {
    dot_products<P>(s, t, q, r.row0, k, key0, p.head_dim, one_panel);
    make_scores(s, p, r, key0);
  };
  const auto any_thread = [&](bool x) {
    return over_block(x ? 1.f : 0.f, tiled_threads, t.scratch, Max()) != 0;
  };
  // Bits of the tiles gather in a word; the first thread writes it when its last tile is through.
  std::uint32_t word = 0;
  const auto mark = [&](int key_tile, bool live) {
    word |= std::uint32_t(live) << key_tile % 32;
    if (key_tile % 32 != 0) return;
    if (me == 0) bits[key_tile / 32] = word;
    word = 0;
  };

  // Pass 1: lse, from the diagonal outwards, where most of a row's mass tends to lie.
  for (int i = me; i < a.live.words; i += tiled_threads) bits[i] = 0;
  OnlineSum o;
  for (int i = 0; i < own_rows; ++i) o.largest[i] = -infinity, o.sum[i] = 0;
  barrier();
  for (int key_tile = key_tiles - 1; key_tile >= 0; --key_tile) {
    float s[own_rows][own_keys];
    scores(s, key_tile * tile_keys);
    const bool may_live = add_tile(o, r, s, key_tile * tile_keys);
    mark(key_tile, any_thread(may_live) || !p.skip_dead_tiles);
  }
  float lse[own_rows];
  for (int i = 0; i < own_rows; ++i) {
    lse[i] = o.lse(i);
    if (t.x == 0 && r.row(i) < p.queries) a.lse[p.row(r.b, r.head, r.row(i))] = lse[i];
  }
  barrier();  // the bits are there for all

  // Pass 2: the weights, and the sum of the values. The first panel also settles which tiles hold
  // a live entry.
  for (int panel = 0; panel < p.head_dim; panel += P) {
    float out[own_rows][P / 16] = {};
    for (int key_tile = key_tiles - 1; key_tile >= 0; --key_tile) {
      const int key0 = key_tile * tile_keys;
      bool live = is_live(bits, key_tile);
      if (live) {
        float w[own_rows][own_keys];
        bool positive = false;
        scores(w, key0);
        for (int i = 0; i < own_rows; ++i)
          for (int j = 0; j < own_keys; ++j) {
            const bool visible = key0 + t.x + 16 * j < r.n[i];
            const float weight = elastic_weight(probability(w[i][j], lse[i]), r.offset[i]);
            w[i][j] = visible ? weight : 0.f;
            positive |= w[i][j] != 0;
          }
        store_entries<P>(t, w);
        live = any_thread(positive);
        if (live || !p.skip_dead_tiles) {
          load_panel<P>(t.keys, tile_keys, v, key0, panel, p.head_dim);
          barrier();
          add_keys<P>(out, t);
        }
      }
      if (panel == 0) mark(key_tile, live);
    }
    for (int i = 0; i < own_rows; ++i)
      for (int c = 0; c < P / 16; ++c) {
        const int d = panel + t.x + 16 * c;
        if (r.row(i) < p.queries && d < p.head_dim)
          a.out[p.query(r.b, r.row(i), r.head) + d] = out[i][c];
      }
    barrier();  // the bits are settled for all
  }
}

}  // namespace

void v1_forward(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out,
                void* workspace, void* stream) {
  const Problem<float> p = make_problem<float>(a, in);
  void* bits = out.live_tiles ? out.live_tiles : workspace;
  const LiveTiles live = make_live_tiles(tiled_sizes(a), bits);
  const ForwardArguments arguments{p, live, view(static_cast<float*>(out.out), query_count(a)),
                                   view(out.lse, row_count(a))};
  with_panel(a.head_dim, [&](auto panel) {
    launch({"v1_forward",
            {live.row_tiles, p.heads, p.batch},
            tiled_threads,
            Tiles<panel>::bytes(),
            static_cast<Stream>(stream)},
           v1_forward_kernel<panel>, arguments);
  });
}

}  // namespace lazy::LAZY_TARGET
