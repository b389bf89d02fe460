// Every rung of the ladder in bfloat16 and float16, emulated, against the equations, by the rule
// for low precision.

#include "tests/golden_cases.hpp"
#include "tests/kernel_answers.hpp"
#include "tests/plain_16bit.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

// The recipe with the nearest head size that tensor cores take.
Recipe with_dim(Recipe r, Index D) {
  r.shape.head_dim = D;
  return r;
}

template <class F>
void check_recipe(const Rung& rung, LazyType type, const Recipe& recipe) {
  if (!has_kernel(recipe.rule)) return;
  const auto p = rounded_problem<F>(recipe);
  INFO(rung.name << (type == LAZY_BFLOAT16 ? " bfloat16 " : " float16 ") << describe(recipe));
  check_16bit<F>(
      p, kernel_attention(p, {.rung = rung.name, .type = type, .seed = recipe.seed}).answer);
}

// Formats take turns.
void check_in_turn(const Rung& rung, const Recipe& recipe) {
  if (recipe.seed % 2)
    check_recipe<BFloat16>(rung, LAZY_BFLOAT16, recipe);
  else
    check_recipe<Float16>(rung, LAZY_FLOAT16, recipe);
}

// A golden case, its tensors rounded to the format.
template <class F>
void check_golden(const Rung& rung, LazyType type, const GoldenCase& c) {
  const auto p = with_rounded_tensors<F>(converted<float>(c.problem));
  INFO(rung.name << (type == LAZY_BFLOAT16 ? " bfloat16" : " float16"));
  check_16bit<F>(p, kernel_attention(p, {.rung = rung.name, .type = type}).answer);
}

constexpr Index dims[] = {32, 64, 128};

void check_in_every_way(const Rung& rung, const Recipe& recipe) {
  for (const Index D : dims) {
    check_recipe<BFloat16>(rung, LAZY_BFLOAT16, with_dim(recipe, D));
    check_recipe<Float16>(rung, LAZY_FLOAT16, with_dim(recipe, D));
  }
}

}  // namespace

TEST_CASE("a 16-bit rung errs no more than the plain program allows, on awkward shapes",
          "[kernels]") {
  for_each_rung(LAZY_BFLOAT16, [](const Rung& rung) {
    const auto recipes = awkward_recipes();
    for (std::size_t i = 0; i < recipes.size(); i += 3)
      if (recipes[i].shape.keys <= 129) check_in_turn(rung, with_dim(recipes[i], dims[i / 3 % 3]));
  });
}

// There dS is a small difference of dA and delta: half the digits of O are not enough for delta.
TEST_CASE("a 16-bit rung errs no more than the plain program allows, on rows of one or two keys",
          "[kernels]") {
  for_each_rung(LAZY_BFLOAT16, [](const Rung& rung) {
    for (const Recipe& recipe : awkward_recipes())
      if (recipe.shape.keys == 2) check_in_every_way(rung, recipe);
  });
}

TEST_CASE("a 16-bit rung on every awkward shape", "[.][full][kernels]") {
  for_each_rung(LAZY_BFLOAT16, [](const Rung& rung) {
    for (const Recipe& recipe : awkward_recipes()) check_in_every_way(rung, recipe);
  });
}

TEST_CASE("a 16-bit rung on random problems", "[kernels]") {
  for_each_rung(LAZY_BFLOAT16, [](const Rung& rung) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed)
      check_in_turn(rung, with_dim(random_recipe(seed, 100, 8), dims[seed % 3]));
  });
}

TEST_CASE("a 16-bit rung on the golden cases of its head sizes", "[kernels][golden]") {
  int computed = 0;
  for_each_rung(LAZY_BFLOAT16, [&](const Rung& rung) {
    for_each_golden_case([&](const GoldenCase& c) {
      if (!rung.supports(LAZY_BFLOAT16, c.problem.shape.head_dim)) return;
      check_golden<BFloat16>(rung, LAZY_BFLOAT16, c);
      check_golden<Float16>(rung, LAZY_FLOAT16, c);
      ++computed;
    });
  });
  CHECK(computed >= 4);
}
