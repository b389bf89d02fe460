// The gradients of every implementation against central differences of its forward: every entry of
// every tensor, every rule, also through rotary positions.

#include "reference/rope.hpp"
#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

/// The function that is differentiated: attention, with RoPE before it if `base` is not 0.
struct Path {
  const Implementation<double>& how;
  double base = 0;
};

/// Turns q-like and k-like tensors of `p` by their positions, or back.
template <class Turn>
void turn(const Problem<double>& p, double base, std::vector<double>& q, std::vector<double>& k,
          Turn&& by) {
  if (base == 0) return;
  const AttentionShape& s = p.shape;
  const auto table = make_rope_table<double>(s.keys, s.head_dim, base);
  for (Index b = 0; b < s.batch; ++b) {
    const Index first = s.queries == s.keys ? 0 : p.lengths[b] - s.queries;
    by(q.data() + query_offset(s, b, 0, 0), table, s.queries, s.heads, first);
    by(k.data() + key_offset(s, b, 0, 0), table, s.keys, s.kv_heads, Index{0});
  }
}

/// Out and weights at the problem's raw q and k.
Answer<double> evaluate(const Problem<double>& raw, Path path) {
  Problem<double> p = raw;
  turn(p, path.base, p.q, p.k, rope_forward<double>);
  return attention_values(path.how, p);
}

Answer<double> analytic(const Problem<double>& raw, Path path) {
  Problem<double> p = raw;
  turn(p, path.base, p.q, p.k, rope_forward<double>);
  Answer<double> a = attention(path.how, p);
  turn(p, path.base, a.dq, a.dk, rope_backward<double>);
  return a;
}

bool same_live_set(const Answer<double>& a, const Answer<double>& b) {
  return gate_of(a) == gate_of(b);
}

/// Change of the loss sum(dout * out) between two evaluations, entry by entry so that nothing
/// cancels but what must, and the size of the terms that changed.
struct LossChange {
  double value = 0, terms = 0;
};

LossChange loss_change(const Problem<double>& p, const Answer<double>& to,
                       const Answer<double>& from) {
  LossChange change;
  for (std::size_t i = 0; i < p.dout.size(); ++i) {
    if (to.out[i] == from.out[i]) continue;
    change.value += p.dout[i] * (to.out[i] - from.out[i]);
    change.terms += std::abs(p.dout[i] * to.out[i]);
  }
  return change;
}

struct Parameter {
  const char* name;
  std::vector<double> Problem<double>::*value;
  std::vector<double> Answer<double>::*gradient;
};

const Parameter parameters[] = {
    {"dq", &Problem<double>::q, &Answer<double>::dq},
    {"dk", &Problem<double>::k, &Answer<double>::dk},
    {"dv", &Problem<double>::v, &Answer<double>::dv},
    {"dbias", &Problem<double>::bias, &Answer<double>::dbias},
    {"dtau", &Problem<double>::tau, &Answer<double>::dtau},
    {"dsink", &Problem<double>::sink, &Answer<double>::dsink},
};

struct Count {
  std::size_t entries = 0, skipped = 0;
};

/// Compares every entry of every gradient with a difference quotient. At tau = 0 the step in tau
/// goes up only: below, entries with p near 0 die.
Count check_every_entry(const Recipe& recipe, Path path) {
  INFO(path.how.name << ": " << describe(recipe) << (path.base ? " through RoPE" : ""));
  Problem<double> p = make_problem<double>(recipe);
  const Answer<double> gradients = analytic(p, path), here = evaluate(p, path);
  Count count;
  for (const Parameter& parameter : parameters) {
    const std::vector<double>& gradient = gradients.*parameter.gradient;
    double largest = 0;
    for (const double g : gradient) largest = std::max(largest, std::abs(g));
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      double& x = (p.*parameter.value)[i];
      const double x0 = x;
      const bool one_sided = parameter.value == &Problem<double>::tau && x0 == 0;
      const double low = one_sided ? x0 : x0 - difference_step, high = x0 + difference_step;
      x = high;
      const Answer<double> above = evaluate(p, path);
      x = low;
      const Answer<double> below = one_sided ? here : evaluate(p, path);
      x = x0;
      ++count.entries;
      if (!same_live_set(above, here) || !same_live_set(below, here)) {
        ++count.skipped;
        continue;
      }
      const LossChange change = loss_change(p, above, below);
      const double numeric = change.value / (high - low);
      const bool agrees = derivative_agrees(gradient[i], numeric, largest, change.terms);
      if (agrees) continue;
      INFO(parameter.name << "[" << i << "] is " << gradient[i] << ", difference quotient "
                          << numeric << ", largest " << largest);
      CHECK(agrees);
    }
  }
  return count;
}

