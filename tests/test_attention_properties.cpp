// Who may see whom, in every implementation: causality, ragged batches, decoding, heads and
// sequences, and the same bytes for any number of threads. A comment T1..T24 names the known
// mistake a test guards (tests/README.md).

#include "tests/answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

/// The part of `p` that belongs to sequence `b`, keys [0, keys) and query rows [first, first +
/// rows).
Problem<double> part(const Problem<double>& p, Index b, Index keys, Index first, Index rows) {
  const AttentionShape& s = p.shape;
  Problem<double> one = p;
  one.shape.batch = 1, one.shape.keys = keys, one.shape.queries = rows;
  one.lengths = {keys};
  const auto cut = [](const std::vector<double>& x, std::size_t begin, std::size_t end) {
    return std::vector<double>(x.begin() + begin, x.begin() + end);
  };
  for (const auto member : {&Problem<double>::q, &Problem<double>::dout})
    one.*member = cut(p.*member, query_offset(s, b, first, 0), query_offset(s, b, first + rows, 0));
  for (const auto member : {&Problem<double>::k, &Problem<double>::v})
    one.*member = cut(p.*member, key_offset(s, b, 0, 0), key_offset(s, b, keys, 0));
  return one;
}

/// Adds x into y from entry `begin` on.
void add(const std::vector<double>& x, std::vector<double>& y, std::size_t begin = 0) {
  for (std::size_t i = 0; i < x.size(); ++i) y[begin + i] += x[i];
}

}  // namespace

TEST_CASE("a future token changes no bit of an earlier row, for any tau and rule, NaN included",
          "[properties]") {  // T5
  const auto& how = each_implementation<double>();
  const double infinity = std::numeric_limits<double>::infinity();
  const Index T = 61;
  for (const Normalizer rule : all_normalizers)
    for (const double replacement : {3.0, std::nan(""), infinity, -infinity})
      for (const Index cut : {1, 17, 48, 60}) {
        const auto p = make_problem<double>(
            {{1, T, T, 3, 1, 8, 8}, {rule}, {-1, 0.5, -0.2}, {}, 1, std::uint64_t(cut)});
        INFO(how.name << ": " << describe(p.recipe) << ", tokens from " << cut << " on become "
                      << replacement);
        auto changed = p;
        for (auto* x : {&changed.q, &changed.k, &changed.v}) {
          const std::size_t row = x->size() / T;
          std::fill(x->begin() + cut * row, x->end(), replacement);
        }
        // What is not finite is the oracle's to answer.
        const auto a = std::isfinite(replacement) ? attention(how, p) : oracle_attention(p);
        const auto c = attention(how, changed);
        CHECK(same_bytes(a.out, c.out, 0, query_offset(p.shape, 0, cut, 0)));
        for (Index h = 0; h < 3; ++h) {
          CHECK(same_bytes(a.lse, c.lse, h * T, cut));
          CHECK(same_bytes(a.weights, c.weights, weight_offset(p.shape, 0, h, 0), cut * T));
        }
        for_each_row(p.shape, [&](Index b, Index h, Index t) {
          for (Index j = t + 1; j < T; ++j)
            if (a.weights[weight_offset(p.shape, b, h, t) + j] != 0) FAIL("a weight on the future");
        });
      }
}

TEST_CASE("a row's loss has no gradient in later keys, other queries or other heads",
          "[properties]") {  // T1
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : all_normalizers) {
    auto p = make_problem<double>({{2, 59, 59, 4, 2, 4, 5}, {rule}, {-0.5, 0.5}, {}, 0.5});
    INFO(how.name << ": " << name(rule));
    const Index b = 1, t = 51, h = 3;
    const std::size_t row = query_offset(p.shape, b, t, h);
    for (std::size_t i = 0; i < p.dout.size(); ++i)
      if (i < row || i >= row + 4) p.dout[i] = 0;
    const auto a = attention(how, p);
    bool dq_here = false, dk_here = false;
    for (std::size_t i = 0; i < a.dq.size(); ++i) {
      const bool here = i >= row && i < row + 4;
      dq_here |= here && a.dq[i] != 0;
      if (!here) CHECK(a.dq[i] == 0);
    }
    for (Index kb = 0; kb < 2; ++kb)
      for (Index j = 0; j < 59; ++j)
        for (Index kv = 0; kv < 2; ++kv)
          for (Index d = 0; d < 4; ++d) {
            const std::size_t i = key_offset(p.shape, kb, j, kv) + d;
            const bool seen = kb == b && kv == 1 && j <= t;
            dk_here |= seen && a.dk[i] != 0;
            if (!seen) CHECK((a.dk[i] == 0 && a.dv[i] == 0));
          }
    CHECK((dq_here && dk_here));
    for (Index head = 0; head < 3; ++head) {
      CHECK(a.dtau[head] == 0);
      CHECK(a.dsink[head] == 0);
      for (Index d = 0; d < 5; ++d) CHECK(a.dbias[head * 5 + d] == 0);
    }
  }
}

