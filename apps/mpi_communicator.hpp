#pragma once
// Processes on CPUs, joined by MPI. Only in builds with LAZY_MPI.

#include <memory>

#include "reference/communicator.hpp"

namespace lazy {

/// All processes that mpirun started. MPI begins here, once a program, and ends when the result
/// goes. Throws std::runtime_error if it cannot.
std::unique_ptr<Communicator> join_mpi();

}  // namespace lazy
