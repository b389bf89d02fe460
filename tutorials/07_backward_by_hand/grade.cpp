// Grades `row_backward` against the library.

#include "tutorials/grade.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
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

using Row = std::vector<double>;

// With one query of 1 and D = 1 the keys are the scores, so dk is dS; with dout = 1 the products
// dO . V_j are the values.
struct Case {
  Row P, A, V;
  RowGradient expected;
};

Case make_case(Random& random, double tau) {
  const Index n = 2 + random.below(20);
  Row scores(n);
  Case x{.P = Row(n), .A = Row(n), .V = Row(n), .expected = {Row(n), 0}};
  for (double& s : scores) s = 1.5 * random.normal();
  for (double& v : x.V) v = random.normal();
  const double q = 1, dout = 1;
  const AttentionShape shape{.queries = 1, .keys = n};
  const AttentionInputs<double> in{.q = &q, .k = scores.data(), .v = x.V.data(), .tau = &tau};
  oracle::attention_weights(shape, {Normalizer::softmax}, in, 0, 0, 0, 1, x.P.data());
  oracle::attention_weights(shape, {}, in, 0, 0, 0, 1, x.A.data());
  double dq = 0;
  Row dv(n);
  oracle::attention_backward(
      shape, {}, in, &dout,
      {.dq = &dq, .dk = x.expected.dS.data(), .dv = dv.data(), .dtau = &x.expected.dtau});
  return x;
}

bool near(double a, double b) {
  return std::abs(a - b) < 1e-10;
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(4);
  bool softmax = true, live = true, dead = true, sums = true, dtau = true;
  for (int round = 0; round < 200; ++round) {
    for (const double tau : {0.0, -1.0}) {
      const Case x = make_case(random, tau);
      const RowGradient g = row_backward(x.P, x.A, x.V);
      for (std::size_t j = 0; j < x.P.size(); ++j) {
        const bool right = near(g.dS.at(j), x.expected.dS[j]);
        bool& what = tau == 0 ? softmax : x.A[j] > 0 ? live : dead;
        what = what && right;
      }
      sums = sums && near(std::accumulate(g.dS.begin(), g.dS.end(), 0.0), 0);
      dtau = dtau && near(g.dtau, x.expected.dtau);
    }
  }
  grade.check(softmax, "tau = 0: the gradient of softmax", "dS = P (dA - delta)");
  grade.check(live, "tau = -1: dS of the live entries",
              "delta = sum over live entries of P dA, not of A dA");
  grade.check(dead, "tau = -1: dS of the dead entries",
              "a dead entry is part of the softmax's sum: it keeps -P delta");
  grade.check(sums, "a row of dS sums to 0", "a shift of all scores changes nothing");
  grade.check(dtau, "dtau", "each live entry moves by 1 / n when tau moves by 1");
  return grade.result();
}
