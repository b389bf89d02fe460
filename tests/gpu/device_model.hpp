#pragma once
// The model on a device that is chosen by name.

#include <algorithm>
#include <chrono>
#include <span>
#include <stdexcept>
#include <string>

#include "cuda/cuda_backend.hpp"
#include "cuda/memory.hpp"
#include "reference/training.hpp"

namespace lazy::test {

/// Calls f<B>() for the backend of `device` (cuda, emulated) and `format` (float32, bfloat16).
/// Throws std::invalid_argument for another name.
template <class F>
auto with_backend(const std::string& device, const std::string& format, F&& f) {
  if (device == "cuda" && format == "float32") return f.template operator()<CudaBackend>();
  if (device == "cuda" && format == "bfloat16") return f.template operator()<CudaBFloat16Backend>();
  if (device == "emulated" && format == "float32") return f.template operator()<EmulatedBackend>();
  if (device == "emulated" && format == "bfloat16")
    return f.template operator()<EmulatedBFloat16Backend>();
  throw std::invalid_argument("there is no " + format + " on " + device +
                              "; choose cuda or emulated, float32 or bfloat16");
}

/// An update on each batch, the device waiting for nobody in between; returns the last one's loss.
template <class B>
double update(Trainer<B, float>& trainer, std::span<const Batch> batches) {
  double loss = 0;
  for (const Batch& batch : batches) {
    if (trainer.steps_under_way() == steps_kept) loss = trainer.finish().loss;
    trainer.start(batch);
  }
  while (trainer.steps_under_way() > 0) loss = trainer.finish().loss;
  return loss;
}

class Watch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace lazy::test
