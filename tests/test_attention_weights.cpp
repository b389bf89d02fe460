// What the weights of a row must be in every implementation for every input: bounds of the
// surviving mass, thresholds, ties, the first row, what the bias table reaches, and what of it
// comes back in the backward. A comment T1..T24 names the known mistake a test guards
// (tests/README.md).

#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

/// Sum of the weights of row (b, h, t).
double mass(const Problem<double>& p, const Answer<double>& a, Index b, Index h, Index t) {
  double sum = 0;
  for (Index j = 0; j < p.shape.keys; ++j) sum += a.weights[weight_offset(p.shape, b, h, t) + j];
  return sum;
}

Index live_keys(const Problem<double>& p, const Answer<double>& a, Index b, Index h, Index t) {
  Index live = 0;
  for (Index j = 0; j < p.shape.keys; ++j)
    live += a.weights[weight_offset(p.shape, b, h, t) + j] != 0;
  return live;
}

/// Equal keys without bias: every row is uniform.
Problem<double> uniform_problem(Recipe recipe) {
  recipe.shape.window = 0;
  auto p = make_problem<double>(recipe);
  std::fill(p.k.begin(), p.k.end(), 0.0);
  return p;
}

}  // namespace

TEST_CASE("surviving mass and number of live keys keep their bounds", "[properties]") {
  const auto& how = each_implementation<double>();
  for (const double tau : {-1.7, -1.0, -0.5, 0.0, 0.5})
    for (const double sharpness : {0.3, 1.0, 2.0}) {
      const auto p = make_problem<double>({{2, 50, 50, 2, 1, 16, 20}, {}, {tau}, {}, sharpness});
      INFO(how.name << ": " << describe(p.recipe));
      const auto a = attention(how, p);
      for_each_row(p.shape, [&](Index b, Index h, Index t) {
        const double n = double(t + 1), m = mass(p, a, b, h, t);
        const double high = tau <= 0 ? std::max(0.0, 1 + tau / n) : 1 + tau;
        const double low = tau <= 0 ? std::max(0.0, 1 + tau) : 1 + tau;
        CHECK(m >= low - float64_budget);
        CHECK(m <= high + float64_budget);
        if (tau < 0) CHECK(double(live_keys(p, a, b, h, t)) < n / -tau + float64_budget);
      });
    }
}

TEST_CASE("the divisor is the row's number of keys, so that mass is 1 + tau for tau > 0",
          "[properties]") {  // T10, T14: a column index, or one that does not restart
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const auto p = make_problem<double>({{2, 4, 13, 2, 1, 8, 5}, {}, {0.5}, {13, 6}});
  const auto a = attention(how, p);
  for_each_row(p.shape,
               [&](Index b, Index h, Index t) { check_near({mass(p, a, b, h, t)}, {1.5}); });
}

TEST_CASE("tau divided by the length agrees with tau divided by visible keys in the last row only",
          "[properties]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  auto p = make_problem<double>({{1, 12, 12, 1, 1, 8, 5}, {}, {-0.5}});
  const auto visible = attention(how, p);
  p.rule.divisor = Divisor::length;
  const auto length = attention(how, p);
  for (Index t = 0; t < 12; ++t) {
    const std::size_t row = query_offset(p.shape, 0, t, 0);
    CHECK(same_bytes(visible.out, length.out, row, 8) == (t == 11));
  }
}

TEST_CASE("at tau = -1 the surviving mass is the distance between p and uniform", "[properties]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const Recipe recipe{{2, 50, 50, 2, 1, 16, 20}, {}, {-1}};
  const auto p = make_problem<double>(recipe);
  Recipe softmax = recipe;
  softmax.rule.normalizer = Normalizer::softmax;
  const auto a = attention(how, p), s = attention(how, make_problem<double>(softmax));
  std::vector<double> masses, distances;
  for_each_row(p.shape, [&](Index b, Index h, Index t) {
    double distance = 0;
    for (Index j = 0; j <= t; ++j)
      distance +=
          std::abs(s.weights[weight_offset(p.shape, b, h, t) + j] - 1.0 / double(t + 1)) / 2;
    masses.push_back(mass(p, a, b, h, t)), distances.push_back(distance);
  });
  check_near(masses, distances);
}

TEST_CASE("tau = 0 is softmax attention, forward and backward", "[properties]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  Recipe recipe{{2, 20, 25, 4, 2, 8, 9}, {}, {0}, {25, 22}};
  auto lazy = attention(how, make_problem<double>(recipe));
  recipe.rule.normalizer = Normalizer::softmax;
  const auto softmax = attention(how, make_problem<double>(recipe));
  CHECK(compare(softmax.dtau, std::vector<double>(4, 0.0)).error == 0);
  lazy.dtau = softmax.dtau;
  check_same(lazy, softmax, float64_budget);
}

