#pragma once
// What CUDA's own functions return, as exceptions.

#include <cuda_runtime_api.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace lazy::cuda {

/// Throws std::runtime_error naming the call, the error and what may help.
inline void check(cudaError_t error, const std::string& what,
                  std::source_location where = std::source_location::current()) {
  if (error == cudaSuccess) return;
  const bool no_code =
      error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction;
  const bool no_device = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  throw std::runtime_error(
      std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " + what + ": " +
      cudaGetErrorString(error) +
      (no_device ? "; is there a GPU (nvidia-smi)? Without one, use the device emulated"
       : no_code ? "; the program was not built for this GPU, or this rung "
                   "needs a newer one: try rung v1"
                 : "; try the same with device emulated, which checks every access"));
}

}  // namespace lazy::cuda
