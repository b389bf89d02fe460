// Underload: a row with nothing to attend to must still spend 1. By construction first, then a head
// that is trained on a task in which it has work on few rows.
//
// Trained figures differ from machine to machine: they go to stderr, and what is claimed about them
// is checked.

#include <algorithm>

#include "apps/run.hpp"
#include "reference/oracle.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

using Row = std::vector<double>;

// Weights and output of the last row of n keys, D = 1: a query of 1 makes the keys the scores.
struct Answer {
  Row weights;
  double mass = 0, out = 0;
};

Answer attend(Normalizer rule, const Row& scores, const Row& values, double tau = -1) {
  const Index n = Index(scores.size());
  const double q = 1;
  const AttentionShape shape{.queries = 1, .keys = n};
  const AttentionInputs<double> in{.q = &q, .k = scores.data(), .v = values.data(), .tau = &tau};
  Answer answer{.weights = Row(n)};
  oracle::attention_weights(shape, {rule}, in, 0, 0, 0, 1, answer.weights.data());
  for (Index j = 0; j < n; ++j) {
    answer.mass += answer.weights[j];
    answer.out += answer.weights[j] * values[j];
  }
  return answer;
}

void show(const std::string& what, const Answer& x) {
  std::string line = what + std::string(10 - what.size(), ' ');
  for (const double a : x.weights) line += right(weight(a), 7);
  std::printf("%s   mass %s  output %s\n", line.c_str(), fixed(x.mass).c_str(),
              fixed(x.out).c_str());
}

void by_construction() {
  const Row values{2.0, 1.5, -0.5, 1.0, 2.5, -1.0, 0.5, 1.2};
  const Row vague{0.02, -0.01, 0.0, 0.01, -0.02, 0.01, 0.0, -0.01};
  Row hopeless = vague, sink = vague, drained = values, cancelling = values;
  for (double& s : hopeless) s -= 100;
  sink[0] = 6;
  drained[0] = 0;
  double mean = 0;
  for (const double v : values) mean += v / 8;
  for (double& v : cancelling) v -= mean;

  std::printf("a row that prefers nothing\n");
  show("softmax", attend(Normalizer::softmax, vague, values));
  show("all -100", attend(Normalizer::softmax, hopeless, values));
  show("sink", attend(Normalizer::softmax, sink, drained));
  show("cancel", attend(Normalizer::softmax, vague, cancelling));
  show("tau -1.1", attend(Normalizer::elastic, vague, values, -1.1));
  holds(attend(Normalizer::elastic, vague, values, -1.1).out == 0,
        "Elastic-Softmax says exactly 0");
  std::printf("\na row that wants the last key\n");
  Row sharp = vague;
  sharp[7] = 6;
  show("softmax", attend(Normalizer::softmax, sharp, values));
  show("tau -1.1", attend(Normalizer::elastic, sharp, values, -1.1));
}

Batch sample() {
  Random random(3);
  return Backcopy().batch(random, 1, 64);
}

void the_task() {
  const Backcopy task;
  const Batch batch = sample();
  std::string marks;
  for (const char active : Backcopy::active(batch)) marks += active ? '*' : '.';
  std::printf("\nbackcopy: after e, t or a comes a copy of the symbol before it\n%s\n%s\n",
              Backcopy::show(batch.tokens).c_str(), marks.c_str());
  std::printf(
      "share of active rows in the long run %s, entropy of the next symbol elsewhere %s nats\n\n",
      fixed(task.active_share()).c_str(), fixed(task.dormant_entropy()).c_str());
}

struct Trained {
  std::string name;
  BackcopyEvaluation untrained, last;
  Series start, value, dormant, active;  // over the steps
  std::vector<double> weights;           // [T, T] on the sample
};

Trained train(Normalizer rule, std::uint64_t seed, Index steps, const TrainingData& data) {
  Preset preset = find_preset("backcopy");
  preset.model.vocabulary = data.vocabulary();
  preset.model.rule.normalizer = rule;
  preset.model.position = rule == Normalizer::elastic ? Position::rope_bias : Position::rope;
  preset.training.evaluate_every = 50;
  Run run("backcopy", preset.model, preset.training, seed, data);

  const bool is_lazy = rule == Normalizer::elastic;
  Trained x{.name = (is_lazy ? "lazy, seed " : "softmax, seed ") + std::to_string(seed),
            .untrained = {},
            .last = {},
            .start = {},
            .value = {},
            .dormant = {},
            .active = {},
            .weights = {}};
  const auto add = [&](Series& series, Index step, double y) {
    series.name = x.name;
    series.color = is_lazy ? 0 : seed;
    series.x.push_back(double(step));
    series.y.push_back(y);
  };
  for (LogEntry entry = run.start();; entry = run.step()) {
    if (entry.evaluation) {
      const BackcopyEvaluation& b = x.last = *entry.evaluation->backcopy;
      if (entry.step == 0) x.untrained = b;
      add(x.start, entry.step, b.dormant_start);
      add(x.value, entry.step, b.start_value);
      add(x.dormant, entry.step, b.dormant_mass);
      add(x.active, entry.step, b.active_mass);
      if (entry.step % 200 == 0 || entry.step == steps)
        std::fprintf(stderr, "%-16s%5lld%9.3f%9.3f%9.3f%9.3f%9.3f%9.3f%9.3f\n", x.name.c_str(),
                     (long long)entry.step, b.dormant_start, b.active_start, b.start_value,
                     b.dormant_mass, b.active_mass, b.dormant_output, b.copy_loss);
    }
    if (entry.step == steps) break;
  }
  const Batch batch = sample();
  run.model().forward(batch.tokens.data(), 1, batch.length);
  for (const float w : run.model().attention_weights(0, 0, 0, 0, batch.length))
    x.weights.push_back(w);
  return x;
}

