// Elastic-Softmax: what it relaxes, why tau is divided by n, what lives, how much mass is left, and
// what a positive tau would leak.

#include <algorithm>
#include <limits>
#include <numeric>

#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

using Row = std::vector<double>;

struct Elastic {
  Row P, A;  // [n] softmax and elastic weights
  double lse, mass;
  Index live;
};

// The last row of a sequence of n keys. A query of 1 and head_dim 1: the keys are the scores.
Row library(Normalizer rule, const Row& scores, double tau) {
  const Index n = Index(scores.size());
  const double q = 1;
  const AttentionShape shape{.queries = 1, .keys = n};
  const AttentionInputs<double> in{.q = &q, .k = scores.data(), .v = scores.data(), .tau = &tau};
  Row weights(n);
  oracle::attention_weights(shape, {rule}, in, 0, 0, 0, 1, weights.data());
  return weights;
}

Elastic elastic(const Row& scores, double tau) {
  const double n = double(scores.size());
  const double m = *std::max_element(scores.begin(), scores.end());
  Elastic x{};
  for (const double s : scores) x.lse += std::exp(s - m);
  x.lse = m + std::log(x.lse);
  for (const double s : scores) {
    const double p = std::exp(s - x.lse), a = std::max(p + tau / n, 0.0);
    x.P.push_back(p);
    x.A.push_back(a);
    x.mass += a;
    x.live += a > 0;
  }
  return x;
}

Row random_row(Random& random, Index n, double sharpness) {
  Row scores(n);
  for (double& s : scores) s = sharpness * random.normal();
  return scores;
}

double total_variation_from_uniform(const Row& P) {
  double sum = 0;
  for (const double p : P) sum += std::abs(p - 1 / double(P.size()));
  return sum / 2;
}

void one_row(const Row& scores, std::vector<double>& picture) {
  std::printf("one row, n = 8\n");
  print_row("scores", scores, [](double s) { return fixed(s); });
  for (const double tau : {0.0, -0.5, -1.0, -2.0}) {
    const Elastic x = elastic(scores, tau);
    print_row("tau " + fixed(tau, 1), x.A);
    std::printf("          mass %s, live %lld of 8\n", fixed(x.mass).c_str(), (long long)x.live);
    picture.insert(picture.end(), x.A.begin(), x.A.end());
    const Row same = library(Normalizer::elastic, scores, tau);
    for (std::size_t j = 0; j < same.size(); ++j)
      if (!(std::abs(same[j] - x.A[j]) < 1e-12)) holds(false, "the library's weight is ours");
  }
  holds(true, "the library computes the same weights");
}

// Live share of entries for an offset that does not know n, and for tau / n.
void why_divided_by_n() {
  std::printf("\nshare of live keys, scores ~ N(0, 1)\n");
  std::printf("n           constant -1/64     tau/n with tau = -1\n");
  double first = 0, last = 0;
  for (const Index n : {4, 16, 64, 256, 1024}) {
    Random random(6);
    double constant = 0, divided = 0;
    const Index rows = 40'000 / n;
    for (Index row = 0; row < rows; ++row) {
      const Row scores = random_row(random, n, 1);
      constant += double(elastic(scores, -double(n) / 64).live) / double(n * rows);
      divided += double(elastic(scores, -1).live) / double(n * rows);
    }
    std::printf("%-6lld%24s%24s\n", (long long)n, fixed(constant).c_str(), fixed(divided).c_str());
    (n == 4 ? first : last) = constant;
  }
  holds(first > 0.9 && last < 0.01, "a constant offset spares short rows and kills long ones");
}

