// Grades `say_nothing`: the library computes what the head says.

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

double output(const std::vector<double>& scores, const std::vector<double>& values) {
  const double q = 1;
  double out = 0, lse = 0;
  oracle::attention_forward<double>(
      {.queries = 1, .keys = Index(scores.size())}, {Normalizer::softmax},
      {.q = &q, .k = scores.data(), .v = values.data()}, {&out, &lse});
  return out;
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(7);
  bool sized = true, bounded = true, silent = true, drained = true;
  for (const std::size_t n : {2, 10, 1000, 100'000}) {
    Head head = say_nothing(n);
    sized = sized && head.scores.size() == n;
    head.scores.resize(n);
    for (const double s : head.scores) bounded = bounded && std::abs(s) <= 20;
    std::vector<double> values{head.start_value};
    while (values.size() < n) values.push_back(10 * (2 * random.uniform() - 1));
    silent = silent && std::abs(output(head.scores, values)) < 1e-3;
    std::fill(values.begin() + 1, values.end(), 10.0);  // nothing cancels
    drained = drained && std::abs(output(head.scores, values)) < 1e-3;
  }
  grade.check(sized, "one score a key", "scores has n entries");
  grade.check(bounded, "scores within -20 .. 20", "a head cannot push a score further than that");
  grade.check(silent, "the output is 0, for 2 to 100,000 keys with random values",
              "where can the mass go without being heard?");
  grade.check(drained, "also when all other values are 10",
              "averaging until it cancels needs values that cancel: park the mass instead");
  return grade.result();
}
