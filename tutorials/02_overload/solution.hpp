#pragma once

#include <cmath>
#include <vector>

inline double effective_keys(const std::vector<double>& weights) {
  double mass = 0, entropy = 0;
  for (const double a : weights) mass += a;
  for (const double a : weights)
    if (a > 0) entropy -= a / mass * std::log(a / mass);
  return std::exp(entropy);
}

// share = e^s / (e^s + n - 1)
inline double score_for(double share, std::size_t n) {
  return std::log(share / (1 - share) * double(n - 1));
}
