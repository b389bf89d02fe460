// Decoding: one query a sequence, so the time goes into reading the keys and values once. A
// sequence is divided into chunks of keys, each the work of a few blocks:
//   A  the scores of a chunk, and their log-sum-exp
//   B  lse of the row from those; the weights of a chunk, and its part of the output
//   C  the sum of the parts: a weight max(P + tau/n, 0) is final, nothing is rescaled
// The grids depend on the cache's capacity, not on the lengths: one captured graph serves them all.

#include "cuda/decode.hpp"
#include "cuda/decode_division.hpp"

namespace lazy::LAZY_TARGET {
namespace {

// ---- A.

constexpr int score_heads = 32;  // most query heads of a block

template <class T>
struct ScoresArguments {
  Problem<T> problem;
  int chunks;
  Global<float> scores;     // [B, H, Tk]
  Global<float> chunk_lse;  // [B, H, chunks]
};

template <class T, int D>
__global__ void __launch_bounds__(decode_threads) decode_scores_kernel(ScoresArguments<T> a) {
  using R = Rows<T, D>;
  const Problem<T>& p = a.problem;
  const Part part(p, a.chunks, score_heads);
  if (part.begin >= part.end) return;
  const R lane;
  const int warp = thread_index() / warp_size;
  const auto k = p.key_rows(p.k, part.b, part.head);
  const auto scores = a.scores + p.row(part.b, part.head, 0) * p.keys;

  // The queries, number by number of a piece: lanes of a row read neighbours.
  auto q = SharedMemory().take<float>(part.heads * D);
  for (int i = thread_index(); i < part.heads * D; i += decode_threads) {
    const int h = i / D, d = i % D;
    q[h * D + d % R::numbers * R::lanes + d / R::numbers] =
        to_float(p.q[p.query(part.b, 0, part.head + h) + d]);
  }
  barrier();

  const auto fetch = [&](Piece(&pieces)[rows_at_once], int key0) {
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      const int key = key0 + lane.place * rows_at_once + r;
      pieces[r] = Piece{};
      if (key < part.end)
        pieces[r] = load_piece<T>(k.first, key * k.stride + lane.piece * R::numbers);
    }
  };
  // S_j = q . k_j / sqrt(D) + b[n - 1 - j]. A key is read once, for all heads of its group.
  constexpr int step = decode_warps * R::together;
  Piece next[rows_at_once];
  int key0 = part.begin + warp * R::together;
  fetch(next, key0);
  for (; key0 < part.end; key0 += step) {
    Floats<R::numbers> keys[rows_at_once];
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) keys[r] = unpack<T>(next[r]);
    fetch(next, key0 + step);  // on its way while these are used
    const int key = key0 + lane.place * rows_at_once + lane.piece;
    for (int h = 0; h < part.heads; ++h) {
      float products[rows_at_once] = {};
#pragma unroll
      for (int i = 0; i < R::numbers; ++i) {
        const float query = q[h * D + i * R::lanes + lane.piece];
#pragma unroll
        for (int r = 0; r < rows_at_once; ++r) products[r] = fma(query, keys[r][i], products[r]);
      }
      const float product = sum_each<R::lanes>(products);
      if (lane.piece < rows_at_once && key < part.end)
        scores[std::int64_t(h) * p.keys + key] =
            fma(product, p.scale, p.bias_at(part.head + h, part.n - 1 - key));
    }
  }

  barrier();  // the scores are there for all
  for (int h = warp; h < part.heads; h += decode_warps) {
    const auto of_head = scores + (std::int64_t(h) * p.keys + part.begin);
    const float lse = log_sum_exp(part.end - part.begin, [&](int i) { return of_head[i]; });
    if (thread_index() % warp_size == 0)
      a.chunk_lse[p.row(part.b, part.head + h, 0) * a.chunks + part.chunk] = lse;
  }
}

// ---- B.

template <class T>
struct ValuesArguments {
  Problem<T> problem;
  int chunks;
  Global<const float> scores;     // [B, H, Tk]
  Global<const float> chunk_lse;  // [B, H, chunks]
  Global<float> lse;              // [B, H, 1]
  Global<float> partial;          // [B, H, chunks, D]
};

/// The shared memory of a block of B.
template <int D, int heads>
struct ValuesMemory {
  Shared<float> lse, offset;  // [heads]: offset tau / n
  Shared<int> live;           // [warps, warp_keys]: keys that a head attends to, in order
  Shared<float> weights;      // [warps, warp_keys, heads]: theirs
  Shared<float> sums;         // [warps, heads, D]

  static constexpr std::size_t bytes() {
    return 2 * shared_bytes_for<float>(heads) + shared_bytes_for<int>(chunk_unit) +
           shared_bytes_for<float>(chunk_unit * heads) +
           shared_bytes_for<float>(decode_warps * heads * D);
  }
  __device__ explicit ValuesMemory(SharedMemory memory)
      : lse(memory.take<float>(heads)),
        offset(memory.take<float>(heads)),
        live(memory.take<int>(chunk_unit)),
        weights(memory.take<float>(chunk_unit * heads)),
        sums(memory.take<float>(decode_warps * heads * D)) {}
};

