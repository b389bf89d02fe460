// The decoding kernels, emulated: against the equations by the rule for low precision, and what
// they promise beside their numbers: dead values are not read, a key is read once for its group,
// one grid for all lengths, the same bytes in any order of threads.

#include "tests/decode_answers.hpp"
#include "tests/golden_cases.hpp"
#include "tests/plain_16bit.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr LazyType types[] = {LAZY_FLOAT32, LAZY_BFLOAT16, LAZY_FLOAT16};

Problem<float> problem_in(LazyType type, const Recipe& recipe) {
  return without_loss(type == LAZY_FLOAT32    ? make_problem<float>(recipe)
                      : type == LAZY_BFLOAT16 ? rounded_problem<BFloat16>(recipe)
                                              : rounded_problem<Float16>(recipe));
}

void check(LazyType type, const Problem<float>& p) {
  INFO("format " << type << " " << describe(p.recipe));
  const auto got = decode(p, {.type = type, .seed = p.recipe.seed}).answer;
  if (type == LAZY_FLOAT32) check_low_precision(p, got);
  if (type == LAZY_BFLOAT16) check_16bit<BFloat16>(p, got);
  if (type == LAZY_FLOAT16) check_16bit<Float16>(p, got);
}

// Bytes of a row of k or v.
Index row_bytes(LazyType type, const AttentionShape& s) {
  return s.head_dim * (type == LAZY_FLOAT32 ? 4 : 2);
}

// Whether one of the heads first .. first + count - 1 attends to a key.
bool is_live(const Problem<float>& p, const Answer<float>& a, Index b, Index first, Index count,
             Index key) {
  for (Index h = first; h < first + count; ++h)
    if (a.weights[weight_offset(p.shape, b, h, 0) + key] != 0) return true;
  return false;
}

// Sequences of which most keys are dead, for single heads and for whole groups.
Recipe sparse_recipe(Index D, Index heads, Index kv_heads) {
  return {{3, 1, 300, heads, kv_heads, D, 40}, {}, {-1, -2.5}, {300, 131, 0}, 1.4, 7};
}

}  // namespace

TEST_CASE("decoding errs no more than the plain program allows", "[kernels][decoding]") {
  std::uint64_t turn = 0;
  for (const Index D : {32, 64, 128})
    for (const Index group : {1, 2, 3, 8, 32})
      for (const Index T : {1, 33, 64, 130}) {
        const Index W[] = {0, 7, T, 500};
        const double tau[] = {-5, -1, -0.1, 0, 0.5};
        Recipe r;
        r.shape = {4, 1, T, group > 8 ? group : 2 * group, group > 8 ? 1 : 2, D, W[turn % 4]};
        r.tau = {tau[turn % 5], tau[(turn / 2 + 1) % 5], -0.4};
        r.lengths = {T, 1, 0, (T + 1) / 2};
        r.rule.normalizer = turn % 4 == 3 ? Normalizer::softmax : Normalizer::elastic;
        r.rule.divisor = turn % 3 ? Divisor::visible : Divisor::length;
        r.seed = 3000 + turn;
        check(types[turn % 3], problem_in(types[turn % 3], r));
        ++turn;
      }
}

TEST_CASE("decoding sequences of several chunks", "[kernels][decoding]") {
  for (const LazyType type : types)
    for (const Index W : {0, 300, 2000}) {
      check(type, problem_in(type, {{4, 1, 1100, 2, 1, 128, W},
                                    {},
                                    {-1, 0.5},
                                    {1100, 256, 257, 1025},
                                    1.1,
                                    std::uint64_t(W + 1)}));
    }
}

TEST_CASE("decoding on random problems of every kind", "[.][full][kernels][decoding]") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    Recipe r = random_recipe(seed, 400, 8);
    if (!has_kernel(r.rule)) continue;
    r.shape.queries = 1;
    r.shape.head_dim = seed % 5 ? 32 << seed % 2 : 128;
    check(types[seed % 3], problem_in(types[seed % 3], r));
  }
}

TEST_CASE("decoding with scores of any size", "[kernels][decoding]") {
  for (const double shift : {-1e30, -1e4, 1e4, 1e30})
    check(
        LAZY_FLOAT32,
        shifted_scores(problem_in(LAZY_FLOAT32, {{1, 1, 300, 2, 1, 32, 9}, {}, {-1, 0.5}}), shift));
}

