#pragma once
// The list of operations a backend supplies. A backend is a struct of static functions;
// `Transformer<Backend, T>` is one text for all of them. Shapes and meanings stand with the CPU's
// functions (layers.hpp, rope.hpp, tiled.hpp).

#include <concepts>

#include "reference/layers.hpp"
#include "reference/rope.hpp"

namespace lazy {

template <class B, class T>
concept Backend = requires(typename B::template Buffer<T> buffer, typename B::template Rope<T> rope,
                           T* x, const T* y, const int* tokens, Index n, double scalar,
                           const AttentionShape& shape, const AttentionRule& rule,
                           const AttentionInputs<T>& in, const AttentionOutputs<T>& out,
                           const AttentionGrads<T>& grads, const AdamW& adamw) {
  { buffer.data() } -> std::convertible_to<T*>;
  { buffer.size() } -> std::convertible_to<std::size_t>;
  B::resize(buffer, n);  // keeps nothing: entries are unspecified
  B::zero(x, n);
  B::add(x, y, y, n);    // x = y + y
  B::upload(x, y, n);    // host to device
  B::download(x, y, n);  // device to host

  B::embedding_forward(x, y, tokens, n, n, n);
  B::embedding_backward(x, y, tokens, n, n);
  B::rmsnorm_forward(x, x, y, y, n, n, scalar);
  B::rmsnorm_backward(x, x, y, y, y, y, n, n);
  B::linear_forward(x, y, y, n, n, n);
  B::linear_backward(x, x, y, y, y, n, n, n);
  B::swiglu_forward(x, y, y, n);
  B::swiglu_backward(x, x, y, y, y, n);
  B::cross_entropy_forward(x, y, tokens, n, n);
  B::cross_entropy_backward(x, y, tokens, n, n, scalar);

  rope = B::template make_rope<T>(n, n, scalar);
  B::rope_forward(x, rope, n, n, n, n);  // x [sequences, length, heads, D], positions from `first`
  B::rope_backward(x, rope, n, n, n, n);
  B::attention_forward(shape, rule, in, out);
  B::attention_backward(shape, rule, in, out, y, grads);
  B::attention_weights(shape, rule, in, out, n, n, n, n, x);  // x is in host memory

  { B::squared_norm(y, n) } -> std::convertible_to<double>;
  B::adamw_step(x, x, x, y, n, adamw, n);
};

}  // namespace lazy
