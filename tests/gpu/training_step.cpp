// The model's training step on a device, for who times it beside others' (training_step.py). Reads
// one JSON object a line, answers with one JSON object a line:
//
//   {"ask": "load", "preset": "toy", "sizes": {"layers": 1, ...}, "attention": "elastic",
//    "format": "bfloat16", "batch": B, "learning_rate": r, "folder": F}
//                                       {"parameters": n, "model": {...}}
//       Sizes, rate and folder may be left out. In the folder, parameters.f32 and tokens.i32
//       [3, B, T + 1] are written, for the others.
//   {"ask": "losses"}                   {"losses": [3]} of an update on each of those
//   {"ask": "time", "batch": B, "steps": n}    {"step": ms}
//
// {"error": "..."} answers what cannot be done. One model at a time.
//
//   lazy_training_step cuda|emulated

#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "reference/random.hpp"
#include "tests/gpu/device_model.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

using Json = nlohmann::ordered_json;
using Answers = std::function<Json(const Json&)>;

constexpr int compared_steps = 3;

// Preset, with the sizes that are asked for in their place, and a constant learning rate.
Preset described(const Json& request) {
  Preset p = find_preset(request.at("preset").get<std::string>());
  TransformerConfig& c = p.model;
  const Json wanted = request.value("sizes", Json::object());
  for (const auto& [name, value] : wanted.items()) {
    const std::pair<const char*, Index*> sizes[] = {
        {"vocabulary", &c.vocabulary}, {"layers", &c.layers},     {"channels", &c.channels},
        {"heads", &c.heads},           {"kv_heads", &c.kv_heads}, {"inner", &c.inner},
        {"context", &c.context},       {"window", &c.window}};
    const auto found = std::find_if(std::begin(sizes), std::end(sizes),
                                    [&](const auto& size) { return size.first == name; });
    if (found == std::end(sizes)) throw std::invalid_argument("a model has no size " + name);
    *found->second = value.get<Index>();
  }
  c.rule.normalizer = parse_normalizer(request.value("attention", "elastic"));
  if (c.rule.normalizer == Normalizer::softmax) c.position = Position::rope;
  p.training.batch = request.at("batch").get<Index>();
  p.training.learning_rate = request.value("learning_rate", p.training.learning_rate);
  p.training.warmup = 0, p.training.minimum_rate = 1;
  return p;
}

Json model_json(const Preset& p) {
  const TransformerConfig& c = p.model;
  const TrainingConfig& t = p.training;
  Json table = Json::array();
  for (const ParameterSpec& tensor : parameter_table(c))
    table.push_back({{"name", tensor.name},
                     {"shape", tensor.shape},
                     {"mean", tensor.mean},
                     {"deviation", tensor.deviation},
                     {"decay", tensor.decay}});
  return {{"vocabulary", c.vocabulary},
          {"layers", c.layers},
          {"channels", c.channels},
          {"heads", c.heads},
          {"kv_heads", c.kv_heads},
          {"length", c.context},
          {"window", c.window},
          {"rope_base", c.rope_base},
          {"norm_epsilon", c.norm_epsilon},
          {"learning_rate", t.learning_rate},
          {"betas", {AdamW{}.beta1, AdamW{}.beta2}},
          {"weight_decay", t.weight_decay},
          {"clip", t.clip},
          {"table", table}};
}

// Rows of T + 1 tokens: every token is the target of the one before.
std::vector<int> random_tokens(const TransformerConfig& c, Index rows) {
  Random random(2);
  std::vector<int> tokens(rows * (c.context + 1));
  for (int& token : tokens) token = int(random.below(c.vocabulary));
  return tokens;
}

std::vector<Batch> batches(const std::vector<int>& tokens, const TransformerConfig& c,
                           Index sequences) {
  std::vector<Batch> all;
  for (auto row = tokens.begin(); row != tokens.end();) {
    Batch batch{sequences, c.context, {}, {}};
    for (Index b = 0; b < sequences; ++b, row += c.context + 1) {
      batch.tokens.insert(batch.tokens.end(), row, row + c.context);
      batch.targets.insert(batch.targets.end(), row + 1, row + c.context + 1);
    }
    all.push_back(std::move(batch));
  }
  return all;
}

template <class T>
void write_numbers(const std::string& path, const std::vector<T>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), long(values.size() * sizeof(T)));
  if (!file.flush()) throw std::runtime_error("could not write " + path + "; is the disk full?");
}

template <class B>
struct Training {
  Preset preset;
  Transformer<B, float> model{preset.model, 1};
  Trainer<B, float> trainer{model, preset.training};

  Json losses() {
    const Index sequences = preset.training.batch;
    Json all = Json::array();
    for (const Batch& batch :
         batches(random_tokens(preset.model, compared_steps * sequences), preset.model, sequences))
      all.push_back(update<B>(trainer, {&batch, 1}));
    return {{"losses", all}};
  }
  Json time(Index sequences, Index steps) {
    const std::vector<Batch> same(
        steps, batches(random_tokens(preset.model, sequences), preset.model, sequences)[0]);
    const Watch watch;
    update<B>(trainer, same);
    return {{"step", 1e3 * watch.seconds() / double(steps)}};
  }
};

template <class B>
Answers open(const Preset& preset) {
  const auto training = std::make_shared<Training<B>>(preset);
  return [training](const Json& request) {
    return request.at("ask") == "losses" ? training->losses()
                                         : training->time(request.at("batch"), request.at("steps"));
  };
}

class Desk {
 public:
  explicit Desk(const std::string& device) : device_(device) {}

  Json answer(const Json& request) {
    const std::string ask = request.at("ask");
    if (ask == "load") return load(request);
    if (ask != "losses" && ask != "time") throw std::invalid_argument("asked for " + ask);
    if (!loaded_) throw std::invalid_argument("nothing is loaded; ask to load a model first");
    return loaded_(request);
  }

 private:
  std::string device_;
  Answers loaded_;

  Json load(const Json& request) {
    const Preset preset = described(request);
    const auto table = parameter_table(preset.model);
    loaded_ = nullptr;  // its memory is needed
    loaded_ =
        with_backend(device_, request.at("format"), [&]<class B>() { return open<B>(preset); });
    if (request.contains("folder")) {
      const std::string folder = request.at("folder");
      write_numbers(folder + "/parameters.f32", initial_parameters<float>(table, 1));
      write_numbers(folder + "/tokens.i32",
                    random_tokens(preset.model, compared_steps * preset.training.batch));
    }
    return {{"parameters", parameter_count(table)}, {"model", model_json(preset)}};
  }
};

}  // namespace

int main(int argc, char** argv) {
  Desk desk(argc > 1 ? argv[1] : "emulated");
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      answer = desk.answer(Json::parse(line));
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
}
