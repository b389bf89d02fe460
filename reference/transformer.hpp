#pragma once
// A decoder-only Transformer: pre-RMSNorm, attention, SwiGLU. One text for every backend and
// scalar.
//
//   x = embedding(tokens)
//   for each layer:
//     x = x + o_proj(attention(rope(q), rope(k), v))    q, k, v = projections of rmsnorm(x)
//     x = x + down(swiglu(gate, up))                    gate, up = projections of rmsnorm(x)
//   logits = lm_head(rmsnorm(x))
//
// B sequences of T tokens, N = B T rows, C channels, F inner width. Activations are [B, T, H, D],
// which is [N, C].

#include <span>
#include <string>
#include <vector>

#include "reference/backend.hpp"
#include "reference/batch.hpp"
#include "reference/parameters.hpp"

namespace lazy {

/// Pointers into the flat parameter buffer, or into the gradient, which has the same layout. Null
/// where there is none.
template <class T>
struct LayerParameters {
  T *input_norm, *q_proj, *k_proj, *v_proj, *o_proj, *bias, *tau, *sink, *post_norm, *gate_proj,
      *up_proj, *down_proj;
};
template <class T>
struct ModelParameters {
  T *embedding, *norm, *lm_head;
  std::vector<LayerParameters<T>> layers;
};

/// Keys and values of the tokens one sequence has seen, per layer [capacity, Hkv, D].
template <class B, class T>
struct KeyValueCache {
  Index capacity = 0, length = 0;
  std::vector<typename B::template Buffer<T>> keys, values;
};

template <class B, class T>
requires Backend<B, T>
class Transformer {
 public:
  using Buffer = typename B::template Buffer<T>;

  /// Parameters start from `seed`. Throws std::invalid_argument if the sizes do not fit each other.
  Transformer(const TransformerConfig& config, std::uint64_t seed);

  // Layers hold pointers into the flat buffers: a model moves, it is not copied.
  Transformer(Transformer&&) = default;
  Transformer(const Transformer&) = delete;

  const TransformerConfig& config() const { return config_; }
  const std::vector<ParameterSpec>& table() const { return table_; }
  Buffer& parameters() { return parameters_; }
  Buffer& gradients() { return gradients_; }

  /// Runs the model on tokens [sequences, length]; keeps every activation for `backward` and the
  /// diagnostics. Throws std::out_of_range naming a token that is not in the vocabulary, and
  /// std::invalid_argument for negative sizes.
  void forward(const int* tokens, Index sequences, Index length);
  /// The same on a batch; returns the mean loss in nats over its targets (0 if it has none).
  /// Throws std::invalid_argument if tokens or targets are not [sequences, length].
  double loss(const Batch& batch);
  /// Adds the gradient of the last `loss` to `gradients()`. Throws std::invalid_argument if `loss`
  /// of a batch of this size was not the last pass.
  void backward(const Batch& batch);

  /// Losses [N] of the last `loss`, in nats (empty after another pass), and logits [N, V] of the
  /// last forward; copied to the host.
  std::vector<T> token_losses() const;
  std::vector<T> logits() const;

  /// An empty cache for `capacity` tokens.
  KeyValueCache<B, T> make_cache(Index capacity) const;
  /// Appends tokens to a cached sequence and returns the logits [V] of the last one.
  /// Throws std::length_error if the cache is full, std::invalid_argument if there is no token or
  /// the cache is of another model.
  std::vector<T> decode(std::span<const int> tokens, KeyValueCache<B, T>& cache);

  /// What the attention of `layer` saw and assigned in the last forward (device pointers), and its
  /// shape. A layer that does not exist is a std::out_of_range, here and below.
  AttentionInputs<T> attention_inputs(Index layer) const;
  AttentionOutputs<T> attention_outputs(Index layer) const;
  AttentionShape attention_shape() const { return shape(sequences_, length_, length_); }
  /// Weights [rows, T] of the last forward, in host memory.
  std::vector<T> attention_weights(Index layer, Index sequence, Index head, Index first_row,
                                   Index rows) const;
  /// Hidden states [N, C] entering layer 0 .. L-1; `layer` = L: those leaving the last one. Host
  /// memory.
  std::vector<T> hidden_states(Index layer) const;

  /// Name of the first tensor with a NaN or an infinity, in the order of the computation:
  /// parameters, activations of the last forward, gradients from the last layer to the first; empty
  /// if all are finite.
  std::string first_non_finite() const;

 private:
  struct LayerActivations {
    Buffer x, norm1, rstd1, q, k, v, attended, lse, projected, mid, norm2, rstd2, gate, up, inner;
  };
  struct Gradients {
    Buffer dlogits, dx, dnorm, dq, dk, dv, dattended, dgate, dup, dinner, dalibi;
  };

  void reserve(Index sequences, Index length, Index positions);
  void run(const int* tokens, Index sequences, Index length, KeyValueCache<B, T>* cache);
  AttentionShape shape(Index sequences, Index queries, Index keys) const;
  AttentionInputs<T> inputs(Index layer, const T* k, const T* v) const;

  TransformerConfig config_;
  std::vector<ParameterSpec> table_;
  Buffer parameters_, gradients_;
  ModelParameters<T> weights_, dweights_;
  typename B::template Rope<T> rope_;
  Index positions_ = 0;  // that rope_ and alibi_ cover
  Buffer alibi_;         // [H, positions_]

  Index sequences_ = 0, length_ = 0;  // of the last forward
  std::vector<LayerActivations> layers_;
  Buffer last_, final_norm_, final_rstd_, logits_, losses_;
  Gradients scratch_;
};

}  // namespace lazy
