#pragma once
// Between the types of reference/ and those of the C interface.

#include <stdexcept>

#include "cuda/lazy_attention.h"
#include "reference/attention_types.hpp"

namespace lazy::kernels {

/// Throws what a call of the C interface left as a text.
inline void must(int status) {
  if (status == LAZY_REFUSED) throw std::invalid_argument(lazy_attention_error());
  if (status == LAZY_FAILED) throw std::runtime_error(lazy_attention_error());
}

/// The sizes of a call; rung open.
inline LazyAttention describe(const AttentionShape& s, LazyDevice device, LazyType type) {
  LazyAttention a{};
  a.batch = s.batch, a.queries = s.queries, a.keys = s.keys;
  a.heads = s.heads, a.kv_heads = s.kv_heads, a.head_dim = s.head_dim, a.window = s.window;
  a.device = device;
  a.type = type;
  return a;
}

/// Throws std::invalid_argument unless kernels compute the rule.
inline void check_rule(const AttentionRule& rule) {
  if (rule.normalizer != Normalizer::elastic && rule.normalizer != Normalizer::softmax)
    throw std::invalid_argument(
        "attention: the kernels compute the rules elastic and softmax only; use the cpu");
}

}  // namespace lazy::kernels
