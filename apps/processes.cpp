#include "apps/processes.hpp"

#include <cstdlib>

#include "apps/errors.hpp"
#include "apps/mpi_communicator.hpp"

namespace lazy {
namespace {

// What a launcher calls the three numbers.
struct Launcher {
  const char *size, *rank, *local_rank;
};
constexpr Launcher open_mpi{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
                            "OMPI_COMM_WORLD_LOCAL_RANK"};
constexpr Launcher mpich{"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"};
constexpr Launcher torchrun{"WORLD_SIZE", "RANK", "LOCAL_RANK"};

Index number(const Environment& environment, const char* name, Index below) {
  const char* text = environment(name);
  char* end = nullptr;
  const long long value = text ? std::strtoll(text, &end, 10) : -1;
  if (!text || end == text || *end != '\0' || value < 0 || value >= below)
    throw UserError("the environment variable " + std::string(name) + " is " +
                    (text ? "'" + std::string(text) + "'" : "not set") +
                    ", must be a number from 0 to " + std::to_string(below - 1) +
                    "; start the processes with mpirun or torchrun");
  return value;
}

}  // namespace

ProcessPlace process_place(const Environment& environment) {
  constexpr Index many = 1 << 20;
  for (const Launcher& launcher : {open_mpi, mpich, torchrun}) {
    if (!environment(launcher.size)) continue;
    const Index size = number(environment, launcher.size, many);
    if (size <= 1) return {};
    return {.rank = number(environment, launcher.rank, size),
            .size = size,
            .local_rank = number(environment, launcher.local_rank, size)};
  }
  return {};
}

bool several_processes() {
  return process_place(std::getenv).size > 1;
}

std::unique_ptr<Communicator> join_processes(bool on_gpu) {
  const ProcessPlace place = process_place(std::getenv);
  if (place.size == 1) return nullptr;
  const std::string processes = "there are " + std::to_string(place.size) + " processes, but ";
  if (on_gpu) {
#if defined(LAZY_WITH_NCCL)
    return cuda::join_nccl(place);
#endif
    throw UserError(processes +
                    "this build has no NCCL to join GPUs; configure it with -DLAZY_NCCL=ON");
  }
#if defined(LAZY_WITH_MPI)
  if (std::getenv(open_mpi.size) || std::getenv(mpich.size)) return join_mpi();
  throw UserError(processes + "on CPUs they are joined by MPI; start them with mpirun");
#endif
  throw UserError(processes +
                  "this build has no MPI to join CPUs; install it (bash apps/setup.sh mpi) and "
                  "configure again");
}

}  // namespace lazy
