// RMSNorm: out = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon).
//
//   dx += rstd (weight dout - x rstd^2 mean(weight dout x))      dweight += sum_n dout x rstd

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

// x is float whatever A is: 16 bytes of it at a time.
constexpr int wide = vector_width<float>;

// ---- Forward: a warp a row.

constexpr int rows_a_block = 8;

template <class A>
struct ForwardArguments {
  Index N;
  int C;
  float epsilon;
  Global<A> out;
  Global<float> rstd;
  Global<const float> x, weight;
};

template <class A, int width>
__global__ void rmsnorm_forward_kernel(ForwardArguments<A> a) {
  const Index row = Index(block_index().x) * rows_a_block + thread_index() / warp_size;
  if (row >= a.N) return;
  const int lane = thread_index() % warp_size, step = warp_size * width;
  float sum = 0;
  for (int c = lane * width; c < a.C; c += step) {
    const auto x = load<width>(a.x, row * a.C + c);
    for (int i = 0; i < width; ++i) sum = fma(x[i], x[i], sum);
  }
  const float mean_square = over_warp(sum, Sum()) / static_cast<float>(a.C);
  const float rstd = 1 / sqrt(mean_square + a.epsilon);
  if (lane == 0) a.rstd[row] = rstd;
  for (int c = lane * width; c < a.C; c += step) {
    const auto x = load<width>(a.x, row * a.C + c), weight = load<width>(a.weight, c);
    Floats<width> out;
    for (int i = 0; i < width; ++i) out[i] = x[i] * rstd * weight[i];
    store(a.out, row * a.C + c, out);
  }
}

// ---- Backward: a block takes some rows, one after another, and sums their part of dweight in
// shared memory. Its sums go to a row of the workspace, whose columns the second kernel sums.

constexpr Index most_groups = 512;  // of rows

Index rows_a_group(Index N) {
  return divided_up(N, most_groups);
}

template <class A>
struct BackwardArguments {
  Index N, rows;
  int C, threads;
  Global<float> dx;
  Global<A> rounded;
  Global<float> partial;  // [groups, C]
  Global<const A> dout;
  Global<const float> x, weight, rstd;
};

template <class A, int width>
__global__ void rmsnorm_backward_kernel(BackwardArguments<A> a) {
  SharedMemory memory;
  auto scratch = memory.take<float>(a.threads / warp_size);
  auto sums = memory.take<float>(a.C);  // entry i of vector v at i * vectors + v
  const int me = thread_index(), vectors = a.C / width;
  const Index group = block_index().x, begin = group * a.rows;
  const Index end = begin + a.rows < a.N ? begin + a.rows : a.N;
  for (int v = me; v < vectors; v += a.threads)
    for (int i = 0; i < width; ++i) sums[i * vectors + v] = 0;

  for (Index row = begin; row < end; ++row) {
    const Index first = row * a.C;
    const float rstd = a.rstd[row];
    float sum = 0;
    for (int v = me; v < vectors; v += a.threads) {
      const int c = v * width;
      const auto dout = load<width>(a.dout, first + c), x = load<width>(a.x, first + c);
      const auto weight = load<width>(a.weight, c);
      for (int i = 0; i < width; ++i) sum = fma(dout[i] * weight[i], x[i], sum);
    }
    const float mean = over_block(sum, a.threads, scratch, Sum()) / static_cast<float>(a.C);
    for (int v = me; v < vectors; v += a.threads) {
      const int c = v * width;
      const auto dout = load<width>(a.dout, first + c), x = load<width>(a.x, first + c);
      const auto weight = load<width>(a.weight, c);
      auto dx = load<width>(a.dx, first + c);
      for (int i = 0; i < width; ++i) {
        dx[i] += rstd * (dout[i] * weight[i] - x[i] * rstd * rstd * mean);
        sums[i * vectors + v] += dout[i] * x[i] * rstd;
      }
      store(a.dx, first + c, dx);
      if (a.rounded) store(a.rounded, first + c, dx);
    }
  }
  for (int v = me; v < vectors; v += a.threads) {
    Floats<width> sum;
    for (int i = 0; i < width; ++i) sum[i] = sums[i * vectors + v];
    store(a.partial, group * a.C + v * width, sum);
  }
}

