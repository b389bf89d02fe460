// v2, backward: v1's three kernels on tensor cores. delta needs no pass over the keys, since the
// forward left two sums over a row's live entries, Ubar_i = (1/n) sum of V_j and
// X_i = sum of P_ij V_j = O_i - tau Ubar_i:
//
//   delta_i = sum_live P_ij dO_i.V_j = dO_i.X_i        dtau = sum_i dO_i.Ubar_i
//
// They are float. O as it is stored has lost half its digits, more than a row of few keys can
// spare: there dS is a small difference of dA and delta.
//
// The key gradients are computed from S^T: keys are rows there, so that W^T and dS^T are, as they
// lie in the registers, the left operands of dV += W^T dO and dK += dS^T Q.

#include "cuda/rungs.hpp"
#include "cuda/v2_tensor.hpp"

namespace lazy::LAZY_TARGET {
namespace {

template <class T>
struct BackwardArguments {
  Problem<T> problem;
  LiveTiles live;
  Global<const T> dout;
  Global<const LiveSums> live_sums;
  Global<const float> lse;
  Global<RowNumbers> numbers;    // [B, H, Tq]
  Global<float> dtau_rows;       // [B, H, Tq]
  Global<float> dbias_partials;  // [B, H, groups, min(W, Tk)]
  int groups, bias_width;
  Global<std::uint32_t> dq, dk, dv;  // two numbers each
};

// What the two other kernels need of a row. One warp a row.
template <class T>
__global__ void __launch_bounds__(tensor_threads) v2_delta_kernel(BackwardArguments<T> a) {
  const Problem<T>& p = a.problem;
  const Lane lane;
  const int row = block_index().x * block_warps + lane.warp;
  const int head = block_index().y, b = block_index().z;
  if (row >= p.queries) return;
  const std::int64_t first = p.query(b, row, head);
  const int length = p.length(b), n = p.visible_keys(length, row);
  float delta = 0, with_mean = 0;
  for (int d = 2 * lane.lane; d < p.head_dim && n > 0; d += 2 * warp_size) {
    const LiveSums sums = a.live_sums[(first + d) / 2];
    for (int e = 0; e < 2; ++e) {
      const float gradient = to_float(a.dout[first + d + e]);
      delta = fma(gradient, sums.values[e], delta);
      with_mean = fma(gradient, sums.means[e], with_mean);
    }
  }
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) {
    delta += shuffle_xor(delta, lanes);
    with_mean += shuffle_xor(with_mean, lanes);
  }
  if (lane.lane != 0) return;
  const std::int64_t at = p.row(b, head, row);
  RowNumbers numbers{};
  if (n > 0) numbers = {shift_of(a.lse[at]), delta, p.tau_of(head) / p.divisor(n, length), n};
  a.numbers[at] = numbers;
  a.dtau_rows[at] = with_mean;
}

// Adds a lane's part of 16 rows of a gradient, times `scale`: row g + 8 x at `row_of(x)`, where
// that is not negative.
template <class T, int D, class RowOf>
__device__ void add_gradient(Global<std::uint32_t> to, const float (&sums)[D / 8][4], float scale,
                             const Lane& lane, RowOf row_of) {
  const auto half = [](std::uint32_t bits) {
    return to_float(T{static_cast<std::uint16_t>(bits)});
  };
#pragma unroll
  for (int x = 0; x < 2; ++x) {
    const std::int64_t row = row_of(x);
    if (row < 0) continue;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      std::uint32_t& pair = to[(row + 8 * i) / 2 + lane.t];
      pair = pack<T>(fma(sums[i][2 * x], scale, half(pair)),
                     fma(sums[i][2 * x + 1], scale, half(pair >> 16)));
    }
  }
}

// ---- dQ, and the diagonals of dS.

template <class T, int D>
struct QueryTiles {
  static constexpr int keys = keys_of_tile<D>, slice = block_rows + keys, diagonals = strip + keys;
  Shared<T> q, dout, k, v;
  Shared<float> bias, sums;  // sums: of the diagonals of each warp's 16 rows

