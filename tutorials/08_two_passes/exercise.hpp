#pragma once
// Pass 1 of Elastic-Softmax: take in the scores of a row tile by tile, and say of each tile whether
// it is dead. Both functions compile, and both are wrong.

#include <cmath>
#include <limits>
#include <span>

/// What a row knows of the tiles it has seen.
struct RunningSum {
  double largest = -std::numeric_limits<double>::infinity();  // score
  double sum = 0;                                             // of exp(score - largest)

  double lse() const { return largest + std::log(sum); }
};

/// Takes the scores of one more tile into the row's sum. Scores may be as large as 1000 or as small
/// as -1000; exp(1000) is infinite, so only differences of scores may be exponentiated.
inline void add_tile(RunningSum& row, std::span<const double> scores) {
  row.largest = 0;
  for (const double s : scores) row.sum += std::exp(s);
}

/// Whether no weight max(P + offset, 0) of the tile can come out positive, whatever tiles are still
/// to come. `largest` is the tile's largest score, `lse` the row's so far, the tile included, and
/// `offset` = tau / n may have either sign. A dead tile that is not found only costs time; a live
/// tile called dead is a wrong result.
inline bool is_dead(double largest, double lse, double offset) {
  return largest < lse + offset;
}
