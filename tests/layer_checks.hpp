#pragma once
// What is asked of a layer, whatever way it is computed in (layer_ways.hpp).

#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/layer_cases.hpp"

namespace lazy::test {

template <class Layer>
Tensors<double> random_inputs(const Layer& layer, std::uint64_t seed = 1) {
  Tensors<double> in;
  for (const Index size : layer.sizes()) in.push_back(normals(size, seed + in.size()));
  return in;
}

/// What the outputs are weighted with to make one number.
template <class Layer>
Values<double> output_gradient(const Layer& layer, std::size_t size) {
  if constexpr (std::is_same_v<Layer, CrossEntropy>) return Values<double>(size, layer.scale);
  return normals(size, 3);
}

/// Indices in 0 .. V-1, or, every fourth, -1.
inline std::vector<int> random_indices(Index N, Index V, bool some_ignored) {
  Random random(5);
  std::vector<int> indices;
  for (Index n = 0; n < N; ++n)
    indices.push_back(some_ignored && n % 4 == 3 ? -1 : int(random.below(V)));
  return indices;
}

/// x as a way computes with it.
template <class Way, class T>
Values<typename Way::Number> as_given(const Values<T>& x, bool stored) {
  const auto in_numbers = converted<typename Way::Number>(x);
  return stored ? numbers<Way>(activations<Way>(in_numbers)) : in_numbers;
}
template <class Way, class T>
Tensors<typename Way::Number> as_given(const Tensors<T>& tensors, bool stored) {
  Tensors<typename Way::Number> result;
  for (const Values<T>& x : tensors) result.push_back(as_given<Way>(x, stored));
  return result;
}

/// One tensor computed in a way, by the plain loop in the way's types, and by the loop in double.
template <class Way>
struct Judged {
  using Number = typename Way::Number;
  bool stored = false;
  Values<Number> ours = {}, plain = {};
  Values<double> exact = {};

