#include "tests/parity/cases.hpp"

#include "cuda/ladder.hpp"

namespace lazy::test {
namespace {

// Calls f(rung, type, D) for what the ladder computes. Rungs that take any D get one that fills no
// vector beside the usual ones.
template <class F>
void for_each_kernel(F&& f) {
  for (const Rung& rung : emulated::ladder())
    for (const LazyType type : {LAZY_FLOAT32, LAZY_BFLOAT16, LAZY_FLOAT16})
      for (const Index D : {32, 64, 128, 40})
        if (rung.supports(type, D)) f(rung.name, type, D);
}

const std::vector<double> taus[] = {{-1, -0.5, -2, 0}, {0.5, -1, 0, -0.1}};

// Heads that look only near: tiles far from the diagonal are dead, and skipped.
Recipe local(Index D, Index T, Index kv_heads) {
  return {.shape = {2, T, T, 4, kv_heads, D, 512}, .tau = {-1, -0.5}, .bias_slope = -0.15};
}

}  // namespace

std::vector<ParityCase> full_grid(std::uint64_t seed) {
  std::vector<ParityCase> cases;
  for_each_kernel([&](const char* rung, LazyType type, Index D) {
    std::size_t turn = 0;
    for (const Index window : {0, 1, 63, 64, 512})
      for (const Index kv_heads : {4, 2, 1})
        for (const bool ragged : {false, true}) {
          const Index keys[] = {200, 129, 64, 257, 1, 65}, T = keys[turn % 6];
          const Index queries[] = {T, T, (T + 2) / 3};
          Recipe r;
          r.shape = {2, queries[turn % 3], T, 4, kv_heads, D, window};
          r.rule.divisor = turn % 7 == 3 ? Divisor::length : Divisor::visible;
          r.tau = taus[turn % 2];
          if (ragged) r.lengths = {T - T / 3, turn % 4 ? T : 0};
          r.sharpness = turn % 5 == 4 ? 2 : 1;
          r.seed = seed + turn++;
          cases.push_back({rung, type, r});
        }
    for (const Index kv_heads : {4, 1})
      for (const Index T : {257, 320}) {
        Recipe r = local(D, T, kv_heads);
        r.lengths = {T, T - 100};
        r.rule.divisor = kv_heads == 1 ? Divisor::length : Divisor::visible;
        r.seed = seed + turn++;
        cases.push_back({rung, type, r});
      }
  });
  return cases;
}

std::vector<ParityCase> short_grid(std::uint64_t seed) {
  std::vector<ParityCase> cases;
  std::size_t turn = 0;
  for_each_kernel([&](const char* rung, LazyType type, Index D) {
    const Recipe recipes[] = {
        {{1, 65, 65, 2, 2, D, 17}, {}, taus[0], {}, 1},
        {{2, 40, 97, 2, 1, D, 200}, {}, taus[1], {97, 50}, 1.5},
        {{1, 1, 33, 4, 1, D, 0}, {Normalizer::elastic, Divisor::length}, taus[0], {}, 1},
        {{1, 200, 200, 2, 1, D, 256}, {}, {-1, -0.5}, {}, 1, 1, -0.15},
    };
    for (Recipe r : recipes) {
      r.seed = seed + turn++;
      cases.push_back({rung, type, r});
    }
  });
  return cases;
}

}  // namespace lazy::test
