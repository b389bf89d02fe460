#include "apps/bench_judge.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "reference/oracle.hpp"

namespace lazy {
namespace {

constexpr double value_factor = 2, gradient_factor = 3, peer_budget = 0.01;
constexpr Index block_rows = 64;

// max |x - y| / max |y|, gathered piece by piece.
struct Distance {
  double difference = 0, largest = 0;

  void add(double x, double y) {
    const double apart = std::abs(x - y);
    difference = apart <= difference ? difference : apart;  // NaN stays
    largest = std::max(largest, std::abs(y));
  }
  void add(const Distance& o) {
    difference = o.difference <= difference ? difference : o.difference;
    largest = std::max(largest, o.largest);
  }
  double error() const {
    if (difference == 0) return 0;
    return std::isfinite(difference) ? difference / largest
                                     : std::numeric_limits<double>::infinity();
  }
};

double error_of(const CpuBackend::Buffer<float>& x, const CpuBackend::Buffer<double>& y) {
  Distance d;
  for (std::size_t i = 0; i < y.size(); ++i) d.add(x[i], y[i]);
  return d.error();
}

template <class T>
struct Gradient {
  const char* name;
  CpuBackend::Buffer<T> BenchAnswer<T>::*values;
};
template <class T>
constexpr Gradient<T> gradients[] = {{"dq", &BenchAnswer<T>::dq},
                                     {"dk", &BenchAnswer<T>::dk},
                                     {"dv", &BenchAnswer<T>::dv},
                                     {"dbias", &BenchAnswer<T>::dbias},
                                     {"dtau", &BenchAnswer<T>::dtau}};

BenchProblem<double> in_double(const BenchProblem<float>& p) {
  const auto wide = [](const CpuBackend::Buffer<float>& x) {
    return CpuBackend::Buffer<double>(x.begin(), x.end());
  };
  return {wide(p.q), wide(p.k), wide(p.v), wide(p.bias), wide(p.tau), wide(p.dout)};
}

struct Weights {
  Distance got, plain;
  std::vector<std::uint8_t> live;  // [B, H, T, T]
};

// Weights of the implementation and of the oracle in float against the oracle in double.
Weights compare_weights(const AttentionShape& s, const AttentionRule& rule,
                        const BenchProblem<float>& p, const BenchProblem<double>& exact,
                        const Implementation<float>& implementation,
                        const AttentionOutputs<float>& forward) {
  Weights result;
  result.live.resize(s.batch * s.heads * s.queries * s.keys);
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      std::vector<float> got(block_rows * s.keys), plain(got.size());
      std::vector<double> truth(got.size());
      std::uint8_t* live = result.live.data() + (b * s.heads + h) * s.queries * s.keys;
      Distance of_got, of_plain;
      for (Index row = 0; row < s.queries; row += block_rows) {
        const Index rows = std::min(block_rows, s.queries - row);
        implementation.weights(s, rule, p.inputs(), forward, b, h, row, rows, got.data());
        oracle::attention_weights(s, rule, p.inputs(), b, h, row, rows, plain.data());
        oracle::attention_weights(s, rule, exact.inputs(), b, h, row, rows, truth.data());
        for (Index i = 0; i < rows * s.keys; ++i) {
          of_got.add(got[i], truth[i]);
          of_plain.add(plain[i], truth[i]);
          live[row * s.keys + i] = got[i] != 0;
        }
      }
#pragma omp critical
      result.got.add(of_got), result.plain.add(of_plain);
    }
  return result;
}

TensorError held_to(const char* name, double error, double plain_error, double factor) {
  return {name, error, factor * plain_error + double(std::numeric_limits<float>::epsilon())};
}

}  // namespace

