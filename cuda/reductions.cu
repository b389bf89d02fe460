#include "cuda/reductions.hpp"

namespace lazy::LAZY_TARGET {
namespace {

constexpr int threads = 256;

// One block a head.
__global__ void sum_rows_kernel(RowSums a) {
  auto scratch = SharedMemory().take<float>(threads / warp_size);
  const int head = block_index().x;
  float sum = 0;
  for (int b = 0; b < a.batch; ++b)
    for (int row = thread_index(); row < a.rows; row += threads)
      sum += a.values[(std::int64_t(b) * a.heads + head) * a.rows + row];
  sum = over_block(sum, threads, scratch, Sum());
  if (thread_index() == 0) a.sums[head] += sum;
}

// One thread a column.
__global__ void sum_partials_kernel(PartialSums a) {
  const int head = block_index().y, d = block_index().x * threads + thread_index();
  if (d >= a.width) return;
  float sum = 0;
  for (int b = 0; b < a.batch; ++b)
    for (int i = 0; i < a.partials; ++i)
      sum += a.values[((std::int64_t(b) * a.heads + head) * a.partials + i) * a.width + d];
  a.sums[std::int64_t(head) * a.window + d] += sum;
}

}  // namespace

void sum_rows(const RowSums& a, Stream stream) {
  launch({"sum_rows", {a.heads}, threads, shared_bytes_for<float>(threads / warp_size), stream},
         sum_rows_kernel, a);
}

void sum_partials(const PartialSums& a, Stream stream) {
  if (a.width == 0) return;
  launch({"sum_partials", {divided_up(a.width, threads), a.heads}, threads, 0, stream},
         sum_partials_kernel, a);
}

}  // namespace lazy::LAZY_TARGET
