// What the tiled implementation promises beside the right numbers: dead tiles are skipped and no
// bit tells, what is counted, what is left to the oracle.

#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

constexpr Index tile = 48;

struct Counts {
  tiled::TileCounts forward, backward;
};

template <class T>
Answer<T> tiled_attention(const Problem<T>& p, bool skip, Counts& counts) {
  Answer<T> a = blank_answer(p);
  const AttentionShape& s = p.shape;
  tiled::attention_forward(s, p.rule, p.inputs(), a.outputs(), {skip, &counts.forward});
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      tiled::attention_weights(s, p.rule, p.inputs(), a.outputs(), b, h, 0, s.queries,
                               a.weights.data() + weight_offset(s, b, h, 0));
  tiled::attention_backward(s, p.rule, p.inputs(), a.outputs(), p.dout.data(), a.grads(),
                            {skip, &counts.backward});
  return a;
}

template <class T>
void check_same_bits(const Answer<T>& a, const Answer<T>& b) {
  const auto check = [&](const AnswerTensor<T>& tensor) {
    INFO(tensor.name);
    CHECK(same_bytes(a.*tensor.values, b.*tensor.values));
  };
  for (const auto& tensor : value_tensors<T>) check(tensor);
  for (const auto& tensor : gradient_tensors<T>) check(tensor);
}

/// Tiles of a head of row blocks and keys, numbered row block by row block.
template <class T>
std::vector<Index> live_entries_of_tiles(const Problem<T>& p, const Answer<T>& a, Index b, Index h,
                                         std::vector<Index>& visible) {
  const AttentionShape& s = p.shape;
  const Index across = s.keys / tile + 1;
  std::vector<Index> live(across * across, 0);
  visible.assign(across * across, 0);
  for (Index t = 0; t < s.queries; ++t) {
    const Index n = visible_keys(s, p.lengths[b], t);
    for (Index j = 0; j < n; ++j) {
      const Index at = (n - 1) / tile * across + j / tile;
      ++visible[at];
      live[at] += a.weights[weight_offset(s, b, h, t) + j] != 0;
    }
  }
  return live;
}

/// What the weights say that the counts should be.
template <class T>
tiled::TileCounts counted(const Problem<T>& p, const Answer<T>& a) {
  tiled::TileCounts counts;
  for (Index b = 0; b < p.shape.batch; ++b)
    for (Index h = 0; h < p.shape.heads; ++h) {
      std::vector<Index> visible;
      const std::vector<Index> live = live_entries_of_tiles(p, a, b, h, visible);
      for (std::size_t i = 0; i < live.size(); ++i) {
        counts.tiles += visible[i] > 0, counts.live_tiles += live[i] > 0;
        counts.entries += visible[i], counts.live_entries += live[i];
      }
    }
  return counts;
}

/// The same bits with and without skipping, no live tile lost; returns what was counted.
template <class T>
Counts check_skipping(const Problem<T>& p) {
  Counts skipped, computed;
  const Answer<T> a = tiled_attention(p, true, skipped), all = tiled_attention(p, false, computed);
  check_same_bits(a, all);
  const tiled::TileCounts expected = counted(p, a);
  for (const auto& c : {skipped.forward, computed.forward, skipped.backward, computed.backward}) {
    CHECK(c.tiles == expected.tiles);
    CHECK(c.entries == expected.entries);
    CHECK((c.live_tiles >= expected.live_tiles && c.live_tiles <= c.tiles));
  }
  CHECK(skipped.forward.live_entries == expected.live_entries);
  CHECK(computed.forward.live_entries == expected.live_entries);
  CHECK(computed.forward.live_tiles == expected.tiles);
  CHECK(computed.backward.live_tiles == expected.tiles);
  CHECK(skipped.backward.live_tiles <= skipped.forward.live_tiles);  // lse is known by then
  return skipped;
}

/// A head that looks nearby: bias 8 exp(-d / 64), queries halved.
template <class T>
Problem<T> local_problem(Recipe recipe) {
  Problem<T> p = make_problem<T>(recipe);
  const Index W = p.shape.window;
  for (T& x : p.q) x *= T(0.5);
  for (std::size_t i = 0; i < p.bias.size(); ++i)
    p.bias[i] = T(8 * std::exp(-double(Index(i) % W) / 64));
  return p;
}

}  // namespace

TEMPLATE_TEST_CASE("dead tiles are skipped, no live one is, and no bit tells", "[tiled]", float,
                   double) {
  Index dead = 0, live = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Random random(seed);
    const Index Tk = 1 + random.below(300), Tq = random.below(2) ? Tk : 1 + random.below(Tk);
    Recipe recipe{{2, Tq, Tk, 2, 1, 1 + random.below(20), Tk}, {}, {-1, -0.2}, {}, 1.2, seed};
    recipe.lengths = {Tk, random.below(Tk + 1)};
    recipe.tau[0] = -3 * random.uniform();
    if (random.below(4) == 0) recipe.rule.divisor = Divisor::length;
    auto p = make_problem<TestType>(recipe);
    const double slope = 0.4 * random.uniform() - 0.1;  // keys far away die, or those nearby
    for (Index i = 0; i < 2 * Tk; ++i) p.bias[i] -= TestType(slope * double(i % Tk));
    INFO(describe(recipe) << ", slope " << slope);
    const Counts counts = check_skipping(p);
    dead += counts.forward.tiles - counts.forward.live_tiles, live += counts.forward.live_tiles;
  }
  CHECK(dead > 200);
  CHECK(live > 200);
}

