// Not-a-number, infinity and memory nobody wrote: what they reach, and what they must not, in every
// implementation. A call that is not finite may be answered by the oracle: what is untouched has
// the oracle's bits.

#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const double nan_value = std::numeric_limits<double>::quiet_NaN();
const double infinity = std::numeric_limits<double>::infinity();

/// The two sequences, four heads on two key heads, used throughout; windows shorter than T.
Problem<double> make_case(Normalizer rule, std::vector<double> tau = {-1, 0.5, -0.3}) {
  return make_problem<double>({{2, 9, 9, 4, 2, 4, 5}, {rule}, std::move(tau), {9, 7}, 0.5});
}

enum class Expect { untouched, poisoned };

/// Row (b, t, h) of a [B, T, H, D] tensor: the same bytes as before, or NaN in every component.
void check_row(const std::vector<double>& before, const std::vector<double>& after,
               const AttentionShape& s, Index b, Index h, Index t, Expect expect) {
  const std::size_t row = query_offset(s, b, t, h);
  INFO("batch " << b << ", head " << h << ", row " << t);
  if (expect == Expect::untouched) {
    CHECK(same_bytes(before, after, row, std::size_t(s.head_dim)));
  } else {
    for (Index d = 0; d < s.head_dim; ++d) CHECK(std::isnan(after[row + d]));
  }
}

/// out and dq of every row are NaN exactly where `sees(b, h, t)`; dk and dv of a key only if such a
/// row sees the key.
template <class Sees>
void check_poison(const Implementation<double>& how, const Problem<double>& clean,
                  const Problem<double>& poisoned, Sees&& sees) {
  const auto before = oracle_attention(clean), after = attention(how, poisoned);
  for_each_row(clean.shape, [&](Index b, Index h, Index t) {
    const bool row_exists = t < clean.lengths[b];
    const Expect expect = row_exists && sees(b, h, t) ? Expect::poisoned : Expect::untouched;
    check_row(before.out, after.out, clean.shape, b, h, t, expect);
    check_row(before.dq, after.dq, clean.shape, b, h, t, expect);
  });
  const AttentionShape& s = clean.shape;
  for (Index b = 0; b < s.batch; ++b)
    for (Index kv = 0; kv < s.kv_heads; ++kv)
      for (Index j = 0; j < s.keys; ++j) {
        bool reached = false;
        for (Index t = j; t < clean.lengths[b]; ++t)
          for (Index h = kv * 2; h < kv * 2 + 2; ++h) reached |= sees(b, h, t);
        const std::size_t i = key_offset(s, b, j, kv);
        INFO("batch " << b << ", key " << j << ", key head " << kv);
        if (!reached) CHECK(same_bytes(before.dk, after.dk, i, std::size_t(s.head_dim)));
        if (!reached) CHECK(same_bytes(before.dv, after.dv, i, std::size_t(s.head_dim)));
        const bool coupled =
            clean.rule.normalizer != Normalizer::sigmoid;  // to the row's other keys
        if (reached && coupled && j < clean.lengths[b]) CHECK(std::isnan(after.dk[i]));
      }
}

}  // namespace

TEST_CASE("a NaN in q, k, bias, tau or sink poisons exactly the rows that see it", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers) {
    const auto p = make_case(rule);
    INFO(name(rule));
    auto q = p;
    q.q[query_offset(p.shape, 0, 4, 2) + 1] = nan_value;
    check_poison(how, p, q, [](Index b, Index h, Index t) { return b == 0 && h == 2 && t == 4; });
    auto k = p;
    k.k[key_offset(p.shape, 1, 3, 1)] = nan_value;
    check_poison(how, p, k, [](Index b, Index h, Index t) { return b == 1 && h >= 2 && t >= 3; });
    for (const Index distance : {0, 4}) {
      auto bias = p;
      bias.bias[1 * 5 + distance] = nan_value;
      check_poison(how, p, bias, [&](Index, Index h, Index t) { return h == 1 && t >= distance; });
    }
    auto tau = p;
    tau.tau[3] = nan_value;
    if (rule == Normalizer::elastic) {
      const auto before = oracle_attention(p), after = attention(how, tau);
      for_each_row(p.shape, [&](Index b, Index h, Index t) {  // dq reads tau through the gate alone
        const bool sees = h == 3 && t < p.lengths[b];
        check_row(before.out, after.out, p.shape, b, h, t,
                  sees ? Expect::poisoned : Expect::untouched);
      });
    } else {
      check_same(attention(how, tau), attention(how, p), 0);
    }
    auto sink = p;
    sink.sink[3] = nan_value;
    if (rule == Normalizer::sink)
      check_poison(how, p, sink, [](Index, Index h, Index) { return h == 3; });
    else
      check_same(attention(how, sink), attention(how, p), 0);
  }
}

