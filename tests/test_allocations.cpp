// A training step on the CPU takes its memory once. This file counts what the whole test program
// takes by `new`, which is how every buffer of the library takes it.

#include <atomic>
#include <cstdlib>
#include <new>

#include "reference/training.hpp"
#include "tests/catch.hpp"
#include "tests/tiny_models.hpp"

namespace {

std::atomic<long> allocations = 0;

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, whole > 0 ? whole : alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes, alignof(std::max_align_t));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

using namespace lazy;
using namespace lazy::test;

TEST_CASE("a training step on the CPU allocates nothing after the first ones", "[training]") {
  for (const Normalizer rule : {Normalizer::elastic, Normalizer::softmax}) {
    TransformerConfig config = tiny_config(rule);
    config.context = 70;
    Model<float> model = lively_model<float>(config);
    Trainer<CpuBackend, float> trainer(model, {});
    const Batch batch = random_batch(3, 70, config.vocabulary);
    for (int n = 0; n < steps_kept; ++n) trainer.step(batch);
    const long before = allocations;
    for (int n = 0; n < 3; ++n) trainer.step(batch);
    const long taken = allocations - before;
    CHECK(taken == 0);
    CHECK(before > 0);
  }
}
