#pragma once
// The definitions of training.hpp, for the file that instantiates a backend's trainer.

#include <cmath>
#include <stdexcept>

#include "reference/training.hpp"
#include "reference/transformer_passes.hpp"

namespace lazy {
namespace detail {

/// The table's tensors in pieces that one launch can share out.
inline std::vector<UpdatePiece> update_pieces(const std::vector<ParameterSpec>& table) {
  std::vector<UpdatePiece> pieces;
  for (const ParameterSpec& p : table)
    for (Index i = 0; i < p.size; i += update_piece_size)
      pieces.push_back({p.offset + i, std::min(update_piece_size, p.size - i), p.decay});
  return pieces;
}

}  // namespace detail

template <class B, class T>
Trainer<B, T>::Trainer(Transformer<B, T>& model, const TrainingConfig& config,
                       Communicator* processes)
    : model_(model), config_(config), processes_(processes) {
  const Index size = Index(model.parameters().size());
  for (Buffer* moment : {&first_moment_, &second_moment_}) {
    B::resize(*moment, size);
    B::zero(moment->data(), size);
  }
  detail::assign<B>(pieces_, detail::update_pieces(model.table()));
  detail::assign<B>(outputs_, StepOutputs());
}

// Brings what a step reads to the device: its batch, or this process's share, and its numbers.
template <class B, class T>
void Trainer<B, T>::load(Index step) {
  const Batch& batch = batches_[step % steps_kept];
  if (processes_)
    model_.load(part_of(batch, processes_->rank(), processes_->size()));
  else
    model_.load(batch);
  detail::assign<B>(inputs_,
                    StepInputs{.step = step,
                               .loss_scale = 1 / double(targets_[step % steps_kept]),
                               .learning_rate = scheduled_rate(config_, step),
                               .correction1 = 1 / (1 - std::pow(rule().beta1, double(step))),
                               .correction2 = 1 / (1 - std::pow(rule().beta2, double(step)))});
}

template <class B, class T>
void Trainer<B, T>::start(const Batch& batch) {
  if (steps_under_way() == steps_kept)
    throw std::logic_error("start: " + std::to_string(steps_kept) +
                           " steps are under way, which is all that are kept; finish one first");
  const Index step = started_ + 1, key = batch.sequences << 32 | batch.length;
  batches_[step % steps_kept] = batch;
  targets_[step % steps_kept] = std::max<Index>(1, target_count(batch));
  load(step);

  T* gradients = model_.gradients().data();
  const Index N = Index(model_.losses().size()), size = Index(model_.gradients().size());
  const auto update = [&] {
    B::measure_step(outputs_.data(), model_.losses().data(), N, gradients, size, inputs_.data());
    B::adamw_step(model_.parameters().data(), model_.rounded_parameters(), first_moment_.data(),
                  second_moment_.data(), gradients, pieces_.data(), Index(pieces_.size()), rule(),
                  inputs_.data(), outputs_.data());
  };
  B::run(gradient_recording_, key, [&] {
    B::zero(gradients, size);
    model_.add_gradient(inputs_.data());
    if (!processes_) update();
  });
  // Sums over processes stay out of what is recorded: which of them replay, and which run anew,
  // each finds out by itself.
  if (processes_) {
    processes_->sum(model_.losses().data(), N);
    processes_->sum(gradients, size);
    B::run(update_recording_, key, update);
  }
  started_ = step;
}

// Nothing has updated since the failed step: computed again, it shows where it fails.
template <class B, class T>
std::string Trainer<B, T>::what_failed(Index step) {
  load(step);
  B::zero(model_.gradients().data(), Index(model_.gradients().size()));
  model_.add_gradient(inputs_.data());
  return model_.first_non_finite();
}

template <class B, class T>
StepResult Trainer<B, T>::finish() {
  if (steps_under_way() == 0) throw std::logic_error("finish: no step was started");
  const Index step = steps_done_ + 1;
  if (step > measured_) {
    B::download(&measures_, outputs_.data(), 1);
    measured_ = started_;
  }
  if (const Index failed = measures_.failed_step; failed == step) {
    const std::string what = what_failed(failed);
    resume_at(failed - 1);
    measures_ = {};
    detail::assign<B>(outputs_, StepOutputs());
    throw std::runtime_error("step " + std::to_string(failed) + ": " +
                             (what.empty() ? "the loss or its gradient" : what) +
                             " is not finite; lower --learning-rate, or resume from the last "
                             "checkpoint");
  }
  steps_done_ = step;
  const StepMeasures& measures = measures_.kept[step % steps_kept];
  return {.loss = measures.loss_sum / double(targets_[step % steps_kept]),
          .gradient_norm = std::sqrt(measures.squared_norm),
          .learning_rate = scheduled_rate(config_, step)};
}

}  // namespace lazy
