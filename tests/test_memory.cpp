// The memory of every device that is here.

#include <cstdint>

#include "tests/catch.hpp"
#include "tests/recording_checks.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

TEST_CASE("what is uploaded may be overwritten at once") {
  for (const LazyDevice device : devices_here()) {
    INFO(device_name(device));
    CHECK(upload_faults(device) == "");
  }
}

TEST_CASE("a device's memory is copied and zeroed in order, to the byte") {
  for (const LazyDevice device : devices_here()) {
    const DeviceMemory& memory = lazy::memory(device);
    void* stream = memory.stream();
    using Bytes = std::vector<unsigned char>;
    DeviceArray<unsigned char> a(device, Bytes{1, 2, 3, 4, 5}), b(device, Bytes{6, 7, 8, 9, 10});
    memory.copy(b.data() + 1, a.data(), 3, stream);
    memory.zero(a.data() + 1, 2, stream);
    memory.copy(a.data(), b.data(), 1, stream);
    memory.wait(stream);
    CHECK(a.on_host() == Bytes{6, 0, 0, 4, 5});
    CHECK(b.on_host() == Bytes{6, 1, 2, 3, 10});
    memory.copy(b.data(), a.data(), 0, stream);
    memory.zero(b.data(), 0, stream);
    memory.upload(b.data(), a.data(), 0, stream);
    memory.download(a.data(), b.data(), 0, stream);
    CHECK(b.on_host() == Bytes{6, 1, 2, 3, 10});
  }
}

TEST_CASE("allocated memory starts where every kernel can read it") {
  for (const LazyDevice device : devices_here())
    for (const std::size_t bytes : {1, 257, 100000}) {
      void* data = memory(device).allocate(bytes);
      CHECK(reinterpret_cast<std::uintptr_t>(data) % 256 == 0);
      memory(device).release(data);
    }
}

TEST_CASE("a GPU out of memory says what was asked for and what is free") {
  const OutOfDeviceMemory error(4096, {1000, 2000});
  CHECK(mentions_all(error.what(), {"4096 bytes", "1000 of 2000"}));
  CHECK(refusal<std::bad_alloc>([&] { throw error; }) == error.what());
  if (devices_here().size() == 1) return;
  const DeviceMemory& gpu = memory(LAZY_CUDA);
  const std::size_t more = gpu.space().total + (std::size_t(1) << 30);
  CHECK(mentions(refusal<OutOfDeviceMemory>([&] { gpu.allocate(more); }), std::to_string(more)));
  DeviceArray<float> array(LAZY_CUDA, {1});  // and goes on
  CHECK(array.on_host() == std::vector<float>{1});
}