TEMPLATE_TEST_CASE("a weight of one last bit keeps its tile alive", "[tiled]", float, double) {
  const Index T = 160;
  for (const double shift : {0.0, 300.0, -300.0})  // larger scores, coarser probabilities
    for (const double rise : {-3.0, 0.0, 30.0})    // of the first tile above the others
      for (const Index row : {60, 100, 159}) {
        const Recipe recipe{{1, T, T, 1, 1, 4, T}, {}, {0}, {}, 1, std::uint64_t(row)};
        INFO(describe(recipe) << ", scores near " << shift << ", rise " << rise);
        auto p = shifted_scores(make_problem<TestType>(recipe), shift);
        for (Index d = row - tile + 1; d < T; ++d) p.bias[d] += TestType(rise);
        Counts any;
        const auto softmax = tiled_attention(p, true, any);  // tau = 0: weights are P
        // Where P + tau / n changes its sign for the row's largest P in the first tile.
        const TestType* P = softmax.weights.data() + weight_offset(p.shape, 0, 0, row);
        TestType tau = -*std::max_element(P, P + tile) * TestType(row + 1);
        for (int step = 0; step < 4; ++step) tau = std::nextafter(tau, TestType(-1e9));
        for (int step = -4; step <= 4; ++step, tau = std::nextafter(tau, TestType(0))) {
          p.tau[0] = tau;
          CAPTURE(row, step);
          check_skipping(p);
        }
      }
}

TEST_CASE("a local head leaves at most 0.12 of its tiles alive", "[tiled]") {
  const Index T = 4096;
  auto p = local_problem<float>({{1, T, T, 1, 1, 64, 512}, {}, {-1}});
  tiled::TileCounts forward, backward;
  std::vector<float> out(p.q.size()), lse(T);
  auto dq = out, dk = out, dv = out, dbias = p.bias, dtau = p.tau;
  tiled::attention_forward<float>(p.shape, p.rule, p.inputs(), {out.data(), lse.data()},
                                  {true, &forward});
  tiled::attention_backward<float>(
      p.shape, p.rule, p.inputs(), {out.data(), lse.data()}, p.dout.data(),
      {dq.data(), dk.data(), dv.data(), dbias.data(), dtau.data()}, {true, &backward});
  CHECK(forward.tiles == 86 * 87 / 2);
  CHECK(forward.entries == T * (T + 1) / 2);
  for (const auto& c : {forward, backward}) {
    CHECK(double(c.live_tiles) <= 0.12 * double(c.tiles));
    CHECK(c.live_tiles >= 86);  // the diagonal
  }
}

TEST_CASE("tiles are counted by hand", "[tiled]") {
  Counts counts;
  auto p = make_problem<double>({{2, 100, 100, 3, 1, 8, 5}, {}, {0}});
  tiled_attention(p, true, counts);
  CHECK(counts.forward.tiles == 6 * (1 + 2 + 3));
  CHECK(counts.forward.live_tiles == 6 * (1 + 2 + 3));
  CHECK(counts.forward.entries == 6 * 5050);
  CHECK(counts.forward.live_entries == 6 * 5050);
  CHECK(counts.backward.live_tiles == 6 * (1 + 2 + 3));

  for (double& tau : p.tau) tau = -1000;  // p n is never 1000
  tiled_attention(p, true, counts);
  CHECK(counts.forward.tiles == 6 * (1 + 2 + 3));
  CHECK(counts.forward.live_tiles == 0);
  CHECK(counts.forward.live_entries == 0);
  CHECK(counts.backward.live_tiles == 0);

  // Two queries at positions 47 and 48: two rows of tiles, one and two wide.
  auto few = make_problem<double>({{1, 2, 60, 1, 1, 8, 5}, {}, {0}, {49}});
  tiled_attention(few, true, counts);
  CHECK(counts.forward.tiles == 3);
  CHECK(counts.forward.entries == 48 + 49);
  CHECK(counts.forward.live_entries == 48 + 49);
  CHECK(counts.backward.tiles == 3);
}

TEST_CASE("counting changes no bit", "[tiled]") {
  const auto p = make_problem<float>({{2, 120, 120, 2, 1, 24, 60}, {}, {-1, -0.4}, {120, 70}});
  Counts counts;
  check_same_bits(tiled_attention(p, true, counts), attention(implementations<float>[1], p));
}

TEST_CASE("rules that are not an exponential and an offset are the oracle's", "[tiled]") {
  for (const Normalizer rule : {Normalizer::sigmoid, Normalizer::entmax15, Normalizer::softpick}) {
    const auto p = make_problem<float>({{2, 70, 70, 4, 2, 8, 30}, {rule}, {-1}, {70, 20}});
    INFO(describe(p.recipe));
    Counts counts;
    check_same_bits(tiled_attention(p, true, counts), oracle_attention(p));
    CHECK(counts.forward.tiles == 0);
    CHECK(counts.backward.tiles == 0);
  }
}
