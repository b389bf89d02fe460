#pragma once
// The one comparison of the test suite. Error of a tensor = max |x - y| / max |y|; infinities must
// match exactly and a NaN on either side fails. Budgets are named here and nowhere else.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "reference/attention_types.hpp"

namespace lazy::test {

/// Two float64 computations of the same mathematics.
inline constexpr double float64_budget = 1e-12;

/// The same where scores exceed 1e3: their rounding, eps * max|s|, enters the weights' exponent.
inline double score_budget(double largest_score) {
  return std::max(float64_budget, std::numeric_limits<double>::epsilon() * largest_score * 16);
}

struct Comparison {
  double error = 0;  // max |x - y| / max |y|; infinite if sizes, infinities or NaNs disagree
  std::string where;
};

template <class X, class Y>
Comparison compare(std::span<const X> x, std::span<const Y> y) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const auto broken = [&](std::size_t i, const std::string& why) {
    std::ostringstream text;
    text << why << " at entry " << i << " of " << y.size();
    if (i < x.size() && i < y.size())
      text << ": " << double(x[i]) << " instead of " << double(y[i]);
    return Comparison{infinite, text.str()};
  };
  if (x.size() != y.size()) return broken(std::min(x.size(), y.size()), "sizes differ");
  double largest = 0, difference = 0;
  std::size_t worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double a = x[i], b = y[i];
    if (std::isnan(a) || std::isnan(b)) return broken(i, "NaN");
    if (std::isinf(a) || std::isinf(b)) {
      if (a != b) return broken(i, "infinity");
      continue;
    }
    largest = std::max(largest, std::abs(b));
    if (std::abs(a - b) > difference) difference = std::abs(a - b), worst = i;
  }
  Comparison result = broken(worst, "largest difference");
  result.error = difference == 0 ? 0 : difference / largest;
  return result;
}

template <class X, class Y>
Comparison compare(const std::vector<X>& x, const std::vector<Y>& y) {
  return compare(std::span<const X>(x), std::span<const Y>(y));
}

/// True within budget; NaN is never within budget.
inline bool within(const Comparison& c, double budget) {
  return c.error <= budget;
}

/// True where terms that cancel in exact arithmetic leave nothing but their rounding.
inline bool sums_to_zero(const std::vector<double>& terms) {
  double sum = 0, size = 0;
  for (const double term : terms) sum += term, size += std::abs(term);
  return std::abs(sum) <= float64_budget * size;
}

/// Units in the last place that 2^x by a polynomial may be off.
inline constexpr double exp2_ulps = 2;

/// Whether a sum computed in T is the exact one up to the rounding of its terms: one for each
/// addition, in the worst case in one direction.
template <class T>
bool sum_agrees(T got, double exact, double size_of_terms, std::int64_t terms) {
  const double rounding = double(terms) * double(std::numeric_limits<T>::epsilon());
  return std::abs(double(got) - exact) <= rounding * size_of_terms;
}

// Low precision: an implementation in T is held to what the plain loop in T achieves on the same
// input, both measured against float64.

inline constexpr double value_factor = 2;     // out, lse, weights
inline constexpr double gradient_factor = 3;  // gradients, each at the implementation's own gate
/// Orders of summation the plain loop is tried in: more where tensors are small.
inline Index plain_orders(Index keys) {
  return std::max<Index>(2, 512 / keys);
}

/// `factor` times the plain loop's error plus one rounding of the largest value.
inline double low_precision_budget(const Comparison& plain, double factor, double epsilon) {
  return factor * plain.error + epsilon;
}
template <class T>
double low_precision_budget(const Comparison& plain, double factor) {
  return low_precision_budget(plain, factor, double(std::numeric_limits<T>::epsilon()));
}

/// Whether a gate computed in T may differ from float64's, `margin` = n p + tau being the distance
/// from the kink.
template <class T>
bool gate_may_differ(double margin, double largest_score) {
  return std::abs(margin) <= 32 * std::numeric_limits<T>::epsilon() * (1 + largest_score);
}

// Finite differences, float64.

inline constexpr double difference_step = 1e-6;
inline constexpr double skipped_share = 0.01;  // entries whose live set changes within the step

/// Whether an analytic derivative agrees with a numeric one. `largest` is the tensor's largest
/// entry (of a directional derivative: the gradient's length times the direction's); `terms` the
/// size of what was subtracted, whose rounding no difference quotient can see past.
inline bool derivative_agrees(double analytic, double numeric, double largest, double terms = 0) {
  const double rounding = 4 * std::numeric_limits<double>::epsilon() * terms / difference_step;
  return std::abs(analytic - numeric) <= 2e-8 * largest + 1e-6 * std::abs(numeric) + rounding;
}

// Derivatives of a whole model's loss along directions of length 1.

inline constexpr double directional_step = 5e-6;
inline constexpr double directional_budget = 1e-7;

/// Random samples against an expected share.
inline constexpr double statistical_budget = 0.02;

}  // namespace lazy::test
