#include "tests/parity/model.hpp"

#include "cuda/cuda_backend.hpp"
#include "reference/training.hpp"
#include "tests/plain_backend.hpp"

namespace lazy::test {
namespace {

constexpr TrainingConfig training{.learning_rate = 3e-3, .warmup = 4, .schedule_steps = 20};

/// Where a run is taken up, in numbers of float.
struct Start {
  std::vector<float> parameters, second_moment;
};

Batch batch_of(const ModelCase& c, Index step) {
  return random_batch(c.sequences, c.length, c.config.vocabulary, 1000 * c.seed + step, 7);
}

template <class B, class T>
std::vector<double> on_host(const T* data, Index size) {
  std::vector<T> host(size);
  B::download(host.data(), data, size);
  return {host.begin(), host.end()};
}

template <class T>
std::vector<double> slice(const std::vector<T>& x, const ParameterSpec& p) {
  return {x.begin() + p.offset, x.begin() + p.offset + p.size};
}

template <class B, class T>
Transformer<B, T> model_at(const ModelCase& c, const Start& start) {
  Transformer<B, T> model(c.config, 1);
  model.set_parameters(std::vector<T>(start.parameters.begin(), start.parameters.end()));
  return model;
}

/// Every parameter matters: activations are of size 1, tau lies on both sides of 0. The second
/// moments are those of a run that has been under way, so that a step is a smooth function of its
/// gradient; from zero it would be little more than the gradient's sign.
Start start_of(const ModelCase& c) {
  Start start;
  Random random(c.seed);
  const auto table = parameter_table(c.config);
  for (const ParameterSpec& p : table)
    for (Index i = 0; i < p.size; ++i) {
      const double z = random.normal(), tau[] = {-0.6, -0.95, 0.3, -1.3};
      const double deviation = p.shape.size() == 2 ? 1.5 / std::sqrt(double(p.shape[1])) : 0.2;
      start.parameters.push_back(float(ends_with(p.name, "tau")
                                           ? tau[(start.parameters.size()) % 4] + 0.01 * z
                                           : p.mean + deviation * z));
    }
  auto model = model_at<CpuBackend, double>(c, start);
  const std::vector<double> gradient = gradient_of(model, batch_of(c, 0));
  for (const ParameterSpec& p : table) {
    double squares = 0;
    for (const double g : slice(gradient, p)) squares += g * g;
    start.second_moment.insert(start.second_moment.end(), p.size, float(squares / double(p.size)));
  }
  return start;
}

/// The same with every parameter a few roundings away.
template <class A>
Start moved(Start start, Index roundings) {
  for (float& w : start.parameters) w *= 1 + float(roundings) * float(epsilon_of<A>());
  return start;
}

template <class B, class T>
std::vector<ModelTensor> answers_from(const ModelCase& c, const Start& start) {
  std::vector<ModelTensor> all;
  auto model = model_at<B, T>(c, start);
  const Index size = Index(model.parameters().size());
  const Batch batch = batch_of(c, 0);
  const double loss = model.loss(batch);
  const std::vector<T> logits = model.logits(), losses = model.token_losses();
  all.push_back({"logits", "logits", {logits.begin(), logits.end()}, value_factor});
  all.push_back({"loss", "loss", {loss}, value_factor});
  all.push_back({"loss", "losses of the tokens", {losses.begin(), losses.end()}, value_factor});
  model.backward(batch);
  const auto gradient = on_host<B>(model.gradients().data(), size);
  for (const ParameterSpec& p : model.table())
    all.push_back({"gradients", "gradient of " + p.name, slice(gradient, p), gradient_factor});

  Trainer<B, T> trainer(model, training);
  const std::vector<T> moments(start.second_moment.begin(), start.second_moment.end());
  B::upload(trainer.second_moment().data(), moments.data(), size);
  std::vector<double> step_losses, norms;
  for (Index n = 1; n <= 10; ++n) {
    const StepResult result = trainer.step(batch_of(c, n));
    step_losses.push_back(result.loss), norms.push_back(result.gradient_norm);
  }
  all.push_back({"ten steps", "losses of ten steps", step_losses, gradient_factor});
  all.push_back({"ten steps", "gradient norms of ten steps", norms, gradient_factor});
  auto change = on_host<B>(model.parameters().data(), size);
  for (Index i = 0; i < size; ++i) change[i] -= double(start.parameters[i]);
  for (const ParameterSpec& p : model.table())
    all.push_back({"ten steps", "change of " + p.name, slice(change, p), gradient_factor});

  model.set_parameters(std::vector<T>(start.parameters.begin(), start.parameters.end()));
  auto cache = model.make_cache(50, 2);
  model.decode(std::span(batch.tokens).first(7), cache, 0);
  model.decode(std::span(batch.tokens).first(3), cache, 1);
  std::vector<double> decoded;
  for (const std::vector<int>& pair : {std::vector<int>{5, 6}, {7, -1}, {8, 9}}) {
    const std::vector<T> rows = model.decode_each(pair, cache);
    decoded.insert(decoded.end(), rows.begin(),
                   rows.begin() + (pair[1] < 0 ? c.config.vocabulary : Index(rows.size())));
  }
  all.push_back({"decoding", "decoded logits", decoded, value_factor});
  return all;
}

}  // namespace

ModelCase parity_model(std::uint64_t seed) {
  TransformerConfig c;
  c.vocabulary = 61, c.layers = 2, c.channels = 64, c.heads = 2, c.kv_heads = 1, c.inner = 96;
  c.context = 48, c.window = 20;
  c.norm_epsilon = 0.01;  // a share of the mean square that shows in 16 bits
  return {c, 2, 48, seed};
}

std::string describe(const ModelCase& m) {
  const TransformerConfig& c = m.config;
  std::ostringstream text;
  text << c.layers << " layers C " << c.channels << " T " << m.length << " B " << m.sequences
       << " H " << c.heads << "/" << c.kv_heads << " W " << c.window << " seed " << m.seed;
  return text.str();
}

bool ModelPart::passes() const {
  return std::all_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.passes(); });
}

