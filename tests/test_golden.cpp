// The oracle against answers of an independent float64 program (tests/golden/README.md).

#include "reference/rope.hpp"
#include "tests/golden_cases.hpp"

using namespace lazy;
using namespace lazy::test;

TEST_CASE("every implementation reproduces every golden case", "[golden]") {
  const auto& how = each_implementation<double>();
  const int cases = for_each_golden_case([&](const GoldenCase& c) {
    INFO(how.name);
    Answer<double> got = attention(how, c.problem);
    if (!c.has("weights")) got.weights = c.answer.weights;
    check_same(got, c.answer, score_budget(largest_score(c.problem)));
  });
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
