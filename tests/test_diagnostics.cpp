// Every measure of attention against an answer worked out by hand, and the properties that need no
// numbers.

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "reference/diagnostics.hpp"
#include "reference/random.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

bool same(const std::vector<double>& x, const std::vector<double>& y) {
  return within(compare(x, y), float64_budget);
}
bool same(double x, double y) {
  return same(std::vector{x}, std::vector{y});
}

// In the order of AttentionSummary.
std::vector<double> numbers(const AttentionSummary& s) {
  return {s.mass,           s.sink_mass,       s.rest_mass,     s.sink_ratio,
          s.sink_mass_four, s.sink_ratio_four, s.density_micro, s.density_macro,
          s.tile_density,   s.dead_rows,       s.entropy,       s.effective_keys};
}

template <class T>
struct Example {
  std::vector<T> weights;
  std::vector<Index> visible;
  Index keys;
  WeightMatrix<T> view() const { return {weights, visible, keys}; }
};

// Ten rows over seven keys, the last three of them padding. What no row may read is NaN.
template <class T>
Example<T> by_hand() {
  const T x = T(not_a_number);
  return {{
              0,     x,    x,    x,     x,    x, x,  // row 1: dead, as tau = -1 makes it
              0.5,   0.25, x,    x,     x,    x, x,  // m = 3/4
              0.25,  0,    0.25, x,     x,    x, x,  // m = 1/2
              0,     0,    0,    0,     x,    x, x,  // dead
              0.125, 0,    0,    0.125, 0.25, x, x,  // m = 1/2
              0,     0.25, 0,    0,     0,    0, x,  // m = 1/4
              0,     0,    0,    0,     0,    0, 0,  // dead
              x,     x,    x,    x,     x,    x, x,  // padding
              x,     x,    x,    x,     x,    x, x,  //
              x,     x,    x,    x,     x,    x, x,
          },
          {1, 2, 3, 4, 5, 6, 7, 0, 0, 0},
          7};
}

// Causal rows 1 .. T of weights(i, j), 1-based.
template <class Weights>
Example<double> causal(Index T, const Weights& weights) {
  Example<double> example{std::vector<double>(T * T, 0.0), std::vector<Index>(T), T};
  for (Index i = 1; i <= T; ++i) {
    example.visible[i - 1] = i;
    for (Index j = 1; j <= i; ++j) example.weights[(i - 1) * T + j - 1] = weights(i, j);
  }
  return example;
}

// max(p + tau / n, 0) on rows of scores ~ N(0, sigma^2): softmax if tau = 0.
Example<double> elastic_rows(Index T, double tau, double sigma, std::uint64_t seed) {
  Random random(seed);
  Example<double> example =
      causal(T, [&](Index, Index) { return std::exp(sigma * random.normal()); });
  for (Index i = 1; i <= T; ++i) {
    const std::span<double> row(&example.weights[(i - 1) * T], i);
    const double Z = std::accumulate(row.begin(), row.end(), 0.0);
    for (double& a : row) a = std::max(a / Z + tau / double(i), 0.0);
  }
  return example;
}

}  // namespace

