// The model's gradient against differences of its loss, for every kind of model; that it can be
// trained with; and where a value that is not finite is first seen.

#include <limits>

#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

std::string kind(const TransformerConfig& c) {
  return std::string(name_of(c.rule.normalizer)) + " with " + std::string(name_of(c.position));
}

/// A random direction of length 1 that leaves all but the entries [first, first + size) alone.
std::vector<double> random_direction(std::size_t count, Index first, Index size, Random& random) {
  std::vector<double> direction(count, 0);
  double norm = 0;
  for (Index i = first; i < first + size; ++i) {
    direction[i] = random.normal();
    norm += direction[i] * direction[i];
  }
  for (double& x : direction) x /= std::sqrt(norm);
  return direction;
}

std::vector<bool> live_entries(const Model<double>& model) {
  std::vector<bool> live;
  for (const double weight : all_weights(model)) live.push_back(weight != 0);
  return live;
}

/// Analytic and numeric derivatives of the loss, one pair a direction.
struct Derivatives {
  std::vector<double> analytic, numeric;
};

/// Adds the derivative along a direction; both ends must see the live entries of the middle.
void differentiate(Model<double>& model, const Batch& batch, const std::vector<double>& gradient,
                   const std::vector<double>& direction, const std::vector<bool>& live,
                   Derivatives& derivatives) {
  const std::vector<double> middle = to_vector(model.parameters());
  const auto loss_at = [&](double step) {
    for (std::size_t i = 0; i < middle.size(); ++i)
      model.parameters()[i] = middle[i] + step * direction[i];
    const double loss = model.loss(batch);
    CHECK(live_entries(model) == live);
    return loss;
  };
  double analytic = 0;
  for (std::size_t i = 0; i < middle.size(); ++i) analytic += gradient[i] * direction[i];
  const double after = loss_at(directional_step), before = loss_at(-directional_step);
  std::copy(middle.begin(), middle.end(), model.parameters().begin());
  derivatives.analytic.push_back(analytic);
  derivatives.numeric.push_back((after - before) / (2 * directional_step));
}

void check_gradient(const TransformerConfig& config, std::uint64_t seed) {
  CAPTURE(kind(config), config.tied, config.kv_heads, seed);
  Model<double> model = lively_model(config, seed);
  const Batch batch = random_batch(2, 5, config.vocabulary, seed, 4);
  const std::vector<double> gradient = gradient_of(model, batch);
  const std::vector<bool> live = live_entries(model);
  Random random(seed);
  const auto along = [&](Index first, Index size, int directions) {
    Derivatives d;
    for (int i = 0; i < directions; ++i)
      differentiate(model, batch, gradient, random_direction(gradient.size(), first, size, random),
                    live, d);
    const Comparison c = compare(d.analytic, d.numeric);
    CAPTURE(c.where, c.error);
    CHECK(within(c, directional_budget));
  };
  along(0, Index(gradient.size()), 10);
  for (const ParameterSpec& p : model.table()) {
    CAPTURE(p.name);
    along(p.offset, p.size, 3);
  }
}

}  // namespace

TEST_CASE("the model's gradient is the slope of its loss, tensor by tensor", "[transformer]") {
  for_every_kind([](TransformerConfig c) {
    check_gradient(c, 1);
    c.kv_heads = c.heads;
    c.tied = true;
    check_gradient(c, 2);
  });
}

TEST_CASE("the gradient also holds with tau divided by the length", "[transformer]") {
  TransformerConfig c = tiny_config();
  c.rule.divisor = Divisor::length;
  check_gradient(c, 1);
}

TEST_CASE("the gradient check has dead entries to get wrong", "[transformer]") {
  for (const Normalizer rule : {Normalizer::elastic, Normalizer::entmax15, Normalizer::softpick}) {
    CAPTURE(name(rule));
    Model<double> model = lively_model(tiny_config(rule));
    model.loss(random_batch(2, 5, 13));
    const std::vector<bool> live = live_entries(model);
    const Index dead = std::count(live.begin(), live.end(), false) - 2 * 2 * 4 * 10;  // the future
    CHECK(dead > 8);
  }
}

TEST_CASE("a tied table's gradient is the sum of both ends'", "[transformer]") {
  TransformerConfig c = tiny_config();
  Model<double> untied = lively_model(c);
  c.tied = true;
  Model<double> tied(c, 1);
  const auto slice = [](auto& model, auto& buffer, const std::string& name) {
    return buffer.data() + find_tensor(model, name).offset;
  };
  const std::string table = "model.embed_tokens.weight";
  const Index size = find_tensor(untied, table).size;
  std::copy_n(slice(untied, untied.parameters(), table), size,
              slice(untied, untied.parameters(), "lm_head.weight"));
  std::copy_n(untied.parameters().begin(), tied.parameters().size(), tied.parameters().begin());

  const Batch batch = random_batch(2, 5, c.vocabulary);
  gradient_of(untied, batch);
  std::vector<double> expected = to_vector(untied.gradients());
  expected.resize(tied.parameters().size());
  const Index first = find_tensor(untied, table).offset;
  for (Index i = 0; i < size; ++i)
    expected[first + i] += slice(untied, untied.gradients(), "lm_head.weight")[i];
  CHECK(within(compare(gradient_of(tied, batch), expected), float64_budget));
}