  static constexpr std::size_t bytes() {
    return 2 * shared_bytes_for<T>(block_rows * D) + 2 * shared_bytes_for<T>(2 * keys * D) +
           shared_bytes_for<float>(slice) + shared_bytes_for<float>(block_warps * diagonals);
  }
  __device__ explicit QueryTiles(SharedMemory memory)
      : q(memory.take<T>(block_rows * D)),
        dout(memory.take<T>(block_rows * D)),
        k(memory.take<T>(2 * keys * D)),
        v(memory.take<T>(2 * keys * D)),
        bias(memory.take<float>(slice)),
        sums(memory.take<float>(block_warps * diagonals)) {}
};

// sums[row - column + keys - 1] = the sums along the diagonals of the warp's 16 rows. The 8 x 8
// squares of one block diagonal lie in the same registers of a lane; within a square, the next
// entry of a diagonal is 2 rows and 2 columns on, 9 lanes away.
template <int N>
__device__ void sum_diagonals(Shared<float> sums, const float (&ds)[N][4], const Lane& lane) {
  for (int i = lane.lane; i < strip + 8 * N; i += warp_size) sums[i] = 0;
  warp_barrier();
#pragma unroll
  for (int square = 1 - N; square <= 1; ++square)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float sum = 0;
      if (square <= 0) sum += ds[-square][e];
      if (square > 1 - N) sum += ds[1 - square][2 + e];
      const float next = shuffle_down(sum, 9);
      if (lane.g < 6 && lane.t < 3) sum += next;
      const float second = shuffle_down(sum, 18);
      if (lane.g < 4 && lane.t < 2) sum += second;
      if (lane.g < 2 || lane.t == 0)  // the first lane of a diagonal
        sums[8 * square + lane.g - 2 * lane.t - e + 8 * N - 1] += sum;
      warp_barrier();
    }
}

template <class T, int D>
__global__ void __launch_bounds__(tensor_threads, D == 128 ? 1 : 2)
    v2_query_gradient_kernel(BackwardArguments<T> a) {
  constexpr int keys = keys_of_tile<D>, N = keys / 8, stage = keys * D;
  const Problem<T>& p = a.problem;
  const QueryTiles<T, D> t{SharedMemory()};
  const int group = block_index().x, head = block_index().y, b = block_index().z;
  const auto q = p.query_rows(p.q, b, head), dout = p.query_rows(a.dout, b, head);
  const auto k = p.key_rows(p.k, b, head), v = p.key_rows(p.v, b, head);
  const float scale2 = p.scale * log2_e;
  BiasSlice<D> bias(t.bias, t.slice - 1);
  const auto partials =
      a.dbias_partials + ((std::int64_t(b) * p.heads + head) * a.groups + group) * a.bias_width;
  for (int d = thread_index(); d < a.bias_width; d += tensor_threads) partials[d] = 0;

  const int blocks = divided_up(p.queries, block_rows);
  for (int tile = group; tile < blocks; tile += a.groups) {
    const BlockRows<T, D> r(p, b, head, tile * block_rows);
    const auto sums = t.sums + r.lane.warp * t.diagonals;
    const int key_tiles = divided_up(r.key_end(), keys);
    // Starts the copies of a tile. Returns a bit for each warp that has a live entry there: if none
    // has, nobody asks for the values.
    const auto load = [&](int key_tile) {
      unsigned live = 0;
      if (key_tile < key_tiles) {
#pragma unroll 1
        for (int warp = 0; warp < block_warps; ++warp)
          live |=
              unsigned(is_live(a.live.row_tile(p, b, head, tile * block_warps + warp), key_tile))
              << warp;
        load_tile<T, D, keys>(t.k + key_tile % 2 * stage, k, key_tile * keys);
        if (live) load_tile<T, D, keys>(t.v + key_tile % 2 * stage, v, key_tile * keys);
      }
      commit_copies();
      return live;
    };
    load_tile<T, D, block_rows>(t.q, q, r.row0);
    load_tile<T, D, block_rows>(t.dout, dout, r.row0);
    unsigned next_live = load(0);
    bias.fetch(p, head, r.first_distance(0));
    float shift[2], delta[2], dq[D / 8][4] = {};
    for (int x = 0; x < 2; ++x) {
      const RowNumbers numbers = r.n[x] ? a.numbers[p.row(b, head, r.row(x))] : RowNumbers{};
      shift[x] = numbers.shift;
      delta[x] = numbers.delta;
    }

    for (int key_tile = 0; key_tile < key_tiles; ++key_tile) {
      const int key0 = key_tile * keys, first_distance = r.first_distance(key0);
      const bool live = (next_live >> r.lane.warp & 1) != 0, has_bias = r.has_bias(key0);
      next_live = load(key_tile + 1);
      bias.put(p, first_distance);
      wait_copies<1>();
      barrier();
      bias.fetch(p, head, first_distance - keys);
      // This thread's diagonal of the tile, and what is summed of it.
      const int distance = first_distance + thread_index();
      const bool has_diagonal =
          thread_index() < block_rows + keys - 1 && in_bias_window(distance, a.bias_width);
      const float before = has_diagonal ? partials[distance] : 0.f;
      const auto k_tile = t.k + key_tile % 2 * stage, v_tile = t.v + key_tile % 2 * stage;
      float ds[N][4], dA[N][4] = {};
      r.scores(ds, TileRows<T, D>{t.q, r.strip_row}, k_tile, t.bias, key0);
      if (live) add_products<T, D>(dA, TileRows<T, D>{t.dout, r.strip_row}, v_tile);
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int x = e / 2;
          const float P = probability(ds[i][e], scale2, shift[x]);
          ds[i][e] = score_gradient(P, P + r.offset[x], dA[i][e], delta[x]);
        }
      if (r.is_masked(key0)) {
#pragma unroll
        for (int i = 0; i < N; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (!r.sees(key0, i, e) || is_single(r.n[e / 2], shift[e / 2])) ds[i][e] = 0;
      }
#pragma unroll
      for (int j = 0; j < N / 2; ++j) {
        std::uint32_t operand[4];
        as_operand<T>(operand, ds[2 * j], ds[2 * j + 1]);
        add_rows<T, D>(dq, operand, k_tile, 16 * j);
      }
      if (has_bias) {
        sum_diagonals(sums, ds, r.lane);
        barrier();
        if (has_diagonal) {
          float sum = 0;
          for (int warp = 0; warp < block_warps; ++warp) {
            const int diagonal = thread_index() - warp * strip;
            if (diagonal >= 0 && diagonal < strip + keys - 1)
              sum += t.sums[warp * t.diagonals + diagonal];
          }
          partials[distance] = before + sum;
        }
      }
      barrier();  // the tiles and the sums have been read
    }
    wait_copies<0>();
    add_gradient<T, D>(a.dq, dq, p.scale, r.lane, [&](int x) {
      return r.n[x] ? p.query(b, r.row(x), head) : std::int64_t(-1);
    });
    barrier();  // the next rows may be loaded
  }
}

