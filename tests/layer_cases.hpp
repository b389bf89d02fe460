#pragma once
// The layers as the tests see them: functions of tensors, each beside its plain loop.

#include <limits>
#include <vector>

#include "reference/layers.hpp"
#include "reference/random.hpp"
#include "tests/scalar_layers.hpp"

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

/// Each layer: the sizes of the tensors it has gradients for, whether each gradient is added to (or
/// assigned), the layer itself, and the plain loop.

struct Embedding {
  std::vector<int> tokens;
  Index C, V;
  std::vector<Index> sizes() const { return {V * C}; }
  static bool adds(std::size_t) { return true; }

  template <class T>
  Values<T> forward(const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(tokens.size() * C);
    embedding_forward(out.data(), in[0].data(), tokens.data(), Index(tokens.size()), C, V);
    return out;
  }
  template <class T>
  void backward(Tensors<T>& d, const Tensors<T>&, const Values<T>& dout) const {
    embedding_backward(d[0].data(), dout.data(), tokens.data(), Index(tokens.size()), C);
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
  std::vector<Index> sizes() const { return {N * C, C}; }
  static bool adds(std::size_t) { return true; }

  template <class T>
  Values<T> forward(const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(N * C), rstd = poisoned<T>(N);
    rmsnorm_forward(out.data(), rstd.data(), in[0].data(), in[1].data(), N, C, epsilon);
    return out;
  }
  template <class T>
  void backward(Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    Values<T> out = poisoned<T>(N * C), rstd = poisoned<T>(N);
    rmsnorm_forward(out.data(), rstd.data(), in[0].data(), in[1].data(), N, C, epsilon);
    rmsnorm_backward(d[0].data(), d[1].data(), dout.data(), in[0].data(), in[1].data(), rstd.data(),
                     N, C);
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
  std::vector<Index> sizes() const { return {N * In, Out * In}; }
  static bool adds(std::size_t k) { return k == 1; }

  template <class T>
  Values<T> forward(const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(N * Out);
    linear_forward(out.data(), in[0].data(), in[1].data(), N, In, Out);
    return out;
  }
  template <class T>
  void backward(Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    linear_backward(d[0].data(), d[1].data(), dout.data(), in[0].data(), in[1].data(), N, In, Out);
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
  std::vector<Index> sizes() const { return {N * 2 * F}; }
  static bool adds(std::size_t) { return false; }

  template <class T>
  Values<T> forward(const Tensors<T>& in) const {
    Values<T> out = poisoned<T>(N * F);
    swiglu_forward(out.data(), in[0].data(), N, F);
    return out;
  }
  template <class T>
  void backward(Tensors<T>& d, const Tensors<T>& in, const Values<T>& dout) const {
    swiglu_backward(d[0].data(), dout.data(), in[0].data(), N, F);
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
  std::vector<Index> sizes() const { return {Index(targets.size()) * V}; }
  static bool adds(std::size_t) { return false; }

  template <class T>
  Values<T> forward(const Tensors<T>& in) const {
    Values<T> losses = poisoned<T>(Index(targets.size()));
    cross_entropy<T>(losses.data(), nullptr, in[0].data(), targets.data(), Index(targets.size()), V,
                     scale);
    return losses;
  }
  template <class T>
  void backward(Tensors<T>& d, const Tensors<T>& in, const Values<T>&) const {
    Values<T> losses = poisoned<T>(Index(targets.size()));
    cross_entropy(losses.data(), d[0].data(), in[0].data(), targets.data(), Index(targets.size()),
                  V, scale);
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
