#pragma once
// The block that runs at present: what the words of a kernel (emulated.hpp) are made of.

#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "cuda/simt/emulator.hpp"
#include "cuda/simt/fiber.hpp"

namespace lazy::emulated {

class Block {
 public:
  Block(const Launch& launch, Machine& machine, const std::function<void()>& thread);

  /// Runs all threads to their end. Throws KernelFault.
  void run(Dim index, std::uint64_t seed);

  // For the thread that runs at present.

  Dim index() const { return index_; }
  Dim grid() const { return launch_.grid; }
  int thread() const { return current_; }
  Counters& counters() { return machine_.counters; }

  std::size_t shared_bytes() const { return launch_.shared_bytes; }
  void read_shared(std::size_t byte, void* to, std::size_t bytes, Where where);
  void write_shared(std::size_t byte, const void* from, std::size_t bytes, Where where);
  void count_access(std::size_t byte, Where where);

  /// 16 bytes from `from`, or zeros if it is null, arrive at `byte` when they are waited for.
  void start_copy(std::size_t byte, const void* from, Where where);
  void commit_copies();
  void wait_copies(int groups_left, Where where);

  void barrier(Where where);
  void warp_barrier(Where where);

  /// All lanes of a warp hand in `mine`; `combine(all, result)`, two arrays of a warp's size, is
  /// called once; every lane leaves with its own result.
  template <class In, class Out, class Combine>
  Out collective(const char* name, const In& mine, Where where, Combine combine);

  [[noreturn]] void fail(Fault fault, Where where, const std::string& what, Where earlier = {});

 private:
  struct Copy {
    std::size_t byte;
    const void* from;
    int group;
  };
  struct Thread {
    Fiber fiber;
    enum State { ready, at_barrier, in_warp, done } state = done;
    Where where;  // it waits
    std::vector<Copy> copies;
    int groups = 0;  // committed
  };
  static constexpr std::size_t hand_in_size = 64;
  using HandIns = std::byte[warp_size][hand_in_size];
  struct Warp {
    int arrived = 0;
    unsigned meetings = 0;
    const char* name = nullptr;  // of the collective that the first arriver came for
    Where where;
    std::uint32_t time = 0;
    // Two of each: a lane may be at the next meeting before another has left the last one.
    alignas(16) HandIns in[2], out[2];
  };
  struct Logged {
    const char* file;
    unsigned line;
    int lane, occurrence;
    std::size_t word;
  };

  const Launch launch_;
  Machine& machine_;
  const std::function<void()> body_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<std::vector<Logged>> log_;  // of each warp since its last meeting
  std::vector<std::byte> shared_;
  Shadow shadow_;
  Dim index_;
  int current_ = 0;
  int at_barrier_ = 0;
  Where barrier_where_;
  std::uint32_t time_ = 0;
  std::minstd_rand random_;
  std::exception_ptr fault_;  // of the thread that ran last

  static void thread_entry();
  bool run_warp(int warp);
  void wait(Thread::State state, Where where);
  void meet(const char* name, Where where);
  void leave_meeting(int warp);
  [[noreturn]] void stuck();
  std::string whereabouts(int thread) const;
  Access access(Where where) const;
  void check_bounds(std::size_t byte, std::size_t bytes, Where where);
  void report(const std::optional<Conflict>& conflict, std::size_t byte, Where where);
  void count_wavefronts(int warp);
};

/// The block whose kernel runs at present.
Block& block();

template <class In, class Out, class Combine>
Out Block::collective(const char* name, const In& mine, Where where, Combine combine) {
  static_assert(sizeof(In) <= hand_in_size && sizeof(Out) <= hand_in_size);
  static_assert(std::is_trivially_copyable_v<In> && std::is_trivially_copyable_v<Out>);
  const int w = current_ / warp_size, lane = current_ % warp_size;
  Warp& warp = warps_[w];
  const unsigned turn = warp.meetings % 2;
  std::memcpy(warp.in[turn][lane], &mine, sizeof mine);
  meet(name, where);
  if (warp.arrived == warp_size) {
    In all[warp_size];
    Out results[warp_size];
    for (int i = 0; i < warp_size; ++i) std::memcpy(&all[i], warp.in[turn][i], sizeof(In));
    combine(all, results);
    for (int i = 0; i < warp_size; ++i) std::memcpy(warp.out[turn][i], &results[i], sizeof(Out));
    leave_meeting(w);
  } else {
    wait(Thread::in_warp, where);
  }
  Out result;
  std::memcpy(&result, warp.out[turn][lane], sizeof result);
  return result;
}

}  // namespace lazy::emulated
