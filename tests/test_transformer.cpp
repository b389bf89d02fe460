// The whole model against plain loops, and what must hold of it whatever its parameters.

#include "reference/transformer.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/refusal.hpp"
#include "tests/scalar_model.hpp"
#include "tests/threads.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

std::string kind(const TransformerConfig& c) {
  return std::string(name_of(c.rule.normalizer)) + " with " + std::string(name_of(c.position));
}

std::vector<double> part(const std::vector<double>& x, std::size_t first, std::size_t size) {
  return {x.begin() + long(first), x.begin() + long(first + size)};
}

static_assert(!std::is_copy_constructible_v<Model<float>> &&
              !std::is_copy_assignable_v<Model<float>>);

/// One sequence of a batch.
Batch alone(const Batch& batch, Index b) {
  const auto row = [&](const std::vector<int>& x) {
    return std::vector<int>(x.begin() + b * batch.length, x.begin() + (b + 1) * batch.length);
  };
  return {1, batch.length, row(batch.tokens), row(batch.targets)};
}

}  // namespace

TEST_CASE("the model equals plain loops: hidden states, weights, logits, losses", "[transformer]") {
  for_every_kind([](TransformerConfig c) {
    for (const bool tied : {false, true})
      for (const Divisor divisor : {Divisor::visible, Divisor::length}) {
        if (divisor == Divisor::length && c.rule.normalizer != Normalizer::elastic) continue;
        c.tied = tied;
        c.rule.divisor = divisor;
        CAPTURE(kind(c), tied);
        Model<double> model = lively_model(c);
        const Batch batch = random_batch(2, 9, c.vocabulary, 2, 4);
        const double loss = model.loss(batch);
        const ScalarAnswer expected = scalar_model(model, batch);
        CHECK(within(compare(std::vector{loss}, std::vector{expected.loss}), float64_budget));
        CHECK(within(compare(model.logits(), expected.logits), float64_budget));
        CHECK(within(compare(model.token_losses(), expected.losses), float64_budget));
        CHECK(within(compare(all_weights(model), expected.weights), float64_budget));
        for (Index l = 0; l <= c.layers; ++l)
          CHECK(within(compare(model.hidden_states(l), expected.hidden[l]), float64_budget));
      }
  });
}

TEST_CASE("a future token changes no bit of earlier logits", "[transformer]") {
  for_every_kind([](const TransformerConfig& c) {
    CAPTURE(kind(c));
    Model<double> model = lively_model(c);
    Batch batch = random_batch(2, 7, c.vocabulary);
    model.loss(batch);
    const std::vector<double> before = model.logits();
    const std::size_t V = c.vocabulary, changed = 4;  // in the first sequence
    batch.tokens[changed] = (batch.tokens[changed] + 1) % int(V);
    model.loss(batch);
    const std::vector<double> after = model.logits();
    CHECK(same_bytes(part(before, 0, changed * V), part(after, 0, changed * V)));
    CHECK(same_bytes(part(before, 7 * V, 7 * V), part(after, 7 * V, 7 * V)));
    for (std::size_t t = changed; t < 7; ++t)
      CHECK(!same_bytes(part(before, t * V, V), part(after, t * V, V)));
  });
}

TEST_CASE("a batch is each of its sequences alone", "[transformer]") {
  for_every_kind([](const TransformerConfig& c) {
    CAPTURE(kind(c));
    Model<double> model = lively_model(c);
    const Batch batch = random_batch(3, 5, c.vocabulary);
    const std::vector<double> together = gradient_of(model, batch);
    const std::vector<double> logits = model.logits(), losses = model.token_losses();
    std::vector<double> summed(together.size(), 0), logits_alone, losses_alone;
    for (Index b = 0; b < 3; ++b) {
      const std::vector<double> gradient = gradient_of(model, alone(batch, b));
      for (std::size_t i = 0; i < summed.size(); ++i) summed[i] += gradient[i] / 3;
      for (const double x : model.logits()) logits_alone.push_back(x);
      for (const double x : model.token_losses()) losses_alone.push_back(x);
    }
    CHECK(within(compare(logits, logits_alone), float64_budget));
    CHECK(within(compare(losses, losses_alone), float64_budget));
    CHECK(within(compare(together, summed), float64_budget));
  });
}

