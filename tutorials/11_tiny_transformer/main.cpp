// A whole Transformer, small enough to check every tensor of: what it learns, whether its gradient
// is right, and two sentences learned by heart.

#include <omp.h>

#include <algorithm>

#include "reference/cpu_backend.hpp"
#include "reference/random.hpp"
#include "reference/transformer.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

template <class T>
using Model = Transformer<CpuBackend, T>;

const std::string sentences[] = {"lazy attention may look away.", "a head says nothing for free."};

TransformerConfig tiny_config() {
  TransformerConfig c;  // elastic, RoPE and distance bias: Lazy Attention
  c.vocabulary = 128, c.layers = 2, c.channels = 32, c.heads = c.kv_heads = 2, c.inner = 64;
  c.context = c.window = Index(sentences[0].size()) - 1;
  return c;
}

// Every character is to be followed by the next one.
Batch sentences_by_heart() {
  const Index T = tiny_config().context;
  Batch batch{Index(std::size(sentences)), T, {}, {}};
  for (const std::string& s : sentences)
    for (Index t = 0; t < T; ++t) batch.tokens.push_back(s[t]), batch.targets.push_back(s[t + 1]);
  return batch;
}

std::string short_name(const std::string& name) {
  return name.substr(name.find('.') == std::string::npos ? 0 : name.find('.') + 1);
}

bool has(const std::string& name, const std::string& part) {
  return name.find(part) != std::string::npos;
}

// ---- Is the gradient right?

template <class T>
std::vector<bool> live_entries(const Model<T>& model) {
  std::vector<bool> live;
  const AttentionShape s = model.attention_shape();
  for (Index l = 0; l < model.config().layers; ++l)
    for (Index b = 0; b < s.batch; ++b)
      for (Index h = 0; h < s.heads; ++h)
        for (const T a : model.attention_weights(l, b, h, 0, s.queries)) live.push_back(a != 0);
  return live;
}

double norm(const double* x, Index size) {
  return std::sqrt(lazy::squared_norm(x, size));
}

// One row a tensor: the loss's slope along a random direction in it, as backward says and as
// measured. All in double: a step of 1e-5 leaves ten digits of a difference of losses.
bool check_gradient(const Batch& batch) {
  Model<double> model(tiny_config(), 1);
  // Sharper scores, so that there are dead entries to get wrong, and no row on the kink: at
  // tau = -1 the first row is P + tau / n = 1 - 1.
  for (const ParameterSpec& p : model.table())
    for (Index i = p.offset; i < p.offset + p.size; ++i) {
      if (has(p.name, "q_proj") || has(p.name, "k_proj")) model.parameters()[i] *= 15;
      if (has(p.name, "tau")) model.parameters()[i] = i % 2 ? -0.9 : -0.6;
    }
  model.loss(batch);
  model.backward(batch);
  const std::vector<double> gradient(model.gradients().begin(), model.gradients().end());
  const std::vector<bool> live = live_entries(model);
  const Index T = batch.length, visible = 2 * 2 * 2 * T * (T + 1) / 2;
  std::printf("%td of %td visible entries are dead\n\n",
              visible - std::count(live.begin(), live.end(), true), visible);
  std::puts(
      "  tensor                                    numbers  |gradient| slope: backward     "
      "measured");

  bool right = true, same_live = true;
  Random random(11);
  for (const ParameterSpec& p : model.table()) {
    std::vector<double> direction(p.size);
    for (double& x : direction) x = random.uniform() - 0.5;
    const double length = norm(direction.data(), p.size);
    const auto loss_at = [&](double step) {
      double* x = model.parameters().data() + p.offset;
      for (Index i = 0; i < p.size; ++i) x[i] += step * direction[i] / length;
      const double loss = model.loss(batch);
      same_live = same_live && live_entries(model) == live;
      for (Index i = 0; i < p.size; ++i) x[i] -= step * direction[i] / length;
      return loss;
    };
    const double step = 1e-5, measured = (loss_at(step) - loss_at(-step)) / (2 * step);
    double slope = 0;
    for (Index i = 0; i < p.size; ++i) slope += gradient[p.offset + i] * direction[i] / length;
    const double size = norm(&gradient[p.offset], p.size);
    right = right && std::abs(slope - measured) <= 1e-6 * size;
    std::printf("  %-42s %6td %11.5f %15.5f %12.5f\n", short_name(p.name).c_str(), p.size, size,
                slope, measured);
  }
  std::puts("");
  holds(same_live, "no step crosses a kink");
  return right;
}

// ---- One batch by heart.

struct Training {
  std::vector<double> step, loss;
};

Training overfit(Model<float>& model, const Batch& batch, Index steps) {
  const Index size = Index(model.parameters().size());
  std::vector<float> m(size, 0), v(size, 0);
  Training log;
  for (Index t = 1; t <= steps; ++t) {
    std::fill(model.gradients().begin(), model.gradients().end(), 0.f);
    log.step.push_back(double(t));
    log.loss.push_back(model.loss(batch));
    model.backward(batch);
    adamw_step(model.parameters().data(), m.data(), v.data(), model.gradients().data(), size,
               AdamW{.learning_rate = 5e-3 * double(steps - t) / double(steps)}, t);
  }
  return log;
}

// What the model makes of a first character, always taking the likeliest next one.
std::string recite(Model<float>& model, char first, std::size_t length) {
  auto cache = model.make_cache(Index(length));
  std::string text(1, first);
  while (text.size() < length) {
    const int last[] = {text.back()};
    const std::vector<float> logits = model.decode(last, cache);
    text += char(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  omp_set_num_threads(1);  // too small to be shared
  const Batch batch = sentences_by_heart();
  Model<float> model(tiny_config(), 1);
  std::printf("%td parameters. ", parameter_count(model.table()));
  const double untrained = model.loss(batch), guessing = std::log(128.);
  std::printf("Guessing among 128 characters costs log 128 = %s nats.\n", fixed(guessing).c_str());
  holds(std::abs(untrained - guessing) < 0.1, "the untrained model guesses");

  std::puts("\nThe gradient, tensor by tensor:\n");
  holds(check_gradient(batch), "every slope is the measured one, to a millionth of the gradient");

  std::puts("\nOne batch, 400 steps:\n");
  const Training log = overfit(model, batch, 400);
  bool by_heart = true;
  for (const std::string& s : sentences) {
    const std::string recited = recite(model, s[0], s.size());
    std::printf("  %c ... %s\n", s[0], recited.c_str());
    by_heart = by_heart && recited == s;
  }
  std::puts("");
  holds(model.loss(batch) < 0.01, "the loss falls below 0.01");
  holds(by_heart, "the model recites both sentences from their first character");

  write_picture(argc, argv, "loss.svg",
                line_chart({.title = "One batch learned by heart",
                            .x_label = "step",
                            .y_label = "loss, nats a character",
                            .log_y = true,
                            .marks = {{"guessing", guessing}}},
                           {{"loss", log.step, log.loss}}));
  const Index T = batch.length;
  model.loss(batch);
  const std::vector<float> A = model.attention_weights(1, 0, 0, 0, T);
  std::vector<std::string> letters;
  for (Index t = 0; t < T; ++t) letters.push_back(std::string(1, sentences[0][t]));
  write_picture(argc, argv, "weights.svg",
                heat_map({.title = "Weights of a head of layer 2, by heart",
                          .x_label = "key",
                          .y_label = "query",
                          .row_labels = letters,
                          .column_labels = letters,
                          .square_root = true,
                          .causal = true,
                          .square_cells = true},
                         T, T, {A.begin(), A.end()}));
}
