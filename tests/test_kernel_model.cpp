// The whole model on the CPU in float and on the kernels, emulated, in float and bfloat16: logits,
// losses, every gradient, ten steps and decoding err no more than the rule for low precision
// allows. The third of ten steps is the first that is replayed from a recording.

#include "cuda/cuda_backend.hpp"
#include "reference/training.hpp"
#include "tests/catch.hpp"
#include "tests/parity/model.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

template <class B, class T>
std::vector<double> on_host(const T* data, std::size_t size) {
  std::vector<T> host(size);
  B::download(host.data(), data, Index(size));
  return {host.begin(), host.end()};
}

template <class A, class B>
void check_model(const ModelJudge<A>& judge) {
  for (const ModelPart& part : judge.judge(judge.template answers<B>()))
    for (const TensorVerdict& tensor : part.tensors) {
      CAPTURE(tensor.name, tensor.found.error, tensor.plain, tensor.budget, tensor.found.where);
      CHECK(tensor.passes());
    }
}

}  // namespace

TEST_CASE("the model in float errs no more than plain loops in float may", "[kernels][model]") {
  const ModelJudge<float> judge(parity_model(1));
  check_model<float, CpuBackend>(judge);
  check_model<float, EmulatedBackend>(judge);
}

TEST_CASE("the model in bfloat16 errs no more than plain loops in bfloat16 may",
          "[kernels][model]") {
  check_model<BFloat16, EmulatedBFloat16Backend>(ModelJudge<BFloat16>(parity_model(1)));
}

TEST_CASE("two runs of the model on the kernels leave the same bytes", "[kernels][model]") {
  const auto parameters = [] {
    TransformerConfig config = parity_model(1).config;
    config.context = 12;
    Transformer<EmulatedBFloat16Backend, float> model(config, 1);
    Trainer<EmulatedBFloat16Backend, float> trainer(model, {.learning_rate = 1e-2, .warmup = 0});
    for (Index n = 1; n <= 3; ++n) trainer.start(random_batch(2, 12, config.vocabulary, n));
    for (Index n = 1; n <= 3; ++n) CHECK(std::isfinite(trainer.finish().loss));
    return on_host<EmulatedBFloat16Backend>(model.parameters().data(), model.parameters().size());
  };
  CHECK(parameters() == parameters());
}

TEST_CASE("after steps that were replayed the model knows what it holds", "[kernels][model]") {
  const TransformerConfig config = parity_model(1).config;
  Transformer<EmulatedBackend, float> model(config, 1);
  Trainer<EmulatedBackend, float> trainer(model, {.learning_rate = 0, .warmup = 0});
  const Batch batch = random_batch(1, 9, config.vocabulary);
  const double loss = model.loss(batch);
  for (int n = 0; n < 4; ++n) trainer.step(batch);
  CHECK(mentions(refusal<std::logic_error>([&] { model.logits(); }), "their gradient"));
  const std::vector<float> losses = model.token_losses();
  REQUIRE(losses.size() == 9);
  double sum = 0;
  for (const float x : losses) sum += double(x);
  CHECK(sum / 9 == loss);
  CHECK(mentions(refusal<std::invalid_argument>([&] { model.backward(batch); }), "call loss"));
}

TEST_CASE("a step that fails on the kernels is named, whatever is under way", "[kernels][model]") {
  const TransformerConfig config = parity_model(1).config;
  Transformer<EmulatedBackend, float> model(config, 1);
  Trainer<EmulatedBackend, float> trainer(model, {.warmup = 0});
  std::vector<float> parameters(model.parameters().size());
  const auto next = [&](Index n) { return random_batch(1, 9, config.vocabulary, n); };
  for (Index n = 1; n <= 4; ++n) trainer.step(next(n));
  EmulatedBackend::download(parameters.data(), model.parameters().data(), Index(parameters.size()));
  const ParameterSpec& broken = model.table().back();
  parameters[broken.offset] = std::numeric_limits<float>::quiet_NaN();
  model.set_parameters(parameters);
  for (Index n = 5; n <= 8; ++n) trainer.start(next(n));
  CHECK(mentions_all(refusal<std::runtime_error>([&] { trainer.finish(); }),
                     {"step 5: ", broken.name.c_str(), "not finite"}));
  CHECK(trainer.steps_done() == 4);
}

TEST_CASE("a recorded decoding step serves all lengths", "[kernels][model][decoding]") {
  const TransformerConfig config = parity_model(1).config;
  const std::vector<int> prompt = random_batch(1, 5, config.vocabulary).tokens;
  // Memory taken before a step has it run anew instead of replayed.
  const auto decoded = [&](bool anew) {
    using Backend = EmulatedBFloat16Backend;
    Transformer<Backend, float> model(config, 1);
    auto cache = model.make_cache(12, 2), other = model.make_cache(9, 2);
    model.decode(prompt, cache, 1);
    std::vector<std::vector<float>> logits;
    const auto step = [&](const std::vector<int>& tokens, auto& of) {
      Backend::Buffer<float> taken;
      if (anew) Backend::resize(taken, 1);
      std::vector<float> rows = model.decode_each(tokens, of);
      if (tokens[1] < 0) rows.resize(rows.size() / 2);
      logits.push_back(std::move(rows));
    };
    for (int n = 0; n < 6; ++n) step({n, n == 4 ? -1 : n + 7}, cache);
    for (int n = 0; n < 4; ++n) step({n + 20, n + 27}, other);
    cache.lengths[1] = 0;  // another sequence in its place
    for (int n = 0; n < 4; ++n) step({n, n + 7}, cache);
    return logits;
  };
  CHECK(decoded(false) == decoded(true));
}
