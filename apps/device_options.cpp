#include "apps/device_options.hpp"

#include <CLI/CLI.hpp>

namespace lazy {

void add_device_options(CLI::App& command, DeviceOptions& o) {
  command
      .add_option("--device", o.device,
                  "Where to compute; auto: the GPU if there is one; emulated: the GPU's kernels on "
                  "the CPU, slowly")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "emulated"}))
      ->capture_default_str();
  command
      .add_option("--precision", o.precision,
                  "Of what lies between two matrix products; bfloat16 on cuda and emulated only")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
}

}  // namespace lazy