const TensorVerdict& ModelPart::nearest() const {
  const auto share = [](const TensorVerdict& t) { return t.found.error / t.budget; };
  return *std::max_element(tensors.begin(), tensors.end(),
                           [&](const auto& a, const auto& b) { return share(a) < share(b); });
}

template <class A>
ModelJudge<A>::ModelJudge(const ModelCase& c) : case_(c) {
  const Start start = start_of(c);
  for (Index n = 0; n < plain_orders(c.length); ++n) {
    const Start near = moved<A>(start, n);
    const auto exact = answers_from<CpuBackend, double>(c, near);
    const auto plain = answers_from<PlainBackend<A>, float>(c, near);
    plain_.resize(exact.size());
    for (std::size_t i = 0; i < exact.size(); ++i)
      keep_worse(plain_[i], plain[i].values, exact[i].values);
    if (n == 0) exact_ = exact;
  }
}

template <class A>
template <class B>
std::vector<ModelTensor> ModelJudge<A>::answers() const {
  return answers_from<B, float>(case_, start_of(case_));
}

template <class A>
ModelVerdict ModelJudge<A>::judge(const std::vector<ModelTensor>& got) const {
  ModelVerdict verdict;
  for (std::size_t i = 0; i < exact_.size(); ++i) {
    if (verdict.empty() || verdict.back().name != exact_[i].part)
      verdict.push_back({exact_[i].part, {}});
    verdict.back().tensors.push_back(
        {exact_[i].name, compare(got[i].values, exact_[i].values), plain_[i].error,
         low_precision_budget(plain_[i], exact_[i].factor, epsilon_of<A>())});
  }
  return verdict;
}

template class ModelJudge<float>;
template class ModelJudge<BFloat16>;
#define LAZY_INSTANTIATE(A, B) template std::vector<ModelTensor> ModelJudge<A>::answers<B>() const;
LAZY_INSTANTIATE(float, CpuBackend)
LAZY_INSTANTIATE(float, EmulatedBackend)
LAZY_INSTANTIATE(float, CudaBackend)
LAZY_INSTANTIATE(BFloat16, EmulatedBFloat16Backend)
LAZY_INSTANTIATE(BFloat16, CudaBFloat16Backend)
#undef LAZY_INSTANTIATE

}  // namespace lazy::test
