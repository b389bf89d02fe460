#pragma once
// Vectors of the widest registers the build may use (SSE2, AVX2, AVX-512, NEON from one source), as
// the vector extensions of GCC and Clang: + - * and comparisons work lane by lane.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lazy::simd {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr int vector_bytes = 16, vector_registers = 32;
#else
inline constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

/// Entries of one vector.
template <class T>
inline constexpr int lanes = vector_bytes / int(sizeof(T));

template <class T>
Vector<T> load(const T* from) {
  Vector<T> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class T>
void store(T* to, Vector<T> x) {
  std::memcpy(to, &x, sizeof x);
}
/// The first `count` lanes, the others 0; and back.
template <class T>
Vector<T> load_first(const T* from, std::int64_t count) {
  if (count >= lanes<T>) return load(from);
  Vector<T> x = {};
  std::memcpy(&x, from, count * sizeof(T));
  return x;
}
template <class T>
void store_first(T* to, Vector<T> x, std::int64_t count) {
  std::memcpy(to, &x, std::min<std::int64_t>(count, lanes<T>) * sizeof(T));
}
template <class T>
Vector<T> broadcast(T x) {
  return Vector<T>{} + x;
}
/// x > y ? x : y lane by lane: y where one of them is NaN.
template <class V>
[[gnu::always_inline]] inline V max(V x, V y) {
#if defined(__AVX512F__)  // one instruction, where GCC makes a mask and a blend of the comparison
  if constexpr (std::is_same_v<V, Vector<float>>) return V(_mm512_max_ps(__m512(x), __m512(y)));
  if constexpr (std::is_same_v<V, Vector<double>>) return V(_mm512_max_pd(__m512d(x), __m512d(y)));
#endif
  return x > y ? x : y;
}
template <class V>
[[gnu::always_inline]] inline V min(V x, V y) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<V, Vector<float>>) return V(_mm512_min_ps(__m512(x), __m512(y)));
  if constexpr (std::is_same_v<V, Vector<double>>) return V(_mm512_min_pd(__m512d(x), __m512d(y)));
#endif
  return x < y ? x : y;
}

/// Whether a lane is above 0.
template <class T>
bool any_positive(Vector<T> x) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_cmp_ps_mask(__m512(x), __m512{}, _CMP_GT_OQ) != 0;
  if constexpr (std::is_same_v<T, double>)
    return _mm512_cmp_pd_mask(__m512d(x), __m512d{}, _CMP_GT_OQ) != 0;
#endif
  bool any = false;
  for (int l = 0; l < lanes<T>; ++l) any |= x[l] > 0;
  return any;
}

/// 0, 1, 2, ... lane by lane.
template <class T>
Vector<T> lane_numbers() {
  Vector<T> x;
  for (int l = 0; l < lanes<T>; ++l) x[l] = T(l);
  return x;
}

/// Lane by lane in a fixed order, whatever the width of the sum's source.
template <class T>
T sum(Vector<T> x) {
  T total = 0;
  for (int l = 0; l < lanes<T>; ++l) total += x[l];
  return total;
}

/// Transposes a square of vectors in place, in log2(lanes) rounds of exchanges.
template <class T>
[[gnu::always_inline]] inline void transpose(Vector<T> (&rows)[lanes<T>]) {
  [&]<int... lane>(std::integer_sequence<int, lane...>) {
    const auto exchange = [&]<int step>(std::integral_constant<int, step>) {
#pragma GCC unroll 16
      for (int r = 0; r < lanes<T>; ++r) {
        if (r & step) continue;
        const Vector<T> a = rows[r], b = rows[r + step];
#if defined(__clang__)
        rows[r] = __builtin_shufflevector(a, b, (lane & step ? lanes<T> + lane - step : lane)...);
        rows[r + step] =
            __builtin_shufflevector(a, b, (lane & step ? lanes<T> + lane : lane + step)...);
#else
        using Indices = Vector<std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>>;
        rows[r] =
            __builtin_shuffle(a, b, Indices{(lane & step ? lanes<T> + lane - step : lane)...});
        rows[r + step] =
            __builtin_shuffle(a, b, Indices{(lane & step ? lanes<T> + lane : lane + step)...});
#endif
      }
    };
    exchange(std::integral_constant<int, 1>());
    if constexpr (lanes < T >> 2) exchange(std::integral_constant<int, 2>());
    if constexpr (lanes < T >> 4) exchange(std::integral_constant<int, 4>());
    if constexpr (lanes < T >> 8) exchange(std::integral_constant<int, 8>());
  }
  (std::make_integer_sequence<int, lanes<T>>());
}

