// Grades the exercise: rows of random scores, seen tile by tile, against the whole row at once.

#include "tutorials/grade.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

namespace {

constexpr int tile = 8;

// log sum exp of a whole row, in long double.
double lse_of(const std::vector<double>& scores) {
  const long double largest = *std::max_element(scores.begin(), scores.end());
  long double sum = 0;
  for (const double s : scores) sum += std::exp((long double)(s)-largest);
  return double(largest + std::log(sum));
}

std::vector<double> random_row(lazy::Random& random, int tiles, double middle) {
  std::vector<double> row;
  for (int t = 0; t < tiles; ++t) {
    const double level = middle + 8 * random.uniform();
    for (int j = 0; j < tile; ++j) row.push_back(level + random.uniform());
  }
  return row;
}

}  // namespace

int main() {
  bool sums = true, safe = true, positive_tau = true, equal = true;
  int dead = 0, found = 0;
  lazy::Random random(1);
  for (const double middle : {0.0, 1000.0, -1000.0})
    for (int i = 0; i < 200; ++i) {
      const std::vector<double> row = random_row(random, 1 + i % 9, middle);
      const double n = double(row.size()), lse = lse_of(row);
      const double tau = i % 4 == 3 ? 0.5 : -0.5 - random.uniform();
      RunningSum seen;
      for (std::size_t t = 0; t < row.size(); t += tile) {
        const std::span<const double> scores(row.data() + t, tile);
        add_tile(seen, scores);
        const double now = lse_of({row.begin(), row.begin() + t + tile});
        sums = sums && std::abs(seen.lse() - now) < 1e-9 * (1 + std::abs(now));
        // The judge's own lse: a wrong sum does not spoil this part.
        const double largest = *std::max_element(scores.begin(), scores.end());
        const bool said = is_dead(largest, now, tau / n);
        const bool live_now = std::exp(largest - now) + tau / n > 0;
        if (std::exp(largest - lse) + tau / n > 0 && said) (tau > 0 ? positive_tau : safe) = false;
        dead += !live_now, found += !live_now && said;
        equal = equal && said == !live_now;
      }
    }
  lazy::tutorial::Grade grade;
  grade.check(
      sums, "add_tile keeps the log-sum-exp of what was seen, for scores of any size",
      "exponentiate differences from the largest score only; when it grows, rescale the sum");
  grade.check(
      safe, "is_dead calls no tile dead that holds a live entry",
      "the tile's largest P so far is exp(largest - lse); when is max(P + offset, 0) zero?");
  grade.check(positive_tau, "is_dead: with tau > 0 every tile is live",
              "P is positive, and so is P + offset");
  grade.check(found == dead, "is_dead finds every tile that can be known to be dead",
              "lse only grows: what is dead by the lse so far stays dead");
  grade.check(equal, "is_dead calls nothing else dead", "compare a weight with 0, not a score");
  return grade.result();
}