  void append(const Values<Number>& more, const Values<Number>& more_plain,
              const Values<double>& more_exact) {
    ours.insert(ours.end(), more.begin(), more.end());
    const auto rounded = as_given<Way>(more_plain, stored);
    plain.insert(plain.end(), rounded.begin(), rounded.end());
    exact.insert(exact.end(), more_exact.begin(), more_exact.end());
  }
  bool passes(double factor) const {
    const Comparison c = compare(ours, exact);
    if constexpr (std::is_same_v<Number, double>) return within(c, float64_budget);
    const double epsilon = stored ? epsilon_of<typename Way::A>() : epsilon_of<float>();
    return within(c, low_precision_budget(compare(plain, exact), factor, epsilon));
  }
};

/// Outputs and gradients, whatever a gradient's place held before. The plain loop may be lucky on a
/// tensor of few entries, so each tensor is judged over several draws.
template <class Way, class Layer>
void check_layer(const Way& way, const Layer& layer, int draws = 8) {
  using T = typename Way::Number;
  const Stored stored = layer.stored;
  Judged<Way> outputs{stored.out};
  std::vector<Judged<Way>> gradients(layer.sizes().size(), Judged<Way>{stored.gradient});
  for (int draw = 1; draw <= draws; ++draw) {
    const Tensors<T> in = as_given<Way>(random_inputs(layer, 100 * draw), stored.in);
    const Tensors<double> exact_in = converted<double>(in);
    const Values<T> ours = layer.forward(way, in);
    outputs.append(ours, layer.plain(in), layer.plain(exact_in));

    const Values<T> dout = as_given<Way>(output_gradient(layer, ours.size()), stored.out);
    Tensors<T> d, plain_d = layer.plain_backward(in, dout);
    Tensors<double> exact_d = layer.plain_backward(exact_in, converted<double>(dout));
    for (std::size_t k = 0; k < in.size(); ++k) {
      d.push_back(layer.adds(k) ? converted<T>(normals(in[k].size(), 90 + k))
                                : poisoned<T>(Index(in[k].size())));
      for (std::size_t i = 0; layer.adds(k) && i < in[k].size(); ++i) {
        plain_d[k][i] += d[k][i];
        exact_d[k][i] += double(d[k][i]);
      }
    }
    layer.backward(way, d, in, dout);
    for (std::size_t k = 0; k < in.size(); ++k) gradients[k].append(d[k], plain_d[k], exact_d[k]);
  }
  CHECK(outputs.passes(value_factor));
  for (const Judged<Way>& gradient : gradients) CHECK(gradient.passes(gradient_factor));
}

/// Outputs and gradients, one after another.
template <class Way, class Layer>
Values<typename Way::Number> all_of(const Way& way, const Layer& layer) {
  using T = typename Way::Number;
  const Tensors<T> in = as_given<Way>(random_inputs(layer), layer.stored.in);
  Values<T> all = layer.forward(way, in);
  const Values<T> dout = as_given<Way>(output_gradient(layer, all.size()), layer.stored.out);
  Tensors<T> d;
  for (const Values<T>& x : in) d.emplace_back(x.size(), T(0));
  layer.backward(way, d, in, dout);
  for (const Values<T>& x : d) all.insert(all.end(), x.begin(), x.end());
  return all;
}

/// One tensor against numbers worked out by hand; `plain` is the plain loop's.
template <class Way>
bool equals_by_hand(const Values<typename Way::Number>& ours,
                    const Values<typename Way::Number>& plain, const Values<double>& expected,
                    bool stored) {
  Judged<Way> judged{stored};
  judged.append(ours, plain, expected);
  return judged.passes(value_factor);
}

template <class Way>
void check_rmsnorm_by_hand(const Way& way) {
  using T = typename Way::Number;
  const Tensors<T> in{{3, 4, 0, 0, -1, 1, 1, 1}, Values<T>(4, 1)};
  const RmsNorm layer{2, 4, 0.0};
  Values<T> rstd;
  const Values<T> out = layer.forward(way, in, rstd);
  const Values<T> plain_rstd{scalar_rstd(in[0], 0, 4, 0.0), scalar_rstd(in[0], 1, 4, 0.0)};
  CHECK(equals_by_hand<Way>(rstd, plain_rstd, {0.4, 1}, false));
  CHECK(equals_by_hand<Way>(out, layer.plain(in), {1.2, 1.6, 0, 0, -1, 1, 1, 1}, true));
}

/// Also where exp overflows.
template <class Way>
void check_cross_entropy_by_hand(const Way& way) {
  using T = typename Way::Number;
  const Tensors<T> logits{{0, 0, 0, 0, 1000, 0, -1000, 0, -4992, -4992, -4992, -4992}};
  const CrossEntropy layer{{2, 1, 3}, 4, 1};
  CHECK(equals_by_hand<Way>(layer.forward(way, logits), layer.plain(logits),
                            {std::log(4.0), 1000, std::log(4.0)}, false));
  Tensors<T> d(1);
  layer.backward(way, d, logits, {});
  CHECK(equals_by_hand<Way>(d[0], layer.plain_backward(logits, {})[0],
                            {.25, .25, -.75, .25, 1, -1, 0, 0, .25, .25, .25, -.75}, true));
}

/// Padding has no loss and no gradient, whatever its logits.
template <class Way>
void check_padding(const Way& way) {
  using T = typename Way::Number;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const Tensors<T> logits{{1, 2, 3, nan, 5, nan}};
  const CrossEntropy padded{{0, -1}, 3, 1};
  CHECK(padded.forward(way, logits)[1] == 0);
  Tensors<T> d(1);
  padded.backward(way, d, logits, {});
  CHECK(Values<T>(d[0].begin() + 3, d[0].end()) == Values<T>{0, 0, 0});
  CHECK(d[0][0] < 0);
}

/// A logit of -infinity has no share; as a target it costs infinitely much.
template <class Way>
void check_excluded_logits(const Way& way) {
  using T = typename Way::Number;
  const T infinite = std::numeric_limits<T>::infinity();
  const Tensors<T> logits{{-infinite, 0, 0, 0, -infinite, 0, -infinite, -infinite, -infinite}};
  const CrossEntropy layer{{1, 1, 1}, 3, 1};
  const Values<T> losses = layer.forward(way, logits);
  CHECK(losses[0] == Approx(std::log(2.0)));
  CHECK(losses[1] == infinite);
  CHECK(std::isnan(losses[2]));
  Tensors<T> d(1), plain_d = layer.plain_backward(logits, {});
  layer.backward(way, d, logits, {});
  d[0].resize(6), plain_d[0].resize(6);
  CHECK(equals_by_hand<Way>(d[0], plain_d[0], {0, -.5, .5, .5, -1, .5}, true));
}

template <class Way>
void check_logits_in_place(const Way& way) {
  for (const Index V : {1, 33, 264}) {
    const CrossEntropy layer{random_indices(5, V, true), V};
    auto logits = activations<Way>(converted<typename Way::Number>(random_inputs(layer)[0]));
    auto apart = poisoned_activations<Way>(5 * V);
    const auto losses = layer.fused(way, apart.data(), logits.data());
    typename Way::A* const no_gradient = nullptr;
    CHECK(layer.fused(way, no_gradient, logits.data()) == losses);
    CHECK(layer.fused(way, logits.data(), logits.data()) == losses);
    CHECK(numbers<Way>(logits) == numbers<Way>(apart));
  }
}

/// Large gates neither overflow nor turn to NaN.
template <class Way>
void check_large_gates(const Way& way) {
  using T = typename Way::Number;
  const Tensors<T> in{{-1000, 1000, 0, 2, 2, 2}};
  const SwiGlu layer{1, 3};
  CHECK(layer.forward(way, in) == Values<T>{0, 2000, 0});
  Tensors<T> d(1, poisoned<T>(6));
  layer.backward(way, d, in, {1, 1, 1});
  CHECK(d[0] == Values<T>{0, 2, 1, 0, 1000, 0});
}

/// The outputs that are NaN where one entry of an input is.
template <class Way, class Layer>
std::vector<std::size_t> poisoned_entries(const Way& way, const Layer& layer, std::size_t tensor,
                                          std::size_t entry) {
  using T = typename Way::Number;
  Tensors<T> in = converted<T>(random_inputs(layer));
  in[tensor][entry] = std::numeric_limits<T>::quiet_NaN();
  std::vector<std::size_t> entries;
  const Values<T> out = layer.forward(way, in);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (std::isnan(out[i])) entries.push_back(i);
  return entries;
}

/// A NaN poisons what sees it and nothing else.
template <class Way>
void check_what_nan_poisons(const Way& way) {
  using Entries = std::vector<std::size_t>;
  CHECK(poisoned_entries(way, Embedding{{1, 0, 1}, 2, 2}, 0, 3) == Entries{1, 5});
  CHECK(poisoned_entries(way, RmsNorm{3, 2}, 0, 3) == Entries{2, 3});
  CHECK(poisoned_entries(way, RmsNorm{3, 2}, 1, 1) == Entries{1, 3, 5});
  CHECK(poisoned_entries(way, SwiGlu{2, 2}, 0, 5) == Entries{3});
  CHECK(poisoned_entries(way, SwiGlu{2, 2}, 0, 6) == Entries{2});
  CHECK(poisoned_entries(way, CrossEntropy{{0, 1, 1}, 2}, 0, 2) == Entries{1});
  CHECK(poisoned_entries(way, Heads{{1, 2, 1, 1, 2, 2}}, 0, 6) == Entries{2, 3});
}

/// Rows past[b] + t of a cache are written, at their positions, and no others; of a sequence whose
/// `past` is negative nothing.
template <class Way>
void check_heads_in_a_cache(const Way& way, const HeadSplit& s, const std::vector<Index>& past) {
  using T = typename Way::Number;
  const Heads whole{{s.sequences, s.capacity, s.heads, s.kv_heads, s.head_dim, s.capacity}};
  const Tensors<T> all = as_given<Way>(random_inputs(whole), true);
  const Values<T> expected = whole.forward(way, all);
  const Index columns = (s.heads + 2 * s.kv_heads) * s.head_dim, rows = s.sequences * s.length;

  // What stands at position past[b] + t of the whole is given, and the same must come out.
  Values<T> given;
  const auto position = [&](Index n) { return past[n / s.length] + n % s.length; };
  const auto row_of_whole = [&](Index n) { return n / s.length * s.capacity + position(n); };
  for (Index n = 0; n < rows; ++n)
    for (Index c = 0; c < columns; ++c)
      given.push_back(position(n) < 0 ? T(1) : all[0][row_of_whole(n) * columns + c]);
  const Index q_width = s.heads * s.head_dim, k_width = s.kv_heads * s.head_dim;
  const Index cached = s.sequences * s.capacity * k_width;
  const T untouched = 77;
  auto q = activations<Way>(Values<T>(rows * q_width, untouched));
  auto k = activations<Way>(Values<T>(cached, untouched)), v = k;
  const auto rope = way.template make_rope<T>(s.capacity, s.head_dim, Heads::rope_base);
  way.split_heads(q.data(), k.data(), v.data(), activations<Way>(given).data(), s, &rope,
                  past.data());

  Values<T> expected_q(rows * q_width, untouched);
  Values<T> expected_k(cached, untouched), expected_v = expected_k;
  for (Index n = 0; n < rows; ++n) {
    if (past[n / s.length] < 0) continue;
    const T* from = expected.data() + row_of_whole(n) * q_width;
    std::copy_n(from, q_width, expected_q.begin() + n * q_width);
    const Index at = row_of_whole(n) * k_width;
    const T* keys = expected.data() + whole.q_size();
    std::copy_n(keys + at, k_width, expected_k.begin() + at);
    std::copy_n(keys + whole.k_size() + at, k_width, expected_v.begin() + at);
  }
  CHECK(numbers<Way>(q) == expected_q);
  CHECK(numbers<Way>(k) == expected_k);
  CHECK(numbers<Way>(v) == expected_v);
}

}  // namespace lazy::test
