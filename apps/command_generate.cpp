#include "apps/command_generate.hpp"

#include <iostream>
#include <memory>

#include "apps/errors.hpp"
#include "apps/run.hpp"

namespace lazy {
namespace {

struct GenerateOptions {
  std::string model;
  DeviceOptions device;
  std::optional<std::string> prompt;
  Index tokens = 400;
  std::uint64_t seed = 1;
  SamplingOptions sampling;
};

void generate(const GenerateOptions& o) {
  if (o.tokens < 0)
    throw UserError("--tokens is " + std::to_string(o.tokens) + ", must not be negative");
  validate(o.sampling);
  std::string note;
  const Checkpoint checkpoint = load_checkpoint(o.model, &note);
  if (!note.empty()) std::cerr << "lazy generate: " << note << "\n";
  const TransformerConfig& c = checkpoint.model;
  const Device device = choose_device(o.device, {&c, 1});
  const double keys_and_values = (device.bfloat16 ? 2.0 : 4.0) * 2 * double(c.layers) *
                                 double(c.kv_heads * c.head_dim()) * double(o.tokens);
  const double parameters =
      (device.bfloat16 ? 6.0 : 4.0) * double(parameter_count(parameter_table(c)));
  require_memory(device, parameters + keys_and_values, "the model and a cache of that many tokens",
                 "lower --tokens");
  if (!device.reason.empty() && device.kind != Device::cpu)
    std::cerr << "lazy generate: on " << describe(device) << "\n";

  const std::string prompt = o.prompt.value_or(default_prompt(checkpoint.tokenizer));
  Random random(o.seed);
  if (o.prompt) std::cout << prompt << std::flush;
  with_backend(device, [&]<class B>() {
    Transformer<B, float> model = load_model<B>(checkpoint);
    generate_text(model, checkpoint.tokenizer, prompt, o.tokens, o.sampling, random,
                  [](const std::string& piece) { std::cout << piece << std::flush; });
  });
  std::cout << "\n";
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto o = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Write text with a trained model");
  command->add_option("--model", o->model, "A run's folder or a checkpoint file")->required();
  add_device_options(*command, o->device);
  command->add_option("--prompt", o->prompt, "Text to continue (default: a new line)");
  command->add_option("--tokens", o->tokens, "Tokens to write")->capture_default_str();
  command->add_option("--seed", o->seed, "Seed of the drawing")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", o->sampling.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command->add_option("--top-k", o->sampling.top_k, "Draw from the k likeliest tokens; 0: all")
      ->capture_default_str();
  command
      ->add_option("--top-p", o->sampling.top_p,
                   "Draw from the likeliest tokens that hold this probability")
      ->capture_default_str();
  command->callback([o] { generate(*o); });
}

}  // namespace lazy
