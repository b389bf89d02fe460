// Whether a sum of products has the same bits as its transpose: v2's forward computes scores as
// mma(Q, K), its key gradients as mma(K, Q), and reads from both who is alive. PTX promises nothing
// of the order in which an instruction adds. Prints one JSON object: of how many entries the bits
// differ, for each format and length of the sum.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "cuda/simt/simt.hpp"

namespace {

constexpr int tiles = 8192, side = 16;  // a warp, a tile of side x side entries

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "transposed_products: %s: %s; is a GPU there (nvidia-smi)?\n", what,
               cudaGetErrorString(error));
  std::exit(2);
}

// The library's name of the number format.
template <class T>
using Format = std::conditional_t<std::is_same_v<T, __nv_bfloat16>, lazy::BFloat16, lazy::Float16>;

// Uniform in [0, 1).
__device__ float random(std::uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return float((x ^ x >> 16) >> 8) * 0x1p-24f;
}

// Of both signs, over six powers of two.
__device__ float operand(std::uint32_t n) {
  return (random(2 * n) - 0.5f) * exp2f(6 * random(2 * n + 1) - 4);
}

// What the sum of entry (row, column) of a tile starts with, as from a bias; 0 in every other tile.
__device__ float start(int tile, int row, int column) {
  return tile % 2 ? 16 * random(0x80000000u + (tile * side + row) * side + column) - 8 : 0;
}

// sums [16, 16] = start + left [16, k] . right [16, k]^T; `turned`: whether rows are columns of
// what is asked for.
template <class T>
__device__ void products(float* sums, const T* left, const T* right, int k, int tile, bool turned) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto pair = [k](const T* rows, int row, int column) {
    return *reinterpret_cast<const std::uint32_t*>(rows + row * k + column);
  };
  for (int n = 0; n < side / 8; ++n) {
    float c[4];
    for (int e = 0; e < 4; ++e) {
      const int row = g + e / 2 * 8, column = 8 * n + 2 * t + e % 2;
      c[e] = turned ? start(tile, column, row) : start(tile, row, column);
    }
    for (int i = 0; i < k; i += 16) {
      const std::uint32_t a[4] = {pair(left, g, i + 2 * t), pair(left, g + 8, i + 2 * t),
                                  pair(left, g, i + 2 * t + 8), pair(left, g + 8, i + 2 * t + 8)};
      lazy::cuda::multiply_add<Format<T>>(c, a, pair(right, 8 * n + g, i + 2 * t),
                                          pair(right, 8 * n + g, i + 2 * t + 8));
    }
    for (int e = 0; e < 4; ++e) sums[(g + e / 2 * 8) * side + 8 * n + 2 * t + e % 2] = c[e];
  }
}

struct Found {
  unsigned differing, wrong;
};

template <class T>
__global__ void compare(int k, Found* found) {
  __shared__ alignas(4) T q[side * 128], keys[side * 128];
  __shared__ float straight[side * side], turned[side * side];
  const int tile = blockIdx.x;
  for (int i = threadIdx.x; i < side * k; i += warpSize) {
    const std::uint32_t n = (tile * side * 128 + i) * 2;
    q[i] = T(operand(n)), keys[i] = T(operand(n + 1));
  }
  __syncwarp();
  products(straight, q, keys, k, tile, false);
  products(turned, keys, q, k, tile, true);
  __syncwarp();
  for (int i = threadIdx.x; i < side * side; i += warpSize) {
    const int row = i / side, column = i % side;
    const float sum = straight[i];
    if (__float_as_uint(sum) != __float_as_uint(turned[column * side + row]))
      atomicAdd(&found->differing, 1);
    double expected = start(tile, row, column), scale = 1;
    for (int j = 0; j < k; ++j) {
      const double product = double(float(q[row * k + j])) * double(float(keys[column * k + j]));
      expected += product, scale += fabs(product);
    }
    if (!(fabs(sum - expected) <= 1e-4 * scale)) atomicAdd(&found->wrong, 1);
  }
}

template <class T>
void report(const char* format, Found* found) {
  for (const int k : {32, 64, 128}) {
    check(cudaMemset(found, 0, sizeof(Found)), "clearing");
    compare<T><<<tiles, 32>>>(k, found);
    check(cudaGetLastError(), "a launch");
    Found host;
    check(cudaMemcpy(&host, found, sizeof host, cudaMemcpyDeviceToHost), "reading what was found");
    if (host.wrong) {
      std::fprintf(stderr, "transposed_products: %u sums are wrong themselves, %s, k %d\n",
                   host.wrong, format, k);
      std::exit(1);
    }
    std::printf(", \"%s, k %d\": %u", format, k, host.differing);
  }
}

}  // namespace

int main() {
  Found* found = nullptr;
  check(cudaMalloc(&found, sizeof(Found)), "allocating");
  std::printf("{\"entries\": %d", tiles * side * side);
  report<__nv_bfloat16>("bfloat16", found);
  report<__half>("float16", found);
  std::printf("}\n");
  check(cudaFree(found), "freeing");
}
