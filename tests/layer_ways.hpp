#pragma once
// The ways a layer is computed: on the CPU, or by the kernels, emulated. Both have the signatures
// of a backend. What lies between two matrix products is of type A, everything else of type Number.

#include <map>
#include <string>

#include "cuda/layers/layers.hpp"
#include "cuda/simt/emulator.hpp"
#include "reference/cpu_backend.hpp"
#include "tests/plain_16bit.hpp"
#include "tests/scalar_layers.hpp"

namespace lazy::test {

template <class T>
struct CpuLayers : CpuBackend {
  using Number = T;
  using A = T;
};

template <class Type>
struct KernelLayers {
  using Number = float;
  using A = Type;

  std::uint64_t seed = 1;                                      // of the order of threads
  std::map<std::string, std::size_t>* shared_bytes = nullptr;  // of a block of each kernel run

  void embedding_forward(float* x, const float* table, const int* tokens, Index N, Index C,
                         Index V) const {
    run(&LayerKernels<A>::embedding_forward, x, table, tokens, N, C, V);
  }
  void embedding_backward(float* dtable, const float* dx, const int* tokens, const int* order,
                          Index N, Index C, Index V) const {
    run(&LayerKernels<A>::embedding_backward, dtable, dx, tokens, order, N, C, V);
  }
  void rmsnorm_forward(A* out, float* rstd, const float* x, const float* weight, Index N, Index C,
                       double epsilon) const {
    run(&LayerKernels<A>::rmsnorm_forward, out, rstd, x, weight, N, C, epsilon);
  }
  void rmsnorm_backward(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                        const float* weight, const float* rstd, Index N, Index C) const {
    Space space(N, C, 0);
    run(&LayerKernels<A>::rmsnorm_backward, dx, rounded, dweight, dout, x, weight, rstd, N, C,
        space.data());
  }
  template <class>
  static std::vector<float> make_rope(Index positions, Index head_dim, double base) {
    const auto table = make_rope_table<float>(positions, head_dim, base);
    std::vector<float> pairs;
    for (std::size_t i = 0; i < table.cos.size(); ++i) {
      pairs.push_back(table.cos[i]);
      pairs.push_back(table.sin[i]);
    }
    return pairs;
  }
  void split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& split,
                   const std::vector<float>* rope, const Index* past) const {
    run(&LayerKernels<A>::split_heads, q, k, v, qkv, split, rope ? rope->data() : nullptr, past);
  }
  void join_heads(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& split,
                  const std::vector<float>* rope) const {
    run(&LayerKernels<A>::join_heads, dqkv, dq, dk, dv, split, rope ? rope->data() : nullptr);
  }
  void swiglu_forward(A* out, const A* gate_up, Index N, Index F) const {
    run(&LayerKernels<A>::swiglu_forward, out, gate_up, N, F);
  }
  void swiglu_backward(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F) const {
    run(&LayerKernels<A>::swiglu_backward, dgate_up, dout, gate_up, N, F);
  }
  void cross_entropy(float* losses, A* dlogits, const A* logits, const int* targets, Index N,
                     Index V, const StepInputs* inputs) const {
    run(&LayerKernels<A>::cross_entropy, losses, dlogits, logits, targets, N, V, inputs);
  }
  void measure_step(StepOutputs* outputs, const float* losses, Index N, const float* gradients,
                    Index size, const StepInputs* inputs) const {
    Space space(N, 0, size);
    run(&LayerKernels<A>::measure_step, outputs, losses, N, gradients, size, inputs, space.data());
  }
  void adamw_step(float* parameters, A* working, float* first_moment, float* second_moment,
                  const float* gradients, const UpdatePiece* pieces, Index count,
                  const UpdateRule& rule, const StepInputs* inputs,
                  const StepOutputs* outputs) const {
    run(&LayerKernels<A>::adamw_step, parameters, working, first_moment, second_moment, gradients,
        pieces, count, rule, inputs, outputs);
  }
  void row_statistics(RowStatistics* rows, std::uint32_t* live_tiles, const float* weights,
                      const AttentionShape& shape, const std::int64_t* lengths, Index b,
                      Index first_row, Index count) const {
    run(&LayerKernels<A>::row_statistics, rows, live_tiles, weights, shape, lengths, b, first_row,
        count);
  }
  void round(A* to, const float* from, Index size) const {
    run(&LayerKernels<A>::round, to, from, size);
  }

 private:
  // A workspace full of NaN: what a kernel has not written it must not read.
  struct Space : std::vector<double> {
    Space(Index N, Index C, Index size)
        : std::vector<double>(emulated::layers<A>().workspace(N, C, size) / sizeof(double) + 1,
                              std::numeric_limits<double>::quiet_NaN()) {}
  };

  template <class Function, class... Arguments>
  void run(Function LayerKernels<A>::*function, const Arguments&... arguments) const {
    emulated::Machine machine{.seed = seed};
    (emulated::layers<A>().*function)(arguments..., &machine);
    if (shared_bytes) shared_bytes->merge(machine.shared_bytes);
  }
};

/// x in another format, and back.
template <class To, class From>
std::vector<To> in_format(const std::vector<From>& x) {
  if constexpr (std::is_same_v<To, From>) return x;
  std::vector<To> y;
  for (const From value : x)
    if constexpr (std::is_same_v<To, BFloat16>)
      y.push_back(from_float<To>(value));
    else
      y.push_back(to_float(value));
  return y;
}

/// x [size] of a type that may be of 16 bits, as numbers.
template <class Way>
Values<typename Way::Number> numbers(const std::vector<typename Way::A>& x) {
  return in_format<typename Way::Number>(x);
}
/// And back, rounded.
template <class Way>
std::vector<typename Way::A> activations(const Values<typename Way::Number>& x) {
  return in_format<typename Way::A>(x);
}
template <class Way>
std::vector<typename Way::A> poisoned_activations(Index size) {
  using Number = typename Way::Number;
  return activations<Way>(Values<Number>(size, std::numeric_limits<Number>::quiet_NaN()));
}

}  // namespace lazy::test