// Left alone, the compiler spills float registers to make room for more blocks; 3 blocks it has
// room for anyway.
template <class T, int D, int heads>
__global__ void __launch_bounds__(decode_threads, sizeof(T) == 4 ? 3 : 0)
    decode_values_kernel(ValuesArguments<T> a) {
  using R = Rows<T, D>;
  const Problem<T>& p = a.problem;
  const Part part(p, a.chunks, heads);
  if (part.begin >= part.end && part.chunk > 0) return;
  const R lane;
  const ValuesMemory<D, heads> m{SharedMemory()};
  const int warp = thread_index() / warp_size, in_warp = thread_index() % warp_size;
  const auto v = p.key_rows(p.v, part.b, part.head);
  const auto scores = a.scores + p.row(part.b, part.head, 0) * p.keys;

  // lse of the rows: every block for itself, the first one writes it down.
  for (int h = warp; h < part.heads; h += decode_warps) {
    const std::int64_t row = p.row(part.b, part.head + h, 0);
    const auto of_row = a.chunk_lse + row * a.chunks;
    const float lse = log_sum_exp(part.division.chunks, [&](int i) { return of_row[i]; });
    if (in_warp == 0) {
      m.lse[h] = lse;
      m.offset[h] = p.tau_of(part.head + h) / p.divisor(part.n, part.n);
      if (part.chunk == 0) a.lse[row] = lse;
    }
  }
  barrier();

  float sums[heads][R::numbers] = {};
  const auto live = m.live + warp * warp_keys;
  const auto weights = m.weights + warp * warp_keys * heads;
  for (int key0 = part.begin + warp * warp_keys; key0 < part.end; key0 += chunk_unit) {
    // The weights max(P + tau/n, 0) of the warp's keys. Only keys that some head attends to stay.
    int count = 0;
#pragma unroll 1
    for (int half = 0; half < warp_keys; half += warp_size) {
      const int key = key0 + half + in_warp;
      float weight[heads];
      bool positive = false;
#pragma unroll
      for (int h = 0; h < heads; ++h) {
        weight[h] = 0;
        if (h < part.heads && key < part.end) {
          const float score = scores[std::int64_t(h) * p.keys + key];
          weight[h] = elastic_weight(probability(score, m.lse[h]), float(m.offset[h]));
        }
        positive |= weight[h] != 0;
      }
      const std::uint32_t ballots = ballot(positive);
      if (positive) {
        const int at = count + count_ones(ballots & ((1u << in_warp) - 1));
        live[at] = key;
#pragma unroll
        for (int h = 0; h < heads; ++h) weights[at * heads + h] = weight[h];
      }
      count += count_ones(ballots);
    }
    warp_barrier();

    // O += A V. A value is read once, for all heads of the block; at a weight of 0 it counts
    // nothing, whatever it is.
    const auto fetch = [&](int at) {
      if (at >= count) return Piece{};
      return load_piece<T>(v.first, live[at] * v.stride + lane.piece * R::numbers);
    };
    Piece pieces[rows_at_once];
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) pieces[r] = fetch(r * R::side_by_side + lane.place);
    for (int first = 0; first < count; first += R::together) {
#pragma unroll
      for (int r = 0; r < rows_at_once; ++r) {
        const int at = first + r * R::side_by_side + lane.place;
        const auto value = unpack<T>(pieces[r]);
        pieces[r] = fetch(at + R::together);  // on its way while others are used
        if (at >= count) continue;
#pragma unroll
        for (int h = 0; h < heads; ++h) {
          const float weight = weights[at * heads + h];
          if (weight == 0) continue;
#pragma unroll
          for (int i = 0; i < R::numbers; ++i) sums[h][i] = fma(weight, value[i], sums[h][i]);
        }
      }
    }
    warp_barrier();
  }

  // The sums of the rows side by side, then of the warps, in this order.
#pragma unroll
  for (int h = 0; h < heads; ++h)
#pragma unroll
    for (int i = 0; i < R::numbers; ++i) {
#pragma unroll
      for (int mask = R::lanes; mask < warp_size; mask *= 2)
        sums[h][i] += shuffle_xor(sums[h][i], mask);
      if (lane.place == 0)
        m.sums[(warp * heads + h) * D + lane.piece * R::numbers + i] = sums[h][i];
    }
  barrier();
  for (int i = thread_index(); i < part.heads * D; i += decode_threads) {
    float sum = 0;
    for (int w = 0; w < decode_warps; ++w) sum += m.sums[w * heads * D + i];
    const std::int64_t row = p.row(part.b, part.head + i / D, 0);
    a.partial[(row * a.chunks + part.chunk) * D + i % D] = sum;
  }
}

