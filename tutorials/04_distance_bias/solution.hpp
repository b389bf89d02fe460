#pragma once

#include <cstddef>
#include <vector>

inline std::vector<double> bias_gradient(const std::vector<double>& dS, std::size_t T,
                                         std::size_t W) {
  std::vector<double> db(W, 0.0);
  for (std::size_t i = 0; i < T; ++i)
    for (std::size_t j = 0; j <= i; ++j)
      if (i - j < W) db[i - j] += dS[i * T + j];
  return db;
}
