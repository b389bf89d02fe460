// Attention by hand: five words, one head of two dimensions, loops and nothing else. At the end the
// library computes the same.

#include <algorithm>
#include <array>

#include "reference/oracle.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

constexpr Index T = 5, D = 2;
using Rows = std::array<std::array<double, D>, T>;    // [T, D]
using Square = std::array<std::array<double, T>, T>;  // [T, T]
const std::vector<std::string> words{"the", "old", "fox", "saw", "it"};

// The first dimension says "noun", the second "adjective". What a word is ...
constexpr Rows K{{{0, 0}, {0, 2}, {2, 0}, {0, 0}, {1, 0}}};
// ... what it looks for: "fox" for an adjective, "saw" and "it" for a noun ...
constexpr Rows Q{{{0, 0}, {0, 0}, {0, 2}, {2, 0}, {3, 0}}};
// ... and what it hands over.
constexpr Rows V{{{0, 0}, {0, 1}, {1, 0}, {0, 0}, {0.5, 0}}};

struct Attention {
  Square S{}, P{};
  Rows O{};
  std::array<double, T> lse{};
};

Attention by_hand() {
  Attention x;
  for (Index i = 0; i < T; ++i) {
    for (Index j = 0; j <= i; ++j) {
      for (Index d = 0; d < D; ++d) x.S[i][j] += Q[i][d] * K[j][d];
      x.S[i][j] /= std::sqrt(double(D));
    }
    const double m = *std::max_element(&x.S[i][0], &x.S[i][0] + i + 1);
    double sum = 0;
    for (Index j = 0; j <= i; ++j) sum += std::exp(x.S[i][j] - m);
    x.lse[i] = m + std::log(sum);
    for (Index j = 0; j <= i; ++j) x.P[i][j] = std::exp(x.S[i][j] - x.lse[i]);
    for (Index j = 0; j <= i; ++j)
      for (Index d = 0; d < D; ++d) x.O[i][d] += x.P[i][j] * V[j][d];
  }
  return x;
}

void print_words(const std::string& name) {
  std::string line = name + std::string(10 - name.size(), ' ');
  for (const std::string& word : words) line += right(word, 8);
  std::printf("%s\n", line.c_str());
}

std::string three(double x) {
  return fixed(x);
}

}  // namespace

int main(int argc, char** argv) {
  const Attention x = by_hand();

  print_words("scores S");
  for (Index i = 0; i < T; ++i) print_row(words[i], {&x.S[i][0], std::size_t(i + 1)}, three);
  std::printf("\n");
  print_words("weights P");
  for (Index i = 0; i < T; ++i) print_row(words[i], {&x.P[i][0], std::size_t(i + 1)}, three);
  std::printf("\noutput O    noun    adj.\n");
  for (Index i = 0; i < T; ++i) print_row(words[i], x.O[i], three);

  std::printf("\n");
  for (Index i = 0; i < T; ++i) {
    double sum = 0;
    for (Index j = 0; j <= i; ++j) sum += x.P[i][j];
    if (!(std::abs(sum - 1) < 1e-12)) holds(false, "row " + words[i] + " sums to 1");
  }
  holds(true, "every row of weights sums to 1");
  holds(x.P[2][1] > x.P[2][0] && x.P[3][2] > x.P[3][1], "fox looks at old, saw looks at fox");

  // One head, one sequence, no bias: [B, T, H, D] is [T, D].
  const AttentionShape shape{.queries = T, .keys = T, .head_dim = D};
  const AttentionInputs<double> in{.q = &Q[0][0], .k = &K[0][0], .v = &V[0][0]};
  Rows out;
  std::array<double, T> lse;
  oracle::attention_forward(shape, {Normalizer::softmax}, in, {&out[0][0], lse.data()});
  double difference = 0;
  for (Index i = 0; i < T; ++i) {
    difference = std::max(difference, std::abs(lse[i] - x.lse[i]));
    for (Index d = 0; d < D; ++d)
      difference = std::max(difference, std::abs(out[i][d] - x.O[i][d]));
  }
  holds(difference < 1e-12, "the library computes the same O and lse");

  const double naive = std::exp(1000.0) / (std::exp(1000.0) + std::exp(1000.0));
  std::printf("\ntwo scores of 1000\n");
  std::printf("exp(1000) / sum       %s\n", std::isnan(naive) ? "not a number" : "a number");
  std::printf("exp(1000 - lse)       %s\n", fixed(std::exp(1000 - (1000 + std::log(2.0)))).c_str());

  std::vector<double> cells;
  for (const auto& row : x.P) cells.insert(cells.end(), row.begin(), row.end());
  write_picture(argc, argv, "weights.svg",
                heat_map({.title = "Who looks at whom: weights P",
                          .x_label = "key j",
                          .y_label = "query i",
                          .row_labels = words,
                          .column_labels = words,
                          .causal = true,
                          .square_cells = true,
                          .show_values = true,
                          .width = 400},
                         T, T, cells));
}
