#include "apps/peak.hpp"

#include <omp.h>

#include <algorithm>

#include "apps/stopwatch.hpp"

namespace lazy {
namespace {

#if defined(__AVX512F__)
constexpr int width = 64, accumulators = 24;
#elif defined(__AVX__)
constexpr int width = 32, accumulators = 12;  // of 16 registers
#else
constexpr int width = 16, accumulators = 12;
#endif
typedef float Vector __attribute__((vector_size(width)));

constexpr long rounds_per_try = 2'000'000;
constexpr int tries = 60;
constexpr double flop_per_try =
    2.0 * accumulators * (width / sizeof(float)) * double(rounds_per_try);

// Independent chains x = a x + b, more than latency times throughput of any processor so far.
__attribute__((noinline)) float multiply_add(float start) {
  const Vector a = Vector{} + 0.5f, b = Vector{} + start;  // x goes to 2 start: never denormal
  Vector x[accumulators];
#pragma GCC unroll 24
  for (int i = 0; i < accumulators; ++i) x[i] = b + float(i);
  for (long round = 0; round < rounds_per_try; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; ++i) x[i] = a * x[i] + b;
  }
  Vector sum = x[0];
  for (int i = 1; i < accumulators; ++i) sum += x[i];
  return sum[0];
}

}  // namespace

int vector_bytes() {
  return width;
}

double fma_peak(int threads) {
  double best = 0, used = 0;
  for (int i = 0; i < tries; ++i) {
    Stopwatch watch;
#pragma omp parallel num_threads(threads) reduction(+ : used)
    used += multiply_add(float(1 + i));
    best = std::max(best, threads * flop_per_try / watch.seconds());
  }
  return used > 0 ? best : 0;  // reads the sums, or nothing would be computed
}

}  // namespace lazy
