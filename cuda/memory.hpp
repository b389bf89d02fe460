#pragma once
// Memory of a device, for what the host wants computed there, and what the device is called.

#include <cstddef>
#include <string>

#include "cuda/lazy_attention.h"

namespace lazy {

struct DeviceMemory {
  void* (*allocate)(std::size_t bytes);  // throws if there is not enough
  void (*release)(void*);
  void (*upload)(void* device, const void* host, std::size_t bytes);
  void (*download)(void* host, const void* device, std::size_t bytes);  // waits for the kernels
};

namespace emulated {
const DeviceMemory& memory();
std::string device_name();
}  // namespace emulated
namespace cuda {  // only where the program was built with nvcc
const DeviceMemory& memory();
std::string device_name();  // throws std::runtime_error if there is no GPU
}  // namespace cuda

/// Of either device. Throws std::invalid_argument where the program was built without nvcc and CUDA
/// is asked for.
const DeviceMemory& memory(LazyDevice device);
std::string device_name(LazyDevice device);

}  // namespace lazy