template <class T>
BenchAnswer<T> blank_answer(const AttentionShape& s) {
  const Index rows = s.batch * s.queries * s.heads, keys = s.batch * s.keys * s.kv_heads;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  BenchAnswer<T> a;
  a.out.assign(rows * s.head_dim, nan);
  a.lse.assign(rows, nan);
  a.dq.resize(rows * s.head_dim);
  for (auto* gradient : {&a.dk, &a.dv}) gradient->resize(keys * s.head_dim);
  a.dbias.resize(s.heads * s.window);
  a.dtau.resize(s.heads);
  return a;
}

template BenchAnswer<float> blank_answer(const AttentionShape&);
template BenchAnswer<double> blank_answer(const AttentionShape&);

bool passes(const Verdict& verdict) {
  return std::all_of(verdict.begin(), verdict.end(),
                     [](const TensorError& e) { return e.error <= e.budget; });
}

const TensorError& worst(const Verdict& verdict) {
  return *std::max_element(verdict.begin(), verdict.end(),
                           [](const TensorError& a, const TensorError& b) {
                             return a.error / a.budget < b.error / b.budget;
                           });
}

std::string failures(const Verdict& verdict) {
  std::string text;
  for (const TensorError& e : verdict) {
    if (e.error <= e.budget) continue;
    char one[100];
    std::snprintf(one, sizeof one, "%s%s errs by %.1e, allowed are %.1e", text.empty() ? "" : "; ",
                  e.name, e.error, e.budget);
    text += one;
  }
  return text;
}

Verdict judge(const AttentionShape& s, const AttentionRule& rule, const BenchProblem<float>& p,
              const Implementation<float>& implementation) {
  const BenchProblem<double> exact = in_double(p);
  const AttentionInputs<float> in = p.inputs();
  auto got = blank_answer<float>(s), plain = blank_answer<float>(s);
  auto truth = blank_answer<double>(s);
  implementation.forward(s, rule, in, got.outputs());
  implementation.backward(s, rule, in, got.outputs(), p.dout.data(), got.grads());
  oracle::attention_forward(s, rule, in, plain.outputs());
  oracle::attention_forward(s, rule, exact.inputs(), truth.outputs());
  const Weights weights = compare_weights(s, rule, p, exact, implementation, got.outputs());
  oracle::attention_backward(s, rule, in, p.dout.data(), plain.grads(), weights.live.data());
  oracle::attention_backward(s, rule, exact.inputs(), exact.dout.data(), truth.grads(),
                             weights.live.data());

  Verdict verdict{
      held_to("out", error_of(got.out, truth.out), error_of(plain.out, truth.out), value_factor),
      held_to("lse", error_of(got.lse, truth.lse), error_of(plain.lse, truth.lse), value_factor),
      held_to("weights", weights.got.error(), weights.plain.error(), value_factor)};
  for (std::size_t i = 0; i < std::size(gradients<float>); ++i) {
    const auto of = gradients<float>[i].values;
    const CpuBackend::Buffer<double>& expected = truth.*gradients<double>[i].values;
    verdict.push_back(held_to(gradients<float>[i].name, error_of(got.*of, expected),
                              error_of(plain.*of, expected), gradient_factor));
  }
  return verdict;
}

BenchAnswer<double> exact_answer(const AttentionShape& s, const AttentionRule& rule,
                                 const BenchProblem<float>& p) {
  const BenchProblem<double> exact = in_double(p);
  BenchAnswer<double> answer = blank_answer<double>(s);
  oracle::attention_forward(s, rule, exact.inputs(), answer.outputs());
  oracle::attention_backward(s, rule, exact.inputs(), exact.dout.data(), answer.grads());
  return answer;
}

Verdict judge_peer(const BenchAnswer<float>& answer, const BenchAnswer<double>& exact) {
  Verdict verdict{{"out", error_of(answer.out, exact.out), peer_budget}};
  for (std::size_t i = 0; i < std::size(gradients<float>); ++i)
    if (const auto& got = answer.*gradients<float>[i].values; !got.empty())
      verdict.push_back({gradients<float>[i].name,
                         error_of(got, exact.*gradients<double>[i].values), peer_budget});
  return verdict;
}

}  // namespace lazy
