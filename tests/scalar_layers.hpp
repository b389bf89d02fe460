#pragma once
// A second opinion on the layers: their equations once more, one number at a time, for any scalar.
// In double the layers are compared with them; in float they are the plain loop that sets the
// budget. N rows, C channels; gradients are assigned here, not added to.

#include <cmath>
#include <vector>

#include "reference/attention_types.hpp"

namespace lazy::test {

template <class T>
using Values = std::vector<T>;

template <class T>
Values<T> scalar_embedding(const Values<T>& table, const std::vector<int>& tokens, Index C) {
  Values<T> out;
  for (const int token : tokens)
    for (Index c = 0; c < C; ++c) out.push_back(table[token * C + c]);
  return out;
}

/// dtable for a table of V rows.
template <class T>
Values<T> scalar_embedding_backward(const Values<T>& dout, const std::vector<int>& tokens, Index C,
                                    Index V) {
  Values<T> dtable(V * C, T(0));
  for (std::size_t n = 0; n < tokens.size(); ++n)
    for (Index c = 0; c < C; ++c) dtable[tokens[n] * C + c] += dout[n * C + c];
  return dtable;
}

/// 1 / sqrt(mean(x^2) + epsilon) of row n.
template <class T>
T scalar_rstd(const Values<T>& x, Index n, Index C, double epsilon) {
  T sum = 0;
  for (Index c = 0; c < C; ++c) sum += x[n * C + c] * x[n * C + c];
  return 1 / std::sqrt(sum / T(C) + T(epsilon));
}

template <class T>
Values<T> scalar_rmsnorm(const Values<T>& x, const Values<T>& weight, double epsilon) {
  const Index C = Index(weight.size()), N = Index(x.size()) / C;
  Values<T> out;
  for (Index n = 0; n < N; ++n)
    for (Index c = 0; c < C; ++c)
      out.push_back(x[n * C + c] * scalar_rstd(x, n, C, epsilon) * weight[c]);
  return out;
}

/// With y = x * rstd:  dx = rstd (w dout - y mean(w dout y)),  dw = sum_n dout y.
template <class T>
void scalar_rmsnorm_backward(Values<T>& dx, Values<T>& dweight, const Values<T>& dout,
                             const Values<T>& x, const Values<T>& weight, double epsilon) {
  const Index C = Index(weight.size()), N = Index(x.size()) / C;
  dx.assign(x.size(), T(0)), dweight.assign(weight.size(), T(0));
  for (Index n = 0; n < N; ++n) {
    const T rstd = scalar_rstd(x, n, C, epsilon);
    T mean = 0;
    for (Index c = 0; c < C; ++c) mean += weight[c] * dout[n * C + c] * x[n * C + c] * rstd / T(C);
    for (Index c = 0; c < C; ++c) {
      const T y = x[n * C + c] * rstd;
      dx[n * C + c] = rstd * (weight[c] * dout[n * C + c] - y * mean);
      dweight[c] += dout[n * C + c] * y;
    }
  }
}

/// out[n, o] = sum_i x[n, i] weight[o, i]
template <class T>
Values<T> scalar_linear(const Values<T>& x, const Values<T>& weight, Index In) {
  const Index N = Index(x.size()) / In, Out = Index(weight.size()) / In;
  Values<T> out(N * Out, T(0));
  for (Index n = 0; n < N; ++n)
    for (Index o = 0; o < Out; ++o)
      for (Index i = 0; i < In; ++i) out[n * Out + o] += x[n * In + i] * weight[o * In + i];
  return out;
}

template <class T>
void scalar_linear_backward(Values<T>& dx, Values<T>& dweight, const Values<T>& dout,
                            const Values<T>& x, const Values<T>& weight, Index In) {
  const Index N = Index(x.size()) / In, Out = Index(weight.size()) / In;
  dx.assign(x.size(), T(0)), dweight.assign(weight.size(), T(0));
  for (Index n = 0; n < N; ++n)
    for (Index o = 0; o < Out; ++o)
      for (Index i = 0; i < In; ++i) {
        dx[n * In + i] += dout[n * Out + o] * weight[o * In + i];
        dweight[o * In + i] += dout[n * Out + o] * x[n * In + i];
      }
}

/// out = g s(g) u, s the logistic function.
template <class T>
Values<T> scalar_swiglu(const Values<T>& gate, const Values<T>& up) {
  Values<T> out;
  for (std::size_t i = 0; i < gate.size(); ++i)
    out.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
  return out;
}

/// dg = dout u (s + g s (1 - s)),  du = dout g s.
template <class T>
void scalar_swiglu_backward(Values<T>& dgate, Values<T>& dup, const Values<T>& dout,
                            const Values<T>& gate, const Values<T>& up) {
  dgate.clear(), dup.clear();
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const T s = 1 / (1 + std::exp(-gate[i]));
    dgate.push_back(dout[i] * up[i] * (s + gate[i] * s * (1 - s)));
    dup.push_back(dout[i] * gate[i] * s);
  }
}

