#pragma once
// Where a command computes.

#include <span>
#include <string>

#include "apps/device_options.hpp"
#include "cuda/cuda_backend.hpp"
#include "reference/cpu_backend.hpp"
#include "reference/parameters.hpp"

namespace lazy {

struct Device {
  enum Kind { cpu, emulated, cuda } kind = cpu;
  bool bfloat16 = false;    // what lies between two matrix products; elsewhere float
  std::string reason = {};  // why `auto` took it; empty where it was asked for
};

/// The device that the options ask for; `auto` is the GPU where there is one that computes all of
/// `models`, else the CPU. Several `processes` have to say which. Throws UserError for what is not
/// there or does not fit together.
Device choose_device(const DeviceOptions& options, std::span<const TransformerConfig> models,
                     bool processes = false);

/// One line: "cpu" or the device's own name, the precision, and why.
std::string describe(const Device& device);

/// Throws UserError if the device, or this machine, does not have `needed` bytes free; `what` and
/// `advice` as require_memory takes them.
void require_memory(const Device& device, double needed, const std::string& what,
                    const std::string& advice);

/// Calls f<B>() for the backend of a device.
template <class F>
auto with_backend(const Device& device, F&& f) {
  if (device.kind == Device::cuda)
    return device.bfloat16 ? f.template operator()<CudaBFloat16Backend>()
                           : f.template operator()<CudaBackend>();
  if (device.kind == Device::emulated)
    return device.bfloat16 ? f.template operator()<EmulatedBFloat16Backend>()
                           : f.template operator()<EmulatedBackend>();
  return f.template operator()<CpuBackend>();
}

}  // namespace lazy