TEST_CASE("a non-finite value reaches exactly the rows that attend to its key", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers)
    for (const double poison : {nan_value, infinity})
      for (const Index key : {0, 2, 6}) {
        const auto p = make_case(rule);
        INFO(name(rule) << ", key " << key << ", " << poison);
        auto poisoned = p;
        poisoned.v[key_offset(p.shape, 0, key, 1) + 2] = poison;
        const auto before = oracle_attention(p), after = attention(how, poisoned);
        for_each_row(p.shape, [&](Index b, Index h, Index t) {
          const double weight = before.weights[weight_offset(p.shape, b, h, t) + key];
          const bool attends = b == 0 && h >= 2 && weight != 0;
          const std::size_t row = query_offset(p.shape, b, t, h);
          INFO("batch " << b << ", head " << h << ", row " << t);
          CHECK(std::isfinite(after.out[row + 2]) == !attends);
          for (const Index d : {0, 1, 3}) CHECK(after.out[row + d] == before.out[row + d]);
          for (Index d = 0; d < 4; ++d) {
            if (attends) continue;
            CHECK(after.out[row + d] == before.out[row + d]);
            CHECK(after.dq[row + d] == before.dq[row + d]);
          }
        });
        check_near(after.weights, before.weights);
        CHECK(compare(after.dv, before.dv).error == 0);  // dv does not depend on v
      }
}

TEST_CASE("a non-finite gradient of the output reaches what its row attends to, nothing else",
          "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers)
    for (const double poison : {nan_value, infinity}) {
      const auto p = make_case(rule);
      INFO(name(rule));
      const Index row = 5, head = 0;
      auto poisoned = p;
      poisoned.dout[query_offset(p.shape, 0, row, head) + 1] = poison;
      const auto before = oracle_attention(p), after = attention(how, poisoned);
      for_each_row(p.shape, [&](Index b, Index h, Index t) {
        if (b == 0 && h == head && t == row) return;
        check_row(before.dq, after.dq, p.shape, b, h, t, Expect::untouched);
      });
      for (Index b = 0; b < 2; ++b)
        for (Index j = 0; j < 9; ++j)
          for (Index kv = 0; kv < 2; ++kv)
            for (Index d = 0; d < 4; ++d) {
              const std::size_t i = key_offset(p.shape, b, j, kv) + d;
              const bool in_reach = b == 0 && kv == 0 && j <= row;
              const bool attended = in_reach && d == 1 &&
                                    before.weights[weight_offset(p.shape, 0, head, row) + j] != 0;
              CHECK(std::isfinite(after.dv[i]) == !attended);
              if (!in_reach) CHECK(after.dk[i] == before.dk[i]);
            }
    }
}

TEST_CASE("a dead row swallows a non-finite gradient", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const auto p = make_case(Normalizer::elastic, {-1});  // the first row of every head is dead
  for (const double poison : {nan_value, infinity}) {
    auto poisoned = p;
    for (Index b = 0; b < 2; ++b)
      std::fill_n(poisoned.dout.begin() + query_offset(p.shape, b, 0, 0), 16, poison);
    check_same(attention(how, poisoned), attention(how, p), float64_budget);
  }
}

