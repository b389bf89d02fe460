#pragma once
// What `lazy bench` found: rows of named numbers, shown as tables and kept as CSV and JSON.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace lazy {

struct BenchRow {
  std::string part;       // attention, skipping, training, decoding, memory
  std::string subject;    // what was measured: a shape, a model
  std::string contender;  // who was measured
  std::vector<std::pair<std::string, double>> values;  // forward_ms, ...; NaN: not measured
};

/// One table: a line a row, a column for every name in the order of its first appearance; "-" where
/// a row has no such number.
std::string table_text(const std::vector<BenchRow>& rows);

/// part,subject,contender,quantity,value: one line a number.
std::string csv_text(const std::vector<BenchRow>& rows);

/// [{"part": ..., "subject": ..., "contender": ..., "forward_ms": ...}, ...]
nlohmann::ordered_json rows_json(const std::vector<BenchRow>& rows);

}  // namespace lazy
