#pragma once
// The flags of `lazy train`.

#include "apps/device_options.hpp"
#include "apps/model_options.hpp"

namespace lazy {

struct TrainOptions {
  ModelOptions model;
  DeviceOptions device;
  std::optional<std::string> out, resume;
  std::optional<Index> steps;
  std::optional<std::uint64_t> seed;
  Index save_every = 100;
};

void add_train_options(CLI::App& command, TrainOptions& options);

/// Throws UserError naming a flag that is missing, out of range or at odds with another.
void validate(const TrainOptions& options);

}  // namespace lazy
