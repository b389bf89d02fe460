// Softmax, softmax with a learned sink, and Lazy Attention, trained alike on one text, and what
// their heads do. Figures of trained models differ from machine to machine: they go to stderr, and
// what they have to satisfy is checked.

#include <algorithm>
#include <string>

#include "apps/log_series.hpp"
#include "apps/run.hpp"
#include "reference/ngram.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

struct Contender {
  const char* name;
  Normalizer normalizer;
  Position position;
};

constexpr Contender contenders[] = {{"softmax", Normalizer::softmax, Position::rope},
                                    {"softmax + sink", Normalizer::sink, Position::rope},
                                    {"lazy", Normalizer::elastic, Position::rope_bias}};

TransformerConfig small_config() {
  TransformerConfig c;
  c.layers = 4, c.channels = 64, c.heads = c.kv_heads = 4, c.inner = 176;
  c.context = c.window = 128;
  return c;
}

struct Trained {
  std::vector<LogEntry> log;
  Evaluation before, after;
  std::vector<float> parameters;
  std::vector<ParameterSpec> table;
};

Trained train(const Contender& contender, const TrainingData& data, Index steps) {
  TransformerConfig model = small_config();
  model.rule.normalizer = contender.normalizer;
  model.position = contender.position;
  TrainingConfig training;
  training.learning_rate = 3e-3;
  training.warmup = 20, training.schedule_steps = training.evaluate_every = steps;
  Run run("tutorial", model, training, 1, data);
  Trained t;
  t.log.push_back(run.start());
  while (run.steps_done() < steps) t.log.push_back(run.step());
  t.before = *t.log.front().evaluation, t.after = *t.log.back().evaluation;
  t.parameters.assign(run.model().parameters().begin(), run.model().parameters().end());
  t.table = run.model().table();
  return t;
}

// A tensor of every layer, one after the other.
std::vector<double> of_all_layers(const Trained& t, const std::string& ending) {
  std::vector<double> all;
  for (const ParameterSpec& p : t.table)
    if (p.name.size() > ending.size() &&
        p.name.compare(p.name.size() - ending.size(), ending.size(), ending) == 0)
      all.insert(all.end(), &t.parameters[p.offset], &t.parameters[p.offset] + p.size);
  return all;
}

// Mean share of the first key in rows 2 .. T if every row were uniform.
double uniform_sink_ratio(Index T) {
  double sum = 0;
  for (Index i = 2; i <= T; ++i) sum += 1 / double(i);
  return sum / double(T - 1);
}

void draw(int argc, char** argv, const Trained (&trained)[3], const NgramLosses& ngrams) {
  const TransformerConfig c = small_config();
  std::vector<Series> losses;
  for (int i = 0; i < 3; ++i)
    losses.push_back(training_series(contenders[i].name, trained[i].log,
                                     [](const LogEntry& e) { return e.loss; }));
  write_picture(argc, argv, "loss.svg",
                line_chart({.title = "Training loss on the tales",
                            .x_label = "step",
                            .y_label = "nats a byte",
                            .log_y = true,
                            .marks = {{"1 byte of context", ngrams[1]}, {"2 bytes", ngrams[2]}}},
                           losses));

  std::vector<std::string> layers, heads;
  for (Index l = 1; l <= c.layers; ++l) layers.push_back("layer " + std::to_string(l));
  for (Index h = 1; h <= c.heads; ++h) heads.push_back("head " + std::to_string(h));
  write_picture(
      argc, argv, "tau.svg",
      heat_map({.title = "tau after training; it started at -1",
                .row_labels = layers,
                .column_labels = heads,
                .scale = ColorScale::diverging,
                .show_values = true,
                .width = 420},
               std::size_t(c.layers), std::size_t(c.heads), of_all_layers(trained[2], "tau")));

  const std::vector<double> bias = of_all_layers(trained[2], "distance_bias");
  std::vector<Series> curves;
  for (Index l = 0; l < c.layers; ++l)
    for (Index h = 0; h < c.heads; ++h) {
      Series s{.name = layers[l], .color = std::size_t(l), .thin = h > 0};
      for (Index d = 0; d < c.window; ++d) {
        s.x.push_back(double(d + 1));
        s.y.push_back(bias[(l * c.heads + h) * c.window + d]);
      }
      curves.push_back(s);
    }
  write_picture(argc, argv, "bias.svg",
                line_chart({.title = "The learned bias b[d], a line a head",
                            .x_label = "distance d, plus 1",
                            .y_label = "b[d]",
                            .log_x = true,
                            .names = SeriesNames::in_legend},
                           curves));
}

}  // namespace

