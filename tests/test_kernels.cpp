// Every rung of the ladder, emulated: against the equations on awkward shapes, random problems and
// golden cases, by the rule for low precision with the rung's own gate.

#include "tests/golden_cases.hpp"
#include "tests/kernel_answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

void check_problem(const Rung& rung, const Problem<float>& p) {
  INFO(rung.name << " " << describe(p.recipe));
  check_low_precision(p, kernel_attention(p, {.rung = rung.name, .seed = p.recipe.seed}).answer);
}

void check_recipe(const Rung& rung, const Recipe& recipe) {
  if (has_kernel(recipe.rule)) check_problem(rung, make_problem<float>(recipe));
}

}  // namespace

TEST_CASE("a float rung errs no more than the plain loop allows, on awkward shapes", "[kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    const auto recipes = awkward_recipes();
    for (std::size_t i = 0; i < recipes.size(); i += 3)
      if (recipes[i].shape.keys <= 65) check_recipe(rung, recipes[i]);
  });
}

TEST_CASE("a float rung on every awkward shape", "[.][full][kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for (const Recipe& recipe : awkward_recipes()) check_recipe(rung, recipe);
  });
}

TEST_CASE("a float rung on random problems", "[kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed)
      check_recipe(rung, random_recipe(seed, 40, 20));
  });
}

TEST_CASE("a float rung on many random problems", "[.][full][kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for (std::uint64_t seed = 41; seed <= 400; ++seed)
      check_recipe(rung, random_recipe(seed, 140, 70));
  });
}

TEST_CASE("a float rung on head sizes of several panels, and more rows than one tile",
          "[kernels]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    check_recipe(rung, {{1, 9, 40, 2, 1, 150, 12}, {}, {-1, 0.5}, {}, 0.6});
    check_recipe(rung, {{1, 130, 130, 1, 1, 3, 70}, {}, {-1}, {}, 1.2});
  });
}

TEST_CASE("a float rung on the golden cases", "[kernels][golden]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for_each_golden_case([&](const GoldenCase& c) {
      if (c.problem.shape.keys <= 64) check_problem(rung, converted<float>(c.problem));
    });
  });
}

TEST_CASE("a float rung on the larger golden cases", "[.][full][kernels][golden]") {
  for_each_rung(LAZY_FLOAT32, [](const Rung& rung) {
    for_each_golden_case([&](const GoldenCase& c) {
      if (c.problem.shape.keys > 64) check_problem(rung, converted<float>(c.problem));
    });
  });
}
