// The oracle against answers of an independent float64 program (tests/golden/README.md).

#include <filesystem>

#include "apps/safetensors.hpp"
#include "reference/rope.hpp"
#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

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

GoldenCase read_case(const std::filesystem::path& path) {
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

}  // namespace

TEST_CASE("every implementation reproduces every golden case", "[golden]") {
  const auto& how = each_implementation<double>();
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_DIR)) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(how.name << ": " << entry.path().filename().string());
    const GoldenCase c = read_case(entry.path());
    Answer<double> got = attention(how, c.problem);
    if (!c.has("weights")) got.weights = c.answer.weights;
    check_same(got, c.answer, score_budget(largest_score(c.problem)));
    ++cases;
  }
  CHECK(cases >= 12);
}

TEST_CASE("RoPE reproduces the golden rotation and its gradients", "[golden][rope]") {
  const GoldenCase c = read_case(std::filesystem::path(GOLDEN_DIR) / "rope.safetensors");
  const AttentionShape& s = c.problem.shape;
  const auto table = make_rope_table<double>(s.keys, s.head_dim, c.tensor("rope_base")[0]);
  const auto check = [&](auto turn, const char* from, const char* to, Index rows, Index heads) {
    std::vector<double> x = c.tensor(from);
    turn(x.data(), table, rows, heads, 0);  // one sequence, from position 0
    INFO(from << " to " << to);
    check_near(x, c.tensor(to));
  };
  REQUIRE(s.batch == 1);
  check(rope_forward<double>, "q_raw", "q", s.queries, s.heads);
  check(rope_forward<double>, "k_raw", "k", s.keys, s.kv_heads);
  check(rope_backward<double>, "d_q", "d_q_raw", s.queries, s.heads);
  check(rope_backward<double>, "d_k", "d_k_raw", s.keys, s.kv_heads);
}
