// What the card can do at best, unit by unit: tensor cores through mma.sync, exponentials,
// multiply-adds and shared memory, each from registers alone. Prints one JSON object. Copies and
// cuBLAS are measured from Python.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int threads = 256, steps = 4096, chains = 8;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "ceilings: %s: %s; is a GPU there (nvidia-smi)?\n", what,
               cudaGetErrorString(error));
  std::exit(2);
}

__global__ void products(float* out) {
  float c[chains][4] = {};
  const std::uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {threadIdx.x * 3, 5};
  for (int i = 0; i < steps; ++i)
#pragma unroll
    for (int k = 0; k < chains; ++k)
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, "
          "{%0,%1,%2,%3};"
          : "+f"(c[k][0]), "+f"(c[k][1]), "+f"(c[k][2]), "+f"(c[k][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  float sum = 0;
  for (int k = 0; k < chains; ++k) sum += c[k][0] + c[k][1] + c[k][2] + c[k][3];
  out[blockIdx.x * threads + threadIdx.x] = sum;
}

__global__ void exponentials(float* out) {
  float x[chains];
  for (int k = 0; k < chains; ++k) x[k] = 1e-3f * (threadIdx.x + k);
  for (int i = 0; i < steps; ++i)
#pragma unroll
    for (int k = 0; k < chains; ++k) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[k]));
  float sum = 0;
  for (int k = 0; k < chains; ++k) sum += x[k];
  out[blockIdx.x * threads + threadIdx.x] = sum;
}

__global__ void multiply_adds(float* out) {
  float x[chains];
  for (int k = 0; k < chains; ++k) x[k] = 1e-3f * (threadIdx.x + k);
  for (int i = 0; i < steps; ++i)
#pragma unroll
    for (int k = 0; k < chains; ++k)
      asm volatile("fma.rn.f32 %0, %0, %1, %1;" : "+f"(x[k]) : "f"(0.999f));
  float sum = 0;
  for (int k = 0; k < chains; ++k) sum += x[k];
  out[blockIdx.x * threads + threadIdx.x] = sum;
}

__global__ void shared_reads(float* out) {
  __shared__ float4 memory[threads];
  memory[threadIdx.x] = make_float4(threadIdx.x, 1, 2, 3);
  __syncthreads();
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(memory + threadIdx.x));
  float sum = 0;
  for (int i = 0; i < steps; ++i)
#pragma unroll
    for (int k = 0; k < chains; ++k) {
      float4 x;
      asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                   : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                   : "r"(at));
      sum += x.x;
    }
  out[blockIdx.x * threads + threadIdx.x] = sum;
}

// `amount` of whatever one block does in one launch; the best of several tries, per second.
double rate(void (*kernel)(float*), int blocks, float* out, double amount) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "making an event");
  check(cudaEventCreate(&end), "making an event");
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    check(cudaEventRecord(start), "recording an event");
    kernel<<<blocks, threads>>>(out);
    check(cudaGetLastError(), "a launch");
    check(cudaEventRecord(end), "recording an event");
    check(cudaEventSynchronize(end), "a kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, end), "reading a time");
    times.push_back(ms);
  }
  return amount * blocks / (*std::min_element(times.begin(), times.end()) * 1e-3);
}

}  // namespace

int main() {
  cudaDeviceProp card;
  check(cudaGetDeviceProperties(&card, 0), "asking for the card");
  const int blocks = card.multiProcessorCount * 8;
  float* out = nullptr;
  check(cudaMalloc(&out, sizeof(float) * blocks * threads), "allocating");
  const double calls = double(steps) * chains * threads;
  std::printf(
      "{\"card\": \"%s\", \"architecture\": \"sm_%d%d\", \"multiprocessors\": %d, "
      "\"shared_bytes_per_block\": %zu,\n \"mma_sync_bf16_tflops\": %.1f, "
      "\"exponentials_per_second\": %.4g, "
      "\"fp32_tflops\": %.1f, \"shared_read_gb_per_second\": %.0f}\n",
      card.name, card.major, card.minor, card.multiProcessorCount, card.sharedMemPerBlockOptin,
      rate(products, blocks, out, calls / 32 * 2 * 16 * 8 * 16) * 1e-12,
      rate(exponentials, blocks, out, calls), rate(multiply_adds, blocks, out, calls * 2) * 1e-12,
      rate(shared_reads, blocks, out, calls * 16) * 1e-9);
  check(cudaFree(out), "freeing");
}
