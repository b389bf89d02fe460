#pragma once
// A training run: model, optimizer, generator and data cursor, advanced one step at a time. `lazy
// train` and `lazy compare` are loops around it. It computes on any device; what it holds and what
// it leaves, checkpoint and log, do not know which.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/checkpoint.hpp"
#include "apps/device.hpp"
#include "apps/run_log.hpp"
#include "apps/training_data.hpp"
#include "reference/cpu_backend.hpp"
#include "reference/sampling.hpp"
#include "reference/training.hpp"

namespace lazy {

using Model = Transformer<CpuBackend, float>;

/// What a run computes on. With `processes`, which must outlive it, each of them makes the same run
/// and computes its share of every batch; the first one alone evaluates.
struct RunPlace {
  Device device;
  Communicator* processes = nullptr;
};

class Run {
 public:
  /// Starts at step 0, with parameters and crops drawn from `seed`. `data` must outlive the run.
  /// Throws std::invalid_argument if the model does not fit the data's vocabulary or the text is
  /// too short.
  Run(const std::string& preset, const TransformerConfig& model, const TrainingConfig& training,
      std::uint64_t seed, const TrainingData& data, const RunPlace& place = {});
  /// Goes on from a checkpoint. Throws std::invalid_argument if it was trained on other data.
  Run(const Checkpoint& checkpoint, const TrainingData& data, const RunPlace& place = {});
  Run(const Run&) = delete;
  ~Run();

  /// The evaluation of the untrained model: the log's first line.
  LogEntry start();
  /// One update; evaluates after every `evaluate_every` steps. A GPU is not waited for after each:
  /// up to step `until`, the next ones may be under way when it returns. Throws as Trainer::step.
  LogEntry step(Index until = 0);

  Index steps_done() const;
  /// Further steps that were started; `step` hands them out.
  Index steps_under_way() const;
  /// How many may be: 1 where `step` does all the work.
  Index steps_at_once() const;
  /// What a checkpoint says, without tensors and how far the run is.
  const Checkpoint& identity() const { return identity_; }
  /// Whether it is so in any of the processes, which all have to ask.
  bool anywhere(bool here);
  /// Throws std::logic_error while steps are under way.
  Checkpoint checkpoint() const;
  /// Of a run on the CPU; elsewhere std::logic_error.
  Model& model();
  /// Measures the model as it is now, on held-out data.
  Evaluation evaluate();

 private:
  const TrainingData& data_;
  Checkpoint identity_;  // all of a checkpoint but what changes with every step
  class Backend;
  template <class B>
  class BackendOf;
  std::unique_ptr<Backend> backend_;  // model and trainer
  bool evaluates_;
  Random random_;
  Index sequences_drawn_ = 0;
  std::vector<Batch> validation_;
};

/// The model of a checkpoint.
template <class B = CpuBackend>
Transformer<B, float> load_model(const Checkpoint& checkpoint);

/// Batches of held-out data as an evaluation takes them; the same sequences in any number of equal
/// `parts`.
std::vector<Batch> evaluation_batches(const TransformerConfig& model,
                                      const TrainingConfig& training, const TrainingData& data,
                                      Index parts = 1);

/// Validation loss over the batches, attention of the first one's first sequences, and a sample.
template <class B>
Evaluation evaluate(Transformer<B, float>& model, const std::string& tokenizer,
                    const std::vector<Batch>& validation);

/// Text of `tokens` new tokens after a prompt. `write`, if given, receives each new piece as it is
/// drawn. Throws std::invalid_argument if the prompt is empty.
template <class B>
std::string generate_text(Transformer<B, float>& model, const std::string& tokenizer,
                          const std::string& prompt, Index tokens, const SamplingOptions& options,
                          Random& random,
                          const std::function<void(const std::string&)>& write = nullptr);

/// The prompt a sample starts from when nobody gave one.
std::string default_prompt(const std::string& tokenizer);

/// Bytes of the device's memory that a run needs: parameters, gradient, both moments, and the
/// activations of one batch.
double run_memory(const TransformerConfig& model, Index sequences, const Device& device = {});

}  // namespace lazy
