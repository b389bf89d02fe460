#include "cuda/nccl_communicator.hpp"

#include <nccl.h>

#include <cstdlib>
#include <string>

#include "cuda/memory.hpp"
#include "cuda/runtime/check.hpp"

namespace lazy::cuda {
namespace {

void must(ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return;
  throw std::runtime_error(std::string(what) + ": NCCL: " + ncclGetErrorString(result) +
                           "; NCCL_DEBUG=INFO makes it say more");
}

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

// Where rank 0 waits for the others. MASTER_PORT itself is torchrun's.
void choose_meeting_point() {
  const std::string port = environment("MASTER_PORT", "29500");
  const std::string point =
      environment("MASTER_ADDR", "127.0.0.1") + ":" + std::to_string(std::atoi(port.c_str()) + 1);
  setenv("NCCL_COMM_ID", point.c_str(), /*overwrite=*/0);
}

class Nccl final : public Communicator {
 public:
  explicit Nccl(const ProcessPlace& place) : place_(place) {
    int gpus = 0;
    check(cudaGetDeviceCount(&gpus), "counting GPUs");
    if (place.local_rank >= gpus)
      throw std::runtime_error("process " + std::to_string(place.local_rank) +
                               " of this machine has no GPU: there are " + std::to_string(gpus) +
                               "; start one process a GPU");
    check(cudaSetDevice(static_cast<int>(place.local_rank)), "choosing a GPU");
    choose_meeting_point();
    ncclUniqueId id;
    must(ncclGetUniqueId(&id), "finding the other processes");
    must(ncclCommInitRank(&communicator_, static_cast<int>(place.size), id,
                          static_cast<int>(place.rank)),
         "joining the other processes");
  }
  Nccl(const Nccl&) = delete;
  // After an error the others would be waited for, who wait in a sum: their launcher ends them.
  ~Nccl() override {
    if (std::uncaught_exceptions() == 0)
      ncclCommDestroy(communicator_);
    else
      ncclCommAbort(communicator_);
  }

  Index rank() const override { return place_.rank; }
  Index size() const override { return place_.size; }
  void sum(float* x, Index count) override { sum(x, count, ncclFloat32); }
  void sum(double* x, Index count) override { sum(x, count, ncclFloat64); }

 private:
  ProcessPlace place_;
  ncclComm_t communicator_ = nullptr;

  template <class T>
  void sum(T* x, Index count, ncclDataType_t type) {
    must(ncclAllReduce(x, x, static_cast<std::size_t>(count), type, ncclSum, communicator_,
                       static_cast<cudaStream_t>(memory().stream())),
         "summing over processes");
  }
};

}  // namespace

std::unique_ptr<Communicator> join_nccl(const ProcessPlace& place) {
  return std::make_unique<Nccl>(place);
}

}  // namespace lazy::cuda
