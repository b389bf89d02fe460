#include "cuda/ladder.hpp"
#include "cuda/rungs.hpp"

namespace lazy::LAZY_TARGET {
namespace {

bool any_float32(LazyType type, int64_t) {
  return type == LAZY_FLOAT32;
}

bool tensor_formats(LazyType type, int64_t head_dim) {
  return type != LAZY_FLOAT32 && (head_dim == 32 || head_dim == 64 || head_dim == 128);
}

constexpr Rung rungs[] = {
    {"v0", "the equations as loops", "float32, any D, any GPU from sm_75", any_float32, v0_sizes,
     v0_forward, v0_backward, v0_weights},
    // v1 sums a score in the same order as v0: v0's weights are its weights.
    {"v1", "tiles in shared memory, two passes, dead tiles skipped",
     "float32, any D, any GPU from sm_75", any_float32, v1_sizes, v1_forward, v1_backward,
     v0_weights},
    {"v2", "tensor cores, a pipeline of copies, no atomics",
     "bfloat16 and float16, D = 32, 64 or 128, any GPU from sm_80", tensor_formats, v2_sizes,
     v2_forward, v2_backward, v2_weights},
};

}  // namespace

std::span<const Rung> ladder() {
  return rungs;
}

}  // namespace lazy::LAZY_TARGET