template <class T>
struct Exp2;
template <>
struct Exp2<float> {
  using Integer = std::int32_t;
  static constexpr int mantissa_bits = 23, bias = 127, degree = 6;
};
template <>
struct Exp2<double> {
  using Integer = std::int64_t;
  static constexpr int mantissa_bits = 52, bias = 1023, degree = 12;
};

constexpr double factorial(int n) {
  return n < 2 ? 1 : n * factorial(n - 1);
}
constexpr double power(double x, int n) {
  return n == 0 ? 1 : n < 0 ? power(x, n + 1) / x : x * power(x, n - 1);
}

/// Coefficient of x^k in a polynomial of degree n - 1 for 2^x on [-1/2, 1/2]: its Taylor series up
/// to x^n, where x^n is replaced by what is left of it without the Chebyshev polynomial T_n(2x).
constexpr double exp2_coefficient(int k, int n) {
  const auto taylor = [](int i) { return power(0.69314718055994530942, i) / factorial(i); };
  if ((n - k) % 2 != 0) return taylor(k);
  const int m = (n - k) / 2;
  const double chebyshev =
      0.5 * n * power(-1, m) * factorial(n - m - 1) / (factorial(m) * factorial(k)) * power(4, k);
  return taylor(k) - taylor(n) * power(2, 1 - 2 * n) * chebyshev;
}

template <class T>
inline constexpr auto exp2_coefficients = [] {
  std::array<T, Exp2<T>::degree + 1> c;
  for (int k = 0; k <= Exp2<T>::degree; ++k) c[k] = T(exp2_coefficient(k, Exp2<T>::degree + 1));
  return c;
}();

/// 2^(c x) for c x up to 127 (double: 1023), to the last bit or two: 2^round(c x) from the
/// exponent's bits times a polynomial on [-1/2, 1/2]. Exactly 1 at 0, exactly 0 below the smallest
/// normal number; NaN stays NaN; meaningless where c x is larger.
template <class T>
[[gnu::always_inline]] inline Vector<T> exp2_of_multiple(T c, Vector<T> x) {
  using E = Exp2<T>;
  using Bits = Vector<typename E::Integer>;
  // Adding 1.5 * 2^mantissa_bits rounds to an integer, whose bits then end the mantissa.
  constexpr T rounding = T(3ll << (E::mantissa_bits - 1)) + T(E::bias);
  const Vector<T> rounded = x * c + rounding, fraction = x * c - (rounded - rounding);
  Vector<T> polynomial = broadcast(exp2_coefficients<T>[E::degree]);
#pragma GCC unroll 16
  for (int k = E::degree - 1; k >= 0; --k)
    polynomial = polynomial * fraction + exp2_coefficients<T>[k];
  Bits bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  bits <<= E::mantissa_bits;
  Vector<T> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < T(1 - E::bias) / c ? Vector<T>{} : polynomial * scale;
}

template <class T>
[[gnu::always_inline]] inline Vector<T> exp2(Vector<T> x) {
  return exp2_of_multiple<T>(1, x);
}
template <class T>
[[gnu::always_inline]] inline Vector<T> exp(Vector<T> x) {
  return exp2_of_multiple<T>(T(1.44269504088896340736), x);
}

}  // namespace lazy::simd