std::string map_of(const Trained& x) {
  constexpr std::size_t shown = 32;
  const Batch batch = sample();
  const std::vector<char> active = Backcopy::active(batch);
  std::vector<std::string> rows, columns;
  std::vector<double> cells;
  for (std::size_t i = 0; i < shown; ++i) {
    columns.push_back(Backcopy::show({batch.tokens[i]}));
    rows.push_back(columns.back() + (active[i] ? " *" : "  "));
    for (std::size_t j = 0; j < shown; ++j)
      cells.push_back(x.weights[i * std::size_t(batch.length) + j]);
  }
  return heat_map({.title = x.name + ": weights; * active row",
                   .row_labels = rows,
                   .column_labels = columns,
                   .causal = true,
                   .square_cells = true,
                   .width = 470},
                  shown, shown, cells);
}

void two_heads(Index steps, int argc, char** argv) {
  std::fprintf(stderr, "%21s%9s%9s%9s%9s%9s%9s%9s\n%21s%9s%9s%9s%9s%9s%9s%9s\n", "", "start",
               "start", "start's", "mass", "mass", "output", "copy", "step", "dormant", "active",
               "value", "dormant", "active", "dormant", "loss");
  const TrainingData data = load_backcopy();
  std::vector<Trained> softmax;
  for (const std::uint64_t seed : {2, 4, 6})
    softmax.push_back(train(Normalizer::softmax, seed, steps, data));
  const Trained lazy_head = train(Normalizer::elastic, 2, steps, data);

  const auto by_start = [](const Trained& a, const Trained& b) {
    return a.last.dormant_start < b.last.dormant_start;
  };
  const Trained& sink = *std::max_element(softmax.begin(), softmax.end(), by_start);
  const auto all = [&](auto is_true) {
    return std::all_of(softmax.begin(), softmax.end(), is_true);
  };
  holds(all([](const Trained& x) { return x.last.copy_loss < 0.3; }) &&
            lazy_head.last.copy_loss < 0.3,
        "all heads have learned to copy");
  holds(all([](const Trained& x) { return std::abs(x.last.dormant_mass - 1) < 1e-3; }),
        "softmax spends its whole mass on dormant rows too");
  holds(all([](const Trained& x) { return x.last.dormant_output < 0.6; }),
        "and still says little there: the output is shorter than on active rows, in every seed");
  holds(sink.last.dormant_start > 3 * sink.untrained.dormant_start && sink.last.active_start < 0.1,
        "a sink: the start token's share of dormant rows has tripled, active rows leave it alone");
  holds(sink.last.start_value < 0.8, "value drain: the start token's value has become short");
  holds(lazy_head.last.dormant_mass < 0.1 && lazy_head.last.active_mass > 0.3,
        "Lazy keeps less than 0.1 of its mass on dormant rows, more than 0.3 on active ones");
  holds(lazy_head.last.dormant_start < 0.05, "and has no sink");

  std::vector<Series> start, value, mass;
  for (const Trained& x : softmax) start.push_back(x.start), value.push_back(x.value);
  start.push_back(lazy_head.start);
  mass = {lazy_head.active, lazy_head.dormant};
  mass[0].name = "lazy, active rows";
  mass[1].name = "lazy, dormant rows";
  mass[1].color = 1;
  const auto chart = [](const std::string& title, const std::vector<Series>& lines) {
    return line_chart({.title = title, .x_label = "step", .include_zero = true, .width = 520},
                      lines);
  };
  write_picture(argc, argv, "sink.svg", chart("Weight on the start token, dormant rows", start));
  write_picture(argc, argv, "drain.svg",
                chart("Length of the start token's value over the others'", value));
  write_picture(argc, argv, "mass.svg", chart("Surviving mass", mass));
  write_picture(argc, argv, "softmax.svg", map_of(sink));
  write_picture(argc, argv, "lazy.svg", map_of(lazy_head));
}

}  // namespace

int main(int argc, char** argv) {
  by_construction();
  the_task();
  two_heads(argc > 2 ? std::atoll(argv[2]) : 300, argc, argv);
}
