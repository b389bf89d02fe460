#include "apps/command_bench.hpp"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>

#include "apps/atomic_file.hpp"
#include "apps/bench.hpp"
#include "apps/errors.hpp"
#include "apps/json_number.hpp"
#include "apps/peak.hpp"
#include "apps/version.hpp"

namespace lazy {
namespace {

namespace fs = std::filesystem;

struct BenchOptions {
  bool quick = false, oracle = false;
  std::vector<std::string> only{"attention", "training", "decoding", "memory"};
  std::vector<std::string> cases, peers{"python3"};
  int rounds = 5, threads = 0;
  std::string out;
  std::vector<std::string> memory;  // the work of bench_memory's child
};

constexpr const char* explanation =
    R"(Each implementation is first held against the oracle in float64; one that errs more than twice (gradients: three times)
as much as the oracle in float32 is reported, not timed, and the command fails. All contenders take turns in every round; the
numbers are medians over the rounds.
  percent      of what this machine's multiply-adds reach on as many threads, the best of a try before each case. Counted is
               what the mathematics owes, whatever a program executes: causal products of 2 D T(T+1)/2 flop a head, two
               in the forward pass, seven in both
  ratio        time of the contender over ours
  error share  largest error over what is allowed
Cases: T4096, T1024, T256 (random data), local (weights on near keys, as trained heads have).)";

bool wants(const BenchOptions& o, const char* part) {
  return std::find(o.only.begin(), o.only.end(), part) != o.only.end();
}

std::vector<BenchCase> chosen_cases(const BenchOptions& o) {
  const std::vector<BenchCase> all = bench_cases(o.quick);
  if (o.cases.empty()) return all;
  std::vector<BenchCase> chosen;
  for (const std::string& name : o.cases) {
    std::string known;
    const auto found = std::find_if(all.begin(), all.end(), [&](const BenchCase& c) {
      known += " " + c.name;
      return c.name == name;
    });
    if (found == all.end()) throw UserError("no case is called " + name + "; choose from:" + known);
    chosen.push_back(*found);
  }
  return chosen;
}

void check(const BenchOptions& o) {
  if (o.rounds < 1)
    throw UserError("--rounds is " + std::to_string(o.rounds) + ", must be at least 1");
  const fs::path folder = fs::path(o.out).parent_path();
  if (!folder.empty() && !fs::is_directory(folder))
    throw UserError("--out " + o.out + ": there is no folder " + folder.string() +
                    "; create it first");
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
  return text;
}

// Programs by their file names: where they lie is this machine's business.
std::string own_command_line() {
  std::ifstream file("/proc/self/cmdline");
  std::string text, word;
  while (std::getline(file, word, '\0')) {
    const fs::path path = word;
    text += (text.empty() ? "" : " ") + (path.is_absolute() ? path.filename() : path).string();
  }
  return text;
}

nlohmann::ordered_json facts(const Bench& bench) {
  nlohmann::ordered_json peers = nlohmann::ordered_json::array();
  for (const auto& p : bench.peers) peers.push_back(p->peer.introduction());
  return {{"date", today()},
          {"commit", build_commit()},
          {"command", own_command_line()},
          {"compiler", build_compiler()},
          {"flags", build_flags()},
          {"vector_bytes", vector_bytes()},
          {"cpu", cpu_model()},
          {"threads", bench.threads},
          {"rounds", bench.rounds},
          {"peers", peers}};
}

void write_files(const BenchOptions& o, const Bench& bench, const nlohmann::ordered_json& peaks) {
  nlohmann::ordered_json json = facts(bench);
  json["peak_gflops"] = peaks;
  json["wrong"] = bench.wrong;
  json["results"] = rows_json(bench.rows);
  write_file_atomically(o.out + ".json", dump_json(json, 1) + "\n");
  write_file_atomically(o.out + ".csv", csv_text(bench.rows));
  std::cout << "\nwritten: " << o.out << ".json, " << o.out << ".csv\n";
}

void run(const BenchOptions& o) {
  check(o);
  if (o.threads > 0) omp_set_num_threads(o.threads);
  const std::vector<BenchCase> cases = chosen_cases(o);
  Bench bench;
  bench.quick = o.quick;
  bench.rounds = o.rounds;
  bench.threads = omp_get_max_threads();
  if (o.quick) bench.turn_seconds = 0.001;
  const double peak_one = fma_peak(1);
  const double peak_at_start = bench.peak = fma_peak(bench.threads);
  std::printf("machine  %s, %d threads; peak %.0f GFLOP/s, %.0f on one thread, %d-byte vectors\n",
              cpu_model().c_str(), bench.threads, bench.peak / 1e9, peak_one / 1e9, vector_bytes());
  std::cout << "build    commit " << build_commit() << ", " << build_compiler() << ", "
            << build_flags() << "\n";
  if (o.peers != std::vector<std::string>{"none"})
    bench.peers = start_peers(o.peers, bench.threads);

  // Other programs can only hide the peak: the best that was seen is nearest to it.
  const auto look_again = [&] { bench.peak = std::max(bench.peak, fma_peak(bench.threads)); };
  for (const BenchCase& c : cases) {
    if (!wants(o, "attention")) break;
    look_again();
    bench_attention(bench, c, o.oracle);
  }
  look_again();
  if (wants(o, "training")) bench_training(bench);
  if (wants(o, "decoding")) bench_decoding(bench);
  if (wants(o, "memory")) bench_memory(bench);

  const double peak_at_end = fma_peak(bench.threads);
  std::printf("\npeak at the end: %.0f GFLOP/s, %+.1f %%\n", peak_at_end / 1e9,
              100 * (peak_at_end / peak_at_start - 1));
  const nlohmann::ordered_json peaks{{"one_thread", peak_one / 1e9},
                                     {"start", peak_at_start / 1e9},
                                     {"end", peak_at_end / 1e9},
                                     {"used", bench.peak / 1e9}};
  if (!o.out.empty()) write_files(o, bench, peaks);
  if (!bench.wrong.empty())
    throw std::runtime_error(std::to_string(bench.wrong.size()) +
                             " validations failed, the first: " + bench.wrong[0]);
}

}  // namespace