TEMPLATE_TEST_CASE("attention statistics by hand", "[diagnostics]", float, double) {
  const HeadStatistics s = head_statistics(by_hand<TestType>().view(), 3);

  CHECK(s.rows == 7);              // padding does not count
  CHECK(s.rows_from_second == 6);  // all but row 1
  CHECK(s.rows_from_fifth == 3);   // rows 5, 6, 7
  CHECK(s.dead_rows == 3);         // rows 1, 4, 7
  CHECK(s.dead_from_second == 2);  // rows 4, 7
  CHECK(s.dead_from_fifth == 1);   // row 7
  CHECK(s.entries == 28);          // 1 + 2 + .. + 7
  CHECK(s.live_entries == 8);      // rows 2, 3, 5, 6: 2 + 2 + 3 + 1
  // Tiles of 3 x 3: rows 1-3 see one, 4-6 two, 7 three; padding none.
  CHECK(s.tiles == 6);
  CHECK(s.live_tiles == 3);  // rows 1-3 x keys 1-3; rows 4-6 x keys 1-3 and 4-6 (a_55)
  CHECK_FALSE(s.dead());

  const AttentionSummary a = summarize(s);
  CHECK(same(a.mass, 0.2857142857142857));        // (3/4 + 1/2 + 1/2 + 1/4) / 7 = 2/7
  CHECK(same(a.sink_mass, 0.14583333333333333));  // (1/2 + 1/4 + 1/8) / 6 = 7/48
  CHECK(same(a.rest_mass, 0.1875));               // (2 - 7/8) / 6 = 9/48
  CHECK(same(a.sink_ratio, 0.3541666666666667));  // rows 2 3 5 6: (2/3 + 1/2 + 1/4 + 0) / 4 = 17/48
  CHECK(same(a.sink_mass_four, 0.16666666666666667));  // rows 5 6 7: (1/4 + 1/4 + 0) / 3
  CHECK(same(a.sink_ratio_four, 0.75));                // rows 5 6: (1/2 + 1) / 2
  CHECK(same(a.density_micro, 0.2857142857142857));    // 8/28
  CHECK(same(a.sparsity(), 0.7142857142857143));       // 20/28
  CHECK(same(a.density_macro, 0.34761904761904762));   // (1 + 2/3 + 3/5 + 1/6) / 7 = 73/210
  CHECK(same(a.tile_density, 0.5));                    // 3/6
  CHECK(same(a.dead_rows, 0.42857142857142855));       // 3/7
  // Row 2 (2/3, 1/3): log 3 - 2/3 log 2. Row 3 (1/2, 1/2): log 2. Row 5 (1/4, 1/4, 1/2): 3/2 log 2.
  // Row 6 (1): 0. Together log 3 + 11/6 log 2 = 2.36938..., over 4 live rows.
  CHECK(same(a.entropy, 0.592345529923669));
  // exp of each: 3 / 2^(2/3) = 1.88988..., 2, 2^(3/2) = 2.82842..., 1; mean of the four.
  CHECK(same(a.effective_keys, 1.929577174897125));
}

TEMPLATE_TEST_CASE("sink scores by hand", "[diagnostics]", float, double) {
  const Example<TestType> example = by_hand<TestType>();
  // Column sums of rows i >= k over their number: 7/8 / 7, 1/2 / 6, 1/4 / 5, 1/8 / 4, 1/4 / 3, 0,
  // 0.
  CHECK(same(sink_scores(example.view(), false),
             {0.125, 0.083333333333333333, 0.05, 0.03125, 0.083333333333333333, 0, 0}));
  // Live rows 2, 3, 5, 6 only, each divided by its mass: (2/3 + 1/2 + 1/4) / 4, (1/3 + 1) / 4,
  // 1/2 / 3, 1/4 / 2, 1/2 / 2, 0; the only row that sees key 7 is dead.
  CHECK(same(sink_scores(example.view(), true),
             {0.3541666666666667, 0.33333333333333333, 0.16666666666666667, 0.125, 0.25, 0, 0}));
}

TEST_CASE("a bit for each tile in which a row has a live entry", "[diagnostics]") {
  std::vector<double> row(40, 0.0);
  for (const Index key : {0, 31, 32, 39}) row[key] = 0.25;
  CHECK(tile_words(32, 1) == 1);
  CHECK(tile_words(33, 1) == 2);
  CHECK(tile_words(0) == 0);
  std::vector<std::uint32_t> tiles(3, ~0u);
  const RowStatistics s = row_statistics<double>(row, tiles, 1);
  CHECK(tiles == std::vector<std::uint32_t>{1u | 1u << 31, 1u | 1u << 7, 0});
  CHECK(s.visible == 40);
  CHECK(s.live == 4);
  CHECK(s.mass == 1);
  CHECK(s.first_key == 0.25);
  CHECK(s.first_four == 0.25);
  CHECK(same(s.entropy, 1.3862943611198906));  // log 4
  row_statistics<double>(row, tiles, 8);       // keys 0-7, 24-31, 32-39
  CHECK(tiles == std::vector<std::uint32_t>{0b11001, 0, 0});
}

TEMPLATE_TEST_CASE("the first key's sink score needs no weights", "[diagnostics]", float, double) {
  const Example<TestType> example = by_hand<TestType>();
  std::vector<RowStatistics> rows;
  std::vector<std::uint32_t> tile(1);
  for (Index r = 0; r < 10; ++r)
    rows.push_back(row_statistics(
        std::span<const TestType>(example.weights).subspan(r * 7, example.visible[r]), tile));
  CHECK(same(first_sink_score(rows, false), 0.125));              // as sink_scores by hand
  CHECK(same(first_sink_score(rows, true), 0.3541666666666667));  // live rows only
  CHECK(first_sink_score({}, true) == 0);
}

