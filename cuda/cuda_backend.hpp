#pragma once
// The attention of a backend (reference/backend.hpp) by the kernels: the CPU's signatures, for
// float tensors that lie where the device can read them. Other formats and streams go through
// lazy_attention.h; tensors in host memory through kernel_attention.hpp.

#include <cstddef>
#include <utility>

#include "cuda/lazy_attention.h"
#include "reference/attention_types.hpp"

namespace lazy {

/// `device` LAZY_CUDA, or LAZY_EMULATED: the same kernels on the CPU, thread by thread. Calls are
/// made on the default stream and do not wait for the GPU. Everything throws std::invalid_argument
/// for what is refused (see lazy_attention.h) and std::runtime_error if the device fails or is not
/// there.
template <LazyDevice device>
struct KernelBackend {
  /// An array on the device; it can be moved, not copied.
  template <class T>
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer other) noexcept {
      std::swap(data_, other.data_);
      std::swap(size_, other.size_);
      return *this;
    }
    ~Buffer() { release(data_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return static_cast<std::size_t>(size_); }

   private:
    friend KernelBackend;
    T* data_ = nullptr;
    Index size_ = 0;
  };

  /// Keeps nothing: entries are unspecified.
  template <class T>
  static void resize(Buffer<T>& buffer, Index size) {
    buffer = {};
    buffer.data_ = static_cast<T*>(allocate(static_cast<std::size_t>(size) * sizeof(T)));
    buffer.size_ = size;
  }
  template <class T>
  static void upload(T* to, const T* host, Index size) {
    upload_bytes(to, host, static_cast<std::size_t>(size) * sizeof(T));
  }
  /// Waits for the kernels.
  template <class T>
  static void download(T* host, const T* from, Index size) {
    download_bytes(host, from, static_cast<std::size_t>(size) * sizeof(T));
  }

  /// Makes the calling thread's workspace large enough for `shape`. A call does so itself; after
  /// this it allocates nothing.
  static void reserve(const AttentionShape& shape);

  /// As tiled::attention_forward, of the rules elastic and softmax.
  static void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<float>& in,
                                const AttentionOutputs<float>& out);
  /// As tiled::attention_backward. Computes every tile: which are dead, only forward knows.
  static void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                                 const AttentionInputs<float>& in,
                                 const AttentionOutputs<float>& forward, const float* dout,
                                 const AttentionGrads<float>& grads);
  /// As tiled::attention_weights, with the live set of the two above.
  static void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<float>& in,
                                const AttentionOutputs<float>& forward, Index b, Index head,
                                Index first_row, Index rows, float* weights);

 private:
  static void* allocate(std::size_t bytes);
  static void release(void* data);
  static void upload_bytes(void* to, const void* host, std::size_t bytes);
  static void download_bytes(void* host, const void* from, std::size_t bytes);
  static void* workspace(std::size_t bytes);
};

using CudaBackend = KernelBackend<LAZY_CUDA>;
using EmulatedBackend = KernelBackend<LAZY_EMULATED>;

}  // namespace lazy
