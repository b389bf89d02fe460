// Grades the exercise: AdamW by its properties, and beside the library's for a hundred steps.

#include "tutorials/grade.hpp"

#include <vector>

#include "reference/layers.hpp"
#include "reference/random.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

namespace {

// w after one step from w0 with gradient g.
double first_step(double w0, double g, const Rates& r) {
  double w = w0, m = 0, v = 0;
  adamw({&w, 1}, {&m, 1}, {&v, 1}, {&g, 1}, r, 1);
  return w;
}

// Largest difference to the library after some steps on random gradients.
double difference(const Rates& r, int steps) {
  constexpr int size = 20;
  std::vector<double> w(size, 1), m(size, 0), v(size, 0), w2 = w, m2 = m, v2 = v, g(size);
  lazy::Random random(1);
  double largest = 0;
  for (int t = 1; t <= steps; ++t) {
    for (int i = 0; i < size; ++i) g[i] = (random.uniform() - 0.3) * std::pow(10, i % 5 - 2);
    adamw(w, m, v, g, r, t);
    lazy::adamw_step(w2.data(), m2.data(), v2.data(), g.data(), size,
                     {r.learning_rate, r.beta1, r.beta2, r.epsilon, r.weight_decay, 1}, t);
    for (int i = 0; i < size; ++i)
      if (const double d = std::abs(w[i] - w2[i]); !(d <= largest)) largest = d;
  }
  return largest;
}

}  // namespace

int main() {
  Rates plain;
  plain.weight_decay = 0;
  const double small = 1 - first_step(1, 0.01, plain), large = 1 - first_step(1, 100, plain);
  lazy::tutorial::Grade grade;
  grade.check(std::abs(small - 1e-3) < 1e-8 && std::abs(large - 1e-3) < 1e-8,
              "the first step is as long as the learning rate, whatever the gradient's size",
              "at t = 1, m' = g and v' = g^2: divide by 1 - beta^t");
  grade.check(std::abs(first_step(2, 0, Rates{}) - 2 * (1 - 1e-4)) < 1e-12,
              "without a gradient a parameter shrinks by learning_rate * weight_decay",
              "the decay acts on w directly; it does not go through m and v");
  grade.check(difference(plain, 100) < 1e-9, "a hundred steps without decay are the library's",
              "are m and v kept from step to step? is epsilon outside the root?");
  grade.check(difference(Rates{}, 100) < 1e-9, "and with decay",
              "decay the w from before the step");
  return grade.result();
}
