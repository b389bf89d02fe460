#include "apps/run_report.hpp"

#include <algorithm>
#include <cstdio>

#include "apps/version.hpp"
#include "reference/model_diagnostics.hpp"
#include "reference/ngram.hpp"

namespace lazy {
namespace {

constexpr Index map_tokens = 48;  // what fits a page

std::string number(double x) {
  char text[64];
  std::snprintf(text, sizeof text, "%g", x);
  return text;
}

std::vector<std::pair<std::string, std::string>> facts(const Checkpoint& c,
                                                       const TrainingData& data) {
  const TransformerConfig& m = c.model;
  const TrainingConfig& t = c.training;
  const auto text = [](Index n) { return std::to_string(n); };
  return {{"Preset", c.preset},
          {"Attention", std::string(name_of(m.rule.normalizer)) + ", position " +
                            std::string(name_of(m.position))},
          {"Model", text(parameter_count(parameter_table(m))) + " parameters: " + text(m.layers) +
                        " layers, " + text(m.channels) + " channels, " + text(m.heads) +
                        " heads, SwiGLU " + text(m.inner) + ", context " + text(m.context) +
                        ", bias window " + text(m.window)},
          {"Training", text(c.step) + " steps of " + text(t.batch) + " x " + text(m.context) +
                           " tokens, learning rate " + number(t.learning_rate) + ", weight decay " +
                           number(t.weight_decay) + ", warm-up " + text(t.warmup) +
                           ", cosine over " + text(t.schedule_steps)},
          {"Seed", std::to_string(c.seed)},
          {"Data", describe(data)},
          {"Program", version_text()}};
}

// The slices of one learned tensor of every layer, [layers][heads][...]; empty if the model has
// none.
std::vector<std::vector<std::vector<double>>> per_head(const Checkpoint& c,
                                                       const std::string& name) {
  std::vector<std::vector<std::vector<double>>> layers;
  for (const ParameterSpec& p : parameter_table(c.model)) {
    if (!p.name.ends_with(name)) continue;
    const Index width = p.size / c.model.heads;
    std::vector<std::vector<double>> heads;
    for (Index h = 0; h < c.model.heads; ++h) {
      const auto begin = c.parameters.begin() + p.offset + h * width;
      heads.emplace_back(begin, begin + width);
    }
    layers.push_back(std::move(heads));
  }
  return layers;
}

std::string data_sample(const TrainingData& data) {
  if (data.backcopy) {
    Random random(1);
    return Backcopy::show(data.backcopy->batch(random, 1, map_tokens).tokens);
  }
  const std::size_t line = data.text.find('\n', data.split);
  const bool enough = line != std::string::npos && line + map_tokens < data.text.size();
  return data.text.substr(enough ? line + 1 : data.split, map_tokens);
}

// A token as a label: bytes that are no printable ASCII character show their number.
std::string label(const std::string& tokenizer, int token) {
  const std::string text = decode(tokenizer, {token});
  if (text == " ") return "\u2423";
  if (text == "\n") return "\u21b5";
  if (text.size() == 1 && text[0] > ' ' && text[0] < 127) return text;
  return "#" + std::to_string(token);
}

// Before the threshold: the same head with tau = 0, which is its softmax.
std::vector<double> weights(const Model& model, Index layer, Index head, bool before) {
  const AttentionShape shape = model.attention_shape();
  AttentionInputs<float> in = model.attention_inputs(layer);
  const std::vector<float> zero(shape.heads, 0.f);
  if (before && in.tau) in.tau = zero.data();
  std::vector<float> weights(shape.queries * shape.keys);
  CpuBackend::attention_weights(shape, model.config().rule, in, model.attention_outputs(layer), 0,
                                head, 0, shape.queries, weights.data());
  return {weights.begin(), weights.end()};
}

}  // namespace

std::vector<std::pair<std::string, double>> loss_marks(const TrainingData& data) {
  if (data.backcopy) return {{"entropy of a dormant row", data.backcopy->dormant_entropy()}};
  std::vector<std::pair<std::string, double>> marks;
  const NgramLosses losses = ngram_losses(data.text, data.split);
  for (std::size_t k = 1; k < losses.size(); ++k)
    marks.emplace_back(std::to_string(k) + (k == 1 ? " character" : " characters") + " of context",
                       losses[k]);
  return marks;
}

ReportInput report_input(const Checkpoint& c, const std::vector<LogEntry>& log,
                         const TrainingData& data, std::string sample) {
  Model model = load_model(c);
  ReportInput input;
  input.title = "Lazy Attention: " + c.preset + ", step " + std::to_string(c.step);
  input.facts = facts(c, data);
  input.log = log;
  input.marks = loss_marks(data);
  for (const auto& layer : per_head(c, "self_attn.tau")) {
    input.tau.emplace_back();
    for (const auto& head : layer) input.tau.back().push_back(head[0]);
  }
  if (c.model.window > 0) input.bias = per_head(c, "self_attn.distance_bias");

  const std::vector<Batch> validation =
      validation_batches(data, 1, std::min<Index>(4, c.training.batch), c.model.context);
  model.loss(validation[0]);
  input.heads = diagnose(model).heads;

  if (sample.empty()) sample = data_sample(data);
  std::vector<int> tokens = encode(c.tokenizer, sample);
  if (Index(tokens.size()) > map_tokens) tokens.resize(map_tokens);
  model.forward(tokens.data(), 1, Index(tokens.size()));
  for (const int token : tokens) input.tokens.push_back(label(c.tokenizer, token));
  for (Index layer = 0; layer < c.model.layers; ++layer)
    for (Index head = 0; head < c.model.heads; ++head)
      input.maps.push_back(
          {layer, head, weights(model, layer, head, true), weights(model, layer, head, false)});
  return input;
}

void write_run_report(const std::filesystem::path& folder, const TrainingData& data) {
  const Checkpoint checkpoint = load_checkpoint(folder);
  write_report(folder, report_input(checkpoint, read_log(folder / "log.jsonl"), data));
}

}  // namespace lazy
