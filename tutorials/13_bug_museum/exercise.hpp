#pragma once
// Write a test that finds a wrong gradient of Elastic-Softmax. `is_right` compiles, and passes
// everything.

#include <algorithm>
#include <cmath>
#include <vector>

/// A = max(P + tau / n, 0) of one row of n scores S.
inline std::vector<double> weights(const std::vector<double>& S, double tau) {
  double sum = 0;
  for (const double s : S) sum += std::exp(s);
  std::vector<double> A;
  for (const double s : S) A.push_back(std::max(std::exp(s) / sum + tau / double(S.size()), 0.0));
  return A;
}

/// Somebody's function for dS: the gradient of the loss sum_j A_j dA_j with respect to the scores,
/// where dA are given numbers.
using Gradient = std::vector<double> (*)(const std::vector<double>& S, double tau,
                                         const std::vector<double>& dA);

/// Whether `gradient` is right. You may call it with any S, tau and dA, as often as you like.
/// Choose them so that some entries are dead, and none is near the kink.
inline bool is_right(Gradient gradient) {
  return gradient({0, 1}, 0, {0, 0}) == std::vector<double>{0, 0};
}
