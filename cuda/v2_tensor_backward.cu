// v2, backward: v1's three kernels on tensor cores. Since the forward left the mean of the live
// values, Ubar_i = (1/n) sum over live j of V_j, delta needs no pass over the keys:
//
//   delta_i = sum_live P_ij dO_i.V_j = dO_i.O_i - tau dO_i.Ubar_i        dtau = sum_i dO_i.Ubar_i
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
  Global<const T> out, mean_live_value, dout;
  Global<const float> lse;
  Global<float> delta, dtau_rows;  // [B, H, Tq]
  Global<float> dbias_partials;    // [B, H, groups, min(W, Tk)]
  int groups, bias_width;
  Global<std::uint32_t> dq, dk, dv;  // two numbers each
};

// One warp a row.
template <class T>
__global__ void __launch_bounds__(tensor_threads) v2_delta_kernel(BackwardArguments<T> a) {
  const Problem<T>& p = a.problem;
  const Lane lane;
  const int row = block_index().x * block_warps + lane.warp;
  const int head = block_index().y, b = block_index().z;
  if (row >= p.queries) return;
  const std::int64_t first = p.query(b, row, head);
  const bool empty = p.visible_keys(p.length(b), row) == 0;
  float with_out = 0, with_mean = 0;
  for (int d = lane.lane; d < p.head_dim && !empty; d += warp_size) {
    const float gradient = to_float(a.dout[first + d]);
    with_out = fma(gradient, to_float(a.out[first + d]), with_out);
    with_mean = fma(gradient, to_float(a.mean_live_value[first + d]), with_mean);
  }
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) {
    with_out += shuffle_xor(with_out, lanes);
    with_mean += shuffle_xor(with_mean, lanes);
  }
  if (lane.lane != 0) return;
  a.delta[p.row(b, head, row)] = fma(-p.tau_of(head), with_mean, with_out);
  a.dtau_rows[p.row(b, head, row)] = with_mean;
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
  const auto partials =
      a.dbias_partials + ((std::int64_t(b) * p.heads + head) * a.groups + group) * a.bias_width;
  for (int d = thread_index(); d < a.bias_width; d += tensor_threads) partials[d] = 0;

  const int blocks = divided_up(p.queries, block_rows);
  for (int tile = group; tile < blocks; tile += a.groups) {
    const BlockRows<T, D> r(p, b, head, tile * block_rows);
    const auto bits = a.live.row_tile(p, b, head, tile * block_warps + r.lane.warp);
    const auto sums = t.sums + r.lane.warp * t.diagonals;
    const int key_tiles = divided_up(r.key_end(), keys);
    const auto load = [&](int key_tile) {
      if (key_tile < key_tiles) {
        load_tile<T, D>(t.k + key_tile % 2 * stage, keys, k, key_tile * keys);
        load_tile<T, D>(t.v + key_tile % 2 * stage, keys, v, key_tile * keys);
      }
      commit_copies();
    };
    load_tile<T, D>(t.q, block_rows, q, r.row0);
    load_tile<T, D>(t.dout, block_rows, dout, r.row0);
    load(0);
    float lse2[2], delta[2], dq[D / 8][4] = {};
    for (int x = 0; x < 2; ++x) {
      const RowNumbers numbers = row_numbers(p, b, head, r.row(x), a.lse, a.delta);
      lse2[x] = numbers.lse2;
      delta[x] = numbers.delta;
    }

    for (int key_tile = 0; key_tile < key_tiles; ++key_tile) {
      const int key0 = key_tile * keys;
      const bool bias = r.has_bias(key0);
      load(key_tile + 1);
      if (bias) load_bias(t.bias, p, head, r.first_distance(key0), t.slice - 1);
      wait_copies<1>();
      barrier();
      const auto k_tile = t.k + key_tile % 2 * stage, v_tile = t.v + key_tile % 2 * stage;
      float ds[N][4], dA[N][4] = {};
      r.scores(ds, t.q, k_tile, t.bias, key0);
      if (is_live(bits, key_tile)) add_products<T, D>(dA, t.dout, r.strip_row, v_tile);
#pragma unroll
      for (int i = 0; i < N; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int x = e / 2;
          const float P = probability(ds[i][e], scale2, lse2[x], r.n[x]);
          const float w = elastic_weight(P, r.offset[x]);
          const float gradient = score_gradient(P, w, dA[i][e], delta[x], r.n[x]);
          ds[i][e] = r.sees(key0, i, e) ? gradient : 0.f;
        }
#pragma unroll
      for (int j = 0; j < N / 2; ++j) {
        std::uint32_t operand[4];
        as_operand<T>(operand, ds[2 * j], ds[2 * j + 1]);
        add_rows<T, D>(dq, operand, k_tile, 16 * j);
      }
      if (bias) {
        sum_diagonals(sums, ds, r.lane);
        barrier();
        for (int i = thread_index(); i < block_rows + keys - 1; i += tensor_threads) {
          const int distance = r.first_distance(key0) + i;
          if (!in_bias_window(distance, a.bias_width)) continue;
          float sum = 0;
          for (int warp = 0; warp < block_warps; ++warp) {
            const int diagonal = i - warp * strip;
            if (diagonal >= 0 && diagonal < strip + keys - 1)
              sum += t.sums[warp * t.diagonals + diagonal];
          }
          partials[distance] += sum;
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
           shared_bytes_for<float>(slice) + shared_bytes_for<RowNumbers>(queries);
  }
  __device__ explicit KeyTiles(SharedMemory memory)
      : k(memory.take<T>(block_rows * D)),
        v(memory.take<T>(block_rows * D)),
        q(memory.take<T>(2 * queries * D)),
        dout(memory.take<T>(2 * queries * D)),
        bias(memory.take<float>(slice)),
        numbers(memory.take<RowNumbers>(queries)) {}
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
  const int strip_row = lane.warp * strip, key_tile = (key0 + strip_row) / keys_of_tile<D>;
  const float scale2 = p.scale * log2_e;

  const int first_row = key0 - position0;  // the first that sees a key of the block
  const int first_tile = first_row > 0 ? first_row / queries : 0;
  const int tiles = divided_up(p.queries, queries) - first_tile, steps = group * tiles;
  const auto load = [&](int step) {
    if (step < steps) {
      const int head = head0 + step / tiles, row0 = (first_tile + step % tiles) * queries;
      const int to = step % 2 * stage;
      load_tile<T, D>(t.q + to, queries, p.query_rows(p.q, b, head), row0);
      load_tile<T, D>(t.dout + to, queries, p.query_rows(a.dout, b, head), row0);
    }
    commit_copies();
  };
  load_tile<T, D>(t.k, block_rows, p.key_rows(p.k, b, head0), key0);
  load_tile<T, D>(t.v, block_rows, p.key_rows(p.v, b, head0), key0);
  load(0);

  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    const int head = head0 + step / tiles, row0 = (first_tile + step % tiles) * queries;
    const int first_distance = position0 + row0 - key0 - (block_rows - 1);
    const bool bias = first_distance < p.window;
    load(step + 1);
    for (int i = thread_index(); i < queries; i += tensor_threads)
      t.numbers[i] = row_numbers(p, b, head, row0 + i, a.lse, a.delta);
    if (bias) load_bias(t.bias, p, head, first_distance, t.slice - 1);
    wait_copies<1>();
    barrier();
    const auto q_tile = t.q + step % 2 * stage, dout_tile = t.dout + step % 2 * stage;

    unsigned live = 0;  // a bit for 16 queries
#pragma unroll
    for (int j = 0; j < queries / strip; ++j)
      live |= unsigned(row0 + j * strip < p.queries &&
                       is_live(a.live.row_tile(p, b, head, row0 / strip + j), key_tile))
              << j;
    float s[N][4], dA[N][4] = {};
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int diagonal = lane.column(i, e) - strip_row - lane.row(e) + block_rows - 1;
        s[i][e] = bias ? float(t.bias[diagonal]) : 0.f;
      }
    add_products<T, D>(s, t.k, strip_row, q_tile);
    if (live) add_products<T, D>(dA, t.v, strip_row, dout_tile, live);

#pragma unroll
    for (int j = 0; j < queries / strip; ++j) {
      // s becomes the weights, dA the score gradients.
#pragma unroll
      for (int i = 2 * j; i < 2 * j + 2; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const RowNumbers r = t.numbers[lane.column(i, e)];
          const bool seen = key0 + strip_row + lane.row(e) < r.n;
          const float P = probability(s[i][e], scale2, r.lse2, r.n);
          const float w = elastic_weight(P, r.offset);
          const float gradient = score_gradient(P, w, dA[i][e], r.delta, r.n);
          s[i][e] = seen ? w : 0.f;
          dA[i][e] = seen ? gradient : 0.f;
        }
      std::uint32_t operand[4];
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
  Global<float> delta, dtau_rows, dbias_partials;
  std::size_t bytes;
};

Buffers make_buffers(const LazyAttention& a, void* workspace) {
  Workspace w(workspace);
  const auto delta = w.take<float>(row_count(a)), dtau_rows = w.take<float>(row_count(a));
  const auto partials =
      w.take<float>(a.batch * a.heads * bias_groups(a, block_rows) * bias_width(a));
  return {delta, dtau_rows, partials, w.bytes()};
}

}  // namespace

LazySizes v2_sizes(const LazyAttention& a) {
  LazySizes sizes = tensor_sizes(a);
  sizes.forward_workspace = sizes.live_tiles;
  sizes.backward_workspace = make_buffers(a, nullptr).bytes;
  sizes.needs_mean_live_value = 1;
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
    const auto tensor = [&](const void* x) { return view(static_cast<const T*>(x), queries); };
    const BackwardArguments<T> a{
        p,
        make_live_tiles(tensor_sizes(attention), p.skip_dead_tiles ? forward.live_tiles : nullptr),
        tensor(forward.out),
        tensor(forward.mean_live_value),
        tensor(dout),
        view<const float>(forward.lse, row_count(attention)),
        buffers.delta,
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