// ---- dweight[c] += the groups' sums. A block takes a warp's width of columns, a warp every 16th
// group.

constexpr int column_warps = 16;

struct ColumnArguments {
  int groups, C;
  Global<float> dweight;
  Global<const float> partial;
};

__global__ void rmsnorm_weight_gradient_kernel(ColumnArguments a) {
  auto sums = SharedMemory().take<float>(column_warps * warp_size);
  const int warp = thread_index() / warp_size, lane = thread_index() % warp_size;
  const int c = block_index().x * warp_size + lane;
  float sum = 0;
  if (c < a.C)
#pragma unroll 4
    for (int group = warp; group < a.groups; group += column_warps)
      sum += a.partial[Index(group) * a.C + c];
  sums[warp * warp_size + lane] = sum;
  barrier();
  if (warp > 0 || c >= a.C) return;
  for (int w = 1; w < column_warps; ++w) sum += sums[w * warp_size + lane];
  a.dweight[c] += sum;
}

}  // namespace

template <class A>
void rmsnorm_forward(A* out, float* rstd, const float* x, const float* weight, Index N, Index C,
                     double epsilon, void* stream) {
  if (N == 0) return;
  with_width<wide>(
      C,
      [&](auto width) {
        launch({"rmsnorm_forward",
                {int(divided_up<Index>(N, rows_a_block))},
                rows_a_block * warp_size,
                0,
                static_cast<Stream>(stream)},
               rmsnorm_forward_kernel<A, width()>,
               {N, int(C), float(epsilon), view(out, N * C), view(rstd, N), view(x, N * C),
                view(weight, C)});
      },
      out, x, weight);
}

template <class A>
void rmsnorm_backward(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                      const float* weight, const float* rstd, Index N, Index C, void* workspace,
                      void* stream) {
  if (N == 0) return;
  const Index rows = rows_a_group(N), groups = divided_up(N, rows);
  const auto partial = Workspace(workspace).take<float>(groups * C);
  with_width<wide>(
      C,
      [&](auto width) {
        const int threads = threads_for(C / width());
        launch({"rmsnorm_backward",
                {int(groups)},
                threads,
                shared_bytes_for<float>(threads / warp_size) + shared_bytes_for<float>(C),
                static_cast<Stream>(stream)},
               rmsnorm_backward_kernel<A, width()>,
               {N, rows, int(C), threads, view(dx, N * C), view(rounded, N * C), partial,
                view(dout, N * C), view(x, N * C), view(weight, C), view(rstd, N)});
      },
      dx, rounded, dout, x, weight);
  launch({"rmsnorm_weight_gradient",
          {int(divided_up<Index>(C, warp_size))},
          column_warps * warp_size,
          shared_bytes_for<float>(column_warps * warp_size),
          static_cast<Stream>(stream)},
         rmsnorm_weight_gradient_kernel, {int(groups), int(C), view(dweight, C), partial});
}

std::size_t rmsnorm_workspace(Index N, Index C) {
  Workspace w(nullptr);
  w.take<float>((N < most_groups ? N : most_groups) * C);
  return w.bytes();
}

#define LAZY_INSTANTIATE(A)                                                                   \
  template void rmsnorm_forward(A*, float*, const float*, const float*, Index, Index, double, \
                                void*);                                                       \
  template void rmsnorm_backward(float*, A*, float*, const A*, const float*, const float*,    \
                                 const float*, Index, Index, void*, void*);

LAZY_INSTANTIATE(float)
LAZY_INSTANTIATE(BFloat16)

}  // namespace lazy::LAZY_TARGET
