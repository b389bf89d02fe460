#pragma once

#include <cmath>
#include <vector>

inline std::vector<double> rotate(std::vector<double> x, double position, double base) {
  const std::size_t half = x.size() / 2;
  for (std::size_t m = 0; m < half; ++m) {
    const double angle = position * std::pow(base, -double(m) / double(half));
    const double a = x[m], b = x[m + half];
    x[m] = a * std::cos(angle) - b * std::sin(angle);
    x[m + half] = a * std::sin(angle) + b * std::cos(angle);
  }
  return x;
}
