// Every layer against its equations written once more (scalar_layers.hpp), against central
// differences, and at its edges: awkward sizes, wrong indices, NaN.

#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/finite_differences.hpp"
#include "tests/layer_checks.hpp"
#include "tests/refusal.hpp"
#include "tests/threads.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const CpuLayers<double> in_double;
const CpuLayers<float> in_float;

template <class Layer>
void check_every_derivative(const Layer& layer) {
  Tensors<double> in = random_inputs(layer);
  const auto outputs = [&] { return layer.forward(in_double, in); };
  const Values<double> dout = output_gradient(layer, outputs().size());
  Tensors<double> d;
  for (const Values<double>& x : in) d.emplace_back(x.size(), 0.0);
  layer.backward(in_double, d, in, dout);
  for (std::size_t k = 0; k < in.size(); ++k)
    CHECK(wrong_derivative(in[k], d[k], outputs, dout) == "");
}

template <class Layer>
bool ignores_threads(const Layer& layer) {
  return same_for_any_threads([&] { return all_of(in_float, layer); });
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
      check(Heads{{N, 2, 1, 1, C, 2}, false});
    }
  for (const Index D : {2, 6, 16}) {
    check(Heads{{1, 129, 2, 1, D, 129}});
    check(Heads{{3, 5, 4, 2, D, 5}});
  }
}

}  // namespace

TEST_CASE("layers equal their equations in double, and add to gradients or assign them",
          "[layers]") {
  for_awkward_sizes([](const auto& layer) { check_layer(in_double, layer, 1); });
}

TEST_CASE("layers in float err no more than the plain loop allows", "[layers]") {
  for_awkward_sizes([](const auto& layer) { check_layer(in_float, layer); });
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
      check_every_derivative(Heads{{1, N, 2, 1, 2 * C, N}});
      check_every_derivative(CrossEntropy{random_indices(N, C, true), C});
    }
  check_every_derivative(RmsNorm{2, 129});
  check_every_derivative(Linear{1, 129, 3});
  check_every_derivative(Linear{257, 2, 3});
  check_every_derivative(CrossEntropy{random_indices(2, 257, false), 257});
}

TEST_CASE("layers are the same bytes on any number of threads", "[layers][determinism]") {
  CHECK(ignores_threads(Embedding{random_indices(257, 5, false), 129, 5}));
  CHECK(ignores_threads(RmsNorm{1025, 129}));
  CHECK(ignores_threads(Linear{1025, 129, 65}));
  CHECK(ignores_threads(SwiGlu{1025, 129}));
  CHECK(ignores_threads(CrossEntropy{random_indices(1025, 129, true), 129}));
  const Values<double> x = normals(100'001, 1);
  CHECK(same_for_any_threads([&] { return Values<double>{squared_norm(x.data(), 100'001)}; }));
}

TEST_CASE("RMSNorm keeps 1 / rms and gives rows of unit mean square", "[layers]") {
  check_rmsnorm_by_hand(in_double);
}

TEST_CASE("cross entropy by hand, also where exp overflows", "[layers]") {
  check_cross_entropy_by_hand(in_double);
}

TEST_CASE("padding has no loss and no gradient, whatever its logits", "[layers]") {
  check_padding(in_double);
}

TEST_CASE("a logit of -infinity has no share, and an infinite loss as a target", "[layers]") {
  check_excluded_logits(in_double);
  check_excluded_logits(in_float);
}

TEST_CASE("SwiGLU at large gates neither overflows nor turns to NaN", "[layers]") {
  check_large_gates(in_double);
}

TEST_CASE("the gradient of the logits may take their place", "[layers]") {
  check_logits_in_place(in_float);
}

TEST_CASE("heads are written where their sequences go on", "[layers]") {
  check_heads_in_a_cache(in_double, {3, 2, 4, 2, 6, 5}, {0, 3, -1});
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
  head.backward(in_double, d, Tensors<double>{x, table}, dlogits);
  embedding_backward(d[1].data(), dx.data(), embedding.tokens.data(), 3, 2);

  Values<double> expected = head.plain_backward<double>({x, table}, dlogits)[1];
  const Values<double> from_tokens = scalar_embedding_backward(dx, embedding.tokens, 2, 3);
  for (std::size_t i = 0; i < 6; ++i) expected[i] += from_tokens[i];
  CHECK(within(compare(d[1], expected), float64_budget));
}

TEST_CASE("a wrong token or target is named with its row and the vocabulary", "[layers]") {
  const Tensors<float> table{Values<float>(10, 1)};
  const auto check = [&](const auto& layer, const std::string& index, const std::string& row) {
    CHECK_THROWS_AS(layer.forward(in_float, table), std::out_of_range);
    const std::string text = refusal([&] { layer.forward(in_float, table); });
    CAPTURE(text);
    CHECK(mentions(text, index + " at row " + row + " "));
    CHECK(mentions(text, "vocabulary of 5"));
  };
  check(Embedding{{0, 4, 5}, 2, 5}, "token 5", "2");
  check(Embedding{{0, -3}, 2, 5}, "token -3", "1");
  check(CrossEntropy{{0, 5}, 5}, "target 5", "1");
}

TEST_CASE("a NaN poisons what sees it and nothing else", "[layers]") {
  check_what_nan_poisons(in_double);
  CHECK(poisoned_entries(in_double, Linear{3, 4, 2}, 0, 5) == std::vector<std::size_t>{2, 3});
  CHECK(poisoned_entries(in_double, Linear{3, 4, 2}, 1, 5) == std::vector<std::size_t>{1, 3, 5});
  const Values<double> x{1, not_a_number, 2};
  CHECK(std::isnan(squared_norm(x.data(), 3)));
}
