#pragma once
// A solution of the exercise.

#include <cmath>
#include <span>

struct Rates {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

/// Step t (counting from 1) for parameters w with gradient g.
inline void adamw(std::span<double> w, std::span<double> m, std::span<double> v,
                  std::span<const double> g, const Rates& r, int t) {
  for (std::size_t i = 0; i < w.size(); ++i) {
    m[i] = r.beta1 * m[i] + (1 - r.beta1) * g[i];
    v[i] = r.beta2 * v[i] + (1 - r.beta2) * g[i] * g[i];
    const double m1 = m[i] / (1 - std::pow(r.beta1, t)), v1 = v[i] / (1 - std::pow(r.beta2, t));
    w[i] -= r.learning_rate * (m1 / (std::sqrt(v1) + r.epsilon) + r.weight_decay * w[i]);
  }
}