TEST_CASE("decoding the golden cases", "[kernels][decoding][golden]") {
  int cases = 0;
  for_each_golden_case([&](const GoldenCase& c) {
    const AttentionShape& s = c.problem.shape;
    if (s.queries == s.keys) return;
    ++cases;
    // Query t of a chunk of several stands where a sequence as long as that ends. A head size that
    // the kernels do not have is filled up with zeros; a power of 4 keeps the scale exact.
    const Index D = s.head_dim == 16 ? 64 : s.head_dim, fill = D / s.head_dim;
    for (Index t = 0; t < s.queries; ++t) {
      auto p = converted<float>(c.problem);
      p.shape.queries = 1, p.shape.head_dim = D;
      for (auto* x : {&p.q, &p.k, &p.v, &p.dout}) x->clear();
      const auto take = [&](std::vector<float>& to, const std::vector<double>& from,
                            std::size_t row, double factor) {
        for (Index d = 0; d < D; ++d)
          to.push_back(d < s.head_dim ? float(factor * from[row + d]) : 0.f);
      };
      for (Index b = 0; b < s.batch; ++b) {
        p.lengths[b] = std::max<Index>(p.lengths[b] - s.queries + 1 + t, 0);
        for (Index h = 0; h < s.heads; ++h)
          take(p.q, c.problem.q, query_offset(s, b, t, h), std::sqrt(double(fill)));
      }
      for (std::size_t row = 0; row < c.problem.k.size(); row += s.head_dim)
        take(p.k, c.problem.k, row, 1), take(p.v, c.problem.v, row, 1);
      p.dout.assign(p.q.size(), 0.f);
      check(LAZY_FLOAT32, p);

      const auto got = decode_values(p, {}).answer;
      double difference = 0, largest = 0;
      for (Index b = 0; b < s.batch; ++b)
        for (Index h = 0; h < s.heads; ++h)
          for (Index d = 0; d < s.head_dim; ++d) {
            const double truth = c.answer.out[query_offset(s, b, t, h) + d];
            largest = std::max(largest, std::abs(truth));
            difference =
                std::max(difference, std::abs(truth - got.out[query_offset(p.shape, b, 0, h) + d]));
          }
      CHECK(difference <= 64 * std::numeric_limits<float>::epsilon() * largest);
    }
  });
  CHECK(cases == 2);
}

TEST_CASE("decoding twice, in different orders of threads, gives the same bytes",
          "[kernels][decoding]") {
  for (const LazyType type : types) {
    const auto p = problem_in(type, {{2, 1, 600, 6, 2, 64, 40}, {}, {-1, 0.5}, {600, 301}});
    const auto once = decode_values(p, {.type = type, .seed = 1}).answer;
    const auto again = decode_values(p, {.type = type, .seed = 2}).answer;
    check_same_bytes(once, again);
  }
}

TEST_CASE("without lengths every key counts", "[kernels][decoding]") {
  const auto p = problem_in(LAZY_FLOAT32, {{2, 1, 70, 4, 2, 32, 9}, {}, {-1}});
  check_same_bytes(decode_values(p, {.all_keys = true}).answer, decode_values(p, {}).answer);
}

TEST_CASE("a single key has weight 1 + tau exactly", "[kernels][decoding]") {
  for (const LazyType type : types) {
    const auto p =
        problem_in(type, {{16, 1, 20, 2, 1, 32, 3}, {}, {-1, 0}, std::vector<Index>(16, 1)});
    const auto got = decode(p, {.type = type}).answer;
    for (Index b = 0; b < 16; ++b)
      for (Index d = 0; d < 32; ++d) {
        CHECK(got.out[query_offset(p.shape, b, 0, 0) + d] == 0);
        CHECK(got.out[query_offset(p.shape, b, 0, 1) + d] == p.v[key_offset(p.shape, b, 0, 0) + d]);
      }
  }
}