int main(int argc, char** argv) {
  const Index steps = argc > 2 ? std::atoll(argv[2]) : 400;
  if (steps < 1) {
    std::fprintf(stderr, "%s is no number of steps; leave it away for 400\n", argv[2]);
    return 2;
  }
  const TrainingData data = load_tales();
  const NgramLosses ngrams = ngram_losses(data.text, data.split);
  std::printf(
      "Guessing costs log 256 = %s nats a byte; with 0, 1 and 2 bytes of context %s, %s, %s\n\n",
      fixed(std::log(256.)).c_str(), fixed(ngrams[0]).c_str(), fixed(ngrams[1]).c_str(),
      fixed(ngrams[2]).c_str());

  Trained trained[3];
  std::fprintf(
      stderr,
      "%td steps each       loss   sink ratio   mass before, after   sparsity before, after\n",
      steps);
  for (int i = 0; i < 3; ++i) {
    const Trained& t = trained[i] = train(contenders[i], data, steps);
    std::fprintf(stderr, "  %-15s %8.3f %12.4f %14.3f %6.3f %16.3f %6.3f\n", contenders[i].name,
                 t.after.validation_loss, t.after.attention.sink_ratio, t.before.attention.mass,
                 t.after.attention.mass, t.before.attention.sparsity(),
                 t.after.attention.sparsity());
  }
  const auto& [softmax, sink, lazy] = trained;
  const std::vector<double> tau = of_all_layers(lazy, "tau");
  std::fprintf(stderr, "  tau of lazy, mean a layer:");
  for (std::size_t l = 0; l < 4; ++l)
    std::fprintf(stderr, " %.3f",
                 (tau[4 * l] + tau[4 * l + 1] + tau[4 * l + 2] + tau[4 * l + 3]) / 4);
  std::fprintf(stderr, "\n  one key of a uniform row, on average: %.4f\n",
               uniform_sink_ratio(small_config().context));

  for (int i = 0; i < 3; ++i)
    holds(trained[i].after.validation_loss < ngrams[2],
          std::string(contenders[i].name) + " ends below two bytes of context");
  std::puts("");
  const AttentionSummary &s = softmax.after.attention, &k = sink.after.attention;
  holds(std::abs(s.mass - 1) < 1e-3 && s.sparsity() == 0,
        "softmax spends 1 in every row, on every key");
  holds(k.mass < 0.995 && k.sparsity() == 0,
        "a learned sink takes a little, and leaves no key without");
  holds(s.sink_ratio < 3 * uniform_sink_ratio(small_config().context),
        "a minute of text grows no sink in softmax");
  std::puts("");
  const AttentionSummary &before = lazy.before.attention, &after = lazy.after.attention;
  holds(before.sparsity() > 0.4 && before.sparsity() < 0.7, "untrained, lazy is about half sparse");
  holds(after.sparsity() > before.sparsity() + 0.05, "training makes it sparser");
  holds(before.mass < 0.1 && after.mass > before.mass + 0.05, "and lets more mass survive");
  holds(after.mass < 1, "less than softmax spends");
  holds(std::any_of(tau.begin(), tau.end(), [](double t) { return std::abs(t + 1) > 0.02; }),
        "tau has moved");
  draw(argc, argv, trained, ngrams);
}
