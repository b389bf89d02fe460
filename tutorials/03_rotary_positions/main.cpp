// Rotary positions: every pair of dimensions is the hand of a clock. What fast and slow hands can
// tell apart, and what only all of them together can.

#include <algorithm>
#include <array>
#include <numbers>

#include "reference/diagnostics.hpp"
#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "reference/rope.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

constexpr Index D = 64, pairs = D / 2, T = 1024;
using Row = std::vector<double>;

double angle(Index m, double base) {
  return std::pow(base, -2.0 * double(m) / double(D));
}

/// `x` [D] as it is at `position`.
Row rotated(Row x, Index position, const RopeTable<double>& table) {
  rope_forward(x.data(), table, 1, 1, position);
  return x;
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return sum;
}

/// A token whose query and key are alike, with all of its length in the pairs first .. last - 1.
Row token(Index first, Index last) {
  Row x(D, 0.0);
  for (Index m = first; m < last; ++m) x[m] = x[m + pairs] = std::sqrt(0.5 / double(last - first));
  return x;
}

void only_the_difference() {
  const RopeTable<double> table = make_rope_table<double>(T, D, 10000);
  Random random(1);
  Row q(D), k(D);
  for (double& x : q) x = random.normal();
  for (double& x : k) x = random.normal();
  const auto score = [&](Index i, Index j) {
    return dot(rotated(q, i, table), rotated(k, j, table));
  };
  std::printf("q.k at positions (5, 2): %s, (105, 102): %s, (1005, 1002): %s, (5, 3): %s\n",
              fixed(score(5, 2)).c_str(), fixed(score(105, 102)).c_str(),
              fixed(score(1005, 1002)).c_str(), fixed(score(5, 3)).c_str());
  bool same = true, length = true;
  for (Index i = 0; i < 300; ++i) {
    const Index d = random.below(i + 1);
    same = same && std::abs(score(i, i - d) - score(i + 700, i - d + 700)) < 1e-9;
    const Row turned = rotated(q, i, table);
    length = length && std::abs(dot(turned, turned) - dot(q, q)) < 1e-9;
  }
  holds(same, "a score knows the difference of the positions, not the positions");
  holds(length, "turning changes no length");
  Row back = rotated(q, 77, table);
  rope_backward(back.data(), table, 1, 1, 77);
  for (Index d = 0; d < D; ++d) same = same && std::abs(back[d] - q[d]) < 1e-12;
  holds(same, "the backward pass turns a gradient back");
}

void hands() {
  std::printf(
      "\npair     angle a token   tokens a turn    cos at distance 1      10     100    1000\n");
  for (const Index m : {0, 4, 8, 16, 24, 31}) {
    const double theta = angle(m, 10000);
    std::printf("%-8lld%14s%16s%21s", (long long)m, fixed(theta, 4).c_str(),
                fixed(2 * std::numbers::pi / theta, 0).c_str(), fixed(std::cos(theta)).c_str());
    for (const double d : {10., 100., 1000.})
      std::printf("%8s", fixed(std::cos(d * theta)).c_str());
    std::printf("\n");
  }
}

// Distances at which a token looks like itself at distance 0, by score.
void told_apart() {
  const RopeTable<double> table = make_rope_table<double>(T, D, 10000);
  std::printf("\nidentical tokens, 1024 of them: how many score at least 0.9 of the nearest?\n");
  struct Case {
    std::string name;
    Index first, last;
    double confused = 0;
  };
  std::vector<Case> cases{{"fastest pair", 0, 1},
                          {"fast half", 0, 16},
                          {"slow half", 16, 32},
                          {"slowest pair", 31, 32},
                          {"all pairs", 0, 32}};
  for (Case& c : cases) {
    const Row x = token(c.first, c.last);
    const Row q = rotated(x, T - 1, table);
    std::string far;
    Index last = 0;
    for (Index d = 0; d < T; ++d)
      if (dot(q, rotated(x, T - 1 - d, table)) >= 0.9) ++c.confused, last = d;
    std::printf("%-14s%6s, the furthest %4lld tokens back\n", c.name.c_str(),
                fixed(c.confused, 0).c_str(), (long long)last);
  }
  holds(cases[0].confused > 100 && cases[3].confused == double(T) && cases[4].confused < 5,
        "one hand alone confuses, all together do not");
}

double effective_keys(double scale, double base) {
  const RopeTable<double> table = make_rope_table<double>(T, D, base);
  Row q, k;
  for (Index t = 0; t < T; ++t)
    for (const double x : token(0, pairs)) q.push_back(x * scale), k.push_back(x * scale);
  rope_forward(k.data(), table, T, 1, 0);
  Row last(q.begin(), q.begin() + D), weights(T);
  rope_forward(last.data(), table, 1, 1, T - 1);
  oracle::attention_weights<double>({.queries = 1, .keys = T, .head_dim = D}, {Normalizer::softmax},
                                    {.q = last.data(), .k = k.data(), .v = k.data()}, 0, 0, 0, 1,
                                    weights.data());
  const std::array<Index, 1> visible{T};
  return summarize(head_statistics<double>({weights, visible, T})).effective_keys;
}

void bases() {
  std::printf("\neffective keys among 1024 identical tokens, by the largest score\n");
  std::printf("score            2       4       8      16\n");
  for (const double base : {100., 10000., 1e6}) {
    std::string line = "base " + fixed(base, 0);
    line += std::string(12 - line.size(), ' ');
    for (const double score : {2., 4., 8., 16.})
      line += right(fixed(effective_keys(std::sqrt(score * std::sqrt(double(D))), base), 1), 8);
    std::printf("%s\n", line.c_str());
  }
}

std::string clock_map() {
  std::vector<double> cells;
  std::vector<std::string> rows;
  constexpr Index shown = 64;
  for (Index m = 0; m < pairs; m += 2) {
    rows.push_back(std::to_string(m));
    for (Index d = 0; d < shown; ++d) cells.push_back(std::cos(double(d) * angle(m, 10000)));
  }
  return heat_map({.title = "cos(distance x angle): every pair is a hand of a clock",
                   .x_label = "distance, 0 to 63",
                   .y_label = "pair",
                   .row_labels = rows,
                   .scale = ColorScale::diverging,
                   .width = 640},
                  rows.size(), shown, cells);
}

std::string score_chart() {
  std::vector<Series> lines;
  const auto add = [&](const std::string& name, Index first, Index last, double base) {
    Series line{.name = name};
    const RopeTable<double> table = make_rope_table<double>(256, D, base);
    const Row x = token(first, last), q = rotated(x, 255, table);
    for (Index d = 0; d < 256; ++d) {
      line.x.push_back(double(d));
      line.y.push_back(dot(q, rotated(x, 255 - d, table)));
    }
    lines.push_back(line);
  };
  add("all pairs", 0, 32, 10000);
  add("slow half", 16, 32, 10000);
  add("base 1e6", 0, 32, 1e6);
  return line_chart({.title = "Score of a token with itself, by distance",
                     .x_label = "distance",
                     .y_label = "q.k",
                     .include_zero = true,
                     .width = 560},
                    lines);
}

}  // namespace

int main(int argc, char** argv) {
  only_the_difference();
  hands();
  told_apart();
  bases();
  write_picture(argc, argv, "clock.svg", clock_map());
  write_picture(argc, argv, "scores.svg", score_chart());
}
