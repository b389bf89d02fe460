#pragma once
// The siblings Lazy Attention is compared with: from one row of scores s over n visible keys to its
// weights w, and back. dA is the loss's gradient with respect to w (0 where w = 0), ds with respect
// to s.
//
//   softmax    w = e^s / Z, Z = sum e^s        ds = w (dA - w.dA)
//   softmax1   w = e^s / (1 + Z)               ds = w (dA - w.dA)
//   sink       w = e^s / (e^c + Z)             ds = w (dA - w.dA), dc = -e^c / (e^c + Z) w.dA
//   sigmoid    w = sigma(s - log n)            ds = w (1 - w) dA
//   entmax15   w = max(s/2 - t, 0)^2, sum 1    g = sqrt(w), ds = g (dA - g.dA / sum g)
//   softpick   w = max(e^s - 1, 0) / (eps + D) ds = e^s / (eps + D) (1[s > 0] dA - sign(s) w.dA),
//              D = sum |e^s - 1|

#include <span>

#include "reference/attention_types.hpp"

namespace lazy {

inline constexpr double softpick_epsilon = 1e-6;  // arXiv 2504.20966

/// Assigns the weights [n] of one row of scores [n]; `sink` is c, `divisor` is the n of sigmoid.
/// Throws std::invalid_argument for Normalizer::elastic, which the oracle writes out itself.
template <class T>
void normalizer_weights(Normalizer rule, std::span<const T> s, T sink, T divisor, std::span<T> w);

/// Assigns ds [n] from the scores, weights and weight gradients of one row; returns dc (0 but for
/// `sink`).
template <class T>
T normalizer_backward(Normalizer rule, std::span<const T> s, std::span<const T> w,
                      std::span<const T> dA, T sink, std::span<T> ds);

}  // namespace lazy
