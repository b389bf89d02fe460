#pragma once
// What a model is trained on: token rows and, for every token, the token that should follow.

#include <algorithm>
#include <stdexcept>
#include <string>
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

/// The sequences of part `part` of `parts` equal ones. Throws std::invalid_argument if they do not
/// divide.
inline Batch part_of(const Batch& batch, Index part, Index parts) {
  if (batch.sequences % parts != 0)
    throw std::invalid_argument("a batch of " + std::to_string(batch.sequences) +
                                " sequences cannot be shared by " + std::to_string(parts) +
                                " processes; choose a batch that is a multiple of them");
  const Index sequences = batch.sequences / parts, size = sequences * batch.length;
  const auto rows = [&](const std::vector<int>& all) {
    return std::vector<int>(all.begin() + part * size, all.begin() + (part + 1) * size);
  };
  return {sequences, batch.length, rows(batch.tokens), rows(batch.targets)};
}

}  // namespace lazy
