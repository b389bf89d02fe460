// Every public function of every implementation refuses what cannot be meant, with names and sizes.

#include <functional>

#include "tests/answers.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

using Call = std::function<void(const Problem<double>&, const AttentionInputs<double>&)>;

/// The public functions that take a whole attention problem.
std::vector<std::pair<const char*, Call>> functions(const Implementation<double>& how) {
  return {
      {"validate", [](const auto& p, const auto& in) { validate(p.shape, p.rule, in); }},
      {"forward",
       [&](const auto& p, const auto& in) {
         std::vector<double> out(1000), lse(1000);
         how.forward(p.shape, p.rule, in, {out.data(), lse.data()});
       }},
      {"backward",
       [&](const auto& p, const auto& in) {
         std::vector<double> g(1400), lse(1000);
         how.backward(p.shape, p.rule, in, {g.data() + 1200, lse.data()}, g.data(),
                      {g.data(), g.data() + 200, g.data() + 400, g.data() + 600, g.data() + 800,
                       g.data() + 900});
       }},
      {"weights",
       [&](const auto& p, const auto& in) {
         std::vector<double> w(1000), lse(1000);
         how.weights(p.shape, p.rule, in, {w.data(), lse.data()}, 0, 0, 0, 1, w.data());
       }},
  };
}

using Change = std::function<void(Problem<double>&, AttentionInputs<double>&)>;

struct Mistake {
  Change make;
  std::initializer_list<const char*> words;
};

const Mistake mistakes[] = {
    {[](auto& p, auto&) { p.shape.batch = -1; }, {"batch"}},
    {[](auto& p, auto&) { p.shape.queries = -2; }, {"queries"}},
    {[](auto& p, auto&) { p.shape.keys = -3; }, {"keys"}},
    {[](auto& p, auto&) { p.shape.heads = 3; }, {"heads (3)", "kv_heads (2)"}},
    {[](auto& p, auto&) { p.shape.heads = 0; }, {"heads (0)"}},
    {[](auto& p, auto&) { p.shape.kv_heads = 0; }, {"kv_heads (0)"}},
    {[](auto& p, auto&) { p.shape.head_dim = 0; }, {"head_dim is 0"}},
    {[](auto& p, auto&) { p.shape.window = -1; }, {"window is -1"}},
    {[](auto& p, auto&) { p.shape.queries = 6; }, {"queries (6)", "keys (5)"}},
    {[](auto&, auto& in) { in.q = nullptr; }, {"q", "null"}},
    {[](auto&, auto& in) { in.k = nullptr; }, {"k", "null"}},
    {[](auto&, auto& in) { in.v = nullptr; }, {"v", "null"}},
    {[](auto&, auto& in) { in.bias = nullptr; }, {"bias is null", "window is 3"}},
    {[](auto&, auto& in) { in.tau = nullptr; }, {"tau is null", "elastic"}},
    {[](auto& p, auto& in) { p.rule.normalizer = Normalizer::sink, in.sink = nullptr; },
     {"sink is null"}},
    {[](auto& p, auto&) { p.lengths[1] = 6; }, {"lengths[1] is 6", "keys (5)"}},
    {[](auto& p, auto&) { p.lengths[0] = -1; }, {"lengths[0] is -1"}},
};

}  // namespace

TEST_CASE("every wrong size and missing tensor is refused by every function", "[misuse]") {
  const auto& how = each_implementation<double>();
  for (const auto& entry : functions(how))
    for (const Mistake& mistake : mistakes) {
      const auto& function = entry.first;
      const auto& call = entry.second;
      auto p = make_problem<double>({{2, 5, 5, 4, 2, 4, 3}});
      INFO(how.name << ": " << function << " should name " << *mistake.words.begin());
      AttentionInputs<double> in = p.inputs();
      CHECK(refusal<std::invalid_argument>([&] { call(p, in); }) == "");
      mistake.make(p, in);
      const std::string error = refusal<std::invalid_argument>([&] { call(p, in); });
      INFO("says: " << error);
      CHECK(mentions_all(error, mistake.words));
    }
}

