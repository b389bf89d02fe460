// Grades `bias_gradient` by what a reduction is: the transpose of its broadcast.

#include "tutorials/grade.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;

namespace {

using Row = std::vector<double>;

// dS whose future is NaN: whoever reads it shows it.
Row random_scores(Random& random, std::size_t T) {
  Row dS(T * T, std::numeric_limits<double>::quiet_NaN());
  for (std::size_t i = 0; i < T; ++i)
    for (std::size_t j = 0; j <= i; ++j) dS[i * T + j] = random.normal();
  return dS;
}

bool near(double a, double b) {
  return std::abs(a - b) < 1e-9;
}

// For every b: the broadcast of b, times dS, summed, is b times the reduction of dS.
bool is_transpose(Random& random, std::size_t T, std::size_t W) {
  const Row dS = random_scores(random, T), db = bias_gradient(dS, T, W);
  if (db.size() != W) return false;
  Row b(W);
  for (double& x : b) x = random.normal();
  double left = 0, right = 0;
  for (std::size_t i = 0; i < T; ++i)
    for (std::size_t j = 0; j <= i; ++j)
      if (i - j < W) left += b[i - j] * dS[i * T + j];
  for (std::size_t d = 0; d < W; ++d) right += b[d] * db[d];
  return near(left, right);
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(6);
  const double hole = std::numeric_limits<double>::quiet_NaN();
  const Row by_hand = bias_gradient({1, hole, hole, 2, 3, hole, 4, 5, 6}, 3, 3);
  grade.check(
      by_hand.size() == 3 && near(by_hand[0], 10) && near(by_hand[1], 7) && near(by_hand[2], 4),
      "three tokens: 1 + 3 + 6, 2 + 5, 4", "db[d] is the sum of the diagonal i - j = d");
  grade.check(is_transpose(random, 9, 9), "W as long as the text",
              "every score that b[d] was added to hands back its gradient");
  grade.check(is_transpose(random, 9, 4), "W shorter than the text",
              "scores at distance W or more have no bias: leave them out");
  grade.check(is_transpose(random, 4, 9), "W longer than the text",
              "entries that no score has used get 0");
  grade.check(is_transpose(random, 1, 1), "one token", "the diagonal is distance 0");
  return grade.result();
}
