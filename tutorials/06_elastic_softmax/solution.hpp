#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

inline std::vector<double> elastic_row(const std::vector<double>& scores, std::size_t visible,
                                       double tau) {
  const double m = *std::max_element(scores.begin(), scores.begin() + visible);
  double sum = 0;
  for (std::size_t j = 0; j < visible; ++j) sum += std::exp(scores[j] - m);
  const double lse = m + std::log(sum);
  std::vector<double> weights(scores.size(), 0.0);
  for (std::size_t j = 0; j < visible; ++j) {
    const double z = std::exp(scores[j] - lse) + tau / double(visible);
    weights[j] = z <= 0 ? 0 : z;  // not max(0, z): a NaN must stay one
  }
  return weights;
}
