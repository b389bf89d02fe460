// Which device's memory, and the emulated one: the host's.

#include "cuda/memory.hpp"

#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>

#include "cuda/recording.hpp"
#include "cuda/simt/commands.hpp"

namespace lazy {

OutOfDeviceMemory::OutOfDeviceMemory(std::size_t asked, MemorySpace space)
    : asked(asked),
      space(space),
      text_("out of GPU memory: " + std::to_string(asked) + " bytes asked for, " +
            std::to_string(space.free) + " of " + std::to_string(space.total) +
            " free; ask for something smaller, or end what else runs on the GPU (nvidia-smi)") {}

namespace emulated {
namespace {

constexpr std::align_val_t alignment{256};  // cudaMalloc's

void* stream() {
  return nullptr;
}

// What was taken. Never taken down: threads give their workspaces back when they end.
struct Ledger {
  std::mutex mutex;
  std::map<void*, std::size_t> bytes;
  std::size_t sum = 0;
};

Ledger& ledger() {
  static Ledger& made = *new Ledger;
  return made;
}

void* allocate(std::size_t bytes) {
  refuse_while_recording("allocate");
  void* const data = ::operator new(bytes, alignment);
  const std::lock_guard one_at_a_time(ledger().mutex);
  ledger().bytes.emplace(data, bytes);
  ledger().sum += bytes;
  return data;
}

void release(void* data) {
  {
    const std::lock_guard one_at_a_time(ledger().mutex);
    const auto taken = ledger().bytes.extract(data);
    if (!taken.empty()) ledger().sum -= taken.mapped();
  }
  ::operator delete(data, alignment);
}

void upload(void* device, const void* host, std::size_t bytes, void*) {
  refuse_while_recording("upload");
  if (bytes > 0) std::memcpy(device, host, bytes);
}

void download(void* host, const void* device, std::size_t bytes, void*) {
  refuse_while_recording("download");
  if (bytes > 0) std::memcpy(host, device, bytes);
}

void copy(void* to, const void* from, std::size_t bytes, void*) {
  if (bytes > 0) give([=] { std::memcpy(to, from, bytes); });
}

void zero(void* device, std::size_t bytes, void*) {
  if (bytes > 0) give([=] { std::memset(device, 0, bytes); });
}

void wait(void*) {
  refuse_while_recording("wait");
}

MemorySpace space() {
  constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
  const std::lock_guard one_at_a_time(ledger().mutex);
  return {all - ledger().sum, all};
}

}  // namespace

const DeviceMemory& memory() {
  static constexpr DeviceMemory functions{stream, allocate, release, upload, download,
                                          copy,   zero,     wait,    space};
  return functions;
}

std::string device_name() {
  return "emulated on the CPU";
}

}  // namespace emulated

#if defined(LAZY_WITH_CUDA)
const DeviceMemory& memory(LazyDevice device) {
  return device == LAZY_CUDA ? cuda::memory() : emulated::memory();
}
std::string device_name(LazyDevice device) {
  return device == LAZY_CUDA ? cuda::device_name() : emulated::device_name();
}
std::string missing_gpu() {
  return cuda::missing_gpu();
}
#else
namespace {

void refuse_cuda(LazyDevice device) {
  if (device == LAZY_CUDA)
    throw std::invalid_argument(
        "lazy_attention: this build has no CUDA: it was made without nvcc; use the device "
        "emulated");
}

}  // namespace

const DeviceMemory& memory(LazyDevice device) {
  refuse_cuda(device);
  return emulated::memory();
}
std::string device_name(LazyDevice device) {
  refuse_cuda(device);
  return emulated::device_name();
}
std::string missing_gpu() {
  return "this build was made without nvcc";
}
#endif

}  // namespace lazy
