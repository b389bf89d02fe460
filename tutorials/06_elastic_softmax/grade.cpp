// Grades `elastic_row` against the library and against what the page derives.

#include "tutorials/grade.hpp"

#include <limits>
#include <numeric>

#include "reference/oracle.hpp"
#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;

namespace {

using Row = std::vector<double>;

// Row `visible` of a sequence whose keys are the scores.
Row library(const Row& scores, std::size_t visible, double tau) {
  const Index T = Index(scores.size());
  const Row q(scores.size(), 1.0);
  Row weights(scores.size());
  oracle::attention_weights<double>(
      {.queries = T, .keys = T}, {},
      {.q = q.data(), .k = scores.data(), .v = scores.data(), .tau = &tau}, 0, 0,
      Index(visible) - 1, 1, weights.data());
  return weights;
}

double mass(const Row& weights) {
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(2);
  bool same = true, positive = true, bounded = true, causal = true, softmax = true;
  for (int round = 0; round < 200; ++round) {
    Row scores(2 + random.below(30));
    for (double& s : scores) s = 3 * random.normal();
    const std::size_t n = 1 + random.below(Index(scores.size()));
    const double tau = -2 * random.uniform() - 0.01;
    const Row a = elastic_row(scores, n, tau), expected = library(scores, n, tau);
    const Row up = elastic_row(scores, n, 0.5), plain = elastic_row(scores, n, 0);
    for (std::size_t j = 0; j < scores.size(); ++j) {
      // On the kink, as in a row of one key near tau = -1, a last bit decides.
      same = same && std::abs(a.at(j) - expected[j]) < 1e-12;
      positive = positive && a[j] >= 0;
      causal = causal && (j < n || (a[j] == 0 && up.at(j) == 0));
      softmax = softmax && std::abs(plain.at(j) - library(scores, n, 0)[j]) < 1e-12;
    }
    bounded = bounded && mass(a) >= std::max(0.0, 1 + tau) - 1e-9 &&
              mass(a) <= std::max(0.0, 1 + tau / double(n)) + 1e-9;
  }
  grade.check(softmax, "tau = 0: softmax over the visible keys",
              "the future has no share in the sum");
  grade.check(positive, "no weight is negative", "max(P + tau / n, 0)");
  grade.check(bounded, "max(0, 1 + tau) <= mass <= max(0, 1 + tau / n)",
              "n counts the visible keys, and nothing is renormalized");
  grade.check(causal, "the future has weight 0, also with tau = 0.5",
              "P + tau / n of a future key is tau / n: mask the weights, not only the scores");
  grade.check(same, "two hundred random rows, as the library computes them",
              "compute P with exp(s - lse), then add tau / n");
  const Row dead = elastic_row({0.3, 0.3, 0.3, 0.3}, 4, -1.1);
  grade.check(mass(dead) == 0, "four identical keys at tau = -1.1: exactly nothing",
              "P is 1/4 for each, tau / n is below -1/4");
  const Row nan = elastic_row({0, std::numeric_limits<double>::quiet_NaN(), 1}, 3, -1);
  grade.check(std::isnan(mass(nan)), "a NaN score is not dead: it shows",
              "std::max(z, 0.) and std::max(0., z) differ for NaN: write z <= 0 ? 0 : z");
  return grade.result();
}
