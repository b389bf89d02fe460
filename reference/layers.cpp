#include "reference/layers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/register_tile.hpp"

namespace lazy {
namespace {

using simd::lanes, simd::load_first, simd::store_first, simd::Vector;

constexpr Index chunk_rows = 128;   // rows a task
constexpr Index chunk_size = 8192;  // entries a task in elementwise loops

// body(begin, end) over fixed pieces of 0 .. size - 1
template <class Body>
void in_chunks(Index size, Index chunk, Body body) {
#pragma omp parallel for schedule(static)
  for (Index c = 0; c < divide_up(size, chunk); ++c)
    body(c * chunk, std::min(size, (c + 1) * chunk));
}

// sum of term(0 .. n-1) in eight interleaved partial sums: vectorizes, and its order does not
// depend on alignment
template <class T, class Term>
T lane_sum(Index n, Term term) {
  T lane[8] = {};
  Index i = 0;
  for (; i + 8 <= n; i += 8)
    for (Index l = 0; l < 8; ++l) lane[l] += term(i + l);
  for (; i < n; ++i) lane[i % 8] += term(i);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// The calling thread's own memory for the partial sums of a call, kept from call to call.
template <class T>
T* zeroed_partials(Index size) {
  static thread_local std::vector<T> kept;
  if (Index(kept.size()) < size) kept.resize(size);
  std::fill_n(kept.begin(), size, T(0));
  return kept.data();
}

void check_index(const char* what, int index, Index row, Index size) {
  if (index < 0 || index >= size)
    throw std::out_of_range(std::string(what) + " " + std::to_string(index) + " at row " +
                            std::to_string(row) + " does not fit a vocabulary of " +
                            std::to_string(size));
}

// body(i, count) for the entries i .. i + count - 1, a vector at a time
template <class T, class Body>
[[gnu::always_inline]] inline void in_vectors(Index begin, Index end, Body body) {
  Index i = begin;
  for (; i + lanes<T> <= end; i += lanes<T>) body(i, Index(lanes<T>));
  if (i < end) body(i, end - i);
}

template <class T>
[[gnu::always_inline]] inline Vector<T> sigmoid(Vector<T> x) {
  const Vector<T> largest = simd::broadcast(T(std::numeric_limits<T>::max_exponent * 0.69));
  const Vector<T> infinite = simd::broadcast(std::numeric_limits<T>::infinity());
  return 1 / (1 + (-x > largest ? infinite : simd::exp<T>(-x)));
}

// m + log(sum_v exp(z_v - m)), m the largest
template <class T>
T log_sum_exp(const T* z, Index V) {
  const T m = *std::max_element(z, z + V);
  Vector<T> sum = {};
  in_vectors<T>(0, V, [&](Index v, Index count) {
    const Vector<T> e = simd::exp<T>(load_first(z + v, count) - m);
    Vector<T> visible = {};
    store_first(reinterpret_cast<T*>(&visible), e, count);
    sum += visible;
  });
  return m + std::log(simd::sum<T>(sum));
}

}  // namespace

template <class T>
void embedding_forward(T* out, const T* table, const int* tokens, Index N, Index C, Index V) {
  for (Index n = 0; n < N; ++n) {
    check_index("token", tokens[n], n, V);
    std::copy_n(table + tokens[n] * C, C, out + n * C);
  }
}

template <class T>
void embedding_backward(T* dtable, const T* dout, const int* tokens, Index N, Index C) {
  for (Index n = 0; n < N; ++n)  // one thread: rows of equal tokens meet
    for (Index c = 0; c < C; ++c) dtable[tokens[n] * C + c] += dout[n * C + c];
}

template <class T>
void rmsnorm_forward(T* out, T* rstd, const T* x, const T* weight, Index N, Index C,
                     double epsilon) {
  in_chunks(N, chunk_rows, [=](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const T* row = x + n * C;
      const T mean_square = lane_sum<T>(C, [row](Index c) { return row[c] * row[c]; }) / T(C);
      rstd[n] = 1 / std::sqrt(mean_square + T(epsilon));
      for (Index c = 0; c < C; ++c) out[n * C + c] = row[c] * rstd[n] * weight[c];
    }
  });
}

template <class T>
void rmsnorm_backward(T* dx, T* dweight, const T* dout, const T* x, const T* weight, const T* rstd,
                      Index N, Index C) {
  T* const partial = zeroed_partials<T>(divide_up(N, chunk_rows) * C);
  in_chunks(N, chunk_rows, [=](Index begin, Index end) {
    T* sum = partial + begin / chunk_rows * C;
    for (Index n = begin; n < end; ++n) {
      const T *row = x + n * C, *g = dout + n * C;
      const T r = rstd[n];
      const T mean = lane_sum<T>(C, [=](Index c) { return g[c] * weight[c] * row[c]; }) / T(C);
      for (Index c = 0; c < C; ++c) dx[n * C + c] += r * (g[c] * weight[c] - row[c] * r * r * mean);
      for (Index c = 0; c < C; ++c) sum[c] += g[c] * row[c] * r;
    }
  });
  for (Index p = 0; p < divide_up(N, chunk_rows); ++p)
    for (Index c = 0; c < C; ++c) dweight[c] += partial[p * C + c];
}

template <class T>
void swiglu_forward(T* out, const T* gate_up, Index N, Index F) {
  in_chunks(N, chunk_rows, [=](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const T *gate = gate_up + n * 2 * F, *up = gate + F;
      in_vectors<T>(0, F, [=](Index i, Index count) {
        const Vector<T> g = load_first(gate + i, count), u = load_first(up + i, count);
        store_first(out + n * F + i, g * sigmoid<T>(g) * u, count);
      });
    }
  });
}

