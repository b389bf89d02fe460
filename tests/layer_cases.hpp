#pragma once
// The layers as the tests see them: functions of tensors, each beside its plain loop.

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "reference/random.hpp"
#include "tests/layer_ways.hpp"

namespace lazy::test {

template <class T>
using Tensors = std::vector<Values<T>>;

inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

inline Values<double> normals(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  Values<double> x(size);
  for (double& value : x) value = random.normal();
  return x;
}

template <class T>
Values<T> poisoned(Index size) {
  return Values<T>(size, T(not_a_number));
}

/// Which of a layer's tensors are of the type A of a way to compute it (see layer_ways.hpp): what
/// it has gradients for, its outputs and their gradients, the gradients it gives.
struct Stored {
  bool in, out, gradient;
};

/// Each layer: the sizes of the tensors it has gradients for, whether each gradient is added to (or
/// assigned), the layer itself in some way, and the plain loop. `d` is what a gradient's place
/// holds.

struct Embedding {
  std::vector<int> tokens;
  Index C, V;
  static constexpr Stored stored{false, false, false};
  std::vector<Index> sizes() const { return {V * C}; }
  static bool adds(std::size_t) { return true; }

  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(tokens.size() * C);
    way.embedding_forward(out.data(), in[0].data(), tokens.data(), Index(tokens.size()), C, V);
    return out;
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>&, const Values<T>& dout) const {
    std::vector<int> order(tokens.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return tokens[a] < tokens[b]; });
    way.embedding_backward(d[0].data(), dout.data(), tokens.data(), order.data(),
                           Index(tokens.size()), C, V);
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_embedding(in[0], tokens, C);
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>&, const Values<T>& dout) const {
    return {scalar_embedding_backward(dout, tokens, C, V)};
  }
};

struct RmsNorm {
  Index N, C;
  double epsilon = 1e-6;
  static constexpr Stored stored{false, true, false};
  std::vector<Index> sizes() const { return {N * C, C}; }
  static bool adds(std::size_t) { return true; }

  /// `rstd` is assigned.
  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in, Values<T>& rstd) const {
    auto out = poisoned_activations<Way>(N * C);
    rstd = poisoned<T>(N);
    way.rmsnorm_forward(out.data(), rstd.data(), in[0].data(), in[1].data(), N, C, epsilon);
    return numbers<Way>(out);
  }
  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    Values<T> rstd;
    return forward(way, in, rstd);
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    Values<T> rstd;
    forward(way, in, rstd);
    typename Way::A* const rounded = nullptr;
    way.rmsnorm_backward(d[0].data(), rounded, d[1].data(), activations<Way>(dout).data(),
                         in[0].data(), in[1].data(), rstd.data(), N, C);
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_rmsnorm(in[0], in[1], epsilon);
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>& in, const Values<T>& dout) const {
    Tensors<T> d(2);
    scalar_rmsnorm_backward(d[0], d[1], dout, in[0], in[1], epsilon);
    return d;
  }
};

struct Linear {
  Index N, In, Out;
  static constexpr Stored stored{false, false, false};
  std::vector<Index> sizes() const { return {N * In, Out * In}; }
  static bool adds(std::size_t k) { return k == 1; }

  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(N * Out);
    way.linear_forward(out.data(), in[0].data(), in[1].data(), N, In, Out);
    return out;
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    way.linear_backward(d[0].data(), d[1].data(), dout.data(), in[0].data(), in[1].data(), N, In,
                        Out);
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_linear(in[0], in[1], In);
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>& in, const Values<T>& dout) const {
    Tensors<T> d(2);
    scalar_linear_backward(d[0], d[1], dout, in[0], in[1], In);
    return d;
  }
};

struct SwiGlu {
  Index N, F;
  static constexpr Stored stored{true, true, true};
  std::vector<Index> sizes() const { return {N * 2 * F}; }
  static bool adds(std::size_t) { return false; }

  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    auto out = poisoned_activations<Way>(N * F);
    way.swiglu_forward(out.data(), activations<Way>(in[0]).data(), N, F);
    return numbers<Way>(out);
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    auto dgate_up = poisoned_activations<Way>(N * 2 * F);
    way.swiglu_backward(dgate_up.data(), activations<Way>(dout).data(),
                        activations<Way>(in[0]).data(), N, F);
    d[0] = numbers<Way>(dgate_up);
  }
  /// Columns first .. first + F - 1 of every row.
  template <class T>
  Values<T> half(const Values<T>& gate_up, Index first) const {
    Values<T> columns;
    for (Index n = 0; n < N; ++n)
      for (Index f = 0; f < F; ++f) columns.push_back(gate_up[n * 2 * F + first + f]);
    return columns;
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_swiglu(half(in[0], 0), half(in[0], F));
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>& in, const Values<T>& dout) const {
    Values<T> dgate, dup, joint;
    scalar_swiglu_backward(dgate, dup, dout, half(in[0], 0), half(in[0], F));
    for (Index n = 0; n < N; ++n)
      for (const Values<T>* d : {&dgate, &dup})
        joint.insert(joint.end(), d->begin() + n * F, d->begin() + (n + 1) * F);
    return {joint};
  }
};

