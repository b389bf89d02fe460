// v0, backward: one kernel a gradient, each summing over what the forward spread out. Scores are
// computed anew wherever they are needed.
//
//   dA_ij = dO_i . V_j                     where the entry is live, else 0
//   delta_i = sum_j P_ij dA_ij
//   dS_ij = P_ij (dA_ij - delta_i)
//   dQ_i = sum_j dS_ij K_j / sqrt(D)       dK_j = sum_i dS_ij Q_i / sqrt(D)     dV_j = sum_i A_ij
//   dO_i db[d] = sum_i dS_i,i-d                 dtau = sum_ij dA_ij / n

#include "cuda/rungs.hpp"
#include "cuda/v0_naive.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct BackwardArguments {
  Problem<float> problem;
  Global<const float> lse, dout;
  Global<float> delta, dtau_rows;  // [B, H, Tq]
  Global<float> dq, dk, dv, dbias;
};

// What the forward and the backward have at one entry.
struct Entry {
  float probability, weight, weight_gradient;
};

__device__ Entry entry(const BackwardArguments& a, const NaiveRow& r, int j) {
  const Problem<float>& p = a.problem;
  const float lse = a.lse[p.row(r.batch, r.head, r.row)];
  const float P = probability(naive_score(p, r, j), lse);
  const std::int64_t key = p.key(r.batch, j, p.key_head(r.head));
  return {P, elastic_weight(P, r.offset), dot(a.dout + r.query, p.v + key, p.head_dim)};
}

__device__ float entry_gradient(const BackwardArguments& a, const NaiveRow& r, const Entry& e) {
  const float delta = a.delta[a.problem.row(r.batch, r.head, r.row)];
  return score_gradient(e.probability, e.weight, e.weight_gradient, delta);
}

// delta and the row's part of dtau, then dQ. One block a query row.
__global__ void v0_query_gradient(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  SharedMemory memory;
  auto scratch = memory.take<float>(naive_threads / warp_size);
  auto ds = memory.take<float>(naive_threads);
  const NaiveRow r(p, block_index().z, block_index().y, block_index().x);
  const int me = thread_index();

  float delta = 0, dtau = 0;
  for (int j = me; j < r.n; j += naive_threads) {
    const Entry e = entry(a, r, j);
    const float dA = where_live(e.weight, e.weight_gradient);
    delta = fma(e.probability, dA, delta);
    dtau += dA;
  }
  delta = over_block(delta, naive_threads, scratch, Sum());
  dtau = over_block(dtau, naive_threads, scratch, Sum());
  if (me == 0) {
    a.delta[p.row(r.batch, r.head, r.row)] = delta;
    a.dtau_rows[p.row(r.batch, r.head, r.row)] = r.n ? dtau / p.divisor(r.n, r.length) : 0.f;
  }
  barrier();

  for (int first = 0; first < r.n; first += naive_threads) {
    const int keys = r.n - first < naive_threads ? r.n - first : naive_threads;
    if (me < keys) ds[me] = entry_gradient(a, r, entry(a, r, first + me)) * p.scale;
    barrier();
    for (int d = me; d < p.head_dim; d += naive_threads) {
      float sum = a.dq[r.query + d];
      for (int j = 0; j < keys; ++j) {
        const float x = ds[j];
        if (x != 0) sum = fma(x, p.k[p.key(r.batch, first + j, p.key_head(r.head)) + d], sum);
      }
      a.dq[r.query + d] = sum;
    }
    barrier();
  }
}

