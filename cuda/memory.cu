#include "cuda/memory.hpp"
#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

const DeviceMemory& memory() {
  static constexpr DeviceMemory functions{allocate, release, upload, download};
  return functions;
}

std::string device_name() {
  return name_of_device();
}

}  // namespace lazy::LAZY_TARGET
