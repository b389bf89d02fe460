#pragma once
// The words of simt.hpp under nvcc: a pointer is a pointer, a word one or two instructions.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/runtime/check.hpp"
#include "cuda/simt/formats.hpp"

namespace lazy::cuda {

inline constexpr int warp_size = 32;

struct Dim {
  int x = 1, y = 1, z = 1;
};

__device__ inline int thread_index() {
  return static_cast<int>(threadIdx.x);
}
__device__ inline Dim block_index() {
  return {int(blockIdx.x), int(blockIdx.y), int(blockIdx.z)};
}
__device__ inline Dim grid_size() {
  return {int(gridDim.x), int(gridDim.y), int(gridDim.z)};
}

__device__ inline void barrier() {
  __syncthreads();
}
__device__ inline void warp_barrier() {
  __syncwarp();
}

// ---- Memory.

template <class T>
using Global = T*;
template <class T>
using Shared = T*;

template <class T>
constexpr std::size_t shared_bytes_for(std::size_t count) {
  return (count * sizeof(T) + 15) / 16 * 16;
}

extern __shared__ __align__(128) unsigned char block_memory[];

class SharedMemory {
 public:
  template <class T>
  __device__ Shared<T> take(int count) {
    T* array = reinterpret_cast<T*>(next_);
    next_ += shared_bytes_for<T>(count);
    return array;
  }

 private:
  unsigned char* next_ = block_memory;
};

namespace detail {

template <std::size_t bytes>
struct Register;  // what one access moves
template <>
struct Register<2> {
  using Type = std::uint16_t;
};
template <>
struct Register<4> {
  using Type = std::uint32_t;
};
template <>
struct Register<8> {
  using Type = uint2;
};
template <>
struct Register<16> {
  using Type = uint4;
};

}  // namespace detail

template <int n, class T>
__device__ Floats<n> load(T* from, std::int64_t at) {
  using Register = typename detail::Register<n * sizeof(T)>::Type;
  const Register moved = *reinterpret_cast<const Register*>(from + at);
  std::remove_const_t<T> numbers[n];
  memcpy(numbers, &moved, sizeof moved);
  Floats<n> result;
  for (int i = 0; i < n; ++i) result[i] = to_float(numbers[i]);
  return result;
}

template <class T>
__device__ std::uint32_t pack(float low, float high);

template <int n, class T>
__device__ void store(T* to, std::int64_t at, const Floats<n>& floats) {
  using Register = typename detail::Register<n * sizeof(T)>::Type;
  Register moved;
  if constexpr (sizeof(T) == 2 && n > 1) {
    std::uint32_t pairs[n / 2];
    for (int i = 0; i < n / 2; ++i) pairs[i] = pack<T>(floats[2 * i], floats[2 * i + 1]);
    memcpy(&moved, pairs, sizeof moved);
  } else {
    T numbers[n];
    for (int i = 0; i < n; ++i) numbers[i] = from_float<T>(floats[i]);
    memcpy(&moved, numbers, sizeof moved);
  }
  *reinterpret_cast<Register*>(to + at) = moved;
}

/// Marked as read once: the caches drop it first.
template <class T>
__device__ Piece load_piece(Global<const T> from, std::int64_t at) {
  const uint4 piece = __ldcs(reinterpret_cast<const uint4*>(from + at));
  return {{piece.x, piece.y, piece.z, piece.w}};
}

template <class T>
__device__ Floats<16 / sizeof(T)> unpack(const Piece& piece) {
  Floats<16 / sizeof(T)> numbers;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t word = piece.words[i];
    if constexpr (sizeof(T) == 4) {
      numbers[i] = __uint_as_float(word);
    } else if constexpr (std::is_same_v<T, BFloat16>) {
      numbers[2 * i] = __uint_as_float(word << 16);
      numbers[2 * i + 1] = __uint_as_float(word & 0xFFFF0000);
    } else {
      __half2 two;
      memcpy(&two, &word, sizeof two);
      numbers[2 * i] = __low2float(two);
      numbers[2 * i + 1] = __high2float(two);
    }
  }
  return numbers;
}

