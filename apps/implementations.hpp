#pragma once
// The implementations of attention that `lazy attend` offers: one row each. The first is the
// default. Kernels make theirs from what is asked of them.

#include <array>
#include <functional>
#include <string>

#include "cuda/kernel_attention.hpp"
#include "reference/oracle.hpp"
#include "reference/tiled.hpp"

namespace lazy {

template <class T>
struct Implementation {
  std::string name;

  /// Assigns `out`.
  std::function<void(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                     const AttentionOutputs<T>& out)>
      forward;

  /// Adds to `grads`, given what `forward` assigned and the loss's gradient dout [B, Tq, H, D].
  std::function<void(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                     const AttentionOutputs<T>& forward, const T* dout, const AttentionGrads<T>&)>
      backward;

  /// Assigns the weights [rows, Tk] of some query rows of one head, from this implementation's own
  /// scores, lse and gate.
  std::function<void(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                     const AttentionOutputs<T>& forward, Index b, Index head, Index first_row,
                     Index rows, T* weights)>
      weights;
};

template <class T>
inline const std::array implementations{
    Implementation<T>{
        .name = "oracle",
        .forward = oracle::attention_forward<T>,
        .backward =
            [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<T>& in,
               const AttentionOutputs<T>&, const T* dout, const AttentionGrads<T>& grads) {
              oracle::attention_backward<T>(shape, rule, in, dout, grads);
            },
        .weights =
            [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<T>& in,
               const AttentionOutputs<T>&, Index b, Index head, Index first_row, Index rows,
               T* weights) {
              oracle::attention_weights<T>(shape, rule, in, b, head, first_row, rows, weights);
            },
    },
    Implementation<T>{
        .name = "tiled",
        .forward =
            [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<T>& in,
               const AttentionOutputs<T>& out) {
              tiled::attention_forward<T>(shape, rule, in, out);
            },
        .backward =
            [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<T>& in,
               const AttentionOutputs<T>& forward, const T* dout, const AttentionGrads<T>& grads) {
              tiled::attention_backward<T>(shape, rule, in, forward, dout, grads);
            },
        .weights = tiled::attention_weights<T>,
    },
};

/// A rung of the kernels. Throws std::invalid_argument if none computes this.
inline Implementation<float> kernel_implementation(const AttentionShape& shape,
                                                   const kernels::Options& o) {
  return {
      .name = kernels::chosen_rung(shape, o),
      .forward =
          [o](const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<float>& in,
              const AttentionOutputs<float>& out) {
            kernels::attention_forward(s, rule, in, out, o);
          },
      .backward =
          [o](const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<float>& in,
              const AttentionOutputs<float>&, const float* dout,
              const AttentionGrads<float>& grads) {
            kernels::attention_backward(s, rule, in, dout, grads, o);
          },
      .weights =
          [o](const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<float>& in,
              const AttentionOutputs<float>& forward, Index b, Index head, Index first_row,
              Index rows, float* weights) {
            kernels::attention_weights(s, rule, in, forward, b, head, first_row, rows, weights, o);
          },
  };
}

}  // namespace lazy
