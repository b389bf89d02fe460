#pragma once
// Make a softmax head say nothing. It compiles, and it is wrong.

#include <vector>

struct Head {
  std::vector<double> scores;  // [n] of one row
  double start_value;          // value of key 0
};

/// The values of keys 1 .. n - 1 are not yours: they were learned for other rows, and may be as
/// large as 10. Choose the scores of a dormant row and the value of key 0, the start token, such
/// that softmax's output is within 0.001 of 0. No score may be larger than 20, none smaller than
/// -20: a model's projections are not infinite.
inline Head say_nothing(std::size_t n) {
  return {.scores = std::vector<double>(n, -20.0), .start_value = 1};
}