/// log sum_v exp(logits[n, v])
template <class T>
T scalar_log_sum(const Values<T>& logits, Index n, Index V) {
  T largest = logits[n * V], sum = 0;
  for (Index v = 0; v < V; ++v) largest = logits[n * V + v] > largest ? logits[n * V + v] : largest;
  for (Index v = 0; v < V; ++v) sum += std::exp(logits[n * V + v] - largest);
  return largest + std::log(sum);
}

template <class T>
Values<T> scalar_cross_entropy(const Values<T>& logits, const std::vector<int>& targets, Index V) {
  Values<T> losses;
  for (std::size_t n = 0; n < targets.size(); ++n)
    losses.push_back(
        targets[n] < 0 ? T(0) : scalar_log_sum(logits, Index(n), V) - logits[n * V + targets[n]]);
  return losses;
}

/// scale (softmax - one hot), 0 for ignored rows.
template <class T>
Values<T> scalar_cross_entropy_backward(const Values<T>& logits, const std::vector<int>& targets,
                                        Index V, double scale) {
  Values<T> dlogits(logits.size(), T(0));
  for (std::size_t n = 0; n < targets.size(); ++n)
    for (Index v = 0; targets[n] >= 0 && v < V; ++v)
      dlogits[n * V + v] =
          T(scale) * (std::exp(logits[n * V + v] - scalar_log_sum(logits, Index(n), V)) -
                      (v == targets[n] ? T(1) : T(0)));
  return dlogits;
}

/// A number of a joint projection [N, (H + 2 Hkv) D]: its place there and in [q | k | v], each
/// [B, T, heads, D]; where it is rotated, how far away its partner is, and by which angle.
struct HeadEntry {
  std::size_t joint, apart;
  bool rotated, upper;
  std::ptrdiff_t partner;
  double angle;
};
/// `base` 0: no rotation.
template <class At>
void for_each_head_entry(Index rows, Index length, Index heads, Index kv_heads, Index D,
                         double base, At at) {
  const Index columns = (heads + 2 * kv_heads) * D, half = D / 2;
  for (Index n = 0; n < rows; ++n)
    for (Index head = 0; head < heads + 2 * kv_heads; ++head)
      for (Index d = 0; d < D; ++d) {
        const bool query = head < heads, value = head >= heads + kv_heads, upper = d >= half;
        const Index in_part = query ? head : (head - heads) % kv_heads;
        const Index before = query ? 0 : rows * heads * D + (value ? rows * kv_heads * D : 0);
        const bool rotated = base != 0 && !value;
        const double turns = rotated ? std::pow(base, -2.0 * double(d % half) / double(D)) : 0;
        at(HeadEntry{std::size_t(n * columns + head * D + d),
                     std::size_t(before + (n * (query ? heads : kv_heads) + in_part) * D + d),
                     rotated, upper, upper ? -half : half, double(n % length) * turns});
      }
}

/// x cos -+ partner sin, the upper half of a head with +.
template <class T>
Values<T> scalar_split_heads(const Values<T>& qkv, Index length, Index heads, Index kv_heads,
                             Index D, double base) {
  Values<T> out(qkv.size());
  const Index rows = Index(qkv.size()) / ((heads + 2 * kv_heads) * D);
  for_each_head_entry(rows, length, heads, kv_heads, D, base, [&](const HeadEntry& e) {
    const T x = qkv[e.joint];
    if (!e.rotated) return void(out[e.apart] = x);
    const T turn = qkv[e.joint + e.partner] * T(std::sin(e.angle));
    out[e.apart] = x * T(std::cos(e.angle)) + (e.upper ? turn : -turn);
  });
  return out;
}

template <class T>
Values<T> scalar_join_heads(const Values<T>& dout, Index length, Index heads, Index kv_heads,
                            Index D, double base) {
  Values<T> dqkv(dout.size());
  const Index rows = Index(dout.size()) / ((heads + 2 * kv_heads) * D);
  for_each_head_entry(rows, length, heads, kv_heads, D, base, [&](const HeadEntry& e) {
    const T x = dout[e.apart];
    if (!e.rotated) return void(dqkv[e.joint] = x);
    const T turn = dout[e.apart + e.partner] * T(std::sin(e.angle));
    dqkv[e.joint] = x * T(std::cos(e.angle)) + (e.upper ? -turn : turn);
  });
  return dqkv;
}

/// One AdamW step from gradients that are multiplied by `scale` first; `step` counts from 1.
template <class T>
void scalar_adamw(Values<T>& w, Values<T>& m, Values<T>& v, const Values<T>& gradient, double scale,
                  double rate, double beta1, double beta2, double epsilon, double weight_decay,
                  int step) {
  for (std::size_t i = 0; i < w.size(); ++i) {
    const T g = T(scale) * gradient[i];
    m[i] = T(beta1) * m[i] + T(1 - beta1) * g;
    v[i] = T(beta2) * v[i] + T(1 - beta2) * g * g;
    const T mean = m[i] / T(1 - std::pow(beta1, step));
    const T square = v[i] / T(1 - std::pow(beta2, step));
    w[i] -= T(rate * weight_decay) * w[i] + T(rate) * mean / (std::sqrt(square) + T(epsilon));
  }
}

}  // namespace lazy::test
