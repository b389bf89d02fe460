// Rows of attention weights to a few numbers each, for the diagnostics. One block a row, one warp a
// tile of keys; it reads the row twice: for the mass m, and for the entropy of the shares a / m.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct RowStatisticsArguments {
  Problem<float> problem;  // who sees what
  int b, first_row, words, threads;
  Global<const float> weights;
  Global<RowStatistics> rows;
  Global<std::uint32_t> live_tiles;
};

__global__ void row_statistics_kernel(RowStatisticsArguments a) {
  constexpr int side = tile_side;
  SharedMemory memory;
  auto scratch = memory.take<double>(a.threads / warp_size);
  auto is_live = memory.take<std::uint32_t>(a.words * 32);  // each tile
  const int row = block_index().x, me = thread_index();
  const int lane = me % warp_size, warp = me / warp_size, warps = a.threads / warp_size;
  const int n = a.problem.visible_keys(a.problem.length(a.b), a.first_row + row);
  const Index first = Index(row) * a.problem.keys;

  double mass = 0, live = 0;
  for (int tile = warp; tile < a.words * 32; tile += warps) {
    bool found = false;
    for (int j = tile * side + lane; j < n && j < (tile + 1) * side; j += warp_size) {
      const float weight = a.weights[first + j];
      mass += weight;
      live += weight != 0;
      found = found || weight != 0;  // not > 0: NaN is live
    }
    found = any(found);
    if (lane == 0) is_live[tile] = found;
  }
  mass = over_block(mass, a.threads, scratch, Sum());
  live = over_block(live, a.threads, scratch, Sum());

  // h = -sum_j p_j log p_j, p_j = a_j / m
  double entropy = 0;
  for (int j = me; j < n; j += a.threads) {
    const float weight = a.weights[first + j];
    if (weight == 0) continue;
    const double share = weight / mass;
    entropy -= share * log(share);
  }
  entropy = over_block(entropy, a.threads, scratch, Sum());

  for (int word = warp; word < a.words; word += warps) {
    const std::uint32_t bits = ballot(is_live[word * 32 + lane] != 0);
    if (lane == 0) a.live_tiles[Index(row) * a.words + word] = bits;
  }
  if (me > 0) return;
  RowStatistics& s = a.rows[row];
  s.visible = n;
  s.live = Index(live);
  s.mass = mass;
  s.first_key = n > 0 ? a.weights[first] : 0.f;
  s.first_four = 0;
  for (int j = 0; j < n && j < 4; ++j) s.first_four += a.weights[first + j];
  s.entropy = entropy;
}

}  // namespace

void row_statistics(RowStatistics* rows, std::uint32_t* live_tiles, const float* weights,
                    const AttentionShape& shape, const std::int64_t* lengths, Index b,
                    Index first_row, Index count, void* stream) {
  if (count == 0) return;
  const int words = static_cast<int>(tile_words(shape.keys));
  const int threads = threads_for(divided_up<Index>(shape.keys, tile_side) * warp_size);
  Problem<float> problem{};
  problem.queries = static_cast<int>(shape.queries);
  problem.keys = static_cast<int>(shape.keys);
  problem.lengths = view(lengths, shape.batch);
  launch(
      {"row_statistics",
       {static_cast<int>(count)},
       threads,
       shared_bytes_for<double>(threads / warp_size) + shared_bytes_for<std::uint32_t>(words * 32),
       static_cast<Stream>(stream)},
      row_statistics_kernel,
      {problem, static_cast<int>(b), static_cast<int>(first_row), words, threads,
       view(weights, count * shape.keys), view(rows, count), view(live_tiles, count * words)});
}

}  // namespace lazy::LAZY_TARGET
