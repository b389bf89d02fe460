#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

inline double attend(const std::vector<double>& scores, const std::vector<double>& values) {
  const double m = *std::max_element(scores.begin(), scores.end());
  double sum = 0, out = 0;
  for (std::size_t j = 0; j < scores.size(); ++j) {
    const double e = std::exp(scores[j] - m);
    sum += e;
    out += e * values[j];
  }
  return out / sum;
}
