#include <numbers>

#include "reference/cpu_backend.hpp"
#include "reference/training_step.hpp"

namespace lazy {

double scheduled_rate(const TrainingConfig& c, Index step) {
  if (step < c.warmup) return c.learning_rate * double(step) / double(c.warmup);
  const double progress =
      double(step - c.warmup) / double(std::max<Index>(1, c.schedule_steps - c.warmup));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, progress)));
  return c.learning_rate * (c.minimum_rate + (1 - c.minimum_rate) * cosine);
}

template class Trainer<CpuBackend, float>;
template class Trainer<CpuBackend, double>;

}  // namespace lazy
