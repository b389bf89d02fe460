// The emulator of CUDA blocks: it finds what it is there to find, names the line, and lets right
// kernels through, in whatever order their threads run.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/catch.hpp"
#include "tests/wrong_kernels.hpp"

using namespace lazy::emulated;
using lazy::BFloat16;
using lazy::Float16;

namespace {

// The emulator finds `fault` in a kernel, in a line that the kernel blames itself, whatever the
// order of its threads.
void check_found(void (*kernel)(Wrong), Fault fault, int blocks = 1) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    std::vector<float> out(256, 0);
    std::set<unsigned> lines;
    Machine machine{.seed = seed};
    const Launch how{"wrong_kernel", {blocks}, 64, 3072, &machine};
    INFO("seed " << seed);
    try {
      launch(how, kernel, {view(out.data(), 256), &lines});
      FAIL("nothing was found");
    } catch (const KernelFault& found) {
      INFO(found.what());
      CHECK(found.fault == fault);
      CHECK(lines.count(found.where.line) == 1);
      CHECK(std::string(found.where.file).find("wrong_kernels.hpp") != std::string::npos);
      if (fault == Fault::race) {
        CHECK(lines.count(found.earlier.line) == 1);
        CHECK(std::string(found.what())
                  .find("wrong_kernels.hpp:" + std::to_string(found.earlier.line)) !=
              std::string::npos);
      }
      CHECK(
          std::string(found.what()).find("wrong_kernels.hpp:" + std::to_string(found.where.line)) ==
          0);
      CHECK(std::string(found.what()).find("wrong_kernel, block (") != std::string::npos);
      CHECK(found.thread >= 0);
      CHECK(found.thread < 64);
    }
  }
}

}  // namespace

TEST_CASE("a missing barrier is found, and both lines between which it is missing", "[simt]") {
  check_found(missing_barrier, Fault::race);
  check_found(next_tile_over_readers, Fault::race);
}

TEST_CASE("races are found: of two warps, within a warp, of writers", "[simt]") {
  check_found(race_of_two_warps, Fault::race);
  check_found(race_within_a_warp, Fault::race);
  check_found(everybody_writes_one_word, Fault::race);
}

TEST_CASE("an access out of bounds by one is found at its line", "[simt]") {
  check_found(out_of_shared_bounds, Fault::out_of_bounds);
  check_found(out_of_global_bounds, Fault::out_of_bounds);
  check_found(before_global_bounds, Fault::out_of_bounds);
  check_found(more_shared_than_there_is, Fault::out_of_bounds);
  check_found(neighbours_out_of_bounds, Fault::out_of_bounds);
  check_found(misaligned_copy, Fault::misaligned);
  check_found(misaligned_element, Fault::misaligned);
  check_found(misaligned_neighbours, Fault::misaligned);
  check_found(misaligned_piece, Fault::misaligned);
  check_found(piece_beyond_the_end, Fault::out_of_bounds);
}

TEST_CASE("a read of shared memory that nobody wrote in this block is found", "[simt]") {
  check_found(uninitialized, Fault::uninitialized);
  check_found(memory_of_the_last_block, Fault::uninitialized, 2);
}

TEST_CASE("threads that wait for others in vain are found, and where they wait", "[simt]") {
  check_found(barrier_for_some, Fault::divergence);
  check_found(two_barriers, Fault::divergence);
  check_found(lanes_at_two_shuffles, Fault::divergence);
  check_found(lane_left_the_shuffle, Fault::divergence);
}

TEST_CASE("an asynchronous copy that is waited for too little is found", "[simt]") {
  check_found(short_wait<2>, Fault::unfinished_copy);
  std::vector<float> out(256);
  std::iota(out.begin(), out.end(), 1.f);
  std::set<unsigned> lines;
  launch({"short_wait", {1}, 64, 3072}, short_wait<1>, {view(out.data(), 256), &lines});
  CHECK(out[63] == 2 * 64);
}

namespace {

template <class T>
std::vector<T> counted(std::size_t size, float step) {
  std::vector<T> x(size);
  for (std::size_t i = 0; i < size; ++i) x[i] = lazy::from_float<T>(step * float(i % 23) - 1);
  return x;
}

// Whether the kernel's product of two matrices of small numbers is exact, as it can be.
bool multiplies(void (*kernel)(Product), Machine& machine) {
  const auto a = counted<BFloat16>(16 * 64, 0.125f), b = counted<BFloat16>(64 * 8, 0.25f);
  std::vector<float> c(16 * 8, NAN);
  const Launch how{"product", {}, 32, 4096, &machine};
  launch(how, kernel, {view(a.data(), 16 * 64), view(b.data(), 64 * 8), view(c.data(), 16 * 8)});
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = 0;
      for (int k = 0; k < 64; ++k) sum += to_float(a[64 * row + k]) * to_float(b[8 * k + column]);
      if (c[8 * row + column] != sum) return false;
    }
  return true;
}

std::vector<float> sums(void (*kernel)(Wrong)) {
  std::vector<float> out(256);
  std::set<unsigned> lines;
  launch({"causal_sum", {}, 64, 256}, kernel, {view(out.data(), 256), &lines});
  return out;
}

