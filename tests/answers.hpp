#pragma once
// Asks an implementation for everything it can answer and compares whole answers.

#include <cstring>

#include "apps/implementations.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/scalar_attention.hpp"
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

/// Which entries an answer's weights say are live.
template <class T>
std::vector<std::uint8_t> gate_of(const Answer<T>& a) {
  std::vector<std::uint8_t> gate;
  for (const T weight : a.weights) gate.push_back(weight != 0);
  return gate;
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

/// x [rows, D] with the components of every row rotated by `shift`.
template <class T>
std::vector<T> turned(const std::vector<T>& x, Index D, Index shift) {
  std::vector<T> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t row = i / D, d = i % D;
    y[row * D + (d + shift) % D] = x[i];
  }
  return y;
}

template <class T>
void keep_worse(Comparison& worst, const std::vector<T>& got, const std::vector<double>& truth) {
  const Comparison c = compare(got, truth);
  if (!(c.error <= worst.error)) worst = c;
}

/// Errors of a plain loop `attend`, whose numbers are T, tensor by tensor: the worst over some
/// orders of the head's components, which are one problem in exact arithmetic, and queries that
/// differ by a few roundings, so that a tensor of a few entries is not judged by one lucky
/// rounding.
template <class T, class Attend>
std::vector<Comparison> plain_errors(const Problem<T>& p, Attend&& attend) {
  std::vector<Comparison> errors(std::size(value_tensors<T>) + std::size(gradient_tensors<T>));
  const Index D = p.shape.head_dim;
  for (Index n = 0; n < plain_orders(p.shape.keys); ++n) {
    Problem<T> order = p;
    for (auto* x : {&order.q, &order.k, &order.v, &order.dout}) *x = turned(*x, D, n % D);
    for (T& x : order.q) x *= 1 + T(n / D) * std::numeric_limits<T>::epsilon();
    const Answer<T> plain = attend(order);
    const auto gate = gate_of(plain);
    const Problem<double> exact = converted<double>(order);
    const Answer<double> truth = scalar_attention(exact);
    const Answer<double> truth_at_gate = scalar_attention(exact, gate.data());
    auto error = errors.begin();
    for (std::size_t i = 0; i < std::size(value_tensors<T>); ++i)
      keep_worse(*error++, plain.*value_tensors<T>[i].values,
                 truth.*value_tensors<double>[i].values);
    for (std::size_t i = 0; i < std::size(gradient_tensors<T>); ++i)
      keep_worse(*error++, plain.*gradient_tensors<T>[i].values,
                 truth_at_gate.*gradient_tensors<double>[i].values);
  }
  return errors;
}

/// Every tensor of `got`, whose scores were computed in T, within twice (gradients: three times)
/// the error `plain` plus one rounding, `epsilon`. Gates may differ from float64's beside the kink
/// only, and gradients are judged at their own gate.
template <class T>
void check_low_precision(const Problem<T>& p, const Answer<T>& got,
                         const std::vector<Comparison>& plain, double epsilon) {
  const Problem<double> exact = converted<double>(p);
  const auto got_gate = gate_of(got);
  const Answer<double> truth = scalar_attention(exact);
  const Answer<double> truth_at_gate = scalar_attention(exact, got_gate.data());
  auto plain_error = plain.begin();
  const auto check = [&](const AnswerTensor<T>& tensor, const std::vector<double>& expected,
                         double factor) {
    const Comparison c = compare(got.*tensor.values, expected);
    const double budget = low_precision_budget(*plain_error++, factor, epsilon);
    INFO(tensor.name << ": " << c.where << ", error " << c.error << ", budget " << budget);
    CHECK(within(c, budget));
  };
  for (std::size_t i = 0; i < std::size(value_tensors<T>); ++i)
    check(value_tensors<T>[i], truth.*value_tensors<double>[i].values, value_factor);
  for (std::size_t i = 0; i < std::size(gradient_tensors<T>); ++i)
    check(gradient_tensors<T>[i], truth_at_gate.*gradient_tensors<double>[i].values,
          gradient_factor);

  if (p.rule.normalizer != Normalizer::elastic) return;
  const auto gate = gate_of(truth);
  const double largest = largest_score(exact);
  const AttentionShape& s = p.shape;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index t = 0; t < s.queries; ++t) {
        const ScalarRow<double> row = scalar_row<double>(exact, b, h, t, nullptr);
        for (std::size_t j = 0; j < row.softmax.size(); ++j) {
          const std::size_t w = weight_offset(s, b, h, t) + j;
          if (got_gate[w] == gate[w]) continue;
          const double margin = row.divisor * row.softmax[j] + exact.tau[h];
          INFO("gate of batch " << b << ", head " << h << ", row " << t << ", key " << j
                                << " flipped at margin " << margin);
          CHECK(gate_may_differ<T>(margin, largest));
        }
      }
}

/// The same where everything is computed in T, and the plain loop too.
template <class T>
void check_low_precision(const Problem<T>& p, const Answer<T>& got) {
  const auto attend = [](const Problem<T>& order) { return scalar_attention(order); };
  check_low_precision(p, got, plain_errors(p, attend), double(std::numeric_limits<T>::epsilon()));
}

template <class F>
void for_each_row(const AttentionShape& s, F&& f) {
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index t = 0; t < s.queries; ++t) f(b, h, t);
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