TEST_CASE("nothing outside a sequence's length is read or left unwritten", "[nonfinite]") {  // T11
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers)
    for (const Index length : {0, 1, 63, 64, 65})
      for (const Index queries : {65, 5}) {
        const auto p = make_problem<double>(
            {{2, queries, 65, 2, 1, 8, 20}, {rule}, {-0.5, 0.5}, {length, 65}, 0.7});
        INFO(describe(p.recipe));
        auto garbage = p;  // all padding of sequence 0 is NaN
        const Index position = queries == 65 ? 0 : length - queries;
        for (Index t = 0; t < queries; ++t)
          if (position + t < 0 || position + t >= length)
            for (auto* x : {&garbage.q, &garbage.dout})
              std::fill_n(x->begin() + query_offset(p.shape, 0, t, 0), 16, nan_value);
        for (Index j = length; j < 65; ++j)
          for (auto* x : {&garbage.k, &garbage.v})
            std::fill_n(x->begin() + key_offset(p.shape, 0, j, 0), 8, nan_value);
        const auto a = attention(how, garbage);
        check_same(a, attention(how, p), float64_budget);
        for (Index t = 0; t < queries; ++t) {
          if (position + t >= 0 && position + t < length) continue;
          for (Index h = 0; h < 2; ++h) {
            CHECK(a.lse[h * queries + t] == -infinity);
            for (Index d = 0; d < 8; ++d) {
              CHECK(a.out[query_offset(p.shape, 0, t, h) + d] == 0);
              CHECK(a.dq[query_offset(p.shape, 0, t, h) + d] == 0);
            }
          }
        }
        for (std::size_t i = key_offset(p.shape, 0, length, 0); i < key_offset(p.shape, 1, 0, 0);
             ++i)
          CHECK((a.dk[i] == 0 && a.dv[i] == 0));
      }
}

TEST_CASE("a bias of minus infinity excludes its keys", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers) {
    auto p = make_case(rule, {-0.4, 0, -1});
    INFO(name(rule));
    for (Index h = 0; h < 4; ++h) p.bias[h * 5 + 2] = -infinity;
    const auto a = attention(how, p);
    for_each_row(p.shape, [&](Index b, Index h, Index t) {
      if (t >= 2) CHECK(a.weights[weight_offset(p.shape, b, h, t) + t - 2] == 0);
    });
    for (const auto& tensor : gradient_tensors<double>)
      for (const double g : a.*tensor.values) CHECK(std::isfinite(g));
    for (const double x : a.out) CHECK(std::isfinite(x));
    for (Index h = 0; h < 4; ++h) CHECK(a.dbias[h * 5 + 2] == 0);
    auto finite = p;  // e^-800 = 0 as well
    for (Index h = 0; h < 4; ++h) finite.bias[h * 5 + 2] = -800;
    check_same(a, attention(how, finite), score_budget(800));
  }
}

TEST_CASE("a row whose keys are all excluded is a row without keys", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Normalizer rule : all_normalizers) {
    auto p = make_case(rule, {-0.4, 0, -1});
    INFO(name(rule));
    std::fill(p.bias.begin(), p.bias.end(), -infinity);  // rows 0..4 see distances 0..4 only
    const auto a = attention(how, p);
    for_each_row(p.shape, [&](Index b, Index h, Index t) {
      if (t > 4) return;
      CHECK(a.lse[(b * 4 + h) * 9 + t] == -infinity);
      for (Index d = 0; d < 4; ++d) {
        CHECK(a.out[query_offset(p.shape, b, t, h) + d] == 0);
        CHECK(a.dq[query_offset(p.shape, b, t, h) + d] == 0);
      }
    });
    for (const auto& tensor : gradient_tensors<double>)
      for (const double g : a.*tensor.values) CHECK(std::isfinite(g));
  }
}

namespace {

/// NaN where the oracle has NaN; every other entry within `budget` of the oracle's.
template <class T>
void check_same_poison(const Implementation<T>& how, const Problem<T>& p) {
  auto got = attention(how, p), expected = oracle_attention(p);
  const auto check = [&](const AnswerTensor<T>& tensor) {
    auto &x = got.*tensor.values, &y = expected.*tensor.values;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::isnan(x[i]) && std::isnan(y[i])) x[i] = y[i] = 0;
    const Comparison c = compare(x, y);
    INFO(tensor.name << ": " << c.where << ", error " << c.error);
    CHECK(within(c, float64_budget));
  };
  for (const auto& tensor : value_tensors<T>) check(tensor);
  for (const auto& tensor : gradient_tensors<T>) check(tensor);
}

}  // namespace