void check_few_skipped(const Count& count) {
  INFO(count.skipped << " of " << count.entries << " entries skipped");
  CHECK(count.entries > 0);
  CHECK(double(count.skipped) < skipped_share * double(count.entries));
}

/// Derivatives along `directions` random directions in all parameters at once.
Count check_directions(const Implementation<double>& how, const Recipe& recipe, int directions) {
  INFO(how.name << ": " << describe(recipe));
  Problem<double> p = make_problem<double>(recipe);
  const Answer<double> gradients = analytic(p, {how}), here = evaluate(p, {how});
  Random random(recipe.seed + 77);
  Count count;
  for (int n = 0; n < directions; ++n) {
    Problem<double> above = p, below = p;
    double derivative = 0, gradient_length = 0, direction_length = 0;
    for (const Parameter& parameter : parameters)
      for (std::size_t i = 0; i < (p.*parameter.value).size(); ++i) {
        const double u = random.normal(), g = (gradients.*parameter.gradient)[i];
        (above.*parameter.value)[i] += difference_step * u;
        (below.*parameter.value)[i] -= difference_step * u;
        derivative += g * u, gradient_length += g * g, direction_length += u * u;
      }
    const Answer<double> up = evaluate(above, {how}), down = evaluate(below, {how});
    ++count.entries;
    if (!same_live_set(up, here) || !same_live_set(down, here)) {
      ++count.skipped;
      continue;
    }
    const LossChange change = loss_change(p, up, down);
    const double numeric = change.value / (2 * difference_step);
    const double largest = std::sqrt(gradient_length * direction_length);
    INFO("derivative " << derivative << ", difference quotient " << numeric);
    CHECK(derivative_agrees(derivative, numeric, largest, change.terms));
  }
  return count;
}

/// Shapes small enough for every entry: windows on both sides of T, groups, ragged, chunks.
std::vector<Recipe> small_recipes(AttentionRule rule) {
  const std::vector<double> tau = {-0.97, -0.4, 0, 0.3};
  return {
      {{2, 7, 7, 2, 2, 4, 3}, rule, tau, {}, 1.5, 1},         // W < T
      {{2, 6, 6, 4, 4, 4, 9}, rule, tau, {}, 1.5, 2},         // W > T
      {{2, 6, 6, 2, 2, 2, 6}, rule, tau, {}, 1, 3},           // W = T
      {{2, 6, 6, 2, 2, 2, 1}, rule, tau, {}, 1, 4},           // W = 1
      {{2, 6, 6, 2, 2, 2, 0}, rule, tau, {}, 1, 5},           // W = 0
      {{2, 7, 7, 4, 2, 2, 4}, rule, tau, {}, 1.2, 6},         // groups of two heads
      {{2, 7, 7, 4, 1, 2, 4}, rule, tau, {}, 1.2, 7},         // one key head for all
      {{3, 7, 7, 2, 1, 4, 4}, rule, tau, {7, 4, 0}, 1.5, 8},  // ragged
      {{3, 3, 9, 2, 1, 4, 5}, rule, tau, {9, 5, 2}, 1.5, 9},  // last queries, one before position 0
      {{2, 17, 17, 2, 2, 2, 8}, rule, {-1, -0.1}, {17, 11}, 1.2, 10},
  };
}

}  // namespace

