#pragma once
// Matrix products of a device against float64, for any device and without a test framework. What is
// wrong comes back as text, empty if nothing is.

#include <cmath>
#include <cstring>
#include <sstream>
#include <string>

#include "cuda/matrix_products.hpp"
#include "reference/random.hpp"
#include "tests/device_array.hpp"
#include "tests/plain_16bit.hpp"
#include "tests/scalar_layers.hpp"

namespace lazy::test {

struct ProductSizes {
  Index N, In, Out;
};

/// Sizes 1, odd, those of tiles and beside them, and long sums.
inline constexpr ProductSizes product_sizes[] = {{1, 1, 1},    {1, 7, 3},      {3, 1, 2},
                                                 {2, 3, 1},    {4, 33, 17},    {5, 64, 64},
                                                 {48, 64, 96}, {67, 131, 259}, {600, 96, 40}};

/// What the products are asked for: numbers that A can hold, and what is added to.
struct ProductInputs {
  Values<float> x, weight, dout, base, dweight;
};

template <class A>
std::vector<A> in_format(const Values<float>& x) {
  std::vector<A> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = from_float<A>(x[i]);
  return y;
}

template <class A>
Values<float> as_floats(const std::vector<A>& x) {
  Values<float> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = to_float(x[i]);
  return y;
}

/// Numbers drawn by `draw`, those that are multiplied as A holds them.
template <class A, class Draw>
ProductInputs product_inputs(const ProductSizes& s, Draw draw) {
  const auto drawn = [&](Index size) {
    Values<float> x(size);
    for (float& value : x) value = draw();
    return x;
  };
  const auto in_A = [&](Index size) { return as_floats(in_format<A>(drawn(size))); };
  return {in_A(s.N * s.In), in_A(s.Out * s.In), in_A(s.N * s.Out), drawn(s.N * s.Out),
          drawn(s.Out * s.In)};
}

struct ProductTensor {
  const char* name;
  bool in_A;  // rounded to A; else float
  double factor;
};
/// The results, in the order of the functions below.
inline constexpr ProductTensor product_tensors[] = {{"out", true, value_factor},
                                                    {"base + out", false, value_factor},
                                                    {"dx", true, gradient_factor},
                                                    {"dweight", false, gradient_factor}};

/// By scalar loops in T.
template <class T>
std::vector<Values<T>> plain_products(const ProductSizes& s, const ProductInputs& in) {
  const auto converted = [](const Values<float>& x) { return Values<T>(x.begin(), x.end()); };
  const auto x = converted(in.x), weight = converted(in.weight), dout = converted(in.dout);
  const auto add = [](Values<T> sum, const Values<float>& to) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += T(to[i]);
    return sum;
  };
  Values<T> out = scalar_linear(x, weight, s.In), dx, dweight;
  scalar_linear_backward(dx, dweight, dout, x, weight, s.In);
  return {out, add(out, in.base), dx, add(dweight, in.dweight)};
}

/// By a device. What is assigned starts as NaN; the sum is made in place.
template <class A>
std::vector<Values<float>> device_products(LazyDevice device, const ProductSizes& s,
                                           const ProductInputs& in) {
  const MatrixProducts<A>& products = matrix_products<A>(device);
  void* stream = memory(device).stream();
  DeviceArray<A> x(device, in_format<A>(in.x)), weight(device, in_format<A>(in.weight)),
      dout(device, in_format<A>(in.dout));
  DeviceArray<A> out(device, nans<A>(in.dout.size())), dx(device, nans<A>(in.x.size()));
  DeviceArray<float> sum(device, in.base), dweight(device, in.dweight);
  products.linear_forward(out.data(), x.data(), weight.data(), s.N, s.In, s.Out, stream);
  products.linear_add_forward(sum.data(), sum.data(), x.data(), weight.data(), s.N, s.In, s.Out,
                              stream);
  products.linear_backward(dx.data(), dweight.data(), dout.data(), x.data(), weight.data(), s.N,
                           s.In, s.Out, stream);
  return {as_floats(out.on_host()), sum.on_host(), as_floats(dx.on_host()), dweight.on_host()};
}

inline bool same_bytes(const std::vector<Values<float>>& a, const std::vector<Values<float>>& b) {
  for (std::size_t k = 0; k < a.size(); ++k)
    if (a[k].size() != b[k].size() ||
        std::memcmp(a[k].data(), b[k].data(), a[k].size() * sizeof(float)) != 0)
      return false;
  return true;
}

/// Random numbers, by the rule of low precision, judged over several draws: the plain loop may be
/// lucky on few entries. Run twice, which must give the same bytes.
template <class A>
std::string product_faults(LazyDevice device, const ProductSizes& s) {
  constexpr std::size_t tensors = std::size(product_tensors);
  std::vector<Values<float>> got(tensors), plain(tensors);
  std::vector<Values<double>> exact(tensors);
  std::ostringstream faults;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Random random(seed);
    const auto in = product_inputs<A>(s, [&] { return float(random.normal()); });
    const auto ours = device_products<A>(device, s, in);
    if (!same_bytes(device_products<A>(device, s, in), ours))
      faults << "two runs gave different bytes; ";
    const auto loops = plain_products<float>(s, in);
    const auto truth = plain_products<double>(s, in);
    for (std::size_t k = 0; k < tensors; ++k) {
      const Values<float> stored =
          product_tensors[k].in_A ? as_floats(in_format<A>(loops[k])) : loops[k];
      got[k].insert(got[k].end(), ours[k].begin(), ours[k].end());
      plain[k].insert(plain[k].end(), stored.begin(), stored.end());
      exact[k].insert(exact[k].end(), truth[k].begin(), truth[k].end());
    }
  }
  for (std::size_t k = 0; k < tensors; ++k) {
    const auto [name, in_A, factor] = product_tensors[k];
    const double epsilon = in_A && std::is_same_v<A, BFloat16>
                               ? epsilon_of<BFloat16>()
                               : double(std::numeric_limits<float>::epsilon());
    const double budget = low_precision_budget(compare(plain[k], exact[k]), factor, epsilon);
    const Comparison found = compare(got[k], exact[k]);
    if (!within(found, budget))
      faults << name << " errs by " << found.error << ", " << budget << " is allowed ("
             << found.where << "); ";
  }
  return faults.str();
}

/// Whole numbers whose products and sums float holds exactly, but TF32 or bfloat16 does not: the
/// results are the exact ones, rounded once to A.
template <class A>
std::string exact_product_faults(LazyDevice device) {
  const ProductSizes s{37, 40, 29};
  Random random(1);
  const Index most = std::is_same_v<A, BFloat16> ? 255 : 4095;  // A holds them exactly
  const auto whole = [&] { return float(random.below(2 * most + 1) - most); };
  ProductInputs in = product_inputs<A>(s, whole);
  for (float& value : in.weight) value = float(random.below(9) - 4);
  for (float& value : in.dout) value = float(random.below(9) - 4);
  const auto got = device_products<A>(device, s, in);
  const auto exact = plain_products<double>(s, in);
  std::ostringstream faults;
  for (std::size_t k = 0; k < got.size(); ++k)
    for (std::size_t i = 0; i < got[k].size(); ++i) {
      const float sum = float(exact[k][i]);
      const float expected = product_tensors[k].in_A ? to_float(from_float<A>(sum)) : sum;
      if (got[k][i] == expected) continue;
      faults << product_tensors[k].name << " entry " << i << " is " << got[k][i] << " instead of "
             << expected << "; ";
      break;
    }
  return faults.str();
}

}  // namespace lazy::test
