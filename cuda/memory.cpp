#include "cuda/memory.hpp"

#include <stdexcept>

namespace lazy {
namespace {

[[maybe_unused, noreturn]] void refuse_cuda() {
  throw std::invalid_argument(
      "lazy_attention: this build has no CUDA: it was made without nvcc; use the device emulated");
}

}  // namespace

#if defined(LAZY_WITH_CUDA)
const DeviceMemory& memory(LazyDevice device) {
  return device == LAZY_CUDA ? cuda::memory() : emulated::memory();
}
std::string device_name(LazyDevice device) {
  return device == LAZY_CUDA ? cuda::device_name() : emulated::device_name();
}
#else
const DeviceMemory& memory(LazyDevice device) {
  if (device == LAZY_CUDA) refuse_cuda();
  return emulated::memory();
}
std::string device_name(LazyDevice device) {
  if (device == LAZY_CUDA) refuse_cuda();
  return emulated::device_name();
}
#endif

}  // namespace lazy
