#include "apps/command_train.hpp"

#include <algorithm>
#include <csignal>
#include <iostream>
#include <memory>

#include "apps/errors.hpp"
#include "apps/memory.hpp"
#include "apps/progress.hpp"
#include "apps/run.hpp"
#include "apps/run_folder.hpp"
#include "apps/run_report.hpp"
#include "apps/train_options.hpp"

namespace lazy {
namespace {

constexpr std::uint64_t default_seed = 1;

volatile std::sig_atomic_t interrupted = 0;  // the signal's number

void announce(const TrainingData& data, const TransformerConfig& model,
              const TrainingConfig& training, Index first, Index last) {
  std::cout << "data    " << describe(data) << "\n"
            << "model   " << with_commas(double(parameter_count(parameter_table(model))))
            << " parameters, " << model.layers << " layers, C " << model.channels << ", "
            << model.heads << " heads, attention " << name_of(model.rule.normalizer)
            << ", position " << name_of(model.position) << "\n"
            << "steps   " << first << " to " << last << " of " << training.batch << " x "
            << model.context << " tokens\n";
}

// The start of a text, on one line.
std::string one_line(std::string text, std::size_t length) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text.substr(0, length);
}

void check_memory(const TransformerConfig& model, const TrainingConfig& training) {
  const double needed = run_memory(model, training.batch);
  std::cout << "memory  about " << readable_size(needed) << "\n" << std::flush;
  require_memory(needed, "this model", "lower --batch or --context, or choose a smaller --preset");
}

// Steps until `last`; saves every so often, at the end, and when interrupted.
void train_until(Run& run, RunFolder& folder, Index last, Index save_every,
                 const TrainingConfig& training) {
  std::signal(SIGINT, [](int signal) { interrupted = signal; });
  std::signal(SIGTERM, [](int signal) { interrupted = signal; });
  const Index first = run.steps_done();
  Progress progress(first, last, training.batch * run.model().config().context);
  const auto save = [&] {
    folder.flush();
    save_checkpoint(folder.path(), run.checkpoint());
  };
  if (first == 0) {
    const LogEntry entry = run.start();
    folder.log(entry);
    progress.show(entry);
  }
  while (run.steps_done() < last && !interrupted) {
    const LogEntry entry = run.step();
    folder.log(entry);
    if (entry.evaluation)
      folder.log_timing(entry.step, progress.seconds(), progress.tokens_per_second(entry.step));
    progress.show(entry);
    if (entry.evaluation && entry.step % (5 * training.evaluate_every) == 0) {
      progress.clear();
      std::cout << "        " << one_line(entry.evaluation->sample, 100) << "\n" << std::flush;
    }
    if (entry.step % save_every == 0 && entry.step < last) save();
  }
  progress.clear();
  save();
}

void finish(const Run& run, const RunFolder& folder, const TrainingData& data, Index last) {
  const std::string path = folder.path().string();
  if (run.steps_done() < last) {
    std::cout << "stopped at step " << run.steps_done() << "; continue with: lazy train --resume "
              << path << " --steps " << last << "\n";
    return;
  }
  write_run_report(folder.path(), data);
  std::cout << "done    step " << last << "; look at " << path
            << "/report.html, or let it write: make generate OUT=" << path << " TOKENS=400\n";
}

void start(const TrainOptions& o) {
  const TrainingData data = load_data(o.model);
  const Preset& preset = find_preset(preset_name(o.model, data));
  TransformerConfig model = preset.model;
  TrainingConfig training = preset.training;
  model.vocabulary = std::max(model.vocabulary, data.vocabulary());
  if (data.backcopy) model.vocabulary = data.vocabulary();
  apply(o.model, model, training);
  const Index last = o.steps.value_or(training.schedule_steps);
  validate(model);
  validate(training);
  announce(data, model, training, 0, last);
  check_memory(model, training);
  Run run(std::string(preset.name), model, training, o.seed.value_or(default_seed), data);
  RunFolder folder =
      RunFolder::create(*o.out, {data.kind, o.model.text.value_or(""), o.model.text_field});
  train_until(run, folder, last, o.save_every, training);
  finish(run, folder, data, last);
}

// Flags that repeat what the run was started with are fine; a change is refused.
void refuse_changes(const TrainOptions& o, const Checkpoint& checkpoint) {
  TransformerConfig model = checkpoint.model;
  TrainingConfig training = checkpoint.training;
  apply(o.model, model, training);
  if (model != checkpoint.model || training != checkpoint.training ||
      (o.model.preset && *o.model.preset != checkpoint.preset))
    throw UserError("a flag differs from what " + *o.resume +
                    " was started with; leave it out, or start a new run with --out");
  if (o.seed && *o.seed != checkpoint.seed)
    throw UserError("--seed is " + std::to_string(*o.seed) + ", the run was started with " +
                    std::to_string(checkpoint.seed) + "; leave it out");
}

void resume(const TrainOptions& o) {
  std::string note;
  const Checkpoint checkpoint = load_checkpoint(*o.resume, &note);
  if (!note.empty()) std::cerr << "lazy train: " << note << "\n";
  refuse_changes(o, checkpoint);
  ModelOptions source = o.model;
  if (!source.text && !source.data) {
    const Origin origin = read_origin(*o.resume);
    source.data = origin.kind;
    if (origin.kind == "text") source.text = origin.text;
    source.text_field = origin.text_field;
  }
  const TrainingData data = load_data(source);
  const Index last = o.steps.value_or(checkpoint.training.schedule_steps);
  if (last < checkpoint.step)
    throw UserError("--steps " + std::to_string(last) + " lies behind step " +
                    std::to_string(checkpoint.step) + ", where the run stands; give more");
  announce(data, checkpoint.model, checkpoint.training, checkpoint.step, last);
  check_memory(checkpoint.model, checkpoint.training);
  Run run(checkpoint, data);
  if (!note.empty())  // or the next save would keep the damaged file as the previous one
    std::filesystem::rename(std::filesystem::path(*o.resume) / previous_checkpoint_name,
                            std::filesystem::path(*o.resume) / checkpoint_name);
  RunFolder folder = RunFolder::reopen(*o.resume, checkpoint.step);
  train_until(run, folder, last, o.save_every, checkpoint.training);
  finish(run, folder, data, last);
}

void train(const TrainOptions& o) {
  validate(o);
  o.resume ? resume(o) : start(o);
  if (interrupted) std::exit(128 + interrupted);
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Train a model on a text, or continue a run");
  add_train_options(*command, *options);
  command->callback([options] { train(*options); });
}

}  // namespace lazy
