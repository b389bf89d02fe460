#include "cuda/memory.hpp"
#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

const DeviceMemory& memory() {
  static constexpr DeviceMemory functions{allocate, release, upload, download};
  return functions;
}

}  // namespace lazy::LAZY_TARGET
