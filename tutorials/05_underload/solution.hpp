#pragma once

#include <vector>

struct Head {
  std::vector<double> scores;  // [n] of one row
  double start_value;          // value of key 0
};

// A sink: all of the mass on the start token, and nothing in its value.
inline Head say_nothing(std::size_t n) {
  Head head{.scores = std::vector<double>(n, -20.0), .start_value = 0};
  head.scores[0] = 20;
  return head;
}
