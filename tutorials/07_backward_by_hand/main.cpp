// The backward pass by hand: every line of the chain rule, the two mistakes that are easily made in
// it, the kink, and a microscope that holds a gradient against difference quotients.

#include <algorithm>
#include <array>
#include <cmath>

#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

constexpr Index T = 8, D = 4, W = 5;
template <class F>
using Heads = std::array<std::array<F, D>, T>;        // [T, D]
using Square = std::array<std::array<double, T>, T>;  // [T, T]

template <class F>
struct Problem {
  Heads<F> Q, K, V, dO;
  std::array<F, W> b;
  F tau;

  static constexpr AttentionShape shape{.queries = T, .keys = T, .head_dim = D, .window = W};
  AttentionInputs<F> inputs() const { return {&Q[0][0], &K[0][0], &V[0][0], b.data(), &tau}; }
};

struct Gradients {
  Heads<double> dQ{}, dK{}, dV{};
  std::array<double, W> db{};
  double dtau = 0;
};

template <class F>
Problem<F> make_problem(double tau) {
  Random random(5);
  Problem<F> x;
  for (Heads<F>* rows : {&x.Q, &x.K, &x.V, &x.dO})
    for (auto& row : *rows)
      for (F& value : row) value = F(random.normal());
  for (F& entry : x.b) entry = F(0.5 * random.normal());
  x.tau = F(tau);
  return x;
}