// Its backward knows one number, the scale, instead of a gradient of every loss.
struct CrossEntropy {
  std::vector<int> targets;
  Index V;
  double scale = 0.25;
  static constexpr Stored stored{true, false, true};
  std::vector<Index> sizes() const { return {Index(targets.size()) * V}; }
  static bool adds(std::size_t) { return false; }

  /// The losses; `dlogits`, if not null, is assigned. It may be `logits`.
  template <class Way, class A>
  Values<typename Way::Number> fused(const Way& way, A* dlogits, const A* logits) const {
    auto losses = poisoned<typename Way::Number>(Index(targets.size()));
    const StepInputs inputs{.loss_scale = scale};
    way.cross_entropy(losses.data(), dlogits, logits, targets.data(), Index(targets.size()), V,
                      &inputs);
    return losses;
  }
  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    typename Way::A* const no_gradient = nullptr;
    return fused(way, no_gradient, activations<Way>(in[0]).data());
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>& in, const Values<T>&) const {
    auto dlogits = poisoned_activations<Way>(Index(in[0].size()));
    const auto logits = activations<Way>(in[0]);
    fused(way, dlogits.data(), logits.data());
    d[0] = numbers<Way>(dlogits);
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_cross_entropy(in[0], targets, V);
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>& in, const Values<T>&) const {
    return {scalar_cross_entropy_backward(in[0], targets, V, scale)};
  }
};

// Its output is q, k and v, one after another; every sequence begins at position 0.
struct Heads {
  HeadSplit split;
  bool rotated = true;
  static constexpr double rope_base = 100;
  static constexpr Stored stored{true, true, true};
  Index rows() const { return split.sequences * split.length; }
  Index q_size() const { return rows() * split.heads * split.head_dim; }
  Index k_size() const { return rows() * split.kv_heads * split.head_dim; }
  std::vector<Index> sizes() const { return {q_size() + 2 * k_size()}; }
  static bool adds(std::size_t) { return false; }

  template <class Way, class T>
  Values<T> forward(const Way& way, const Tensors<T>& in) const {
    auto out = poisoned_activations<Way>(q_size() + 2 * k_size());
    auto *q = out.data(), *k = q + q_size(), *v = k + k_size();
    with_rope(way, [&](const auto* rope) {
      way.split_heads(q, k, v, activations<Way>(in[0]).data(), split, rope, nullptr);
    });
    return numbers<Way>(out);
  }
  template <class Way, class T>
  void backward(const Way& way, Tensors<T>& d, const Tensors<T>&, const Values<T>& dout) const {
    auto dqkv = poisoned_activations<Way>(q_size() + 2 * k_size());
    auto copy = activations<Way>(dout);
    auto *dq = copy.data(), *dk = dq + q_size(), *dv = dk + k_size();
    with_rope(way, [&](const auto* rope) { way.join_heads(dqkv.data(), dq, dk, dv, split, rope); });
    d[0] = numbers<Way>(dqkv);
  }
  template <class T>
  Values<T> plain(const Tensors<T>& in) const {
    return scalar_split_heads(in[0], split.length, split.heads, split.kv_heads, split.head_dim,
                              rotated ? rope_base : 0);
  }
  template <class T>
  Tensors<T> plain_backward(const Tensors<T>&, const Values<T>& dout) const {
    return {scalar_join_heads(dout, split.length, split.heads, split.kv_heads, split.head_dim,
                              rotated ? rope_base : 0)};
  }

 private:
  template <class Way, class Run>
  void with_rope(const Way& way, Run run) const {
    const auto rope = way.template make_rope<typename Way::Number>(
        split.length, rotated ? split.head_dim : 2, rope_base);
    run(rotated ? &rope : nullptr);
  }
};

/// The same numbers in another precision.
template <class U, class T>
Values<U> converted(const Values<T>& x) {
  return Values<U>(x.begin(), x.end());
}

template <class U, class T>
Tensors<U> converted(const Tensors<T>& tensors) {
  Tensors<U> result;
  for (const Values<T>& x : tensors) result.push_back(converted<U>(x));
  return result;
}

}  // namespace lazy::test
