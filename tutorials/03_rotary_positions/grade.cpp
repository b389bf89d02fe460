// Grades `rotate` against the library and against what any rotation must do.

#include "tutorials/grade.hpp"

#include <cmath>
#include <vector>

#include "reference/random.hpp"
#include "reference/rope.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;

namespace {

using Row = std::vector<double>;

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b.at(d);
  return sum;
}

double distance(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += std::abs(a[d] - b.at(d));
  return sum;
}

}  // namespace

int main() {
  tutorial::Grade grade;
  Random random(3);
  bool start = true, length = true, difference = true, back = true, same = true;
  for (int round = 0; round < 100; ++round) {
    const Index D = 2 * (1 + random.below(32)), position = random.below(500);
    const double base = round % 2 ? 10000 : 500;
    Row q(D), k(D);
    for (double& x : q) x = random.normal();
    for (double& x : k) x = random.normal();
    const Row turned = rotate(q, double(position), base);
    start = start && distance(rotate(q, 0, base), q) < 1e-9;
    length = length && std::abs(dot(turned, turned) - dot(q, q)) < 1e-9;
    difference = difference && std::abs(dot(turned, rotate(k, double(position) - 3, base)) -
                                        dot(rotate(q, 3, base), k)) < 1e-8;
    back = back && distance(rotate(turned, -double(position), base), q) < 1e-8;
    Row expected = q;
    rope_forward(expected.data(), make_rope_table<double>(position + 1, D, base), 1, 1, position);
    same = same && distance(turned, expected) < 1e-8;
  }
  grade.check(start, "position 0 changes nothing", "the angle is position * base^(-2m/D)");
  grade.check(length, "no length changes", "(a, b) -> (a cos - b sin, a sin + b cos)");
  grade.check(difference, "a score depends on the difference of positions", "turn every pair");
  grade.check(back, "turning back by the negative position", "read a and b before you write them");
  grade.check(same, "a hundred random vectors, as the library turns them",
              "dimension m is paired with m + D/2, not with its neighbor");
  return grade.result();
}
