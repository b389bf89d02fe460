// Decoding with the cache against one pass over everything.

#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/refusal.hpp"
#include "tests/threads.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

std::vector<double> logits_row(const std::vector<double>& logits, Index row, Index V) {
  return {logits.begin() + row * V, logits.begin() + (row + 1) * V};
}

}  // namespace

TEST_CASE("decoding in pieces of any size equals one pass, also beyond the context", "[decoding]") {
  for_every_kind([](const TransformerConfig& c) {
    CAPTURE(name_of(c.rule.normalizer), name_of(c.position));
    const Index length = 2 * c.context + 1;
    const std::vector<int> tokens = random_batch(1, length, c.vocabulary).tokens;
    Model<double> whole = lively_model(c);
    whole.forward(tokens.data(), 1, length);
    const std::vector<double> expected = whole.logits();

    Model<double> model = lively_model(c);
    for (const std::vector<Index>& pieces :
         {std::vector<Index>(length, 1), {3, 1, 5, 2, 2}, {1, 12}, {13}, {7, 6}}) {
      CAPTURE(pieces);
      auto cache = model.make_cache(length);
      for (const Index piece : pieces) {
        const auto logits = model.decode(std::span(tokens).subspan(cache.lengths[0], piece), cache);
        const auto row = logits_row(expected, cache.lengths[0] - 1, c.vocabulary);
        CHECK(within(compare(logits, row), float64_budget));
      }
      CHECK(cache.lengths[0] == length);
    }
  });
}

TEST_CASE("caches of one model do not disturb each other", "[decoding]") {
  const TransformerConfig c = tiny_config();
  Model<double> model = lively_model(c);
  const std::vector<int> a = random_batch(1, 5, c.vocabulary, 1).tokens,
                         b = random_batch(1, 5, c.vocabulary, 2).tokens;
  auto cache_a = model.make_cache(5), cache_b = model.make_cache(9);
  std::vector<double> last_a, last_b;
  for (std::size_t t = 0; t < 5; ++t) {
    last_a = model.decode(std::span(a).subspan(t, 1), cache_a);
    last_b = model.decode(std::span(b).subspan(t, 1), cache_b);
  }
  auto fresh_a = model.make_cache(5), fresh_b = model.make_cache(9);
  CHECK(within(compare(last_a, model.decode(a, fresh_a)), float64_budget));
  CHECK(within(compare(last_b, model.decode(b, fresh_b)), float64_budget));
}

TEST_CASE("sequences of different lengths decode side by side as each does alone", "[decoding]") {
  for_every_kind([](const TransformerConfig& c) {
    CAPTURE(name_of(c.rule.normalizer), name_of(c.position));
    Model<double> model = lively_model(c);
    const Index capacity = 11;
    auto together = model.make_cache(capacity, 3);
    std::vector<KeyValueCache<CpuBackend, double>> alone;
    for (Index b = 0; b < 3; ++b) {
      alone.push_back(model.make_cache(capacity));
      const auto prompt = random_batch(1, 2 + 3 * b, c.vocabulary, b + 1).tokens;
      CHECK(within(compare(model.decode(prompt, together, b), model.decode(prompt, alone[b])),
                   float64_budget));
    }
    for (int step = 0; step < 6; ++step) {
      std::vector<int> tokens = random_batch(1, 3, c.vocabulary, 10 + step).tokens;
      if (step == 2) tokens[1] = -1;  // rests
      if (step == 3) tokens[2] = -1;  // is full: rests for good
      if (step > 3) tokens[2] = step == 4 ? -1 : 0;
      if (step == 5) together.lengths[2] = alone[2].lengths[0] = 0;  // starts anew
      const auto logits = model.decode_each(tokens, together);
      for (Index b = 0; b < 3; ++b)
        if (tokens[b] >= 0)
          CHECK(within(compare(logits_row(logits, b, c.vocabulary),
                               model.decode(std::span(tokens).subspan(b, 1), alone[b])),
                       float64_budget));
    }
    CHECK(together.lengths == std::vector<Index>{8, 10, 1});
  });
}

TEST_CASE("decoding is the same bytes on any number of threads", "[decoding][determinism]") {
  const TransformerConfig c = tiny_config();
  Model<float> model(c, 1);
  const std::vector<int> tokens = random_batch(1, 40, c.vocabulary).tokens;
  CHECK(same_for_any_threads([&] {
    auto cache = model.make_cache(40);
    std::vector<float> all = model.decode(std::span(tokens).first(39), cache);
    for (const float x : model.decode(std::span(tokens).last(1), cache)) all.push_back(x);
    return all;
  }));
}

TEST_CASE("decoding refuses what it cannot do and leaves the cache as it was", "[decoding]") {
  const TransformerConfig c = tiny_config();
  Model<float> model(c, 1);
  auto cache = model.make_cache(3);
  const std::vector<int> tokens{1, 2, 3, 4}, wrong{1, 13}, negative{-1};
  CHECK_THROWS_AS(model.decode({}, cache), std::invalid_argument);
  CHECK_THROWS_AS(model.decode(tokens, cache), std::length_error);
  const std::string full = refusal([&] { model.decode(tokens, cache); });
  CHECK((mentions(full, "4 tokens") && mentions(full, "cache of 3")));
  CHECK_THROWS_AS(model.decode(wrong, cache), std::out_of_range);
  CHECK_THROWS_AS(model.decode(negative, cache), std::out_of_range);
  CHECK(mentions(refusal([&] { model.decode(negative, cache); }), "token -1"));
  CHECK(cache.lengths[0] == 0);

  model.decode(std::span(tokens).first(3), cache);
  CHECK_THROWS_AS(model.decode(std::span(tokens).last(1), cache), std::length_error);
  CHECK(cache.lengths[0] == 3);
  CHECK_THROWS_AS(model.make_cache(-1), std::invalid_argument);
  CHECK_THROWS_AS(model.make_cache(1, 0), std::invalid_argument);
  CHECK_THROWS_AS(model.decode(wrong, cache, 1), std::invalid_argument);
  CHECK(mentions(refusal([&] { model.decode_each(tokens, cache); }), "4 tokens for a cache of 1"));
  KeyValueCache<CpuBackend, float> foreign;
  foreign.capacity = 3;
  foreign.lengths = {0};
  CHECK_THROWS_AS(model.decode(std::span(tokens).first(1), foreign), std::invalid_argument);
}

TEST_CASE("backward after decoding is refused: its activations are gone", "[decoding]") {
  Model<float> model(tiny_config(), 1);
  const Batch batch = random_batch(1, 1, 13);
  model.loss(batch);
  auto cache = model.make_cache(1);
  model.decode(batch.tokens, cache);
  CHECK_THROWS_AS(model.backward(batch), std::invalid_argument);
}