void report_rows(Bench& bench, const std::string& title, const std::vector<BenchRow>& rows) {
  if (!title.empty()) std::cout << "\n" << title << "\n";
  if (!rows.empty()) std::cout << table_text(rows) << std::flush;
  bench.rows.insert(bench.rows.end(), rows.begin(), rows.end());
}

void report_wrong(Bench& bench, const std::string& line) {
  const bool color = isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR");
  std::cout << (color ? "\033[31m" : "") << "WRONG    " << line << (color ? "\033[0m" : "") << "\n";
  bench.wrong.push_back(line);
}

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "bench", "Validate attention, then time it against this machine's peak and PyTorch");
  const auto o = std::make_shared<BenchOptions>();
  command->add_flag("--quick", o->quick, "Small sizes, to see that everything works");
  command->add_option("--only", o->only, "Parts to run")
      ->delimiter(',')
      ->check(CLI::IsMember({"attention", "training", "decoding", "memory"}))
      ->capture_default_str();
  command->add_option("--cases", o->cases, "Cases of attention, comma-separated (default: all)")
      ->delimiter(',');
  command->add_option("--rounds", o->rounds, "Turns of every contender")->capture_default_str();
  command->add_option("--threads", o->threads, "Of everybody (default: one for each core)")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--peers", o->peers,
                   "Pythons with PyTorch to compare with, comma-separated, or none")
      ->delimiter(',')
      ->capture_default_str();
  command->add_flag("--oracle", o->oracle, "Time the oracle, too (slow)");
  command->add_option("--out", o->out, "Write the results to OUT.json and OUT.csv");
  command->add_option("--memory", o->memory, "")->group("")->expected(2);
  command->footer(explanation);
  command->callback([o, command] {
    if (command->count("--memory")) {
      if (o->threads > 0) omp_set_num_threads(o->threads);
      std::cout << memory_growth(std::stol(o->memory[1]), o->memory[0] == "both") << "\n";
    } else {
      run(*o);
    }
  });
}

}  // namespace lazy
