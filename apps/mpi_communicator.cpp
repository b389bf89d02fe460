#include "apps/mpi_communicator.hpp"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>

namespace lazy {
namespace {

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw std::runtime_error(std::string(what) + ": " + std::string(text, length) +
                           "; did another process end? Its own message says why");
}

class Mpi final : public Communicator {
 public:
  Mpi() {
    check(MPI_Init(nullptr, nullptr), "starting MPI");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "setting up MPI");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "asking MPI for the rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "asking MPI for the number of processes");
  }
  Mpi(const Mpi&) = delete;
  // After an error the others would be waited for, who wait in a sum: mpirun ends them.
  ~Mpi() override {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  Index rank() const override { return rank_; }
  Index size() const override { return size_; }
  void sum(float* x, Index count) override { sum(x, count, MPI_FLOAT); }
  void sum(double* x, Index count) override { sum(x, count, MPI_DOUBLE); }

 private:
  int rank_ = 0, size_ = 1;

  template <class T>
  static void sum(T* x, Index count, MPI_Datatype type) {
    constexpr Index most = 1 << 28;  // MPI counts in int
    for (Index first = 0; first < count; first += most)
      check(MPI_Allreduce(MPI_IN_PLACE, x + first, static_cast<int>(std::min(most, count - first)),
                          type, MPI_SUM, MPI_COMM_WORLD),
            "summing over processes");
  }
};

}  // namespace

std::unique_ptr<Communicator> join_mpi() {
  return std::make_unique<Mpi>();
}

}  // namespace lazy