TEST_CASE("a ragged batch equals each sequence alone", "[properties]") {  // T10, T12
  const auto& how = each_implementation<double>();
  for (const Normalizer rule : all_normalizers)
    for (const Divisor divisor : {Divisor::visible, Divisor::length}) {
      const std::vector<Index> lengths = {97, 1, 0, 50};
      const auto p =
          make_problem<double>({{4, 97, 97, 4, 2, 8, 12}, {rule, divisor}, {-1, 0.5}, lengths});
      INFO(how.name << ": " << describe(p.recipe));
      Answer<double> together = attention(how, p), alone = blank_answer(p);
      std::fill(alone.out.begin(), alone.out.end(), 0.0);
      for (Index b = 0; b < 4; ++b) {
        const Index length = lengths[b];
        const auto one = part(p, b, length, 0, length);
        const Answer<double> a = attention(how, one);
        add(a.out, alone.out, query_offset(p.shape, b, 0, 0));
        add(a.dq, alone.dq, query_offset(p.shape, b, 0, 0));
        add(a.dk, alone.dk, key_offset(p.shape, b, 0, 0));
        add(a.dv, alone.dv, key_offset(p.shape, b, 0, 0));
        add(a.dbias, alone.dbias), add(a.dtau, alone.dtau), add(a.dsink, alone.dsink);
      }
      alone.lse = together.lse, alone.weights = together.weights;
      check_same(together, alone, float64_budget);
    }
}

TEST_CASE("decoding token by token and prefilling in chunks equal one pass, gradients too",
          "[properties]") {  // T9
  const auto& how = each_implementation<double>();
  const Index T = 53;
  for (const Normalizer rule : all_normalizers)
    for (const Index chunk : {1, 4, 5, 53}) {
      const auto p = make_problem<double>({{1, T, T, 4, 2, 8, 6}, {rule}, {-1, 0.5, -0.3}});
      INFO(how.name << ": " << describe(p.recipe) << " in chunks of " << chunk);
      const Answer<double> whole = attention(how, p);
      Answer<double> pieces = blank_answer(p);
      std::fill(pieces.out.begin(), pieces.out.end(), 0.0);
      for (Index first = 0; first < T; first += chunk) {
        const Index rows = std::min(chunk, T - first);
        const Answer<double> a = attention(how, part(p, 0, first + rows, first, rows));
        add(a.out, pieces.out, query_offset(p.shape, 0, first, 0));
        add(a.dq, pieces.dq, query_offset(p.shape, 0, first, 0));
        add(a.dk, pieces.dk), add(a.dv, pieces.dv);
        add(a.dbias, pieces.dbias), add(a.dtau, pieces.dtau), add(a.dsink, pieces.dsink);
        for (Index h = 0; h < 4; ++h)
          std::copy_n(a.lse.begin() + h * rows, rows, pieces.lse.begin() + h * T + first);
      }
      pieces.weights = whole.weights;
      check_same(pieces, whole, float64_budget);
    }
}

TEST_CASE("decoding from a cache longer than the sequence reads its valid part only",
          "[properties]") {  // T9
  const auto& how = each_implementation<double>();
  const auto p = make_problem<double>({{1, 53, 53, 2, 1, 8, 6}, {}, {-0.7, 0.5}});
  CAPTURE(how.name);
  const Answer<double> whole = attention(how, p);
  for (Index t = 0; t < 53; ++t) {
    auto one = part(p, 0, 53, t, 1);
    one.lengths = {t + 1};
    std::fill(one.k.begin() + key_offset(one.shape, 0, t + 1, 0), one.k.end(), std::nan(""));
    std::fill(one.v.begin() + key_offset(one.shape, 0, t + 1, 0), one.v.end(), std::nan(""));
    const auto a = attention(how, one);
    const auto row = whole.out.begin() + query_offset(p.shape, 0, t, 0);
    check_near(a.out, std::vector<double>(row, row + 16));
  }
}

