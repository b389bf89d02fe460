#pragma once
// Turn a vector to its position. It compiles, and it is wrong: it pairs neighbors.

#include <cmath>
#include <vector>

/// `x` [D], D even, at `position`: dimension m and dimension m + D/2 are one pair, which turns by
/// position * base^(-2m/D).
inline std::vector<double> rotate(std::vector<double> x, double position, double base) {
  const std::size_t D = x.size();
  for (std::size_t m = 0; m < D / 2; ++m) {
    const double angle = position * std::pow(base, -2.0 * double(m) / double(D));
    const double a = x[2 * m], b = x[2 * m + 1];
    x[2 * m] = a * std::cos(angle) - b * std::sin(angle);
    x[2 * m + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
  return x;
}
