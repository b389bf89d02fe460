#pragma once
// Write the backward pass of one row. It compiles, and it makes both mistakes of the page.

#include <vector>

struct RowGradient {
  std::vector<double> dS;  // [n] gradient of the scores
  double dtau = 0;
};

/// P [n] softmax, A [n] elastic weights, dOV [n] the products dO . V_j. n is the size of P.
inline RowGradient row_backward(const std::vector<double>& P, const std::vector<double>& A,
                                const std::vector<double>& dOV) {
  RowGradient g;
  double delta = 0;
  for (std::size_t j = 0; j < P.size(); ++j) delta += A[j] * dOV[j];
  for (std::size_t j = 0; j < P.size(); ++j) g.dS.push_back(A[j] > 0 ? P[j] * (dOV[j] - delta) : 0);
  return g;
}