TEST_CASE("an ignored target has no loss and no gradient", "[transformer]") {
  Model<double> model = lively_model(tiny_config());
  Batch batch = random_batch(2, 6, 13);
  for (std::size_t n : {4, 5, 9, 10, 11}) batch.targets[n] = -1;
  const std::vector<double> gradient = gradient_of(model, batch);
  const std::vector<double> losses = model.token_losses();
  double sum = 0;
  for (const double loss : losses) sum += loss;
  CHECK(model.loss(batch) == sum / 7);
  CHECK((losses[4] == 0 && losses[11] == 0 && losses[3] > 0));

  // Tokens behind the last counted target of their sequence are seen by nothing that counts.
  Batch changed = batch;
  for (std::size_t n : {4, 5, 9, 10, 11}) changed.tokens[n] = (changed.tokens[n] + 3) % 13;
  CHECK(within(compare(gradient_of(model, changed), gradient), float64_budget));

  batch.targets.assign(12, -1);
  const std::vector<double> nothing = gradient_of(model, batch);
  CHECK(model.loss(batch) == 0);
  CHECK(std::all_of(nothing.begin(), nothing.end(), [](double g) { return g == 0; }));
}

TEST_CASE("the mean loss of a new model is about log V", "[transformer]") {
  Model<double> model(tiny_config(), 1);
  CHECK(std::abs(model.loss(random_batch(4, 20, 13)) - std::log(13)) < statistical_budget);
}

TEST_CASE("models of one seed are equal, of two seeds are not", "[transformer]") {
  Model<float> a(tiny_config(), 1), b(tiny_config(), 1), c(tiny_config(), 2);
  CHECK(to_vector(a.parameters()) == to_vector(b.parameters()));
  CHECK(to_vector(a.parameters()) != to_vector(c.parameters()));
  CHECK(to_vector(a.parameters()) == initial_parameters<float>(a.table(), 1));
}

TEST_CASE("loss, logits and every gradient are the same bytes on any number of threads",
          "[transformer][determinism]") {
  for (const Normalizer rule : all_normalizers) {
    CAPTURE(name(rule));
    TransformerConfig c = tiny_config(rule);
    c.channels = 48, c.inner = 100, c.vocabulary = 70, c.window = 40;
    Model<float> model(c, 3);
    const Batch batch = random_batch(5, 65, c.vocabulary, 4, 7);
    CHECK(same_for_any_threads([&] {
      std::vector<float> all = gradient_of(model, batch);
      for (const float x : model.logits()) all.push_back(x);
      for (const float x : model.token_losses()) all.push_back(x);
      all.push_back(float(model.loss(batch)));
      return all;
    }));
  }
}

TEST_CASE("batches that do not fit are refused with their sizes", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  const Batch good = random_batch(2, 4, 13);
  const auto check = [&](const std::function<void(Batch&)>& change,
                         const std::vector<std::string>& parts) {
    Batch batch = good;
    change(batch);
    const std::string text = refusal([&] { model.loss(batch); });
    CAPTURE(text);
    for (const std::string& part : parts) CHECK(mentions(text, part));
  };
  check([](Batch& b) { b.tokens.pop_back(); }, {"7 tokens", "8 targets", "= 8"});
  check([](Batch& b) { b.targets.push_back(0); }, {"8 tokens", "9 targets", "= 8"});
  check([](Batch& b) { b.length = 5; }, {"8 tokens", "= 10"});
  check([](Batch& b) { b.sequences = -2, b.length = -4; }, {"(-2)", "(-4)", "negative"});
  check([](Batch& b) { b.tokens[6] = 13; }, {"token 13", "row 6", "13"});
  check([](Batch& b) { b.tokens[6] = -2; }, {"token -2", "row 6", "13"});
  check([](Batch& b) { b.targets[5] = 14; }, {"target 14", "row 5", "13"});
  CHECK_THROWS_AS(model.forward(nullptr, 1, 1), std::invalid_argument);
  CHECK_NOTHROW(model.loss(good));
}

