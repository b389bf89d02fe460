// v2, forward: the two passes of v1 on tensor cores. Scores never leave the registers: what pass 2
// makes of them is, as it lies, the left operand of the product with V.

#include "cuda/rungs.hpp"
#include "cuda/v2_tensor.hpp"

namespace lazy::LAZY_TARGET {
namespace {

template <class T>
struct ForwardArguments {
  Problem<T> problem;
  LiveTiles live;
  Global<float> lse;
  Global<std::uint32_t> out;  // two numbers each
  Global<LiveSums> live_sums;
};

// The shared memory of a block: its queries, and two stages of keys and values, so that one is
// copied while the other is used.
template <class T, int D>
struct Tiles {
  static constexpr int keys = keys_of_tile<D>, slice = block_rows + keys;
  Shared<T> q, k, v;
  Shared<float> bias;  // of the tile's diagonals

  static constexpr std::size_t bytes() {
    return shared_bytes_for<T>(block_rows * D) + 2 * shared_bytes_for<T>(2 * keys * D) +
           shared_bytes_for<float>(slice);
  }
  __device__ explicit Tiles(SharedMemory memory)
      : q(memory.take<T>(block_rows * D)),
        k(memory.take<T>(2 * keys * D)),
        v(memory.take<T>(2 * keys * D)),
        bias(memory.take<float>(slice)) {}
};

// Max and sum of the exponentials of a lane's two rows, base 2.
struct OnlineSum {
  float largest[2] = {-infinity, -infinity}, sum[2] = {0, 0};

  __device__ float shift(int x) const {
    return largest[x] == infinity || largest[x] == -infinity ? 0.f : largest[x];
  }
  __device__ float lse2(int x) const { return shift(x) + log2_fast(sum[x]); }

  // Takes a tile in. Returns whether a weight of the warp's may come out positive: lse only grows,
  // so that a tile far enough below -tau / n is dead already. NaN counts as live.
  template <class T, int D>
  __device__ bool add(float (&c)[keys_of_tile<D> / 8][4], const BlockRows<T, D>& r, int key0,
                      float scale2) {
    constexpr int N = keys_of_tile<D> / 8;
    if (r.is_masked(key0)) {
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (!r.sees(key0, i, e)) c[i][e] = -infinity;
    }
    bool may_live = false;
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      float top = -infinity;
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 2 * x; e < 2 * x + 2; ++e) top = larger(top, c[i][e]);
      top = larger(top, shuffle_xor(top, 1));
      top = larger(top, shuffle_xor(top, 2)) * scale2;

      const float before = largest[x];
      largest[x] = larger(before, top);
      const float base = shift(x);
      float part = 0;
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 2 * x; e < 2 * x + 2; ++e) part += exp2_fast(fma(c[i][e], scale2, -base));
      part += shuffle_xor(part, 1);
      part += shuffle_xor(part, 2);
      sum[x] = fma(sum[x], before == largest[x] ? 1.f : exp2_fast(before - base), part);

      const float lse = lse2(x), slack = 1e-4f + 1e-6f * (lse < 0 ? -lse : lse);
      const bool dead = r.offset[x] < 0 && top - lse < log2_fast(-r.offset[x]) - slack;
      may_live |= key0 < r.n[x] && !dead;
    }
    return any(may_live);
  }
};

static_assert(Tiles<BFloat16, 64>::bytes() <= most_shared_bytes &&
              Tiles<BFloat16, 128>::bytes() <= most_shared_bytes);

