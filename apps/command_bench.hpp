#pragma once

#include <CLI/CLI.hpp>

namespace lazy {

/// `lazy bench`: validate, then time, against this machine's peak and against PyTorch.
void add_bench_command(CLI::App& app);

}  // namespace lazy