Counters count(void (*kernel)(Wrong)) {
  std::vector<float> out(64);
  std::set<unsigned> lines;
  Machine machine{.count_wavefronts = true};
  launch({"column", {}, 32, 32 * 33 * 4, &machine}, kernel, {view(out.data(), 64), &lines});
  return machine.counters;
}

}  // namespace

TEST_CASE("matrix instructions multiply; with swapped lanes they do not", "[simt]") {
  Machine machine;
  CHECK(multiplies(product<Lanes::right>, machine));
  CHECK(machine.counters.mma == 4);
  CHECK(machine.counters.ldmatrix == 6);
  CHECK(machine.counters.ldmatrix_wavefronts == 4 * 6);
  CHECK(machine.counters.copied_bytes == 2 * (16 * 64 + 64 * 8));
  CHECK(!multiplies(product<Lanes::swapped>, machine));
}

TEST_CASE("what is right but slow is counted: bank conflicts", "[simt]") {
  Machine machine;
  CHECK(multiplies(product<Lanes::unswizzled>, machine));
  CHECK(machine.counters.ldmatrix_wavefronts == 2 * 4 + 4 * 4 * 8);
  CHECK(count(column<33>).wavefronts == 32 + 1);
  CHECK(count(column<32>).wavefronts == 32 + 32);
  CHECK(count(column<32>).ideal_wavefronts == 32 + 1);
}

TEST_CASE("a mask late by one gives other numbers", "[simt]") {
  const auto right = sums(causal_sum<0>), late = sums(causal_sum<1>);
  for (int i = 0; i < 64; ++i) CHECK(right[i] == float(i * (i + 1) / 2));
  for (int i = 0; i + 1 < 64; ++i) CHECK(late[i] == right[i + 1]);
}

namespace {

template <class T>
struct Pieces {
  Global<const T> in;
  Global<float> out;
  Global<int> votes;
};

template <class T>
void copy_pieces(Pieces<T> a) {
  constexpr int count = 16 / sizeof(T);
  const int i = thread_index();
  const auto numbers = unpack<T>(load_piece(a.in, count * i));
  for (int n = 0; n < count; ++n) a.out[count * i + n] = numbers[n];
  a.votes[i] = count_ones(ballot(i % 3 == 0 || i == 31) >> i);  // of this lane and the later ones
}

template <class T>
void check_pieces() {
  constexpr int size = 32 * 16 / sizeof(T);
  const auto in = counted<T>(size, 0.125f);
  std::vector<float> out(size);
  std::vector<int> votes(32);
  Machine machine;
  const Launch how{"copy_pieces", {}, 32, 0, &machine};
  launch(how, copy_pieces<T>,
         {view(in.data(), size), view(out.data(), size), view(votes.data(), 32)});
  for (int i = 0; i < size; ++i) CHECK(out[i] == lazy::to_float(in[i]));
  for (int i = 31, voters = 0; i >= 0; --i) {
    voters += i % 3 == 0 || i == 31;
    CHECK(votes[i] == voters);
  }
  CHECK(machine.counters.loaded_bytes == 32 * 16);
}

}  // namespace

TEST_CASE("pieces of 16 bytes hold their numbers and are counted; a ballot has a bit a lane",
          "[simt]") {
  check_pieces<float>();
  check_pieces<BFloat16>();
  check_pieces<Float16>();
}

TEST_CASE("an impossible launch is refused", "[simt]") {
  CHECK_THROWS_AS(launch({"odd", {}, 33, 0}, causal_sum<0>, {}), std::invalid_argument);
  CHECK_THROWS_AS(launch({"none", {0, 1, 1}, 32, 0}, causal_sum<0>, {}), std::invalid_argument);
}

TEST_CASE("16-bit formats round to nearest even and back", "[simt]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto u = static_cast<std::uint16_t>(bits);
    const float b = to_float(BFloat16{u}), f = to_float(Float16{u});
    if (!std::isnan(b)) CHECK(lazy::from_float<BFloat16>(b).bits == u);
    if (!std::isnan(f)) CHECK(lazy::from_float<Float16>(f).bits == u);
  }
  CHECK(to_float(lazy::from_float<BFloat16>(1 + 0x1p-8f)) == 1);
  CHECK(to_float(lazy::from_float<BFloat16>(1 + 0x3p-8f)) == 1 + 0x2p-7f);
  CHECK(to_float(lazy::from_float<Float16>(1 + 0x1p-11f)) == 1);
  CHECK(to_float(lazy::from_float<Float16>(1 + 0x3p-11f)) == 1 + 0x2p-10f);
  CHECK(to_float(lazy::from_float<Float16>(65519.f)) == 65504);
  CHECK(std::isinf(to_float(lazy::from_float<Float16>(65520.f))));
  CHECK(to_float(lazy::from_float<Float16>(0x1.8p-24f)) == 0x1p-23f);
  CHECK(to_float(lazy::from_float<Float16>(0x1p-25f)) == 0);
  CHECK(std::isnan(to_float(lazy::from_float<Float16>(NAN))));
  CHECK(std::isnan(to_float(lazy::from_float<BFloat16>(NAN))));
}
