#include "cuda/ladder.hpp"
#include "cuda/rungs.hpp"

namespace lazy::LAZY_TARGET {
namespace {

bool any_float32(LazyType type, int64_t) {
  return type == LAZY_FLOAT32;
}

constexpr Rung rungs[] = {
    {"v0", "the equations as loops", "float32, any D, any GPU from sm_75", any_float32, v0_sizes,
     v0_forward, v0_backward, v0_weights},
};

}  // namespace

std::span<const Rung> ladder() {
  return rungs;
}

}  // namespace lazy::LAZY_TARGET
