#pragma once
// The implementations of attention that `lazy attend` offers: one row each. The first is the
// default.

#include <array>

#include "reference/oracle.hpp"
#include "reference/tiled.hpp"

namespace lazy {

template <class T>
struct Implementation {
  const char* name;

  /// Assigns `out`.
  void (*forward)(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                  const AttentionOutputs<T>& out);

  /// Adds to `grads`, given what `forward` assigned and the loss's gradient dout [B, Tq, H, D].
  void (*backward)(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                   const AttentionOutputs<T>& forward, const T* dout, const AttentionGrads<T>&);

  /// Assigns the weights [rows, Tk] of some query rows of one head, from this implementation's own
  /// scores, lse and gate.
  void (*weights)(const AttentionShape&, const AttentionRule&, const AttentionInputs<T>&,
                  const AttentionOutputs<T>& forward, Index b, Index head, Index first_row,
                  Index rows, T* weights);
};

template <class T>
inline constexpr std::array implementations{
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

}  // namespace lazy
