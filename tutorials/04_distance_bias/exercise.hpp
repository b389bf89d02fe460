#pragma once
// Write the gradient of the distance bias. It compiles, and it is wrong.

#include <cstddef>
#include <vector>

/// `dS` [T, T] row-major, the gradient of the scores. Only entries j <= i exist: the others hold
/// anything. Returns db [W], where b[d] was added to every score at distance d = i - j with d < W.
inline std::vector<double> bias_gradient(const std::vector<double>& dS, std::size_t T,
                                         std::size_t W) {
  std::vector<double> db(W, 0.0);
  for (std::size_t d = 0; d < W && d < T; ++d) db[d] = dS[d * T];  // the first column only
  return db;
}
