#pragma once
// The backend that needs no GPU: its device is the host.

#include <algorithm>
#include <cmath>

#include "reference/aligned.hpp"
#include "reference/attention_statistics.hpp"
#include "reference/backend.hpp"
#include "reference/tiled.hpp"

namespace lazy {

struct CpuBackend {
  template <class T>
  using Activation = T;
  template <class T>
  using Buffer = AlignedVector<T>;
  template <class T>
  using Rope = RopeTable<T>;
  struct AttentionMemory {};
  struct Recording {};

  template <class T>
  static void resize(Buffer<T>& buffer, Index size) {
    buffer.resize(size);
  }
  template <class T>
  static void zero(T* x, Index size) {
    std::fill_n(x, size, T(0));
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
  static void round(T* to, const T* from, Index size) {
    std::copy_n(from, size, to);
  }

  template <class T>
  static Rope<T> make_rope(Index positions, Index head_dim, double base) {
    return make_rope_table<T>(positions, head_dim, base);
  }
  template <class T>
  static void split_heads(T* q, T* k, T* v, const T* qkv, const HeadSplit& split,
                          const Rope<T>* rope, const Index* past) {
    lazy::split_heads(q, k, v, qkv, split, rope, past);
  }
  template <class T>
  static void join_heads(T* dqkv, T* dq, T* dk, const T* dv, const HeadSplit& split,
                         const Rope<T>* rope) {
    lazy::join_heads(dqkv, dq, dk, dv, split, rope);
  }

  template <class T>
  static void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<T>& in, const AttentionOutputs<T>& out,
                                AttentionMemory* = nullptr) {
    tiled::attention_forward(shape, rule, in, out);
  }
  template <class T>
  static void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                                 const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                                 AttentionMemory*, const T* dout, const AttentionGrads<T>& grads) {
    tiled::attention_backward(shape, rule, in, forward, dout, grads);
  }
  template <class T>
  static void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                                Index b, Index head, Index first_row, Index rows, T* weights) {
    tiled::attention_weights(shape, rule, in, forward, b, head, first_row, rows, weights);
  }
  template <class T>
  static void attention_statistics(const AttentionShape& shape, const AttentionRule& rule,
                                   const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                                   RowStatistics* rows, std::uint32_t* live_tiles) {
    const auto weights = [&](Index b, Index head, Index first, Index count, T* to) {
      tiled::attention_weights(shape, rule, in, forward, b, head, first, count, to);
    };
    lazy::attention_statistics<T>(shape, in.lengths, weights, rows, live_tiles);
  }

  static constexpr auto embedding_forward = [](auto... arguments) {
    lazy::embedding_forward(arguments...);
  };
  template <class T>
  static void embedding_backward(T* dtable, const T* dout, const int* tokens, const int*, Index N,
                                 Index C, Index) {
    lazy::embedding_backward(dtable, dout, tokens, N, C);
  }
  static constexpr auto rmsnorm_forward = [](auto... arguments) {
    lazy::rmsnorm_forward(arguments...);
  };
  template <class T>
  static void rmsnorm_backward(T* dx, T*, T* dweight, const T* dout, const T* x, const T* weight,
                               const T* rstd, Index N, Index C) {
    lazy::rmsnorm_backward(dx, dweight, dout, x, weight, rstd, N, C);
  }
  static constexpr auto linear_forward = [](auto... arguments) {
    lazy::linear_forward(arguments...);
  };
  static constexpr auto linear_add_forward = [](auto... arguments) {
    lazy::linear_add_forward(arguments...);
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
  template <class T>
  static void cross_entropy(T* losses, T* dlogits, const T* logits, const int* targets, Index N,
                            Index V, const StepInputs* inputs) {
    lazy::cross_entropy(losses, dlogits, logits, targets, N, V, inputs->loss_scale);
  }

  template <class T>
  static void measure_step(StepOutputs* outputs, const T* losses, Index N, const T* gradients,
                           Index size, const StepInputs* inputs) {
    outputs->loss_sum = 0;
    for (Index n = 0; n < N; ++n) outputs->loss_sum += double(losses[n]);
    outputs->squared_norm = squared_norm(gradients, size);
    outputs->kept[inputs->step % steps_kept] = {outputs->loss_sum, outputs->squared_norm};
    if (outputs->failed_step == 0 &&
        !(std::isfinite(outputs->loss_sum) && std::isfinite(outputs->squared_norm)))
      outputs->failed_step = inputs->step;
  }
  template <class T>
  static void adamw_step(T* parameters, T*, T* first_moment, T* second_moment, const T* gradients,
                         const UpdatePiece* pieces, Index count, const UpdateRule& rule,
                         const StepInputs* inputs, const StepOutputs* outputs) {
    if (outputs->failed_step != 0) return;
    const double norm = std::sqrt(outputs->squared_norm);
    const double scale = norm > rule.clip ? rule.clip / norm : 1;
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; ++i) {
      const auto [at, size, decay] = pieces[i];
      lazy::adamw_step(parameters + at, first_moment + at, second_moment + at, gradients + at, size,
                       {.learning_rate = inputs->learning_rate,
                        .beta1 = rule.beta1,
                        .beta2 = rule.beta2,
                        .epsilon = rule.epsilon,
                        .weight_decay = decay ? rule.weight_decay : 0,
                        .gradient_scale = scale},
                       inputs->step);
    }
  }

  template <class F>
  static void run(Recording&, Index, F&& enqueue) {
    enqueue();
  }
};

static_assert(Backend<CpuBackend, float> && Backend<CpuBackend, double>);

}  // namespace lazy
