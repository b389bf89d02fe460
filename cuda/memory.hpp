#pragma once
// Memory of a device, for what the host wants computed there.

#include <cstddef>

namespace lazy {

struct DeviceMemory {
  void* (*allocate)(std::size_t bytes);  // throws if there is not enough
  void (*release)(void*);
  void (*upload)(void* device, const void* host, std::size_t bytes);
  void (*download)(void* host, const void* device, std::size_t bytes);  // waits for the kernels
};

namespace emulated {
const DeviceMemory& memory();
}
namespace cuda {
const DeviceMemory& memory();  // only where the program was built with nvcc
}

}  // namespace lazy
