#pragma once
// Memory of a device, for what the host wants computed there, and what the device is called.
//
// `stream` is a cudaStream_t; null is the device's default stream, and the only one in emulation.
// What is asked of one stream is done in that order. One GPU a process: the current one at the
// first call.

#include <cstddef>
#include <new>
#include <string>

#include "cuda/lazy_attention.h"

namespace lazy {

/// In bytes. In emulation `total` is the largest number there is, `free` what is left of it: the
/// host's own memory is not asked.
struct MemorySpace {
  std::size_t free, total;
};

/// A GPU has less memory left than was asked for. The text names both; who knows what to make
/// smaller catches it.
class OutOfDeviceMemory : public std::bad_alloc {
 public:
  OutOfDeviceMemory(std::size_t asked, MemorySpace space);
  const char* what() const noexcept override { return text_.c_str(); }

  std::size_t asked;
  MemorySpace space;

 private:
  std::string text_;
};

/// All throw std::runtime_error if the device fails. While a Recording (recording.hpp) is made,
/// `copy` and `zero` are recorded, and allocate, upload, download and wait throw std::logic_error.
struct DeviceMemory {
  /// The stream for a model's work, made at first use. It runs beside the default stream: what is
  /// shared by the two has to be waited for.
  void* (*stream)();

  void* (*allocate)(std::size_t bytes);  // throws std::bad_alloc, on a GPU OutOfDeviceMemory
  void (*release)(void*);

  /// From host memory, which may be reused at once. Copies pass through pinned memory; the call
  /// waits only while all of that is still on its way.
  void (*upload)(void* device, const void* host, std::size_t bytes, void* stream);
  /// To host memory; waits for what this stream was given before.
  void (*download)(void* host, const void* device, std::size_t bytes, void* stream);
  void (*copy)(void* to, const void* from, std::size_t bytes, void* stream);  // on the device
  void (*zero)(void* device, std::size_t bytes, void* stream);
  void (*wait)(void* stream);

  MemorySpace (*space)();
};

namespace emulated {
const DeviceMemory& memory();
std::string device_name();
}  // namespace emulated
namespace cuda {  // only where the program was built with nvcc
const DeviceMemory& memory();
std::string device_name();  // throws std::runtime_error if there is no GPU
std::string missing_gpu();
}  // namespace cuda

/// Of either device. Throws std::invalid_argument where the program was built without nvcc and CUDA
/// is asked for.
const DeviceMemory& memory(LazyDevice device);
std::string device_name(LazyDevice device);

/// Empty if there is a GPU; else why this build or this machine has none.
std::string missing_gpu();

}  // namespace lazy
