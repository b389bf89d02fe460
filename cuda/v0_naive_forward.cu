// v0, forward: the equations as loops. Scores are computed three times, once for each sum.

#include "cuda/rungs.hpp"
#include "cuda/v0_naive.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct ForwardArguments {
  Problem<float> problem;
  Global<float> out, lse;
};

// One block a query row.
__global__ void v0_forward_kernel(ForwardArguments a) {
  const Problem<float>& p = a.problem;
  SharedMemory memory;
  auto scratch = memory.take<float>(naive_threads / warp_size);
  auto weights = memory.take<float>(naive_threads);
  const NaiveRow r(p, block_index().z, block_index().y, block_index().x);
  const int me = thread_index(), D = p.head_dim;

  // m = max_j S_ij
  float largest = -infinity;
  for (int j = me; j < r.n; j += naive_threads) largest = Max()(largest, naive_score(p, r, j));
  largest = over_block(largest, naive_threads, scratch, Max());
  if (largest == infinity || largest == -infinity) largest = 0;

  // lse = m + log sum_j exp(S_ij - m)
  float sum = 0;
  for (int j = me; j < r.n; j += naive_threads) sum += exp(naive_score(p, r, j) - largest);
  sum = over_block(sum, naive_threads, scratch, Sum());
  const float lse = largest + log(sum);
  if (me == 0) a.lse[p.row(r.batch, r.head, r.row)] = lse;

  // O_i = sum_j max(exp(S_ij - lse) + tau/n, 0) V_j. One thread a key for the weights, then one
  // thread a component for the sum.
  for (int d = me; d < D; d += naive_threads) a.out[r.query + d] = 0;
  for (int first = 0; first < r.n; first += naive_threads) {
    const int keys = r.n - first < naive_threads ? r.n - first : naive_threads;
    if (me < keys)
      weights[me] = elastic_weight(probability(naive_score(p, r, first + me), lse), r.offset);
    barrier();
    for (int d = me; d < D; d += naive_threads) {
      float o = a.out[r.query + d];
      for (int j = 0; j < keys; ++j) {
        const float w = weights[j];
        if (w != 0) o = fma(w, p.v[p.key(r.batch, first + j, p.key_head(r.head)) + d], o);
      }
      a.out[r.query + d] = o;
    }
    barrier();
  }
}

struct WeightsArguments {
  Problem<float> problem;
  Global<const float> lse;
  int batch, head, first_row;
  Global<float> weights;  // [rows, Tk]
};

// One block a query row, for tests and for `lazy attend --weights`.
__global__ void v0_weights_kernel(WeightsArguments a) {
  const Problem<float>& p = a.problem;
  const NaiveRow r(p, a.batch, a.head, a.first_row + block_index().x);
  const float lse = a.lse[p.row(r.batch, r.head, r.row)];
  for (int j = thread_index(); j < p.keys; j += naive_threads)
    a.weights[std::int64_t(block_index().x) * p.keys + j] =
        j < r.n ? elastic_weight(probability(naive_score(p, r, j), lse), r.offset) : 0.f;
}

}  // namespace

void v0_forward(const LazyAttention& a, const LazyInputs& in, const LazyOutputs& out, void*,
                void* stream) {
  const Problem<float> p = make_problem<float>(a, in);
  launch({"v0_forward",
          {p.queries, p.heads, p.batch},
          naive_threads,
          naive_shared_bytes(),
          static_cast<Stream>(stream)},
         v0_forward_kernel,
         {p, view(static_cast<float*>(out.out), query_count(a)), view(out.lse, row_count(a))});
}

void v0_weights(const LazyAttention& a, const LazyInputs& in, const float* lse, std::int64_t batch,
                std::int64_t head, std::int64_t first_row, std::int64_t rows, float* weights,
                void* stream) {
  launch({"v0_weights", {int(rows)}, naive_threads, 0, static_cast<Stream>(stream)},
         v0_weights_kernel,
         {make_problem<float>(a, in), view(lse, row_count(a)), int(batch), int(head),
          int(first_row), view(weights, rows * a.keys)});
}

}  // namespace lazy::LAZY_TARGET
