#include "reference/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "reference/cpu_backend.hpp"

namespace lazy {
namespace {

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
                            .q_proj = find(layer + "self_attn.q_proj.weight"),
                            .k_proj = find(layer + "self_attn.k_proj.weight"),
                            .v_proj = find(layer + "self_attn.v_proj.weight"),
                            .o_proj = find(layer + "self_attn.o_proj.weight"),
                            .bias = find(layer + "self_attn.distance_bias"),
                            .tau = find(layer + "self_attn.tau"),
                            .sink = find(layer + "self_attn.sink"),
                            .post_norm = find(layer + "post_attention_layernorm.weight"),
                            .gate_proj = find(layer + "mlp.gate_proj.weight"),
                            .up_proj = find(layer + "mlp.up_proj.weight"),
                            .down_proj = find(layer + "mlp.down_proj.weight")});
  }
  return model;
}

void check_layer(Index layer, Index count) {
  if (layer < 0 || layer >= count)
    throw std::out_of_range("layer " + std::to_string(layer) + " does not exist; choose 0 to " +
                            std::to_string(count - 1));
}

}  // namespace

template <class B, class T>
requires Backend<B, T> Transformer<B, T>::Transformer(const TransformerConfig& config,
                                                      std::uint64_t seed)
    : config_(config), table_(parameter_table(config)), layers_(config.layers) {
  const Index size = parameter_count(table_);
  B::resize(parameters_, size);
  B::resize(gradients_, size);
  B::upload(parameters_.data(), initial_parameters<T>(table_, seed).data(), size);
  B::zero(gradients_.data(), size);
  weights_ = slices(parameters_.data(), config_, table_);
  dweights_ = slices(gradients_.data(), config_, table_);
}

// Buffers for N = sequences * length rows, and position tables for `positions` keys.
template <class B, class T>
requires Backend<B, T>
void Transformer<B, T>::reserve(Index sequences, Index length, Index positions) {
  if (positions > positions_) {
    positions_ = std::max(positions, config_.context);
    if (config_.uses_rope())
      rope_ = B::template make_rope<T>(positions_, config_.head_dim(), config_.rope_base);
    if (config_.position == Position::alibi) {
      const std::vector<T> table = alibi_bias<T>(config_.heads, positions_);
      B::resize(alibi_, Index(table.size()));
      B::upload(alibi_.data(), table.data(), Index(table.size()));
    }
  }
  sequences_ = sequences;
  length_ = length;
  const Index N = sequences * length, C = config_.channels, F = config_.inner,
              V = config_.vocabulary;
  const Index kv = config_.kv_heads * config_.head_dim();
  for (LayerActivations& a : layers_) {
    for (Buffer* buffer : {&a.x, &a.norm1, &a.q, &a.attended, &a.projected, &a.mid, &a.norm2})
      B::resize(*buffer, N * C);
    for (Buffer* buffer : {&a.k, &a.v}) B::resize(*buffer, N * kv);
    for (Buffer* buffer : {&a.rstd1, &a.rstd2}) B::resize(*buffer, N);
    for (Buffer* buffer : {&a.gate, &a.up, &a.inner}) B::resize(*buffer, N * F);
    B::resize(a.lse, N * config_.heads);
  }
  for (Buffer* buffer : {&last_, &final_norm_}) B::resize(*buffer, N * C);
  B::resize(final_rstd_, N);
  B::resize(logits_, N * V);
  B::resize(losses_, 0);  // those of an earlier pass are no longer true
}

template <class B, class T>
requires Backend<B, T> AttentionShape Transformer<B, T>::shape(Index sequences, Index queries,
                                                               Index keys)