template <class T, int D, bool training>
__global__ void __launch_bounds__(tensor_threads, 2) v2_forward_kernel(ForwardArguments<T> a) {
  constexpr int keys = Tiles<T, D>::keys, stage = keys * D;
  const Problem<T>& p = a.problem;
  const Tiles<T, D> t{SharedMemory()};
  const int blocks = a.live.row_tiles / block_warps;
  const int tile = blocks - 1 - block_index().x;  // the longest rows go first
  const BlockRows<T, D> r(p, block_index().z, block_index().y, tile * block_rows);
  const auto q = p.query_rows(p.q, r.b, r.head);
  const auto k = p.key_rows(p.k, r.b, r.head), v = p.key_rows(p.v, r.b, r.head);
  const int key_tiles = divided_up(r.key_end(), keys);
  const float scale2 = p.scale * log2_e;
  BiasSlice<D> bias(t.bias, t.slice - 1);

  // Each warp keeps the bits of its 16 rows.
  const auto strip_bits = [&](int warp) {
    return a.live.row_tile(p, r.b, r.head, tile * block_warps + warp);
  };
  const auto bits = strip_bits(r.lane.warp);
  for (int i = r.lane.lane; i < a.live.words; i += warp_size) bits[i] = 0;
  warp_barrier();
  std::uint32_t word = 0;
  const auto mark = [&](int key_tile, bool live) {
    word |= std::uint32_t(live) << key_tile % 32;
    if (key_tile % 32 != 0) return;
    if (r.lane.lane == 0) bits[key_tile / 32] = word;
    word = 0;
  };

  // Pass 1: lse, from the diagonal outwards.
  load_tile<T, D, block_rows>(t.q, q, r.row0);
  if (key_tiles > 0) load_tile<T, D, keys>(t.k, k, (key_tiles - 1) * keys);
  commit_copies();
  bias.fetch(p, r.head, r.first_distance((key_tiles - 1) * keys));
  const TileRows<T, D> queries{t.q, r.strip_row};
  OnlineSum sums;
  for (int i = 0; i < key_tiles; ++i) {
    const int key_tile = key_tiles - 1 - i, key0 = key_tile * keys;
    if (key_tile > 0) load_tile<T, D, keys>(t.k + (i + 1) % 2 * stage, k, key0 - keys);
    commit_copies();
    bias.put(p, r.first_distance(key0));
    wait_copies<1>();
    barrier();
    bias.fetch(p, r.head, r.first_distance(key0 - keys));
    float c[keys / 8][4];
    r.scores(c, queries, t.k + i % 2 * stage, t.bias, key0);
    const bool may_live = sums.add(c, r, key0, scale2);
    mark(key_tile, may_live || !p.skip_dead_tiles);
    barrier();  // the tile has been read
  }
  // lse is kept in natural units; all passes take it from there, so that their gates agree.
  float shift[2];
  for (int x = 0; x < 2; ++x) {
    const float lse = sums.lse2(x) * ln_2;
    shift[x] = shift_of(lse);
    if (r.lane.t == 0 && r.row(x) < p.queries) a.lse[p.row(r.b, r.head, r.row(x))] = lse;
  }

  // Pass 2: the tiles that some warp has marked.
  const auto next_marked = [&](int key_tile) {
    for (; key_tile >= 0; --key_tile)
#pragma unroll 1
      for (int warp = 0; warp < block_warps; ++warp)
        if (is_live(strip_bits(warp), key_tile)) return key_tile;
    return -1;
  };
  const auto load = [&](int key_tile, int i) {
    if (key_tile >= 0) {
      load_tile<T, D, keys>(t.k + i % 2 * stage, k, key_tile * keys);
      load_tile<T, D, keys>(t.v + i % 2 * stage, v, key_tile * keys);
    }
    commit_copies();
  };
  float out[D / 8][4] = {}, live_sum[training ? D / 8 : 1][4] = {};
  wait_copies<0>();
  barrier();  // the bits are there for all
  int key_tile = next_marked(key_tiles - 1);
  load(key_tile, 0);
  bias.fetch(p, r.head, r.first_distance(key_tile * keys));
  for (int i = 0; key_tile >= 0; ++i) {
    const int next = next_marked(key_tile - 1), key0 = key_tile * keys;
    load(next, i + 1);
    bias.put(p, r.first_distance(key0));
    wait_copies<1>();
    barrier();
    bias.fetch(p, r.head, r.first_distance(next * keys));
    if (is_live(bits, key_tile)) {
      float c[keys / 8][4];
      r.scores(c, queries, t.k + i % 2 * stage, t.bias, key0);
      const bool live = r.weights(c, key0, scale2, shift);
      if (!live && r.lane.lane == 0) bits[key_tile / 32] &= ~(1u << key_tile % 32);
      if (live || !p.skip_dead_tiles) {
        const auto values = t.v + i % 2 * stage;
#pragma unroll
        for (int j = 0; j < keys / 16; ++j) {
          std::uint32_t weights[4], live_entries[4];
          as_operand<T>(weights, c[2 * j], c[2 * j + 1]);
          as_live_operand<T>(live_entries, c[2 * j], c[2 * j + 1]);
          for_each_column<T, D>(values, 16 * j, [&](int n, std::uint32_t b0, std::uint32_t b1) {
            multiply_add<T>(out[n], weights, b0, b1);
            if constexpr (training) multiply_add<T>(live_sum[n], live_entries, b0, b1);
          });
        }
      }
    }
    barrier();  // the tiles have been read
    key_tile = next;
  }

  for (int x = 0; x < 2; ++x) {
    if (r.row(x) >= p.queries) continue;
    const float mean = r.n[x] ? 1 / p.divisor(r.n[x], r.length) : 0.f;
    const std::int64_t row = p.query(r.b, r.row(x), r.head);
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      const std::int64_t pair = (row + 8 * i) / 2 + r.lane.t;
      a.out[pair] = pack<T>(out[i][2 * x], out[i][2 * x + 1]);
      if constexpr (training) {
        LiveSums sums;
        for (int e = 0; e < 2; ++e) {
          sums.means[e] = live_sum[i][2 * x + e] * mean;
          sums.values[e] = fma(-r.offset[x], live_sum[i][2 * x + e], out[i][2 * x + e]);
        }
        a.live_sums[pair] = sums;
      }
    }
  }
}