TEMPLATE_TEST_CASE("at tau = -1 the first row is exactly dead", "[properties]", double,
                   float) {  // T23
  const auto& how = each_implementation<TestType>();
  for (const double sharpness : {0.01, 1.0, 7.0, 60.0})
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      const Index D = seed % 2 ? 5 : 16, W = seed % 3;
      auto p = make_problem<TestType>({{2, 3, 3, 2, 1, D, W}, {}, {-1}, {1, 3}, sharpness, seed});
      INFO(how.name << ": " << describe(p.recipe));
      for (Index b = 0; b < 2; ++b)  // only the first rows have a loss
        std::fill(p.dout.begin() + query_offset(p.shape, b, 1, 0),
                  p.dout.begin() + query_offset(p.shape, b + 1, 0, 0), TestType(0));
      const auto a = attention(how, p);
      for_each_row(p.shape, [&](Index b, Index h, Index t) {
        if (t > 0) return;
        CHECK(a.weights[weight_offset(p.shape, b, h, 0)] == 0);
        for (Index d = 0; d < D; ++d) CHECK(a.out[query_offset(p.shape, b, 0, h) + d] == 0);
      });
      for (const auto& tensor : gradient_tensors<TestType>)
        for (const TestType g : a.*tensor.values) CHECK(g == 0);
    }
}

TEST_CASE("below tau = -1 a uniform row is dead and gives no gradient to anything",
          "[properties]") {  // T6, T22
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const double tau : {-1.01, -1.5, -5.0}) {
    const auto a = attention(how, uniform_problem({{2, 33, 33, 2, 1, 8, 0}, {}, {tau}}));
    for (const double x : a.out) CHECK(x == 0);
    for (const auto& tensor : gradient_tensors<double>)
      for (const double g : a.*tensor.values) CHECK(g == 0);
  }
}

TEMPLATE_TEST_CASE("a head whose tau outweighs any probability is dead, its neighbors are not",
                   "[properties]", double, float) {
  const auto& how = each_implementation<TestType>();
  for (const Index queries : {100, 3}) {
    const auto p = make_problem<TestType>({{2, queries, 100, 2, 1, 8, 30}, {}, {-1000, -0.5}});
    INFO(how.name << ": " << describe(p.recipe));
    const auto a = attention(how, p);
    for_each_row(p.shape, [&](Index b, Index h, Index t) {
      const std::size_t row = query_offset(p.shape, b, t, h);
      CHECK((a.out[row] == 0) == (h == 0));
      CHECK((a.dq[row] == 0) == (h == 0 || visible_keys(p.shape, 100, t) == 1));
    });
    CHECK((a.dtau[0] == 0 && a.dtau[1] != 0));
    CHECK(std::count(a.dbias.begin(), a.dbias.end(), TestType(0)) == 30);
  }
}

TEMPLATE_TEST_CASE("identical keys are all live at tau = -0.9, and a tie of rounding at tau = -1",
                   "[properties]", double, float) {  // T3: tau / n keeps every digit
  const auto& how = each_implementation<TestType>();
  CAPTURE(how.name);
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index n : {1, 2, 3, 5, 6, 7, 10, 13, 49, 100, 1000})
    for (const double tau : {-0.9, -1.0}) {
      auto p = make_problem<TestType>({{1, 1, n, 1, 1, 4, 0}, {}, {tau}});
      for (std::size_t i = 4; i < p.k.size(); ++i) p.k[i] = p.k[i % 4];
      const auto a = attention(how, p);
      // One rounding each of p, tau / n and of the score over which p is taken.
      const double rounding = 4 * epsilon * (1 + largest_score(p)) / double(n);
      for (const TestType w : a.weights) {
        CHECK(std::abs(double(w) - (1 + tau) / double(n)) <= rounding);
        if (tau == -0.9) CHECK(w > 0);
      }
    }
}

TEST_CASE("a key is live exactly if its score passes the row's threshold", "[properties]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const auto p = make_problem<double>({{2, 40, 40, 2, 1, 16, 20}, {}, {-0.4, -1.2}, {40, 31}});
  const auto a = attention(how, p);
  Index wrong = 0, live = 0, dead = 0;
  for_each_row(p.shape, [&](Index b, Index h, Index t) {
    const auto scores = scalar_scores(p, b, h, t);
    if (scores.empty()) return;
    const double n = double(scores.size());
    const double threshold = a.lse[(b * 2 + h) * 40 + t] + std::log(-p.tau[h] / n);
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const bool is_live = a.weights[weight_offset(p.shape, b, h, t) + j] != 0;
      wrong += is_live != (scores[j] > threshold), (is_live ? live : dead) += 1;
    }
  });
  CHECK(wrong == 0);
  CHECK((live > 100 && dead > 100));
}

