#pragma once
// The backend that needs no GPU.

#include <algorithm>

#include "reference/aligned.hpp"
#include "reference/backend.hpp"
#include "reference/tiled.hpp"

namespace lazy {

struct CpuBackend {
  template <class T>
  using Buffer = AlignedVector<T>;
  template <class T>
  using Rope = RopeTable<T>;

  template <class T>
  static void resize(Buffer<T>& buffer, Index size) {
    buffer.resize(size);
  }
  template <class T>
  static void zero(T* x, Index size) {
    std::fill_n(x, size, T(0));
  }
  template <class T>
  static void add(T* sum, const T* a, const T* b, Index size) {
#pragma omp parallel for simd schedule(static)
    for (Index i = 0; i < size; ++i) sum[i] = a[i] + b[i];
  }
  template <class T>
  static void upload(T* device, const T* host, Index size) {
    std::copy_n(host, size, device);
  }
  template <class T>
  static void download(T* host, const T* device, Index size) {
    std::copy_n(device, size, host);
  }

  template <class T>
  static Rope<T> make_rope(Index positions, Index head_dim, double base) {
    return make_rope_table<T>(positions, head_dim, base);
  }
  template <class T>
  static void rope_forward(T* x, const Rope<T>& table, Index sequences, Index length, Index heads,
                           Index first) {
#pragma omp parallel for schedule(static)
    for (Index b = 0; b < sequences; ++b)
      lazy::rope_forward(x + b * length * heads * table.head_dim, table, length, heads, first);
  }
  template <class T>
  static void rope_backward(T* dx, const Rope<T>& table, Index sequences, Index length, Index heads,
                            Index first) {
#pragma omp parallel for schedule(static)
    for (Index b = 0; b < sequences; ++b)
      lazy::rope_backward(dx + b * length * heads * table.head_dim, table, length, heads, first);
  }

  template <class T>
  static void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<T>& in, const AttentionOutputs<T>& out) {
    tiled::attention_forward(shape, rule, in, out);
  }
  template <class T>
  static void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                                 const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                                 const T* dout, const AttentionGrads<T>& grads) {
    tiled::attention_backward(shape, rule, in, forward, dout, grads);
  }
  template <class T>
  static void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                                Index b, Index head, Index first_row, Index rows, T* weights) {
    tiled::attention_weights(shape, rule, in, forward, b, head, first_row, rows, weights);
  }

  static constexpr auto embedding_forward = [](auto... arguments) {
    lazy::embedding_forward(arguments...);
  };
  static constexpr auto embedding_backward = [](auto... arguments) {
    lazy::embedding_backward(arguments...);
  };
  static constexpr auto rmsnorm_forward = [](auto... arguments) {
    lazy::rmsnorm_forward(arguments...);
  };
  static constexpr auto rmsnorm_backward = [](auto... arguments) {
    lazy::rmsnorm_backward(arguments...);
  };
  static constexpr auto linear_forward = [](auto... arguments) {
    lazy::linear_forward(arguments...);
  };
  static constexpr auto linear_backward = [](auto... arguments) {
    lazy::linear_backward(arguments...);
  };
  static constexpr auto swiglu_forward = [](auto... arguments) {
    lazy::swiglu_forward(arguments...);
  };
  static constexpr auto swiglu_backward = [](auto... arguments) {
    lazy::swiglu_backward(arguments...);
  };
  static constexpr auto cross_entropy_forward = [](auto... arguments) {
    lazy::cross_entropy_forward(arguments...);
  };
  static constexpr auto cross_entropy_backward = [](auto... arguments) {
    lazy::cross_entropy_backward(arguments...);
  };
  static constexpr auto squared_norm = [](auto... arguments) {
    return lazy::squared_norm(arguments...);
  };
  static constexpr auto adamw_step = [](auto... arguments) { lazy::adamw_step(arguments...); };
};

static_assert(Backend<CpuBackend, float> && Backend<CpuBackend, double>);

}  // namespace lazy
