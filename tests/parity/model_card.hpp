#pragma once
// The rows of the parity card which ask a whole model: shown as a line and kept as JSON.

#include <nlohmann/json.hpp>

#include "cuda/memory.hpp"
#include "tests/parity/model.hpp"

namespace lazy::test {

struct ModelResult {
  ModelCase asked;
  std::string place, format;  // "cpu" or "gpu"; "float32" or "bfloat16"
  ModelVerdict verdict = {};
  bool same_again = false;   // two runs gave the same numbers
  std::string failure = {};  // what the device said, if it gave no answer

  bool passes() const;
  /// Why it does not pass.
  std::string faults() const;
};

/// The model in float on the CPU and on `device`, and in bfloat16 on `device`.
std::vector<ModelResult> ask_models(std::uint64_t seed, LazyDevice device);

/// The line over those of `model_line`.
std::string model_heading();

/// For every part the tensor nearest to its budget: error, and that of the plain program in the
/// same format behind a slash.
std::string model_line(const ModelResult& result);

nlohmann::ordered_json model_json(const ModelResult& result);

}  // namespace lazy::test
