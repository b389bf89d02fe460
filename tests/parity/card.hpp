#pragma once
// One case of the parity card: run twice, judged against float64, shown as a line and kept as JSON.

#include <nlohmann/json.hpp>

#include "tests/low_precision.hpp"
#include "tests/parity/cases.hpp"

namespace lazy::test {

struct ParityResult {
  ParityCase asked;
  LowPrecisionVerdict verdict = {};
  bool same_again = false;     // two runs gave the same bytes
  bool same_skipping = false;  // with dead tiles computed, too
  Index dead_tiles = 0;        // below the diagonal, if there are as many queries as keys
  std::string failure = {};    // what the device said, if it gave no answer

  /// Where the bias falls with the distance the check of skipping must not be an empty one.
  bool skips_something() const { return asked.recipe.bias_slope == 0 || dead_tiles > 0; }
  bool passes() const {
    return failure.empty() && verdict.passes() && same_again && same_skipping && skips_something();
  }
  /// Why it does not pass.
  std::string faults() const;
};

/// Runs one case on a device. `poison`: see kernels::Options.
ParityResult ask(const ParityCase& asked, LazyDevice device, bool poison);

/// The line over those of `card_line`.
std::string card_heading();

/// Error, and that of the plain program in the same format behind a slash.
std::string card_line(const ParityResult& result);

nlohmann::ordered_json card_json(const ParityResult& result);

}  // namespace lazy::test
