#include "apps/command_train.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>

#include "apps/errors.hpp"
#include "apps/memory.hpp"
#include "apps/processes.hpp"
#include "apps/progress.hpp"
#include "apps/run.hpp"
#include "apps/run_folder.hpp"
#include "apps/run_report.hpp"
#include "apps/train_options.hpp"

namespace lazy {
namespace {

constexpr std::uint64_t default_seed = 1;

volatile std::sig_atomic_t interrupted = 0;  // the signal's number
volatile std::sig_atomic_t launched = 0;     // by somebody who reads what several processes print

extern "C" void interrupt(int signal) {
  interrupted = signal;
  // A launcher that ends its processes no longer reads, and soon kills: nothing may wait for it.
  if (launched) fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
}

// This process's part in a run: all of them compute, the first one alone writes and speaks.
struct Part {
  std::unique_ptr<Communicator> processes;
  Device device;

  bool first() const { return !processes || processes->rank() == 0; }
  Index count() const { return processes ? processes->size() : 1; }
  RunPlace place() const { return {device, processes.get()}; }
};

Part join(const DeviceOptions& options, const TransformerConfig& model) {
  const bool several = several_processes();
  Part part{nullptr, choose_device(options, {&model, 1}, several)};
  if (several) part.processes = join_processes(part.device.kind == Device::cuda);
  if (!part.first() && !std::freopen("/dev/null", "w", stdout))
    throw std::runtime_error("/dev/null could not be opened; is this a system without it?");
  return part;
}

void announce(const TrainingData& data, const TransformerConfig& model,
              const TrainingConfig& training, const Part& part, Index first, Index last) {
  std::cout << "data    " << describe(data) << "\n"
            << "model   " << with_commas(double(parameter_count(parameter_table(model))))
            << " parameters, " << model.layers << " layers, C " << model.channels << ", "
            << model.heads << " heads, attention " << name_of(model.rule.normalizer)
            << ", position " << name_of(model.position) << "\n"
            << "steps   " << first << " to " << last << " of " << training.batch << " x "
            << model.context << " tokens\n"
            << "device  " << describe(part.device)
            << (part.processes ? ", " + std::to_string(part.count()) + " processes" : "") << "\n";
}

// The start of a text, on one line.
std::string one_line(std::string text, std::size_t length) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text.substr(0, length);
}

void check_memory(const TransformerConfig& model, const TrainingConfig& training,
                  const Part& part) {
  if (training.batch % part.count() != 0)
    throw UserError("--batch " + std::to_string(training.batch) + " cannot be shared by " +
                    std::to_string(part.count()) + " processes; choose a multiple of them");
  const double needed = run_memory(model, training.batch / part.count(), part.device);
  std::cout << "memory  about " << readable_size(needed) << "\n" << std::flush;
  require_memory(part.device, needed, "this model",
                 "lower --batch or --context, or choose a smaller --preset");
}

void save(RunFolder& folder, const Run& run) {
  folder.flush();
  save_checkpoint(folder.path(), run.checkpoint());
}

void record(RunFolder& folder, Progress& progress, const LogEntry& entry, bool with_sample) {
  folder.log(entry);
  if (entry.evaluation && entry.step > 0)
    folder.log_timing(entry.step, progress.seconds(), progress.tokens_per_second(entry.step));
  progress.show(entry);
  if (!entry.evaluation || !with_sample) return;
  progress.clear();
  std::cout << "        " << one_line(entry.evaluation->sample, 100) << "\n" << std::flush;
}

// Steps until `last`; saves every so often, at the end, and when interrupted. `folder` is null but
// for the first process.
void train_until(Run& run, RunFolder* folder, const Part& part, Index last, Index save_every,
                 const Checkpoint& configured) {
  launched = part.processes != nullptr;
  std::signal(SIGINT, interrupt);
  std::signal(SIGTERM, interrupt);
  const TrainingConfig& training = configured.training;
  Progress progress(run.steps_done(), last, training.batch * configured.model.context);
  if (run.steps_done() == 0) {
    const LogEntry entry = run.start();
    if (folder) record(*folder, progress, entry, false);
  }
  // Several processes have to stop after the same step: they ask each other now and then.
  const auto stopped = [&] {
    if (!part.processes) return interrupted != 0;
    return run.steps_done() % run.steps_at_once() == 0 && run.anywhere(interrupted != 0);
  };
  bool stop = stopped();
  while (run.steps_under_way() > 0 || (run.steps_done() < last && !stop)) {
    const Index next_save = (run.steps_done() / save_every + 1) * save_every;
    const LogEntry entry = run.step(stop ? 0 : std::min(last, next_save));
    if (folder) record(*folder, progress, entry, entry.step % (5 * training.evaluate_every) == 0);
    if (folder && entry.step % save_every == 0 && entry.step < last) save(*folder, run);
    stop = stop || stopped();
  }
  progress.clear();
  if (folder) save(*folder, run);
}

// Trains and says what came of it. `make_folder` is called by the first process.
void go_on(Run& run, const TrainingData& data, const Part& part, Index last, Index save_every,
           const std::function<RunFolder()>& make_folder) {
  std::optional<RunFolder> folder;
  if (part.first()) folder.emplace(make_folder());
  train_until(run, folder ? &*folder : nullptr, part, last, save_every, run.identity());
  if (!folder) return;
  const std::string path = folder->path().string();
  if (run.steps_done() < last) {
    std::cout << "stopped at step " << run.steps_done() << "; continue with: lazy train --resume "
              << path << " --steps " << last << "\n";
    return;
  }
  write_run_report(folder->path(), data);
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
  const Part part = join(o.device, model);
  announce(data, model, training, part, 0, last);
  check_memory(model, training, part);
  Run run(std::string(preset.name), model, training, o.seed.value_or(default_seed), data,
          part.place());
  go_on(run, data, part, last, o.save_every, [&] {
    return RunFolder::create(*o.out, {data.kind, o.model.text.value_or(""), o.model.text_field});
  });
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
  const Part part = join(o.device, checkpoint.model);
  announce(data, checkpoint.model, checkpoint.training, part, checkpoint.step, last);
  check_memory(checkpoint.model, checkpoint.training, part);
  Run run(checkpoint, data, part.place());
  go_on(run, data, part, last, o.save_every, [&] {
    if (!note.empty())  // or the next save would keep the damaged file as the previous one
      std::filesystem::rename(std::filesystem::path(*o.resume) / previous_checkpoint_name,
                              std::filesystem::path(*o.resume) / checkpoint_name);
    return RunFolder::reopen(*o.resume, checkpoint.step);
  });
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
