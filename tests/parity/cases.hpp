#pragma once
// What the parity card is asked about: every rung in every format it computes, on shapes that were
// chosen to be awkward.

#include <string>
#include <vector>

#include "cuda/kernel_attention.hpp"
#include "tests/problems.hpp"

namespace lazy::test {

struct ParityCase {
  std::string rung;
  LazyType type;
  Recipe recipe;
};

inline const char* name(LazyType type) {
  return type == LAZY_FLOAT32 ? "float32" : type == LAZY_BFLOAT16 ? "bfloat16" : "float16";
}

/// Head sizes x shared heads x ragged lengths x windows, with other tau in every head: seconds on a
/// GPU, hours in emulation.
std::vector<ParityCase> full_grid(std::uint64_t seed);

/// A few shapes for each rung and format that are still awkward: about a minute in emulation.
std::vector<ParityCase> short_grid(std::uint64_t seed);

}  // namespace lazy::test
