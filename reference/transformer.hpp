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
#include <type_traits>
#include <vector>

#include "reference/backend.hpp"
#include "reference/batch.hpp"
#include "reference/parameters.hpp"

namespace lazy {

/// Pointers into the flat parameter buffer, or into the gradient or a rounded copy, which have the
/// same layout. Null where there is none. Neighbours in the table are one matrix: `qkv` is q_proj,
/// k_proj and v_proj, `gate_up` gate_proj and up_proj.
template <class T>
struct LayerParameters {
  T *input_norm, *qkv, *o_proj, *bias, *tau, *sink, *post_norm, *gate_up, *down_proj;
};
template <class T>
struct ModelParameters {
  T *embedding, *norm, *lm_head;
  std::vector<LayerParameters<T>> layers;
};

/// Keys and values of the tokens that some sequences have seen, per layer [B, capacity, Hkv, D].
template <class B, class T>
struct KeyValueCache {
  Index capacity = 0;          // of each sequence
  std::vector<Index> lengths;  // [B] tokens seen; set one to 0 to start a new sequence in its place
  std::vector<typename B::template Buffer<typename B::template Activation<T>>> keys, values;
};

template <class B, class T>
class Transformer {
  static_assert(Backend<B, T>);

 public:
  using Activation = typename B::template Activation<T>;
  using Buffer = typename B::template Buffer<T>;
  using ActivationBuffer = typename B::template Buffer<Activation>;

  /// Parameters start from `seed`. Throws std::invalid_argument if the sizes do not fit each other.
  Transformer(const TransformerConfig& config, std::uint64_t seed);

  // Layers hold pointers into the flat buffers: a model moves, it is not copied.
  Transformer(Transformer&&) = default;
  Transformer(const Transformer&) = delete;

  const TransformerConfig& config() const { return config_; }
  const std::vector<ParameterSpec>& table() const { return table_; }
  Buffer& parameters() { return parameters_; }
  Buffer& gradients() {
    reserve_gradients();
    return gradients_;
  }
  /// What the products read where Activation is not T: the parameters, rounded; null elsewhere.
  Activation* rounded_parameters() { return rounded_.data(); }
  /// Assigns all parameters; `values` in host memory. Throws std::invalid_argument if there are too
  /// many or too few.
  void set_parameters(std::span<const T> values);

  /// Runs the model on tokens [sequences, length]; keeps every activation for `backward` and the
  /// diagnostics. Throws std::out_of_range naming a token that is not in the vocabulary, and
  /// std::invalid_argument for negative sizes.
  void forward(const int* tokens, Index sequences, Index length);
  /// The same on a batch; returns the mean loss in nats over its targets (0 if it has none).
  /// Throws std::invalid_argument if tokens or targets are not [sequences, length].
  double loss(const Batch& batch);
  /// Adds the gradient of the last `loss` to `gradients()`. Throws
  /// std::invalid_argument if `loss` of a batch of this size was not the last pass.
  void backward(const Batch& batch);

  /// The two passes in one, in the pieces that a training step needs: `load` brings a batch to the
  /// device and makes room for it; `add_gradient` computes losses and gradient of the loaded batch,
  /// reading and changing nothing of the host, so that a backend may record it. `inputs` on the
  /// device.
  void load(const Batch& batch);
  void add_gradient(const StepInputs* inputs);
  Buffer& losses() { return losses_; }  // [N] of the last pass, on the device

  /// Losses [N] of the last `loss`, in nats (empty after another pass), and logits [N, V] of the
  /// last forward; copied to the host. Throws std::logic_error after `add_gradient`, which puts
  /// their gradient in the logits' place.
  std::vector<T> token_losses() const;
  std::vector<T> logits() const;

