// Grades the exercise: matrices small enough for a pencil, then the library's own diagnostics.

#include "tutorials/grade.hpp"

#include <cmath>

#include "reference/diagnostics.hpp"
#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

namespace {

bool close(double a, double b) {
  return std::abs(a - b) < 1e-12;
}

// Both measures beside the library's, on random weights of which about half are 0.
bool like_the_library(bool of_sink) {
  lazy::Random random(1);
  bool all = true;
  for (int T = 1; T < 30; ++T) {
    std::vector<double> A(T * T, 0);
    std::vector<lazy::Index> visible;
    for (int i = 0; i < T; ++i) {
      visible.push_back(i + 1);
      const bool dead = random.below(4) == 0;
      for (int j = 0; j <= i; ++j)
        A[i * T + j] = dead || random.below(2) ? 0 : random.uniform() / double(T);
    }
    const lazy::AttentionSummary s =
        lazy::summarize(lazy::head_statistics(lazy::WeightMatrix<double>{A, visible, T}));
    all = all &&
          (of_sink ? close(sink_ratio(A, T), s.sink_ratio) : close(sparsity(A, T), s.sparsity()));
  }
  return all;
}

}  // namespace

int main() {
  lazy::tutorial::Grade grade;
  grade.check(close(sink_ratio({1, 0, 0, 0.5, 0.5, 0, 0.25, 0.25, 0.5}, 3), 0.375),
              "rows that sum to 1: (0.5 + 0.25) / 2", "leave out the first row: it has one key");
  grade.check(close(sink_ratio({0, 0, 0, 0.1, 0.1, 0, 0, 0, 0}, 3), 0.5),
              "a row of mass 0.2 counts by its share, a dead row not at all",
              "divide by the row's mass, and skip rows whose mass is 0");
  grade.check(close(sink_ratio({0, 0, 0, 0}, 2), 0), "no row with weight: 0", "0 / 0 is no number");
  grade.check(close(sparsity({1, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5}, 3), 1.0 / 6),
              "one zero among six visible entries", "entries right of the diagonal do not exist");
  grade.check(like_the_library(true), "sink_ratio is the library's", "see docs/diagnostics.md");
  grade.check(like_the_library(false), "sparsity is the library's", "see docs/diagnostics.md");
  return grade.result();
}
