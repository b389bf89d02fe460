#pragma once
// Which of several processes this is, as mpirun or torchrun tell it.

#include <functional>
#include <memory>
#include <string>

#include "cuda/lazy_attention.h"
#include "cuda/nccl_communicator.hpp"

namespace lazy {

using Environment = std::function<const char*(const char* name)>;

/// From the variables that torchrun (RANK, WORLD_SIZE, LOCAL_RANK), Open MPI's and MPICH's mpirun
/// set; one process where there are none. Throws UserError naming the variable that is no number or
/// does not fit the others.
ProcessPlace process_place(const Environment& environment);

/// Whether this program was started as one of several.
bool several_processes();

/// This program among those it was started with: over MPI on the CPU, over NCCL on GPUs; null if it
/// is alone. Throws UserError naming what the build lacks.
std::unique_ptr<Communicator> join_processes(bool on_gpu);

}  // namespace lazy
