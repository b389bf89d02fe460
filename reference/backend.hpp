#pragma once
// The list of operations a backend supplies. A backend is a struct of static functions;
// `Transformer<Backend, T>` is one text for all of them. Shapes and meanings stand with the CPU's
// functions (layers.hpp, rope.hpp, tiled.hpp).
//
// T is the type of parameters, gradients, statistics and the residual stream. Activation<T> is that
// of what lies between two matrix products: T itself, or a narrower one, and then the products read
// a rounded copy of the parameters. Pointers lie on the backend's device unless they are said to be
// the host's. Calls may return before they are done; `download` waits.

#include <concepts>

#include "reference/diagnostics.hpp"
#include "reference/layers.hpp"
#include "reference/rope.hpp"

namespace lazy {

template <class B, class T>
concept Backend = requires(typename B::template Buffer<T> buffer, typename B::template Rope<T> rope,
                           typename B::AttentionMemory memory, typename B::Recording recording,
                           T* x, const T* y, typename B::template Activation<T>* a,
                           const typename B::template Activation<T>* c, const int* tokens,
                           const Index* past, Index n, double scalar, const HeadSplit& split,
                           const AttentionShape& shape, const AttentionRule& rule,
                           const AttentionInputs<typename B::template Activation<T>, T>& in,
                           const AttentionOutputs<typename B::template Activation<T>, T>& out,
                           const AttentionGrads<typename B::template Activation<T>, T>& grads,
                           const UpdateRule& update, const UpdatePiece* pieces,
                           const StepInputs* inputs, StepOutputs* outputs,
                           RowStatistics* statistics, std::uint32_t* live_tiles) {
  { buffer.data() } -> std::convertible_to<T*>;
  { buffer.size() } -> std::convertible_to<std::size_t>;
  B::resize(buffer, n);  // keeps nothing: entries are unspecified
  B::zero(x, n);
  B::upload(x, y, n);    // y in the host's memory; it may be reused on return
  B::download(x, y, n);  // x in the host's memory
  B::download(x, c, n);  // the same, widened
  B::round(a, y, n);     // a = y, rounded

  B::embedding_forward(x, y, tokens, n, n, n);
  B::embedding_backward(x, y, tokens, tokens, n, n, n);  // second tokens: rows sorted by token
  B::rmsnorm_forward(a, x, y, y, n, n, scalar);
  B::rmsnorm_backward(x, a, x, c, y, y, y, n, n);  // a = the new x, rounded; null if T = Activation
  B::linear_forward(a, c, c, n, n, n);
  B::linear_add_forward(x, y, c, c, n, n, n);
  B::linear_backward(a, x, c, c, c, n, n, n);
  B::swiglu_forward(a, c, n, n);
  B::swiglu_backward(a, c, c, n, n);
  B::cross_entropy(x, a, c, tokens, n, n, inputs);

  rope = B::template make_rope<T>(n, n, scalar);
  B::split_heads(a, a, a, c, split, &rope, past);
  B::join_heads(a, a, a, c, split, &rope);
  B::attention_forward(shape, rule, in, out, &memory);  // memory: what backward needs; null: none
  B::attention_backward(shape, rule, in, out, &memory, c, grads);
  B::attention_weights(shape, rule, in, out, n, n, n, n, x);  // x in the host's memory
  // Of every row of every head, as attention_statistics.hpp; both in the host's memory.
  B::attention_statistics(shape, rule, in, out, statistics, live_tiles);

  B::measure_step(outputs, y, n, y, n, inputs);
  B::adamw_step(x, a, x, x, y, pieces, n, update, inputs, outputs);

  // Calls the function, or replays what an earlier call with the same key did.
  B::run(recording, n, [] {});
};

}  // namespace lazy
