// A process that joins itself: that NCCL links, starts, and sums where the model's work is done.
//
//   lazy_nccl

#include <iostream>
#include <vector>

#include "cuda/cuda_backend.hpp"
#include "cuda/nccl_communicator.hpp"

using namespace lazy;

int main() {
  try {
    const auto processes = cuda::join_nccl({});
    const std::vector<float> given{1, -2, 3.5};
    CudaBackend::Buffer<float> buffer;
    CudaBackend::resize(buffer, Index(given.size()));
    CudaBackend::upload(buffer.data(), given.data(), Index(given.size()));
    processes->sum(buffer.data(), Index(given.size()));
    std::vector<float> got(given.size());
    CudaBackend::download(got.data(), static_cast<const float*>(buffer.data()), Index(got.size()));
    if (got != given) throw std::runtime_error("the sum over one process is not what it gave");
    std::cout << "one process summed with itself\n";
  } catch (const std::exception& error) {
    std::cerr << "lazy_nccl: " << error.what() << "\n";
    return 1;
  }
}
