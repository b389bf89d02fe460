#include "apps/run.hpp"

#include <cmath>
#include <stdexcept>

#include "reference/model_diagnostics.hpp"

namespace lazy {
namespace {

constexpr Index validation_count = 8;     // batches
constexpr Index diagnosed_sequences = 4;  // of the first validation batch
constexpr Index rows_at_once = 64;
constexpr Index sample_tokens = 200;
constexpr std::uint64_t sample_seed = 1;

Batch first_sequences(const Batch& batch, Index count) {
  const Index n = std::min(count, batch.sequences), size = n * batch.length;
  return {n,
          batch.length,
          {batch.tokens.begin(), batch.tokens.begin() + size},
          {batch.targets.begin(), batch.targets.begin() + size}};
}

struct Mean {
  double sum = 0;
  Index count = 0;
  void add(double x) { sum += x, ++count; }
  double value() const { return count ? sum / double(count) : 0; }
};

double norm(const float* x, Index size) {
  return std::sqrt(squared_norm(x, size));
}

// Of the model's last `loss`, on `batch`.
template <class B>
BackcopyEvaluation evaluate_backcopy(const Transformer<B, float>& model, const Batch& batch) {
  const std::vector<char> active = Backcopy::active(batch);
  const std::vector<float> losses = model.token_losses();
  const Index N = batch.sequences, T = batch.length;
  Mean loss[2], start[2], mass[2], output[2], start_value, other_value;  // [dormant, active]
  for (Index i = 0; i < N * T; ++i) loss[int(active[i])].add(losses[i]);

  const TransformerConfig& c = model.config();
  const Index D = c.head_dim(), group = c.heads / c.kv_heads;
  for (Index layer = 0; layer < c.layers; ++layer) {
    const std::vector<float> values = model.attention_values(layer);
    for (Index b = 0; b < N; ++b)
      for (Index h = 0; h < c.heads; ++h) {
        const auto value = [&](Index j) {
          return &values[((b * T + j) * c.kv_heads + h / group) * D];
        };
        start_value.add(norm(value(0), D));
        std::vector<float> weights;  // of some rows at a time
        for (Index i = 1; i < T; ++i) {
          const int kind = active[b * T + i];
          const Index first = i - i % rows_at_once;
          if (i == 1 || i == first)
            weights =
                model.attention_weights(layer, b, h, first, std::min(rows_at_once, T - first));
          const float* row = &weights[(i - first) * T];
          std::vector<float> out(D, 0.f);
          double row_mass = 0;
          for (Index j = 0; j <= i; ++j) {
            row_mass += row[j];
            for (Index d = 0; d < D; ++d) out[d] += row[j] * value(j)[d];
          }
          other_value.add(norm(value(i), D));
          start[kind].add(row[0]);
          mass[kind].add(row_mass);
          output[kind].add(norm(out.data(), D));
        }
      }
  }
  return {.copy_loss = loss[1].value(),
          .bigram_loss = loss[0].value(),
          .dormant_start = start[0].value(),
          .dormant_mass = mass[0].value(),
          .active_start = start[1].value(),
          .active_mass = mass[1].value(),
          .start_value = start_value.value() / other_value.value(),
          .dormant_output = output[0].value() / output[1].value()};
}

Checkpoint fresh_identity(const std::string& preset, const TransformerConfig& model,
                          const TrainingConfig& training, std::uint64_t seed,
                          const TrainingData& data) {
  validate(training);
  if (model.vocabulary < data.vocabulary())
    throw std::invalid_argument("the model's vocabulary is " + std::to_string(model.vocabulary) +
                                ", the data needs " + std::to_string(data.vocabulary()) +
                                "; choose another preset");
  Checkpoint c;
  c.preset = preset;
  c.model = model;
  c.training = training;
  c.seed = seed;
  c.tokenizer = tokenizer_of(data);
  c.data_kind = data.kind;
  c.data_checksum = data.sha256;
  return c;
}

const TrainingData& same_data(const Checkpoint& c, const TrainingData& data) {
  if (c.data_kind != data.kind || c.data_checksum != data.sha256)
    throw std::invalid_argument("the checkpoint was trained on other data (" + c.data_kind + " " +
                                c.data_checksum + ", found " + data.kind + " " + data.sha256 +
                                "); resume with the text it was started with");
  return data;
}

Checkpoint without_tensors(Checkpoint c) {
  c.parameters.clear();
  c.first_moment.clear();
  c.second_moment.clear();
  return c;
}

}  // namespace

class Run::Backend {
 public:
  virtual ~Backend() = default;
  virtual void restore(const Checkpoint& from) = 0;
  virtual void keep(Checkpoint& to) = 0;
  virtual void start(const Batch& batch) = 0;
  virtual StepResult finish() = 0;
  virtual Index steps_done() const = 0;
  virtual Index steps_under_way() const = 0;
  virtual Index steps_at_once() const = 0;
  virtual bool anywhere(bool here) = 0;
  virtual Evaluation evaluate(const std::string& tokenizer, const std::vector<Batch>& batches) = 0;
  virtual Model* cpu_model() = 0;
};

template <class B>
class Run::BackendOf final : public Backend {
 public:
  BackendOf(const TransformerConfig& model, std::uint64_t seed, const TrainingConfig& training,
            Communicator* processes)
      : processes_(processes), model_(model, seed), trainer_(model_, training, processes) {}

