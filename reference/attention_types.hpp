#pragma once
// The words every implementation of attention shares: shapes, rules, views. Standard library only.
//
// B batch, T sequence length (Tq queries, Tk keys), H query heads, Hkv key/value heads, D head
// dimension, W bias window. Every tensor is contiguous and row-major in the order its comment
// gives.

#include <cstdint>
#include <stdexcept>
#include <string>

namespace lazy {

using Index = std::int64_t;

/// The seven ways to turn one row of scores into weights; `elastic` is Lazy Attention's.
enum class Normalizer { softmax, softmax1, sink, sigmoid, entmax15, softpick, elastic };

/// What tau is divided by: the number of keys a row sees (the method), or the sequence's length (an
/// experiment).
enum class Divisor { visible, length };

/// Which attention is computed.
struct AttentionRule {
  Normalizer normalizer = Normalizer::elastic;
  Divisor divisor = Divisor::visible;
};

/// Sizes of one attention call. Always causal. `queries == keys`: query row r stands at position r.
/// `queries < keys`: the queries are the last `queries` positions of each sequence.
struct AttentionShape {
  Index batch = 1;
  Index queries = 1;
  Index keys = 1;
  Index heads = 1;
  Index kv_heads = 1;  // query head h reads key/value head h / (heads / kv_heads)
  Index head_dim = 1;
  Index window = 0;  // width W of the bias table; a key at distance >= W stays visible, with bias 0
};

/// T is the type of what the model computes, S that of what it learns and of statistics; they
/// differ on tensor cores.
template <class T, class S = T>
struct AttentionInputs {
  const T* q = nullptr;  // [B, Tq, H, D], already rotated where RoPE is used
  const T* k = nullptr;  // [B, Tk, Hkv, D]
  const T* v = nullptr;  // [B, Tk, Hkv, D]
  const S* bias =
      nullptr;  // [H, W], entry d is added to the score at distance d = i - j; null if W = 0
  const S* tau = nullptr;          // [H], read by Normalizer::elastic only
  const S* sink = nullptr;         // [H], read by Normalizer::sink only
  const Index* lengths = nullptr;  // [B] valid keys of each sequence (right padding); null: all Tk
};

template <class T, class S = T>
struct AttentionOutputs {
  T* out = nullptr;  // [B, Tq, H, D]; rows without a key are zero
  S* lse = nullptr;  // [B, H, Tq] natural log-sum-exp of the scores; -inf for rows without a key
};

/// Gradients are added to: the caller zeroes them once a step. Shapes are those of their inputs.
template <class T, class S = T>
struct AttentionGrads {
  T* dq = nullptr;
  T* dk = nullptr;
  T* dv = nullptr;
  S* dbias = nullptr;
  S* dtau = nullptr;
  S* dsink = nullptr;
};

/// Number of valid keys of sequence `b`.
template <class T>
Index sequence_length(const AttentionShape& shape, const AttentionInputs<T>& in, Index b) {
  return in.lengths ? in.lengths[b] : shape.keys;
}

/// Position of query row `row` in a sequence of `length` keys; the row is empty if it is < 0 or >=
/// length.
inline Index query_position(const AttentionShape& shape, Index length, Index row) {
  return shape.queries == shape.keys ? row : length - shape.queries + row;
}

/// n, the number of keys query row `row` sees: its position + 1, or 0 for an empty row.
inline Index visible_keys(const AttentionShape& shape, Index length, Index row) {
  const Index position = query_position(shape, length, row);
  return position < 0 || position >= length ? 0 : position + 1;
}

/// Throws std::invalid_argument naming the offending size or tensor; never reads a tensor but
/// `lengths`.
template <class T>
void validate(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in) {
  const auto fail = [](const std::string& what) {
    throw std::invalid_argument("attention: " + what);
  };
  const auto text = [](Index n) { return std::to_string(n); };
  if (s.batch < 0 || s.queries < 0 || s.keys < 0)
    fail("batch, queries and keys must not be negative");
  if (s.heads < 1 || s.kv_heads < 1 || s.heads % s.kv_heads != 0)
    fail("heads (" + text(s.heads) + ") must be a positive multiple of kv_heads (" +
         text(s.kv_heads) + ")");
  if (s.head_dim < 1) fail("head_dim is " + text(s.head_dim) + ", must be at least 1");
  if (s.window < 0) fail("window is " + text(s.window) + ", must be 0 (no bias) or more");
  if (s.queries > s.keys)
    fail("queries (" + text(s.queries) + ") exceed keys (" + text(s.keys) +
         "): every query needs its own key");
  const bool empty = s.batch == 0 || s.queries == 0;
  if (!empty && (!in.q || !in.k || !in.v)) fail("q, k and v must not be null");
  if (s.window > 0 && !in.bias) fail("bias is null but window is " + text(s.window));
  if (rule.normalizer == Normalizer::elastic && !in.tau)
    fail("tau is null: the elastic rule needs one value a head");
  if (rule.normalizer == Normalizer::sink && !in.sink)
    fail("sink is null: the sink rule needs one value a head");
  for (Index b = 0; in.lengths && b < s.batch; ++b)
    if (in.lengths[b] < 0 || in.lengths[b] > s.keys)
      fail("lengths[" + text(b) + "] is " + text(in.lengths[b]) + ", must be between 0 and keys (" +
           text(s.keys) + ")");
}

/// Throws std::invalid_argument if the gradient of an input that the rule reads is null.
template <class T>
void validate_grads(const AttentionShape& s, const AttentionRule& rule,
                    const AttentionGrads<T>& grads) {
  if (!grads.dq || !grads.dk || !grads.dv || (s.window > 0 && !grads.dbias) ||
      (rule.normalizer == Normalizer::elastic && !grads.dtau) ||
      (rule.normalizer == Normalizer::sink && !grads.dsink))
    throw std::invalid_argument("attention: a gradient of an input that is read must not be null");
}

}  // namespace lazy