const {
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
requires Backend<B, T> AttentionInputs<T> Transformer<B, T>::inputs(Index layer, const T* k,
                                                                    const T* v)
const {
  const LayerParameters<T>& w = weights_.layers[layer];
  return {.q = layers_[layer].q.data(),
          .k = k,
          .v = v,
          .bias = config_.position == Position::alibi ? alibi_.data() : w.bias,
          .tau = w.tau,
          .sink = w.sink};
}

template <class B, class T>
requires Backend<B, T>
void Transformer<B, T>::run(const int* tokens, Index sequences, Index length,
                            KeyValueCache<B, T>* cache) {
  const Index past = cache ? cache->length : 0;
  reserve(sequences, length, past + length);
  const Index N = sequences * length, C = config_.channels, F = config_.inner,
              V = config_.vocabulary;
  const Index H = config_.heads, Hkv = config_.kv_heads, kv = Hkv * config_.head_dim();

  B::embedding_forward(layers_[0].x.data(), weights_.embedding, tokens, N, C, V);
  for (Index l = 0; l < config_.layers; ++l) {
    const LayerParameters<T>& w = weights_.layers[l];
    LayerActivations& a = layers_[l];
    T* x_next = l + 1 < config_.layers ? layers_[l + 1].x.data() : last_.data();
    T* keys = cache ? cache->keys[l].data() : a.k.data();
    T* values = cache ? cache->values[l].data() : a.v.data();

    B::rmsnorm_forward(a.norm1.data(), a.rstd1.data(), a.x.data(), w.input_norm, N, C,
                       config_.norm_epsilon);
    B::linear_forward(a.q.data(), a.norm1.data(), w.q_proj, N, C, C);
    B::linear_forward(keys + past * kv, a.norm1.data(), w.k_proj, N, C, kv);
    B::linear_forward(values + past * kv, a.norm1.data(), w.v_proj, N, C, kv);
    if (config_.uses_rope()) {
      B::rope_forward(a.q.data(), rope_, sequences, length, H, past);
      B::rope_forward(keys + past * kv, rope_, sequences, length, Hkv, past);
    }
    B::attention_forward(shape(sequences, length, past + length), config_.rule,
                         inputs(l, keys, values), {a.attended.data(), a.lse.data()});
    B::linear_forward(a.projected.data(), a.attended.data(), w.o_proj, N, C, C);
    B::add(a.mid.data(), a.x.data(), a.projected.data(), N * C);

    B::rmsnorm_forward(a.norm2.data(), a.rstd2.data(), a.mid.data(), w.post_norm, N, C,
                       config_.norm_epsilon);
    B::linear_forward(a.gate.data(), a.norm2.data(), w.gate_proj, N, C, F);
    B::linear_forward(a.up.data(), a.norm2.data(), w.up_proj, N, C, F);
    B::swiglu_forward(a.inner.data(), a.gate.data(), a.up.data(), N * F);
    B::linear_forward(a.projected.data(), a.inner.data(), w.down_proj, N, F, C);
    B::add(x_next, a.mid.data(), a.projected.data(), N * C);
  }
  B::rmsnorm_forward(final_norm_.data(), final_rstd_.data(), last_.data(), weights_.norm, N, C,
                     config_.norm_epsilon);
  B::linear_forward(logits_.data(), final_norm_.data(), weights_.lm_head, N, C, V);
  if (cache) cache->length += length;
}

template <class B, class T>
requires Backend<B, T>
void Transformer<B, T>::forward(const int* tokens, Index sequences, Index length) {
  if (sequences < 0 || length < 0)
    throw std::invalid_argument("forward: sequences (" + std::to_string(sequences) +
                                ") and length (" + std::to_string(length) +
                                ") must not be negative");
  if (!tokens && sequences * length > 0)
    throw std::invalid_argument("forward: tokens must not be null");
  run(tokens, sequences, length, nullptr);
}

namespace {

Index count_targets(const Batch& batch) {
  return Index(std::count_if(batch.targets.begin(), batch.targets.end(),
                             [](int target) { return target >= 0; }));
}

}  // namespace

template <class B, class T>
requires Backend<B, T>
double Transformer<B, T>::loss(const Batch& batch) {
  const Index N = batch.sequences * batch.length;
  if (Index(batch.tokens.size()) != N || Index(batch.targets.size()) != N)
    throw std::invalid_argument("batch: " + std::to_string(batch.tokens.size()) + " tokens and " +
                                std::to_string(batch.targets.size()) +
                                " targets, expected sequences * length = " + std::to_string(N) +
                                " of each");
  forward(batch.tokens.data(), batch.sequences, batch.length);
  B::resize(losses_, N);
  B::cross_entropy_forward(losses_.data(), logits_.data(), batch.targets.data(), N,
                           config_.vocabulary);
  double sum = 0;
  for (const T token_loss : token_losses()) sum += double(token_loss);
  return sum / double(std::max<Index>(1, count_targets(batch)));
}

// The passes of `run` in reverse. dx carries the gradient of the residual stream; every other
// buffer starts from zero.
template <class B, class T>
requires Backend<B, T>
void Transformer<B, T>::backward(const Batch& batch) {
  if (batch.sequences != sequences_ || batch.length != length_ ||
      batch.tokens.size() != losses_.size() || batch.targets.size() != losses_.size())
    throw std::invalid_argument(
        "backward: a batch of " + std::to_string(batch.sequences) + " x " +
        std::to_string(batch.length) + " is not what the last pass computed the loss of (" +
        std::to_string(sequences_) + " x " + std::to_string(length_) +
        (losses_.size() ? "" : ", without a loss") + "); call loss(batch) first");
  const Index N = sequences_ * length_, C = config_.channels, F = config_.inner,
              V = config_.vocabulary;
  const Index H = config_.heads, Hkv = config_.kv_heads, kv = Hkv * config_.head_dim();
  Gradients& g = scratch_;
  const auto zeroed = [](Buffer& buffer, Index size) {
    B::resize(buffer, size);
    B::zero(buffer.data(), size);
    return buffer.data();
  };

  T* dlogits = zeroed(g.dlogits, N * V);
  B::cross_entropy_backward(dlogits, logits_.data(), batch.targets.data(), N, V,
                            1.0 / double(std::max<Index>(1, count_targets(batch))));
  T* dnorm = zeroed(g.dnorm, N * C);
  B::linear_backward(dnorm, dweights_.lm_head, dlogits, final_norm_.data(), weights_.lm_head, N, C,
                     V);
  T* dx = zeroed(g.dx, N * C);
  B::rmsnorm_backward(dx, dweights_.norm, dnorm, last_.data(), weights_.norm, final_rstd_.data(), N,
                      C);

  for (Index l = config_.layers - 1; l >= 0; --l) {
    const LayerParameters<T>&w = weights_.layers[l], &dw = dweights_.layers[l];
    const LayerActivations& a = layers_[l];

    T *dinner = zeroed(g.dinner, N * F), *dgate = zeroed(g.dgate, N * F),
      *dup = zeroed(g.dup, N * F);
    B::linear_backward(dinner, dw.down_proj, dx, a.inner.data(), w.down_proj, N, F, C);
    B::swiglu_backward(dgate, dup, dinner, a.gate.data(), a.up.data(), N * F);
    dnorm = zeroed(g.dnorm, N * C);
    B::linear_backward(dnorm, dw.up_proj, dup, a.norm2.data(), w.up_proj, N, C, F);
    B::linear_backward(dnorm, dw.gate_proj, dgate, a.norm2.data(), w.gate_proj, N, C, F);
    B::rmsnorm_backward(dx, dw.post_norm, dnorm, a.mid.data(), w.post_norm, a.rstd2.data(), N, C);

    T* dattended = zeroed(g.dattended, N * C);
    B::linear_backward(dattended, dw.o_proj, dx, a.attended.data(), w.o_proj, N, C, C);
    T *dq = zeroed(g.dq, N * C), *dk = zeroed(g.dk, N * kv), *dv = zeroed(g.dv, N * kv);
    const AttentionShape attention = attention_shape();
    T* dbias =
        config_.position == Position::alibi ? zeroed(g.dalibi, H * attention.window) : dw.bias;
    B::attention_backward(attention, config_.rule, attention_inputs(l), attention_outputs(l),
                          dattended, {dq, dk, dv, dbias, dw.tau, dw.sink});
    if (config_.uses_rope()) {
      B::rope_backward(dq, rope_, sequences_, length_, H, 0);
      B::rope_backward(dk, rope_, sequences_, length_, Hkv, 0);
    }
    dnorm = zeroed(g.dnorm, N * C);
    B::linear_backward(dnorm, dw.v_proj, dv, a.norm1.data(), w.v_proj, N, C, kv);
    B::linear_backward(dnorm, dw.k_proj, dk, a.norm1.data(), w.k_proj, N, C, kv);
    B::linear_backward(dnorm, dw.q_proj, dq, a.norm1.data(), w.q_proj, N, C, C);
    B::rmsnorm_backward(dx, dw.input_norm, dnorm, a.x.data(), w.input_norm, a.rstd1.data(), N, C);
  }
  B::embedding_backward(dweights_.embedding, dx, batch.tokens.data(), N, C);
}

namespace {

template <class B, class T>
std::vector<T> to_host(const T* data, Index size) {
  std::vector<T> host(size);
  B::download(host.data(), data, size);
  return host;
}

}  // namespace

template <class B, class T>
requires Backend<B, T> std::vector<T> Transformer<B, T>::token_losses()
const {
  return to_host<B>(losses_.data(), Index(losses_.size()));
}

template <class B, class T>
requires Backend<B, T> std::vector<T> Transformer<B, T>::logits()
const {
  return to_host<B>(logits_.data(), sequences_ * length_ * config_.vocabulary);
}

template <class B, class T>
requires Backend<B, T> KeyValueCache<B, T> Transformer<B, T>::make_cache(Index capacity)
const {
  if (capacity < 0)
    throw std::invalid_argument("make_cache: capacity is " + std::to_string(capacity) +
                                ", must not be negative");
  KeyValueCache<B, T> cache;
  cache.capacity = capacity;
  cache.keys.resize(config_.layers);
  cache.values.resize(config_.layers);
  for (auto* buffers : {&cache.keys, &cache.values})
    for (Buffer& buffer : *buffers)
      B::resize(buffer, capacity * config_.kv_heads * config_.head_dim());
  return cache;
}

template <class B, class T>
requires Backend<B, T> std::vector<T> Transformer<B, T>::decode(std::span<const int> tokens,
                                                                KeyValueCache<B, T>& cache) {
  const Index n = Index(tokens.size());
  if (n == 0) throw std::invalid_argument("decode: no tokens given; pass at least one");
  const Index size = cache.capacity * config_.kv_heads * config_.head_dim();
  if (Index(cache.keys.size()) != config_.layers || Index(cache.keys[0].size()) != size)
    throw std::invalid_argument(
        "decode: the cache is of another model; use make_cache of this one");
  if (cache.length + n > cache.capacity)
    throw std::length_error("decode: " + std::to_string(cache.length + n) +
                            " tokens do not fit a cache of " + std::to_string(cache.capacity) +
                            "; make a larger cache");
  run(tokens.data(), 1, n, &cache);
  return to_host<B>(logits_.data() + (n - 1) * config_.vocabulary, config_.vocabulary);
}

template <class B, class T>
requires Backend<B, T> AttentionInputs<T> Transformer<B, T>::attention_inputs(Index layer)
const {
  check_layer(layer, config_.layers);
  return inputs(layer, layers_[layer].k.data(), layers_[layer].v.data());
}

template <class B, class T>
requires Backend<B, T> AttentionOutputs<T> Transformer<B, T>::attention_outputs(Index layer)
const {
  check_layer(layer, config_.layers);
  const LayerActivations& a = layers_[layer];
  return {const_cast<T*>(a.attended.data()), const_cast<T*>(a.lse.data())};
}

template <class B, class T>
requires Backend<B, T> std::vector<T> Transformer<B, T>::attention_weights(
    Index layer, Index sequence, Index head, Index first_row, Index rows)
const {
  std::vector<T> weights(std::max<Index>(0, rows) * length_);
  B::attention_weights(attention_shape(), config_.rule, attention_inputs(layer),
                       attention_outputs(layer), sequence, head, first_row, rows, weights.data());
  return weights;
}

template <class B, class T>
requires Backend<B, T> std::vector<T> Transformer<B, T>::hidden_states(Index layer)
const {
  check_layer(layer, config_.layers + 1);
  const Buffer& x = layer < config_.layers ? layers_[layer].x : last_;
  return to_host<B>(x.data(), sequences_ * length_ * config_.channels);
}

template <class B, class T>
requires Backend<B, T> std::string Transformer<B, T>::first_non_finite()
const {
  const auto broken = [](const T* data, Index size) {
    for (const T value : to_host<B>(data, size))
      if (!std::isfinite(value)) return true;
    return false;
  };
  const auto broken_slice = [&](const Buffer& buffer, const ParameterSpec& p) {
    return broken(buffer.data() + p.offset, p.size);
  };
  for (const ParameterSpec& p : table_)
    if (broken_slice(parameters_, p)) return p.name;
  for (Index l = 0; l < config_.layers; ++l) {
    const LayerActivations& a = layers_[l];
    for (const auto& [name, buffer] : {std::pair{"input", &a.x},
                                       {"input_layernorm", &a.norm1},
                                       {"q", &a.q},
                                       {"k", &a.k},
                                       {"v", &a.v},
                                       {"attention output", &a.attended},
                                       {"attention residual", &a.mid},
                                       {"post_attention_layernorm", &a.norm2},
                                       {"gate", &a.gate},
                                       {"up", &a.up},
                                       {"swiglu", &a.inner}})
      if (broken(buffer->data(), Index(buffer->size())))
        return "layer " + std::to_string(l) + ", " + name;
  }
  for (const auto& [name, buffer] : {std::pair{"output of the last layer", &last_},
                                     {"final norm", &final_norm_},
                                     {"logits", &logits_},
                                     {"losses", &losses_}})
    if (broken(buffer->data(), Index(buffer->size()))) return name;
  for (auto p = table_.rbegin(); p != table_.rend(); ++p)
    if (broken_slice(gradients_, *p)) return "gradient of " + p->name;
  return "";
}

template class Transformer<CpuBackend, float>;
template class Transformer<CpuBackend, double>;

}  // namespace lazy
