#include "cuda/simt/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace lazy::emulated {
namespace {
constexpr std::size_t page = 4096, stack_size = 64 * page;
}

#if defined(__x86_64__)

// Leaves the registers that a call must preserve on the old stack and takes those on the new one:
// a dozen instructions, where swapcontext would ask the kernel for the signal mask.
extern "C" void lazy_switch_stack(void** leave, void* go_to);
extern "C" void lazy_first_frame();
extern "C" void lazy_begin_fiber(Fiber* fiber) {
  fiber->begin();
}
asm(R"(
.text
.globl lazy_switch_stack
.type lazy_switch_stack, @function
lazy_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size lazy_switch_stack, .-lazy_switch_stack

.globl lazy_first_frame
.type lazy_first_frame, @function
lazy_first_frame:
  movq %rbx, %rdi
  call lazy_begin_fiber
.size lazy_first_frame, .-lazy_first_frame
)");

namespace {

void make_context(Context& context, std::byte* stack, Fiber* fiber) {
  auto* top = reinterpret_cast<std::uintptr_t*>(stack + stack_size);
  top -= 2;                                                      // calls want a multiple of 16
  *--top = reinterpret_cast<std::uintptr_t>(&lazy_first_frame);  // where the switch returns to
  *--top = 0;                                                    // rbp
  *--top = reinterpret_cast<std::uintptr_t>(fiber);              // rbx
  for (int i = 0; i < 4; ++i) *--top = 0;                        // r12 .. r15
  context = top;
}

void switch_context(Context& leave, Context& go_to) {
  lazy_switch_stack(&leave, go_to);
}

}  // namespace

#else

namespace {

void begin_fiber(unsigned high, unsigned low) {
  reinterpret_cast<Fiber*>(std::uintptr_t(high) << 32 | low)->begin();
}

void make_context(Context& context, std::byte* stack, Fiber* fiber) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = stack_size;
  const auto address = reinterpret_cast<std::uintptr_t>(fiber);
  makecontext(&context, reinterpret_cast<void (*)()>(begin_fiber), 2, unsigned(address >> 32),
              unsigned(address));
}

void switch_context(Context& leave, Context& go_to) {
  swapcontext(&leave, &go_to);
}

}  // namespace

#endif

Fiber::Fiber() {
  void* memory = mmap(nullptr, page + stack_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  mprotect(memory_, page, PROT_NONE);
}

Fiber::~Fiber() {
  munmap(memory_, page + stack_size);
}

void Fiber::start(void (*entry)()) {
  entry_ = entry;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(memory_ + page, stack_size);  // of frames that were never left
#endif
  make_context(here_, memory_ + page, this);
}

void Fiber::begin() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &resumers_stack_, &resumers_stack_size_);
#endif
  entry_();
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, memory_ + page, stack_size);
#endif
  switch_context(resumer_, here_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::pause() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, resumers_stack_, resumers_stack_size_);
#endif
  switch_context(here_, resumer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, &resumers_stack_, &resumers_stack_size_);
#endif
}

}  // namespace lazy::emulated
