#pragma once
// A whole model on any backend against float64 on the CPU: logits, losses, every gradient and ten
// steps of AdamW, each beside the error of the plain program (plain_backend.hpp). Without a test
// framework.

#include <cstring>

#include "cuda/cuda_backend.hpp"
#include "reference/training_step.hpp"
#include "reference/transformer_host.hpp"
#include "tests/plain_backend.hpp"
#include "tests/tiny_models.hpp"

namespace lazy {
extern template class Transformer<EmulatedBackend, float>;
extern template class Transformer<EmulatedBFloat16Backend, float>;
extern template class Trainer<EmulatedBackend, float>;
extern template class Trainer<EmulatedBFloat16Backend, float>;
extern template class Transformer<CudaBackend, float>;
extern template class Transformer<CudaBFloat16Backend, float>;
extern template class Trainer<CudaBackend, float>;
extern template class Trainer<CudaBFloat16Backend, float>;
extern template class Transformer<CpuBackend, float>;
extern template class Transformer<CpuBackend, double>;
extern template class Trainer<CpuBackend, float>;
extern template class Trainer<CpuBackend, double>;
}  // namespace lazy

namespace lazy::test {

/// What training hands on from one step to the next.
struct TrainingState {
  std::vector<double> parameters, first_moment, second_moment;
  Index steps = 0;
};

struct ModelCase {
  const char* name;
  TransformerConfig config;
  Index sequences, length;
  std::uint64_t seed = 1;

  Batch batch(Index step) const {
    return random_batch(sequences, length, config.vocabulary, 1000 * seed + step, 7);
  }
};

inline constexpr TrainingConfig parity_training{
    .learning_rate = 3e-3, .warmup = 7, .schedule_steps = 20, .weight_decay = 0.1, .clip = 1};

/// Numbers of float: every parameter matters, activations are of size 1, tau lies on both sides of
/// 0.
inline TrainingState lively_state(const ModelCase& c) {
  TrainingState state;
  Random random(c.seed);
  Index taus = 0;
  for (const ParameterSpec& p : parameter_table(c.config))
    for (Index i = 0; i < p.size; ++i) {
      const double z = random.normal(), tau[] = {-0.6, -0.95, 0.3, -1.3};
      const double deviation = p.shape.size() == 2 ? 1.5 / std::sqrt(double(p.shape[1])) : 0.2;
      state.parameters.push_back(
          float(ends_with(p.name, "tau") ? tau[taus++ % 4] + 0.01 * z : p.mean + deviation * z));
    }
  state.first_moment.assign(state.parameters.size(), 0);
  state.second_moment = state.first_moment;
  return state;
}

template <class B, class T, class U>
std::vector<double> downloaded(const U* from, Index size) {
  std::vector<T> host(size);
  B::download(host.data(), from, size);
  return {host.begin(), host.end()};
}

template <class B, class T>
void upload(typename B::template Buffer<T>& to, const std::vector<double>& values) {
  const std::vector<T> host(values.begin(), values.end());
  B::upload(to.data(), host.data(), Index(host.size()));
}

/// A model of a backend, with its trainer.
template <class B, class T>
struct Run {
  Transformer<B, T> model;
  Trainer<B, T> trainer;

  Run(const ModelCase& c, const TrainingState& from)
      : model(c.config, 1), trainer(model, parity_training) {
    model.set_parameters(std::vector<T>(from.parameters.begin(), from.parameters.end()));
    upload<B, T>(trainer.first_moment(), from.first_moment);
    upload<B, T>(trainer.second_moment(), from.second_moment);
    trainer.resume_at(from.steps);
  }
  TrainingState state() {
    const auto all = [](const auto& buffer) {
      return downloaded<B, T>(buffer.data(), Index(buffer.size()));
    };
    return {all(model.parameters()), all(trainer.first_moment()), all(trainer.second_moment()),
            trainer.steps_done()};
  }
  void steps(const ModelCase& c, Index count) {
    for (Index n = 0; n < count; ++n) trainer.step(c.batch(trainer.steps_done() + 1));
  }
};

struct ModelTensor {
  std::string name;
  std::vector<double> values;
};

}  // namespace lazy::test
