#pragma once
// Processes with a GPU each, joined by NCCL. Only in builds with LAZY_NCCL.

#include <memory>

#include "reference/communicator.hpp"

namespace lazy {

/// Which of `size` processes this is, and which of its machine's.
struct ProcessPlace {
  Index rank = 0, size = 1, local_rank = 0;
};

namespace cuda {

/// Takes GPU `place.local_rank` for the calling process, which must not have used one before, and
/// waits for the others. They meet at the address in NCCL_COMM_ID (host:port of rank 0); without
/// it, at MASTER_ADDR and the port after MASTER_PORT, as torchrun sets them, or on this machine.
/// Sums are made on memory(LAZY_CUDA).stream(). Throws std::runtime_error if there is no such GPU
/// or NCCL fails.
std::unique_ptr<Communicator> join_nccl(const ProcessPlace& place);

}  // namespace cuda
}  // namespace lazy
