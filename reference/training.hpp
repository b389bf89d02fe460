#pragma once
// One training step: loss, gradient, clipping, AdamW under a warm-up and cosine schedule.

#include "reference/communicator.hpp"
#include "reference/transformer.hpp"

namespace lazy {

/// Learning rate of update `step` (counting from 1): linear warm-up, then a cosine down to
/// minimum_rate * learning_rate at schedule_steps, constant after that.
double scheduled_rate(const TrainingConfig& config, Index step);

struct StepResult {
  double loss = 0;           // mean nats over the batch's targets, before the update
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
};

template <class B, class T>
class Trainer {
 public:
  using Buffer = typename B::template Buffer<T>;

  /// With `processes`, every process has the same model and is given the same batches, and computes
  /// its share of each; it must outlive the trainer.
  Trainer(Transformer<B, T>& model, const TrainingConfig& config,
          Communicator* processes = nullptr);

  /// One update. Throws std::runtime_error naming step, layer and tensor at the first value that is
  /// not finite; the parameters and moments are then still those before the step.
  StepResult step(const Batch& batch) {
    start(batch);
    return finish();
  }
  /// The same in two halves, of which only the second waits for the device. After several starts
  /// each `finish` returns the oldest result not yet returned; a step that fails keeps those after
  /// it from updating. `start` throws std::logic_error if steps_kept steps are under way, `finish`
  /// if none is.
  void start(const Batch& batch);
  StepResult finish();

  /// Whose results were returned, and how many more were started.
  Index steps_done() const { return steps_done_; }
  Index steps_under_way() const { return started_ - steps_done_; }
  Buffer& first_moment() { return first_moment_; }
  Buffer& second_moment() { return second_moment_; }
  /// Continues after step `steps_done`, with moments the caller has filled in.
  void resume_at(Index steps_done) { started_ = measured_ = steps_done_ = steps_done; }

 private:
  Transformer<B, T>& model_;
  TrainingConfig config_;
  Communicator* processes_;
  Buffer first_moment_, second_moment_;
  Index started_ = 0, measured_ = 0, steps_done_ = 0;  // steps; measured: known to the host
  // Of step n at n % steps_kept.
  Batch batches_[steps_kept];
  Index targets_[steps_kept] = {};
  StepOutputs measures_;
  typename B::template Buffer<UpdatePiece> pieces_;
  typename B::template Buffer<StepInputs> inputs_;
  typename B::template Buffer<StepOutputs> outputs_;
  typename B::Recording gradient_recording_, update_recording_;

  UpdateRule rule() const { return {.weight_decay = config_.weight_decay, .clip = config_.clip}; }
  void load(Index step);
  std::string what_failed(Index step);
};

}  // namespace lazy