TEST_CASE("sink rate is the share above epsilon", "[diagnostics]") {
  const std::vector<std::vector<double>> scores = {{0.4, 0.1}, {0.3, 0.5}, {0.2}, {}};
  CHECK(same(sink_rate(scores, 1), 0.33333333333333333));  // 0.4 of 0.4, 0.3, 0.2: strictly above
  CHECK(same(sink_rate(scores, 2), 0.5));                  // 0.5 of 0.1, 0.5
  CHECK(sink_rate(scores, 3) == 0);
  CHECK(same(sink_rate(scores, 1, 0.25), 0.66666666666666667));
  CHECK(std::isnan(sink_rate(std::vector<std::vector<double>>{{0.4}, {not_a_number}}, 1)));
  CHECK_THROWS_AS(sink_rate(scores, 0), std::invalid_argument);
}

TEST_CASE("uniform attention", "[diagnostics]") {
  const Index T = 64;
  const Example<double> uniform = causal(T, [](Index i, Index) { return 1.0 / double(i); });
  const AttentionSummary a = summarize(head_statistics(uniform.view()));
  double harmonic = 0, log_factorial = 0;
  for (Index i = 1; i <= T; ++i) harmonic += 1.0 / double(i), log_factorial += std::log(double(i));
  CHECK(same(a.mass, 1));
  CHECK(same(a.effective_keys, double(T + 1) / 2));   // row i: i keys
  CHECK(same(a.entropy, log_factorial / double(T)));  // row i: log i
  CHECK(same(a.sink_ratio, (harmonic - 1) / double(T - 1)));
  CHECK(same(sink_scores(uniform.view(), false)[0], harmonic / double(T)));
  CHECK(same(sink_scores(uniform.view(), true)[0], harmonic / double(T)));
}

TEST_CASE("softmax loses no mass and no entry", "[diagnostics]") {
  const AttentionSummary a = summarize(head_statistics(elastic_rows(100, 0, 2, 1).view(), 32));
  CHECK(same(a.mass, 1));
  CHECK(same(a.sink_mass + a.rest_mass, 1));
  CHECK(same(a.sink_mass, a.sink_ratio));
  CHECK(a.density_micro == 1);
  CHECK(same(a.density_macro, 1));
  CHECK(a.tile_density == 1);
  CHECK(a.dead_rows == 0);
}

TEST_CASE("one key a row: no entropy", "[diagnostics]") {
  const Example<double> one_hot = causal(20, [](Index i, Index j) { return i == j ? 0.3 : 0.0; });
  const AttentionSummary a = summarize(head_statistics(one_hot.view()));
  CHECK(a.entropy == 0);
  CHECK(a.effective_keys == 1);
  CHECK(same(a.density_macro, a.effective_keys * 3.5977396571436821 / 20));  // sum of 1/i, i <= 20
  CHECK(a.sink_ratio == 0);  // row 1 is all sink and does not count
}

TEST_CASE("the surviving mass is sink and rest", "[diagnostics]") {
  const Index T = 50;
  const Example<double> example = elastic_rows(T, -0.8, 1, 2);
  double mass = 0;
  for (Index i = 2; i <= T; ++i)
    for (Index j = 1; j <= i; ++j) mass += example.weights[(i - 1) * T + j - 1];
  const AttentionSummary a = summarize(head_statistics(example.view()));
  CHECK(same(a.sink_mass + a.rest_mass, mass / double(T - 1)));
  CHECK(a.mass < 1);
  CHECK(a.effective_keys >= 1);
  CHECK(a.density_micro < 1);
}

TEST_CASE("pooling blocks of rows is the whole matrix", "[diagnostics]") {
  const Index T = 50, tile = 8;
  const Example<double> whole = elastic_rows(T, -1, 1, 3);
  for (const Index block : {tile, 3 * tile, 7 * tile}) {
    HeadStatistics sum;
    for (Index first = 0; first < T; first += block) {
      const Index rows = std::min(block, T - first);
      sum += head_statistics(
          WeightMatrix<double>{std::span(whole.weights).subspan(first * T, rows * T),
                               std::span(whole.visible).subspan(first, rows), T},
          tile);
    }
    const HeadStatistics all = head_statistics(whole.view(), tile);
    CHECK(sum.tiles == all.tiles);
    CHECK(sum.live_tiles == all.live_tiles);
    CHECK(same(numbers(summarize(sum)), numbers(summarize(all))));
  }
  CHECK(head_statistics(whole.view(), tile).tiles == 28);  // 7 tile rows: 1 + 2 + .. + 7
}