double dot(const std::array<double, D>& a, const std::array<double, D>& b) {
  double sum = 0;
  for (Index d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

struct Forward {
  Square P{}, A{};
};

Forward forward(const Problem<double>& x) {
  Forward f;
  for (Index i = 0; i < T; ++i) {
    double sum = 0;
    for (Index j = 0; j <= i; ++j) {
      const double bias = i - j < W ? x.b[i - j] : 0;
      sum += f.P[i][j] = std::exp(dot(x.Q[i], x.K[j]) / std::sqrt(double(D)) + bias);
    }
    for (Index j = 0; j <= i; ++j) {
      f.P[i][j] /= sum;
      f.A[i][j] = std::max(f.P[i][j] + x.tau / double(i + 1), 0.0);
    }
  }
  return f;
}

enum class Mistake { none, delta_from_output, dead_dropped };

Gradients backward(const Problem<double>& x, const Forward& f, Mistake mistake, Square& dS) {
  Gradients g;
  const double c = 1 / std::sqrt(double(D));
  for (Index i = 0; i < T; ++i) {
    const double n = double(i + 1);
    std::array<double, T> dA{};
    double delta = 0, rowsum = 0;  // rowsum: of dO * O, FlashAttention's delta
    for (Index j = 0; j <= i; ++j) {
      dA[j] = f.A[i][j] > 0 ? dot(x.dO[i], x.V[j]) : 0;
      delta += f.P[i][j] * dA[j];
      rowsum += f.A[i][j] * dA[j];
    }
    if (mistake == Mistake::delta_from_output) delta = rowsum;
    for (Index j = 0; j <= i; ++j) {
      dS[i][j] = f.P[i][j] * (dA[j] - delta);
      if (mistake == Mistake::dead_dropped && f.A[i][j] == 0) dS[i][j] = 0;
      for (Index d = 0; d < D; ++d) {
        g.dV[j][d] += f.A[i][j] * x.dO[i][d];
        g.dQ[i][d] += c * dS[i][j] * x.K[j][d];
        g.dK[j][d] += c * dS[i][j] * x.Q[i][d];
      }
      if (i - j < W) g.db[i - j] += dS[i][j];
      g.dtau += dA[j] / n;
    }
  }
  return g;
}

Gradients library(const Problem<double>& x) {
  Gradients g;
  oracle::attention_backward<double>(x.shape, {}, x.inputs(), &x.dO[0][0],
                                     {&g.dQ[0][0], &g.dK[0][0], &g.dV[0][0], g.db.data(), &g.dtau});
  return g;
}

double norm(const Heads<double>& x) {
  double sum = 0;
  for (const auto& row : x) sum += dot(row, row);
  return std::sqrt(sum);
}

double relative_error(const Heads<double>& x, const Heads<double>& right) {
  Heads<double> difference;
  for (Index i = 0; i < T; ++i)
    for (Index d = 0; d < D; ++d) difference[i][d] = x[i][d] - right[i][d];
  return norm(difference) / norm(right);
}

bool all_near(const Gradients& a, const Gradients& b) {
  bool near = std::abs(a.dtau - b.dtau) < 1e-12;
  for (Index d = 0; d < W; ++d) near = near && std::abs(a.db[d] - b.db[d]) < 1e-12;
  return near && relative_error(a.dQ, b.dQ) < 1e-12 && relative_error(a.dK, b.dK) < 1e-12 &&
         relative_error(a.dV, b.dV) < 1e-12;
}

void last_row(const Problem<double>& x, const Forward& f, const Square& dS) {
  std::array<double, T> dA{};
  for (Index j = 0; j < T; ++j) dA[j] = f.A[T - 1][j] > 0 ? dot(x.dO[T - 1], x.V[j]) : 0;
  std::printf("row 8 at tau = -0.9\n");
  print_row("P", f.P[T - 1]);
  print_row("A", f.A[T - 1]);
  print_row("dA", dA);
  print_row("dS", dS[T - 1]);
  double sum = 0;
  for (const double entry : dS[T - 1]) sum += entry;
  holds(std::abs(sum) < 1e-12, "a row of dS sums to 0");
  bool dead_pull = true;
  for (Index j = 0; j < T; ++j) dead_pull = dead_pull && (f.A[T - 1][j] > 0 || dS[T - 1][j] != 0);
  holds(dead_pull, "every dead entry of this row has a gradient");
}

void mistakes() {
  std::printf("\nrelative error of dQ   delta = rowsum(dO O)   dead entries dropped\n");
  for (const double tau : {0.0, -0.4, -0.9}) {
    const Problem<double> x = make_problem<double>(tau);
    const Forward f = forward(x);
    Square scratch{};
    const Gradients right = backward(x, f, Mistake::none, scratch);
    if (!all_near(right, library(x))) holds(false, "ours are the library's gradients");
    const double first =
        relative_error(backward(x, f, Mistake::delta_from_output, scratch).dQ, right.dQ);
    const double second =
        relative_error(backward(x, f, Mistake::dead_dropped, scratch).dQ, right.dQ);
    std::printf("tau %-18s%21s%23s\n", fixed(tau, 1).c_str(), fixed(first).c_str(),
                fixed(second).c_str());
  }
  holds(true, "without a mistake all five gradients are the library's, at every tau");
}

// One key: P = 1 exactly, O = max(1 + tau, 0) V.
void kink() {
  const double one = 1, v = 2, dout = 1, h = 0x1p-10;
  const AttentionShape shape{};
  const auto loss = [&](double tau) {
    double out = 0, lse = 0;
    oracle::attention_forward<double>(shape, {}, {&one, &one, &v, nullptr, &tau}, {&out, &lse});
    return dout * out;
  };
  const double tau = -1;
  double dq = 0, dk = 0, dv = 0, dtau = 0;
  oracle::attention_backward<double>(shape, {}, {&one, &one, &v, nullptr, &tau}, &dout,
                                     {&dq, &dk, &dv, nullptr, &dtau});
  std::printf("\none key at tau = -1: on the kink\n");
  std::printf("difference quotient from the right %s, from the left %s, central %s; library %s\n",
              fixed((loss(tau + h) - loss(tau)) / h).c_str(),
              fixed((loss(tau) - loss(tau - h)) / h).c_str(),
              fixed((loss(tau + h) - loss(tau - h)) / (2 * h)).c_str(), fixed(dtau).c_str());
}

/// Central difference of the loss sum(dO * O) with respect to Q[7][0], computed in F.
template <class F>
double difference_quotient(double h) {
  Problem<F> x = make_problem<F>(-0.9);
  const auto loss = [&](F q) {
    x.Q[T - 1][0] = q;
    Heads<F> out;
    std::array<F, T> lse;
    oracle::attention_forward<F>(x.shape, {}, x.inputs(), {&out[0][0], lse.data()});
    F sum = 0;
    for (Index i = 0; i < T; ++i)
      for (Index d = 0; d < D; ++d) sum += x.dO[i][d] * out[i][d];
    return sum;
  };
  const F q = x.Q[T - 1][0], up = q + F(h), down = q - F(h);
  return double(loss(up) - loss(down)) / double(up - down);
}

void microscope(int argc, char** argv) {
  const Problem<double> x = make_problem<double>(-0.9);
  const double analytic = library(x).dQ[T - 1][0];
  Series in_double{.name = "double"}, in_float{.name = "float"};
  for (double exponent = -1; exponent >= -12; exponent -= 0.25) {
    const double h = std::pow(10, exponent);
    const auto error = [&](double quotient) { return std::abs(quotient / analytic - 1); };
    in_double.x.push_back(h);
    in_double.y.push_back(error(difference_quotient<double>(h)));
    if (exponent < -6) continue;
    in_float.x.push_back(h);
    in_float.y.push_back(error(difference_quotient<float>(h)));
  }
  std::printf("\nmicroscope: dL/dQ[8][1] = %s; relative error of the central difference\n",
              fixed(analytic).c_str());
  for (const int exponent : {-1, -2, -3})
    std::printf("h = 1e%d  %.1e\n", exponent, in_double.y[4 * (-1 - exponent)]);
  const auto best = std::min_element(in_double.y.begin(), in_double.y.end());
  const double best_float = *std::min_element(in_float.y.begin(), in_float.y.end());
  holds(*best < 1e-8, "in double some step agrees to 8 digits");
  holds(in_double.y.front() > 1000 * *best && in_double.y.back() > 1000 * *best,
        "steps far larger or far smaller are a thousand times worse");
  holds(best_float > 100 * *best, "in float no step comes within a hundred times of that");
  write_picture(argc, argv, "microscope.svg",
                line_chart({.title = "Error of the central difference against its step",
                            .x_label = "step h",
                            .y_label = "relative error",
                            .log_x = true,
                            .log_y = true,
                            .width = 520},
                           {in_double, in_float}));
}

}  // namespace

int main(int argc, char** argv) {
  const Problem<double> x = make_problem<double>(-0.9);
  const Forward f = forward(x);
  Square dS{};
  backward(x, f, Mistake::none, dS);
  last_row(x, f, dS);
  mistakes();
  kink();
  microscope(argc, argv);

  std::vector<double> cells;
  for (const auto& row : dS) cells.insert(cells.end(), row.begin(), row.end());
  std::vector<double> weights;
  for (const auto& row : f.A) weights.insert(weights.end(), row.begin(), row.end());
  write_picture(
      argc, argv, "weights.svg",
      heat_map(
          {.title = "Weights A: white is dead", .causal = true, .square_cells = true, .width = 360},
          T, T, weights));
  write_picture(argc, argv, "dscores.svg",
                heat_map({.title = "Gradient of the scores dS",
                          .scale = ColorScale::diverging,
                          .square_root = true,
                          .causal = true,
                          .square_cells = true,
                          .width = 360},
                         T, T, cells));
}
