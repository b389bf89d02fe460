#pragma once
// The parts of `lazy bench`: each adds its rows to the results and prints them as tables.

#include <memory>
#include <string>
#include <vector>

#include "apps/bench_case.hpp"
#include "apps/bench_peers.hpp"
#include "apps/bench_results.hpp"

namespace lazy {

struct Bench {
  bool quick = false;  // sizes that take milliseconds, for the tests
  int rounds = 5, threads = 1;
  double turn_seconds = 0.2;  // least length of a contender's turn
  double peak = 0;            // flop/s, see apps/peak.hpp
  std::vector<std::unique_ptr<BenchPeer>> peers;

  std::vector<BenchRow> rows;
  std::vector<std::string> wrong;  // what of ours did not pass validation
};

/// Forward, forward and backward, backward alone, and what skipping dead tiles saves; `with_oracle`
/// times the oracle, too.
void bench_attention(Bench& bench, const BenchCase& bench_case, bool with_oracle);

/// One update of small models, ours and the peers'.
void bench_training(Bench& bench);

/// Tokens a second of the toy model with a full cache.
void bench_decoding(Bench& bench);

/// Memory beyond inputs and outputs, measured in a process of its own.
void bench_memory(Bench& bench);

/// What that process does: growth of its peak memory in bytes, by a forward and, if wanted, a
/// backward pass over a problem of `length` tokens.
double memory_growth(Index length, bool with_backward);

/// Adds `rows` to the results and prints them below `title`.
void report_rows(Bench& bench, const std::string& title, const std::vector<BenchRow>& rows);

/// Prints a line in red (on a terminal) and remembers it: the tool will not exit with 0.
void report_wrong(Bench& bench, const std::string& line);

}  // namespace lazy
