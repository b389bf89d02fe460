// Every layer against its equations written once more (scalar_layers.hpp), against central
// differences, and at its edges: awkward sizes, wrong indices, NaN.

#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/finite_differences.hpp"
#include "tests/layer_cases.hpp"
#include "tests/refusal.hpp"
#include "tests/threads.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

template <class Layer>
Tensors<double> random_inputs(const Layer& layer, std::uint64_t seed = 1) {
  Tensors<double> in;
  for (const Index size : layer.sizes()) in.push_back(normals(size, seed + in.size()));
  return in;
}

// What the outputs are weighted with to make one number.
template <class Layer>
Values<double> output_gradient(const Layer& layer, std::size_t size) {
  if constexpr (std::is_same_v<Layer, CrossEntropy>) return Values<double>(size, layer.scale);
  return normals(size, 3);
}

template <class T>
Tensors<T> zeros_like(const Tensors<T>& tensors) {
  Tensors<T> zeros;
  for (const Values<T>& x : tensors) zeros.emplace_back(x.size(), T(0));
  return zeros;
}

// The plain loop in double agrees, outputs and gradients, whatever a gradient's place held before.
template <class Layer>
void check_in_double(const Layer& layer) {
  const Tensors<double> in = random_inputs(layer);
  const Values<double> expected = layer.plain(in);
  CHECK(within(compare(layer.forward(in), expected), float64_budget));

  const Values<double> dout = output_gradient(layer, expected.size());
  Tensors<double> d, expected_d = layer.plain_backward(in, dout);
  for (std::size_t k = 0; k < in.size(); ++k) {
    d.push_back(normals(in[k].size(), 90 + k));
    for (std::size_t i = 0; i < in[k].size(); ++i)
      if (layer.adds(k))
        expected_d[k][i] += d[k][i];
      else
        d[k][i] = not_a_number;
  }
  layer.backward(d, in, dout);
  for (std::size_t k = 0; k < in.size(); ++k)
    CHECK(within(compare(d[k], expected_d[k]), float64_budget));
}

// The plain loop may be lucky on a tensor of few entries, so each tensor is judged over several
// draws.
template <class Layer>
void check_in_float(const Layer& layer) {
  struct Answers {
    Values<float> ours, plain;
    Values<double> exact;
  };
  std::vector<Answers> gradients(layer.sizes().size());
  Answers outputs;
  const auto append = [](Answers& all, const Values<float>& ours, const Values<float>& plain,
                         const Values<double>& exact) {
    all.ours.insert(all.ours.end(), ours.begin(), ours.end());
    all.plain.insert(all.plain.end(), plain.begin(), plain.end());
    all.exact.insert(all.exact.end(), exact.begin(), exact.end());
  };
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const Tensors<float> in = converted<float>(random_inputs(layer, 100 * seed));
    const Tensors<double> exact_in = converted<double>(in);
    const Values<float> ours = layer.forward(in);
    append(outputs, ours, layer.plain(in), layer.plain(exact_in));

    const Values<float> dout = converted<float>(output_gradient(layer, ours.size()));
    Tensors<float> d = zeros_like(in);
    layer.backward(d, in, dout);
    const Tensors<float> plain_d = layer.plain_backward(in, dout);
    const Tensors<double> exact_d = layer.plain_backward(exact_in, converted<double>(dout));
    for (std::size_t k = 0; k < in.size(); ++k) append(gradients[k], d[k], plain_d[k], exact_d[k]);
  }
  const auto held_to = [](const Answers& a, double factor) {
    const double budget = low_precision_budget<float>(compare(a.plain, a.exact), factor);
    return within(compare(a.ours, a.exact), budget);
  };
  CHECK(held_to(outputs, value_factor));
  for (const Answers& gradient : gradients) CHECK(held_to(gradient, gradient_factor));
}

template <class Layer>
void check_every_derivative(const Layer& layer) {
  Tensors<double> in = random_inputs(layer);
  const auto outputs = [&] { return layer.forward(in); };
  const Values<double> dout = output_gradient(layer, outputs().size());
  Tensors<double> d = zeros_like(in);
  layer.backward(d, in, dout);
  for (std::size_t k = 0; k < in.size(); ++k)
    CHECK(wrong_derivative(in[k], d[k], outputs, dout) == "");
}

template <class Layer>
bool backward_ignores_threads(const Layer& layer) {
  const Tensors<float> in = converted<float>(random_inputs(layer));
  return same_for_any_threads([&] {
    Values<float> all = layer.forward(in);
    const Values<float> dout = converted<float>(output_gradient(layer, all.size()));
    Tensors<float> d = zeros_like(in);
    layer.backward(d, in, dout);
    for (const Values<float>& x : d) all.insert(all.end(), x.begin(), x.end());
    return all;
  });
}

