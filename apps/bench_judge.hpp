#pragma once
// Validate, then time: what is wrong is not worth timing. An implementation in float is held to
// what the oracle in float achieves on the same input, both measured against the oracle in double.

#include <string>
#include <vector>

#include "apps/bench_case.hpp"
#include "apps/implementations.hpp"

namespace lazy {

/// What forward and backward answer; layouts as in AttentionOutputs and AttentionGrads.
template <class T>
struct BenchAnswer {
  CpuBackend::Buffer<T> out, lse, dq, dk, dv, dbias, dtau;

  AttentionOutputs<T> outputs() { return {out.data(), lse.data()}; }
  AttentionGrads<T> grads() {
    return {dq.data(), dk.data(), dv.data(), dbias.data(), dtau.data(), nullptr};
  }
};

/// Outputs full of NaN, so that what is never written cannot pass; gradients zero.
template <class T>
BenchAnswer<T> blank_answer(const AttentionShape& shape);

struct TensorError {
  const char* name;
  double error;   // max |x - y| / max |y|; infinite if one of them is not finite
  double budget;  // largest error that passes
};
using Verdict = std::vector<TensorError>;

/// True if no error exceeds its budget.
bool passes(const Verdict& verdict);
/// The tensor that comes closest to its budget, or exceeds it most.
const TensorError& worst(const Verdict& verdict);
/// Every tensor beyond its budget: "dq errs by 1.2e-04, allowed are 3.4e-06; ...".
std::string failures(const Verdict& verdict);

/// Runs `implementation` forward and backward. Values may err twice as much as the oracle in float,
/// gradients three times, plus one rounding. Gradients jump where a weight changes between dead and
/// live: all three are compared at the implementation's own choice, which its weights, judged like
/// its values, tell.
Verdict judge(const AttentionShape& shape, const AttentionRule& rule,
              const BenchProblem<float>& problem, const Implementation<float>& implementation);

/// The oracle's answer in double.
BenchAnswer<double> exact_answer(const AttentionShape& shape, const AttentionRule& rule,
                                 const BenchProblem<float>& problem);

/// Whether another program computes the same function at all: every tensor of `answer` that is not
/// empty within 1 % of the exact one. (It chooses for itself which weights are live.)
Verdict judge_peer(const BenchAnswer<float>& answer, const BenchAnswer<double>& exact);

}  // namespace lazy
