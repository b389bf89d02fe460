#pragma once
// What a model is trained on: token rows and, for every token, the token that should follow.

#include <algorithm>
#include <vector>

#include "reference/attention_types.hpp"

namespace lazy {

struct Batch {
  Index sequences = 0;       // B
  Index length = 0;          // T
  std::vector<int> tokens;   // [B, T]
  std::vector<int> targets;  // [B, T]; -1: no loss at this position
};

/// Positions with a loss.
inline Index target_count(const Batch& batch) {
  return Index(std::count_if(batch.targets.begin(), batch.targets.end(),
                             [](int target) { return target >= 0; }));
}

}  // namespace lazy