// Indices in 0 .. V-1, or, every fourth, -1.
std::vector<int> random_indices(Index N, Index V, bool some_ignored) {
  Random random(5);
  std::vector<int> indices;
  for (Index n = 0; n < N; ++n)
    indices.push_back(some_ignored && n % 4 == 3 ? -1 : int(random.below(V)));
  return indices;
}

// One channel of RMSNorm is its sign, and the gradient nothing but rounding, unless epsilon counts.
template <class Check>
void for_awkward_sizes(Check check) {
  for (const Index N : {1, 2, 127, 128, 129, 257})
    for (const Index C : {1, 3, 8, 129}) {
      CAPTURE(N, C);
      check(Embedding{random_indices(N, 5, false), C, 5});
      check(RmsNorm{N, C, C == 1 ? 0.5 : 1e-6});
      check(Linear{N, C, 1});
      check(Linear{N, 5, C});
      check(Linear{N, C, 129});
      check(SwiGlu{N, C});
      check(CrossEntropy{random_indices(N, C, true), C});
    }
}

}  // namespace

TEST_CASE("layers equal their equations in double, and add to gradients or assign them",
          "[layers]") {
  for_awkward_sizes([](const auto& layer) { check_in_double(layer); });
}

TEST_CASE("layers in float err no more than the plain loop allows", "[layers]") {
  for_awkward_sizes([](const auto& layer) { check_in_float(layer); });
}

TEST_CASE("every entry of every gradient of a layer is its central difference", "[layers]") {
  for (const Index N : {1, 3, 17})
    for (const Index C : {1, 2, 9}) {
      CAPTURE(N, C);
      check_every_derivative(Embedding{random_indices(N, 5, false), C, 5});
      if (C > 1) check_every_derivative(RmsNorm{N, C});
      check_every_derivative(RmsNorm{N, C, 0.5});
      check_every_derivative(Linear{N, C, 4});
      check_every_derivative(SwiGlu{N, C});
      check_every_derivative(CrossEntropy{random_indices(N, C, true), C});
    }
  check_every_derivative(RmsNorm{2, 129});
  check_every_derivative(Linear{1, 129, 3});
  check_every_derivative(Linear{257, 2, 3});
  check_every_derivative(CrossEntropy{random_indices(2, 257, false), 257});
}