TEST_CASE("every gradient entry of every rule equals its difference quotient", "[gradients]") {
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : all_normalizers) {
    Count count;
    for (const Recipe& recipe : small_recipes({rule, Divisor::visible})) {
      const Count c = check_every_entry(recipe, {how});
      count.entries += c.entries, count.skipped += c.skipped;
    }
    INFO(how.name << ": " << name(rule));
    check_few_skipped(count);
  }
}

TEST_CASE("elastic gradients with tau divided by the length equal their difference quotients",
          "[gradients]") {
  const auto& how = each_implementation<double>();
  Count count;
  for (const Recipe& recipe : small_recipes({Normalizer::elastic, Divisor::length})) {
    const Count c = check_every_entry(recipe, {how});
    count.entries += c.entries, count.skipped += c.skipped;
  }
  check_few_skipped(count);
}

TEST_CASE("gradients through RoPE equal their difference quotients", "[gradients][rope]") {
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : {Normalizer::elastic, Normalizer::softmax}) {
    Count count;
    for (const Recipe& recipe : small_recipes({rule, Divisor::visible})) {
      const Count c = check_every_entry(recipe, {how, 100.0});
      count.entries += c.entries, count.skipped += c.skipped;
    }
    check_few_skipped(count);
  }
}

TEST_CASE("dtau at tau = 0 is the slope from above", "[gradients]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  // Sharp scores: keys with p below the step die the moment tau turns negative.
  Problem<double> p = make_problem<double>({{2, 9, 9, 2, 1, 4, 3}, {}, {0}, {}, 2.5, 3});
  const Answer<double> gradients = analytic(p, {how}), here = evaluate(p, {how});
  for (std::size_t h = 0; h < 2; ++h) {
    p.tau[h] = difference_step;
    const Answer<double> above = evaluate(p, {how});
    p.tau[h] = -difference_step;
    const Answer<double> below = evaluate(p, {how});
    p.tau[h] = 0;
    CHECK(same_live_set(above, here));
    CHECK_FALSE(same_live_set(below, here));
    const LossChange change = loss_change(p, above, here);
    const double numeric = change.value / difference_step;
    CHECK(derivative_agrees(gradients.dtau[h], numeric, std::abs(numeric), change.terms));
  }
}

TEST_CASE("exactly on the kink the slope is 0", "[gradients]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  // The first row of a head at tau = -1: p + tau = 0. Nothing but that row has a gradient here.
  Problem<double> p = make_problem<double>({{1, 1, 1, 2, 2, 4, 1}, {}, {-1}, {}, 1, 5});
  const Answer<double> a = analytic(p, {how});
  for (const auto& tensor : gradient_tensors<double>)
    for (const double g : a.*tensor.values) CHECK(g == 0);
}

TEST_CASE("derivatives of larger problems along random directions", "[gradients]") {
  const auto& how = each_implementation<double>();
  Count count;
  for (const Recipe& recipe : {
           Recipe{{2, 40, 40, 4, 2, 16, 16}, {}, {-0.97, -0.4, 0.3, -1.2}, {40, 29}, 1.3, 1},
           Recipe{{2, 21, 65, 2, 1, 8, 70}, {}, {-1.1, -0.2}, {65, 64}, 1.2, 2},
       }) {
    const Count c = check_directions(how, recipe, 50);
    count.entries += c.entries, count.skipped += c.skipped;
  }
  INFO(count.skipped << " of " << count.entries << " directions cross a kink");
  CHECK(count.skipped * 2 < count.entries);
  for (const Normalizer rule : all_normalizers)
    if (rule != Normalizer::elastic)
      check_directions(how, {{2, 33, 33, 4, 2, 16, 16}, {rule}, {0}, {33, 20}, 1, 3}, 10);
}

TEST_CASE("every gradient entry of 2,000 random shapes equals its difference quotient",
          "[.][full]") {
  const auto& how = each_implementation<double>();
  Count count;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    const Recipe recipe = random_recipe(seed, 8, 4);
    const Count c = check_every_entry(recipe, {how, recipe.shape.head_dim % 2 ? 0.0 : 50.0});
    count.entries += c.entries, count.skipped += c.skipped;
  }
  check_few_skipped(count);
}
