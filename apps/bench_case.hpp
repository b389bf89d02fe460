#pragma once
// The attention calls that `lazy bench` times, and the arithmetic they owe.

#include <string>
#include <vector>

#include "reference/attention_types.hpp"
#include "reference/cpu_backend.hpp"

namespace lazy {

struct BenchCase {
  std::string name;      // as --cases takes it, also a folder's name
  AttentionShape shape;  // queries = keys, heads = kv_heads
  bool local = false;    // bias 8 exp(-d/64) and q halved: nearly all weight on near keys
};

/// T4096, T1024, T256, local; `quick`: dense and local cases that take milliseconds.
std::vector<BenchCase> bench_cases(bool quick);

/// "B 1, T 4096, H 8, D 64, W 512, dense".
std::string describe(const BenchCase& bench_case);

/// The same call with dense data.
BenchCase dense(BenchCase bench_case);

/// Layouts as in AttentionInputs, memory aligned as the trainer's.
template <class T>
struct BenchProblem {
  CpuBackend::Buffer<T> q, k, v, bias, tau, dout;

  AttentionInputs<T> inputs() const {
    return {.q = q.data(), .k = k.data(), .v = v.data(), .bias = bias.data(), .tau = tau.data()};
  }
};

/// The seeded random inputs of a case; tau = -1 in every head.
BenchProblem<float> make_bench_problem(const BenchCase& bench_case);

/// Flop of one causal matrix product, 2 D T(T+1)/2 B H: the forward owes two of them, the backward
/// five, whatever a program really executes.
double product_flop(const AttentionShape& shape);
inline constexpr double forward_products = 2, both_products = 7;

}  // namespace lazy