TEST_CASE("gradients are added to until somebody clears them", "[transformer]") {
  Model<double> model = lively_model(tiny_config());
  const Batch batch = random_batch(2, 5, 13);
  std::vector<double> twice = gradient_of(model, batch);
  for (double& g : twice) g *= 2;
  model.backward(batch);
  CHECK(within(compare(to_vector(model.gradients()), twice), float64_budget));
}

TEST_CASE("every kind of attention learns one batch by heart", "[transformer]") {
  for (const Normalizer rule : all_normalizers) {
    CAPTURE(name(rule));
    TransformerConfig c = tiny_config(rule);
    c.channels = 32, c.inner = 64;
    Model<float> model(c, 1);
    Batch batch = random_batch(2, 8, c.vocabulary);
    batch.tokens[0] = 0, batch.tokens[8] = 1;  // the first token alone must tell them apart
    const Index size = Index(model.parameters().size());
    std::vector<float> m(size, 0), v(size, 0);
    double loss = 0;
    int step = 0;
    do {
      gradient_of(model, batch);
      adamw_step(model.parameters().data(), m.data(), v.data(), model.gradients().data(), size,
                 AdamW{.learning_rate = 5e-3}, ++step);
      loss = model.loss(batch);
    } while (!(loss < 0.01) && step < 300);
    CHECK(loss < 0.01);
  }
}

TEST_CASE("a planted NaN or infinity is found where it was planted", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  const Batch batch = random_batch(2, 4, 13);
  gradient_of(model, batch);
  REQUIRE(model.first_non_finite() == "");
  using Limits = std::numeric_limits<float>;
  for (const float planted : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()})
    for (const ParameterSpec& p : model.table())
      for (const Index entry : {p.offset, p.offset + p.size - 1}) {
        const float kept = model.parameters()[entry];
        model.parameters()[entry] = planted;
        model.loss(batch);
        CHECK(model.first_non_finite() == p.name);
        model.parameters()[entry] = kept;
        model.loss(batch);
        CHECK(model.first_non_finite() == "");
        model.gradients()[entry] = planted;
        CHECK(model.first_non_finite() == "gradient of " + p.name);
        model.gradients()[entry] = 0;
      }
}

TEST_CASE("of several broken gradients the one computed first is named", "[transformer]") {
  Model<float> model(tiny_config(), 1);
  model.loss(random_batch(2, 4, 13));
  for (const ParameterSpec& p : model.table()) {  // backward goes from the last row to the first
    model.gradients()[p.offset] = std::numeric_limits<float>::quiet_NaN();
    CHECK(model.first_non_finite() == "gradient of " + p.name);
  }
}

TEST_CASE("an overflow is named by the layer and the activation it first shows in",
          "[transformer]") {
  struct Overflow {
    std::vector<std::string> tensors;
    double factor;
    std::string where;
  };
  const std::string layer = "model.layers.1.";
  const Overflow cases[] = {
      {{layer + "input_layernorm.weight"}, 1e40, "layer 1, input_layernorm"},
      {{layer + "self_attn.q_proj.weight"}, 1e40, "layer 1, q"},
      {{layer + "self_attn.k_proj.weight"}, 1e40, "layer 1, k"},
      {{layer + "self_attn.v_proj.weight"}, 1e40, "layer 1, v"},
      {{layer + "post_attention_layernorm.weight"}, 1e40, "layer 1, post_attention_layernorm"},
      {{layer + "mlp.gate_proj.weight"}, 1e40, "layer 1, gate"},
      {{layer + "mlp.up_proj.weight"}, 1e40, "layer 1, up"},
      {{layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"}, 1e22, "layer 1, swiglu"},
      {{"model.norm.weight"}, 1e40, "final norm"},
      {{"lm_head.weight"}, 1e40, "logits"}};
  for (const Overflow& overflow : cases) {
    CAPTURE(overflow.where);
    Model<float> model(tiny_config(), 1);
    for (const std::string& name : overflow.tensors) {
      const ParameterSpec& p = find_tensor(model, name);
      for (Index i = p.offset; i < p.offset + p.size; ++i) {
        float& x = model.parameters()[i];
        x = float(std::clamp(x * overflow.factor, -3e38, 3e38));
      }
    }
    model.loss(random_batch(2, 4, 13));
    CHECK(model.first_non_finite() == overflow.where);
  }
}
