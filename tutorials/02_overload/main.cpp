// Overload: many look-alike tokens share what one should have. First with a formula, then in a text
// that says where the right token stands, then through the depth of a model.

#include <algorithm>
#include <array>

#include "reference/cpu_backend.hpp"
#include "reference/diagnostics.hpp"
#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "reference/rope.hpp"
#include "reference/tales.hpp"
#include "reference/transformer.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

using Row = std::vector<double>;

// The last row of n keys: a query of 1 and D = 1 make the keys the scores.
Row weights_of(Normalizer rule, const Row& scores, double tau) {
  const Index n = Index(scores.size());
  const double q = 1;
  Row weights(n);
  oracle::attention_weights<double>({.queries = 1, .keys = n}, {rule},
                                    {.q = &q, .k = scores.data(), .v = scores.data(), .tau = &tau},
                                    0, 0, 0, 1, weights.data());
  return weights;
}

double effective_keys(const Row& weights) {
  const std::array<Index, 1> visible{Index(weights.size())};
  return summarize(head_statistics<double>({weights, visible, visible[0]})).effective_keys;
}

void one_needle() {
  std::printf("one key scores 4, all others 0\n");
  std::printf("keys        softmax: weight   effective keys     tau -1: weight   effective keys\n");
  double last = 0;
  for (const std::size_t n : {4, 16, 64, 256, 1024}) {
    Row scores(n, 0.0);
    scores.back() = 4;
    const Row p = weights_of(Normalizer::softmax, scores, 0);
    const Row a = weights_of(Normalizer::elastic, scores, -1);
    std::printf("%-6zu%21s%17s%19s%17s\n", n, fixed(p.back()).c_str(),
                fixed(effective_keys(p), 1).c_str(), fixed(a.back()).c_str(),
                fixed(effective_keys(a), 1).c_str());
    if (n > 4 && effective_keys(a) != 1) holds(false, "only the needle lives");
    last = p.back();
  }
  holds(last < 0.06, "among 1024 keys the needle has lost 94 % of its softmax weight");
  const Row same = weights_of(Normalizer::elastic, Row(64, 0.0), -0.9);
  std::printf("64 identical keys at tau -0.9: effective keys %s, mass %s\n",
              fixed(effective_keys(same), 1).c_str(), fixed(64 * same[0]).c_str());
}

constexpr Index T = 512, D = 64, slow_pairs = 16;

/// How a head may know positions. The bias of the last is chosen, not learned: facts stand further
/// back than 32 bytes, so nearer keys are discouraged.
struct Head {
  std::string name;
  bool rope;
  Row bias;  // [T]
};

std::vector<Head> kinds_of_heads() {
  const Row none(T, 0.0);
  Row learned(T);
  std::fill_n(learned.begin(), 32, -2.0);
  return {
      {"NoPE", false, none},
      {"RoPE", true, none},
      {"ALiBi", false, alibi_bias<double>(8, T)},  // [8, T]; its row of the smallest slope is used
      {"RoPE + bias", true, learned}};
}

/// A text as the head that copies would see it: the query of row i holds what stands before the
/// byte to be predicted, the key of j holds what stood before byte j. Both are sums of random codes
/// of the last four bytes, so that a score counts how many agree. The codes use the dimensions that
/// RoPE turns slowly: a trained head puts there what must not depend on distance.
struct Text {
  Row q, k, v;  // [T, D]
  std::vector<std::int32_t> antecedent;
};

Text make_text(const Tales& tales, std::size_t first) {
  Random random(9);
  std::vector<std::array<double, D>> codes(4 * 256);
  for (auto& code : codes)
    for (Index m = D / 2 - slow_pairs; m < D / 2; ++m)
      for (const Index d : {m, m + D / 2})
        code[d] = random.normal() * std::sqrt(double(D) / (2 * slow_pairs)) / 2;
  Text text{Row(T * D), Row(T * D), Row(T * D), std::vector<std::int32_t>(T, -1)};
  for (Index i = 0; i < T; ++i)
    for (Index back = 0; back < 4; ++back) {
      const auto byte = [&](std::size_t at) { return std::size_t(std::uint8_t(tales.text[at])); };
      const auto& query = codes[back * 256 + byte(first + i - back)];
      const auto& key = codes[back * 256 + byte(first + i - back - 1)];
      for (Index d = 0; d < D; ++d) {
        text.q[i * D + d] += query[d] * 1.2;
        text.k[i * D + d] += key[d] * 1.2;
      }
    }
  for (Index i = 0; i + 1 < T; ++i) {
    const std::int32_t from = tales.antecedent[first + i + 1];
    if (from >= std::int32_t(first)) text.antecedent[i] = from - std::int32_t(first);
  }
  return text;
}

struct Measured {
  double on_antecedent = 0, share = 0, effective = 0, mass = 0;
};

