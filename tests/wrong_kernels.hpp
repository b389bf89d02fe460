#pragma once
// Kernels wrong on purpose. Each says itself which lines the emulator has to name (`blamed`): one,
// or the two between which a barrier is missing.

#include <set>

#include "cuda/simt/emulated.hpp"

namespace lazy::emulated {

struct Wrong {
  Global<float> out;
  std::set<unsigned>* lines;  // receives the wrong lines
};

/// `value`, having noted the line it stands in.
template <class T>
T blamed(const Wrong& a, T value, Where where = Where::current()) {
  a.lines->insert(where.line);
  return value;
}

inline void missing_barrier(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  x[i] = 0;
  barrier();
  x[blamed(a, i)] = float(i);
  a.out[i] = x[blamed(a, 63 - i)];
}

inline void race_of_two_warps(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  x[i] = float(i);
  barrier();
  if (i < 32) a.out[i] = x[blamed(a, i + 32)];
  if (i >= 32) x[blamed(a, i)] = 0;
}

inline void race_within_a_warp(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  x[i] = 0;
  barrier();
  x[blamed(a, i)] = float(i);
  shuffle_xor(1, 1);  // the lanes meet, but a shuffle orders no memory
  a.out[i] = x[blamed(a, i ^ 1)];
}

inline void everybody_writes_one_word(Wrong a) {
  auto x = SharedMemory().take<float>(64);
  x[blamed(a, 5)] = 1;
  a.out[thread_index()] = 1;
}

inline void next_tile_over_readers(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  float sum = 0;
  for (int tile = 0; tile < 2; ++tile) {
    x[blamed(a, i)] = float(tile);
    barrier();
    for (int j = 0; j < 64; ++j) sum += x[blamed(a, j)];
  }
  a.out[i] = sum;
}

inline void out_of_shared_bounds(Wrong a) {
  const int i = thread_index();
  SharedMemory memory;
  auto x = memory.take<float>(64);
  auto behind = memory.take<float>(64);
  x[i] = behind[i] = float(i);
  barrier();
  a.out[i] = x[blamed(a, i + 1)];
}

inline void out_of_global_bounds(Wrong a) {
  (a.out + 192)[blamed(a, thread_index() + 1)] = 1;
}

inline void before_global_bounds(Wrong a) {
  (a.out + 3)[blamed(a, thread_index() - 4)] = 1;
}

inline void more_shared_than_there_is(Wrong a) {
  auto x = SharedMemory().take<float>(blamed(a, 1000));
  x[thread_index()] = 1;
}

inline void uninitialized(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  if (i != 17) x[i] = float(i);
  barrier();
  a.out[i] = x[blamed(a, i)];
}

inline void memory_of_the_last_block(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  if (block_index().x == 0) x[i] = float(i);
  a.out[i] = x[blamed(a, i)];
}

inline void barrier_for_some(Wrong a) {
  if (thread_index() < 32) barrier(blamed(a, Where::current()));
  a.out[thread_index()] = 1;
}

inline void two_barriers(Wrong a) {
  if (thread_index() < 32)
    barrier(blamed(a, Where::current()));
  else
    barrier(blamed(a, Where::current()));
}

inline void lanes_at_two_shuffles(Wrong a) {
  const int i = thread_index();
  if (i % 2)
    a.out[i] = shuffle_xor(1.f, blamed(a, 2));
  else
    a.out[i] = shuffle_xor(1.f, blamed(a, 4));
}

inline void lane_left_the_shuffle(Wrong a) {
  if (thread_index() == 40) return;
  a.out[thread_index()] = shuffle_xor(1.f, blamed(a, 1));
}

inline void misaligned_copy(Wrong a) {
  auto x = SharedMemory().take<float>(64);
  copy_async<float>(x, 0, a.out + blamed(a, 1), true);
}

inline void misaligned_piece(Wrong a) {
  const Piece piece = load_piece<float>(a.out, blamed(a, 3));
  a.out[thread_index()] = unpack<float>(piece)[0];
}

inline void misaligned_element(Wrong a) {
  const Global<float> one(reinterpret_cast<float*>(reinterpret_cast<char*>(a.out.checked(0, 2)) + 2),
                          1);
  one[blamed(a, 0)] = 1;
}

inline void piece_beyond_the_end(Wrong a) {
  const Piece piece = load_piece<float>(a.out, blamed(a, 256));
  a.out[thread_index()] = unpack<float>(piece)[0];
}

inline void misaligned_neighbours(Wrong a) {
  a.out[thread_index()] = load<4>(a.out, blamed(a, 2))[0];
}

inline void neighbours_out_of_bounds(Wrong a) {
  store(a.out, blamed(a, 254), Floats<4>{});
}

// Three stages of a ring are on their way, the wait leaves one too many.
template <int groups_left>
void short_wait(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(3 * 256);
  float sum = 0;
  for (int stage = 0; stage < 3; ++stage) {
    copy_async<float>(x, 256 * stage + 4 * i, a.out + 4 * i, true);
    commit_copies();
  }
  wait_copies<groups_left>();
  barrier();
  for (int stage = 0; stage < 2; ++stage) sum += x[blamed(a, 256 * stage + i)];
  a.out[i] = sum;
}

// The next two run without a fault and compute something else.

enum class Lanes { right, swapped, unswizzled };

struct Product {
  Global<const BFloat16> a, b;  // [16, 64], [64, 8]
  Global<float> c;              // [16, 8]
};

/// Where the 16-byte piece `piece` of row `row` lies, in rows of 8 pieces: turned, so that 8 rows
/// of one piece lie in 8 different groups of banks.
template <Lanes lanes>
int piece_at(int row, int piece) {
  return 64 * row + 8 * (lanes == Lanes::unswizzled ? piece : piece ^ row % 8);
}

/// c = a b for one warp, with the matrix instructions. b lies in rows, so that it has to be
/// transposed on the way.
template <Lanes lanes>
void product(Product p) {
  SharedMemory memory;
  auto a = memory.take<BFloat16>(16 * 64), b = memory.take<BFloat16>(64 * 8);
  const int lane = thread_index();
  for (int i = lane; i < 16 * 8; i += 32)
    copy_async<BFloat16>(a, piece_at<lanes>(i / 8, i % 8), p.a + 8 * i, true);
  for (int row = lane; row < 64; row += 32) copy_async<BFloat16>(b, 8 * row, p.b + 8 * row, true);
  commit_copies();
  wait_copies<0>();
  warp_barrier();
  float c[4] = {0, 0, 0, 0};
  for (int k = 0; k < 64; k += 32) {
    std::uint32_t fb[4];
    load_matrices_transposed(fb, b, 8 * (k + lane));
    for (int half = 0; half < 2; ++half) {
      std::uint32_t fa[4];
      const int row = lanes == Lanes::swapped ? lane / 2 : lane % 16;
      const int piece = lanes == Lanes::swapped ? lane % 2 : lane / 16;
      load_matrices(fa, a, piece_at<lanes>(row, k / 8 + 2 * half + piece));
      multiply_add<BFloat16>(c, fa, fb[2 * half], fb[2 * half + 1]);
    }
  }
  for (int e = 0; e < 4; ++e) p.c[8 * (lane / 4 + 8 * (e / 2)) + 2 * (lane % 4) + e % 2] = c[e];
}

/// out[i] = sum of the values of threads j <= i, as a causal mask sees them; `late` lets it see on.
template <int late>
void causal_sum(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(64);
  x[i] = float(i);
  barrier();
  float sum = 0;
  for (int j = 0; j < 64; ++j) sum += j <= i + late ? float(x[j]) : 0.f;
  a.out[i] = sum;
}

/// Reads a column of a matrix whose rows are `pitch` words long.
template <int pitch>
void column(Wrong a) {
  const int i = thread_index();
  auto x = SharedMemory().take<float>(32 * pitch);
  for (int row = 0; row < 32; ++row) x[row * pitch + i] = 1;
  warp_barrier();
  a.out[i] = x[i * pitch];
}

}  // namespace lazy::emulated
