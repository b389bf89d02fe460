#pragma once
// Two measures of a head, from its weights. Both functions compile, and both are wrong: the first
// forgets that a row of Lazy Attention need not sum to 1, the second counts what does not exist.

#include <vector>

/// The sink ratio of one attention matrix A [T, T], row by row: the mean, over the rows from the
/// second on that have any weight, of the first key's share a_i1 / m_i, where m_i is the sum of the
/// row's weights. (The first row has no other key.) 0 if there is no such row.
inline double sink_ratio(const std::vector<double>& A, int T) {
  double sum = 0;
  for (int i = 0; i < T; ++i) sum += A[i * T];
  return sum / T;
}

/// The share of exactly zero weights among the entries that row i may see: keys 0 .. i.
inline double sparsity(const std::vector<double>& A, int T) {
  int zeros = 0;
  for (const double a : A) zeros += a == 0;
  return double(zeros) / double(T * T);
}