TEST_CASE("layers are the same bytes on any number of threads", "[layers][determinism]") {
  CHECK(backward_ignores_threads(Embedding{random_indices(257, 5, false), 129, 5}));
  CHECK(backward_ignores_threads(RmsNorm{1025, 129}));
  CHECK(backward_ignores_threads(Linear{1025, 129, 65}));
  CHECK(backward_ignores_threads(SwiGlu{1025, 129}));
  CHECK(backward_ignores_threads(CrossEntropy{random_indices(1025, 129, true), 129}));
  const Values<double> x = normals(100'001, 1);
  CHECK(same_for_any_threads([&] { return Values<double>{squared_norm(x.data(), 100'001)}; }));
}

TEST_CASE("RMSNorm keeps 1 / rms and gives rows of unit mean square", "[layers]") {
  const Values<double> x{3, 4, 0, 0, -1, 1, 1, 1};
  const Values<double> weight(4, 1);
  Values<double> out = poisoned<double>(8), rstd = poisoned<double>(2);
  rmsnorm_forward(out.data(), rstd.data(), x.data(), weight.data(), 2, 4, 0.0);
  CHECK(within(compare(rstd, Values<double>{0.4, 1}), float64_budget));
  CHECK(within(compare(out, Values<double>{1.2, 1.6, 0, 0, -1, 1, 1, 1}), float64_budget));
}

TEST_CASE("cross entropy by hand, also where exp overflows", "[layers]") {
  const Values<double> logits{0, 0, 0, 0, 1000, 0, -1000, 0, -5000, -5000, -5000, -5000};
  const CrossEntropy uniform{{2, 1, 3}, 4, 1};
  const Values<double> expected{std::log(4.0), 1000, std::log(4.0)};
  CHECK(within(compare(uniform.forward(Tensors<double>{logits}), expected), float64_budget));
  Tensors<double> d{Values<double>(12, 0)};
  uniform.backward(d, Tensors<double>{logits}, {});
  const Values<double> expected_d{.25, .25, -.75, .25, 1, -1, 0, 0, .25, .25, .25, -.75};
  CHECK(within(compare(d[0], expected_d), float64_budget));
}

TEST_CASE("padding has no loss and no gradient, whatever its logits", "[layers]") {
  const Tensors<double> logits{{1, 2, 3, not_a_number, 5, not_a_number}};
  const CrossEntropy padded{{0, -1}, 3, 1};
  CHECK(padded.forward(logits)[1] == 0);
  Tensors<double> d{Values<double>(6, 7)};
  padded.backward(d, logits, {});
  CHECK(Values<double>(d[0].begin() + 3, d[0].end()) == Values<double>{0, 0, 0});
  CHECK(d[0][0] != 7);
}

TEST_CASE("SwiGLU at large gates neither overflows nor turns to NaN", "[layers]") {
  const Tensors<double> in{{-1000, 1000, 0, 2, 2, 2}};
  const SwiGlu layer{1, 3};
  CHECK(layer.forward(in) == Values<double>{0, 2000, 0});
  Tensors<double> d = zeros_like(in);
  layer.backward(d, in, {1, 1, 1});
  CHECK(d[0] == Values<double>{0, 2, 1, 0, 1000, 0});
}

TEST_CASE("the gradient of the logits may take their place", "[layers]") {
  const CrossEntropy layer{random_indices(5, 33, true), 33};
  Tensors<float> logits = converted<float>(random_inputs(layer)), apart = logits;
  layer.backward(apart, logits, {});
  layer.backward(logits, logits, {});
  CHECK(logits[0] == apart[0]);
}

TEST_CASE("a linear layer adds to a base, also in place", "[layers]") {
  for (const Index N : {1, 4, 5, 97}) {
    CAPTURE(N);
    const Linear layer{N, 7, 33};
    const Tensors<double> in = random_inputs(layer);
    const Values<double> base = normals(N * 33, 9);
    Values<double> expected = layer.plain(in), out = poisoned<double>(N * 33), in_place = base;
    for (std::size_t i = 0; i < base.size(); ++i) expected[i] += base[i];
    linear_add_forward(out.data(), base.data(), in[0].data(), in[1].data(), N, 7, 33);
    linear_add_forward(in_place.data(), in_place.data(), in[0].data(), in[1].data(), N, 7, 33);
    CHECK(within(compare(out, expected), float64_budget));
    CHECK(in_place == out);
  }
}

TEST_CASE("a table used at both ends gets both gradients", "[layers]") {
  const Embedding embedding{{1, 0, 1}, 2, 3};
  const Linear head{3, 2, 3};
  const Values<double> table = normals(6, 1), x = normals(6, 2), dx = normals(6, 3),
                       dlogits = normals(9, 4);
  Tensors<double> d{Values<double>(6, 0), Values<double>(6, 0)};
  head.backward(d, {x, table}, dlogits);
  embedding_backward(d[1].data(), dx.data(), embedding.tokens.data(), 3, 2);

  Values<double> expected = head.plain_backward<double>({x, table}, dlogits)[1];
  const Values<double> from_tokens = scalar_embedding_backward(dx, embedding.tokens, 2, 3);
  for (std::size_t i = 0; i < 6; ++i) expected[i] += from_tokens[i];
  CHECK(within(compare(d[1], expected), float64_budget));
}

TEST_CASE("a wrong token or target is named with its row and the vocabulary", "[layers]") {
  const Tensors<float> table{Values<float>(10, 1)};
  const auto check = [&](const auto& layer, const std::string& index, const std::string& row) {
    CHECK_THROWS_AS(layer.forward(table), std::out_of_range);
    const std::string text = refusal([&] { layer.forward(table); });
    CAPTURE(text);
    CHECK(mentions(text, index + " at row " + row + " "));
    CHECK(mentions(text, "vocabulary of 5"));
  };
  check(Embedding{{0, 4, 5}, 2, 5}, "token 5", "2");
  check(Embedding{{0, -3}, 2, 5}, "token -3", "1");
  check(CrossEntropy{{0, 5}, 5}, "target 5", "1");
}

TEST_CASE("a NaN poisons what sees it and nothing else", "[layers]") {
  const auto poisoned_entries = [](const auto& layer, std::size_t tensor, std::size_t entry) {
    Tensors<double> in = random_inputs(layer);
    in[tensor][entry] = not_a_number;
    std::vector<std::size_t> entries;
    const Values<double> out = layer.forward(in);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (std::isnan(out[i])) entries.push_back(i);
    return entries;
  };
  using Entries = std::vector<std::size_t>;
  CHECK(poisoned_entries(Embedding{{1, 0, 1}, 2, 2}, 0, 3) == Entries{1, 5});
  CHECK(poisoned_entries(RmsNorm{3, 2}, 0, 3) == Entries{2, 3});
  CHECK(poisoned_entries(RmsNorm{3, 2}, 1, 1) == Entries{1, 3, 5});
  CHECK(poisoned_entries(Linear{3, 4, 2}, 0, 5) == Entries{2, 3});
  CHECK(poisoned_entries(Linear{3, 4, 2}, 1, 5) == Entries{1, 3, 5});
  CHECK(poisoned_entries(SwiGlu{2, 2}, 0, 5) == Entries{3});
  CHECK(poisoned_entries(SwiGlu{2, 2}, 0, 6) == Entries{2});
  CHECK(poisoned_entries(CrossEntropy{{0, 1, 1}, 2}, 0, 2) == Entries{1});
  const Values<double> x{1, not_a_number, 2};
  CHECK(std::isnan(squared_norm(x.data(), 3)));
}