template <class T>
void swiglu_backward(T* dgate_up, const T* dout, const T* gate_up, Index N, Index F) {
  in_chunks(N, chunk_rows, [=](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const T *gate = gate_up + n * 2 * F, *up = gate + F;
      T *dgate = dgate_up + n * 2 * F, *dup = dgate + F;
      in_vectors<T>(0, F, [=](Index i, Index count) {
        const Vector<T> g = load_first(gate + i, count), u = load_first(up + i, count);
        const Vector<T> d = load_first(dout + n * F + i, count), s = sigmoid<T>(g);
        store_first(dgate + i, d * u * s * (1 + g * (1 - s)), count);
        store_first(dup + i, d * g * s, count);
      });
    }
  });
}

template <class T>
void cross_entropy(T* losses, T* dlogits, const T* logits, const int* targets, Index N, Index V,
                   double scale) {
  for (Index n = 0; n < N; ++n)
    if (targets[n] >= 0) check_index("target", targets[n], n, V);
  in_chunks(N, chunk_rows, [=](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const bool counts = targets[n] >= 0;
      const T* z = logits + n * V;
      const T lse = counts ? log_sum_exp(z, V) : T(0);
      losses[n] = counts ? lse - z[targets[n]] : T(0);
      if (!dlogits) continue;
      T* dz = dlogits + n * V;
      if (!counts) {
        std::fill_n(dz, V, T(0));
        continue;
      }
      in_vectors<T>(0, V, [=](Index v, Index count) {
        store_first(dz + v, T(scale) * simd::exp<T>(load_first(z + v, count) - lse), count);
      });
      dz[targets[n]] -= T(scale);
    }
  });
}

template <class T>
double squared_norm(const T* x, Index size) {
  const Index chunks = divide_up(size, chunk_size);
  double* const partial = zeroed_partials<double>(chunks);
  in_chunks(size, chunk_size, [=](Index begin, Index end) {
    partial[begin / chunk_size] = lane_sum<double>(
        end - begin, [=](Index i) { return double(x[begin + i]) * double(x[begin + i]); });
  });
  double sum = 0;
  for (Index c = 0; c < chunks; ++c) sum += partial[c];
  return sum;
}

template <class T>
void adamw_step(T* w, T* m, T* v, const T* gradient, Index size, const AdamW& o, Index step) {
  const T b1 = T(o.beta1), b2 = T(o.beta2), rest1 = T(1 - o.beta1), rest2 = T(1 - o.beta2);
  const T decay = T(1 - o.learning_rate * o.weight_decay);
  const T rate = T(o.learning_rate / (1 - std::pow(o.beta1, double(step))));
  const T correction = T(1 / (1 - std::pow(o.beta2, double(step))));
  in_chunks(size, chunk_size, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const T g = T(o.gradient_scale) * gradient[i];
      m[i] = b1 * m[i] + rest1 * g;
      v[i] = b2 * v[i] + rest2 * g * g;
      w[i] = decay * w[i] - rate * m[i] / (std::sqrt(v[i] * correction) + T(o.epsilon));
    }
  });
}

#define LAZY_INSTANTIATE(T)                                                                     \
  template void embedding_forward(T*, const T*, const int*, Index, Index, Index);               \
  template void embedding_backward(T*, const T*, const int*, Index, Index);                     \
  template void rmsnorm_forward(T*, T*, const T*, const T*, Index, Index, double);              \
  template void rmsnorm_backward(T*, T*, const T*, const T*, const T*, const T*, Index, Index); \
  template void swiglu_forward(T*, const T*, Index, Index);                                     \
  template void swiglu_backward(T*, const T*, const T*, Index, Index);                          \
  template void cross_entropy(T*, T*, const T*, const int*, Index, Index, double);              \
  template double squared_norm(const T*, Index);                                                \
  template void adamw_step(T*, T*, T*, const T*, Index, const AdamW&, Index);

LAZY_INSTANTIATE(float)
LAZY_INSTANTIATE(double)

}  // namespace lazy