// dK and dV. One block a key, which goes through the rows of all heads that read it.
__global__ void v0_key_gradients(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  SharedMemory memory;
  memory.take<float>(naive_threads / warp_size);
  auto ds = memory.take<float>(naive_threads), weights = memory.take<float>(naive_threads);
  const int j = block_index().x, key_head = block_index().y, b = block_index().z;
  const std::int64_t key = p.key(b, j, key_head);
  const int me = thread_index(), group = p.heads / p.kv_heads;

  for (int head = key_head * group; head < (key_head + 1) * group; ++head)
    for (int first = 0; first < p.queries; first += naive_threads) {
      const int rows = p.queries - first < naive_threads ? p.queries - first : naive_threads;
      if (me < rows) {
        const NaiveRow r(p, b, head, first + me);
        const bool visible = j < r.n;
        const Entry e = visible ? entry(a, r, j) : Entry{};
        ds[me] = visible ? entry_gradient(a, r, e) * p.scale : 0.f;
        weights[me] = e.weight;
      }
      barrier();
      for (int d = me; d < p.head_dim; d += naive_threads) {
        float dk = a.dk[key + d], dv = a.dv[key + d];
        for (int i = 0; i < rows; ++i) {
          const std::int64_t query = p.query(b, first + i, head);
          const float x = ds[i], w = weights[i];
          if (x != 0) dk = fma(x, p.q[query + d], dk);
          if (w != 0) dv = fma(w, a.dout[query + d], dv);
        }
        a.dk[key + d] = dk;
        a.dv[key + d] = dv;
      }
      barrier();
    }
}

// db[distance]. One block a distance and head.
__global__ void v0_bias_gradient(BackwardArguments a) {
  const Problem<float>& p = a.problem;
  auto scratch = SharedMemory().take<float>(naive_threads / warp_size);
  const int distance = block_index().x, head = block_index().y;
  float sum = 0;
  for (int b = 0; b < p.batch; ++b)
    for (int row = thread_index(); row < p.queries; row += naive_threads) {
      const NaiveRow r(p, b, head, row);
      if (distance < r.n) sum += entry_gradient(a, r, entry(a, r, r.n - 1 - distance));
    }
  sum = over_block(sum, naive_threads, scratch, Sum());
  if (thread_index() == 0) a.dbias[std::int64_t(head) * p.window + distance] += sum;
}

struct Buffers {
  Global<float> delta, dtau_rows;
  std::size_t bytes;
};

Buffers make_buffers(const LazyAttention& a, void* workspace) {
  Workspace w(workspace);
  const auto delta = w.take<float>(row_count(a)), dtau_rows = w.take<float>(row_count(a));
  return {delta, dtau_rows, w.bytes()};
}

}  // namespace

LazySizes v0_sizes(const LazyAttention& a) {
  LazySizes sizes{};
  sizes.backward_workspace = make_buffers(a, nullptr).bytes;
  return sizes;
}

void v0_backward(const LazyAttention& attention, const LazyInputs& in, const LazyOutputs& forward,
                 const void* dout, const LazyGrads& grads, void* workspace, void* stream_) {
  const Problem<float> p = make_problem<float>(attention, in);
  const Buffers buffers = make_buffers(attention, workspace);
  const auto queries = query_count(attention), keys = key_count(attention);
  const BackwardArguments a{p,
                            view<const float>(forward.lse, row_count(attention)),
                            view(static_cast<const float*>(dout), queries),
                            buffers.delta,
                            buffers.dtau_rows,
                            view(static_cast<float*>(grads.dq), queries),
                            view(static_cast<float*>(grads.dk), keys),
                            view(static_cast<float*>(grads.dv), keys),
                            view(grads.dbias, attention.heads * attention.window)};
  const auto stream = static_cast<Stream>(stream_);
  const auto run = [&](const char* name, Dim grid, void (*kernel)(BackwardArguments)) {
    launch({name, grid, naive_threads, naive_shared_bytes(), stream}, kernel, a);
  };
  run("v0_query_gradient", {p.queries, p.heads, p.batch}, v0_query_gradient);
  run("v0_key_gradients", {p.keys, p.kv_heads, p.batch}, v0_key_gradients);
  const int distances = p.window < p.keys ? p.window : p.keys;
  if (distances > 0) run("v0_bias_gradient", {distances, p.heads}, v0_bias_gradient);
  if (grads.dtau)
    sum_rows({p.batch, p.heads, p.queries, a.dtau_rows, view(grads.dtau, attention.heads)}, stream);
}

}  // namespace lazy::LAZY_TARGET
