// `lazy train`: what a run leaves, that it resumes, and what it says to those who ask wrongly.

#include <nlohmann/json.hpp>

#include "tests/train_tool.hpp"

using namespace lazy;
using namespace lazy::test;
namespace fs = std::filesystem;

TEST_CASE("a run leaves a checkpoint, a log and a report", "[tool][train]") {
  const Workbench bench;
  const Outcome outcome = succeed(bench.train("run", 4));
  for (const char* part : {"data    ", "text.txt", "sha256", "parameters, 1 layers",
                           "memory  about", "step     0", "validation", "step     3", "tokens/s",
                           "sparsity", "dead heads", "report.html", "make generate OUT="})
    CHECK(mentions(outcome.out, part));
  CHECK(outcome.out.find('\033') == std::string::npos);  // no terminal, no control codes
  CHECK(outcome.out.find('\r') == std::string::npos);
  const std::set<std::string> files{"checkpoint.safetensors",
                                    "log.jsonl",
                                    "metrics.csv",
                                    "report.html",
                                    "report.json",
                                    "run.json",
                                    "timing.jsonl"};
  CHECK(files_in(bench.at("run")) == files);
  for (const std::string& file : files) CHECK(!bench.content("run", file).empty());
  const auto log = read_log(bench.at("run/log.jsonl"));
  REQUIRE(log.size() == 5);
  for (Index i = 0; i < 5; ++i) {
    CHECK(log[i].step == i);
    CHECK(bool(log[i].evaluation) == (i % 3 == 0));
  }
  CHECK(mentions(bench.content("run", "report.html"), "text.txt"));

  succeed(bench.resume("run", 6));
  auto with_previous = files;
  with_previous.insert("checkpoint.previous.safetensors");
  CHECK(files_in(bench.at("run")) == with_previous);
  CHECK(load_checkpoint(bench.at("run")).step == 6);
  CHECK(load_checkpoint(bench.at("run/checkpoint.previous.safetensors")).step == 4);
}

TEST_CASE("a run resumed is the run that was not stopped", "[tool][train][resume]") {
  const Workbench bench;
  succeed(bench.train("whole", 10, {"--save-every", "4"}));
  CHECK(load_checkpoint(bench.at("whole/checkpoint.previous.safetensors")).step == 8);
  succeed(bench.train("parts", 2));
  for (const Index steps : {5, 7, 10}) succeed(bench.resume("parts", steps));
  check_same_run(bench, "parts", "whole");
  succeed(bench.resume("parts", 10));  // nothing left to do
  check_same_run(bench, "parts", "whole");
}

TEST_CASE("flags that repeat what a run was started with are fine, changes are not",
          "[tool][train][resume]") {
  const Workbench bench;
  succeed(bench.train("run", 2, {"--seed", "5"}));
  succeed(bench.resume("run", 3, Words{"--seed", "5", "--text", bench.text} + tiny_sizes));
  const std::string before = bench.content("run", "checkpoint.safetensors");
  const std::string other = write_file(bench.folder.path / "other.txt", some_text() + "more");
  const std::string tiny = write_file(bench.folder.path / "tiny.txt", "x");
  check_fails(bench.resume("run", 4, {"--seed", "6"}), 2, {"--seed is 6", "started with 5"});
  check_fails(bench.resume("run", 4, {"--text", other}), 2, {"other data", "started with"});
  check_fails(bench.resume("run", 4, {"--data", "tales"}), 2, {"other data"});
  check_fails(bench.resume("run", 4, {"--data", "backcopy"}), 2, {"other data"});
  check_fails(bench.resume("run", 4, {"--channels", "32"}), 2, {"a flag differs"});
  check_fails(bench.resume("run", 4, {"--learning-rate", "1"}), 2, {"a flag differs"});
  check_fails(bench.resume("run", 4, {"--preset", "small"}), 2, {"a flag differs"});
  check_fails(bench.resume("run", 2), 2, {"--steps 2", "behind step 3"});
  check_fails(bench.resume("run", 4, {"--out", bench.at("x")}), 2, {"--out", "--resume"});
  CHECK((bench.content("run", "checkpoint.safetensors") == before));
}

TEST_CASE("a run whose text moved is resumed where it is named again", "[tool][train][resume]") {
  const Workbench bench;
  succeed(bench.train("run", 2));
  succeed(bench.train("whole", 4));
  fs::rename(bench.text, bench.at("moved.txt"));
  check_fails(bench.resume("run", 4), 1, {"text.txt"});
  fs::remove(bench.at("run/run.json"));
  check_fails(bench.resume("run", 4), 1, {"run.json", "--text"});
  succeed(bench.resume("run", 4, {"--text", bench.at("moved.txt")}));
  check_same_run(bench, "run", "whole");
}

