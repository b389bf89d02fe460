// The whole Transformer on the CPU: forward, loss, gradients, training steps, diagnostics.

#include "bindings.hpp"
#include "reference/cpu_backend.hpp"
#include "reference/model_diagnostics.hpp"
#include "reference/training.hpp"

namespace lazy::python {
namespace {

using Tokens = Array<const int, 2>;  // [B, T]

TransformerConfig read_model(const nb::dict& d) {
  const auto size = [&](const char* key) { return nb::cast<Index>(d[key]); };
  const auto word = [&](const char* key) { return nb::cast<std::string>(d[key]); };
  TransformerConfig c;
  c.vocabulary = size("vocabulary");
  c.layers = size("layers");
  c.channels = size("channels");
  c.heads = size("heads");
  c.kv_heads = size("kv_heads");
  c.inner = size("inner");
  c.context = size("context");
  c.window = size("window");
  c.tied = nb::cast<bool>(d["tied"]);
  c.rule = {parse_normalizer(word("attention")), parse_divisor(word("divisor"))};
  c.position = parse_position(word("position"));
  c.rope_base = nb::cast<double>(d["rope_base"]);
  c.norm_epsilon = nb::cast<double>(d["norm_epsilon"]);
  return c;
}

TrainingConfig read_training(const nb::dict& d) {
  const auto size = [&](const char* key) { return nb::cast<Index>(d[key]); };
  const auto number = [&](const char* key) { return nb::cast<double>(d[key]); };
  TrainingConfig c;
  c.batch = size("batch");
  c.learning_rate = number("learning_rate");
  c.minimum_rate = number("minimum_rate");
  c.warmup = size("warmup");
  c.schedule_steps = size("schedule_steps");
  c.weight_decay = number("weight_decay");
  c.clip = number("clip");
  c.evaluate_every = size("evaluate_every");
  validate(c);
  return c;
}

class Model {
 public:
  Model(const nb::dict& model, const nb::dict& training, std::uint64_t seed)
      : transformer(read_model(model), seed), trainer(transformer, read_training(training)) {}

  nb::ndarray<nb::numpy, float> forward(Tokens tokens) {
    {
      nb::gil_scoped_release others_may_run;
      transformer.forward(tokens.data(), Index(tokens.shape(0)), Index(tokens.shape(1)));
    }
    return logits();
  }

  nb::ndarray<nb::numpy, float> logits() const {
    const AttentionShape s = transformer.attention_shape();
    return new_array(transformer.logits(), {std::size_t(s.batch), std::size_t(s.queries),
                                            std::size_t(transformer.config().vocabulary)});
  }

  double loss(Tokens tokens, Tokens targets) {
    const Batch batch = make_batch(tokens, targets);
    nb::gil_scoped_release others_may_run;
    return transformer.loss(batch);
  }

  nb::tuple step(Tokens tokens, Tokens targets) {
    const Batch batch = make_batch(tokens, targets);
    StepResult result;
    {
      nb::gil_scoped_release others_may_run;
      result = trainer.step(batch);
    }
    return nb::make_tuple(result.loss, result.gradient_norm, result.learning_rate);
  }

  nb::ndarray<nb::numpy, float> attention_weights(Index layer) const {
    const AttentionShape s = transformer.attention_shape();
    std::vector<float> all;
    for (Index b = 0; b < s.batch; ++b)
      for (Index h = 0; h < s.heads; ++h) {
        const std::vector<float> head = transformer.attention_weights(layer, b, h, 0, s.queries);
        all.insert(all.end(), head.begin(), head.end());
      }
    const auto B = std::size_t(s.batch), H = std::size_t(s.heads), T = std::size_t(s.queries);
    return new_array(std::move(all), {B, H, T, T});
  }

  nb::ndarray<nb::numpy, float> hidden_states(Index layer) const {
    const AttentionShape s = transformer.attention_shape();
    return new_array(
        transformer.hidden_states(layer),
        {std::size_t(s.batch), std::size_t(s.queries), std::size_t(transformer.config().channels)});
  }

  Transformer<CpuBackend, float> transformer;
  Trainer<CpuBackend, float> trainer;

