// Grades the exercise: a warp lays a tile down with `piece_at`, loads it as matrices, and the
// emulator counts the trips.

#include "tutorials/grade.hpp"

#include <set>
#include <vector>

#include "cuda/simt/simt.hpp"
#ifdef SOLUTION
#include "solution.hpp"
#else
#include "exercise.hpp"
#endif

using namespace lazy;
using namespace lazy::emulated;

namespace {

struct Tile {
  Global<const BFloat16> from;   // [16, 64]
  Global<std::uint32_t> loaded;  // [4 loads, 4 matrices, 32 lanes], two numbers each
};

void load_tile(Tile t) {
  auto tile = SharedMemory().take<BFloat16>(16 * 64);
  const int lane = thread_index();
  for (int i = lane; i < 16 * 8; i += warp_size)
    copy_async<BFloat16>(tile, 8 * piece_at(i / 8, i % 8), t.from + 8 * i, true);
  commit_copies();
  wait_copies<0>();
  warp_barrier();
  for (int load = 0; load < 4; ++load) {  // 16 rows x 2 pieces
    std::uint32_t matrices[4];
    load_matrices(matrices, tile, 8 * piece_at(lane % 16, 2 * load + lane / 16));
    for (int m = 0; m < 4; ++m) t.loaded[(load * 4 + m) * warp_size + lane] = matrices[m];
  }
}

}  // namespace

int main() {
  lazy::tutorial::Grade grade;
  std::set<int> places;
  bool inside = true, in_row = true;
  for (int row = 0; row < 16; ++row)
    for (int piece = 0; piece < 8; ++piece) {
      const int place = piece_at(row, piece);
      places.insert(place);
      inside = inside && place >= 0 && place < 128;
      in_row = in_row && place / 8 == row;
    }
  grade.check(inside && places.size() == 128, "128 pieces, 128 places",
              "two pieces share a place, or one lies outside 0 .. 127");
  grade.check(in_row, "pieces stay in their row", "place / 8 is the row");
  if (!inside || places.size() != 128) return grade.result();

  std::vector<BFloat16> numbers(16 * 64);
  for (int i = 0; i < 16 * 64; ++i) numbers[i].bits = std::uint16_t(i);
  std::vector<std::uint32_t> loaded(16 * warp_size);
  Machine machine;
  launch({"load_tile", {}, warp_size, shared_bytes_for<BFloat16>(16 * 64), &machine}, load_tile,
         {view(numbers.data(), 16 * 64), view(loaded.data(), 16 * warp_size)});
  bool right = true;
  for (int i = 0; i < 16 * warp_size; ++i) {
    const int load = i / 128, m = i / warp_size % 4, lane = i % warp_size;
    const int row = m % 2 * 8 + lane / 4, column = (2 * load + m / 2) * 8 + 2 * (lane % 4);
    right = right && loaded[i] % 65536 == std::uint32_t(row * 64 + column);
  }
  grade.check(right, "each lane gets its numbers", "the rows themselves must not be mixed up");
  const auto trips = machine.counters.ldmatrix_wavefronts;
  std::printf("       16 loads of 8 pieces take %lld trips\n", (long long)trips);
  grade.check(trips == 16, "no two of 8 pieces lie in one bank",
              "piece p of rows r .. r + 7 must land in 8 different banks: let the row decide");
  return grade.result();
}