TEST_CASE("a folder that holds a run, or cannot hold one, is refused", "[tool][train]") {
  const Workbench bench;
  succeed(bench.train("run", 1));
  const std::string before = bench.content("run", "log.jsonl");
  check_fails(bench.train("run", 2), 2, {"already holds a run", "lazy train --resume"});
  CHECK((bench.content("run", "log.jsonl") == before));
  check_fails(bench.train("text.txt", 1), 2, {"text.txt", "is a file"});
  check_fails(bench.train("text.txt/below", 1), 2, {"text.txt/below", "cannot be made", "--out"});
  check_fails(lazy_tool + Words{"train", "--text", bench.text}, 2, {"--out DIR", "--resume DIR"});
  check_fails(bench.resume("nowhere", 1), 1, {"nowhere"});
  fs::create_directory(bench.at("empty"));
  check_fails(bench.resume("empty", 1), 1, {"empty", "no checkpoint.safetensors"});
}

TEST_CASE("text that cannot be trained on is refused before a folder is made", "[tool][train]") {
  const Workbench bench;
  const auto refused = [&](const std::string& path, std::initializer_list<const char*> parts) {
    check_fails(bench.train_on(path, "run", 1), 1, parts);
    CHECK(!fs::exists(bench.at("run")));
  };
  refused(bench.at("none.txt"), {"none.txt", "cannot be found"});
  refused(write_file(bench.folder.path / "image.txt", some_text() + std::string(1, '\0')),
          {"image.txt", "NUL byte", "binary"});
  fs::create_directory(bench.at("pictures"));
  refused(bench.at("pictures"), {"pictures", "no .txt"});
  refused(write_file(bench.folder.path / "small.txt", "too small"), {"small.txt", "only 9 bytes"});
  check_fails(bench.train("run", 1, {"--context", "1000"}), 2,
              {"too few for sequences of 1000 tokens", "--context"});
  CHECK(!fs::exists(bench.at("run")));
}

TEST_CASE("names and numbers there are not are refused with those there are", "[tool][train]") {
  const Workbench bench;
  const auto refused = [&](const Words& flags, std::initializer_list<const char*> parts) {
    check_fails(bench.train("run", 1, flags), 2, parts);
    CHECK(!fs::exists(bench.at("run")));
  };
  refused({"--preset", "huge"}, {"'huge'", "toy", "paper-340m"});
  refused({"--attention", "sharp"}, {"'sharp'", "softmax", "elastic"});
  refused({"--position", "here"}, {"'here'", "rope+bias"});
  refused({"--divisor", "two"}, {"'two'", "visible", "length"});
  refused({"--attention", "lazy", "--position", "alibi"}, {"--attention elastic"});
  refused({"--data", "tales"}, {"--text and --data"});
  refused({"--attenton", "lazy"}, {"unknown flag --attenton", "--attention?"});
  refused({"--save-every", "0"}, {"--save-every is 0"});
  refused({"--seed", "-1"}, {"--seed"});
  refused({"--seed", "x"}, {"--seed"});
  refused({"--learning-rate", "nan"}, {"learning_rate"});
  refused({"--clip", "0"}, {"clip"});
  refused({"--rope-base", "0"}, {"rope_base"});
  refused({"--rope-base", "nan"}, {"rope_base"});
  refused({"stray"}, {"stray"});
  check_fails(lazy_tool + Words{"train", "--data", "novels", "--out", bench.at("run")}, 2,
              {"'novels'", "tales", "backcopy"});
  check_fails(lazy_tool + Words{"train", "--data", "text", "--out", bench.at("run")}, 2,
              {"--text"});
  for (const char* steps : {"0", "-5"})
    check_fails(lazy_tool + Words{"train", "--out", bench.at("run"), "--steps", steps}, 2,
                {"--steps is", "at least 1"});
}

TEST_CASE("sizes no machine has are refused with what to lower, not killed", "[tool][train]") {
  const Workbench bench;
  const Words start =
      lazy_tool + Words{"train", "--text", bench.text, "--out", bench.at("run"), "--context", "16"};
  for (const Words& flags : {Words{"--channels", "4194304", "--layers", "4096"},
                             Words{"--inner", "4194304", "--channels", "4194304"},
                             Words{"--batch", "1048576", "--layers", "4096"}}) {
    const Outcome outcome = run(start + flags);
    INFO(outcome.err);
    CHECK(outcome.exit_code == 2);
    CHECK(mentions(outcome.out, "memory  about"));
    CHECK(mentions_all(outcome.err, {"this model needs about", "are free", "--batch"}));
  }
  for (const char* number : {"9223372036854775807", "-9223372036854775808", "0",
                             "9223372036854775808", "1e99", "4611686018427387904"})
    for (const char* flag :
         {"--layers", "--channels", "--heads", "--kv-heads", "--inner", "--context", "--window",
          "--batch", "--schedule-steps", "--evaluate-every"}) {
      if (std::string(flag) == "--window" && std::string(number) == "0") continue;
      CAPTURE(flag, number);
      const Outcome outcome = run(start + Words{flag, number});
      INFO(outcome.err);
      CHECK(outcome.exit_code == 2);
    }
  CHECK(!fs::exists(bench.at("run")));
}