TEST_CASE("untrained sparsity follows the normal law", "[diagnostics]") {
  // Scores ~ N(0, sigma^2): dead fraction Phi(log|tau| / sigma + sigma / 2). 256 rows of 4096 keys;
  // an error of 0.005 is ten standard deviations of 2^20 draws.
  const Index rows = 256, keys = 4096;
  const double sigma = 0.41;
  Random random(4);
  for (const double tau : {-1.0, -0.7}) {
    Example<double> example{std::vector<double>(rows * keys), std::vector<Index>(rows, keys), keys};
    for (Index r = 0; r < rows; ++r) {
      const std::span<double> row(&example.weights[r * keys], keys);
      for (double& a : row) a = std::exp(sigma * random.normal());
      const double Z = std::accumulate(row.begin(), row.end(), 0.0);
      for (double& a : row) a = std::max(a / Z + tau / double(keys), 0.0);
    }
    const double z = std::log(-tau) / sigma + sigma / 2;
    const double phi = std::erfc(-z / std::sqrt(2.0)) / 2;
    CHECK(std::abs(summarize(head_statistics(example.view())).sparsity() - phi) < 0.005);
  }
}

TEST_CASE("dead heads and empty pools", "[diagnostics]") {
  const Example<double> dead = causal(9, [](Index, Index) { return 0.0; });
  CHECK(head_statistics(dead.view()).dead());
  CHECK(numbers(summarize(head_statistics(dead.view()))) ==
        std::vector<double>{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0});
  CHECK_FALSE(HeadStatistics{}.dead());
  CHECK(numbers(summarize({})) == std::vector<double>(12, 0.0));

  const Example<double> padding{{not_a_number, not_a_number}, {0}, 2};
  CHECK(head_statistics(padding.view()) == HeadStatistics{});
  CHECK(sink_scores(padding.view(), true) == std::vector<double>{0, 0});
}

TEMPLATE_TEST_CASE("a NaN weight is never taken for a dead one", "[diagnostics]", float, double) {
  Example<TestType> example = by_hand<TestType>();
  for (Index j = 0; j < 4; ++j)
    example.weights[3 * 7 + j] = TestType(not_a_number);  // row 4 was dead
  const HeadStatistics s = head_statistics(example.view(), 3);
  CHECK(s.dead_rows == 2);
  CHECK(s.dead_from_second == 1);
  CHECK(s.live_entries == 12);
  const AttentionSummary a = summarize(s);
  for (const double mean :
       {a.mass, a.sink_mass, a.rest_mass, a.sink_ratio, a.entropy, a.effective_keys})
    CHECK(std::isnan(mean));
  for (const bool normalized : {false, true}) {
    const std::vector<double> alpha = sink_scores(example.view(), normalized);
    for (Index k = 0; k < 4; ++k) CHECK(std::isnan(alpha[k]));
    CHECK_FALSE(std::isnan(alpha[4]));  // rows from the fifth on are whole
  }
  example.weights[4 * 7] = TestType(not_a_number);
  CHECK(std::isnan(summarize(head_statistics(example.view())).sink_mass_four));
  CHECK(std::isnan(summarize(head_statistics(example.view())).sink_ratio_four));
  CHECK_FALSE(head_statistics(causal(5, [](Index, Index) { return not_a_number; }).view()).dead());
}

TEST_CASE("attention statistics refuse sizes that do not fit", "[diagnostics]") {
  const std::vector<double> four(4, 0.25);
  const auto statistics = [&](std::vector<Index> visible, Index keys, Index tile) {
    return head_statistics(WeightMatrix<double>{four, visible, keys}, tile);
  };
  CHECK_NOTHROW(statistics({1, 2}, 2, 1));
  CHECK_THROWS_AS(statistics({1, 2, 2}, 2, 1), std::invalid_argument);
  CHECK_THROWS_AS(statistics({1, 3}, 2, 1), std::invalid_argument);
  CHECK_THROWS_AS(statistics({-1, 2}, 2, 1), std::invalid_argument);
  CHECK_THROWS_AS(statistics({1, 2}, 2, 0), std::invalid_argument);
  std::vector<std::uint32_t> words(3);
  CHECK_NOTHROW(row_statistics<double>(four, std::span(words).first(1), 1));
  CHECK_THROWS_AS(row_statistics<double>(four, {}, 1), std::invalid_argument);
  const std::vector<RowStatistics> two(2);
  CHECK_THROWS_AS(head_statistics(two, words), std::invalid_argument);
  CHECK_THROWS_AS(head_statistics(std::span(two).first(0), words), std::invalid_argument);
  CHECK_NOTHROW(head_statistics(std::span(two).first(0), std::span(words).first(0)));
  const std::vector<Index> visible = {1, 3};
  CHECK_THROWS_AS(sink_scores(WeightMatrix<double>{four, visible, 2}, true), std::invalid_argument);
}
