// v2's backward with atomics, to see what the same bytes on every run cost. One kernel in the place
// of two: a block of keys computes the score gradients once, keeps dK and dV as v2 does, and adds
// its part of dQ and of the bias' gradient to floats that all blocks share, in whatever order they
// come. Five products a tile for v2's seven. The library never takes it.

#include "cuda/rungs.hpp"
#include "cuda/v2_tensor.hpp"

#define v2_sizes sizes_without_atomics
#define v2_backward backward_without_atomics
#include "cuda/v2_tensor_backward.cu"
#undef v2_sizes
#undef v2_backward

namespace lazy::LAZY_TARGET {
namespace {

// to[at] += x, to[at + 1] += y. Blocks of the emulation run one after another.
__device__ inline void atomic_add(Global<float> to, std::int64_t at, float x, float y) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<float2*>(to + at), make_float2(x, y));
#elif defined(__CUDACC__)
  atomicAdd(to + at, x);
  atomicAdd(to + at + 1, y);
#else
  to[at] += x;
  to[at + 1] += y;
#endif
}
__device__ inline void atomic_add(Global<float> to, std::int64_t at, float x) {
#if defined(__CUDACC__)
  atomicAdd(to + at, x);
#else
  to[at] += x;
#endif
}

template <class T>
struct AtomicArguments {
  BackwardArguments<T> v2;
  Global<float> dq;     // [B, Tq, H, D], unscaled
  Global<float> dbias;  // [H, W]
  std::int64_t size;    // of dq
};

constexpr int elements_of_block = 4 * tensor_threads;

template <class T>
__global__ void __launch_bounds__(tensor_threads) zero_kernel(AtomicArguments<T> a) {
  for (int i = thread_index(); i < elements_of_block; i += tensor_threads) {
    const std::int64_t at = std::int64_t(block_index().x) * elements_of_block + i;
    if (at < a.size) a.dq[at] = 0;
  }
}

// dq += scale times the sums, rounded.
template <class T>
__global__ void __launch_bounds__(tensor_threads) round_kernel(AtomicArguments<T> a) {
  for (int i = 2 * thread_index(); i < elements_of_block; i += 2 * tensor_threads) {
    const std::int64_t at = std::int64_t(block_index().x) * elements_of_block + i;
    if (at >= a.size) return;
    std::uint32_t& pair = a.v2.dq[at / 2];
    const auto half = [](std::uint32_t bits) {
      return to_float(T{static_cast<std::uint16_t>(bits)});
    };
    const float scale = a.v2.problem.scale;
    pair = pack<T>(fma(a.dq[at], scale, half(pair)), fma(a.dq[at + 1], scale, half(pair >> 16)));
  }
}

template <class T, int D>
struct AtomicTiles {
  static constexpr int queries = queries_of_step<D>, slice = block_rows + queries;
  static constexpr int diagonals = strip + queries;
  Shared<T> k, v, q, dout;
  Shared<float> bias, sums;
  Shared<RowNumbers> numbers;
  Shared<T> ds;                    // [64 keys, queries] of the step
  Shared<std::uint32_t> ds_pairs;  // the same, two numbers each

  static constexpr std::size_t bytes() {
    return 2 * shared_bytes_for<T>(block_rows * D) + 2 * shared_bytes_for<T>(2 * queries * D) +
           shared_bytes_for<float>(slice) + shared_bytes_for<float>(block_warps * diagonals) +
           shared_bytes_for<RowNumbers>(2 * queries) + shared_bytes_for<T>(block_rows * queries);
  }
  __device__ explicit AtomicTiles(SharedMemory memory)
      : k(memory.take<T>(block_rows * D)),
        v(memory.take<T>(block_rows * D)),
        q(memory.take<T>(2 * queries * D)),
        dout(memory.take<T>(2 * queries * D)),
        bias(memory.take<float>(slice)),
        sums(memory.take<float>(block_warps * diagonals)),
        numbers(memory.take<RowNumbers>(2 * queries)),
        ds(SharedMemory(memory).take<T>(block_rows * queries)),
        ds_pairs(memory.take<std::uint32_t>(block_rows * queries / 2)) {}
};

