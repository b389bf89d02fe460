// Grades `effective_keys` against the library's diagnostics and `score_for` against its softmax.

#include "tutorials/grade.hpp"

#include <array>
#include <cmath>
#include <vector>

#include "reference/diagnostics.hpp"
#include "reference/oracle.hpp"
#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;

namespace {

double library_effective_keys(const std::vector<double>& weights) {
  const std::array<Index, 1> visible{Index(weights.size())};
  return summarize(head_statistics<double>({weights, visible, visible[0]})).effective_keys;
}

double library_share(double score, std::size_t n) {
  std::vector<double> scores(n, 0.0), weights(n);
  scores.back() = score;
  const double q = 1;
  oracle::attention_weights<double>({.queries = 1, .keys = Index(n)}, {Normalizer::softmax},
                                    {.q = &q, .k = scores.data(), .v = scores.data()}, 0, 0, 0, 1,
                                    weights.data());
  return weights.back();
}

bool near(double a, double b) {
  return std::abs(a - b) <= 1e-9 * (1 + std::abs(b));
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(8);
  bool random_rows = true, shares = true;
  for (int round = 0; round < 100; ++round) {
    std::vector<double> weights(2 + random.below(40));
    for (double& a : weights) a = std::max(random.normal(), 0.0);
    weights[0] = 0.1;
    random_rows = random_rows && near(effective_keys(weights), library_effective_keys(weights));
  }
  for (const std::size_t n : {2, 10, 1000, 100'000})
    for (const double share : {0.01, 0.5, 0.99})
      shares = shares && near(library_share(score_for(share, n), n), share);
  grade.check(near(effective_keys({0.2, 0.2, 0.2, 0.2}), 4), "four equal weights: 4 keys",
              "divide by the sum of the weights, 0.8");
  grade.check(near(effective_keys({0, 0.3, 0}), 1), "one live weight: 1 key",
              "0 log 0 is 0, not NaN: leave zeros out");
  grade.check(random_rows, "a hundred random rows, as the library measures them",
              "exp(-sum p log p) with p = a / sum a");
  grade.check(shares, "the score for a share, up to 100,000 keys",
              "solve share = e^s / (e^s + n - 1) for s");
  return grade.result();
}