Measured measure(const Head& head, Normalizer rule, const Tales& tales) {
  const RopeTable<double> table = make_rope_table<double>(T, D, 10000);
  const double tau = -1;
  Measured sum;
  double rows = 0;
  Text text = make_text(tales, 1000);
  if (head.rope) {
    rope_forward(text.q.data(), table, T, 1, 0);
    rope_forward(text.k.data(), table, T, 1, 0);
  }
  Row weights(T * T);
  oracle::attention_weights<double>({.queries = T, .keys = T, .head_dim = D, .window = T}, {rule},
                                    {.q = text.q.data(),
                                     .k = text.k.data(),
                                     .v = text.v.data(),
                                     .bias = &head.bias[head.bias.size() - T],
                                     .tau = &tau},
                                    0, 0, 0, T, weights.data());
  for (Index i = 64; i < T; ++i) {
    if (text.antecedent[i] < 0) continue;
    const Row row(&weights[i * T], &weights[i * T] + i + 1);
    double mass = 0;
    for (const double a : row) mass += a;
    sum.on_antecedent += row[text.antecedent[i]];
    sum.share += mass > 0 ? row[text.antecedent[i]] / mass : 0;
    sum.effective += mass > 0 ? effective_keys(row) : 0;
    sum.mass += mass;
    ++rows;
  }
  return {sum.on_antecedent / rows, sum.share / rows, sum.effective / rows, sum.mass / rows};
}

void in_a_text() {
  const Tales tales = make_tales(1, 4000);
  std::string line = tales.text.substr(1000, 70);
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::printf("\na tale: %s...\n", line.c_str());
  std::printf(
      "rows that recall a fact, on average      weight on it   its share   effective keys    "
      "mass\n");
  for (const Head& head : kinds_of_heads()) {
    double effective = 0, share = 0;
    for (const Normalizer rule : {Normalizer::softmax, Normalizer::elastic}) {
      const Measured x = measure(head, rule, tales);
      std::printf("%-12s%-12s%29s%12s%17s%8s\n", head.name.c_str(),
                  rule == Normalizer::softmax ? "softmax" : "tau -1",
                  fixed(x.on_antecedent).c_str(), fixed(x.share).c_str(),
                  fixed(x.effective, 1).c_str(), fixed(x.mass).c_str());
      if (rule == Normalizer::softmax)
        effective = x.effective, share = x.share;
      else if (!(x.effective < effective && x.share > share))
        holds(false, head.name + ": tau = -1 concentrates what is left");
    }
  }
  holds(true,
        "with every kind of position tau = -1 leaves fewer keys, and the fact a larger share");
}

void through_depth(int argc, char** argv) {
  constexpr Index layers = 12;
  std::vector<Series> lines;
  const Tales tales = make_tales(2, 256);
  const std::vector<int> tokens(tales.text.begin(), tales.text.end());
  std::printf(
      "\nmean cosine between the states of different tokens, untrained model\nafter layer ");
  for (Index layer = 0; layer <= layers; layer += 2) std::printf("%8lld", (long long)layer);
  std::printf("\n");
  struct Kind {
    std::string name;
    Position position;
    Normalizer rule;
  };
  for (const Kind& kind : {Kind{"NoPE", Position::none, Normalizer::softmax},
                           Kind{"RoPE", Position::rope, Normalizer::softmax},
                           Kind{"ALiBi", Position::alibi, Normalizer::softmax},
                           Kind{"RoPE + bias", Position::rope_bias, Normalizer::softmax},
                           Kind{"Lazy", Position::rope_bias, Normalizer::elastic}}) {
    TransformerConfig config;
    config.layers = layers;
    config.position = kind.position;
    config.rule.normalizer = kind.rule;
    Transformer<CpuBackend, double> model(config, 1);
    model.forward(tokens.data(), 1, Index(tokens.size()));
    Series line{.name = kind.name};
    Row shown;
    for (Index layer = 0; layer <= layers; ++layer) {
      const std::vector<double> states = model.hidden_states(layer);
      line.x.push_back(double(layer));
      line.y.push_back(collapse<double>(states, Index(tokens.size()), config.channels).mean_cosine);
      if (layer % 2 == 0) shown.push_back(line.y.back());
    }
    std::string text = kind.name + std::string(12 - kind.name.size(), ' ');
    for (const double y : shown) text += right(fixed(y), 8);
    std::printf("%s\n", text.c_str());
    lines.push_back(line);
  }
  holds(lines[0].y.back() > 2 * lines[0].y.front(),
        "without positions tokens become more alike with depth");
  holds(lines[4].y.back() < lines[3].y.back(), "less so where a vague row keeps little mass");
  write_picture(argc, argv, "depth.svg",
                line_chart({.title = "How alike tokens are, layer by layer (untrained)",
                            .x_label = "layer",
                            .y_label = "mean cosine",
                            .include_zero = true,
                            .width = 520},
                           lines));
}

void needle_chart(int argc, char** argv) {
  std::vector<Series> lines;
  for (const auto& [name, rule] :
       {std::pair{"softmax", Normalizer::softmax}, {"tau -1", Normalizer::elastic}}) {
    Series line{.name = name};
    for (std::size_t n = 2; n <= 4096; n *= 2) {
      Row scores(n, 0.0);
      scores.back() = 4;
      line.x.push_back(double(n));
      line.y.push_back(effective_keys(weights_of(rule, scores, -1)));
    }
    lines.push_back(line);
  }
  write_picture(argc, argv, "needle.svg",
                line_chart({.title = "One key scores 4, all others 0: who is being looked at?",
                            .x_label = "keys",
                            .y_label = "effective keys",
                            .log_x = true,
                            .log_y = true,
                            .width = 520},
                           lines));
}

}  // namespace

int main(int argc, char** argv) {
  one_needle();
  in_a_text();
  through_depth(argc, argv);
  needle_chart(argc, argv);
}
