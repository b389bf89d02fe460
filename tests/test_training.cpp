// The schedule, one training step against its own recurrence, and where training stops.

#include <cmath>
#include <cstring>
#include <limits>

#include "reference/training.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/refusal.hpp"
#include "tests/threads.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

template <class T>
using CpuTrainer = Trainer<CpuBackend, T>;

bool near(double got, double expected) {
  return within(compare(std::vector{got}, std::vector{expected}), float64_budget);
}

/// Everything a step may change.
template <class T>
std::vector<std::vector<T>> state_of(Model<T>& model, CpuTrainer<T>& trainer) {
  return {to_vector(model.parameters()), to_vector(trainer.first_moment()),
          to_vector(trainer.second_moment())};
}

/// AdamW with clipping, entry by entry, for a model with this table.
struct Recurrence {
  std::vector<double> p, m, v;

  void step(const std::vector<ParameterSpec>& table, const std::vector<double>& gradient,
            const TrainingConfig& c, double rate, Index n) {
    double squares = 0;
    for (const double g : gradient) squares += g * g;
    const double norm = std::sqrt(squares), scale = norm > c.clip ? c.clip / norm : 1;
    for (const ParameterSpec& t : table)
      for (Index i = t.offset; i < t.offset + t.size; ++i) {
        const double g = scale * gradient[i];
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        const double mean = m[i] / (1 - std::pow(0.9, n)), square = v[i] / (1 - std::pow(0.95, n));
        const double decay = t.shape.size() == 2 && !ends_with(t.name, "distance_bias")
                                 ? rate * c.weight_decay * p[i]
                                 : 0;
        p[i] -= decay + rate * mean / (std::sqrt(square) + 1e-8);
      }
  }
};

