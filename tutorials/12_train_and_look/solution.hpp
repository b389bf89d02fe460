#pragma once
// A solution of the exercise.

#include <vector>

/// The mean of a_i1 / m_i over the rows from the second on that have any weight; 0 if there is
/// none.
inline double sink_ratio(const std::vector<double>& A, int T) {
  double sum = 0;
  int rows = 0;
  for (int i = 1; i < T; ++i) {
    double m = 0;
    for (int j = 0; j <= i; ++j) m += A[i * T + j];
    if (m == 0) continue;
    sum += A[i * T] / m;
    ++rows;
  }
  return rows == 0 ? 0 : sum / rows;
}

/// The share of exactly zero weights among the entries that row i may see: keys 0 .. i.
inline double sparsity(const std::vector<double>& A, int T) {
  int zeros = 0;
  for (int i = 0; i < T; ++i)
    for (int j = 0; j <= i; ++j) zeros += A[i * T + j] == 0;
  return zeros / (T * (T + 1) / 2.0);
}
