#include "apps/command_compare.hpp"

#include <cstdio>
#include <iostream>
#include <memory>

#include "apps/comparison_report.hpp"
#include "apps/errors.hpp"
#include "apps/memory.hpp"
#include "apps/model_options.hpp"
#include "apps/progress.hpp"
#include "apps/run_report.hpp"

namespace lazy {
namespace {

struct CompareOptions {
  ModelOptions model;
  DeviceOptions device;
  std::vector<std::string> contenders{"lazy", "softmax", "sink"};
  std::string out;
  std::optional<Index> steps;
  Index seeds = 3;
  std::uint64_t seed = 1;
};

// "softmax" or "softmax:alibi"
void choose_contender(TransformerConfig& model, const std::string& contender) {
  const std::size_t colon = contender.find(':');
  choose_attention(
      model, contender.substr(0, colon),
      colon == std::string::npos ? std::nullopt : std::optional(contender.substr(colon + 1)));
}

Curve curve(const std::string& name, const std::vector<LogEntry>& log,
            double (*value)(const Evaluation&)) {
  Curve curve{name, {}, {}};
  for (const LogEntry& entry : log) {
    if (!entry.evaluation) continue;
    curve.steps.push_back(entry.step);
    curve.values.push_back(value(*entry.evaluation));
  }
  return curve;
}

SeedRun finish(std::uint64_t seed, std::vector<LogEntry> log, const Evaluation& last) {
  const Evaluation& untrained = *log.front().evaluation;
  SeedRun result{Index(seed), std::move(log), {}, {}};
  result.numbers = {{"validation loss", last.validation_loss},
                    {"sink ratio", last.attention.sink_ratio},
                    {"surviving mass", last.attention.mass},
                    {"sparsity", last.attention.sparsity()},
                    {"sparsity untrained", untrained.attention.sparsity()},
                    {"dead heads", double(last.dead_heads)}};
  result.curves = {
      curve("sink ratio", result.log, [](const Evaluation& e) { return e.attention.sink_ratio; }),
      curve("surviving mass", result.log, [](const Evaluation& e) { return e.attention.mass; })};
  if (!last.backcopy) return result;
  const BackcopyEvaluation& b = *last.backcopy;
  for (const auto& [name, value] : {std::pair{"start token, dormant rows", b.dormant_start},
                                    {"mass, dormant rows", b.dormant_mass},
                                    {"start token, active rows", b.active_start},
                                    {"mass, active rows", b.active_mass},
                                    {"start value norm", b.start_value},
                                    {"output, dormant over active", b.dormant_output},
                                    {"copy loss", b.copy_loss},
                                    {"bigram loss", b.bigram_loss}})
    result.numbers.emplace_back(name, value);
  result.curves = {curve("weight on the start token, dormant rows", result.log,
                         [](const Evaluation& e) { return e.backcopy->dormant_start; }),
                   curve("surviving mass, dormant rows", result.log,
                         [](const Evaluation& e) { return e.backcopy->dormant_mass; })};
  return result;
}

std::pair<TransformerConfig, TrainingConfig> configure(const std::string& contender,
                                                       const Preset& preset,
                                                       const CompareOptions& o,
                                                       const TrainingData& data) {
  TransformerConfig model = preset.model;
  TrainingConfig training = preset.training;
  model.vocabulary = data.vocabulary();
  apply(o.model, model, training);
  choose_contender(model, contender);
  return {model, training};
}

SeedRun train_one(const std::string& contender, const Preset& preset, const CompareOptions& o,
                  const Device& device, Index steps, std::uint64_t seed, const TrainingData& data) {
  const auto [model, training] = configure(contender, preset, o, data);
  std::printf("%s, seed %llu\n", contender.c_str(), static_cast<unsigned long long>(seed));
  Run run(std::string(preset.name), model, training, seed, data, {device});
  Progress progress(0, steps, training.batch * model.context);
  std::vector<LogEntry> log{run.start()};
  progress.show(log.back());
  while (run.steps_done() < steps) {
    log.push_back(run.step(steps));
    progress.show(log.back());
  }
  progress.clear();
  return finish(seed, std::move(log), run.evaluate());
}

void compare(const CompareOptions& o) {
  const TrainingData data = load_data(o.model);
  const Preset& preset = find_preset(preset_name(o.model, data));
  if (o.seeds < 1)
    throw UserError("--seeds is " + std::to_string(o.seeds) + ", must be at least 1");
  const Index steps =
      o.steps.value_or(o.model.schedule_steps.value_or(preset.training.schedule_steps));
  if (steps < 1) throw UserError("--steps is " + std::to_string(steps) + ", must be at least 1");
  std::vector<TransformerConfig> models;
  for (const std::string& contender : o.contenders) {  // refused before hours of training
    const auto [model, training] = configure(contender, preset, o, data);
    validate(model);
    validate(training);
    check_length(data, model.context);
    models.push_back(model);
  }
  const Device device = choose_device(o.device, models);
  const Index batch = o.model.batch.value_or(preset.training.batch);
  double needed = 0;
  for (const TransformerConfig& model : models)
    needed = std::max(needed, run_memory(model, batch, device));
  std::cout << "device  " << describe(device) << "\n"
            << "memory  about " << readable_size(needed) << "\n"
            << std::flush;
  require_memory(device, needed, "this model",
                 "lower --batch or --context, or choose a smaller --preset");
  std::error_code error;
  std::filesystem::create_directories(o.out, error);
  if (error)
    throw UserError(o.out + " cannot be made: " + error.message() + "; choose another --out");

  ComparisonInput input;
  input.title = "Kinds of attention on " + data.source;
  input.facts = {{"Preset", std::string(preset.name)},
                 {"Data", describe(data)},
                 {"Steps", std::to_string(steps)},
                 {"Device", describe(device)},
                 {"Seeds", std::to_string(o.seeds) + " from " + std::to_string(o.seed)}};
  input.marks = loss_marks(data);
  for (const std::string& contender : o.contenders) {
    input.contenders.push_back({contender, {}});
    for (Index s = 0; s < o.seeds; ++s) {
      input.contenders.back().seeds.push_back(
          train_one(contender, preset, o, device, steps, o.seed + std::uint64_t(s), data));
      write_comparison(o.out, input);  // what is done so far outlives an interruption
    }
  }
  std::cout << "\n" << comparison_table(input) << "\nreport: " << o.out << "/comparison.html\n";
}

}  // namespace

void add_compare_command(CLI::App& app) {
  auto o = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand(
      "compare", "Train several kinds of attention alike, one table and one plot");
  add_model_options(*command, o->model, false);
  add_device_options(*command, o->device);
  command
      ->add_option("--contenders", o->contenders, "Kinds of attention, as softmax or softmax:alibi")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--out", o->out, "Folder for comparison.html, .csv and .json")->required();
  command->add_option("--steps", o->steps, "Steps of each run (default: the schedule's)");
  command->add_option("--seeds", o->seeds, "Runs of each contender")->capture_default_str();
  command->add_option("--seed", o->seed, "The first seed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([o] { compare(*o); });
}

}  // namespace lazy
