#pragma once
// `lazy train` and the commands that follow it, on models that train in milliseconds.

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/catch.hpp"
#include "tests/refusal.hpp"
#include "tests/subprocess.hpp"
#include "tests/tiny_runs.hpp"

namespace lazy::test {

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The tool on one thread, which is fastest for these sizes, and without a GPU that `auto` would
/// take.
inline const Words lazy_tool{"env", "OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES=", LAZY_TOOL};

inline const Words tiny_sizes{"--layers",         "1",  "--channels", "16", "--heads",          "2",
                              "--inner",          "12", "--context",  "16", "--window",         "8",
                              "--batch",          "2",  "--warmup",   "3",  "--schedule-steps", "8",
                              "--evaluate-every", "3"};

/// 5,400 bytes in lines of their own.
inline std::string some_text() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the " + std::to_string(1000 + i) + "th quick brown fox.\n";
  return text;
}

/// A text to train on and places for runs.
struct Workbench {
  TemporaryFolder folder;
  std::string text = write_file(folder.path / "text.txt", some_text());

  std::string at(const std::string& name) const { return folder.path / name; }
  /// The command that starts a run in `out`; flags given again replace those of tiny_sizes.
  Words train(const std::string& out, Index steps, const Words& flags = {}) const {
    return train_on(text, out, steps, flags);
  }
  Words train_on(const std::string& path, const std::string& out, Index steps,
                 const Words& flags = {}) const {
    Words command =
        lazy_tool +
        Words{"train", "--text", path, "--out", at(out), "--steps", std::to_string(steps)};
    for (std::size_t i = 0; i < tiny_sizes.size(); i += 2)
      if (std::find(flags.begin(), flags.end(), tiny_sizes[i]) == flags.end())
        command = command + Words{tiny_sizes[i], tiny_sizes[i + 1]};
    return command + flags;
  }
  Words resume(const std::string& out, Index steps, const Words& flags = {}) const {
    return lazy_tool + Words{"train", "--resume", at(out), "--steps", std::to_string(steps)} +
           flags;
  }
  std::string content(const std::string& out, const std::string& file) const {
    return text_of(folder.path / out / file);
  }
};

inline Outcome succeed(const Words& command) {
  const Outcome outcome = run(command);
  INFO("stdout: " << outcome.out << "\nstderr: " << outcome.err);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.err.empty());
  return outcome;
}

/// The command must fail with one line that holds `parts`: 2 if a word of the command is wrong, 1
/// if something it names is.
inline void check_fails(const Words& command, int code, std::initializer_list<const char*> parts) {
  const Outcome outcome = run(command);
  INFO("stdout: " << outcome.out << "\nstderr: " << outcome.err);
  CHECK(outcome.exit_code == code);
  CHECK(mentions_all(outcome.err, parts));
  CHECK(outcome.err.find('\n') == outcome.err.size() - 1);
}

inline std::set<std::string> files_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename());
  return names;
}

/// Two runs that must not be told apart.
inline void check_same_run(const Workbench& bench, const std::string& a, const std::string& b) {
  for (const char* file : {"checkpoint.safetensors", "log.jsonl"}) {
    INFO(file);
    CHECK(!bench.content(a, file).empty());
    CHECK((bench.content(a, file) == bench.content(b, file)));
  }
}

}  // namespace lazy::test