TEST_CASE("poison in any tensor at any place gives what the oracle gives", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  using Member = std::vector<double> Problem<double>::*;
  const std::pair<const char*, Member> tensors[] = {
      {"q", &Problem<double>::q},       {"k", &Problem<double>::k},
      {"v", &Problem<double>::v},       {"dout", &Problem<double>::dout},
      {"bias", &Problem<double>::bias}, {"tau", &Problem<double>::tau},
      {"sink", &Problem<double>::sink}};
  for (const Normalizer rule : {Normalizer::elastic, Normalizer::softmax1, Normalizer::sink})
    for (const Index queries : {103, 3})
      for (const auto& [tensor, member] : tensors)
        for (const double poison : {nan_value, infinity, -infinity})
          for (const std::size_t place : {0, 1, 2}) {
            auto p = make_problem<double>(
                {{2, queries, 103, 2, 1, 8, 50}, {rule}, {-1, -0.3}, {103, 60}, 0.8});
            auto& x = p.*member;
            const std::size_t at = place * (x.size() - 1) / 2;  // first, middle, last
            x[at] = poison;
            INFO(how.name << ": " << describe(p.recipe) << ", " << tensor << "[" << at
                          << "] = " << poison);
            check_same_poison(how, p);
          }
}

TEST_CASE("a bias of minus infinity around the diagonal leaves the keys beyond", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  for (const Index window : {1, 5, 48, 60}) {
    auto p = make_problem<double>({{1, 103, 103, 2, 1, 8, window}, {}, {-1, -0.3}});
    INFO(how.name << ": " << describe(p.recipe));
    std::fill(p.bias.begin(), p.bias.end(), -infinity);
    check_same_poison(how, p);
    auto a = attention_values(how, p);
    for_each_row(p.shape, [&](Index b, Index h, Index t) {
      std::vector<double> row(103, nan_value), expected(103);
      how.weights(p.shape, p.rule, p.inputs(), a.outputs(), b, h, t, 1, row.data());
      oracle::attention_weights(p.shape, p.rule, p.inputs(), b, h, t, 1, expected.data());
      INFO("head " << h << ", row " << t);
      check_near(row, expected);
    });
  }
}

TEST_CASE("a poisoned call leaves nothing behind for the next", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  for (const Index queries : {103, 3}) {
    const auto p = make_problem<double>({{2, queries, 103, 2, 1, 7, 50}, {}, {-1, 0.5}, {103, 9}});
    const auto before = attention(how, p);
    auto poisoned = p;
    for (auto* x : {&poisoned.q, &poisoned.k, &poisoned.v, &poisoned.bias, &poisoned.dout})
      std::fill(x->begin(), x->end(), nan_value);
    attention(how, poisoned);
    check_same(attention(how, p), before, 0);
  }
}

TEST_CASE("values of dead keys are not read when decoding", "[nonfinite]") {
  const auto& how = each_implementation<double>();
  for (const Index queries : {1, 4, 5})
    for (const Index D : {8, 7}) {
      auto p = make_problem<double>({{1, queries, 200, 2, 2, D, 20}, {}, {-1}});
      INFO(how.name << ": " << describe(p.recipe));
      const auto clean = attention_values(how, p);
      Index unread = 0;
      for (Index h = 0; h < 2; ++h)
        for (Index j = 0; j < 200; ++j) {
          bool live = false;
          for (Index t = 0; t < queries; ++t)
            live |= clean.weights[weight_offset(p.shape, 0, h, t) + j] != 0;
          if (live) continue;
          ++unread;
          std::fill_n(p.v.begin() + key_offset(p.shape, 0, j, h), D, nan_value);
        }
      CHECK(unread > 20);
      check_near(attention_values(how, p).out, clean.out);
    }
}