TEST_CASE("backward takes the batch of the last loss and no other", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  const Batch batch = random_batch(2, 4, 13), longer = random_batch(3, 4, 13);
  CHECK_THROWS_AS(model.backward(batch), std::invalid_argument);
  model.loss(batch);
  CHECK_THROWS_AS(model.backward(longer), std::invalid_argument);
  CHECK(mentions(refusal([&] { model.backward(longer); }), "3 x 4"));
  Batch torn = batch;
  torn.targets.pop_back();
  CHECK_THROWS_AS(model.backward(torn), std::invalid_argument);
  CHECK_NOTHROW(model.backward(batch));

  model.forward(longer.tokens.data(), 3, 4);
  CHECK(model.token_losses().empty());
  CHECK_THROWS_AS(model.backward(longer), std::invalid_argument);
}

TEST_CASE("logits are those of the last forward: never unwritten, never their gradient",
          "[transformer]") {
  Model<float> model(tiny_config(), 1);
  CHECK_THROWS_AS(model.logits(), std::logic_error);
  const Batch batch = random_batch(2, 4, 13);
  model.loss(batch);
  const std::vector<float> logits = model.logits(), losses = model.token_losses();
  model.backward(batch);
  CHECK(model.logits() == logits);
  CHECK(model.token_losses() == losses);

  model.load(batch);
  const StepInputs inputs;
  model.add_gradient(&inputs);
  CHECK(model.token_losses() == losses);
  CHECK(mentions_all(refusal<std::logic_error>([&] { model.logits(); }), {"gradient", "forward"}));
  model.forward(batch.tokens.data(), 2, 4);
  CHECK(model.logits() == logits);
}

TEST_CASE("all parameters are assigned or none", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  const std::vector<float> before = to_vector(model.parameters());
  const std::vector<float> values = to_vector(Model<float>(tiny_config(), 2).parameters());
  const std::string size = std::to_string(values.size()) + " parameters";
  for (const std::size_t wrong : {std::size_t(0), values.size() - 1, values.size() + 1}) {
    const std::string text = refusal<std::invalid_argument>(
        [&] { model.set_parameters(std::vector<float>(wrong, 1.f)); });
    CHECK(mentions_all(text, {(std::to_string(wrong) + " values").c_str(), size.c_str()}));
    CHECK(to_vector(model.parameters()) == before);
  }
  model.set_parameters(values);
  CHECK(to_vector(model.parameters()) == values);
}

TEST_CASE("layers, sequences, heads and rows that do not exist are refused", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  model.loss(random_batch(2, 4, 13));
  CHECK(mentions(refusal([&] { model.hidden_states(3); }), "layer 3"));
  CHECK(mentions(refusal([&] { model.hidden_states(-1); }), "layer -1"));
  CHECK(mentions(refusal([&] { model.attention_inputs(2); }), "layer 2"));
  CHECK_THROWS_AS(model.attention_weights(2, 0, 0, 0, 1), std::out_of_range);
  CHECK_THROWS_AS(model.attention_weights(0, 2, 0, 0, 1), std::invalid_argument);
  CHECK_THROWS_AS(model.attention_weights(0, 0, 4, 0, 1), std::invalid_argument);
  CHECK_THROWS_AS(model.attention_weights(0, 0, 0, 3, 2), std::invalid_argument);
  CHECK_THROWS_AS(model.attention_weights(0, 0, 0, 0, -1), std::invalid_argument);
  TransformerConfig wrong = tiny_config();
  wrong.heads = 3;
  CHECK_THROWS_AS(Model<float>(wrong, 1), std::invalid_argument);
}
