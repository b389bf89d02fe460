#include "tests/parity/card.hpp"

#include <cstdio>
#include <cstring>

#include "tests/plain_16bit.hpp"

namespace lazy::test {
namespace {

Problem<float> make(const ParityCase& asked) {
  if (asked.type == LAZY_BFLOAT16) return rounded_problem<BFloat16>(asked.recipe);
  if (asked.type == LAZY_FLOAT16) return rounded_problem<Float16>(asked.recipe);
  return make_problem<float>(asked.recipe);
}

Answer<float> answer(const Problem<float>& p, const kernels::Options& how) {
  const AttentionShape& s = p.shape;
  Answer<float> a = blank_answer(p);
  kernels::attention_forward(s, p.rule, p.inputs(), a.outputs(), how);
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      kernels::attention_weights(s, p.rule, p.inputs(), a.outputs(), b, h, 0, s.queries,
                                 a.weights.data() + weight_offset(s, b, h, 0), how);
  kernels::attention_backward(s, p.rule, p.inputs(), p.dout.data(), a.grads(), how);
  return a;
}

template <class Tensors>
bool same_bytes(const Answer<float>& x, const Answer<float>& y, const Tensors& tensors) {
  for (const AnswerTensor<float>& tensor : tensors) {
    const auto &a = x.*tensor.values, &b = y.*tensor.values;
    if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0)
      return false;
  }
  return true;
}

bool same_bytes(const Answer<float>& x, const Answer<float>& y) {
  return same_bytes(x, y, value_tensors<float>) && same_bytes(x, y, gradient_tensors<float>);
}

// Tiles of 64 x 64 below the diagonal's in which no entry is alive.
Index dead_tiles(const Answer<float>& a, const AttentionShape& s) {
  constexpr Index tile = 64;
  Index dead = 0;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index row = tile; row < s.queries; row += tile)
        for (Index key = 0; key < row; key += tile) {
          bool live = false;
          for (Index i = row; i < std::min(row + tile, s.queries); ++i)
            for (Index j = key; j < key + tile; ++j)
              live = live || a.weights[weight_offset(s, b, h, i) + j] != 0;
          dead += !live;
        }
  return dead;
}

template <class F>
LowPrecisionVerdict judge_16bit(const Problem<float>& p, const Answer<float>& got) {
  return judge_low_precision(p, got, plain_16bit_errors<F>(p), epsilon_of<F>());
}

LowPrecisionVerdict judge(LazyType type, const Problem<float>& p, const Answer<float>& got) {
  if (type == LAZY_BFLOAT16) return judge_16bit<BFloat16>(p, got);
  if (type == LAZY_FLOAT16) return judge_16bit<Float16>(p, got);
  return judge_low_precision(p, got, plain_errors(p),
                             double(std::numeric_limits<float>::epsilon()));
}

std::string shape_text(const Recipe& r) {
  const AttentionShape& s = r.shape;
  std::ostringstream text;
  text << "B " << s.batch << " T " << s.queries << "/" << s.keys << " H " << s.heads << "/"
       << s.kv_heads << " D " << s.head_dim << " W " << s.window;
  if (!r.lengths.empty()) text << " ragged";
  if (r.rule.divisor == Divisor::length) text << " tau/L";
  if (r.bias_slope != 0) text << " local";
  return text.str();
}

// The columns of the card; the JSON has every tensor.
constexpr const char* shown[] = {"out", "dq", "dk", "dv", "dbias", "dtau"};

const TensorVerdict* find(const LowPrecisionVerdict& verdict, const std::string& name) {
  for (const TensorVerdict& tensor : verdict.tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace

ParityResult ask(const ParityCase& asked, LazyDevice device, bool poison) {
  ParityResult result{asked};
  const Problem<float> p = make(asked);
  kernels::Options how{.device = device, .rung = asked.rung, .type = asked.type, .poison = poison};
  try {
    const Answer<float> got = answer(p, how);
    result.same_again = same_bytes(answer(p, how), got);
    how.skip_dead_tiles = false;
    result.same_skipping = same_bytes(answer(p, how), got);
    if (p.shape.queries == p.shape.keys) result.dead_tiles = dead_tiles(got, p.shape);
    result.verdict = judge(asked.type, p, got);
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  return result;
}

std::string ParityResult::faults() const {
  if (!failure.empty()) return failure;
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
  for (const TensorVerdict& tensor : verdict.tensors)
    if (!tensor.passes()) {
      std::ostringstream what;
      what << tensor.name << " errs by " << tensor.found.error << ", " << tensor.budget
           << " is allowed (" << tensor.found.where << ")";
      add(what.str());
    }
  if (!verdict.wrong_gates.empty())
    add(std::to_string(verdict.wrong_gates.size()) +
        " wrong gates, the first: " + verdict.wrong_gates[0]);
  if (!same_again) add("two runs gave different bytes");
  if (!same_skipping) add("skipping dead tiles changed bytes");
  if (!skips_something()) add("no tile is dead, though the bias falls steeply");
  return text;
}

std::string card_heading() {
  char text[256];
  int length = std::snprintf(text, sizeof text, "%-4s %-8s  %-40s", "rung", "format", "shape");
  for (const char* name : shown)
    length += std::snprintf(text + length, sizeof text - length, "  %-15s", name);
  return text;
}

std::string card_line(const ParityResult& r) {
  char text[256];
  int length = std::snprintf(text, sizeof text, "%-4s %-8s  %-40s", r.asked.rung.c_str(),
                             name(r.asked.type), shape_text(r.asked.recipe).c_str());
  for (const char* name : shown) {
    const TensorVerdict* tensor = find(r.verdict, name);
    char cell[32] = "-";
    if (tensor) std::snprintf(cell, sizeof cell, "%.1e/%.1e", tensor->found.error, tensor->plain);
    length += std::snprintf(text + length, sizeof text - length, "  %-15s", cell);
  }
  return text + std::string(r.passes() ? "  green" : "  RED");
}

nlohmann::ordered_json card_json(const ParityResult& r) {
  const auto number = [](double x) {
    return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json("infinite");
  };
  auto tensors = nlohmann::ordered_json::object();
  for (const TensorVerdict& tensor : r.verdict.tensors)
    tensors[tensor.name] = {{"error", number(tensor.found.error)},
                            {"plain", number(tensor.plain)},
                            {"budget", number(tensor.budget)}};
  return {{"rung", r.asked.rung},
          {"format", name(r.asked.type)},
          {"problem", describe(r.asked.recipe)},
          {"green", r.passes()},
          {"faults", r.faults()},
          {"same_bytes_again", r.same_again},
          {"same_bytes_computing_dead_tiles", r.same_skipping},
          {"dead_tiles", r.dead_tiles},
          {"tensors", tensors}};
}

}  // namespace lazy::test