// ---- Between the lanes of a warp.

inline constexpr unsigned all_lanes = 0xFFFFFFFF;

template <class T>
__device__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(all_lanes, value, mask);
}
template <class T>
__device__ T shuffle_down(T value, int lanes) {
  return __shfl_down_sync(all_lanes, value, lanes);
}
__device__ inline bool any(bool value) {
  return __any_sync(all_lanes, value);
}
__device__ inline std::uint32_t ballot(bool value) {
  return __ballot_sync(all_lanes, value);
}

// ---- Asynchronous copies (sm_80 and newer).

/// In 32 bits, element `at` apart, so that a constant in it ends up in the instruction.
template <class T>
__device__ std::uint32_t shared_address(const T* array, int at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(array)) + at * sizeof(T);
}

template <class T>
__device__ void copy_async(Shared<T> to, int at, Global<const T> from, bool valid) {
  const int bytes_read = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to, at)),
               "l"(from), "r"(bytes_read)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int groups_left>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(groups_left) : "memory");
}

// ---- Tensor cores (sm_80 and newer).

template <class T>
__device__ void load_matrices(std::uint32_t (&to)[4], Shared<T> array, int at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(array, at))
               : "memory");
}
template <class T>
__device__ void load_matrices_transposed(std::uint32_t (&to)[4], Shared<T> array, int at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(array, at))
               : "memory");
}

template <class T>
__device__ void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                             std::uint32_t b1) {
  if constexpr (std::is_same_v<T, BFloat16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T>
__device__ std::uint32_t pack(float low, float high) {
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, BFloat16>) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    static_assert(sizeof two == sizeof pair);
    memcpy(&pair, &two, sizeof pair);
  } else {
    const __half2 two = __floats2half2_rn(low, high);
    static_assert(sizeof two == sizeof pair);
    memcpy(&pair, &two, sizeof pair);
  }
  return pair;
}

// ---- Arithmetic. Compiled with -fmad=false: only fma is fused.

__device__ inline float fma(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ inline float larger(float a, float b) {
  return ::fmaxf(a, b);
}
__device__ inline std::uint32_t bits_of(float x) {
  return __float_as_uint(x);
}
__device__ inline int count_ones(std::uint32_t bits) {
  return __popc(bits);
}
__device__ inline float sqrt(float x) {
  return __fsqrt_rn(x);
}
__device__ inline double sqrt(double x) {
  return ::sqrt(x);
}
__device__ inline float exp(float x) {
  return ::expf(x);
}
__device__ inline float log(float x) {
  return ::logf(x);
}
__device__ inline double log(double x) {
  return ::log(x);
}
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float log2_fast(float x) {
  float y;
  asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- The host's words.

using Stream = cudaStream_t;

struct Launch {
  const char* name;
  Dim grid;
  int threads = warp_size;
  std::size_t shared_bytes = 0;
  Stream stream = nullptr;
};

template <class T>
T* view(T* data, std::int64_t) {
  return data;
}

template <class Arguments>
void launch(const Launch& how, void (*kernel)(Arguments),
            const std::type_identity_t<Arguments>& arguments,
            std::source_location where = std::source_location::current()) {
  constexpr std::size_t without_asking = 48 * 1024;
  if (how.shared_bytes > without_asking)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(how.shared_bytes)),
          std::string(how.name) + " with " + std::to_string(how.shared_bytes) +
              " bytes of shared memory",
          where);
  const dim3 grid(how.grid.x, how.grid.y, how.grid.z);
  kernel<<<grid, how.threads, how.shared_bytes, how.stream>>>(arguments);
  check(cudaGetLastError(), how.name, where);
}

}  // namespace lazy::cuda
