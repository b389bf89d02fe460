#pragma once
// The flags that say where a command computes: --device and --precision.

#include <string>

namespace CLI {
class App;
}

namespace lazy {

struct DeviceOptions {
  std::string device = "auto", precision = "float32";
};

void add_device_options(CLI::App& command, DeviceOptions& options);

}  // namespace lazy