void live_set_and_mass() {
  std::printf("\n");
  Random random(1);
  bool threshold = true, bounds = true, count = true, variation = true;
  for (int round = 0; round < 2000; ++round) {
    const Index n = 2 + random.below(60);
    const double tau = -2 * random.uniform();
    const Row scores = random_row(random, n, 4 * random.uniform());
    const Elastic x = elastic(scores, tau);
    const double lowest = x.lse + std::log(-tau / double(n));
    for (Index j = 0; j < n; ++j) {
      if (std::abs(scores[j] - lowest) < 1e-9) continue;  // on the kink rounding decides
      threshold = threshold && (x.A[j] > 0) == (scores[j] > lowest);
    }
    bounds = bounds && x.mass >= std::max(0.0, 1 + tau) - 1e-12 &&
             x.mass <= std::max(0.0, 1 + tau / double(n)) + 1e-12;
    count = count && double(x.live) * -tau < double(n) + 1e-9;
    const Elastic at_minus_one = elastic(scores, -1);
    variation = variation &&
                std::abs(at_minus_one.mass - total_variation_from_uniform(at_minus_one.P)) < 1e-12;
  }
  std::printf("2000 random rows, tau between -2 and 0\n");
  holds(threshold, "a key lives exactly if its score exceeds lse + log(-tau / n)");
  holds(count, "fewer than n / |tau| keys live");
  holds(bounds, "max(0, 1 + tau) <= surviving mass <= max(0, 1 + tau / n)");
  holds(variation, "at tau = -1 the surviving mass is the total variation between P and uniform");
}

void identical_keys() {
  std::printf("\nten identical keys\n");
  const Row scores(10, 0.7);
  for (const double tau : {0.0, -0.9, -1.1}) {
    const Elastic x = elastic(scores, tau);
    std::printf("tau %s: each weight %s, mass %s\n", fixed(tau, 1).c_str(), weight(x.A[0]).c_str(),
                weight(x.mass).c_str());
  }
}

// The mask gives a future key the score -inf, hence P = 0. Then tau / n is added.
void positive_tau() {
  const Index n = 4, T = 10;
  const double tau = 0.5;
  double leaked = 0;
  for (Index j = n; j < T; ++j) leaked += std::max(0.0 + tau / double(n), 0.0);
  std::printf(
      "\ntau = 0.5, row 4 of 10: the mask applied to the scores alone leaves %s on the future\n",
      fixed(leaked).c_str());
  const Row q(T, 1.0), k(T, 0.3);
  const AttentionShape shape{.queries = T, .keys = T};
  Row row(T);
  oracle::attention_weights<double>(shape, {},
                                    {.q = q.data(), .k = k.data(), .v = k.data(), .tau = &tau}, 0,
                                    0, n - 1, 1, row.data());
  print_row("library", row);
  const double past = std::accumulate(row.begin(), row.begin() + n, 0.0);
  holds(std::abs(past - (1 + tau)) < 1e-12, "with tau > 0 the row keeps 1 + tau");
  holds(std::all_of(row.begin() + n, row.end(), [](double a) { return a == 0; }),
        "the library leaks nothing: the mask is applied to the weights too");
}

// Surviving mass of rows of 64 keys against the sharpness of their scores.
std::string mass_chart() {
  std::vector<Series> lines;
  for (const double tau : {-0.5, -1.0, -1.5, -2.0}) {
    Series line{.name = "tau " + fixed(tau, 1)};
    for (double sharpness = 0; sharpness <= 6.01; sharpness += 0.25) {
      Random random(3);
      double mass = 0;
      for (int row = 0; row < 200; ++row) {
        // Rows of one value would be ties: their mass is known.
        mass += sharpness == 0 ? std::max(0.0, 1 + tau)
                               : elastic(random_row(random, 64, sharpness), tau).mass;
      }
      line.x.push_back(sharpness);
      line.y.push_back(mass / 200);
    }
    lines.push_back(line);
  }
  return line_chart({.title = "Surviving mass: nothing for the vague, all for the sharp",
                     .x_label = "sharpness of the scores (standard deviation)",
                     .y_label = "mean mass",
                     .include_zero = true,
                     .width = 520},
                    lines);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<double> cells;
  one_row({0.1, -0.4, 3.0, 0.3, 0.0, 1.6, -1.0, 0.2}, cells);
  why_divided_by_n();
  live_set_and_mass();
  identical_keys();
  positive_tau();
  write_picture(argc, argv, "weights.svg",
                heat_map({.title = "One row at four values of tau; white is exactly 0",
                          .x_label = "key",
                          .row_labels = {"tau 0", "tau -0.5", "tau -1", "tau -2"},
                          .square_root = true,
                          .show_values = true},
                         4, 8, cells));
  write_picture(argc, argv, "mass.svg", mass_chart());
}
