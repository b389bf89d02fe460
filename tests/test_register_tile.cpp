// The pieces the tiled CPU path is made of: vectors, their powers of two and transposes, and the
// product that stays in registers.

#include "reference/random.hpp"
#include "reference/register_tile.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

template <class T>
T exp2_of(T x) {
  return simd::exp2<T>(simd::broadcast(x))[simd::lanes<T> - 1];
}

template <class T>
std::vector<T> normals(Index count, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> x(count);
  for (T& value : x) value = T(random.normal());
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("2^x is right to a few last bits over its whole range", "[tiles]", float,
                   double) {
  using Limits = std::numeric_limits<TestType>;
  const double low = Limits::min_exponent, high = Limits::max_exponent - 1;
  double worst = 0, at = 0;
  for (double x = low; x <= high; x += (high - low) / 400'003) {
    const TestType input = TestType(x);
    const long double exact = std::exp2((long double)(input));
    const double ulps = std::abs(double((exp2_of(input) - exact) / exact)) / Limits::epsilon();
    if (!(ulps <= worst)) worst = ulps, at = x;
  }
  INFO("worst at " << at << ": " << worst);
  CHECK(worst <= exp2_ulps);
  CHECK(worst > 0);
}

TEMPLATE_TEST_CASE("2^x is exact where the softmax counts on it", "[tiles]", float, double) {
  using Limits = std::numeric_limits<TestType>;
  CHECK(exp2_of(TestType(0)) == 1);
  CHECK(exp2_of(-TestType(0)) == 1);
  for (int n = Limits::min_exponent - 1; n < Limits::max_exponent; ++n) {
    CAPTURE(n);
    CHECK(exp2_of(TestType(n)) == std::ldexp(TestType(1), n));
  }
  const TestType smallest = TestType(Limits::min_exponent - 1);
  for (const TestType x : {std::nextafter(smallest, -Limits::infinity()), TestType(-1e4),
                           TestType(-1e30), Limits::lowest(), -Limits::infinity()}) {
    CAPTURE(x);
    CHECK(exp2_of(x) == 0);
  }
  CHECK(std::isnan(exp2_of(Limits::quiet_NaN())));
}

TEMPLATE_TEST_CASE("2^x grows with x, so that a tile's largest score has its largest weight",
                   "[tiles]", float, double) {
  // Up to the rounding of the last bit or two where the polynomial changes its power.
  const double slack = exp2_ulps * double(std::numeric_limits<TestType>::epsilon());
  TestType before = exp2_of(TestType(-30));
  for (TestType x = TestType(-30); x < 3; x += TestType(1.0 / 4096)) {
    const TestType here = exp2_of(x);
    CAPTURE(x);
    CHECK(here >= before * (1 - slack));
    before = here;
  }
}

TEMPLATE_TEST_CASE("e^x is as right as the rounding of x log2 e allows", "[tiles]", float, double) {
  using Limits = std::numeric_limits<TestType>;
  const auto exp_of = [](TestType x) { return simd::exp<TestType>(simd::broadcast(x))[0]; };
  const double low = std::log(double(Limits::min())), high = std::log(double(Limits::max()));
  Index wrong = 0;
  for (double x = low + 1; x < high - 1; x += (high - low) / 100'003) {
    const TestType input = TestType(x);
    const long double exact = std::exp((long double)(input));
    const double ulps = std::abs(double((exp_of(input) - exact) / exact)) / Limits::epsilon();
    wrong += !(ulps <= exp2_ulps + std::abs(x));
  }
  CHECK(wrong == 0);
  CHECK(exp_of(0) == 1);
  for (const double below : {1.01 * low, 2 * low, -1e30, -double(Limits::infinity())})
    CHECK(exp_of(TestType(below)) == 0);
  CHECK(std::isnan(exp_of(Limits::quiet_NaN())));
}

TEMPLATE_TEST_CASE("vectors do what their names say", "[tiles]", float, double) {
  constexpr int L = simd::lanes<TestType>;
  std::vector<TestType> x = normals<TestType>(L + 1, 1), y = normals<TestType>(L + 1, 2);
  const auto a = simd::load(x.data() + 1), b = simd::load(y.data() + 1);  // unaligned
  TestType sum = 0;
  for (int l = 0; l < L; ++l) {
    CHECK(simd::max(a, b)[l] == std::max(x[l + 1], y[l + 1]));
    CHECK(simd::min(a, b)[l] == std::min(x[l + 1], y[l + 1]));
    CHECK(simd::lane_numbers<TestType>()[l] == l);
    CHECK(simd::broadcast(x[0])[l] == x[0]);
    sum += x[l + 1];
  }
  CHECK(simd::sum<TestType>(a) == sum);
  simd::store(y.data() + 1, a);
  for (int l = 1; l <= L; ++l) CHECK(y[l] == x[l]);
}

TEMPLATE_TEST_CASE("a square of vectors is transposed", "[tiles]", float, double) {
  constexpr int L = simd::lanes<TestType>;
  simd::Vector<TestType> rows[L];
  for (int r = 0; r < L; ++r)
    for (int l = 0; l < L; ++l) rows[r][l] = TestType(100 * r + l);
  simd::transpose<TestType>(rows);
  for (int r = 0; r < L; ++r)
    for (int l = 0; l < L; ++l) CHECK(rows[r][l] == TestType(100 * l + r));
}

TEMPLATE_TEST_CASE("register tiles are the product of their definition, for any width and stride",
                   "[tiles]", float, double) {
  constexpr Index L = simd::lanes<TestType>, R = tile_rows;
  for (Index vectors = 1; vectors <= 9; ++vectors)
    for (const Index depth : {0, 1, 2, 7, 48})
      for (const bool transposed : {false, true})
        for (const Index gap : {0, 3}) {
          CAPTURE(vectors, depth, transposed, gap);
          const Index a_row = transposed ? 1 : depth + gap, a_step = transposed ? R + gap : 1;
          const Index columns = vectors * L, b_step = columns + gap, c_row = columns + gap;
          const auto A = normals<TestType>(std::max(R * a_row, depth * a_step) + R, 3);
          const auto B = normals<TestType>(depth * b_step + 1, 4);
          const auto before = normals<TestType>(R * c_row + 1, 5);
          auto C = before;
          std::vector<double> expected(before.begin(), before.end());
          std::vector<double> sizes(C.size(), 1);
          for (Index r = 0; r < R; ++r)
            for (Index c = 0; c < columns; ++c)
              for (Index t = 0; t < depth; ++t) {
                const double term = double(A[r * a_row + t * a_step]) * double(B[t * b_step + c]);
                expected[r * c_row + c] += term;
                sizes[r * c_row + c] += std::abs(term);
              }
          accumulate_tiles(A.data(), a_row, a_step, B.data(), b_step, depth, C.data(), c_row,
                           vectors);
          Index wrong = 0, touched = 0;
          for (std::size_t i = 0; i < C.size(); ++i) {
            wrong += !sum_agrees<TestType>(C[i], expected[i], sizes[i], depth + 1);
            touched += Index(i) % c_row >= columns && C[i] != before[i];
          }
          CHECK(wrong == 0);
          CHECK(touched == 0);

          std::vector<int> visits(R * vectors, 0);
          register_tiles(
              A.data(), a_row, a_step, B.data(), b_step, depth, vectors,
              [&](int r, Index v, simd::Vector<TestType>) { ++visits[r * vectors + v]; });
          CHECK(visits == std::vector<int>(R * vectors, 1));
        }
}