template <class T>
struct WeightsArguments {
  Problem<T> problem;
  Global<const float> lse;
  int b, head, first_row, rows;
  Global<float> weights;  // [rows, Tk]
};

// The weights of pass 2, written down: for tests and for `lazy attend --weights`.
template <class T, int D>
__global__ void __launch_bounds__(tensor_threads, 2) v2_weights_kernel(WeightsArguments<T> a) {
  constexpr int keys = Tiles<T, D>::keys;
  const Problem<T>& p = a.problem;
  const Tiles<T, D> t{SharedMemory()};
  const int row0 = a.first_row + block_index().x * block_rows;
  const BlockRows<T, D> r(p, a.b, a.head, row0);
  BiasSlice<D> bias(t.bias, t.slice - 1);
  float shift[2];
  for (int x = 0; x < 2; ++x)
    shift[x] = r.n[x] ? shift_of(a.lse[p.row(a.b, a.head, r.row(x))]) : 0.f;
  load_tile<T, D, block_rows>(t.q, p.query_rows(p.q, a.b, a.head), row0);
  for (int key0 = 0; key0 < p.keys; key0 += keys) {
    load_tile<T, D, keys>(t.k, p.key_rows(p.k, a.b, a.head), key0);
    commit_copies();
    bias.fetch(p, r.head, r.first_distance(key0));
    bias.put(p, r.first_distance(key0));
    wait_copies<0>();
    barrier();
    float c[keys / 8][4];
    r.scores(c, TileRows<T, D>{t.q, r.strip_row}, t.k, t.bias, key0);
    r.weights(c, key0, p.scale * log2_e, shift);
    for (int i = 0; i < keys / 8; ++i)
      for (int e = 0; e < 4; ++e) {
        const int row = r.row(e / 2) - a.first_row, key = key0 + r.lane.column(i, e);
        if (row < a.rows && key < p.keys) a.weights[std::int64_t(row) * p.keys + key] = c[i][e];
      }
    barrier();  // the tile has been read
  }
}

}  // namespace

void v2_forward(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out,
                void* workspace, void* stream) {
  const LiveTiles live =
      make_live_tiles(tensor_sizes(a), out.live_tiles ? out.live_tiles : workspace);
  with_format(a, [&]<class T, int D>() {
    const Problem<T> p = make_problem<T>(a, in);
    const ForwardArguments<T> arguments{p, live, view(out.lse, row_count(a)),
                                        pairs(out.out, query_count(a)),
                                        live_sums(a, out.live_sums)};
    const Launch how{"v2_forward",
                     {live.row_tiles / block_warps, p.heads, p.batch},
                     tensor_threads,
                     Tiles<T, D>::bytes(),
                     static_cast<Stream>(stream)};
    launch(how, out.live_sums ? v2_forward_kernel<T, D, true> : v2_forward_kernel<T, D, false>,
           arguments);
  });
}

void v2_weights(const LazyAttention& a, const LazyInputs& in, const float* lse, std::int64_t batch,
                std::int64_t head, std::int64_t first_row, std::int64_t rows, float* weights,
                void* stream) {
  with_format(a, [&]<class T, int D>() {
    const Dim grid{divided_up(int(rows), block_rows)};
    launch({"v2_weights", grid, tensor_threads, Tiles<T, D>::bytes(), static_cast<Stream>(stream)},
           v2_weights_kernel<T, D>,
           {make_problem<T>(a, in), view(lse, row_count(a)), int(batch), int(head), int(first_row),
            int(rows), view(weights, rows * a.keys)});
  });
}

}  // namespace lazy::LAZY_TARGET
