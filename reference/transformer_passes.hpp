#pragma once
// The definitions of transformer.hpp, for the file that instantiates a backend's model: parameters,
// forward and backward.

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "reference/transformer.hpp"

namespace lazy {
namespace detail {

template <class T>
ModelParameters<T> slices(T* base, const TransformerConfig& config,
                          const std::vector<ParameterSpec>& table) {
  const auto find = [&](const std::string& name) -> T* {
    for (const ParameterSpec& p : table)
      if (p.name == name) return base + p.offset;
    return nullptr;
  };
  ModelParameters<T> model{
      .embedding = find("model.embed_tokens.weight"),
      .norm = find("model.norm.weight"),
      .lm_head = find(config.tied ? "model.embed_tokens.weight" : "lm_head.weight"),
      .layers = {}};
  for (Index l = 0; l < config.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    model.layers.push_back({.input_norm = find(layer + "input_layernorm.weight"),
                            .qkv = find(layer + "self_attn.q_proj.weight"),
                            .o_proj = find(layer + "self_attn.o_proj.weight"),
                            .bias = find(layer + "self_attn.distance_bias"),
                            .tau = find(layer + "self_attn.tau"),
                            .sink = find(layer + "self_attn.sink"),
                            .post_norm = find(layer + "post_attention_layernorm.weight"),
                            .gate_up = find(layer + "mlp.gate_proj.weight"),
                            .down_proj = find(layer + "mlp.down_proj.weight")});
  }
  return model;
}

inline void check_layer(Index layer, Index count) {
  if (layer < 0 || layer >= count)
    throw std::out_of_range("layer " + std::to_string(layer) + " does not exist; choose 0 to " +
                            std::to_string(count - 1));
}

inline void check_sizes(Index sequences, Index length) {
  if (sequences < 0 || length < 0)
    throw std::invalid_argument("forward: sequences (" + std::to_string(sequences) +
                                ") and length (" + std::to_string(length) +
                                ") must not be negative");
}

// Kernels cannot throw: what they index with is checked before it leaves the host.
inline void check_indices(const char* what, const int* indices, Index count, Index vocabulary,
                          int least) {
  for (Index n = 0; n < count; ++n)
    if (indices[n] < least || indices[n] >= vocabulary)
      throw std::out_of_range(std::string(what) + " " + std::to_string(indices[n]) + " at row " +
                              std::to_string(n) + " does not fit a vocabulary of " +
                              std::to_string(vocabulary));
}

template <class B, class U>
void assign(typename B::template Buffer<U>& buffer, const std::vector<U>& values) {
  B::resize(buffer, Index(values.size()));
  B::upload(buffer.data(), values.data(), Index(values.size()));
}
template <class B, class U>
void assign(typename B::template Buffer<U>& buffer, const U& value) {
  B::resize(buffer, 1);
  B::upload(buffer.data(), &value, 1);
}

}  // namespace detail

template <class B, class T>
Transformer<B, T>::Transformer(const TransformerConfig& config, std::uint64_t seed)
    : config_(config), table_(parameter_table(config)), layers_(config.layers) {
  const Index size = parameter_count(table_);
  B::resize(parameters_, size);
  weights_ = detail::slices(parameters_.data(), config_, table_);
  if constexpr (rounds) {
    B::resize(rounded_, size);
    factors_ = detail::slices(rounded_.data(), config_, table_);
  } else {
    factors_ = weights_;
  }
  set_parameters(initial_parameters<T>(table_, seed));
}

template <class B, class T>
void Transformer<B, T>::set_parameters(std::span<const T> values) {
  const Index size = Index(parameters_.size());
  if (Index(values.size()) != size)
    throw std::invalid_argument("set_parameters: " + std::to_string(values.size()) +
                                " values for a model of " + std::to_string(size) +
                                " parameters; were they saved with another configuration?");
  B::upload(parameters_.data(), values.data(), size);
  if constexpr (rounds) B::round(rounded_.data(), parameters_.data(), size);
}

// Buffers for N = sequences * length rows, and position tables for `positions` keys.
template <class B, class T>
void Transformer<B, T>::reserve(Index sequences, Index length, Index positions) {
  if (positions > positions_) {
    positions_ = std::max(positions, config_.context);
    if (config_.uses_rope())
      rope_ = B::template make_rope<T>(positions_, config_.head_dim(), config_.rope_base);
    if (config_.position == Position::alibi)
      detail::assign<B>(alibi_, alibi_bias<T>(config_.heads, positions_));
  }
  sequences_ = sequences;
  length_ = length;
  has_loss_ = false;
  has_logits_ = true;
  const Index N = sequences * length, C = config_.channels, F = config_.inner;
  const Index kv = config_.kv_heads * config_.head_dim();
  for (LayerActivations& a : layers_) {
    for (Buffer* buffer : {&a.x, &a.mid}) B::resize(*buffer, N * C);
    for (ActivationBuffer* buffer : {&a.norm1, &a.q, &a.attended, &a.norm2})
      B::resize(*buffer, N * C);
    for (ActivationBuffer* buffer : {&a.k, &a.v}) B::resize(*buffer, N * kv);
    for (Buffer* buffer : {&a.rstd1, &a.rstd2}) B::resize(*buffer, N);
    B::resize(a.gate_up, N * 2 * F);
    B::resize(a.inner, N * F);
    B::resize(a.lse, N * config_.heads);
  }
  B::resize(last_, N * C);
  B::resize(final_norm_, N * C);
  B::resize(final_rstd_, N);
  B::resize(logits_, N * config_.vocabulary);
  B::resize(losses_, N);
  B::resize(scratch_.qkv, N * (C + 2 * kv));
}

template <class B, class T>
void Transformer<B, T>::reserve_gradients() {
  if (gradients_.size() > 0) return;
  B::resize(gradients_, Index(parameters_.size()));
  B::zero(gradients_.data(), Index(parameters_.size()));
  dweights_ = detail::slices(gradients_.data(), config_, table_);
}

template <class B, class T>
void Transformer<B, T>::reserve_backward() {
  reserve_gradients();
  const Index N = sequences_ * length_, C = config_.channels, F = config_.inner;
  const Index kv = config_.kv_heads * config_.head_dim();
  Scratch& s = scratch_;
  B::resize(s.dx, N * C);
  if constexpr (rounds) B::resize(s.dx_rounded, N * C);
  for (ActivationBuffer* buffer : {&s.dnorm, &s.dq, &s.dattended}) B::resize(*buffer, N * C);
  for (ActivationBuffer* buffer : {&s.dk, &s.dv}) B::resize(*buffer, N * kv);
  B::resize(s.dqkv, N * (C + 2 * kv));
  B::resize(s.dgate_up, N * 2 * F);
  B::resize(s.dinner, N * F);
  if (config_.position == Position::alibi) B::resize(s.dalibi, config_.heads * positions_);
}

template <class B, class T>
void Transformer<B, T>::upload_tokens(const int* tokens, Index count) {
  detail::check_indices("token", tokens, count, config_.vocabulary, 0);
  B::resize(tokens_, count);
  B::upload(tokens_.data(), tokens, count);
}

template <class B, class T>
AttentionShape Transformer<B, T>::shape(Index sequences, Index queries, Index keys) const {
  const Index window = config_.position == Position::alibi ? positions_
                       : config_.learns_bias()             ? config_.window
                                                           : 0;
  return {.batch = sequences,
          .queries = queries,
          .keys = keys,
          .heads = config_.heads,
          .kv_heads = config_.kv_heads,
          .head_dim = config_.head_dim(),
          .window = window};
}

template <class B, class T>
HeadSplit Transformer<B, T>::split(Index capacity) const {
  return {.sequences = sequences_,
          .length = length_,
          .heads = config_.heads,
          .kv_heads = config_.kv_heads,
          .head_dim = config_.head_dim(),
          .capacity = capacity};
}

template <class B, class T>
auto Transformer<B, T>::inputs(Index layer, const Activation* k, const Activation* v) const
    -> AttentionInputs<Activation, T> {
  const LayerParameters<T>& w = weights_.layers[layer];
  return {.q = layers_[layer].q.data(),
          .k = k,
          .v = v,
          .bias = config_.position == Position::alibi ? alibi_.data() : w.bias,
          .tau = w.tau,
          .sink = w.sink};
}

// The model on tokens_; with a cache, on the sequences from `first` whose past_ and lengths_ lie on
// the device.
template <class B, class T>
void Transformer<B, T>::run(KeyValueCache<B, T>* cache, Index first) {
  const Index N = sequences_ * length_, C = config_.channels, F = config_.inner,
              V = config_.vocabulary;
  const Index kv = config_.kv_heads * config_.head_dim();
  const Index capacity = cache ? cache->capacity : length_;
  const Index* past = cache ? past_.data() : nullptr;
  const auto* rope = config_.uses_rope() ? &rope_ : nullptr;

  B::embedding_forward(layers_[0].x.data(), weights_.embedding, tokens_.data(), N, C, V);
  for (Index l = 0; l < config_.layers; ++l) {
    const LayerParameters<T>& w = weights_.layers[l];
    const LayerParameters<Activation>& factor = factors_.layers[l];
    LayerActivations& a = layers_[l];
    T* x_next = l + 1 < config_.layers ? layers_[l + 1].x.data() : last_.data();
    const Index start = first * capacity * kv;
    Activation* keys = cache ? cache->keys[l].data() + start : a.k.data();
    Activation* values = cache ? cache->values[l].data() + start : a.v.data();

    B::rmsnorm_forward(a.norm1.data(), a.rstd1.data(), a.x.data(), w.input_norm, N, C,
                       config_.norm_epsilon);
    B::linear_forward(scratch_.qkv.data(), a.norm1.data(), factor.qkv, N, C, C + 2 * kv);
    B::split_heads(a.q.data(), keys, values, scratch_.qkv.data(), split(capacity), rope, past);
    AttentionInputs<Activation, T> in = inputs(l, keys, values);
    in.lengths = cache ? lengths_.data() : nullptr;
    B::attention_forward(shape(sequences_, length_, capacity), config_.rule, in,
                         {a.attended.data(), a.lse.data()}, cache ? nullptr : &a.attention);
    B::linear_add_forward(a.mid.data(), a.x.data(), a.attended.data(), factor.o_proj, N, C, C);

    B::rmsnorm_forward(a.norm2.data(), a.rstd2.data(), a.mid.data(), w.post_norm, N, C,
                       config_.norm_epsilon);
    B::linear_forward(a.gate_up.data(), a.norm2.data(), factor.gate_up, N, C, 2 * F);
    B::swiglu_forward(a.inner.data(), a.gate_up.data(), N, F);
    B::linear_add_forward(x_next, a.mid.data(), a.inner.data(), factor.down_proj, N, F, C);
  }
  B::rmsnorm_forward(final_norm_.data(), final_rstd_.data(), last_.data(), weights_.norm, N, C,
                     config_.norm_epsilon);
  B::linear_forward(logits_.data(), final_norm_.data(), factors_.lm_head, N, C, V);
}

template <class B, class T>
void Transformer<B, T>::forward(const int* tokens, Index sequences, Index length) {
  detail::check_sizes(sequences, length);
  if (!tokens && sequences * length > 0)
    throw std::invalid_argument("forward: tokens must not be null");
  upload_tokens(tokens, sequences * length);
  reserve(sequences, length, length);
  run(nullptr, 0);
}

template <class B, class T>
void Transformer<B, T>::load(const Batch& batch) {
  detail::check_sizes(batch.sequences, batch.length);
  const Index N = batch.sequences * batch.length;
  if (Index(batch.tokens.size()) != N || Index(batch.targets.size()) != N)
    throw std::invalid_argument("batch: " + std::to_string(batch.tokens.size()) + " tokens and " +
                                std::to_string(batch.targets.size()) +
                                " targets, expected sequences * length = " + std::to_string(N) +
                                " of each");
  detail::check_indices("target", batch.targets.data(), N, config_.vocabulary,
                        std::numeric_limits<int>::min());
  upload_tokens(batch.tokens.data(), N);
  detail::assign<B>(targets_, batch.targets);
  // Rows by token, equal ones as they stand: each row of the embedding's gradient is one sum.
  next_of_token_.assign(config_.vocabulary + 1, 0);
  for (const int token : batch.tokens) ++next_of_token_[token + 1];
  std::partial_sum(next_of_token_.begin(), next_of_token_.end(), next_of_token_.begin());
  rows_by_token_.resize(N);
  for (Index n = 0; n < N; ++n) rows_by_token_[next_of_token_[batch.tokens[n]]++] = int(n);
  detail::assign<B>(order_, rows_by_token_);
  reserve(batch.sequences, batch.length, batch.length);
  // What add_gradient will leave. It cannot say so itself: a recorded one is not called again.
  has_loss_ = true;
  has_logits_ = false;
}

template <class B, class T>
double Transformer<B, T>::loss(const Batch& batch) {
  load(batch);
  const Index N = sequences_ * length_;
  const double targets = double(std::max<Index>(1, target_count(batch)));
  detail::assign<B>(step_inputs_, StepInputs{.loss_scale = 1 / targets});
  run(nullptr, 0);
  B::cross_entropy(losses_.data(), static_cast<Activation*>(nullptr), logits_.data(),
                   targets_.data(), N, config_.vocabulary, step_inputs_.data());
  has_logits_ = true;
  double sum = 0;
  for (const T token_loss : token_losses()) sum += double(token_loss);
  return sum / targets;
}

template <class B, class T>
void Transformer<B, T>::backward(const Batch& batch) {
  const auto N = std::size_t(sequences_ * length_);
  if (batch.sequences != sequences_ || batch.length != length_ || batch.tokens.size() != N ||
      batch.targets.size() != N || !has_loss_ || !has_logits_)
    throw std::invalid_argument(
        "backward: a batch of " + std::to_string(batch.sequences) + " x " +
        std::to_string(batch.length) + " is not what the last pass computed the loss of (" +
        std::to_string(sequences_) + " x " + std::to_string(length_) +
        (has_loss_ ? "" : ", without a loss") + "); call loss(batch) first");
  B::resize(scratch_.dlogits, Index(logits_.size()));
  run_backward(scratch_.dlogits.data(), step_inputs_.data());
}

template <class B, class T>
void Transformer<B, T>::add_gradient(const StepInputs* inputs) {
  run(nullptr, 0);
  run_backward(logits_.data(), inputs);
}

// The losses, and the passes of `run` in reverse. dx carries the gradient of the residual stream.
template <class B, class T>
void Transformer<B, T>::run_backward(Activation* dlogits, const StepInputs* inputs) {
  reserve_backward();
  const Index N = sequences_ * length_, C = config_.channels, F = config_.inner,
              V = config_.vocabulary;
  const Index H = config_.heads, kv = config_.kv_heads * config_.head_dim();
  const AttentionShape attention = attention_shape();
  const auto* rope = config_.uses_rope() ? &rope_ : nullptr;
  Scratch& s = scratch_;
  T* dx = s.dx.data();
  Activation *dnorm = s.dnorm.data(), *rounded = s.dx_rounded.data();
  const Activation* dout;  // dx as a factor of products
  if constexpr (rounds)
    dout = rounded;
  else
    dout = dx;

  B::cross_entropy(losses_.data(), dlogits, logits_.data(), targets_.data(), N, V, inputs);
  B::linear_backward(dnorm, dweights_.lm_head, dlogits, final_norm_.data(), factors_.lm_head, N, C,
                     V);
  B::zero(dx, N * C);
  B::rmsnorm_backward(dx, rounded, dweights_.norm, dnorm, last_.data(), weights_.norm,
                      final_rstd_.data(), N, C);

  for (Index l = config_.layers - 1; l >= 0; --l) {
    const LayerParameters<T>&w = weights_.layers[l], &dw = dweights_.layers[l];
    const LayerParameters<Activation>& factor = factors_.layers[l];
    LayerActivations& a = layers_[l];

    B::linear_backward(s.dinner.data(), dw.down_proj, dout, a.inner.data(), factor.down_proj, N, F,
                       C);
    B::swiglu_backward(s.dgate_up.data(), s.dinner.data(), a.gate_up.data(), N, F);
    B::linear_backward(dnorm, dw.gate_up, s.dgate_up.data(), a.norm2.data(), factor.gate_up, N, C,
                       2 * F);
    B::rmsnorm_backward(dx, rounded, dw.post_norm, dnorm, a.mid.data(), w.post_norm, a.rstd2.data(),
                        N, C);

    B::linear_backward(s.dattended.data(), dw.o_proj, dout, a.attended.data(), factor.o_proj, N, C,
                       C);
    B::zero(s.dq.data(), N * C);
    B::zero(s.dk.data(), N * kv);
    B::zero(s.dv.data(), N * kv);
    T* dbias = dw.bias;
    if (config_.position == Position::alibi) {
      dbias = s.dalibi.data();
      B::zero(dbias, H * attention.window);
    }
    B::attention_backward(attention, config_.rule, attention_inputs(l), attention_outputs(l),
                          &a.attention, s.dattended.data(),
                          {s.dq.data(), s.dk.data(), s.dv.data(), dbias, dw.tau, dw.sink});
    B::join_heads(s.dqkv.data(), s.dq.data(), s.dk.data(), s.dv.data(), split(length_), rope);
    B::linear_backward(dnorm, dw.qkv, s.dqkv.data(), a.norm1.data(), factor.qkv, N, C, C + 2 * kv);
    B::rmsnorm_backward(dx, rounded, dw.input_norm, dnorm, a.x.data(), w.input_norm, a.rstd1.data(),
                        N, C);
  }
  B::embedding_backward(dweights_.embedding, dx, tokens_.data(), order_.data(), N, C, V);
}

}  // namespace lazy