TEST_CASE("heads and sequences do not touch each other", "[properties]") {  // T1
  const auto& how = each_implementation<double>();
  CAPTURE(how.name);
  const auto p = make_problem<double>({{2, 9, 9, 4, 2, 4, 5}, {}, {-0.5, 0.5}});
  const auto a = attention(how, p);
  auto changed = p;
  for (Index t = 0; t < 9; ++t)  // one query head and one key head of sequence 1
    for (Index d = 0; d < 4; ++d) {
      changed.q[query_offset(p.shape, 1, t, 0) + d] += 1;
      changed.k[key_offset(p.shape, 1, t, 1) + d] *= 2;
    }
  const auto c = attention(how, changed);
  CHECK(same_bytes(a.out, c.out, 0, query_offset(p.shape, 1, 0, 0)));
  for_each_row(p.shape, [&](Index b, Index h, Index t) {
    const std::size_t row = query_offset(p.shape, b, t, h);
    const bool alone = t == 0 && h == 0;  // one key: its weight is 1 + tau whatever its score
    const bool same = b == 0 || h == 1 || alone || (t == 0 && h >= 2);
    CHECK(same_bytes(a.out, c.out, row, 4) == same);
  });
}

TEST_CASE("grouped heads equal repeated keys, their gradients the sum over the group",
          "[properties]") {  // T15
  const auto& how = each_implementation<double>();
  for (const Index kv_heads : {1, 2, 4}) {
    CAPTURE(how.name, kv_heads);
    const auto p = make_problem<double>({{2, 61, 61, 4, kv_heads, 8, 6}, {}, {-0.8, 0.5}});
    auto repeated = p;
    repeated.shape.kv_heads = 4;
    repeated.k.resize(p.q.size()), repeated.v.resize(p.q.size());
    const auto each_key = [&](auto&& f) {
      for (Index b = 0; b < 2; ++b)
        for (Index j = 0; j < 61; ++j)
          for (Index h = 0; h < 4; ++h)
            for (Index d = 0; d < 8; ++d)
              f(key_offset(repeated.shape, b, j, h) + d,
                key_offset(p.shape, b, j, h / (4 / kv_heads)) + d);
    };
    each_key([&](std::size_t to, std::size_t from) {
      repeated.k[to] = p.k[from], repeated.v[to] = p.v[from];
    });
    const auto grouped = attention(how, p);
    auto separate = attention(how, repeated);
    std::vector<double> dk(p.k.size(), 0.0), dv(p.v.size(), 0.0);
    each_key([&](std::size_t from, std::size_t to) {
      dk[to] += separate.dk[from], dv[to] += separate.dv[from];
    });
    separate.dk = dk, separate.dv = dv;
    check_same(grouped, separate, float64_budget);
  }
}

namespace {

/// Every bit of an answer, end to end.
template <class T>
std::vector<T> all_of(const Answer<T>& a) {
  std::vector<T> all;
  for (const auto& tensor : value_tensors<T>)
    all.insert(all.end(), (a.*tensor.values).begin(), (a.*tensor.values).end());
  for (const auto& tensor : gradient_tensors<T>)
    all.insert(all.end(), (a.*tensor.values).begin(), (a.*tensor.values).end());
  return all;
}

template <class T>
void check_any_threads(const Implementation<T>& how, const Recipe& recipe) {
  INFO(how.name << ": " << describe(recipe));
  const auto p = make_problem<T>(recipe);
  CHECK(same_for_any_threads([&] { return all_of(attention(how, p)); }));
}

}  // namespace

TEMPLATE_TEST_CASE("the same bytes for 1, 2, 3, 4 and 8 threads and when run again",
                   "[determinism]", double, float) {  // T18
  const auto& how = each_implementation<TestType>();
  for (const Normalizer rule : all_normalizers)
    check_any_threads(how, {{3, 65, 65, 6, 2, 32, 40}, {rule}, {-1, 0.5}, {65, 64, 1}});
  check_any_threads(how, {{1, 400, 400, 2, 1, 8, 70}, {}, {-1, -0.3}});  // heads in pieces
  check_any_threads(how, {{2, 3, 200, 4, 2, 16, 70}, {}, {-1, -0.3}, {200, 77}});
}
