#pragma once
// How an implementation that computes in a low precision is judged: a plain program in the same
// precision is measured against float64, and so is the implementation, which may err twice
// (gradients: three times) as much plus one rounding.

#include "tests/comparison.hpp"
#include "tests/scalar_attention.hpp"

namespace lazy::test {

template <class F>
void for_each_row(const AttentionShape& s, F&& f) {
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index t = 0; t < s.queries; ++t) f(b, h, t);
}

/// Which entries an answer's weights say are live.
template <class T>
std::vector<std::uint8_t> gate_of(const Answer<T>& a) {
  std::vector<std::uint8_t> gate;
  for (const T weight : a.weights) gate.push_back(weight != 0);
  return gate;
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

/// One tensor of an implementation against float64.
struct TensorVerdict {
  std::string name;
  Comparison found;
  double plain, budget;  // error of the plain program; what is allowed

  bool passes() const { return within(found, budget); }
};

struct LowPrecisionVerdict {
  std::vector<TensorVerdict> tensors;
  std::vector<std::string> wrong_gates;  // entries that may not be live, or must be

  bool passes() const {
    return wrong_gates.empty() && std::all_of(tensors.begin(), tensors.end(),
                                              [](const auto& tensor) { return tensor.passes(); });
  }
};

/// Entries of the elastic rule whose gate differs from float64's although they are not beside the
/// kink.
template <class T>
std::vector<std::string> wrong_gates(const Problem<T>& p, const std::vector<std::uint8_t>& got,
                                     const std::vector<std::uint8_t>& expected) {
  std::vector<std::string> wrong;
  if (p.rule.normalizer != Normalizer::elastic) return wrong;
  const Problem<double> exact = converted<double>(p);
  const double largest = largest_score(exact);
  for_each_row(p.shape, [&](Index b, Index h, Index t) {
    const ScalarRow<double> row = scalar_row<double>(exact, b, h, t, nullptr);
    for (std::size_t j = 0; j < row.softmax.size(); ++j) {
      const std::size_t w = weight_offset(p.shape, b, h, t) + j;
      const double margin = row.divisor * row.softmax[j] + exact.tau[h];
      if (got[w] == expected[w] || gate_may_differ<T>(margin, largest)) continue;
      std::ostringstream text;
      text << "gate of batch " << b << ", head " << h << ", row " << t << ", key " << j
           << " flipped at margin " << margin;
      wrong.push_back(text.str());
    }
  });
  return wrong;
}

/// Every tensor of `got`, whose scores were computed in T, beside the errors of the plain program;
/// `epsilon` is one rounding. Gates may differ from float64's beside the kink only, and gradients
/// are judged at their own gate.
template <class T>
LowPrecisionVerdict judge_low_precision(const Problem<T>& p, const Answer<T>& got,
                                        const std::vector<Comparison>& plain, double epsilon) {
  const Problem<double> exact = converted<double>(p);
  const auto got_gate = gate_of(got);
  const Answer<double> truth = scalar_attention(exact);
  const Answer<double> truth_at_gate = scalar_attention(exact, got_gate.data());
  LowPrecisionVerdict verdict;
  auto plain_error = plain.begin();
  const auto add = [&](const AnswerTensor<T>& tensor, const std::vector<double>& expected,
                       double factor) {
    verdict.tensors.push_back({tensor.name, compare(got.*tensor.values, expected),
                               plain_error->error,
                               low_precision_budget(*plain_error, factor, epsilon)});
    ++plain_error;
  };
  for (std::size_t i = 0; i < std::size(value_tensors<T>); ++i)
    add(value_tensors<T>[i], truth.*value_tensors<double>[i].values, value_factor);
  for (std::size_t i = 0; i < std::size(gradient_tensors<T>); ++i)
    add(gradient_tensors<T>[i], truth_at_gate.*gradient_tensors<double>[i].values, gradient_factor);
  verdict.wrong_gates = wrong_gates(p, got_gate, gate_of(truth));
  return verdict;
}

/// The errors of the plain loop in T.
template <class T>
std::vector<Comparison> plain_errors(const Problem<T>& p) {
  return plain_errors(p, [](const Problem<T>& order) { return scalar_attention(order); });
}

}  // namespace lazy::test
