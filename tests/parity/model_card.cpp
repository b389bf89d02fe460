#include "tests/parity/model_card.hpp"

#include <cstdio>

#include "cuda/cuda_backend.hpp"

namespace lazy::test {
namespace {

constexpr const char* parts[] = {"logits", "loss", "gradients", "ten steps", "decoding"};

bool same_numbers(const std::vector<ModelTensor>& a, const std::vector<ModelTensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.values == y.values; });
}

template <class B, class A>
ModelResult ask(const ModelCase& c, const ModelJudge<A>& judge, const char* place,
                const char* format) {
  ModelResult result{c, place, format};
  try {
    const auto got = judge.template answers<B>();
    result.same_again = same_numbers(judge.template answers<B>(), got);
    result.verdict = judge.judge(got);
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  return result;
}

template <class Float, class Bf16>
std::vector<ModelResult> ask_on(std::uint64_t seed, const char* device) {
  const ModelCase c = parity_model(seed);
  const ModelJudge<float> in_float(c);
  return {ask<CpuBackend>(c, in_float, "cpu", "float32"),
          ask<Float>(c, in_float, device, "float32"),
          ask<Bf16>(c, ModelJudge<BFloat16>(c), device, "bfloat16")};
}

}  // namespace

std::vector<ModelResult> ask_models(std::uint64_t seed, LazyDevice device) {
  return device == LAZY_CUDA ? ask_on<CudaBackend, CudaBFloat16Backend>(seed, "gpu")
                             : ask_on<EmulatedBackend, EmulatedBFloat16Backend>(seed, "emulated");
}

bool ModelResult::passes() const {
  return failure.empty() && same_again && !verdict.empty() &&
         std::all_of(verdict.begin(), verdict.end(), [](const auto& p) { return p.passes(); });
}

std::string ModelResult::faults() const {
  if (!failure.empty()) return failure;
  std::ostringstream text;
  for (const ModelPart& part : verdict)
    for (const TensorVerdict& tensor : part.tensors)
      if (!tensor.passes())
        text << (text.tellp() ? "; " : "") << tensor.name << " errs by " << tensor.found.error
             << ", " << tensor.budget << " is allowed (" << tensor.found.where << ")";
  if (!same_again) text << (text.tellp() ? "; " : "") << "two runs gave different numbers";
  return text.str();
}

std::string model_heading() {
  char text[256];
  int length = std::snprintf(text, sizeof text, "%-8s  %-8s  %-48s", "model on", "format", "shape");
  for (const char* part : parts)
    length += std::snprintf(text + length, sizeof text - length, "  %-15s", part);
  return text;
}

std::string model_line(const ModelResult& r) {
  char text[256];
  int length = std::snprintf(text, sizeof text, "%-8s  %-8s  %-48s", r.place.c_str(),
                             r.format.c_str(), describe(r.asked).c_str());
  for (const char* name : parts) {
    char cell[32] = "-";
    for (const ModelPart& part : r.verdict)
      if (part.name == name)
        std::snprintf(cell, sizeof cell, "%.1e/%.1e", part.nearest().found.error,
                      part.nearest().plain);
    length += std::snprintf(text + length, sizeof text - length, "  %-15s", cell);
  }
  return text + std::string(r.passes() ? "  green" : "  RED");
}

nlohmann::ordered_json model_json(const ModelResult& r) {
  const auto number = [](double x) {
    return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json("infinite");
  };
  auto all = nlohmann::ordered_json::object();
  for (const ModelPart& part : r.verdict)
    for (const TensorVerdict& tensor : part.tensors)
      all[part.name][tensor.name] = {{"error", number(tensor.found.error)},
                                     {"plain", number(tensor.plain)},
                                     {"budget", number(tensor.budget)}};
  return {{"model", describe(r.asked)},
          {"on", r.place},
          {"format", r.format},
          {"green", r.passes()},
          {"faults", r.faults()},
          {"same_numbers_again", r.same_again},
          {"parts", all}};
}

}  // namespace lazy::test