// ---- dK and dV.

/// Queries of a step.
template <int D>
inline constexpr int queries_of_step = D == 128 ? 32 : 64;

template <class T, int D>
struct KeyTiles {
  static constexpr int queries = queries_of_step<D>, slice = block_rows + queries;
  Shared<T> k, v, q, dout;
  Shared<float> bias;
  Shared<RowNumbers> numbers;  // of the step's queries

  static constexpr std::size_t bytes() {
    return 2 * shared_bytes_for<T>(block_rows * D) + 2 * shared_bytes_for<T>(2 * queries * D) +
           shared_bytes_for<float>(slice) + shared_bytes_for<RowNumbers>(2 * queries);
  }
  __device__ explicit KeyTiles(SharedMemory memory)
      : k(memory.take<T>(block_rows * D)),
        v(memory.take<T>(block_rows * D)),
        q(memory.take<T>(2 * queries * D)),
        dout(memory.take<T>(2 * queries * D)),
        bias(memory.take<float>(slice)),
        numbers(memory.take<RowNumbers>(2 * queries)) {}
};

// One block 64 keys of one key head. It goes through the queries of all heads that read them.
template <class T, int D>
__global__ void __launch_bounds__(tensor_threads, D == 128 ? 1 : 2)
    v2_key_gradients_kernel(BackwardArguments<T> a) {
  constexpr int queries = queries_of_step<D>, N = queries / 8, stage = queries * D;
  const Problem<T>& p = a.problem;
  const KeyTiles<T, D> t{SharedMemory()};
  const int key0 = block_index().x * block_rows, key_head = block_index().y;
  const int b = block_index().z, group = p.heads / p.kv_heads, head0 = key_head * group;
  const int length = p.length(b), position0 = p.first_position(length);
  if (key0 >= length) return;
  const Lane lane;
  const int strip_row = lane.warp * strip;
  const float scale2 = p.scale * log2_e;

  const int first_row = key0 - position0;  // the first that sees a key of the block
  const int first_tile = first_row > 0 ? first_row / queries : 0;
  const int tiles = divided_up(p.queries, queries) - first_tile, steps = group * tiles;
  const auto head_of = [&](int step) { return head0 + step / tiles; };
  const auto row0_of = [&](int step) { return (first_tile + step % tiles) * queries; };
  const auto first_distance = [&](int step) {
    return position0 + row0_of(step) - key0 - (block_rows - 1);
  };

  // Starts the copies of a step. Returns a bit for each of its tiles of 16 queries with a live
  // entry, key tile after key tile: if none has, nobody asks for the gradients of the outputs.
  constexpr int strips = queries / strip, key_tiles = block_rows / keys_of_tile<D>;
  const auto load = [&](int step) {
    unsigned live = 0;
    if (step < steps) {
      const int head = head_of(step), row0 = row0_of(step), to = step % 2 * stage;
#pragma unroll 1
      for (int j = 0; j < strips; ++j)
        for (int c = 0; c < key_tiles; ++c)
          live |= unsigned(row0 + j * strip < p.queries &&
                           is_live(a.live.row_tile(p, b, head, row0 / strip + j),
                                   key0 / keys_of_tile<D> + c))
                  << (c * strips + j);
      load_tile<T, D, queries>(t.q + to, p.query_rows(p.q, b, head), row0);
      if (live) load_tile<T, D, queries>(t.dout + to, p.query_rows(a.dout, b, head), row0);
      if (thread_index() < queries) {
        const bool there = row0 + thread_index() < p.queries;
        const Global<const RowNumbers> numbers = a.numbers;
        copy_async<RowNumbers>(t.numbers, step % 2 * queries + thread_index(),
                               numbers + p.row(b, head, row0 + thread_index()), there);
      }
    }
    commit_copies();
    return live;
  };
  load_tile<T, D, block_rows>(t.k, p.key_rows(p.k, b, head0), key0);
  load_tile<T, D, block_rows>(t.v, p.key_rows(p.v, b, head0), key0);
  unsigned next_live = load(0);
  BiasSlice<D> bias(t.bias, t.slice - 1);
  bias.fetch(p, head0, first_distance(0));

  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    // Of the warp's key tile, a bit for 16 queries.
    const unsigned live = next_live >> strip_row / keys_of_tile<D> * strips & ((1u << strips) - 1);
    next_live = load(step + 1);
    bias.put(p, first_distance(step));
    wait_copies<1>();
    barrier();
    const auto q_tile = t.q + step % 2 * stage, dout_tile = t.dout + step % 2 * stage;
    const auto numbers = t.numbers + step % 2 * queries;
    float s[N][4], dA[N][4] = {};
    start_sums<1>(s, first_distance(step) < p.window, t.bias,
                  block_rows - 1 - strip_row - lane.g + 2 * lane.t);
    add_products<T, D>(s, TileRows<T, D>{t.k, strip_row}, q_tile);
    if (live) add_products<T, D>(dA, TileRows<T, D>{t.v, strip_row}, dout_tile, live);
    const bool masked = key0 + strip_row + strip > seen_by_all(p, length, row0_of(step), queries);

#pragma unroll
    for (int j = 0; j < strips; ++j) {
      // s becomes the weights, dA the score gradients.
#pragma unroll
      for (int i = 2 * j; i < 2 * j + 2; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const RowNumbers r = numbers[lane.column(i, e)];
          const float P = probability(s[i][e], scale2, r.shift);
          s[i][e] = elastic_weight(P, r.offset);
          dA[i][e] = score_gradient(P, P + r.offset, dA[i][e], r.delta);
          if (!masked) continue;
          const bool seen = key0 + strip_row + lane.row(e) < r.n, single = is_single(r.n, r.shift);
          if (single) s[i][e] = elastic_weight(1.f, r.offset);
          if (!seen) s[i][e] = 0;
          if (!seen || single) dA[i][e] = 0;
        }
      std::uint32_t operand[4];
      // Not sooner: at D = 128 no register is free for it before the last sums.
      if (j == strips - 1 && step + 1 < steps)
        bias.fetch(p, head_of(step + 1), first_distance(step + 1));
      if (live >> j & 1) {
        as_operand<T>(operand, s[2 * j], s[2 * j + 1]);
        add_rows<T, D>(dv, operand, dout_tile, strip * j);
      }
      as_operand<T>(operand, dA[2 * j], dA[2 * j + 1]);
      add_rows<T, D>(dk, operand, q_tile, strip * j);
    }
    barrier();  // the tiles have been read
  }
  const auto row_of = [&](int x) {
    const int key = key0 + strip_row + lane.g + 8 * x;
    return key < length ? p.key(b, key, key_head) : std::int64_t(-1);
  };
  add_gradient<T, D>(a.dk, dk, p.scale, lane, row_of);
  add_gradient<T, D>(a.dv, dv, 1, lane, row_of);
}

