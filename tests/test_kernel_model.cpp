// The whole model on the kernels, emulated, against the CPU's in double: it may err as much more
// than the CPU's model in float as any low precision may. The third of ten steps is the first that
// is replayed from a recording.

#include "cuda/cuda_backend.hpp"
#include "reference/training.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

TransformerConfig parity_config() {
  TransformerConfig c;
  c.vocabulary = 61, c.layers = 2, c.channels = 64, c.heads = 2, c.kv_heads = 1, c.inner = 96;
  c.context = 48, c.window = 20;
  return c;
}

template <class B, class T>
std::vector<double> on_host(const T* data, std::size_t size) {
  std::vector<T> host(size);
  B::download(host.data(), data, Index(size));
  return {host.begin(), host.end()};
}

struct Tensor {
  std::string name;
  std::vector<double> values;
  double factor;
};

/// What one pass and ten steps leave, from the same parameters in every backend.
template <class B, class T>
std::vector<Tensor> answers() {
  const TransformerConfig config = parity_config();
  const std::vector<float> start = to_vector(lively_model<float>(config).parameters());
  Transformer<B, T> model(config, 1);
  model.set_parameters(std::vector<T>(start.begin(), start.end()));
  const Batch batch = random_batch(2, 48, config.vocabulary, 3, 7);
  std::vector<Tensor> tensors;
  tensors.push_back({"loss", {model.loss(batch)}, value_factor});
  const std::vector<T> logits = model.logits();
  tensors.push_back({"logits", {logits.begin(), logits.end()}, value_factor});
  model.backward(batch);
  const auto gradient = on_host<B>(model.gradients().data(), model.gradients().size());
  for (const ParameterSpec& p : model.table())
    tensors.push_back({p.name,
                       {gradient.begin() + p.offset, gradient.begin() + p.offset + p.size},
                       gradient_factor});
  Trainer<B, T> trainer(model, {.learning_rate = 1e-3, .warmup = 2});
  std::vector<double> losses;
  for (Index n = 1; n <= 10; ++n)
    losses.push_back(trainer.step(random_batch(2, 48, config.vocabulary, 10 + n, 7)).loss);
  tensors.push_back({"losses of ten steps", losses, gradient_factor});
  tensors.push_back({"parameters after ten steps",
                     on_host<B>(model.parameters().data(), model.parameters().size()),
                     gradient_factor});

  auto cache = model.make_cache(50, 2);
  model.decode(std::span(batch.tokens).first(7), cache, 0);
  model.decode(std::span(batch.tokens).first(3), cache, 1);
  std::vector<double> decoded;
  for (const std::vector<int>& pair : {std::vector<int>{5, 6}, {7, -1}, {8, 9}}) {
    const std::vector<T> rows = model.decode_each(pair, cache);
    const std::size_t kept = pair[1] < 0 ? rows.size() / 2 : rows.size();
    decoded.insert(decoded.end(), rows.begin(), rows.begin() + long(kept));
  }
  tensors.push_back({"decoding", decoded, gradient_factor});
  return tensors;
}

}  // namespace

TEST_CASE("the model on the kernels errs no more than a model in float may", "[kernels][model]") {
  const auto exact = answers<CpuBackend, double>();
  const auto plain = answers<CpuBackend, float>(), kernels = answers<EmulatedBackend, float>();
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const Comparison allowed = compare(plain[i].values, exact[i].values),
                     found = compare(kernels[i].values, exact[i].values);
    CAPTURE(exact[i].name, i, allowed.error, found.error, found.where);
    CHECK(within(found, low_precision_budget<float>(allowed, exact[i].factor)));
  }
}

TEST_CASE("two runs of the model on the kernels leave the same bytes", "[kernels][model]") {
  const auto parameters = [] {
    TransformerConfig config = parity_config();
    config.context = 12;
    Transformer<EmulatedBFloat16Backend, float> model(config, 1);
    Trainer<EmulatedBFloat16Backend, float> trainer(model, {.learning_rate = 1e-2, .warmup = 0});
    for (Index n = 1; n <= 3; ++n) trainer.start(random_batch(2, 12, config.vocabulary, n));
    CHECK(std::isfinite(trainer.finish().loss));
    return on_host<EmulatedBFloat16Backend>(model.parameters().data(), model.parameters().size());
  };
  CHECK(parameters() == parameters());
}
