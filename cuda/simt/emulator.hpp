#pragma once
// Runs the blocks of a kernel on the CPU, one after another, each CUDA thread a fiber. The host's
// side: what is launched, on which machine, and what a fault looks like.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

#include "cuda/simt/shadow.hpp"

namespace lazy::emulated {

inline constexpr int warp_size = 32;

/// Blocks of a grid, or the place of one among them.
struct Dim {
  int x = 1, y = 1, z = 1;
};

/// What the launches on a machine did, summed.
struct Counters {
  std::int64_t launches = 0, blocks = 0;
  std::int64_t barriers = 0;                 // of whole blocks
  std::int64_t exponentials = 0, fused = 0;  // a thread's calls
  std::int64_t mma = 0, ldmatrix = 0;        // a warp's instruction counts once
  std::int64_t copied_bytes = 0;             // by asynchronous copies, without zero fill
  std::int64_t loaded_bytes = 0;             // by load and load_piece; single numbers do not count
  // A wavefront is one trip of a warp to the 32 banks of shared memory. `ideal` is what the same
  // accesses would take without bank conflicts.
  std::int64_t wavefronts = 0, ideal_wavefronts = 0;
  std::int64_t ldmatrix_wavefronts = 0;  // 4 an instruction if there is no conflict
};

/// An emulated GPU. `seed` decides in which order blocks, warps and lanes run.
struct Machine {
  std::uint64_t seed = 1;
  bool count_wavefronts = false;  // of ordinary loads and stores: slow
  Counters counters = {};
  std::map<std::string, std::size_t> shared_bytes = {};  // of a block of each kernel launched
};

/// Launches are synchronous; null is a machine of its own for each launch.
using Stream = Machine*;

struct Launch {
  const char* name;
  Dim grid;
  int threads = warp_size;       // a block; a multiple of the warp size
  std::size_t shared_bytes = 0;  // a block
  Stream stream = nullptr;
};

/// A mistake of a kernel, with everything needed to find it.
struct KernelFault : std::runtime_error {
  Fault fault;
  std::string kernel;
  Dim block;
  int thread;
  Where where;    // what the thread was about to do
  Where earlier;  // the other side of a race; line 0 if there is none

  KernelFault(Fault fault, const Launch& launch, Dim block, int thread, Where where,
              const std::string& what, Where earlier);
};

/// Runs `thread` once for each thread of the grid. Throws KernelFault at the first mistake, and
/// std::invalid_argument if the launch itself is impossible.
void run_grid(const Launch& launch, const std::function<void()>& thread);

}  // namespace lazy::emulated