TEST_CASE("the dead share of normal scores is Phi(log|tau| / sigma + sigma / 2)", "[properties]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const double settings[][2] = {{0.41, -1.0}, {1.5, -1.0}, {1.5, -0.1}};
  for (const auto& [sigma, tau] : settings) {
    auto p = make_problem<double>({{64, 1, 2000, 1, 1, 1, 0}, {}, {tau}});
    std::fill(p.q.begin(), p.q.end(), sigma);  // D = 1: the score is sigma * k
    const auto a = attention(how, p);
    const auto dead = std::count(a.weights.begin(), a.weights.end(), 0.0);
    const double expected = 0.5 * std::erfc(-(std::log(-tau) / sigma + sigma / 2) / std::sqrt(2.0));
    CHECK(std::abs(double(dead) / double(a.weights.size()) - expected) < statistical_budget);
  }
}

TEST_CASE("score gradients of a row sum to zero, so bias gradients do when the window covers all",
          "[properties]") {
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : {Normalizer::elastic, Normalizer::softmax, Normalizer::entmax15})
    for (const Index W : {12, 40, 4}) {
      auto p = make_problem<double>({{2, 12, 12, 2, 2, 8, W}, {rule}, {-1, -0.4}});
      INFO(how.name << ": " << describe(p.recipe));
      const auto a = attention(how, p);
      for (Index h = 0; h < 2; ++h)
        CHECK(sums_to_zero({a.dbias.begin() + h * W, a.dbias.begin() + (h + 1) * W}) == (W >= 12));
      // With equal queries, sum_j dk_j = scale * q * sum_ij dS_ij.
      std::fill(p.q.begin(), p.q.end(), 0.7);
      const auto equal = attention(how, p);
      for (Index b = 0; b < 2; ++b)
        for (Index h = 0; h < 2; ++h) {
          std::vector<double> terms;
          for (Index j = 0; j < 12; ++j) terms.push_back(equal.dk[key_offset(p.shape, b, j, h)]);
          CHECK(sums_to_zero(terms));
        }
    }
}

TEST_CASE("bias entry d acts at distance d only, and keys beyond the window stay visible",
          "[properties]") {  // T7, T13, T24
  const auto& how = each_implementation<double>();
  const Index T = 51;
  for (const Index W : {Index{1}, Index{4}, Index{48}, T - 1, T, T + 1}) {
    auto p = make_problem<double>({{1, T, T, 1, 1, 4, W}, {Normalizer::softmax}});
    INFO(how.name << ": " << describe(p.recipe));
    std::fill(p.q.begin(), p.q.end(), 0.0);  // scores are the bias alone
    std::fill(p.bias.begin(), p.bias.end(), 0.0);
    for (Index d = 0; d < W; ++d) {
      p.bias[d] = std::log(3.0);
      const auto a = attention(how, p);
      p.bias[d] = 0;
      for (Index t = 0; t < T; ++t)
        for (Index j = 0; j <= t; ++j) {
          const double total = double(t + 1) + (t >= d ? 2 : 0);
          check_near({a.weights[t * T + j]}, {(t - j == d ? 3 : 1) / total});
        }
    }
    const auto a = attention(how, p);
    for (Index d = 0; d < W; ++d) CHECK((a.dbias[d] != 0) == (d < T));
  }
}

TEST_CASE("a dead key has a gradient in k but none in v", "[properties]") {  // T4
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  auto p = make_problem<double>({{1, 120, 120, 1, 1, 4, 120}, {}, {-0.5}, {}, 0.5});
  for (Index d = 0; d < 120; ++d) p.bias[d] = -0.4 * double(d);  // far keys die, none has p = 0
  std::fill(p.dout.begin(), p.dout.begin() + query_offset(p.shape, 0, 119, 0), 0.0);
  const auto a = attention(how, p);
  Index dead = 0;
  for (Index j = 0; j < 120; ++j) {
    if (a.weights[119 * 120 + j] != 0) continue;
    ++dead;
    for (Index d = 0; d < 4; ++d) {
      CHECK(a.dv[key_offset(p.shape, 0, j, 0) + d] == 0);
      CHECK(a.dk[key_offset(p.shape, 0, j, 0) + d] != 0);
    }
  }
  CHECK(dead > 96);
}

TEST_CASE("a change of tau far below bfloat16's spacing changes float weights",
          "[properties]") {  // T16, T17
  const auto& how = each_implementation<float>();
  CAPTURE(how.name);
  auto p = make_problem<float>({{1, 40, 40, 1, 1, 8, 4}, {}, {-0.5}});
  const auto a = attention(how, p);
  p.tau[0] -= 1e-5f;
  const auto b = attention(how, p);
  Index changed = 0, live = 0;
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    live += a.weights[i] != 0, changed += b.weights[i] < a.weights[i];
  CHECK(changed > 0.9 * double(live));
}
