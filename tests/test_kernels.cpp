// Every rung of the ladder, emulated, against the equations: awkward shapes, random problems, the
// rule for low precision with the rung's own gate.

#include "tests/kernel_answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

template <class F>
void for_each_rung(LazyType type, F&& f) {
  for (const Rung& rung : emulated::ladder())
    if (rung.supports(type, 64)) f(rung);
}

bool has_kernel(const AttentionRule& rule) {
  return rule.normalizer == Normalizer::elastic || rule.normalizer == Normalizer::softmax;
}

void check_recipe(const Rung& rung, const Recipe& recipe) {
  const auto p = make_problem<float>(recipe);
  INFO(rung.name << " " << describe(recipe));
  check_low_precision(p, kernel_attention(p, {.rung = rung.name, .seed = recipe.seed}).answer);
}

}  // namespace

TEST_CASE("every float rung errs no more than the plain loop allows, on awkward shapes",
          "[kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    std::size_t turn = 0;
    for (const Recipe& recipe : awkward_recipes())
      if (has_kernel(recipe.rule) && recipe.shape.keys <= 65 && turn++ % 2 == 0)
        check_recipe(rung, recipe);
  });
}

TEST_CASE("every float rung on every awkward shape", "[.][full][kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for (const Recipe& recipe : awkward_recipes())
      if (has_kernel(recipe.rule)) check_recipe(rung, recipe);
  });
}

TEST_CASE("every float rung on random problems", "[kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      const Recipe recipe = random_recipe(seed, 40, 20);
      if (has_kernel(recipe.rule)) check_recipe(rung, recipe);
    }
  });
}
