#pragma once
// The plain program in bfloat16 or float16 that kernels in those formats are measured against: a
// matrix product sums in float, a softmax is float, and whatever is stored between two steps is
// rounded to the format, as a framework without a fused kernel does.

#include "cuda/simt/formats.hpp"
#include "tests/low_precision.hpp"

namespace lazy::test {

/// x as the format has it.
template <class F>
float rounded_to(float x) {
  return to_float(from_float<F>(x));
}

template <class F>
std::vector<float> rounded_to(std::vector<float> x) {
  for (float& value : x) value = rounded_to<F>(value);
  return x;
}

/// Distance of 1 to the next number of the format.
template <class F>
double epsilon_of();
template <>
inline double epsilon_of<float>() {
  return 0x1p-23;
}
template <>
inline double epsilon_of<BFloat16>() {
  return 0x1p-7;
}
template <>
inline double epsilon_of<Float16>() {
  return 0x1p-10;
}

/// The problem with its tensors rounded; bias and tau are float in every format.
template <class F>
Problem<float> with_rounded_tensors(Problem<float> p) {
  for (auto* x : {&p.q, &p.k, &p.v, &p.dout}) *x = rounded_to<F>(*x);
  return p;
}
template <class F>
Problem<float> rounded_problem(const Recipe& recipe) {
  return with_rounded_tensors<F>(make_problem<float>(recipe));
}

template <class F>
Answer<float> plain_attention(const Problem<float>& p) {
  const AttentionShape& s = p.shape;
  const float scale = 1 / std::sqrt(float(s.head_dim));
  Answer<float> a = blank_answer(p);
  std::fill(a.out.begin(), a.out.end(), 0.f);
  std::fill(a.weights.begin(), a.weights.end(), 0.f);
  const auto round = [](float x) { return rounded_to<F>(x); };
  for_each_row(s, [&](Index b, Index h, Index t) {
    const std::size_t i = query_offset(s, b, t, h), w = weight_offset(s, b, h, t);
    std::vector<float> scores = scalar_scores(p, b, h, t), P;
    for (float& score : scores) score = round(score);
    const auto n = static_cast<Index>(scores.size());
    a.lse[w / s.keys] = -std::numeric_limits<float>::infinity();
    if (n == 0) return;
    const float largest = largest_of(scores, scores[0]);
    const float lse = largest + std::log(sum_of_exponentials(scores, largest));
    const float divisor = p.rule.divisor == Divisor::visible ? float(n) : float(p.lengths[b]);
    const float tau = p.rule.normalizer == Normalizer::elastic ? p.tau[h] : 0.f;
    a.lse[w / s.keys] = lse;
    for (const float score : scores) P.push_back(round(std::exp(score - lse)));

    std::vector<float> out(s.head_dim, 0.f), dA(n, 0.f);
    float delta = 0;
    for (Index j = 0; j < n; ++j) {
      const std::size_t key = key_offset(s, b, j, h / (s.heads / s.kv_heads));
      const float weight = round(std::max(P[j] + tau / divisor, 0.f));
      a.weights[w + j] = weight;
      for (Index d = 0; d < s.head_dim; ++d) {
        out[d] += weight * p.v[key + d];
        a.dv[key + d] += weight * p.dout[i + d];
        dA[j] += p.dout[i + d] * p.v[key + d];
      }
      dA[j] = weight != 0 ? round(dA[j]) : 0.f;
      delta += P[j] * dA[j];
      if (p.rule.normalizer == Normalizer::elastic) a.dtau[h] += dA[j] / divisor;
    }
    for (Index d = 0; d < s.head_dim; ++d) a.out[i + d] = round(out[d]);
    for (Index j = 0; j < n; ++j) {
      const std::size_t key = key_offset(s, b, j, h / (s.heads / s.kv_heads));
      const float ds = round(P[j] * (dA[j] - delta));
      for (Index d = 0; d < s.head_dim; ++d) {
        a.dq[i + d] += scale * ds * p.k[key + d];
        a.dk[key + d] += scale * ds * p.q[i + d];
      }
      if (n - 1 - j < s.window) a.dbias[h * s.window + (n - 1 - j)] += ds;
    }
  });
  for (auto* x : {&a.dq, &a.dk, &a.dv}) *x = rounded_to<F>(*x);
  return a;
}

/// The errors of the plain program in the format F.
template <class F>
std::vector<Comparison> plain_16bit_errors(const Problem<float>& p) {
  return plain_errors(p, plain_attention<F>);
}

}  // namespace lazy::test
