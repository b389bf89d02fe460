#pragma once
// Measure overload, and say what it costs to overcome. It compiles, and it is wrong.

#include <cmath>
#include <vector>

/// exp of the entropy of the row, whose weights need not sum to 1: divide by their sum first. An
/// exact 0 contributes nothing. At least one weight is positive.
inline double effective_keys(const std::vector<double>& weights) {
  return double(weights.size());  // as if all were equal
}

/// The score that one key needs to get `share` of the softmax's mass (0 < share < 1) when the n - 1
/// others (n >= 2) score 0.
inline double score_for(double share, std::size_t n) {
  (void)n;
  return share;
}
