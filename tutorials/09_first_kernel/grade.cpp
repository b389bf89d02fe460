// Grades the exercise: right sums, in any order of threads, by all of the threads.

#include "tutorials/grade.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy::emulated;

namespace {

/// The masses of random rows; behind a row's own weights there is NaN.
std::vector<float> run(int T, std::uint64_t seed, std::vector<double>& truth) {
  lazy::Random random(std::uint64_t(T) + 1);
  std::vector<float> weights(T * T, NAN), mass(T, NAN);
  truth.assign(T, 0);
  for (int i = 0; i < T; ++i)
    for (int j = 0; j <= i; ++j)
      truth[i] += weights[i * T + j] = float(random.uniform()) / float(i + 1);
  Machine machine{.seed = seed};
  launch({"mass", {T}, mass_threads, mass_shared_bytes(), &machine}, mass_kernel,
         {view(weights.data(), T * T), view(mass.data(), T), T});
  return mass;
}

}  // namespace

int main() {
  lazy::tutorial::Grade grade;
  bool assigned = true, right = true, same = true;
  std::string fault;
  try {
    for (const int T : {1, 31, 32, 63, 64, 65, 150}) {
      std::vector<double> truth;
      const std::vector<float> mass = run(T, 1, truth);
      for (int i = 0; i < T; ++i) {
        assigned = assigned && !std::isnan(mass[i]);
        right = right && std::abs(mass[i] - truth[i]) < 1e-5;
      }
      for (std::uint64_t seed = 2; seed <= 4; ++seed)
        same = same && std::memcmp(run(T, seed, truth).data(), mass.data(), T * sizeof(float)) == 0;
    }
  } catch (const KernelFault& found) {
    fault = found.what();
  }
  grade.check(fault.empty(), "no fault in any order of threads", fault);
  if (!fault.empty()) return grade.result();
  grade.check(assigned, "every row's mass is assigned, from its own weights alone",
              "row i has the i + 1 weights from weights[i * T]; behind them there is NaN");
  grade.check(right, "it is the sum of the row's weights",
              "thread t takes the keys t, t + 64, ...; then sum within warps, then the two warps");
  grade.check(same, "the same bytes in any order of threads", "sum in an order of your own");
  return grade.result();
}
