#pragma once
// A solution of the exercise.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

/// What a row knows of the tiles it has seen.
struct RunningSum {
  double largest = -std::numeric_limits<double>::infinity();  // score
  double sum = 0;                                             // of exp(score - largest)

  double lse() const { return largest + std::log(sum); }
};

/// Takes the scores of one more tile into the row's sum.
inline void add_tile(RunningSum& row, std::span<const double> scores) {
  const double before = row.largest;
  for (const double s : scores) row.largest = std::max(row.largest, s);
  row.sum *= std::exp(before - row.largest);  // what is there is expressed by the new largest
  for (const double s : scores) row.sum += std::exp(s - row.largest);
}

/// Whether no weight max(P + offset, 0) of the tile can come out positive: P is at most
/// exp(largest - lse) now, and less later, because lse only grows.
inline bool is_dead(double largest, double lse, double offset) {
  return std::exp(largest - lse) + offset <= 0;
}