TEST_CASE("every attention and every position trains", "[tool][train]") {
  const Workbench bench;
  for (const char* attention :
       {"lazy", "softmax", "softmax1", "sink", "sigmoid", "entmax15", "softpick", "elastic"}) {
    const std::string out = std::string("a-") + attention;
    const Outcome outcome = succeed(bench.train(out, 2, {"--attention", attention}));
    const std::string name = std::string(attention) == "lazy" ? "elastic" : attention;
    CHECK(mentions(outcome.out, "attention " + name));
    CHECK(name_of(load_checkpoint(bench.at(out)).model.rule.normalizer) == name);
  }
  for (const char* position : {"none", "rope", "alibi", "bias", "rope+bias"}) {
    const std::string out = std::string("p-") + position;
    succeed(bench.train(out, 2, {"--position", position}));
    CHECK(name_of(load_checkpoint(bench.at(out)).model.position) == position);
  }
}

TEST_CASE("the built-in data train without a file", "[tool][train]") {
  const Workbench bench;
  for (const char* data : {"tales", "backcopy"}) {
    const Outcome outcome = succeed(
        lazy_tool + Words{"train", "--data", data, "--steps", "3", "--out", bench.at(data)} +
        tiny_sizes);
    CHECK(mentions(outcome.out, std::string(data) == "tales" ? "built-in tales" : "dormant rows"));
    succeed(bench.resume(data, 4));
  }
}

TEST_CASE("a text of one line gives a report with a sample", "[tool][train]") {
  const Workbench bench;
  std::string line = some_text();
  std::replace(line.begin(), line.end(), '\n', ' ');
  for (const std::string& text : {line, line + "\n"}) {
    const std::string out = text == line ? "open" : "closed";
    const auto path = write_file(bench.folder.path / (out + ".txt"), text);
    succeed(bench.train_on(path, out, 1));
    const auto report = nlohmann::json::parse(bench.content(out, "report.json"));
    CHECK(report["tokens"].size() > 1);
  }
}

TEST_CASE("a run goes from device to device", "[tool][train][resume][kernels]") {
  const Workbench bench;
  const Words sizes{"--channels", "32", "--heads", "1"}, on_kernels{"--device", "emulated"},
      bfloat16{"--precision", "bfloat16"};
  const Outcome started = succeed(bench.train("run", 2, sizes + on_kernels + bfloat16));
  CHECK(mentions(started.out, "device  emulated on the CPU, bfloat16"));
  CHECK(mentions(started.out, "memory  about"));
  const Outcome resumed = succeed(bench.resume("run", 4));
  CHECK(mentions(resumed.out, "device  cpu, float32 (auto: there is no GPU"));
  succeed(bench.resume("run", 5, on_kernels));
  const auto log = read_log(bench.at("run/log.jsonl"));
  REQUIRE(log.size() == 6);
  for (Index i = 0; i < 6; ++i) {
    CHECK(log[i].step == i);
    CHECK((i == 0 || (log[i].loss > 3 && log[i].loss < 7)));  // chance is log(256), about 5.5
  }
  CHECK(load_checkpoint(bench.at("run")).step == 5);

  const Words greedy{"generate", "--model", bench.at("run"), "--prompt", "the ",
                     "--tokens", "12",      "--temperature", "0"};
  const std::string text = succeed(lazy_tool + greedy).out;
  CHECK(text.size() == 4 + 12 + 1);
  CHECK(succeed(lazy_tool + greedy + on_kernels).out == text);
}

TEST_CASE("a device or a precision there is not is refused", "[tool][train]") {
  const Workbench bench;
  const auto refused = [&](const Words& flags, std::initializer_list<const char*> parts) {
    check_fails(bench.train("run", 1, flags), 2, parts);
    CHECK(!fs::exists(bench.at("run")));
  };
  refused({"--device", "tpu"}, {"--device", "tpu", "emulated"});
  refused({"--precision", "float16"}, {"--precision", "float16", "bfloat16"});
  refused({"--device", "cuda"}, {"--device cuda", "no GPU", "--device cpu"});
  refused({"--device", "emulated", "--attention", "sigmoid"},
          {"attention sigmoid", "--device cpu"});
  refused({"--precision", "bfloat16"}, {"--precision bfloat16", "there is no GPU"});
}
