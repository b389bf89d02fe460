// Distance bias: a learned number for each distance and head. What it does to identical tokens, how
// its gradient is made, and how it is learned.

#include <algorithm>
#include <array>

#include "reference/oracle.hpp"
#include "reference/parameters.hpp"
#include "reference/random.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

using Row = std::vector<double>;

/// Weights [H, T] of the last row of T identical tokens: scores are the bias and nothing else.
Row last_rows(Index H, Index T, Index W, const Row& bias, Normalizer rule, double tau) {
  const Row zeros(T * H, 0.0), taus(H, tau);
  Row weights(H * T);
  for (Index h = 0; h < H; ++h)
    oracle::attention_weights<double>(
        {.queries = T, .keys = T, .heads = H, .kv_heads = H, .window = W}, {rule},
        {.q = zeros.data(),
         .k = zeros.data(),
         .v = zeros.data(),
         .bias = bias.data(),
         .tau = taus.data()},
        0, h, T - 1, 1, &weights[h * T]);
  return weights;
}

void heads_differ(int argc, char** argv) {
  constexpr Index H = 4, T = 12, W = 12;
  const std::vector<std::string> names{"self", "3 back", "near", "far"};
  Row bias(H * W, 0.0);
  for (Index d = 0; d < W; ++d) {
    bias[0 * W + d] = d == 0 ? 4 : 0;
    bias[1 * W + d] = d == 3 ? 4 : 0;
    bias[2 * W + d] = -0.5 * double(d);
    bias[3 * W + d] = 0.5 * double(d);
  }
  std::printf("twelve identical tokens, weights of the last row, oldest key first\n");
  std::vector<double> cells;
  std::vector<std::string> rows;
  for (const auto& [rule, what] :
       {std::pair{Normalizer::softmax, "softmax"}, {Normalizer::elastic, "tau -0.9"}}) {
    const Row weights = last_rows(H, T, W, bias, rule, -0.9);
    for (Index h = 0; h < H; ++h) {
      std::string line = names[h] + std::string(12 - names[h].size(), ' ') + what;
      line += std::string(22 - line.size(), ' ');
      for (Index j = 0; j < T; ++j) line += right(weight(weights[h * T + j]), 7);
      std::printf("%s\n", line.c_str());
      rows.push_back(names[h] + ", " + what);
    }
    cells.insert(cells.end(), weights.begin(), weights.end());
  }
  write_picture(argc, argv, "heads.svg",
                heat_map({.title = "Twelve identical tokens: four heads see four different things",
                          .x_label = "key, oldest first",
                          .row_labels = rows,
                          .square_root = true,
                          .width = 620},
                         2 * H, T, cells));
}

void beyond_the_window() {
  const Row weights = last_rows(1, 8, 3, {-9, -9, -9}, Normalizer::softmax, 0);
  std::printf("\nW = 3, b = -9 -9 -9, eight identical tokens\n");
  print_row("weights", weights);
  holds(weights[0] > 0.19 && weights[7] < 0.001,
        "beyond W the bias is 0, and the keys stay visible");
}

/// A small problem with softmax: T tokens, one head of dimension D, random everything.
struct Problem {
  static constexpr Index T = 6, D = 3;
  Row q, k, v, dO, bias;
  explicit Problem(Index W) : q(T * D), k(T * D), v(T * D), dO(T * D), bias(W) {
    Random random(2);
    for (Row* x : {&q, &k, &v, &dO, &bias})
      for (double& entry : *x) entry = random.normal();
  }
  AttentionShape shape() const {
    return {.queries = T, .keys = T, .head_dim = D, .window = Index(bias.size())};
  }
  AttentionInputs<double> inputs() const { return {q.data(), k.data(), v.data(), bias.data()}; }

  Row library_dbias() const {
    Row dq(T * D), dk(T * D), dv(T * D), dbias(bias.size());
    oracle::attention_backward<double>(shape(), {Normalizer::softmax}, inputs(), dO.data(),
                                       {dq.data(), dk.data(), dv.data(), dbias.data()});
    return dbias;
  }

  /// Gradient of the scores [T, T], from softmax's P and the products dO . V.
  Row dscores() const {
    Row P(T * T), dS(T * T);
    oracle::attention_weights<double>(shape(), {Normalizer::softmax}, inputs(), 0, 0, 0, T,
                                      P.data());
    for (Index i = 0; i < T; ++i) {
      Row dA(T);
      double delta = 0;
      for (Index j = 0; j <= i; ++j) {
        for (Index d = 0; d < D; ++d) dA[j] += dO[i * D + d] * v[j * D + d];
        delta += P[i * T + j] * dA[j];
      }
      for (Index j = 0; j <= i; ++j) dS[i * T + j] = P[i * T + j] * (dA[j] - delta);
    }
    return dS;
  }
};

/// The reduction: every score that b[d] was added to hands its gradient back.
Row diagonal_sums(const Row& dS, Index T, Index W) {
  Row db(W);
  for (Index i = 0; i < T; ++i)
    for (Index j = std::max<Index>(0, i - W + 1); j <= i; ++j) db[i - j] += dS[i * T + j];
  return db;
}

