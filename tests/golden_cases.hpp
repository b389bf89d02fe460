#pragma once
// Golden cases: answers of an independent float64 program (tests/golden/README.md).

#include <filesystem>

#include "apps/safetensors.hpp"
#include "tests/answers.hpp"

namespace lazy::test {

/// One golden file: the problem it poses, the answer it gives, and its other tensors by name.
struct GoldenCase {
  TensorFile file;
  Problem<double> problem;
  Answer<double> answer;

  std::vector<double> tensor(const std::string& name) const {
    return values<double>(name, file.tensors.at(name));
  }
  bool has(const std::string& name) const { return file.tensors.count(name) != 0; }
};

inline GoldenCase read_case(const std::filesystem::path& path) {
  GoldenCase c{read_safetensors(path), {}, {}};
  const auto shape = [&](const char* name) { return c.file.tensors.at(name).shape; };
  Problem<double>& p = c.problem;
  const auto q = shape("q"), k = shape("k");
  p.shape = {q[0], q[1], k[1], q[2], k[2], q[3], shape("bias")[1]};
  p.q = c.tensor("q"), p.k = c.tensor("k"), p.v = c.tensor("v"), p.dout = c.tensor("d_out");
  p.bias = c.tensor("bias"), p.tau = c.tensor("tau");
  p.sink.assign(p.tau.size(), 0.0);
  p.lengths = values<Index>("lengths", c.file.tensors.at("lengths"));
  c.answer = blank_answer(p);
  c.answer.out = c.tensor("out"), c.answer.lse = c.tensor("lse");
  if (c.has("weights")) c.answer.weights = c.tensor("weights");
  c.answer.dq = c.tensor("d_q"), c.answer.dk = c.tensor("d_k"), c.answer.dv = c.tensor("d_v");
  c.answer.dbias = c.tensor("d_bias"), c.answer.dtau = c.tensor("d_tau");
  return c;
}

/// Calls f with every golden case; returns how many there are.
template <class F>
int for_each_golden_case(F&& f) {
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_DIR)) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(entry.path().filename().string());
    f(read_case(entry.path()));
    ++cases;
  }
  return cases;
}

}  // namespace lazy::test