// Adds the step's part of dQ: a warp has 16 queries and a part of the components.
template <class T, int D>
__device__ void add_query_gradient(const AtomicArguments<T>& a, const AtomicTiles<T, D>& t,
                                   const Lane& lane, int b, int head, int row0) {
  constexpr int strips = AtomicTiles<T, D>::queries / strip, N = D / 8 * strips / block_warps;
  const int first_row = lane.warp % strips * strip, first_column = lane.warp / strips * 8 * N;
  float dq[N][4] = {};
#pragma unroll
  for (int j = 0; j < block_rows / 16; ++j) {
    std::uint32_t rows[4];
    load_matrices_transposed(
        rows, t.ds,
        tile_at<AtomicTiles<T, D>::queries>(16 * j + lane.lane % 8 + lane.lane / 16 * 8,
                                            first_row / 8 + lane.lane / 8 % 2));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      std::uint32_t columns[4];
      load_matrices_transposed(
          columns, t.k, tile_at<D>(16 * j + lane.lane % 16, first_column / 8 + n + lane.lane / 16));
      multiply_add<T>(dq[n], rows, columns[0], columns[1]);
      multiply_add<T>(dq[n + 1], rows, columns[2], columns[3]);
    }
  }
  const Problem<T>& p = a.v2.problem;
#pragma unroll
  for (int x = 0; x < 2; ++x) {
    const int row = row0 + first_row + lane.g + 8 * x;
    if (row >= p.queries) continue;
    const std::int64_t first = p.query(b, row, head) + first_column + 2 * lane.t;
#pragma unroll
    for (int n = 0; n < N; ++n) atomic_add(a.dq, first + 8 * n, dq[n][2 * x], dq[n][2 * x + 1]);
  }
}

// v2_key_gradients_kernel, and what it leaves to others there.
template <class T, int D>
__global__ void __launch_bounds__(tensor_threads, D == 128 ? 1 : 2)
    atomic_gradients_kernel(AtomicArguments<T> arguments) {
  constexpr int queries = queries_of_step<D>, N = queries / 8, stage = queries * D;
  const BackwardArguments<T>& a = arguments.v2;
  const Problem<T>& p = a.problem;
  const AtomicTiles<T, D> t{SharedMemory()};
  const int key0 = block_index().x * block_rows, key_head = block_index().y;
  const int b = block_index().z, group = p.heads / p.kv_heads, head0 = key_head * group;
  const int length = p.length(b), position0 = p.first_position(length);
  if (key0 >= length) return;
  const Lane lane;
  const int strip_row = lane.warp * strip;
  const float scale2 = p.scale * log2_e;

  const int first_row = key0 - position0;
  const int first_tile = first_row > 0 ? first_row / queries : 0;
  const int tiles = divided_up(p.queries, queries) - first_tile, steps = group * tiles;
  const auto head_of = [&](int step) { return head0 + step / tiles; };
  const auto row0_of = [&](int step) { return (first_tile + step % tiles) * queries; };
  const auto first_distance = [&](int step) {
    return position0 + row0_of(step) - key0 - (block_rows - 1);
  };
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
    const unsigned live = next_live >> strip_row / keys_of_tile<D> * strips & ((1u << strips) - 1);
    next_live = load(step + 1);
    bias.put(p, first_distance(step));
    wait_copies<1>();
    barrier();
    if (step + 1 < steps) bias.fetch(p, head_of(step + 1), first_distance(step + 1));
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
      if (live >> j & 1) {
        as_operand<T>(operand, s[2 * j], s[2 * j + 1]);
        add_rows<T, D>(dv, operand, dout_tile, strip * j);
      }
      as_operand<T>(operand, dA[2 * j], dA[2 * j + 1]);
      add_rows<T, D>(dk, operand, q_tile, strip * j);
#pragma unroll
      for (int i = 0; i < 4; ++i)  // operand i: keys g + 8 (i % 2), queries 16 j + 8 (i / 2) + 2 t
        t.ds_pairs[tile_at<queries>(strip_row + lane.g + i % 2 * 8, 2 * j + i / 2) / 2 + lane.t] =
            operand[i];
    }
    const auto sums = t.sums + lane.warp * t.diagonals;
    const bool has_bias = first_distance(step) < p.window;
    if (has_bias) sum_diagonals(sums, dA, lane);
    barrier();
    if (has_bias && thread_index() < block_rows + queries - 1) {
      const int distance = first_distance(step) + thread_index();
      float sum = 0;
      for (int warp = 0; warp < block_warps; ++warp) {
        const int diagonal = block_rows - 2 + queries - warp * strip - thread_index();
        if (diagonal >= 0 && diagonal < strip + queries - 1)
          sum += t.sums[warp * t.diagonals + diagonal];
      }
      if (in_bias_window(distance, a.bias_width))
        atomic_add(arguments.dbias, std::int64_t(head_of(step)) * p.window + distance, sum);
    }
    add_query_gradient<T, D>(arguments, t, lane, b, head_of(step), row0_of(step));
    barrier();  // the tiles have been read
  }
  const auto row_of = [&](int x) {
    const int key = key0 + strip_row + lane.g + 8 * x;
    return key < length ? p.key(b, key, key_head) : std::int64_t(-1);
  };
  add_gradient<T, D>(a.dk, dk, p.scale, lane, row_of);
  add_gradient<T, D>(a.dv, dv, 1, lane, row_of);
}