static_assert(QueryTiles<BFloat16, 64>::bytes() <= most_shared_bytes &&
              QueryTiles<BFloat16, 128>::bytes() <= most_shared_bytes &&
              KeyTiles<BFloat16, 64>::bytes() <= most_shared_bytes &&
              KeyTiles<BFloat16, 128>::bytes() <= most_shared_bytes);

struct Buffers {
  Global<RowNumbers> numbers;
  Global<float> dtau_rows, dbias_partials;
  std::size_t bytes;
};

Buffers make_buffers(const LazyAttention& a, void* workspace) {
  Workspace w(workspace);
  const auto numbers = w.take<RowNumbers>(row_count(a));
  const auto dtau_rows = w.take<float>(row_count(a));
  const auto partials =
      w.take<float>(a.batch * a.heads * bias_groups(a, block_rows) * bias_width(a));
  return {numbers, dtau_rows, partials, w.bytes()};
}

}  // namespace

LazySizes v2_sizes(const LazyAttention& a) {
  LazySizes sizes = tensor_sizes(a);
  sizes.forward_workspace = sizes.live_tiles;
  sizes.backward_workspace = make_buffers(a, nullptr).bytes;
  sizes.needs_live_sums = 1;
  return sizes;
}

void v2_backward(const LazyAttention& attention, const LazyInputs& in, const LazyOutputs& forward,
                 const void* dout, const LazyGrads& grads, void* workspace, void* stream_) {
  const Buffers buffers = make_buffers(attention, workspace);
  const auto queries = query_count(attention), keys = key_count(attention);
  const int groups = bias_groups(attention, block_rows);
  const auto stream = static_cast<Stream>(stream_);
  with_format(attention, [&]<class T, int D>() {
    const Problem<T> p = make_problem<T>(attention, in);
    const BackwardArguments<T> a{
        p,
        make_live_tiles(tensor_sizes(attention), p.skip_dead_tiles ? forward.live_tiles : nullptr),
        view(static_cast<const T*>(dout), queries),
        live_sums(attention, forward.live_sums),
        view<const float>(forward.lse, row_count(attention)),
        buffers.numbers,
        buffers.dtau_rows,
        buffers.dbias_partials,
        groups,
        static_cast<int>(bias_width(attention)),
        pairs(grads.dq, queries),
        pairs(grads.dk, keys),
        pairs(grads.dv, keys)};
    const auto run = [&](const char* name, Dim grid, std::size_t shared_bytes,
                         void (*kernel)(BackwardArguments<T>)) {
      launch({name, grid, tensor_threads, shared_bytes, stream}, kernel, a);
    };
    run("v2_delta", {divided_up(p.queries, block_warps), p.heads, p.batch}, 0, v2_delta_kernel<T>);
    run("v2_query_gradient", {groups, p.heads, p.batch}, QueryTiles<T, D>::bytes(),
        v2_query_gradient_kernel<T, D>);
    run("v2_key_gradients", {divided_up(p.keys, block_rows), p.kv_heads, p.batch},
        KeyTiles<T, D>::bytes(), v2_key_gradients_kernel<T, D>);
    sum_partials({p.batch, p.heads, groups, a.bias_width, p.window, a.dbias_partials,
                  view(grads.dbias, attention.heads * attention.window)},
                 stream);
    if (grads.dtau)
      sum_rows({p.batch, p.heads, p.queries, a.dtau_rows, view(grads.dtau, attention.heads)},
               stream);
  });
}

}  // namespace lazy::LAZY_TARGET
