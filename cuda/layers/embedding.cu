// The embedding: a row of the table for each token, and gradients back to it.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

struct ForwardArguments {
  int C, threads;
  Global<float> x;
  Global<const float> table;
  Global<const int> tokens;
};

// One block a row.
template <int width>
__global__ void embedding_forward_kernel(ForwardArguments a) {
  const Index row = block_index().x, from = a.tokens[row];
  for (int c = thread_index() * width; c < a.C; c += a.threads * width)
    store(a.x, row * a.C + c, load<width>(a.table, from * a.C + c));
}

// Positions of `order` that a block looks at, one a warp. Equal tokens stand side by side there: a
// run. The warp at its first position owns it. Only one run can go on behind the block's positions;
// it may be long, and all warps share it.
constexpr int window = 16;

struct BackwardArguments {
  Index N;
  int C;
  Global<float> dtable;
  Global<const float> dx;
  Global<const int> tokens, order;

  __device__ int token(Index position) const { return tokens[order[position]]; }

  /// sum += the rows at begin, begin + step, ... before `end`, in the columns from `column`.
  template <int width>
  __device__ void add_rows(Floats<width>& sum, Index begin, Index end, int step, int column) const {
#pragma unroll 4
    for (Index i = begin; i < end; i += step) {
      const auto row = load<width>(dx, Index(order[i]) * C + column);
      for (int j = 0; j < width; ++j) sum[j] += row[j];
    }
  }
  template <int width>
  __device__ void add_to_table(int token, int column, const Floats<width>& sum) const {
    const Index at = Index(token) * C + column;
    auto total = load<width>(dtable, at);
    for (int j = 0; j < width; ++j) total[j] += sum[j];
    store(dtable, at, total);
  }
};

// The first position from `begin` on whose token is not `token`, by halving.
__device__ Index end_of_run(const BackwardArguments& a, Index begin, int token) {
  Index end = a.N;
  while (begin < end) {
    const Index middle = begin + (end - begin) / 2;
    if (a.token(middle) == token)
      begin = middle + 1;
    else
      end = middle;
  }
  return end;
}

// One block a window and 32 vectors of columns.
template <int width>
__global__ void embedding_backward_kernel(BackwardArguments a) {
  SharedMemory memory;
  auto sums = memory.take<float>(window * width * warp_size);
  auto shared_run = memory.take<int>(1);
  const int warp = thread_index() / warp_size, lane = thread_index() % warp_size;
  const int column = (block_index().y * warp_size + lane) * width;
  const Index first = Index(block_index().x) * window, mine = first + warp;
  const Index last = first + window < a.N ? first + window : a.N;
  const bool owns = mine < a.N && (mine == 0 || a.token(mine - 1) != a.token(mine));
  const bool goes_on = owns && last < a.N && a.token(last) == a.token(mine);

  if (thread_index() == 0) shared_run[0] = -1;
  barrier();
  if (goes_on && lane == 0) shared_run[0] = warp;
  if (owns && !goes_on && column < a.C) {
    Index end = mine + 1;
    while (end < last && a.token(end) == a.token(mine)) ++end;
    Floats<width> sum{};
    a.add_rows(sum, mine, end, 1, column);
    a.add_to_table(a.token(mine), column, sum);
  }
  barrier();

  const int owner = shared_run[0];
  if (owner < 0) return;
  const int token = a.token(first + owner);
  Floats<width> sum{};
  if (column < a.C)
    a.add_rows(sum, first + owner + warp, end_of_run(a, last, token), window, column);
  for (int j = 0; j < width; ++j) sums[(warp * width + j) * warp_size + lane] = sum[j];
  barrier();
  if (warp > 0 || column >= a.C) return;
  for (int w = 1; w < window; ++w)
    for (int j = 0; j < width; ++j) sum[j] += sums[(w * width + j) * warp_size + lane];
  a.add_to_table(token, column, sum);
}

}  // namespace

void embedding_forward(float* x, const float* table, const int* tokens, Index N, Index C, Index V,
                       void* stream) {
  if (N == 0) return;
  with_width<vector_width<float>>(
      C,
      [&](auto width) {
        const int threads = threads_for(C / width());
        launch({"embedding_forward", {int(N)}, threads, 0, static_cast<Stream>(stream)},
               embedding_forward_kernel<width()>,
               {int(C), threads, view(x, N * C), view(table, V * C), view(tokens, N)});
      },
      x, table);
}

void embedding_backward(float* dtable, const float* dx, const int* tokens, const int* order,
                        Index N, Index C, Index V, void* stream) {
  if (N == 0) return;
  with_width<vector_width<float>>(
      C,
      [&](auto width) {
        const Index columns = warp_size * width();
        const std::size_t bytes =
            shared_bytes_for<float>(window * columns) + shared_bytes_for<int>(1);
        launch({"embedding_backward",
                {int(divided_up<Index>(N, window)), int(divided_up(C, columns))},
                window * warp_size,
                bytes,
                static_cast<Stream>(stream)},
               embedding_backward_kernel<width()>,
               {N, int(C), view(dtable, V * C), view(dx, N * C), view(tokens, N), view(order, N)});
      },
      dtable, dx);
}

}  // namespace lazy::LAZY_TARGET