TEST_CASE("keys are loaded once for their group, values only where a head is alive",
          "[kernels][decoding]") {
  for (const LazyType type : types)
    for (const Index group : {1, 3, 4, 8, 32}) {
      const auto p = problem_in(type, sparse_recipe(64, 2 * group, 2));
      const AttentionShape& s = p.shape;
      const auto got = decode(p, {.type = type});
      // Groups of more than 8 heads are divided, and each part loads the values that it needs.
      const Index part = group <= 4 ? 4 : 8;
      Index keys = 0, parts = 0, live = 0;
      for (Index b = 0; b < s.batch; ++b)
        for (Index h = 0; h < s.kv_heads; ++h)
          for (Index j = 0; j < p.lengths[b]; ++j) {
            ++keys;
            for (Index first = 0; first < group; first += part) {
              ++parts;
              live +=
                  is_live(p, got.answer, b, h * group + first, std::min(part, group - first), j);
            }
          }
      INFO("format " << type << ", group " << group << ": " << live << " of " << parts << " live");
      CHECK(live > 0);
      CHECK(live < parts);
      CHECK(got.counters.loaded_bytes == row_bytes(type, s) * (keys + live));
    }
}

TEST_CASE("values of dead keys, and all beyond the length, may be anything when decoding",
          "[kernels][decoding]") {
  for (const LazyType type : types)
    for (const Index D : {32, 64, 128}) {
      const auto p = problem_in(type, sparse_recipe(D, 4, 2));
      const AttentionShape& s = p.shape;
      const auto clean = decode(p, {.type = type}).answer;
      auto poisoned = p;
      Index dead = 0;
      for (Index b = 0; b < s.batch; ++b)
        for (Index h = 0; h < s.kv_heads; ++h)
          for (Index j = 0; j < s.keys; ++j) {
            if (j < p.lengths[b] && is_live(p, clean, b, 2 * h, 2, j)) continue;
            std::fill_n(poisoned.v.begin() + key_offset(s, b, j, h), D, nan_value);
            if (j >= p.lengths[b])
              std::fill_n(poisoned.k.begin() + key_offset(s, b, j, h), D, nan_value);
            dead += j < p.lengths[b];
          }
      CHECK(dead > 100);
      const auto got = decode_values(poisoned, {.type = type}).answer;
      CHECK(same_bytes(got.out, clean.out));
      CHECK(same_bytes(got.lse, clean.lse));
    }
}

TEST_CASE("a value that is none reaches the heads that attend to it, and no other",
          "[kernels][decoding]") {
  for (const LazyType type : types) {
    const auto p = problem_in(type, sparse_recipe(32, 4, 1));
    const AttentionShape& s = p.shape;
    const auto clean = decode(p, {.type = type}).answer;
    Index divided = 0;
    for (Index j = 0; j < p.lengths[1]; j += 3) {
      auto bad = p;
      bad.v[key_offset(s, 1, j, 0) + 5] = nan_value;
      const auto got = decode_values(bad, {.type = type}).answer;
      Index reached = 0;
      for (Index h = 0; h < s.heads; ++h) {
        const bool live = clean.weights[weight_offset(s, 1, h, 0) + j] != 0;
        reached += live;
        CHECK(std::isnan(got.out[query_offset(s, 1, 0, h) + 5]) == live);
      }
      divided += reached > 0 && reached < s.heads;
    }
    CHECK(divided > 0);
  }
}

TEST_CASE("NaN and infinity reach in decoding what they reach in the oracle",
          "[kernels][decoding]") {
  const auto p = problem_in(LAZY_FLOAT32, {{2, 1, 300, 4, 2, 32, 5}, {}, {-1, 0.5}, {300, 70}});
  const auto check_pattern = [](const Problem<float>& poisoned) {
    const auto got = decode_values(poisoned, {}).answer;
    const auto truth = oracle_attention(poisoned);
    const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
      for (std::size_t i = 0; i < x.size(); ++i)
        if (std::isnan(x[i]) != std::isnan(y[i]) || std::isinf(x[i]) != std::isinf(y[i]))
          return false;
      return x.size() == y.size();
    };
    CHECK(same(got.out, truth.out));
    CHECK(same(got.lse, truth.lse));
  };
  auto in_k = p, in_q = p, in_tau = p;
  in_k.k[key_offset(p.shape, 0, 290, 1)] = nan_value;
  check_pattern(in_k);
  in_q.q[query_offset(p.shape, 1, 0, 2)] = nan_value;
  check_pattern(in_q);
  in_tau.tau[3] = nan_value;
  check_pattern(in_tau);
  for (const float x : {nan_value, HUGE_VALF, -HUGE_VALF}) {
    auto in_bias = p;
    in_bias.bias[1 * 5 + 2] = x;
    check_pattern(in_bias);
  }
}

