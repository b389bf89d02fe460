#include <unistd.h>

#include <fstream>

#include "apps/bench.hpp"
#include "apps/bench_judge.hpp"
#include "apps/peer.hpp"
#include "reference/tiled.hpp"

namespace lazy {
namespace {

BenchCase long_case(Index length) {
  return {"memory",
          {.batch = 1,
           .queries = length,
           .keys = length,
           .heads = 8,
           .kv_heads = 8,
           .head_dim = 64,
           .window = 512}};
}

// Most memory this process ever held, in bytes.
double peak_memory() {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("VmHWM:")) return 1024 * std::stod(line.substr(6));
  throw std::runtime_error("cannot tell the memory of a process: /proc/self/status has no VmHWM");
}

void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

}  // namespace

double memory_growth(Index length, bool with_backward) {
  const AttentionShape s = long_case(length).shape;
  const AttentionRule rule;
  const BenchProblem<float> problem = make_bench_problem(long_case(length));
  BenchAnswer<float> answer = blank_answer<float>(s);  // written to, so that it is in memory
  forget_peak();
  const double before = peak_memory();
  tiled::attention_forward(s, rule, problem.inputs(), answer.outputs());
  if (with_backward)
    tiled::attention_backward(s, rule, problem.inputs(), answer.outputs(), problem.dout.data(),
                              answer.grads());
  return peak_memory() - before;
}

void bench_memory(Bench& bench) {
  const Index length = bench.quick ? 512 : 16384;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  BenchRow row{"memory", describe(long_case(length)), "lazy, tiled", {}};
  for (const bool with_backward : {false, true}) {
    Companion child({self, "bench", "--threads", std::to_string(bench.threads), "--memory",
                     with_backward ? "both" : "forward", std::to_string(length)},
                    {});
    std::string line;
    if (!child.read_line(line))
      throw std::runtime_error("the memory of T " + std::to_string(length) +
                               " could not be measured: " + child.last_words());
    row.values.push_back({with_backward ? "both_MB" : "forward_MB", std::stod(line) / 1e6});
  }
  report_rows(bench, "memory beyond inputs and outputs: " + row.subject, {row});
}

}  // namespace lazy
