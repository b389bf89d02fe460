#pragma once
// What the programs share: output that is the same on every machine, pictures, and statements that
// end the program if they do not hold.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "apps/atomic_file.hpp"
#include "apps/svg.hpp"
#include "reference/attention_types.hpp"

namespace lazy::tutorial {

/// `x` with `digits` after the point. Machines differ in a last bit: it must decide neither a tie
/// nor the sign of a zero.
inline std::string fixed(double x, int digits = 3) {
  x += std::copysign(1e-9, x);
  if (std::abs(x) < 0.5 * std::pow(10, -digits)) x = 0;
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

/// The same for a weight, where an exact 0 says more than 0.000.
inline std::string weight(double x) {
  return x == 0 ? "0" : fixed(x);
}

/// Right-aligned in `width` columns.
inline std::string right(const std::string& text, std::size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

/// A line: a name, then numbers in columns.
inline void print_row(const std::string& name, std::span<const double> values,
                      std::string (*show)(double) = weight) {
  std::string line = name + std::string(name.size() < 10 ? 10 - name.size() : 0, ' ');
  for (const double value : values) line += right(show(value), 8);
  std::printf("%s\n", line.c_str());
}

/// Prints what is true. If it is not, says so and ends the program.
inline void holds(bool is_true, const std::string& statement) {
  if (!is_true) {
    std::fflush(stdout);
    std::fprintf(stderr, "DOES NOT HOLD: %s\n", statement.c_str());
    std::exit(1);
  }
  std::printf("holds: %s\n", statement.c_str());
}

/// Writes a picture into the folder that is the program's first argument (default: here).
inline void write_picture(int argc, char** argv, const std::string& name, const std::string& svg) {
  write_file_atomically(std::string(argc > 1 ? argv[1] : ".") + "/" + name, svg);
}

}  // namespace lazy::tutorial
