// Grades the exercise: does the reader's test pass the right gradient, and no wrong one?

#include "tutorials/grade.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

namespace {

enum class Mistake { none, dead_dropped, flash_shortcut, delta_of_all, renormalized, no_delta };

template <Mistake mistake>
std::vector<double> gradient(const std::vector<double>& S, double tau,
                             const std::vector<double>& dA) {
  const std::vector<double> P = weights(S, 0), A = weights(S, tau);
  double delta = 0, mass = 0;
  for (std::size_t j = 0; j < S.size(); ++j) {
    const bool live = A[j] > 0 || mistake == Mistake::delta_of_all;
    delta += (mistake == Mistake::flash_shortcut ? A[j] : live ? P[j] : 0) * dA[j];
    mass += A[j];
  }
  if (mistake == Mistake::no_delta) delta = 0;
  std::vector<double> dS;
  for (std::size_t j = 0; j < S.size(); ++j) {
    double ds = P[j] * ((A[j] > 0 ? dA[j] : 0) - delta);
    if (mistake == Mistake::dead_dropped && A[j] == 0) ds = 0;
    if (mistake == Mistake::renormalized && mass > 0) ds /= mass;
    dS.push_back(ds);
  }
  return dS;
}

}  // namespace

int main() {
  lazy::tutorial::Grade grade;
  grade.check(is_right(gradient<Mistake::none>), "the right gradient passes",
              "compare with (loss(S + step) - loss(S - step)) / (2 step), step about 1e-5");
  const char* hint = "does your row have a dead entry, and do its dA differ?";
  grade.check(!is_right(gradient<Mistake::dead_dropped>), "dead entries without -P delta are found",
              hint);
  grade.check(!is_right(gradient<Mistake::flash_shortcut>), "delta = rowsum(dO * O) is found",
              hint);
  grade.check(!is_right(gradient<Mistake::delta_of_all>), "delta over dead entries, too, is found",
              hint);
  grade.check(!is_right(gradient<Mistake::renormalized>), "a gradient divided by the mass is found",
              hint);
  grade.check(!is_right(gradient<Mistake::no_delta>), "a gradient without delta is found", hint);
  return grade.result();
}