TEST_CASE("the launches of decoding do not depend on the lengths", "[kernels][decoding]") {
  const Recipe recipe{{3, 1, 700, 4, 2, 32, 9}, {}, {-1}, {0, 0, 0}};
  auto p = problem_in(LAZY_FLOAT32, recipe);
  const auto empty = decode_values(p, {});
  CHECK(empty.counters.launches == 3);
  CHECK(empty.counters.loaded_bytes == 0);
  for (const float x : empty.answer.out) CHECK(x == 0);
  for (const float x : empty.answer.lse) CHECK(x == -HUGE_VALF);
  for (const std::vector<Index>& lengths : {std::vector<Index>{700, 700, 700}, {1, 257, 699}}) {
    p.lengths = lengths;
    const auto got = decode_values(p, {});
    CHECK(got.counters.launches == 3);
    CHECK(got.counters.blocks == empty.counters.blocks);
    CHECK(got.shared_bytes == empty.shared_bytes);
  }
}

TEST_CASE("decoding refuses what it does not compute and says what does", "[kernels][decoding]") {
  const auto p = problem_in(LAZY_FLOAT32, {{2, 1, 7, 4, 2, 32, 3}});
  auto answer = blank_answer(p);
  FormattedInputs tensors(p, LAZY_FLOAT32);
  std::vector<float> space(1 << 16);
  const auto says = [&](auto spoil, std::initializer_list<const char*> parts) {
    LazyAttention a = kernel_call(p, {});
    LazyInputs in = tensors.inputs(p);
    LazyOutputs out{answer.out.data(), answer.lse.data(), nullptr, nullptr};
    void* workspace = space.data();
    spoil(a, in, out, workspace);
    CHECK(lazy_attention_decode(&a, &in, &out, workspace, nullptr) == LAZY_REFUSED);
    INFO(lazy_attention_error());
    CHECK(mentions_all(lazy_attention_error(), parts));
  };
  using A = LazyAttention;
  using I = LazyInputs;
  using O = LazyOutputs;
  says([](A& a, I&, O&, void*&) { a.queries = 3; },
       {"one query", "not 3", "lazy_attention_forward"});
  says([](A& a, I&, O&, void*&) { a.head_dim = 48; },
       {"float32 with D = 48", "32, 64 or 128", "lazy_attention_forward"});
  says([](A& a, I&, O&, void*&) { a.rung = "v1"; }, {"no rung v1", "leave the choice"});
  says([](A& a, I&, O&, void*&) { a.kv_heads = 3; }, {"heads (4)", "kv_heads (3)"});
  says([](A& a, I&, O&, void*&) { a.keys = 0; }, {"queries is 1", "0 and 0"});
  says([](A&, I& in, O&, void*&) { in.q = nullptr; }, {"q is null"});
  says([](A&, I& in, O&, void*&) { in.bias = nullptr; }, {"bias is null"});
  says([](A&, I& in, O&, void*&) { in.k = static_cast<const float*>(in.k) + 1; },
       {"k does not begin", "16 bytes"});
  says([](A&, I& in, O&, void*&) { in.v = static_cast<const float*>(in.v) + 2; },
       {"v does not begin", "16 bytes"});
  says([](A&, I&, O& out, void*&) { out.out = nullptr; }, {"out is null"});
  says([](A&, I&, O& out, void*&) { out.lse = nullptr; }, {"lse is null"});
  says([](A&, I&, O&, void*& workspace) { workspace = nullptr; }, {"workspace is null"});

  LazyAttention none = kernel_call(p, {});
  none.batch = 0;
  LazyDecodeSizes sizes{1};
  CHECK(lazy_attention_decode_sizes(&none, &sizes) == LAZY_OK);
  CHECK(sizes.workspace == 0);
  CHECK(lazy_attention_decode(&none, nullptr, nullptr, nullptr, nullptr) == LAZY_OK);
  CHECK(lazy_attention_decode_sizes(&none, nullptr) == LAZY_REFUSED);
  CHECK(lazy_attention_decode(nullptr, nullptr, nullptr, nullptr, nullptr) == LAZY_REFUSED);
}
