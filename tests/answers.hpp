#pragma once
// Asks an implementation for everything it can answer and compares whole answers.

#include <cstring>

#include "apps/implementations.hpp"
#include "tests/catch.hpp"
#include "tests/low_precision.hpp"
#include "tests/plain_16bit.hpp"
#include "tests/threads.hpp"

namespace lazy::test {

/// Runs the rest of its test case once with each implementation that `lazy attend` offers.
template <class T>
const Implementation<T>& each_implementation() {
  return implementations<T>[GENERATE(range(std::size_t(0), implementations<T>.size()))];
}

/// Out, lse and weights; gradients zero.
template <class T>
Answer<T> attention_values(const Implementation<T>& how, const Problem<T>& p) {
  const AttentionShape& s = p.shape;
  Answer<T> a = blank_answer(p);
  how.forward(s, p.rule, p.inputs(), a.outputs());
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      how.weights(s, p.rule, p.inputs(), a.outputs(), b, h, 0, s.queries,
                  a.weights.data() + weight_offset(s, b, h, 0));
  return a;
}

/// Out, lse, weights and all gradients.
template <class T>
Answer<T> attention(const Implementation<T>& how, const Problem<T>& p) {
  Answer<T> a = attention_values(how, p);
  how.backward(p.shape, p.rule, p.inputs(), a.outputs(), p.dout.data(), a.grads());
  return a;
}

/// The same from the oracle, the judge.
template <class T>
Answer<T> oracle_attention(const Problem<T>& p) {
  return attention(implementations<T>[0], p);
}

/// Every tensor of `got` within `budget` of `expected`.
inline void check_same(const Answer<double>& got, const Answer<double>& expected, double budget) {
  const auto check = [&](const AnswerTensor<double>& tensor) {
    const Comparison c = compare(got.*tensor.values, expected.*tensor.values);
    INFO(tensor.name << ": " << c.where << ", error " << c.error << ", budget " << budget);
    CHECK(within(c, budget));
  };
  for (const auto& tensor : value_tensors<double>) check(tensor);
  for (const auto& tensor : gradient_tensors<double>) check(tensor);
}

/// Judges `got` by the rule for low precision (see low_precision.hpp).
template <class T>
void check_low_precision(const Problem<T>& p, const Answer<T>& got,
                         const std::vector<Comparison>& plain, double epsilon) {
  const LowPrecisionVerdict verdict = judge_low_precision(p, got, plain, epsilon);
  for (const TensorVerdict& tensor : verdict.tensors) {
    INFO(tensor.name << ": " << tensor.found.where << ", error " << tensor.found.error
                     << ", budget " << tensor.budget);
    CHECK(tensor.passes());
  }
  for (const std::string& wrong : verdict.wrong_gates) FAIL_CHECK(wrong);
}

/// The same where everything is computed in T, and the plain loop too.
template <class T>
void check_low_precision(const Problem<T>& p, const Answer<T>& got) {
  check_low_precision(p, got, plain_errors(p), double(std::numeric_limits<T>::epsilon()));
}

/// The same for an implementation in the format F whose scores are float.
template <class F>
void check_16bit(const Problem<float>& p, const Answer<float>& got) {
  check_low_precision(p, got, plain_16bit_errors<F>(p), epsilon_of<F>());
}

/// Whether x and y hold the same bytes in [begin, begin + count).
inline bool same_bytes(const std::vector<double>& x, const std::vector<double>& y,
                       std::size_t begin, std::size_t count) {
  return std::memcmp(x.data() + begin, y.data() + begin, count * sizeof(double)) == 0;
}

/// A few numbers within the float64 budget of others.
inline void check_near(const std::vector<double>& got, const std::vector<double>& expected) {
  const Comparison c = compare(got, expected);
  INFO(c.where << ", error " << c.error);
  CHECK(within(c, float64_budget));
}

}  // namespace lazy::test
