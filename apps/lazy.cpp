// The command-line tool. Each command lives in a file of its own; this one finds it and words what
// went wrong: 2 if the user has something to correct, 1 for anything else, one line on stderr.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <new>

#include "apps/command_attend.hpp"
#include "apps/command_bench.hpp"
#include "apps/command_compare.hpp"
#include "apps/command_generate.hpp"
#include "apps/command_inspect.hpp"
#include "apps/command_train.hpp"
#include "apps/errors.hpp"
#include "apps/memory.hpp"
#include "apps/suggestion.hpp"
#include "apps/version.hpp"
#include "cuda/memory.hpp"

namespace {

struct Command {
  const char* name;
  void (*add)(CLI::App&);
  const char* to_save_memory;
};

constexpr Command commands[] = {
    {"train", lazy::add_train_command, "lower --batch or --context, or choose a smaller --preset"},
    {"generate", lazy::add_generate_command, "lower --tokens"},
    {"inspect", lazy::add_inspect_command, "choose a smaller model"},
    {"compare", lazy::add_compare_command, "lower --batch or --context"},
    {"attend", lazy::add_attend_command,
     "leave out --weights, use --precision float32 or a smaller batch"},
    {"bench", lazy::add_bench_command, "choose shorter --cases"},
};

// What the user asked for: "lazy attend", or "lazy" before a command is known.
const CLI::App& asked_for(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

std::string full_name(const CLI::App& app) {
  const CLI::App& asked = asked_for(app);
  return &asked == &app ? "lazy" : "lazy " + asked.get_name();
}

int fail(const CLI::App& app, std::string text, int code) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::cerr << full_name(app) << ": " << text << "\n";
  return code;
}

std::string unknown_word(const CLI::App& asked, std::string word) {
  const bool flag = word.starts_with("-");
  if (flag) word = word.substr(0, word.find('='));
  std::vector<std::string> known;
  if (flag)
    for (const CLI::Option* option : asked.get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  else
    for (const CLI::App* command : asked.get_subcommands([](const CLI::App*) { return true; }))
      known.push_back(command->get_name());
  const std::string nearest = lazy::nearest_word(word, known);
  return std::string(flag            ? "unknown flag "
                     : known.empty() ? "unexpected word "
                                     : "unknown command ") +
         word + (nearest.empty() ? "" : ", did you mean " + nearest + "?");
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = asked_for(app).remaining();
  const std::string what =
      unknown.empty() ? error.what() : unknown_word(asked_for(app), unknown[0]);
  return fail(app, what + " (see " + full_name(app) + " --help)", 2);
}

int out_of_memory(const CLI::App& app, const std::bad_alloc& error) {
  std::string text = "out of memory";
  if (const auto* gpu = dynamic_cast<const lazy::OutOfDeviceMemory*>(&error))
    text = "out of GPU memory: " + lazy::readable_size(double(gpu->asked)) + " asked for, " +
           lazy::readable_size(double(gpu->space.free)) + " of " +
           lazy::readable_size(double(gpu->space.total)) + " free";
  const std::string name = asked_for(app).get_name();
  for (const Command& command : commands)
    if (command.name == name) return fail(app, text + "; " + command.to_save_memory, 1);
  return fail(app, text, 1);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Lazy Attention: attention that may look away", "lazy");
  app.set_version_flag("--version", lazy::version_text(), "Print version and build flags");
  app.require_subcommand(1);
  for (const Command& command : commands) command.add(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : usage_error(app, error);
  } catch (const lazy::UserError& error) {
    return fail(app, error.what(), 2);
  } catch (const std::invalid_argument& error) {
    return fail(app, error.what(), 2);
  } catch (const std::bad_alloc& error) {
    return out_of_memory(app, error);
  } catch (const std::exception& error) {
    return fail(app, error.what(), 1);
  }
}
