#include "apps/bench_results.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/json_number.hpp"
#include "apps/progress.hpp"

namespace lazy {
namespace {

std::string number_text(double x) {
  if (!std::isfinite(x)) return "-";
  if (std::abs(x) >= 1000) return with_commas(x);
  const double size = std::abs(x);
  const char* format = size >= 100 || x == 0 ? "%.0f" : size >= 10 ? "%.1f" : "%.2f";
  char text[32];
  std::snprintf(text, sizeof text, size < 0.01 && x != 0 ? "%.0e" : format, x);
  return text;
}

std::string padded(const std::string& text, std::size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

// "forward_ms" stands in two lines, "forward" and "ms".
std::pair<std::string, std::string> heading(const std::string& name) {
  const std::size_t cut = name.find('_');
  if (cut == std::string::npos) return {"", name};
  std::string second = name.substr(cut + 1);
  std::replace(second.begin(), second.end(), '_', ' ');
  return {name.substr(0, cut), second};
}

std::string quoted(const std::string& text) {
  return text.find(',') == std::string::npos ? text : '"' + text + '"';
}

}  // namespace

std::string table_text(const std::vector<BenchRow>& rows) {
  std::vector<std::string> names;
  std::size_t label = 0;
  for (const BenchRow& row : rows) {
    label = std::max(label, row.contender.size());
    for (const auto& [name, value] : row.values)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  const auto cell = [](const BenchRow& row, const std::string& name) -> std::string {
    for (const auto& [known, value] : row.values)
      if (known == name) return number_text(value);
    return "-";
  };
  std::string first(label + 2, ' '), second = first;
  std::vector<std::string> lines;
  for (const BenchRow& row : rows)
    lines.push_back("  " + row.contender + std::string(label - row.contender.size(), ' '));
  for (const std::string& name : names) {
    const auto [above, below] = heading(name);
    std::size_t width = std::max(above.size(), below.size());
    for (const BenchRow& row : rows) width = std::max(width, cell(row, name).size());
    first += "  " + padded(above, width);
    second += "  " + padded(below, width);
    for (std::size_t i = 0; i < rows.size(); ++i)
      lines[i] += "  " + padded(cell(rows[i], name), width);
  }
  std::string text = first + "\n" + second + "\n";
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string csv_text(const std::vector<BenchRow>& rows) {
  std::string text = "part,subject,contender,quantity,value\n";
  for (const BenchRow& row : rows)
    for (const auto& [name, value] : row.values) {
      char number[32];
      std::snprintf(number, sizeof number, "%.6g", value);
      text += row.part + "," + quoted(row.subject) + "," + quoted(row.contender) + "," + name +
              "," + (std::isfinite(value) ? number : "") + "\n";
    }
  return text;
}

nlohmann::ordered_json rows_json(const std::vector<BenchRow>& rows) {
  auto list = nlohmann::ordered_json::array();
  for (const BenchRow& row : rows) {
    nlohmann::ordered_json entry{
        {"part", row.part}, {"subject", row.subject}, {"contender", row.contender}};
    for (const auto& [name, value] : row.values) entry[name] = json_number(value);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace lazy
