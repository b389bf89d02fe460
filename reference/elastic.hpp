#pragma once
// Elastic-Softmax entry by entry (arXiv 2601.00919), shared by the tiled CPU path and the CUDA
// kernels. T is a scalar or a vector of lanes. The oracle does not include this file: it judges it.

#if defined(__CUDACC__)
#define LAZY_HOST_DEVICE __host__ __device__
#else
#define LAZY_HOST_DEVICE
#endif

namespace lazy {

/// Whether a key at distance i - j has an entry in a bias table of width `window`; any other
/// visible key has bias 0.
template <class I>
LAZY_HOST_DEVICE bool in_bias_window(I distance, I window) {
  return distance >= 0 && distance < window;
}

/// A = max(P + tau / n, 0) from a probability and `offset` = tau / n. NaN stays NaN.
template <class T>
LAZY_HOST_DEVICE T elastic_weight(T probability, T offset) {
  const T weight = probability + offset;
  return weight <= T{} ? T{} : weight;
}

/// dA / d(P + tau / n) times `x`: the slope is 1 where the weight is positive and 0 elsewhere, the
/// kink included.
template <class T>
LAZY_HOST_DEVICE T where_live(T weight, T x) {
  return weight <= T{} ? T{} : x;
}

}  // namespace lazy
