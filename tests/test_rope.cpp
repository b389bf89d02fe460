// Rotary positions: a rotation of pairs (m, m + D/2), seen by scores through differences alone.

#include <complex>

#include "reference/rope.hpp"
#include "tests/answers.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

std::vector<double> normals(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> x(n);
  for (double& value : x) value = random.normal();
  return x;
}

double dot(const double* x, const double* y, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace

TEST_CASE("a pair (m, m + D/2) turns as a complex number by position * base^(-2m/D)", "[rope]") {
  const Index rows = 7, heads = 3, D = 10, first = 4;
  for (const double base : {10000.0, 50.0}) {
    const auto x = normals(rows * heads * D, 1);
    auto turned = x;
    rope_forward(turned.data(), make_rope_table<double>(20, D, base), rows, heads, first);
    std::vector<double> expected(x.size());
    for (Index t = 0; t < rows; ++t)
      for (Index h = 0; h < heads; ++h)
        for (Index m = 0; m < D / 2; ++m) {
          const std::size_t i = (t * heads + h) * D + m;
          const double angle = double(first + t) * std::pow(base, -2.0 * double(m) / double(D));
          const auto z = std::complex(x[i], x[i + D / 2]) * std::polar(1.0, angle);
          expected[i] = z.real(), expected[i + D / 2] = z.imag();
        }
    check_near(turned, expected);
  }
}

TEST_CASE("scores depend on differences of positions only", "[rope]") {
  const Index T = 10, D = 16;
  const auto table = make_rope_table<double>(100, D, 10000);
  const auto scores = [&](Index first) {
    auto q = normals(T * D, 1), k = normals(T * D, 2);
    rope_forward(q.data(), table, T, 1, first);
    rope_forward(k.data(), table, T, 1, first);
    std::vector<double> s;
    for (Index i = 0; i < T; ++i)
      for (Index j = 0; j < T; ++j) s.push_back(dot(&q[i * D], &k[j * D], D));
    return s;
  };
  check_near(scores(37), scores(0));
}

TEST_CASE("the backward is the transpose, which is the inverse", "[rope]") {
  const Index rows = 9, heads = 2, D = 8;
  const auto table = make_rope_table<double>(30, D, 10000);
  for (const Index first : {0, 21}) {
    const auto x = normals(rows * heads * D, 3), y = normals(rows * heads * D, 4);
    auto forward = x, backward = y;
    rope_forward(forward.data(), table, rows, heads, first);
    rope_backward(backward.data(), table, rows, heads, first);
    check_near({dot(forward.data(), y.data(), y.size())},
               {dot(x.data(), backward.data(), x.size())});
    rope_backward(forward.data(), table, rows, heads, first);
    check_near(forward, x);
  }
}

TEST_CASE("position 0 stays, rows before it are empty and stay too", "[rope]") {
  const Index heads = 2, D = 4;
  const auto table = make_rope_table<double>(5, D, 10000);
  const auto x = normals(5 * heads * D, 5);
  for (const auto turn : {&rope_forward<double>, &rope_backward<double>}) {
    auto y = x;
    turn(y.data(), table, 5, heads, -3);
    CHECK(same_bytes(x, y, 0, 4 * heads * D));
    CHECK_FALSE(same_bytes(x, y));
  }
}

namespace {

constexpr HeadSplit three_sequences{
    .sequences = 3, .length = 2, .heads = 4, .kv_heads = 2, .head_dim = 6, .capacity = 7};

/// A row's `heads` vectors from `from`, rotated to `position`.
std::vector<double> turned_row(const double* from, Index heads, const RopeTable<double>* rope,
                               Index position) {
  std::vector<double> row(from, from + heads * three_sequences.head_dim);
  if (rope) rope_forward(row.data(), *rope, 1, heads, position);
  return row;
}

}  // namespace

TEST_CASE("a joint projection is parted into heads at the rows where its tokens stand", "[rope]") {
  const HeadSplit s = three_sequences;
  const Index query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
  const auto table = make_rope_table<double>(s.capacity, s.head_dim, 10000);
  const auto qkv = normals(s.sequences * s.length * (query + 2 * key), 6);
  const std::vector<Index> filled{3, -1, 5}, empty(3, 0);  // the second sequence rests
  for (const RopeTable<double>* rope : {&table, static_cast<const RopeTable<double>*>(nullptr)})
    for (const std::vector<Index>* past :
         {static_cast<const std::vector<Index>*>(nullptr), &empty, &filled}) {
      CAPTURE(rope != nullptr, past == &filled);
      auto q = normals(s.sequences * s.length * query, 7),
           k = normals(s.sequences * s.capacity * key, 8), v = k;
      auto expected_q = q, expected_k = k, expected_v = v;
      for (Index b = 0; b < s.sequences; ++b)
        for (Index t = 0; t < s.length; ++t) {
          const Index position = (past ? (*past)[b] : 0) + t;
          if (past && (*past)[b] < 0) continue;
          const double* row = &qkv[(b * s.length + t) * (query + 2 * key)];
          const auto put = [](const std::vector<double>& from, double* to) {
            std::copy(from.begin(), from.end(), to);
          };
          const Index cached = (b * s.capacity + position) * key;
          put(turned_row(row, s.heads, rope, position), &expected_q[(b * s.length + t) * query]);
          put(turned_row(row + query, s.kv_heads, rope, position), &expected_k[cached]);
          put(turned_row(row + query + key, s.kv_heads, nullptr, 0), &expected_v[cached]);
        }
      split_heads(q.data(), k.data(), v.data(), qkv.data(), s, rope, past ? past->data() : nullptr);
      CHECK(same_bytes(q, expected_q));
      CHECK(same_bytes(k, expected_k));
      CHECK(same_bytes(v, expected_v));
    }
}

TEST_CASE("joining heads is the transpose of parting them", "[rope]") {
  HeadSplit s = three_sequences;
  s.capacity = s.length = 5;
  const Index N = s.sequences * s.length, query = s.heads * s.head_dim,
              key = s.kv_heads * s.head_dim;
  const auto table = make_rope_table<double>(s.length, s.head_dim, 10000);
  for (const RopeTable<double>* rope : {&table, static_cast<const RopeTable<double>*>(nullptr)}) {
    CAPTURE(rope != nullptr);
    const auto x = normals(N * (query + 2 * key), 9);
    std::vector<double> q(N * query, std::nan("")), k(N * key, std::nan("")), v = k;
    split_heads(q.data(), k.data(), v.data(), x.data(), s, rope, nullptr);
    auto dq = normals(N * query, 10), dk = normals(N * key, 11);
    const auto dv = normals(N * key, 12);
    const double before = dot(q.data(), dq.data(), q.size()) + dot(k.data(), dk.data(), k.size()) +
                          dot(v.data(), dv.data(), v.size());
    std::vector<double> dx(x.size(), std::nan(""));
    join_heads(dx.data(), dq.data(), dk.data(), dv.data(), s, rope);
    check_near({dot(x.data(), dx.data(), x.size())}, {before});
  }
}

TEST_CASE("a float table is the double table rounded once", "[rope]") {
  const Index T = 5000, D = 64;
  const auto exact = make_rope_table<double>(T, D, 10000);
  const auto rounded = make_rope_table<float>(T, D, 10000);
  CHECK(exact.cos.size() == std::size_t(T * D / 2));
  CHECK(rounded.cos == std::vector<float>(exact.cos.begin(), exact.cos.end()));
  CHECK(rounded.sin == std::vector<float>(exact.sin.begin(), exact.sin.end()));
  std::vector<double> cosines, sines;
  for (Index t = 0; t < T; ++t)
    for (Index m = 0; m < D / 2; ++m) {
      const long double angle = t * std::pow(10000.0L, -2.0L * m / D);
      cosines.push_back(double(std::cos(angle))), sines.push_back(double(std::sin(angle)));
    }
  CHECK(within(compare(exact.cos, cosines), score_budget(double(T))));
  CHECK(within(compare(exact.sin, sines), score_budget(double(T))));
}

TEST_CASE("RoPE refuses odd head sizes, bad bases and tables that do not fit", "[rope][misuse]") {
  CHECK(mentions_all(refusal<std::invalid_argument>([] { make_rope_table<double>(4, 7, 10000); }),
                     {"head_dim", "7"}));
  CHECK(mentions_all(refusal<std::invalid_argument>([] { make_rope_table<double>(4, 8, 0); }),
                     {"base", "0"}));
  CHECK(mentions_all(refusal<std::invalid_argument>([] { make_rope_table<double>(4, 8, -3); }),
                     {"base", "-3"}));
  CHECK(mentions_all(
      refusal<std::invalid_argument>([] { make_rope_table<double>(4, 8, std::nan("")); }),
      {"base"}));
  const auto table = make_rope_table<double>(5, 8, 10000);
  std::vector<double> x(6 * 8, 1.0);
  for (const auto turn : {&rope_forward<double>, &rope_backward<double>}) {
    CHECK(refusal<std::invalid_argument>([&] { turn(x.data(), table, 5, 1, 0); }) == "");
    CHECK(mentions_all(refusal<std::invalid_argument>([&] { turn(x.data(), table, 6, 1, 0); }),
                       {"position 5", "5 positions"}));
    CHECK(mentions_all(refusal<std::invalid_argument>([&] { turn(x.data(), table, 2, 1, 4); }),
                       {"position 5", "5 positions"}));
  }
}