TEST_CASE("what a rule does not read may be missing", "[misuse]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  auto p = make_problem<double>({{2, 5, 5, 4, 2, 4, 0}, {Normalizer::softmax}});
  const auto expected = attention(how, p);
  auto a = blank_answer(p);
  const AttentionInputs<double> in{p.q.data(), p.k.data(), p.v.data(), nullptr,
                                   nullptr,    nullptr,    nullptr};  // no lengths: all keys
  how.forward(p.shape, p.rule, in, a.outputs());
  how.backward(p.shape, p.rule, in, a.outputs(), p.dout.data(),
               {a.dq.data(), a.dk.data(), a.dv.data()});
  a.weights = expected.weights;
  check_same(a, expected, 0);
}

TEST_CASE("no sequences, or no queries, is nothing to do", "[misuse]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const AttentionShape shape :
       {AttentionShape{0, 5, 5, 2, 1, 4, 3}, AttentionShape{2, 0, 0, 2, 1, 4, 3},
        AttentionShape{2, 0, 5, 2, 1, 4, 3}}) {
    const auto p = make_problem<double>({shape});
    auto a = blank_answer(p);
    how.forward(p.shape, p.rule, p.inputs(), a.outputs());
    how.backward(p.shape, p.rule, p.inputs(), a.outputs(), p.dout.data(), a.grads());
    for (const auto& tensor : gradient_tensors<double>)
      for (const double g : a.*tensor.values) CHECK(g == 0);
  }
}

TEST_CASE("missing outputs, gradients and rows outside the problem are refused", "[misuse]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const auto p = make_problem<double>({{2, 5, 5, 4, 2, 4, 3}});
  auto a = blank_answer(p);
  const auto forward = [&](AttentionOutputs<double> out) {
    return refusal<std::invalid_argument>([&] { how.forward(p.shape, p.rule, p.inputs(), out); });
  };
  CHECK(mentions_all(forward({nullptr, a.lse.data()}), {"out", "null"}));
  CHECK(mentions_all(forward({a.out.data(), nullptr}), {"lse", "null"}));
  const auto backward = [&](const double* dout, AttentionGrads<double> grads) {
    return refusal<std::invalid_argument>(
        [&] { how.backward(p.shape, p.rule, p.inputs(), a.outputs(), dout, grads); });
  };
  CHECK(mentions_all(backward(nullptr, a.grads()), {"dout", "null"}));
  for (const auto member :
       {&AttentionGrads<double>::dq, &AttentionGrads<double>::dk, &AttentionGrads<double>::dv,
        &AttentionGrads<double>::dbias, &AttentionGrads<double>::dtau}) {
    auto grads = a.grads();
    grads.*member = nullptr;
    CHECK(mentions_all(backward(p.dout.data(), grads), {"null"}));
  }
  const auto weights = [&](Index b, Index head, Index first, Index rows, double* to) {
    return refusal<std::invalid_argument>(
        [&] { how.weights(p.shape, p.rule, p.inputs(), a.outputs(), b, head, first, rows, to); });
  };
  CHECK(weights(1, 3, 3, 2, a.weights.data()) == "");
  CHECK(mentions_all(weights(2, 0, 0, 1, a.weights.data()), {"2"}));
  CHECK(mentions_all(weights(0, 4, 0, 1, a.weights.data()), {"4"}));
  CHECK(mentions_all(weights(0, 0, 4, 2, a.weights.data()), {"4", "2", "5"}));
  CHECK(mentions_all(weights(0, 0, -1, 1, a.weights.data()), {"-1"}));
  CHECK(mentions_all(weights(0, 0, 0, 1, nullptr), {"null"}));
  a.lse.clear(), a.lse.shrink_to_fit();  // only implementations that read it ask for it
  if (how.name != implementations<double>[0].name) {
    std::vector<double> row(5);
    CHECK(mentions_all(weights(0, 0, 0, 1, row.data()), {"lse", "null"}));
    CHECK(mentions_all(backward(p.dout.data(), a.grads()), {"lse", "null"}));
  }
}