void broadcast_and_reduction(int argc, char** argv) {
  constexpr Index T = Problem::T;
  const Problem whole(T), narrow(3);
  const Row dS = whole.dscores();
  std::printf("\ngradient of the scores dS\n");
  for (Index i = 0; i < T; ++i)
    print_row("row " + std::to_string(i + 1), {&dS[i * T], std::size_t(i + 1)},
              [](double x) { return fixed(x); });
  const auto show = [](double x) { return fixed(x); };
  const Row db = diagonal_sums(dS, T, T), db_narrow = diagonal_sums(narrow.dscores(), T, 3);
  print_row("db, W = 6", db, show);
  print_row("db, W = 3", db_narrow, show);
  bool same = true;
  for (Index d = 0; d < T; ++d) same = same && std::abs(db[d] - whole.library_dbias()[d]) < 1e-12;
  for (Index d = 0; d < 3; ++d)
    same = same && std::abs(db_narrow[d] - narrow.library_dbias()[d]) < 1e-12;
  holds(same, "the sums along the diagonals are the library's dbias");
  double sum = 0, narrow_sum = 0;
  for (const double entry : db) sum += entry;
  for (const double entry : db_narrow) narrow_sum += entry;
  holds(std::abs(sum) < 1e-12, "db sums to 0 if W reaches over the text");
  holds(std::abs(narrow_sum) > 0.01, "and does not if W is shorter");
  write_picture(argc, argv, "diagonals.svg",
                heat_map({.title = "dS: db is the sum along each diagonal",
                          .scale = ColorScale::diverging,
                          .causal = true,
                          .square_cells = true,
                          .show_values = true,
                          .width = 400},
                         T, T, dS));
}

/// A head that is to hand over the value three back, and knows nothing but distances.
void learn_a_bias(int argc, char** argv) {
  constexpr Index T = 32, D = 8, W = 8, back = 3;
  const AttentionShape shape{.queries = T, .keys = T, .head_dim = D, .window = W};
  const Row zeros(T * D, 0.0);
  Row v(T * D), bias(W, 0.0);
  Random random(4);
  for (double& x : v) x = random.normal();
  std::vector<Series> lines;
  std::printf(
      "\nlearning to look three back\nstep        loss     b[0]    b[1]    b[2]    b[3]    b[4]    "
      "b[5]\n");
  for (int step = 0; step <= 400; ++step) {
    Row out(T * D), lse(T), dO(T * D), dq(T * D), dk(T * D), dv(T * D), db(W);
    const AttentionInputs<double> in{zeros.data(), zeros.data(), v.data(), bias.data()};
    oracle::attention_forward<double>(shape, {Normalizer::softmax}, in, {out.data(), lse.data()});
    double loss = 0;
    for (Index i = back; i < T; ++i)
      for (Index d = 0; d < D; ++d) {
        const double difference = out[i * D + d] - v[(i - back) * D + d];
        loss += difference * difference / 2 / double(T - back);
        dO[i * D + d] = difference / double(T - back);
      }
    if (step == 0 || step == 25 || step == 100 || step == 400) {
      std::string text = std::to_string(step);
      text += std::string(6 - text.size(), ' ') + right(fixed(loss), 10) + " ";
      for (Index d = 0; d < 6; ++d) text += right(fixed(bias[d]), 8);
      std::printf("%s\n", text.c_str());
      Series line{.name = "step " + std::to_string(step)};
      for (Index d = 0; d < W; ++d) line.x.push_back(double(d)), line.y.push_back(bias[d]);
      lines.push_back(line);
    }
    oracle::attention_backward<double>(shape, {Normalizer::softmax}, in, dO.data(),
                                       {dq.data(), dk.data(), dv.data(), db.data()});
    for (Index d = 0; d < W; ++d) bias[d] -= 0.5 * db[d];
  }
  holds(*std::max_element(bias.begin(), bias.end()) == bias[back],
        "the largest entry is at distance 3");
  const Row softmax = last_rows(1, T, W, bias, Normalizer::softmax, 0);
  const Row lazy_row = last_rows(1, T, W, bias, Normalizer::elastic, -1);
  std::printf("last row: softmax puts %s on it; at tau = -1 %lld of 32 keys live, with weight %s\n",
              fixed(softmax[T - 1 - back]).c_str(),
              (long long)(T - std::count(lazy_row.begin(), lazy_row.end(), 0.0)),
              fixed(lazy_row[T - 1 - back]).c_str());
  write_picture(argc, argv, "learned.svg",
                line_chart({.title = "The bias by distance, while it is learned",
                            .x_label = "distance",
                            .y_label = "b",
                            .width = 520},
                           lines));
}

}  // namespace

int main(int argc, char** argv) {
  heads_differ(argc, argv);
  beyond_the_window();
  broadcast_and_reduction(argc, argv);
  learn_a_bias(argc, argv);
}
