#pragma once
// The words of simt.hpp on the CPU: every access is checked, every meeting takes place.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "cuda/simt/block.hpp"
#include "cuda/simt/commands.hpp"
#include "cuda/simt/formats.hpp"

// What nvcc calls the kinds of functions; here all are ordinary ones.
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

namespace lazy::emulated {

inline int thread_index() {
  return block().thread();
}
inline Dim block_index() {
  return block().index();
}
inline Dim grid_size() {
  return block().grid();
}

inline void barrier(Where where = Where::current()) {
  block().barrier(where);
}
inline void warp_barrier(Where where = Where::current()) {
  block().warp_barrier(where);
}

// ---- Memory.

/// An index that knows in which line of the kernel it is written.
struct At {
  std::int64_t index;
  Where where;
  At(std::integral auto i, Where where = Where::current())
      : index(static_cast<std::int64_t>(i)), where(where) {}
};

/// A pointer to global memory that knows where its array begins and ends.
template <class T>
class Global {
 public:
  Global() = default;
  Global(T* data, std::int64_t count) : at_(data), begin_(data), end_(data + count) {}
  template <class U>
  requires std::same_as<T, const U> Global(const Global<U>& other)  // from T* to const T*
      : at_(other.at_), begin_(other.begin_), end_(other.end_) {}

  T& operator[](At at) const {
    check(at, 1);
    return at_[at.index];
  }
  Global operator+(std::int64_t n) const {
    Global moved = *this;
    moved.at_ += n;
    return moved;
  }
  explicit operator bool() const { return at_ != nullptr; }

  /// For the words that touch several elements at once.
  T* checked(At at, std::int64_t count) const {
    check(at, count);
    return at_ + at.index;
  }

 private:
  template <class U>
  friend class Global;
  T *at_ = nullptr, *begin_ = nullptr, *end_ = nullptr;

  void check(At at, std::int64_t count) const {
    const std::int64_t i = at_ - begin_ + at.index, size = end_ - begin_;
    if (i < 0 || i + count > size)
      block().fail(Fault::out_of_bounds, at.where,
                   "element " + std::to_string(i) + " of an array of " + std::to_string(size) +
                       " in global memory");
    if (const auto address = reinterpret_cast<std::uintptr_t>(at_ + at.index);
        address % alignof(T) != 0)
      block().fail(Fault::misaligned, at.where,
                   "element " + std::to_string(i) + " of an array in global memory lies " +
                       std::to_string(address % alignof(T)) + " bytes beyond a multiple of " +
                       std::to_string(alignof(T)));
  }
};

/// A pointer to shared memory that knows where its array begins and ends.
template <class T>
class Shared {
 public:
  Shared() = default;
  Shared(std::size_t byte, std::int64_t count)
      : byte_(static_cast<std::int64_t>(byte)),
        begin_(byte_),
        end_(byte_ + count * std::int64_t(sizeof(T))) {}

  /// One element: what reads and writes it goes through the emulator.
  class Element {
   public:
    Element(std::size_t byte, Where where) : byte_(byte), where_(where) {}
    operator T() const {
      T value;
      block().count_access(byte_, where_);
      block().read_shared(byte_, &value, sizeof value, where_);
      return value;
    }
    const Element& operator=(T value) const {
      block().count_access(byte_, where_);
      block().write_shared(byte_, &value, sizeof value, where_);
      return *this;
    }
    const Element& operator=(const Element& other) const { return *this = T(other); }
    const Element& operator+=(T value) const { return *this = T(*this) + value; }

   private:
    std::size_t byte_;
    Where where_;
  };

  Element operator[](At at) const {
    static_assert(sizeof(T) >= 4, "smaller elements go through the words that move 16 bytes");
    return {checked(at, 1), at.where};
  }
  Shared operator+(std::int64_t n) const {
    Shared moved = *this;
    moved.byte_ += n * std::int64_t(sizeof(T));
    return moved;
  }

  /// The first byte of `count` elements from `at`.
  std::size_t checked(At at, std::int64_t count) const {
    const std::int64_t size = sizeof(T), byte = byte_ + at.index * size;
    if (byte < begin_ || byte + count * size > end_)
      block().fail(Fault::out_of_bounds, at.where,
                   "element " + std::to_string((byte - begin_) / size) + " of an array of " +
                       std::to_string((end_ - begin_) / size) + " in shared memory");
    return static_cast<std::size_t>(byte);
  }

