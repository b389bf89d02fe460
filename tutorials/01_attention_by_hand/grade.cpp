// Grades `attend` against the library and against what must be true of any softmax.

#include "tutorials/grade.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/oracle.hpp"
#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;

namespace {

bool near(double a, double b) {
  return std::abs(a - b) <= 1e-9 * (1 + std::abs(b));
}

// A query of 1 and keys of the scores' size: head_dim 1 makes q.k / sqrt(D) the score itself.
double library(const std::vector<double>& scores, const std::vector<double>& values) {
  const Index n = Index(scores.size());
  const AttentionShape shape{.queries = 1, .keys = n};
  const double q = 1;
  double out = 0, lse = 0;
  oracle::attention_forward<double>(shape, {Normalizer::softmax},
                                    {.q = &q, .k = scores.data(), .v = values.data()},
                                    {&out, &lse});
  return out;
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(1);
  bool same = true, shifted = true, between = true;
  for (int round = 0; round < 100; ++round) {
    std::vector<double> s(1 + random.below(20)), v(s.size()), s_up;
    for (double& x : s) x = 3 * random.normal();
    for (double& x : v) x = random.normal();
    for (const double x : s) s_up.push_back(x + 7);
    const double out = attend(s, v);
    same = same && near(out, library(s, v));
    shifted = shifted && near(attend(s_up, v), library(s, v));
    between = between && out <= *std::max_element(v.begin(), v.end()) + 1e-9 &&
              out >= *std::min_element(v.begin(), v.end()) - 1e-9;
  }
  grade.check(near(attend({5}, {-2}), -2), "one key: its value", "softmax over one key is 1");
  grade.check(near(attend({1, 1, 1}, {1, 2, 6}), 3), "equal scores: the mean",
              "equal scores have equal weights");
  grade.check(same, "a hundred random rows, as the library computes them",
              "weight j is exp(s_j) / sum over k of exp(s_k)");
  grade.check(shifted, "adding 7 to every score changes nothing",
              "exp(s + 7) = exp(7) exp(s): the factor cancels");
  grade.check(between, "the output lies between the smallest and the largest value",
              "weights are not negative and sum to 1");
  grade.check(near(attend({1e6, 1e6, -1e6}, {2, 4, 100}), 3), "scores of a million",
              "exp(1e6) is infinite: subtract the largest score first");
  return grade.result();
}
