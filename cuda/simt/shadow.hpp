#pragma once
// What the emulator remembers of every word of shared memory: who wrote it, who read it, and
// whether a barrier lies between that and the next access.

#include <cstdint>
#include <optional>
#include <vector>

#include "cuda/simt/where.hpp"

namespace lazy::emulated {

enum class Fault {
  out_of_bounds,
  misaligned,
  uninitialized,    // read of shared memory nobody wrote
  race,             // two threads, at least one writes, no barrier between
  unfinished_copy,  // access to the target of an asynchronous copy that was not waited for
  divergence,       // threads that have to meet do not
};

/// One access to shared memory. Times count barriers: `block_time` those of the block (and starts
/// of blocks), `warp_time` those of the thread's warp.
struct Access {
  Where where;
  std::uint32_t block_time = 0, warp_time = 0;  // block_time 0: never
  int thread = -1;
};

struct Conflict {
  Fault fault;
  Access earlier;
};

/// Shared memory as it was used by the present block. Two accesses are ordered if a barrier of the
/// block lies between them, or a barrier of the warp both belong to, or if one thread made both.
class Shadow {
 public:
  /// A new block: no word has been written. `now` is the first block_time of the block.
  void start(std::size_t words, std::uint32_t now);

  std::optional<Conflict> read(std::size_t word, const Access& access);
  std::optional<Conflict> write(std::size_t word, const Access& access);

  /// An asynchronous copy is a write that nobody may touch before it is finished.
  std::optional<Conflict> start_copy(std::size_t word, const Access& access);
  void finish_copy(std::size_t word, const Access& access);

 private:
  struct Word {
    Access written;
    // Two different threads among those that read last: enough to find any reader that the next
    // writer is not ordered with.
    Access reader, other_reader;
    bool copying = false;
  };
  std::vector<Word> words_;
  std::uint32_t start_ = 0;

  std::optional<Conflict> touch(const Word& word, const Access& access) const;
};

}  // namespace lazy::emulated
