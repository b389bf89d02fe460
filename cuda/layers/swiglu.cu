// SwiGLU: out = gate * sigmoid(gate) * up. A row of gate_up is F gates, then F ups. One block a
// row.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

// 0 where exp overflows.
__device__ float sigmoid(float x) {
  return 1 / (1 + exp(-x));
}

template <class A>
struct ForwardArguments {
  int F, threads;
  Global<A> out;
  Global<const A> gate_up;
};

template <class A, int width>
__global__ void swiglu_forward_kernel(ForwardArguments<A> a) {
  const Index row = block_index().x, gates = row * 2 * a.F, ups = gates + a.F;
  for (int f = thread_index() * width; f < a.F; f += a.threads * width) {
    const auto gate = load<width>(a.gate_up, gates + f), up = load<width>(a.gate_up, ups + f);
    Floats<width> out;
    for (int i = 0; i < width; ++i) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
    store(a.out, row * a.F + f, out);
  }
}

template <class A>
struct BackwardArguments {
  int F, threads;
  Global<A> dgate_up;
  Global<const A> dout, gate_up;
};

template <class A, int width>
__global__ void swiglu_backward_kernel(BackwardArguments<A> a) {
  const Index row = block_index().x, gates = row * 2 * a.F, ups = gates + a.F;
  for (int f = thread_index() * width; f < a.F; f += a.threads * width) {
    const auto gate = load<width>(a.gate_up, gates + f), up = load<width>(a.gate_up, ups + f);
    const auto dout = load<width>(a.dout, row * a.F + f);
    Floats<width> dgate, dup;
    for (int i = 0; i < width; ++i) {
      const float s = sigmoid(gate[i]);
      dgate[i] = dout[i] * up[i] * s * (1 + gate[i] * (1 - s));
      dup[i] = dout[i] * gate[i] * s;
    }
    store(a.dgate_up, gates + f, dgate);
    store(a.dgate_up, ups + f, dup);
  }
}

}  // namespace

template <class A>
void swiglu_forward(A* out, const A* gate_up, Index N, Index F, void* stream) {
  if (N == 0) return;
  with_width<vector_width<A>>(
      F,
      [&](auto width) {
        const int threads = threads_for(F / width());
        launch({"swiglu_forward", {int(N)}, threads, 0, static_cast<Stream>(stream)},
               swiglu_forward_kernel<A, width()>,
               {int(F), threads, view(out, N * F), view(gate_up, N * 2 * F)});
      },
      out, gate_up);
}

template <class A>
void swiglu_backward(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F, void* stream) {
  if (N == 0) return;
  with_width<vector_width<A>>(
      F,
      [&](auto width) {
        const int threads = threads_for(F / width());
        launch({"swiglu_backward", {int(N)}, threads, 0, static_cast<Stream>(stream)},
               swiglu_backward_kernel<A, width()>,
               {int(F), threads, view(dgate_up, N * 2 * F), view(dout, N * F),
                view(gate_up, N * 2 * F)});
      },
      dgate_up, dout, gate_up);
}

template void swiglu_forward(float*, const float*, Index, Index, void*);
template void swiglu_forward(BFloat16*, const BFloat16*, Index, Index, void*);
template void swiglu_backward(float*, const float*, const float*, Index, Index, void*);
template void swiglu_backward(BFloat16*, const BFloat16*, const BFloat16*, Index, Index, void*);

}  // namespace lazy::LAZY_TARGET
