#pragma once
// Write one row of Elastic-Softmax. It compiles, and it is wrong: it is softmax.

#include <algorithm>
#include <cmath>
#include <vector>

/// Weights A [n] of one row: A_j = max(P_j + tau / n, 0), P = softmax(scores). The first `visible`
/// scores count, n = visible; the later ones belong to the future and have weight 0.
inline std::vector<double> elastic_row(const std::vector<double>& scores, std::size_t visible,
                                       double tau) {
  (void)visible, (void)tau;
  const double m = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights;
  double sum = 0;
  for (const double s : scores) weights.push_back(std::exp(s - m)), sum += weights.back();
  for (double& w : weights) w /= sum;
  return weights;
}
