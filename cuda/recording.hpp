#pragma once
// One step of a loop, recorded once and launched as often as wanted: a CUDA graph, and its twin in
// emulation.

#include <functional>

#include "cuda/lazy_attention.h"

namespace lazy {

/// What a function asks of the device's `memory(device).stream()`. Can be moved, not copied.
class Recording {
 public:
  Recording() = default;
  Recording(Recording&&) = default;
  Recording& operator=(Recording&&) = default;

  /// Calls `work` once. Nothing is done yet: kernels, matrix products, copies on the device and
  /// zeroing are kept with the arguments they are given now. So what changes between launches must
  /// lie in the device's memory. `work` must have run unrecorded before, so that nothing is made at
  /// first use. It may not wait, allocate or touch host memory: memory.hpp then throws
  /// std::logic_error. Throws what `work` throws, and std::runtime_error if CUDA cannot record it.
  Recording(LazyDevice device, const std::function<void()>& work);

  /// Does all of it, after what the stream was given before; does not wait.
  void launch() const { launch_(); }

  /// Whether there is something to launch.
  explicit operator bool() const { return launch_ != nullptr; }

 private:
  std::function<void()> launch_;  // owns what the device keeps
};

/// Throws std::logic_error naming `what` while the calling thread makes a Recording.
void refuse_while_recording(const char* what);

namespace emulated {
std::function<void()> record(const std::function<void()>& work);
}
namespace cuda {  // only where the program was built with nvcc
std::function<void()> record(const std::function<void()>& work);
}

}  // namespace lazy