/// A step on `model` must be refused with `parts` in the text, and must change nothing.
template <class T>
void check_stops(Model<T>& model, CpuTrainer<T>& trainer, const Batch& batch,
                 std::initializer_list<const char*> parts) {
  const auto before = state_of(model, trainer);
  const Index steps = trainer.steps_done();
  const std::string message = refusal<std::runtime_error>([&] { trainer.step(batch); });
  INFO(message);
  CHECK(mentions_all(message, parts));
  CHECK(trainer.steps_done() == steps);
  const auto after = state_of(model, trainer);
  for (std::size_t i = 0; i < before.size(); ++i)
    CHECK(std::memcmp(before[i].data(), after[i].data(), before[i].size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("the rate warms up in a line from step 1, falls along a cosine, and stays",
          "[training]") {
  const TrainingConfig c{
      .learning_rate = 2e-3, .minimum_rate = 0.25, .warmup = 10, .schedule_steps = 110};
  for (Index step = 1; step <= 10; ++step) CHECK(near(scheduled_rate(c, step), 2e-4 * step));
  CHECK(near(scheduled_rate(c, 35), 2e-3 * (0.25 + 0.75 * (0.5 + std::sqrt(0.125)))));
  CHECK(near(scheduled_rate(c, 60), 2e-3 * 0.625));
  for (const Index step : {110, 111, 1000, 1'000'000}) CHECK(near(scheduled_rate(c, step), 5e-4));
  for (Index step = 11; step <= 110; ++step)
    CHECK(scheduled_rate(c, step) < scheduled_rate(c, step - 1));
}

TEST_CASE("the rate is defined for schedules without warm-up or without a cosine", "[training]") {
  const TrainingConfig none{.learning_rate = 1, .warmup = 0, .schedule_steps = 4};
  CHECK(near(scheduled_rate(none, 2), 0.1 + 0.9 / 2));
  CHECK(near(scheduled_rate(none, 4), 0.1));
  const TrainingConfig flat{
      .learning_rate = 1, .minimum_rate = 1, .warmup = 2, .schedule_steps = 8};
  for (const Index step : {2, 5, 8, 99}) CHECK(near(scheduled_rate(flat, step), 1));
  for (const Index length : {1, 4, 5}) {  // the warm-up is as long as the schedule, or longer
    const TrainingConfig warm{.learning_rate = 1, .warmup = 5, .schedule_steps = length};
    for (Index step = 1; step <= 5; ++step) CHECK(near(scheduled_rate(warm, step), step / 5.0));
    CHECK(near(scheduled_rate(warm, 6), 0.1));
  }
}

TEST_CASE("steps follow AdamW's recurrence, with clipping and decay where they belong",
          "[training]") {
  for (const double clip : {1e-2, 1e6}) {
    CAPTURE(clip);
    const TrainingConfig config{
        .learning_rate = 3e-3, .warmup = 2, .schedule_steps = 5, .weight_decay = 0.3, .clip = clip};
    for (const Normalizer rule : {Normalizer::elastic, Normalizer::sink}) {
      Model<double> model = lively_model(tiny_config(rule)), twin = lively_model(tiny_config(rule));
      CpuTrainer<double> trainer(model, config);
      const std::size_t size = model.parameters().size();
      Recurrence expected{to_vector(twin.parameters()), std::vector<double>(size, 0),
                          std::vector<double>(size, 0)};
      for (Index n = 1; n <= 4; ++n) {
        const Batch batch = random_batch(3, 6, 13, n);
        const std::vector<double> gradient = gradient_of(twin, batch);
        expected.step(twin.table(), gradient, config, scheduled_rate(config, n), n);
        std::copy(expected.p.begin(), expected.p.end(), twin.parameters().begin());

        const StepResult result = trainer.step(batch);
        CHECK(trainer.steps_done() == n);
        CHECK(near(result.learning_rate, scheduled_rate(config, n)));
        double squares = 0;
        for (const double g : gradient) squares += g * g;
        CHECK(near(result.gradient_norm, std::sqrt(squares)));
        CHECK((result.gradient_norm > clip) == (clip < 1));
      }
      CHECK(within(compare(to_vector(model.parameters()), expected.p), float64_budget));
      CHECK(within(compare(to_vector(trainer.first_moment()), expected.m), float64_budget));
      CHECK(within(compare(to_vector(trainer.second_moment()), expected.v), float64_budget));
    }
  }
}

TEST_CASE("a step reports the loss before its update and forgets the last gradient", "[training]") {
  const Batch batch = random_batch(3, 6, 13);
  Model<double> model = lively_model(tiny_config());
  const double loss = lively_model(tiny_config()).loss(batch);
  CpuTrainer<double> trainer(model, {.learning_rate = 0, .warmup = 0});
  const StepResult first = trainer.step(batch), second = trainer.step(batch);
  CHECK(first.loss == loss);
  CHECK(second.loss == loss);
  CHECK(second.gradient_norm == first.gradient_norm);
}

TEST_CASE("steps started one after another are the steps taken one by one", "[training]") {
  const TrainingConfig config{.warmup = 3, .schedule_steps = 9};
  Model<float> model = lively_model<float>(tiny_config()),
               twin = lively_model<float>(tiny_config());
  CpuTrainer<float> started(model, config), stepped(twin, config);
  CHECK(mentions(refusal<std::logic_error>([&] { started.finish(); }), "no step was started"));
  const auto batch_of = [](Index n) { return random_batch(2, 4 + n % 3, 13, n, n + 1); };
  std::vector<StepResult> expected, results;
  Index n = 0;
  const auto start = [&] {
    started.start(batch_of(++n));
    expected.push_back(stepped.step(batch_of(n)));
  };
  const auto finish = [&] { results.push_back(started.finish()); };
  for (Index i = 0; i < steps_kept; ++i) start();
  CHECK(mentions(refusal<std::logic_error>([&] { started.start(batch_of(1)); }), "finish one"));
  for (int i = 0; i < 5; ++i) finish(), start();
  CHECK(started.steps_done() == 5);
  CHECK(started.steps_under_way() == steps_kept);
  while (started.steps_under_way() > 0) finish();
  REQUIRE(results.size() == expected.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    CAPTURE(i);
    CHECK(results[i].loss == expected[i].loss);
    CHECK(results[i].gradient_norm == expected[i].gradient_norm);
    CHECK(results[i].learning_rate == expected[i].learning_rate);
  }
  CHECK(state_of(model, started) == state_of(twin, stepped));
}

TEST_CASE("after a step that failed nothing updates until finish has named it",
          "[training][nonfinite]") {
  const TrainingConfig config{.warmup = 3, .schedule_steps = 9};
  for (const Index later : {0, 2}) {
    Model<float> model = lively_model<float>(tiny_config()),
                 twin = lively_model<float>(tiny_config());
    CpuTrainer<float> trainer(model, config), undisturbed(twin, config);
    for (Index n = 1; n <= 2; ++n) {
      trainer.start(random_batch(2, 6, 13, n));
      undisturbed.step(random_batch(2, 6, 13, n));
    }
    float& weight = model.parameters()[find_tensor(model, "lm_head.weight").offset];
    const float good = weight;
    weight = std::numeric_limits<float>::infinity();
    trainer.start(random_batch(2, 6, 13, 3));
    weight = good;
    for (Index n = 4; n < 4 + later; ++n) trainer.start(random_batch(2, 6, 13, n));
    for (Index n = 1; n <= 2; ++n) CHECK(std::isfinite(trainer.finish().loss));
    const std::string message = refusal<std::runtime_error>([&] { trainer.finish(); });
    CAPTURE(later, message);
    CHECK(mentions_all(message, {"step 3:", "not finite"}));
    CHECK(trainer.steps_done() == 2);
    CHECK(state_of(model, trainer) == state_of(twin, undisturbed));

    const Batch next = random_batch(2, 6, 13, 3);
    CHECK(trainer.step(next).loss == undisturbed.step(next).loss);
    CHECK(state_of(model, trainer) == state_of(twin, undisturbed));
  }
}

TEST_CASE("a trainer told to resume goes on in the schedule and in AdamW's correction",
          "[training]") {
  const TrainingConfig config{.warmup = 3, .schedule_steps = 9};
  Model<float> whole = lively_model<float>(tiny_config()),
               part = lively_model<float>(tiny_config());
  CpuTrainer<float> all(whole, config), first(part, config), rest(part, config);
  for (Index n = 1; n <= 6; ++n) all.step(random_batch(2, 6, 13, n));
  for (Index n = 1; n <= 2; ++n) first.step(random_batch(2, 6, 13, n));
  rest.first_moment() = first.first_moment();
  rest.second_moment() = first.second_moment();
  rest.resume_at(2);
  for (Index n = 3; n <= 6; ++n) rest.step(random_batch(2, 6, 13, n));
  CHECK(state_of(whole, all) == state_of(part, rest));
}

TEST_CASE("training stops at a parameter that is not finite and names it",
          "[training][nonfinite]") {
  const Batch batch = random_batch(2, 6, 13);
  for (const float broken :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const char* name :
         {"model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight",
          "model.norm.weight", "lm_head.weight"}) {
      Model<float> model = lively_model<float>(tiny_config());
      CpuTrainer<float> trainer(model, {});
      trainer.step(batch);
      trainer.step(batch);
      model.parameters()[find_tensor(model, name).offset + 1] = broken;
      check_stops(model, trainer, batch, {"step 3:", name, "not finite"});
    }
}

TEST_CASE("training stops at finite numbers that overflow and names the layer and tensor",
          "[training][nonfinite]") {
  const Batch batch = random_batch(2, 6, 13);
  const auto scaled = [](std::initializer_list<const char*> names, float by) {
    Model<float> model = lively_model<float>(tiny_config());
    for (const char* name : names) {
      const ParameterSpec& p = find_tensor(model, name);
      for (Index i = 0; i < p.size; ++i) model.parameters()[p.offset + i] *= by;
    }
    return model;
  };
  {
    Model<float> model =
        scaled({"model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight"}, 1e25f);
    CpuTrainer<float> trainer(model, {});
    check_stops(model, trainer, batch, {"step 1:", "layer 1, swiglu", "not finite"});
  }
  {
    Model<float> model = scaled(
        {"model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight"},
        1e25f);
    CpuTrainer<float> trainer(model, {});
    check_stops(model, trainer, batch, {"step 1:", "layer 0, gate", "not finite"});
  }
  {  // The loss is finite; its gradient is multiplied by 1 / rms(x), which is large for tiny x.
    TransformerConfig config = tiny_config();
    config.norm_epsilon = 1e-30;
    Model<float> model = lively_model<float>(config);
    for (const ParameterSpec& p : model.table()) {
      const float by = ends_with(p.name, "o_proj.weight") || ends_with(p.name, "down_proj.weight")
                           ? 0
                       : ends_with(p.name, "embed_tokens.weight")                    ? 1e-19f
                       : p.name == "model.norm.weight" || p.name == "lm_head.weight" ? 1e13f
                                                                                     : 1;
      for (Index i = 0; i < p.size; ++i) model.parameters()[p.offset + i] *= by;
    }
    CpuTrainer<float> trainer(model, {});
    REQUIRE(std::isfinite(model.loss(batch)));
    check_stops(model, trainer, batch,
                {"step 1:", "gradient of model.layers.1.mlp.down_proj.weight", "not finite"});
  }
}

TEST_CASE("training does not depend on the number of threads", "[training][determinism]") {
  CHECK(same_for_any_threads([] {
    Model<float> model = lively_model<float>(tiny_config());
    CpuTrainer<float> trainer(model, {});
    for (Index n = 1; n <= 3; ++n) trainer.step(random_batch(3, 6, 13, n));
    return to_vector(model.parameters());
  }));
}
