// A GPU's memory. What is made at first use is never taken down: at the end of a program CUDA may
// be gone first.

#include "cuda/memory.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "cuda/recording.hpp"
#include "cuda/runtime/check.hpp"

namespace lazy::cuda {
namespace {

// Slots of pinned memory that uploads pass through. The GPU copies from there while the host goes
// on; an event tells when a slot is free again.
class UploadRing {
 public:
  UploadRing() {
    check(cudaMallocHost(&memory_, slots * slot_bytes), "allocating pinned memory for uploads");
    for (cudaEvent_t& event : free_)
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  }

  void upload(char* device, const char* host, std::size_t bytes, cudaStream_t stream) {
    const std::lock_guard one_at_a_time(mutex_);
    for (std::size_t done = 0; done < bytes; done += slot_bytes) {
      const std::size_t piece = std::min(slot_bytes, bytes - done);
      char* slot = static_cast<char*>(memory_) + next_ * slot_bytes;
      check(cudaEventSynchronize(free_[next_]), "waiting for an earlier copy to the GPU");
      std::memcpy(slot, host + done, piece);
      check(cudaMemcpyAsync(device + done, slot, piece, cudaMemcpyHostToDevice, stream),
            "copying to the GPU");
      check(cudaEventRecord(free_[next_], stream), "copying to the GPU");
      next_ = (next_ + 1) % slots;
    }
  }

 private:
  // Several steps' inputs fit, each upload in slots of its own.
  static constexpr std::size_t slots = 64, slot_bytes = 256 * 1024;

  std::mutex mutex_;
  void* memory_ = nullptr;
  std::array<cudaEvent_t, slots> free_;
  std::size_t next_ = 0;
};

cudaStream_t as_stream(void* stream) {
  return static_cast<cudaStream_t>(stream);
}

void* stream() {
  static const cudaStream_t model = [] {
    cudaStream_t made;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "creating a stream");
    return made;
  }();
  return model;
}

MemorySpace space() {
  MemorySpace space;
  check(cudaMemGetInfo(&space.free, &space.total), "asking the GPU for its free memory");
  return space;
}

void* allocate(std::size_t bytes) {
  refuse_while_recording("allocate");
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would report it
    throw OutOfDeviceMemory(bytes, space());
  }
  check(error, "allocating " + std::to_string(bytes) + " bytes");
  return data;
}

void release(void* data) {
  cudaFree(data);
}

void upload(void* device, const void* host, std::size_t bytes, void* stream) {
  refuse_while_recording("upload");
  static UploadRing& ring = *new UploadRing;
  ring.upload(static_cast<char*>(device), static_cast<const char*>(host), bytes, as_stream(stream));
}

void wait(void* stream) {
  refuse_while_recording("wait");
  check(cudaStreamSynchronize(as_stream(stream)), "waiting for the GPU");
}

void download(void* host, const void* device, std::size_t bytes, void* stream) {
  refuse_while_recording("download");
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, as_stream(stream)),
        "copying from the GPU");
  wait(stream);
}

void copy(void* to, const void* from, std::size_t bytes, void* stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, as_stream(stream)),
        "copying on the GPU");
}

void zero(void* device, std::size_t bytes, void* stream) {
  check(cudaMemsetAsync(device, 0, bytes, as_stream(stream)), "zeroing the GPU's memory");
}

}  // namespace

const DeviceMemory& memory() {
  static constexpr DeviceMemory functions{stream, allocate, release, upload, download,
                                          copy,   zero,     wait,    space};
  return functions;
}

/// For example "NVIDIA H200, sm_90".
std::string device_name() {
  int device = 0;
  cudaDeviceProp properties;
  check(cudaGetDevice(&device), "looking for a GPU");
  check(cudaGetDeviceProperties(&properties, device), "asking the GPU what it is");
  return std::string(properties.name) + ", sm_" + std::to_string(properties.major) +
         std::to_string(properties.minor);
}

std::string missing_gpu() {
  int count = 0, driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    return "no NVIDIA driver is installed";
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // or the next launch would report it
  return error != cudaSuccess ? cudaGetErrorString(error) : count == 0 ? "CUDA finds none" : "";
}

}  // namespace lazy::cuda
