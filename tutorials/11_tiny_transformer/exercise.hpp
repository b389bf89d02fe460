#pragma once
// Write AdamW, the update that trains every model here (arXiv 1711.05101). As it stands it is plain
// gradient descent.

#include <cmath>
#include <span>

struct Rates {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

/// Step t (counting from 1) for parameters w with gradient g. m and v start as 0 and are yours:
///   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
///   w = w - learning_rate (m' / (sqrt(v') + epsilon) + weight_decay w)
/// where m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t): as m and v start from 0, they are too
/// small at first.
inline void adamw(std::span<double> w, std::span<double> m, std::span<double> v,
                  std::span<const double> g, const Rates& r, int t) {
  (void)m, (void)v, (void)t;
  for (std::size_t i = 0; i < w.size(); ++i) w[i] -= r.learning_rate * g[i];
}