  /// An empty cache for `sequences` of up to `capacity` tokens.
  KeyValueCache<B, T> make_cache(Index capacity, Index sequences = 1) const;
  /// Appends tokens to one cached sequence and returns the logits [V] of the last one. Throws
  /// std::length_error if the cache is full, std::invalid_argument if there is no token, no such
  /// sequence or the cache is of another model.
  std::vector<T> decode(std::span<const int> tokens, KeyValueCache<B, T>& cache,
                        Index sequence = 0);
  /// Appends one token to each sequence of the cache, whatever their lengths, and returns logits
  /// [sequences, V]. A sequence with a negative token rests: its logits mean nothing. Throws as
  /// decode.
  std::vector<T> decode_each(std::span<const int> tokens, KeyValueCache<B, T>& cache);

  /// What the attention of `layer` saw and assigned in the last forward (device pointers), and its
  /// shape. A layer that does not exist is a std::out_of_range, here and below.
  AttentionInputs<Activation, T> attention_inputs(Index layer) const;
  AttentionOutputs<Activation, T> attention_outputs(Index layer) const;
  AttentionShape attention_shape() const { return shape(sequences_, length_, length_); }
  /// Weights [rows, T] of the last forward, in host memory.
  std::vector<T> attention_weights(Index layer, Index sequence, Index head, Index first_row,
                                   Index rows) const;
  /// Values [B, T, Hkv, D] of the last forward, in host memory.
  std::vector<T> attention_values(Index layer) const;
  /// Hidden states [N, C] entering layer 0 .. L-1; `layer` = L: those leaving the last one. Host
  /// memory.
  std::vector<T> hidden_states(Index layer) const;

  /// Name of the first tensor with a NaN or an infinity, in the order of the computation:
  /// parameters, activations of the last forward, gradients from the last layer to the first; empty
  /// if all are finite.
  std::string first_non_finite() const;

 private:
  struct LayerActivations {
    Buffer x, rstd1, lse, mid, rstd2;
    ActivationBuffer norm1, q, k, v, attended, norm2, gate_up, inner;
    typename B::AttentionMemory attention;
  };
  struct Scratch {
    ActivationBuffer qkv;  // of forward
    Buffer dx, dalibi;     // of backward
    ActivationBuffer dlogits, dx_rounded, dnorm, dqkv, dq, dk, dv, dattended, dgate_up, dinner;
  };

  void reserve(Index sequences, Index length, Index positions);
  void reserve_gradients();
  void reserve_backward();
  void upload_tokens(const int* tokens, Index count);
  void run(KeyValueCache<B, T>* cache, Index first);
  void run_backward(Activation* dlogits, const StepInputs* inputs);
  AttentionShape shape(Index sequences, Index queries, Index keys) const;
  HeadSplit split(Index capacity) const;
  AttentionInputs<Activation, T> inputs(Index layer, const Activation* k,
                                        const Activation* v) const;
  void append(std::span<const int> tokens, KeyValueCache<B, T>& cache, Index first, Index length,
              const std::vector<Index>& past);

  static constexpr bool rounds = !std::is_same_v<T, Activation>;

  TransformerConfig config_;
  std::vector<ParameterSpec> table_;
  Buffer parameters_, gradients_;  // the latter empty until somebody asks for it
  ActivationBuffer rounded_;
  ModelParameters<T> weights_, dweights_;
  ModelParameters<Activation> factors_;  // what products read
  typename B::template Rope<T> rope_;
  Index positions_ = 0;  // that rope_ and alibi_ cover
  Buffer alibi_;         // [H, positions_]

  Index sequences_ = 0, length_ = 0;  // of the last forward
  bool has_loss_ = false;             // whether losses_ are its
  bool has_logits_ = false;           // and logits_, or their gradient
  typename B::template Buffer<int> tokens_, order_, targets_;
  std::vector<int> next_of_token_, rows_by_token_;  // host memory of `load`
  typename B::template Buffer<Index> past_, lengths_;
  typename B::Recording decoding_;                       // one token for each sequence of a cache
  typename B::template Buffer<StepInputs> step_inputs_;  // of loss and backward
  std::vector<LayerActivations> layers_;
  Buffer last_, final_rstd_, losses_;
  ActivationBuffer final_norm_, logits_;
  Scratch scratch_;
};

}  // namespace lazy
