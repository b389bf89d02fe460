#pragma once
// Arrays on a device, for tests that run on any, and which devices are here.

#include <exception>
#include <limits>
#include <type_traits>
#include <vector>

#include "cuda/memory.hpp"
#include "cuda/simt/formats.hpp"

namespace lazy::test {

/// The emulated device, and the GPU if there is one.
inline std::vector<LazyDevice> devices_here() {
  std::vector<LazyDevice> devices{LAZY_EMULATED};
  try {
    device_name(LAZY_CUDA);
    devices.push_back(LAZY_CUDA);
  } catch (const std::exception&) {
  }
  return devices;
}

/// Numbers nobody has written.
template <class T>
std::vector<T> nans(std::size_t size) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return std::vector<T>(size, T{0x7FFF});
  else
    return std::vector<T>(size, std::numeric_limits<T>::quiet_NaN());
}

/// A copy of host numbers, ordered by the model's stream.
template <class T>
class DeviceArray {
 public:
  DeviceArray(LazyDevice device, const std::vector<T>& host)
      : memory_(memory(device)),
        size_(host.size()),
        data_(static_cast<T*>(memory_.allocate(size_ * sizeof(T) + 1))) {
    upload(host);
  }
  ~DeviceArray() { memory_.release(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return data_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

  void upload(const std::vector<T>& host) {
    memory_.upload(data_, host.data(), bytes(), memory_.stream());
  }
  std::vector<T> on_host() const {
    std::vector<T> host(size_);
    memory_.download(host.data(), data_, bytes(), memory_.stream());
    return host;
  }

 private:
  const DeviceMemory& memory_;
  std::size_t size_;
  T* data_;
};

}  // namespace lazy::test