 private:
  static Batch make_batch(const Tokens& tokens, const Tokens& targets) {
    return {.sequences = Index(tokens.shape(0)),
            .length = Index(tokens.shape(1)),
            .tokens = {tokens.data(), tokens.data() + tokens.size()},
            .targets = {targets.data(), targets.data() + targets.size()}};
  }
};

// name -> array, each a slice of one flat buffer that lives as long as the model.
nb::dict slices(nb::handle self, const std::vector<ParameterSpec>& table, float* base) {
  nb::dict named;
  for (const ParameterSpec& p : table) {
    const std::vector<std::size_t> shape(p.shape.begin(), p.shape.end());
    named[p.name.c_str()] =
        nb::cast(nb::ndarray<nb::numpy, float>(base + p.offset, shape.size(), shape.data(), self),
                 nb::rv_policy::reference);
  }
  return named;
}

template <class Pick>
auto named(Pick pick) {
  return [pick](nb::handle self) {
    Model& model = nb::cast<Model&>(self);
    return slices(self, model.transformer.table(), pick(model).data());
  };
}

}  // namespace

void bind_model(nb::module_& module) {
  nb::class_<Model>(module, "Model", "The Transformer that `lazy train` trains, on the CPU.")
      .def(nb::init<nb::dict, nb::dict, std::uint64_t>(), nb::arg("model"), nb::arg("training"),
           nb::arg("seed") = 0)
      .def("forward", &Model::forward, nb::arg("tokens").noconvert(),
           "Logits [B, T, V] of tokens [B, T], int32.")
      .def("loss", &Model::loss, nb::arg("tokens").noconvert(), nb::arg("targets").noconvert(),
           "Mean loss in nats; a target of -1 does not count. Both [B, T], int32.")
      .def("step", &Model::step, nb::arg("tokens").noconvert(), nb::arg("targets").noconvert(),
           "One AdamW update: (loss before it, gradient norm before clipping, learning rate).")
      .def_prop_rw(
          "steps_done", [](const Model& m) { return m.trainer.steps_done(); },
          [](Model& m, Index steps) { m.trainer.resume_at(steps); })
      .def("parameters", named([](Model & m) -> auto& { return m.transformer.parameters(); }),
           "name -> array, not copied: writing into one changes the model.")
      .def("gradients", named([](Model & m) -> auto& { return m.transformer.gradients(); }),
           "The same, of the last step.")
      .def("first_moment", named([](Model & m) -> auto& { return m.trainer.first_moment(); }))
      .def("second_moment", named([](Model & m) -> auto& { return m.trainer.second_moment(); }))
      .def("attention_weights", &Model::attention_weights, nb::arg("layer"),
           "Weights [B, H, T, T] of a layer in the last forward.")
      .def("hidden_states", &Model::hidden_states, nb::arg("layer"),
           "States [B, T, C] entering layer 0 .. L-1, or leaving the last one (layer L).")
      .def(
          "diagnose", [](const Model& m) { return diagnose(m.transformer); },
          "Diagnostics of the last forward.");

  module.def(
      "parameter_table",
      [](const nb::dict& model) {
        nb::list rows;
        for (const ParameterSpec& p : parameter_table(read_model(model)))
          rows.append(nb::make_tuple(p.name, p.shape, p.mean, p.deviation, p.decay));
        return rows;
      },
      nb::arg("model"), "(name, shape, mean, deviation, decays) of every learned tensor.");
  module.def(
      "preset",
      [](const std::string& name) {
        const Preset& preset = find_preset(name);
        const TransformerConfig& m = preset.model;
        const TrainingConfig& t = preset.training;
        nb::dict model, training;
        model["vocabulary"] = m.vocabulary;
        model["layers"] = m.layers;
        model["channels"] = m.channels;
        model["heads"] = m.heads;
        model["kv_heads"] = m.kv_heads;
        model["inner"] = m.inner;
        model["context"] = m.context;
        model["window"] = m.window;
        model["tied"] = m.tied;
        model["attention"] = std::string(name_of(m.rule.normalizer));
        model["divisor"] = std::string(name_of(m.rule.divisor));
        model["position"] = std::string(name_of(m.position));
        model["rope_base"] = m.rope_base;
        model["norm_epsilon"] = m.norm_epsilon;
        training["batch"] = t.batch;
        training["learning_rate"] = t.learning_rate;
        training["minimum_rate"] = t.minimum_rate;
        training["warmup"] = t.warmup;
        training["schedule_steps"] = t.schedule_steps;
        training["weight_decay"] = t.weight_decay;
        training["clip"] = t.clip;
        training["evaluate_every"] = t.evaluate_every;
        return nb::make_tuple(model, training);
      },
      nb::arg("name"), "(model, training) numbers of a preset, as dictionaries.");
}

}  // namespace lazy::python