// ---- C.

template <class T>
struct SumArguments {
  Problem<T> problem;
  int chunks;
  Global<const float> partial;  // [B, H, chunks, D]
  Global<T> out;                // [B, 1, H, D]
};

// One thread a component. A sequence without a key has no chunk: its sum is 0.
template <class T>
__global__ void __launch_bounds__(decode_threads) decode_sum_kernel(SumArguments<T> a) {
  const Problem<T>& p = a.problem;
  const int i = block_index().x * decode_threads + thread_index(), b = block_index().y;
  if (i >= p.heads * p.head_dim) return;
  const Division division(p.visible_keys(p.length(b), 0), a.chunks);
  const int head = i / p.head_dim, d = i % p.head_dim;
  float sum = 0;
  for (int chunk = 0; chunk < division.chunks; ++chunk)
    sum += a.partial[(p.row(b, head, 0) * a.chunks + chunk) * p.head_dim + d];
  a.out[p.query(b, 0, head) + d] = from_float<T>(sum);
}

// ---- The host's side.

bool supports(LazyType, std::int64_t head_dim) {
  return head_dim == 32 || head_dim == 64 || head_dim == 128;
}

/// Chunks of the grid: enough blocks to fill a GPU, few parts to sum.
std::int64_t grid_chunks(const LazyAttention& a) {
  constexpr std::int64_t blocks = 1024, usual = 64;
  const auto enough = divided_up(blocks, a.batch * a.kv_heads);
  const auto most = enough > usual ? enough : usual,
             all = divided_up<std::int64_t>(a.keys, chunk_unit);
  return all < most ? all : most;
}

struct DecodeSpace {
  Global<float> scores, chunk_lse, partial;
  std::size_t bytes;

  DecodeSpace(const LazyAttention& a, void* start) {
    const std::int64_t rows = a.batch * a.heads, chunks = grid_chunks(a);
    Workspace workspace(start);
    scores = workspace.take<float>(rows * a.keys);
    chunk_lse = workspace.take<float>(rows * chunks);
    partial = workspace.take<float>(rows * chunks * a.head_dim);
    bytes = workspace.bytes();
  }
};

LazyDecodeSizes decode_sizes(const LazyAttention& a) {
  return {a.batch == 0 ? 0 : DecodeSpace(a, nullptr).bytes};
}

template <class T, int D>
void decode(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out, void* workspace,
            Stream stream) {
  const Problem<T> p = make_problem<T>(a, in);
  const DecodeSpace space(a, workspace);
  const int chunks = static_cast<int>(grid_chunks(a)), group = p.heads / p.kv_heads;
  const auto grid = [&](int most_heads) {
    return Dim{chunks, p.kv_heads * divided_up(group, most_heads), p.batch};
  };
  const int heads = group < score_heads ? group : score_heads;
  launch({"decode_scores", grid(score_heads), decode_threads, shared_bytes_for<float>(heads * D),
          stream},
         decode_scores_kernel<T, D>, {p, chunks, space.scores, space.chunk_lse});

  const ValuesArguments<T> values{
      p, chunks, space.scores, space.chunk_lse, view(out.lse, row_count(a)), space.partial};
  if (group <= 4)
    launch({"decode_values", grid(4), decode_threads, ValuesMemory<D, 4>::bytes(), stream},
           decode_values_kernel<T, D, 4>, values);
  else
    launch({"decode_values", grid(8), decode_threads, ValuesMemory<D, 8>::bytes(), stream},
           decode_values_kernel<T, D, 8>, values);

  launch(
      {"decode_sum", {divided_up(p.heads * D, decode_threads), p.batch}, decode_threads, 0, stream},
      decode_sum_kernel<T>,
      {p, chunks, space.partial, view(static_cast<T*>(out.out), query_count(a))});
}

template <class T>
void with_dim(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out, void* workspace,
              void* stream) {
  const auto on = static_cast<Stream>(stream);
  if (a.head_dim == 32) decode<T, 32>(a, in, out, workspace, on);
  if (a.head_dim == 64) decode<T, 64>(a, in, out, workspace, on);
  if (a.head_dim == 128) decode<T, 128>(a, in, out, workspace, on);
}

void with_type(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out,
               void* workspace, void* stream) {
  if (a.type == LAZY_FLOAT32) with_dim<float>(a, in, out, workspace, stream);
  if (a.type == LAZY_BFLOAT16) with_dim<BFloat16>(a, in, out, workspace, stream);
  if (a.type == LAZY_FLOAT16) with_dim<Float16>(a, in, out, workspace, stream);
}

constexpr Decoding table{"D = 32, 64 or 128 in any format, any GPU from sm_75", supports,
                         decode_sizes, with_type};

}  // namespace

const Decoding& decoding() {
  return table;
}

}  // namespace lazy::LAZY_TARGET