  void restore(const Checkpoint& from) override {
    model_.set_parameters(from.parameters);
    const auto upload = [](auto& buffer, const std::vector<float>& values) {
      if (values.size() != buffer.size())
        throw std::invalid_argument("the checkpoint's moments have " +
                                    std::to_string(values.size()) + " numbers, the model " +
                                    std::to_string(buffer.size()) + " parameters");
      B::upload(buffer.data(), values.data(), Index(values.size()));
    };
    upload(trainer_.first_moment(), from.first_moment);
    upload(trainer_.second_moment(), from.second_moment);
    trainer_.resume_at(from.step);
  }
  void keep(Checkpoint& to) override {
    const auto download = [](std::vector<float>& values, auto& buffer) {
      values.resize(buffer.size());
      B::download(values.data(), buffer.data(), Index(values.size()));
    };
    download(to.parameters, model_.parameters());
    download(to.first_moment, trainer_.first_moment());
    download(to.second_moment, trainer_.second_moment());
  }
  void start(const Batch& batch) override { trainer_.start(batch); }
  StepResult finish() override { return trainer_.finish(); }
  Index steps_done() const override { return trainer_.steps_done(); }
  Index steps_under_way() const override { return trainer_.steps_under_way(); }
  // On the CPU `start` does all the work.
  Index steps_at_once() const override { return on_cpu ? 1 : steps_kept; }
  bool anywhere(bool here) override {
    if (!processes_) return here;
    double sum = here;
    B::resize(votes_, 1);
    B::upload(votes_.data(), &sum, 1);
    processes_->sum(votes_.data(), 1);
    B::download(&sum, votes_.data(), 1);
    return sum > 0;
  }
  Evaluation evaluate(const std::string& tokenizer, const std::vector<Batch>& batches) override {
    return lazy::evaluate(model_, tokenizer, batches);
  }
  Model* cpu_model() override {
    if constexpr (on_cpu) return &model_;
    return nullptr;
  }

