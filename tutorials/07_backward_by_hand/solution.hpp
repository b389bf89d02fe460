#pragma once

#include <vector>

struct RowGradient {
  std::vector<double> dS;  // [n] gradient of the scores
  double dtau = 0;
};

inline RowGradient row_backward(const std::vector<double>& P, const std::vector<double>& A,
                                const std::vector<double>& dOV) {
  const std::size_t n = P.size();
  RowGradient g;
  double delta = 0;
  for (std::size_t j = 0; j < n; ++j) {
    if (!(A[j] > 0)) continue;
    delta += P[j] * dOV[j];
    g.dtau += dOV[j] / double(n);
  }
  for (std::size_t j = 0; j < n; ++j) g.dS.push_back(P[j] * ((A[j] > 0 ? dOV[j] : 0) - delta));
  return g;
}
