#include "apps/train_options.hpp"

#include "apps/errors.hpp"

namespace lazy {

void add_train_options(CLI::App& command, TrainOptions& o) {
  add_model_options(command, o.model);
  add_device_options(command, o.device);
  command.add_option("--out", o.out, "Folder of a new run: checkpoint, log, report");
  command.add_option("--resume", o.resume, "Folder of the run to continue");
  command.add_option("--steps", o.steps, "Total number of steps (default: the schedule's)");
  command
      .add_option("--seed", o.seed, "Seed of the parameters and of the data's order (default: 1)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--save-every", o.save_every, "Steps between checkpoints")
      ->capture_default_str();
}

void validate(const TrainOptions& o) {
  if (o.out && o.resume)
    throw UserError("--out starts a run and --resume continues one; give one of them");
  if (!o.out && !o.resume)
    throw UserError("give --out DIR to start a run, or --resume DIR to continue one");
  if (o.steps && *o.steps < 1)
    throw UserError("--steps is " + std::to_string(*o.steps) + ", must be at least 1");
  if (o.save_every < 1)
    throw UserError("--save-every is " + std::to_string(o.save_every) + ", must be at least 1");
}

}  // namespace lazy
