// Every implementation against a second opinion: the same equations, written again with nothing but
// loops.

#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

void check_against_loops(const Implementation<double>& how, const Problem<double>& p) {
  INFO(how.name << ": " << describe(p.recipe));
  check_same(attention(how, p), scalar_attention(p), score_budget(largest_score(p)));
}

void check_against_loops(const Implementation<float>& how, const Problem<float>& p) {
  INFO(how.name << ": " << describe(p.recipe));
  check_low_precision(p, attention(how, p));
}

void check_second_opinion(const Implementation<double>& how, const Recipe& recipe) {
  check_against_loops(how, make_problem<double>(recipe));
}

void check_float(const Implementation<float>& how, const Recipe& recipe) {
  check_against_loops(how, make_problem<float>(recipe));
}

// The oracle's gradients with `gate` [B, H, Tq, Tk] in place of its own.
Answer<double> at_gate(const Problem<double>& p, const std::vector<std::uint8_t>& gate) {
  Answer<double> a = attention_values(implementations<double>[0], p);
  oracle::attention_backward(p.shape, p.rule, p.inputs(), p.dout.data(), a.grads(), gate.data());
  return a;
}

template <class T>
void check_rise(const Implementation<T>& how, Normalizer rule) {
  const double range = std::log(double(std::numeric_limits<T>::max()));  // 88.7 or 709.8
  const Index keys = 70;
  for (const double rise :
       {0.4 * range, 0.49 * range, 0.51 * range, 0.7 * range, 0.89 * range, 0.91 * range,
        range - 2.0, range - 1.0, range - 0.3, range + 0.3, range + 3.0, 2.0 * range, 10.0 * range})
    for (const Index far : {50, 10}) {  // in another tile, in the tile of the diagonal
      auto p = make_problem<T>({{1, keys, keys, 2, 1, 4, keys}, {rule}, {-1, -0.3}});
      for (Index h = 0; h < 2; ++h)
        for (Index d = far; d < keys; ++d) p.bias[h * keys + d] += T(rise);
      INFO("scores rise by " << rise << " from distance " << far);
      check_against_loops(how, p);
    }
}

}  // namespace

TEST_CASE("every implementation agrees with scalar loops on every awkward shape", "[attention]") {
  const auto& how = each_implementation<double>();
  for (const Recipe& recipe : awkward_recipes()) check_second_opinion(how, recipe);
  for (const Recipe& recipe : tile_edge_recipes()) check_second_opinion(how, recipe);
}

TEST_CASE("every implementation agrees with scalar loops on random shapes, rules and divisors",
          "[attention]") {
  const auto& how = each_implementation<double>();
  for (std::uint64_t seed = 1; seed <= 300; ++seed)
    check_second_opinion(how, random_recipe(seed, 40, 33));
}

TEST_CASE("every implementation agrees with scalar loops on 10,000 random shapes", "[.][full]") {
  const auto& how = each_implementation<double>();
  for (std::uint64_t seed = 1; seed <= 10000; ++seed)
    check_second_opinion(how, random_recipe(seed, 70, 70));
}

TEST_CASE("every implementation agrees with scalar loops for every length from 1 to 130",
          "[attention]") {
  const auto& how = each_implementation<double>();
  for (const Recipe& recipe : recipes_of_every_length()) check_second_opinion(how, recipe);
}

TEST_CASE("every implementation agrees with scalar loops for scores of ten thousand",
          "[attention]") {
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : all_normalizers)
    for (const std::uint64_t seed : {1, 2, 3})
      check_second_opinion(how, {{2, 21, 21, 2, 1, 16, 7}, {rule}, {-1, 0.5}, {21, 9}, 60, seed});
}

TEMPLATE_TEST_CASE("every implementation bears large scores that are close to each other",
                   "[attention]", double, float) {
  const auto& how = each_implementation<TestType>();
  for (const double size : {-1e4, -100.0, 100.0, 1e4})
    for (const Index T : {20, 70})
      for (const std::uint64_t seed : {1, 2}) {
        const Recipe recipe{{2, T, T, 2, 1, 4, 7}, {}, {-1, -0.3}, {T, 9}, 1, seed};
        INFO("scores near " << size);
        check_against_loops(how, shifted_scores(make_problem<TestType>(recipe), size));
      }
}

TEST_CASE("an extra score may lie far above or below the others", "[attention]") {
  const auto& how = each_implementation<double>();
  for (const double size : {-500.0, -85.0, -42.0, 42.0, 85.0, 500.0})
    for (const Index queries : {70, 3}) {
      const Recipe recipe{{2, queries, 70, 2, 1, 4, 7}, {Normalizer::softmax1}};
      INFO("extra score " << size << " below the others");
      check_against_loops(how, shifted_scores(make_problem<double>(recipe), size));
      auto p = make_problem<double>(recipe);
      p.rule.normalizer = Normalizer::sink;
      p.sink = {-size, 1};
      check_against_loops(how, p);
    }
}