 private:
  static constexpr bool on_cpu = std::is_same_v<B, CpuBackend>;
  Communicator* processes_;
  typename B::template Buffer<double> votes_;
  Transformer<B, float> model_;
  Trainer<B, float> trainer_;
};

Run::Run(const std::string& preset, const TransformerConfig& model, const TrainingConfig& training,
         std::uint64_t seed, const TrainingData& data, const RunPlace& place)
    : data_(data),
      identity_(fresh_identity(preset, model, training, seed, data)),
      backend_(with_backend(place.device,
                            [&]<class B>() -> std::unique_ptr<Backend> {
                              return std::make_unique<BackendOf<B>>(model, seed, training,
                                                                    place.processes);
                            })),
      evaluates_(!place.processes || place.processes->rank() == 0),
      random_(~seed),
      validation_(evaluation_batches(model, training, data,
                                     place.processes ? place.processes->size() : 1)) {}

Run::Run(const Checkpoint& c, const TrainingData& data, const RunPlace& place)
    : Run(c.preset, c.model, c.training, c.seed, same_data(c, data), place) {
  identity_ = without_tensors(c);
  backend_->restore(c);
  random_ = c.random;
  sequences_drawn_ = c.sequences_drawn;
}

Run::~Run() = default;

Index Run::steps_done() const {
  return backend_->steps_done();
}

Index Run::steps_under_way() const {
  return backend_->steps_under_way();
}

Model& Run::model() {
  if (Model* model = backend_->cpu_model()) return *model;
  throw std::logic_error("model: the run is not on the CPU; load the model of its checkpoint");
}

Index Run::steps_at_once() const {
  return backend_->steps_at_once();
}

bool Run::anywhere(bool here) {
  return backend_->anywhere(here);
}

Evaluation Run::evaluate() {
  return backend_->evaluate(identity_.tokenizer, validation_);
}

LogEntry Run::start() {
  LogEntry entry{.step = 0, .evaluation = {}};
  if (evaluates_) entry.evaluation = evaluate();
  return entry;
}

LogEntry Run::step(Index until) {
  const TrainingConfig& training = identity_.training;
  const auto evaluated = [&](Index step) { return step % training.evaluate_every == 0; };
  // An evaluation is of its step: none is started beyond.
  const auto may_start = [&](Index step) {
    const Index under_way = steps_under_way();
    return under_way == 0 ||
           (step <= until && under_way < backend_->steps_at_once() && !evaluated(step - 1));
  };
  while (may_start(steps_done() + steps_under_way() + 1)) {
    const Batch batch = training_batch(data_, random_, training.batch, identity_.model.context);
    sequences_drawn_ += batch.sequences;
    backend_->start(batch);
  }
  const StepResult result = backend_->finish();
  LogEntry entry{.step = steps_done(),
                 .loss = result.loss,
                 .gradient_norm = result.gradient_norm,
                 .learning_rate = result.learning_rate,
                 .evaluation = {}};
  if (evaluates_ && evaluated(entry.step)) entry.evaluation = evaluate();
  return entry;
}

Checkpoint Run::checkpoint() const {
  if (const Index n = steps_under_way(); n > 0)
    throw std::logic_error("checkpoint: " + std::to_string(n) +
                           " steps are under way; call step for each of them first");
  Checkpoint c = identity_;
  c.step = steps_done();
  c.sequences_drawn = sequences_drawn_;
  c.random = random_;
  backend_->keep(c);
  return c;
}

template <class B>
Transformer<B, float> load_model(const Checkpoint& checkpoint) {
  Transformer<B, float> model(checkpoint.model, checkpoint.seed);
  model.set_parameters(checkpoint.parameters);
  return model;
}

std::vector<Batch> evaluation_batches(const TransformerConfig& model,
                                      const TrainingConfig& training, const TrainingData& data,
                                      Index parts) {
  check_length(data, model.context);
  return validation_batches(data, validation_count * parts, training.batch / parts, model.context);
}

template <class B>
Evaluation evaluate(Transformer<B, float>& model, const std::string& tokenizer,
                    const std::vector<Batch>& validation) {
  const bool backcopy = tokenizer == "backcopy";
  Evaluation e;
  for (const Batch& batch : validation)
    e.validation_loss += model.loss(batch) / double(validation.size());
  const Batch diagnosed =
      backcopy ? validation[0] : first_sequences(validation[0], diagnosed_sequences);
  model.loss(diagnosed);
  const ModelDiagnostics diagnostics = diagnose(model);
  e.attention = diagnostics.all;
  e.dead_heads = diagnostics.dead_heads;
  if (backcopy) e.backcopy = evaluate_backcopy(model, diagnosed);
  Random random(sample_seed);
  e.sample = generate_text(model, tokenizer, default_prompt(tokenizer), sample_tokens, {}, random);
  return e;
}

template <class B>
std::string generate_text(Transformer<B, float>& model, const std::string& tokenizer,
                          const std::string& prompt, Index tokens, const SamplingOptions& options,
                          Random& random, const std::function<void(const std::string&)>& write) {
  validate(options);
  std::vector<int> next = encode(tokenizer, prompt);
  if (next.empty()) throw std::invalid_argument("the prompt is empty; give at least one character");
  auto cache = model.make_cache(Index(next.size()) + tokens);
  std::string text;
  for (Index t = 0; t < tokens; ++t) {
    next = {sample_token(model.decode(next, cache), options, random)};
    const std::string piece = decode(tokenizer, next);
    text += piece;
    if (write) write(piece);
  }
  return text;
}

std::string default_prompt(const std::string& tokenizer) {
  return tokenizer == "backcopy" ? "^" : "\n";
}

double run_memory(const TransformerConfig& c, Index sequences, const Device& device) {
  const Index parameters = parameter_count(parameter_table(c));
  const double rows = double(sequences * c.context), C = double(c.channels), F = double(c.inner),
               kv = double(c.kv_heads * c.head_dim()), V = double(c.vocabulary),
               H = double(c.heads), L = double(c.layers);
  return with_backend(device, [&]<class B>() -> double {
    if constexpr (std::is_same_v<B, CpuBackend>) {
      const double activations =
          rows * (L * (7 * C + 2 * kv + 3 * F) + 7 * C + 2 * kv + 3 * F + 2 * V);
      return 4 * (4 * double(parameters) + activations);
    } else {
      using Activation = typename B::template Activation<float>;
      const bool rounds = !std::is_same_v<Activation, float>;
      // The residual stream, statistics, losses and tokens; then what lies between products.
      const double stream = rows * (L * (2 * C + H + 2) + 2 * C + 5);
      const double between =
          rows * (L * (4 * C + 2 * kv + 3 * F) + (rounds ? 7 : 6) * C + 6 * kv + 3 * F + V);
      const auto step = B::step_bytes({.batch = sequences,
                                       .queries = c.context,
                                       .keys = c.context,
                                       .heads = c.heads,
                                       .kv_heads = c.kv_heads,
                                       .head_dim = c.head_dim(),
                                       .window = c.position == Position::alibi ? c.context
                                                 : c.learns_bias()             ? c.window
                                                                               : 0},
                                      c.channels, parameters);
      return 4 * (4 * double(parameters) + stream) +
             sizeof(Activation) * (between + (rounds ? double(parameters) : 0)) +
             L * double(step.attention_memory) + double(step.workspace);
    }
  });
}

#define LAZY_INSTANTIATE(Backend)                                                                \
  template Transformer<Backend, float> load_model<Backend>(const Checkpoint&);                   \
  template Evaluation evaluate(Transformer<Backend, float>&, const std::string&,                 \
                               const std::vector<Batch>&);                                       \
  template std::string generate_text(Transformer<Backend, float>&, const std::string&,           \
                                     const std::string&, Index, const SamplingOptions&, Random&, \
                                     const std::function<void(const std::string&)>&);

LAZY_INSTANTIATE(CpuBackend)
LAZY_INSTANTIATE(CudaBackend)
LAZY_INSTANTIATE(CudaBFloat16Backend)
LAZY_INSTANTIATE(EmulatedBackend)
LAZY_INSTANTIATE(EmulatedBFloat16Backend)

}  // namespace lazy
