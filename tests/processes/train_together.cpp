// `lazy train` started by mpirun: the run of two processes is the run of one up to the order of
// sums, one of them speaks and writes, and what cannot be shared is refused.
//
//   train_together LAZY MPIRUN -n 2

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "apps/checkpoint.hpp"
#include "apps/run_log.hpp"
#include "tests/comparison.hpp"
#include "tests/refusal.hpp"
#include "tests/subprocess.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

bool all_right = true;

void expect(bool right, const std::string& what) {
  if (!right) std::printf("train_together: %s\n", what.c_str()), all_right = false;
}

constexpr Index batch = 4, context = 16;

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> alone{argv[1]},
      together = std::vector<std::string>(argv + 2, argv + argc) + alone;
  const TemporaryFolder folder;
  const auto at = [&](const char* name) { return (folder.path / name).string(); };
  const auto train = [&](const char* out, const std::vector<std::string>& flags) {
    return std::vector<std::string>{"train",
                                    "--data",
                                    "tales",
                                    "--out",
                                    at(out),
                                    "--steps",
                                    "6",
                                    "--layers",
                                    "1",
                                    "--channels",
                                    "16",
                                    "--heads",
                                    "2",
                                    "--inner",
                                    "12",
                                    "--window",
                                    "8",
                                    "--warmup",
                                    "3",
                                    "--context",
                                    std::to_string(context),
                                    "--evaluate-every",
                                    "3"} +
           flags;
  };
  const std::vector<std::string> on_cpu{"--device", "cpu"},
      shared{"--batch", std::to_string(batch)};

  const Outcome one = run(alone + train("one", shared + on_cpu));
  const Outcome two = run(together + train("two", shared + on_cpu));
  expect(one.exit_code == 0, "one process failed: " + one.err);
  expect(two.exit_code == 0, "two processes failed: " + two.err);
  if (!all_right) return 1;
  expect(mentions(two.out, "cpu, float32, 2 processes"), "it does not say that there are two");
  for (const char* once : {"device  ", "step     6", "done    step 6"}) {
    const auto first = two.out.find(once);
    expect(first != std::string::npos && two.out.find(once, first + 1) == std::string::npos,
           std::string("not said exactly once: ") + once);
  }
  const auto expected = read_log(folder.path / "one/log.jsonl"),
             got = read_log(folder.path / "two/log.jsonl");
  expect(got.size() == expected.size() && got.size() == 7, "the logs differ in length");
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    const auto agrees = [&](double x, double y) {
      return sum_agrees<float>(float(x), y, std::abs(y), batch * context);
    };
    expect(got[i].step == expected[i].step, "a step is missing or there twice");
    expect(agrees(got[i].loss, expected[i].loss),
           "the loss differs at step " + std::to_string(got[i].step));
    expect(got[i].evaluation.has_value() == expected[i].evaluation.has_value(),
           "evaluated at other steps");
  }

  const std::vector<std::string> further{"train", "--resume", at("two"), "--steps", "9"};
  const Outcome resumed = run(together + further + on_cpu);
  expect(resumed.exit_code == 0, "two processes do not resume: " + resumed.err);
  expect(load_checkpoint(folder.path / "two").step == 9, "the resumed run is not saved at its end");
  expect(run(alone + further + on_cpu).exit_code == 0, "one process does not take over");

  const auto refused = [&](const std::vector<std::string>& command, const char* part) {
    const Outcome outcome = run(together + command);
    expect(outcome.exit_code != 0 && mentions(outcome.err, part),
           std::string("not refused with: ") + part + ", but: " + outcome.err);
  };
  refused(train("odd", std::vector<std::string>{"--batch", "3"} + on_cpu),
          "--batch 3 cannot be shared by 2 processes");
  expect(!std::filesystem::exists(folder.path / "odd"), "what was refused left a folder");
  refused(train("two", shared + on_cpu), "already holds a run");
  refused(train("any", shared), "--device auto is for one process");
  // Told to stop, they stop after the same step, and what they did is kept.
  {
    std::vector<std::string> long_run =
        train("stopped", shared + on_cpu + std::vector<std::string>{"--save-every", "1000000"});
    long_run[6] = "1000000";
    Started started(together + long_run);
    for (int n = 0; n < 600 && !mentions(started.out(), "step     3"); ++n)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    started.send(SIGTERM);
    started.wait();
    const Index kept = load_checkpoint(folder.path / "stopped").step;
    expect(kept >= 3, "the run that was told to stop kept step " + std::to_string(kept));
    const std::vector<std::string> on{"train", "--resume", at("stopped"), "--steps",
                                      std::to_string(kept + 2)};
    expect(run(together + on + on_cpu).exit_code == 0, "a stopped run does not go on");
  }
  return all_right ? 0 : 1;
}
