#pragma once
// The backend (reference/backend.hpp) of the kernels. Other formats and streams of the attention go
// through lazy_attention.h; tensors in host memory through kernel_attention.hpp.

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/lazy_attention.h"
#include "cuda/recording.hpp"
#include "cuda/simt/formats.hpp"
#include "reference/backend.hpp"

namespace lazy {

/// `device` LAZY_CUDA, or LAZY_EMULATED: the same kernels on the CPU, thread by thread. A is the
/// type of what lies between two matrix products, float or BFloat16; parameters are float. Calls
/// are made on memory(device).stream() and do not wait for the GPU, but for `download`,
/// `attention_weights` and `attention_statistics`. Everything throws std::invalid_argument for what
/// is refused (see lazy_attention.h) and std::runtime_error if the device fails or is not there.
template <LazyDevice device, class A>
struct KernelBackend {
  template <class>
  using Activation = A;

  /// An array on the device; it can be moved, not copied.
  template <class T>
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer other) noexcept {
      swap(other);
      return *this;
    }
    ~Buffer() { release(data_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return static_cast<std::size_t>(size_); }

   private:
    friend KernelBackend;
    T* data_ = nullptr;
    Index size_ = 0, capacity_ = 0;

    void swap(Buffer& other) noexcept {
      std::swap(data_, other.data_);
      std::swap(size_, other.size_);
      std::swap(capacity_, other.capacity_);
    }
  };

  template <class>
  struct Rope {
    Buffer<float> pairs;  // [positions, D/2, 2]
  };
  /// What the attention's forward leaves for its backward.
  struct AttentionMemory {
    Buffer<float> live_sums;  // see lazy_attention.h
    Buffer<char> live_tiles;
  };
  struct Recording {
    Index key = -1, allocations = -1;  // of the last call that was not replayed
    lazy::Recording graph;
  };

  /// Keeps nothing: entries are unspecified. Memory is taken when the buffer grows and given back
  /// when it goes.
  template <class T>
  static void resize(Buffer<T>& buffer, Index size) {
    if (size > buffer.capacity_ || !buffer.data_) {
      buffer = {};
      buffer.data_ = static_cast<T*>(allocate(static_cast<std::size_t>(size) * sizeof(T)));
      buffer.capacity_ = size;
    }
    buffer.size_ = size;
  }
  template <class T>
  static void zero(T* x, Index size) {
    zero_bytes(x, static_cast<std::size_t>(size) * sizeof(T));
  }
  template <class T>
  static void upload(T* to, const T* host, Index size) {
    upload_bytes(to, host, static_cast<std::size_t>(size) * sizeof(T));
  }
  /// Waits for what was asked before.
  template <class T>
  static void download(T* host, const T* from, Index size) {
    download_bytes(host, from, static_cast<std::size_t>(size) * sizeof(T));
  }
  static void download(float* host, const BFloat16* from, Index size) {
    std::vector<BFloat16> narrow(size);
    download(narrow.data(), from, size);
    for (Index i = 0; i < size; ++i) host[i] = to_float(narrow[i]);
  }
  static void round(A* to, const float* from, Index size);

  static void embedding_forward(float* x, const float* table, const int* tokens, Index N, Index C,
                                Index V);
  static void embedding_backward(float* dtable, const float* dx, const int* tokens,
                                 const int* order, Index N, Index C, Index V);
  static void rmsnorm_forward(A* out, float* rstd, const float* x, const float* weight, Index N,
                              Index C, double epsilon);
  static void rmsnorm_backward(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                               const float* weight, const float* rstd, Index N, Index C);
  static void linear_forward(A* out, const A* x, const A* weight, Index N, Index In, Index Out);
  static void linear_add_forward(float* out, const float* base, const A* x, const A* weight,
                                 Index N, Index In, Index Out);
  static void linear_backward(A* dx, float* dweight, const A* dout, const A* x, const A* weight,
                              Index N, Index In, Index Out);
  static void swiglu_forward(A* out, const A* gate_up, Index N, Index F);
  static void swiglu_backward(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F);
  static void cross_entropy(float* losses, A* dlogits, const A* logits, const int* targets, Index N,
                            Index V, const StepInputs* inputs);

