#pragma once
// The definitions of transformer.hpp, for the file that instantiates a backend's model: what the
// host asks of a model, decoding and inspection.

#include <cmath>
#include <cstdint>

#include "reference/transformer_passes.hpp"

namespace lazy {
namespace detail {

// As numbers of type T, whatever they are on the device.
template <class B, class T, class U>
std::vector<T> to_host(const U* data, Index size) {
  std::vector<T> host(size);
  B::download(host.data(), data, size);
  return host;
}

}  // namespace detail

template <class B, class T>
std::vector<T> Transformer<B, T>::token_losses() const {
  return detail::to_host<B, T>(losses_.data(), has_loss_ ? sequences_ * length_ : 0);
}

template <class B, class T>
std::vector<T> Transformer<B, T>::logits() const {
  if (!has_logits_)
    throw std::logic_error(
        "logits: there was no forward, or a training step wrote their gradient in their place; "
        "call "
        "forward first");
  return detail::to_host<B, T>(logits_.data(), sequences_ * length_ * config_.vocabulary);
}

template <class B, class T>
KeyValueCache<B, T> Transformer<B, T>::make_cache(Index capacity, Index sequences) const {
  if (capacity < 0 || sequences < 1)
    throw std::invalid_argument("make_cache: capacity is " + std::to_string(capacity) +
                                ", must not be negative, and sequences is " +
                                std::to_string(sequences) + ", must be at least 1");
  KeyValueCache<B, T> cache;
  cache.capacity = capacity;
  cache.lengths.resize(sequences);
  cache.keys.resize(config_.layers);
  cache.values.resize(config_.layers);
  for (auto* buffers : {&cache.keys, &cache.values})
    for (ActivationBuffer& buffer : *buffers)
      B::resize(buffer, sequences * capacity * config_.kv_heads * config_.head_dim());
  return cache;
}

// Appends `length` tokens to each of the cache's sequences from `first`; where past[b] is negative,
// sequence b rests.
template <class B, class T>
void Transformer<B, T>::append(std::span<const int> tokens, KeyValueCache<B, T>& cache, Index first,
                               Index length, const std::vector<Index>& past) {
  const Index size =
      Index(cache.lengths.size()) * cache.capacity * config_.kv_heads * config_.head_dim();
  if (Index(cache.keys.size()) != config_.layers || Index(cache.keys[0].size()) != size)
    throw std::invalid_argument(
        "decode: the cache is of another model; use make_cache of this one");
  std::vector<Index> lengths;
  for (const Index seen : past) {
    if (seen + length > cache.capacity)
      throw std::length_error("decode: " + std::to_string(seen + length) +
                              " tokens do not fit a cache of " + std::to_string(cache.capacity) +
                              "; make a larger cache");
    lengths.push_back(seen < 0 ? 0 : seen + length);
  }
  upload_tokens(tokens.data(), Index(tokens.size()));
  detail::assign<B>(past_, past);
  detail::assign<B>(lengths_, lengths);
  reserve(Index(past.size()), length, cache.capacity);
  // One token for each sequence is the step that a loop repeats: all that changes between two lies
  // on the device, so that one recording serves all lengths. A cache is known by where it lies; if
  // it went and another took its place, memory was taken in between.
  if (length == 1 && past.size() == cache.lengths.size())
    B::run(decoding_, static_cast<Index>(reinterpret_cast<std::intptr_t>(cache.keys[0].data())),
           [&] { run(&cache, 0); });
  else
    run(&cache, first);
  for (std::size_t b = 0; b < past.size(); ++b)
    if (past[b] >= 0) cache.lengths[first + b] = lengths[b];
}

template <class B, class T>
std::vector<T> Transformer<B, T>::decode(std::span<const int> tokens, KeyValueCache<B, T>& cache,
                                         Index sequence) {
  const Index length = Index(tokens.size()), V = config_.vocabulary;
  if (length == 0) throw std::invalid_argument("decode: no tokens given; pass at least one");
  if (sequence < 0 || sequence >= Index(cache.lengths.size()))
    throw std::invalid_argument("decode: sequence " + std::to_string(sequence) +
                                " is not one of the cache's " +
                                std::to_string(cache.lengths.size()));
  append(tokens, cache, sequence, length, {cache.lengths[sequence]});
  return detail::to_host<B, T>(logits_.data() + (length - 1) * V, V);
}

template <class B, class T>
std::vector<T> Transformer<B, T>::decode_each(std::span<const int> tokens,
                                              KeyValueCache<B, T>& cache) {
  if (tokens.size() != cache.lengths.size())
    throw std::invalid_argument("decode_each: " + std::to_string(tokens.size()) +
                                " tokens for a cache of " + std::to_string(cache.lengths.size()) +
                                " sequences; give one each, negative where one rests");
  std::vector<int> given(tokens.begin(), tokens.end());
  std::vector<Index> past = cache.lengths;
  for (std::size_t b = 0; b < given.size(); ++b)
    if (given[b] < 0) past[b] = -1, given[b] = 0;
  append(given, cache, 0, 1, past);
  return detail::to_host<B, T>(logits_.data(), Index(given.size()) * config_.vocabulary);
}

template <class B, class T>
auto Transformer<B, T>::attention_inputs(Index layer) const -> AttentionInputs<Activation, T> {
  detail::check_layer(layer, config_.layers);
  return inputs(layer, layers_[layer].k.data(), layers_[layer].v.data());
}

template <class B, class T>
auto Transformer<B, T>::attention_outputs(Index layer) const -> AttentionOutputs<Activation, T> {
  detail::check_layer(layer, config_.layers);
  const LayerActivations& a = layers_[layer];
  return {const_cast<Activation*>(a.attended.data()), const_cast<T*>(a.lse.data())};
}

template <class B, class T>
std::vector<T> Transformer<B, T>::attention_weights(Index layer, Index sequence, Index head,
                                                    Index first_row, Index rows) const {
  std::vector<T> weights(std::max<Index>(0, rows) * length_);
  B::attention_weights(attention_shape(), config_.rule, attention_inputs(layer),
                       attention_outputs(layer), sequence, head, first_row, rows, weights.data());
  return weights;
}

template <class B, class T>
std::vector<T> Transformer<B, T>::attention_values(Index layer) const {
  detail::check_layer(layer, config_.layers);
  return detail::to_host<B, T>(layers_[layer].v.data(),
                               sequences_ * length_ * config_.kv_heads * config_.head_dim());
}

template <class B, class T>
std::vector<T> Transformer<B, T>::hidden_states(Index layer) const {
  detail::check_layer(layer, config_.layers + 1);
  const Buffer& x = layer < config_.layers ? layers_[layer].x : last_;
  return detail::to_host<B, T>(x.data(), sequences_ * length_ * config_.channels);
}

template <class B, class T>
std::string Transformer<B, T>::first_non_finite() const {
  const auto broken = [](const auto* data, Index size) {
    for (const T value : detail::to_host<B, T>(data, size))
      if (!std::isfinite(value)) return true;
    return false;
  };
  const auto broken_slice = [&](const Buffer& buffer, const ParameterSpec& p) {
    return broken(buffer.data() + p.offset, p.size);
  };
  const Index N = sequences_ * length_, C = config_.channels, F = config_.inner;
  const Index kv = config_.kv_heads * config_.head_dim();
  for (const ParameterSpec& p : table_)
    if (broken_slice(parameters_, p)) return p.name;
  for (Index l = 0; l < config_.layers; ++l) {
    const LayerActivations& a = layers_[l];
    const std::string layer = "layer " + std::to_string(l) + ", ";
    if (broken(a.x.data(), N * C)) return layer + "input";
    if (broken(a.norm1.data(), N * C)) return layer + "input_layernorm";
    if (broken(a.q.data(), N * C)) return layer + "q";
    if (broken(a.k.data(), N * kv)) return layer + "k";
    if (broken(a.v.data(), N * kv)) return layer + "v";
    if (broken(a.attended.data(), N * C)) return layer + "attention output";
    if (broken(a.mid.data(), N * C)) return layer + "attention residual";
    if (broken(a.norm2.data(), N * C)) return layer + "post_attention_layernorm";
    const std::vector<T> gate_up = detail::to_host<B, T>(a.gate_up.data(), N * 2 * F);
    for (const Index first : {Index(0), F})
      for (Index n = 0; n < N; ++n)
        for (Index f = first; f < first + F; ++f)
          if (!std::isfinite(gate_up[n * 2 * F + f])) return layer + (first == 0 ? "gate" : "up");
    if (broken(a.inner.data(), N * F)) return layer + "swiglu";
  }
  if (broken(last_.data(), N * C)) return "output of the last layer";
  if (broken(final_norm_.data(), N * C)) return "final norm";
  if (broken(logits_.data(), N * config_.vocabulary)) return "logits";
  if (has_loss_ && broken(losses_.data(), N)) return "losses";
  for (auto p = table_.rbegin(); p != table_.rend() && gradients_.size() > 0; ++p)
    if (broken_slice(gradients_, *p)) return "gradient of " + p->name;
  return "";
}

}  // namespace lazy