TEST_CASE("scores may rise away from the diagonal by more than an exponential can hold",
          "[attention]") {
  for (const Normalizer rule :
       {Normalizer::elastic, Normalizer::softmax, Normalizer::softmax1, Normalizer::sink})
    for (const auto& how : implementations<double>) check_rise(how, rule);
  for (const auto& how : implementations<float>) check_rise(how, Normalizer::elastic);
}

TEMPLATE_TEST_CASE("a steep bias that the scores cancel leaves no trace", "[attention]", double,
                   float) {
  const auto& how = each_implementation<TestType>();
  const Index T = 70;
  for (const double slope : {29.5, 31.0, 35.5}) {  // 48 keys away: beyond an exponential's range
    auto p = make_problem<TestType>({{1, T, T, 1, 1, 4, T}, {}, {-0.3}});
    INFO("slope " << slope);
    for (Index t = 0; t < T; ++t) {  // q.k / 2 = -slope (i - j) + the rest
      p.q[t * 4] = TestType(-2 * slope * double(t)), p.k[t * 4] = 1;
      p.q[t * 4 + 1] = TestType(2 * slope), p.k[t * 4 + 1] = TestType(t);
      p.bias[t] += TestType(slope * double(t));
    }
    check_against_loops(how, p);
  }
}

TEST_CASE("in float no implementation errs more than twice as much as the plain float loop",
          "[attention]") {
  const auto& how = each_implementation<float>();
  for (const Recipe& recipe : awkward_recipes())
    if (recipe.shape.keys <= 65) check_float(how, recipe);
}

TEST_CASE("in float every implementation stays within its budget at the edges of tiles",
          "[attention]") {
  const auto& how = each_implementation<float>();
  for (const Recipe& recipe : tile_edge_recipes()) check_float(how, recipe);
}

TEST_CASE("in float every implementation stays within its budget for every length from 1 to 130",
          "[attention]") {
  const auto& how = each_implementation<float>();
  for (const Recipe& recipe : recipes_of_every_length()) check_float(how, recipe);
}

TEST_CASE("in float every implementation stays within its budget on the longer awkward shapes",
          "[.][full]") {
  const auto& how = each_implementation<float>();
  for (const Recipe& recipe : awkward_recipes())
    if (recipe.shape.keys > 65) check_float(how, recipe);
}

TEST_CASE("in float every implementation stays within its budget on 2,000 random shapes",
          "[.][full]") {
  const auto& how = each_implementation<float>();
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) check_float(how, random_recipe(seed, 70, 70));
}

TEST_CASE("a given gate replaces the elastic rule's own, for visible keys only", "[attention]") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Recipe recipe = random_recipe(seed, 20, 9);
    recipe.rule.normalizer = Normalizer::elastic;
    INFO(describe(recipe));
    const auto p = make_problem<double>(recipe);
    Answer<double> own = oracle_attention(p);
    std::vector<std::uint8_t> gate(own.weights.size());
    Random random(seed);
    for (auto& entry : gate) entry = random.below(2);
    Answer<double> expected = scalar_attention(p, gate.data());
    for (const auto& tensor : value_tensors<double>) expected.*tensor.values = own.*tensor.values;
    check_same(at_gate(p, gate), expected, float64_budget);
    check_same(at_gate(p, gate_of(own)), own, 0);

    recipe.rule.normalizer = Normalizer::softpick;  // a sibling has no gate to replace
    const auto sibling = make_problem<double>(recipe);
    check_same(at_gate(sibling, gate), oracle_attention(sibling), 0);
  }
}

TEST_CASE("weights asked for in blocks of rows are the weights asked for at once", "[attention]") {
  const auto& how = each_implementation<double>();
  const Index Tq = 57, Tk = 103;
  const auto p = make_problem<double>({{2, Tq, Tk, 4, 2, 8, 5}, {}, {-1, 0.5}, {Tk, 50}});
  Answer<double> whole = attention(how, p);
  for (const Index block : {1, 5, 17})
    for (Index b = 0; b < 2; ++b)
      for (Index h = 0; h < 4; ++h)
        for (Index first = 0; first < Tq; first += block) {
          const Index rows = std::min(block, Tq - first);
          std::vector<double> part(static_cast<std::size_t>(rows * Tk), std::nan(""));
          how.weights(p.shape, p.rule, p.inputs(), whole.outputs(), b, h, first, rows, part.data());
          const double* expected = whole.weights.data() + weight_offset(p.shape, b, h, first);
          INFO(how.name << ", rows from " << first);
          check_near(part, std::vector<double>(expected, expected + part.size()));
        }
}

TEST_CASE("gradients are added to what is there", "[attention]") {
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : all_normalizers) {
    const auto p = make_problem<double>({{2, 59, 59, 4, 2, 8, 5}, {rule}, {-1, 0.5}, {59, 6}});
    INFO(how.name << ": " << describe(p.recipe));
    Answer<double> once = attention(how, p), again = once;
    how.backward(p.shape, p.rule, p.inputs(), once.outputs(), p.dout.data(), again.grads());
    for (const auto& tensor : gradient_tensors<double>)
      for (double& value : once.*tensor.values) value *= 2;
    check_same(again, once, float64_budget);
  }
}
