#pragma once
// One thread of a kernel on the CPU: a stack of its own and a place to go on from.

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace lazy::emulated {

#if defined(__x86_64__)
using Context = void*;  // the stack pointer; the registers lie on the stack
#else
using Context = ucontext_t;
#endif

class Fiber {
 public:
  Fiber();  // throws std::bad_alloc
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next `resume` calls `entry` on an empty stack; whatever was left on it is forgotten.
  /// `entry` must not return: it ends with a `pause` that nobody resumes.
  void start(void (*entry)());

  /// Runs the fiber until it pauses. To be called from outside every fiber.
  void resume();

  /// Goes back to whoever resumed this fiber. To be called from inside it.
  void pause();

  /// First thing on a new stack.
  void begin();

 private:
  std::byte* memory_;  // a page that may not be touched, then the stack, which grows towards it
  void (*entry_)() = nullptr;
  Context here_{}, resumer_{};

  // What AddressSanitizer wants to know of stacks; unused without it.
  [[maybe_unused]] const void* resumers_stack_ = nullptr;
  [[maybe_unused]] std::size_t resumers_stack_size_ = 0;
};

}  // namespace lazy::emulated
