#pragma once
// The two 16-bit number formats of the tensor cores, as bits, and their conversion to and from
// float, rounding to nearest even. Standard library only; the same on the host and on the GPU.

#include <bit>
#include <cstdint>

namespace lazy {

/// 8 bits of exponent, 7 of fraction: float's range.
struct BFloat16 {
  std::uint16_t bits;
};

/// 5 bits of exponent, 10 of fraction: up to 65504.
struct Float16 {
  std::uint16_t bits;
};

constexpr float to_float(float x) {
  return x;
}

constexpr float to_float(BFloat16 x) {
  return std::bit_cast<float>(std::uint32_t(x.bits) << 16);
}

constexpr float to_float(Float16 x) {
  const std::uint32_t sign = std::uint32_t(x.bits & 0x8000) << 16;
  const std::uint32_t exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3FF;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float size = float(fraction) * 0x1p-24f;
    return sign ? -size : size;
  }
  const std::uint32_t high = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | high << 23 | fraction << 13);
}

template <class T>
constexpr T from_float(float x);

template <>
constexpr float from_float<float>(float x) {
  return x;
}

template <>
constexpr BFloat16 from_float<BFloat16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (x != x) return {0x7FFF};
  return {std::uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

template <>
constexpr Float16 from_float<Float16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint16_t sign = bits >> 16 & 0x8000;
  const float size = x < 0 ? -x : x;
  if (x != x) return {0x7FFF};
  if (size >= 65520) return {std::uint16_t(sign | 0x7C00)};
  if (size < 0x1p-14f) {  // subnormal: adding 2^-1 leaves multiples of 2^-24 in the last bits
    const std::uint32_t rounded = std::bit_cast<std::uint32_t>(size + 0.5f);
    return {std::uint16_t(sign | (rounded - std::bit_cast<std::uint32_t>(0.5f)))};
  }
  const std::uint32_t magnitude = (bits & 0x7FFFFFFF) - ((127u - 15u) << 23);
  return {std::uint16_t(sign | (magnitude + 0xFFF + (magnitude >> 13 & 1)) >> 13)};
}

/// n neighbouring numbers of an array, in registers.
template <int n>
struct Floats {
  float values[n];

  constexpr float& operator[](int i) { return values[i]; }
  constexpr float operator[](int i) const { return values[i]; }
};

}  // namespace lazy