 private:
  std::int64_t byte_ = 0, begin_ = 0, end_ = 0;
};

/// Bytes that `count` elements take in shared memory.
template <class T>
constexpr std::size_t shared_bytes_for(std::size_t count) {
  return (count * sizeof(T) + 15) / 16 * 16;
}

/// Hands out the block's shared memory, array after array.
class SharedMemory {
 public:
  template <class T>
  Shared<T> take(std::integral auto count, Where where = Where::current()) {
    const std::size_t byte = next_;
    next_ += shared_bytes_for<T>(static_cast<std::size_t>(count));
    if (next_ > block().shared_bytes())
      block().fail(Fault::out_of_bounds, where,
                   "an array up to byte " + std::to_string(next_) + ", but the block has " +
                       std::to_string(block().shared_bytes()) + " bytes of shared memory");
    return {byte, static_cast<std::int64_t>(count)};
  }

 private:
  std::size_t next_ = 0;
};

namespace detail {

template <int n, class T>
T* neighbours(Global<T> array, At at) {
  T* first = array.checked(at, n);
  if (reinterpret_cast<std::uintptr_t>(first) % (n * sizeof(T)) != 0)
    block().fail(Fault::misaligned, at.where,
                 std::to_string(n) + " numbers at once from an address not a multiple of " +
                     std::to_string(n * sizeof(T)));
  return first;
}

}  // namespace detail

/// The n numbers from `at`, in one access of at most 16 bytes.
template <int n, class T>
Floats<n> load(Global<T> from, At at) {
  static_assert(n * sizeof(T) <= 16);
  const T* numbers = detail::neighbours<n>(from, at);
  block().counters().loaded_bytes += n * sizeof(T);
  Floats<n> result;
  for (int i = 0; i < n; ++i) result[i] = to_float(numbers[i]);
  return result;
}
/// The same back, rounded to T.
template <int n, class T>
void store(Global<T> to, At at, const Floats<n>& floats) {
  static_assert(n * sizeof(T) <= 16);
  T* numbers = detail::neighbours<n>(to, at);
  for (int i = 0; i < n; ++i) numbers[i] = from_float<T>(floats[i]);
}

/// The 16 bytes from `at` as they are: on their way they take half the registers of their numbers.
template <class T>
Piece load_piece(Global<const T> from, At at) {
  const T* source = detail::neighbours<16 / sizeof(T)>(from, at);
  block().counters().loaded_bytes += sizeof(Piece);
  Piece piece;
  std::memcpy(&piece, source, sizeof piece);
  return piece;
}

/// The numbers of a piece of T.
template <class T>
Floats<16 / sizeof(T)> unpack(const Piece& piece) {
  T numbers[16 / sizeof(T)];
  std::memcpy(numbers, &piece, sizeof numbers);
  Floats<16 / sizeof(T)> result;
  for (std::size_t i = 0; i < 16 / sizeof(T); ++i) result[i] = to_float(numbers[i]);
  return result;
}

// ---- Between the lanes of a warp.

namespace detail {

template <class T, class From>
T shuffle(const char* name, T value, Where where, From from) {
  return block().collective<T, T>(name, value, where, [&](const T* all, T* result) {
    for (int lane = 0; lane < warp_size; ++lane) {
      const int other = from(lane);
      result[lane] = all[other < warp_size ? other : lane];
    }
  });
}

/// One of the numbers of type T within `ulps` units in the last place of `exact`, for the same `x`
/// always the same one: all that is known of the GPU's function.
template <class T, class Exact>
T blurred(Exact exact, T x, int ulps) {
  const auto nearest = static_cast<T>(exact);
  if (x == 0 || !std::isnormal(nearest)) return nearest;
  const std::uint32_t hash =
      std::bit_cast<std::uint32_t>(static_cast<float>(x)) * 2654435761u >> 16;
  constexpr T up = std::numeric_limits<T>::infinity();
  T y = nearest > exact ? std::nextafter(nearest, -up) : nearest;  // the one below `exact`
  const int steps = static_cast<int>(hash % (2u * ulps)) - (ulps - 1);
  for (int i = 0; i < steps; ++i) y = std::nextafter(y, up);
  for (int i = 0; i > steps; --i) y = std::nextafter(y, -up);
  return std::isnormal(y) ? y : nearest;
}

}  // namespace detail

template <class T>
T shuffle_xor(T value, int mask, Where where = Where::current()) {
  return detail::shuffle("shuffle_xor", value, where, [&](int lane) { return lane ^ mask; });
}

/// The value `lanes` further up; the last lanes keep their own.
template <class T>
T shuffle_down(T value, int lanes, Where where = Where::current()) {
  return detail::shuffle("shuffle_down", value, where, [&](int lane) { return lane + lanes; });
}

inline bool any(bool value, Where where = Where::current()) {
  return block().collective<bool, bool>("any", value, where, [](const bool* all, bool* result) {
    const bool found = std::any_of(all, all + warp_size, [](bool x) { return x; });
    std::fill_n(result, warp_size, found);
  });
}

/// Bit l: the value of lane l.
inline std::uint32_t ballot(bool value, Where where = Where::current()) {
  return block().collective<bool, std::uint32_t>("ballot", value, where,
                                                 [](const bool* all, std::uint32_t* result) {
                                                   std::uint32_t bits = 0;
                                                   for (int lane = 0; lane < warp_size; ++lane)
                                                     bits |= std::uint32_t(all[lane]) << lane;
                                                   std::fill_n(result, warp_size, bits);
                                                 });
}

// ---- Asynchronous copies of 16 bytes.

/// Starts copying 16 bytes to `to[at]`; zeros instead if not `valid`, and `from` is not read.
template <class T>
void copy_async(Shared<T> to, int at, Global<const T> from, bool valid,
                Where where = Where::current()) {
  constexpr std::int64_t count = 16 / sizeof(T);
  const T* source = valid ? from.checked(At(0, where), count) : nullptr;
  if (reinterpret_cast<std::uintptr_t>(source) % 16 != 0)
    block().fail(Fault::misaligned, where,
                 "an asynchronous copy from an address not a multiple of 16");
  block().start_copy(to.checked(At(at, where), count), source, where);
}
inline void commit_copies() {
  block().commit_copies();
}

/// Waits until at most `groups_left` of this thread's committed groups are under way.
template <int groups_left>
void wait_copies(Where where = Where::current()) {
  block().wait_copies(groups_left, where);
}

// ---- Tensor cores. A fragment is a lane's part of a matrix, two 16-bit numbers a register.

namespace detail {

template <class T>
struct Matrices {
  std::uint32_t registers[4];
};

// ldmatrix: lane 8 m + i gives the address of row i of the 8x8 matrix m; lane l receives the two
// neighbours (l / 4, 2 (l % 4)) of each.
template <class T>
void load_matrices(std::uint32_t (&to)[4], std::size_t byte, bool transposed, Where where) {
  struct Row {
    std::uint16_t element[8];
  };
  Block& b = block();
  Row row;
  b.read_shared(byte, row.element, sizeof row, where);
  struct In {
    Row row;
    std::size_t byte;
  };
  const auto result = b.collective<In, Matrices<T>>(
      transposed ? "load_matrices_transposed" : "load_matrices", {row, byte}, where,
      [&](const In* all, Matrices<T>* out) {
        ++b.counters().ldmatrix;
        for (int m = 0; m < 4; ++m) {
          int in_bank[8] = {};  // of 16 bytes each
          for (int i = 0; i < 8; ++i) ++in_bank[all[8 * m + i].byte / 16 % 8];
          b.counters().ldmatrix_wavefronts += *std::max_element(in_bank, in_bank + 8);
          for (int lane = 0; lane < warp_size; ++lane) {
            const int i = lane / 4, j = 2 * (lane % 4);
            const auto at = [&](int r, int c) { return all[8 * m + r].row.element[c]; };
            const std::uint32_t low = transposed ? at(j, i) : at(i, j);
            const std::uint32_t high = transposed ? at(j + 1, i) : at(i, j + 1);
            out[lane].registers[m] = low | high << 16;
          }
        }
      });
  std::memcpy(to, result.registers, sizeof to);
}

}  // namespace detail

/// Four 8x8 matrices of 16-bit numbers; each lane says where in `array` one of the 32 rows starts.
template <class T>
void load_matrices(std::uint32_t (&to)[4], Shared<T> array, int at,
                   Where where = Where::current()) {
  detail::load_matrices<T>(to, array.checked(At(at, where), 8), false, where);
}
template <class T>
void load_matrices_transposed(std::uint32_t (&to)[4], Shared<T> array, int at,
                              Where where = Where::current()) {
  detail::load_matrices<T>(to, array.checked(At(at, where), 8), true, where);
}

/// C [16, 8] += A [16, 16] B [16, 8], in float. Lane l = 4 g + t holds C (g, 2t), (g, 2t + 1),
/// (g + 8, 2t), (g + 8, 2t + 1); A rows g, g + 8 at columns 2t, then the same at 2t + 8; B rows 2t,
/// 2t + 8 at column g.
template <class T>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  Where where = Where::current()) {
  struct In {
    std::uint32_t a[4], b[2];
    float c[4];
  };
  struct Out {
    float c[4];
  };
  const In mine{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  const auto half = [](std::uint32_t pair, int i) {
    return to_float(T{static_cast<std::uint16_t>(i ? pair >> 16 : pair)});
  };
  const Out result =
      block().collective<In, Out>("multiply_add", mine, where, [&](const In* all, Out* out) {
        ++block().counters().mma;
        float A[16][16], B[16][8];
        for (int lane = 0; lane < warp_size; ++lane)
          for (int i = 0; i < 2; ++i) {
            const int g = lane / 4, t = 2 * (lane % 4) + i;
            for (int r = 0; r < 4; ++r)
              A[g + 8 * (r % 2)][t + 8 * (r / 2)] = half(all[lane].a[r], i);
            for (int r = 0; r < 2; ++r) B[t + 8 * r][g] = half(all[lane].b[r], i);
          }
        for (int lane = 0; lane < warp_size; ++lane)
          for (int e = 0; e < 4; ++e) {
            const int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
            double sum = all[lane].c[e];
            for (int k = 0; k < 16; ++k) sum += double(A[row][k]) * B[k][column];
            out[lane].c[e] = static_cast<float>(sum);
          }
      });
  std::memcpy(c, result.c, sizeof c);
}

/// Two numbers rounded to T in one register, `low` in the lower half.
template <class T>
std::uint32_t pack(float low, float high) {
  return from_float<T>(low).bits | std::uint32_t(from_float<T>(high).bits) << 16;
}

// ---- Arithmetic. Products and sums are never contracted: only fma is fused.

inline float fma(float a, float b, float c) {
  ++block().counters().fused;
  return std::fma(a, b, c);
}
/// Of a number and NaN the number.
inline float larger(float a, float b) {
  return std::fmax(a, b);
}
inline std::uint32_t bits_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
inline int count_ones(std::uint32_t bits) {
  return std::popcount(bits);
}
inline float sqrt(float x) {
  return std::sqrt(x);
}
inline double sqrt(double x) {
  return std::sqrt(x);
}
inline float exp(float x) {
  ++block().counters().exponentials;
  return detail::blurred(std::exp(double(x)), x, 1);
}
inline float log(float x) {
  return x == 1 ? 0 : detail::blurred(std::log(double(x)), x, 1);
}
inline double log(double x) {
  return x == 1 ? 0 : detail::blurred(std::log(static_cast<long double>(x)), x, 1);
}

/// Two ulp, subnormal results are zero.
inline float exp2_fast(float x) {
  ++block().counters().exponentials;
  const float y = detail::blurred(std::exp2(double(x)), x, 2);
  return std::fpclassify(y) == FP_SUBNORMAL ? 0 : y;
}
inline float log2_fast(float x) {
  return x == 1 ? 0 : detail::blurred(std::log2(double(x)), x, 1);
}

// ---- The host's words.

template <class T>
Global<T> view(T* data, std::int64_t count) {
  return data ? Global<T>(data, count) : Global<T>();
}

template <class Arguments>
void launch(const Launch& how, void (*kernel)(Arguments),
            const std::type_identity_t<Arguments>& arguments) {
  give([=] { run_grid(how, [&] { kernel(arguments); }); });
}

}  // namespace lazy::emulated
