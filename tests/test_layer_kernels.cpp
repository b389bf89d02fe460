// The layers' kernels, emulated, in float and bfloat16: what is asked of the CPU's layers
// (layer_checks.hpp), and what is asked of kernels only.

#include "tests/layer_checks.hpp"
#include "tests/threads.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const KernelLayers<float> in_float;
const KernelLayers<BFloat16> in_bfloat16;

template <class Check>
void in_both_types(Check check) {
  INFO("float");
  check(in_float);
  INFO("and bfloat16");
  check(in_bfloat16);
}

// Rows of one vector and of several, of whole vectors and of single numbers, longer than a block.
template <class Way, class Check>
void for_awkward_sizes(const Way& way, Check check) {
  for (const Index N : {1, 2, 33})
    for (const Index C : {1, 3, 8, 129, 264}) {
      CAPTURE(N, C);
      check(way, RmsNorm{N, C, C == 1 ? 0.5 : 1e-6});
      check(way, SwiGlu{N, C});
      check(way, CrossEntropy{random_indices(N, C, true), C});
      check(way, Heads{{1, N, 2, 1, 2 * C, N}});
      check(way, Heads{{N, 2, 1, 1, C, 2}, false});
    }
  for (const Index C : {1031, 2056}) {
    check(way, RmsNorm{2, C});
    check(way, SwiGlu{2, C});
    check(way, CrossEntropy{random_indices(2, C, false), C});
  }
}

}  // namespace

TEST_CASE("the layers' kernels err no more than the plain loop allows", "[layers][kernels]") {
  in_both_types([](const auto& way) {
    for_awkward_sizes(way, [](const auto& w, const auto& layer) { check_layer(w, layer, 3); });
  });
}

TEST_CASE("the kernels' RMSNorm sums weight gradients over many rows", "[layers][kernels]") {
  in_both_types([](const auto& way) { check_layer(way, RmsNorm{1025, 12}, 1); });
}

TEST_CASE("the kernels' embedding sums equal tokens wherever they stand", "[layers][kernels]") {
  for (const Index N : {1, 15, 16, 17, 32, 33, 300})
    for (const Index C : {1, 4, 7, 132}) {
      CAPTURE(N, C);
      check_layer(in_float, Embedding{std::vector<int>(N, 1), C, 3}, 2);
      check_layer(in_float, Embedding{random_indices(N, 2, false), C, 2}, 2);
      check_layer(in_float, Embedding{random_indices(N, 40, false), C, 40}, 2);
      std::vector<int> different(N);
      std::iota(different.rbegin(), different.rend(), 0);
      check_layer(in_float, Embedding{different, C, N}, 2);
    }
}

TEST_CASE("the layers' kernels give the same bytes in any order of threads", "[layers][kernels]") {
  const auto check = [](const auto& way, const auto& layer) {
    auto other = way;
    other.seed = 2;
    CHECK(same_bytes(all_of(way, layer), all_of(other, layer)));
  };
  in_both_types([&](const auto& way) {
    check(way, Embedding{random_indices(100, 3, false), 5, 3});
    for (const Index C : {33, 264}) {
      check(way, RmsNorm{9, C});
      check(way, SwiGlu{9, C});
      check(way, CrossEntropy{random_indices(9, C, true), C});
      check(way, Heads{{1, 9, 2, 1, 2 * C, 9}});
    }
  });
}

TEST_CASE("the layers' kernels by hand and at their edges", "[layers][kernels]") {
  in_both_types([](const auto& way) {
    check_rmsnorm_by_hand(way);
    check_cross_entropy_by_hand(way);
    check_padding(way);
    check_excluded_logits(way);
    check_large_gates(way);
    check_logits_in_place(way);
    check_what_nan_poisons(way);
    check_heads_in_a_cache(way, {3, 2, 4, 2, 6, 5}, {0, 3, -1});
    check_heads_in_a_cache(way, {2, 3, 2, 1, 16, 4}, {1, 0});
  });
}

TEST_CASE("arrays that do not begin at 16 bytes change no bit", "[layers][kernels]") {
  in_both_types([](const auto& way) {
    using Way = std::decay_t<decltype(way)>;
    const Index N = 3, F = 16;
    const auto gate_up = activations<Way>(converted<float>(normals(N * 2 * F, 1)));
    auto shifted = gate_up, out = poisoned_activations<Way>(N * F), shifted_out = out;
    shifted.insert(shifted.begin(), typename Way::A{});
    shifted_out.push_back(typename Way::A{});
    way.swiglu_forward(out.data(), gate_up.data(), N, F);
    way.swiglu_forward(shifted_out.data() + 1, shifted.data() + 1, N, F);
    shifted_out.erase(shifted_out.begin());
    CHECK(same_bytes(numbers<Way>(shifted_out), numbers<Way>(out)));
  });
}

TEST_CASE("RMSNorm backward also gives the new gradient rounded", "[layers][kernels]") {
  in_both_types([](const auto& way) {
    using Way = std::decay_t<decltype(way)>;
    for (const Index C : {3, 40}) {
      const Index N = 5;
      const auto x = converted<float>(normals(N * C, 1)), weight = converted<float>(normals(C, 2)),
                 dx_before = converted<float>(normals(N * C, 4));
      const auto dout = activations<Way>(converted<float>(normals(N * C, 3)));
      const std::vector<float> rstd(N, 0.5f);
      auto dx = dx_before, dweight = std::vector<float>(C, 0.f), dx2 = dx, dweight2 = dweight;
      auto rounded = poisoned_activations<Way>(N * C);
      way.rmsnorm_backward(dx.data(), rounded.data(), dweight.data(), dout.data(), x.data(),
                           weight.data(), rstd.data(), N, C);
      typename Way::A* const nothing = nullptr;
      way.rmsnorm_backward(dx2.data(), nothing, dweight2.data(), dout.data(), x.data(),
                           weight.data(), rstd.data(), N, C);
      CHECK(dx != dx_before);
      CHECK(dx == dx2);
      CHECK(dweight == dweight2);
      CHECK(numbers<Way>(rounded) == as_given<Way>(dx, true));
    }
  });
}

TEST_CASE("the layers' kernels of no rows do nothing", "[layers][kernels]") {
  in_both_types([](const auto& way) {
    using A = typename std::decay_t<decltype(way)>::A;
    A* const none = nullptr;
    const A* const given = nullptr;
    const std::vector<float>* const no_rope = nullptr;
    way.embedding_forward(nullptr, nullptr, nullptr, 0, 4, 5);
    way.embedding_backward(nullptr, nullptr, nullptr, nullptr, 0, 4, 5);
    way.rmsnorm_forward(none, nullptr, nullptr, nullptr, 0, 4, 1e-6);
    way.rmsnorm_backward(nullptr, none, nullptr, given, nullptr, nullptr, nullptr, 0, 4);
    way.split_heads(none, none, none, given, {0, 3, 2, 1, 4, 3}, no_rope, nullptr);
    way.join_heads(none, given, given, given, {2, 0, 2, 1, 4, 3}, no_rope);
    way.swiglu_forward(none, given, 0, 4);
    way.swiglu_backward(none, given, given, 0, 4);
    way.cross_entropy(nullptr, none, given, nullptr, 0, 4, nullptr);
    way.row_statistics(nullptr, nullptr, nullptr, {}, nullptr, 0, 0, 0);
    way.round(none, nullptr, 0);
    way.adamw_step(nullptr, none, nullptr, nullptr, nullptr, nullptr, 0, {}, nullptr, nullptr);
  });
}