static_assert(AtomicTiles<BFloat16, 64>::bytes() <= most_shared_bytes &&
              AtomicTiles<BFloat16, 128>::bytes() <= most_shared_bytes);

struct AtomicBuffers {
  Global<RowNumbers> numbers;
  Global<float> dtau_rows, dq;
  std::size_t bytes;
};

AtomicBuffers make_atomic_buffers(const LazyAttention& a, void* workspace) {
  Workspace w(workspace);
  const auto numbers = w.take<RowNumbers>(row_count(a));
  const auto dtau_rows = w.take<float>(row_count(a));
  const auto dq = w.take<float>(query_count(a));
  return {numbers, dtau_rows, dq, w.bytes()};
}

}  // namespace

LazySizes v2_sizes(const LazyAttention& a) {
  LazySizes sizes = sizes_without_atomics(a);
  sizes.backward_workspace = make_atomic_buffers(a, nullptr).bytes;
  return sizes;
}

void v2_backward(const LazyAttention& attention, const LazyInputs& in, const LazyOutputs& forward,
                 const void* dout, const LazyGrads& grads, void* workspace, void* stream_) {
  const AtomicBuffers buffers = make_atomic_buffers(attention, workspace);
  const auto queries = query_count(attention), keys = key_count(attention);
  const auto stream = static_cast<Stream>(stream_);
  with_format(attention, [&]<class T, int D>() {
    const Problem<T> p = make_problem<T>(attention, in);
    const BackwardArguments<T> v2{
        p,
        make_live_tiles(tensor_sizes(attention), p.skip_dead_tiles ? forward.live_tiles : nullptr),
        view(static_cast<const T*>(dout), queries),
        live_sums(attention, forward.live_sums),
        view<const float>(forward.lse, row_count(attention)),
        buffers.numbers,
        buffers.dtau_rows,
        {},
        0,
        static_cast<int>(bias_width(attention)),
        pairs(grads.dq, queries),
        pairs(grads.dk, keys),
        pairs(grads.dv, keys)};
    const AtomicArguments<T> a{v2, buffers.dq,
                               view(grads.dbias, attention.heads * attention.window), queries};
    const int elements = static_cast<int>(divided_up<std::int64_t>(queries, elements_of_block));
    launch({"atomic_zero", {elements}, tensor_threads, 0, stream}, zero_kernel<T>, a);
    launch({"v2_delta",
            {divided_up(p.queries, block_warps), p.heads, p.batch},
            tensor_threads,
            0,
            stream},
           v2_delta_kernel<T>, v2);
    launch({"atomic_gradients",
            {divided_up(p.keys, block_rows), p.kv_heads, p.batch},
            tensor_threads,
            AtomicTiles<T, D>::bytes(),
            stream},
           atomic_gradients_kernel<T, D>, a);
    launch({"atomic_round", {elements}, tensor_threads, 0, stream}, round_kernel<T>, a);
    if (grads.dtau)
      sum_rows({p.batch, p.heads, p.queries, a.v2.dtau_rows, view(grads.dtau, attention.heads)},
               stream);
  });
}

}  // namespace lazy::LAZY_TARGET