  template <class>
  static Rope<float> make_rope(Index positions, Index head_dim, double base) {
    return rope_pairs(positions, head_dim, base);
  }
  static void split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& split,
                          const Rope<float>* rope, const Index* past);
  static void join_heads(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& split,
                         const Rope<float>* rope);

  /// Makes the calling thread's workspace large enough for `shape`. A call does so itself; after
  /// this it allocates nothing.
  static void reserve(const AttentionShape& shape);
  /// Bytes that a training step takes beside the model's own arrays.
  struct StepBytes {
    std::size_t attention_memory;  // of each layer
    std::size_t workspace;         // of all of them
  };
  static StepBytes step_bytes(const AttentionShape& shape, Index C, Index parameters);
  /// As tiled::attention_forward, of the rules elastic and softmax. `memory` null: there will be no
  /// backward; one query a sequence is then answered by the kernels of decoding, if they compute D.
  static void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<A, float>& in,
                                const AttentionOutputs<A, float>& out, AttentionMemory* memory);
  /// As tiled::attention_backward; `memory` as the forward left it.
  static void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                                 const AttentionInputs<A, float>& in,
                                 const AttentionOutputs<A, float>& forward, AttentionMemory* memory,
                                 const A* dout, const AttentionGrads<A, float>& grads);
  /// As tiled::attention_weights, with the live set of the two above.
  static void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<A, float>& in,
                                const AttentionOutputs<A, float>& forward, Index b, Index head,
                                Index first_row, Index rows, float* weights);
  /// As attention_statistics.hpp, of these weights: those of `rows_at_once` rows of one head lie on
  /// the device at a time, in the workspace, and none is copied.
  static void attention_statistics(const AttentionShape& shape, const AttentionRule& rule,
                                   const AttentionInputs<A, float>& in,
                                   const AttentionOutputs<A, float>& forward, RowStatistics* rows,
                                   std::uint32_t* live_tiles, Index rows_at_once = 1024);

  static void measure_step(StepOutputs* outputs, const float* losses, Index N,
                           const float* gradients, Index size, const StepInputs* inputs);
  static void adamw_step(float* parameters, A* rounded, float* first_moment, float* second_moment,
                         const float* gradients, const UpdatePiece* pieces, Index count,
                         const UpdateRule& rule, const StepInputs* inputs,
                         const StepOutputs* outputs);

  /// The first call with a key runs `enqueue`, the second records it, later ones replay that; all
  /// begins anew if memory was taken or given back in between: arrays may have moved.
  template <class F>
  static void run(Recording& recording, Index key, F&& enqueue) {
    if (recording.key == key && recording.allocations == allocations()) {
      if (!recording.graph) recording.graph = lazy::Recording(device, enqueue);
      recording.graph.launch();
      return;
    }
    recording = {};
    enqueue();
    recording.key = key;
    recording.allocations = allocations();
  }

 private:
  static void* allocate(std::size_t bytes);
  static Index allocations();  // so far, and releases
  static void release(void* data);
  static void upload_bytes(void* to, const void* host, std::size_t bytes);
  static void download_bytes(void* host, const void* from, std::size_t bytes);
  static void zero_bytes(void* data, std::size_t bytes);
  static void* workspace(std::size_t bytes);
  static Rope<float> rope_pairs(Index positions, Index head_dim, double base);
};

using CudaBackend = KernelBackend<LAZY_CUDA, float>;
using CudaBFloat16Backend = KernelBackend<LAZY_CUDA, BFloat16>;
using EmulatedBackend = KernelBackend<LAZY_EMULATED, float>;
using EmulatedBFloat16Backend = KernelBackend<LAZY_EMULATED, BFloat16>;

}  // namespace lazy
