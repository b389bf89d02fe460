// Cross entropy and its gradient in one kernel: softmax(logits) - one hot. One block a row, which
// it reads twice: for the sum of exponentials, kept relative to the largest logit so far, and for
// the gradient, which may take the logits' place.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

template <class A>
struct CrossEntropyArguments {
  int V, threads;
  Global<float> losses;
  Global<A> dlogits;
  Global<const A> logits;
  Global<const int> targets;
  Global<const StepInputs> inputs;
};

// What exponents are taken relative to; as long as nothing was larger than -infinity, e^z is 0.
__device__ float reference(float largest) {
  return largest == -infinity ? 0.f : largest;
}

template <class A, int width>
__global__ void cross_entropy_kernel(CrossEntropyArguments<A> a) {
  auto scratch = SharedMemory().take<float>(a.threads / warp_size);
  const Index row = block_index().x, first = row * a.V;
  const int target = a.targets[row], me = thread_index() * width, step = a.threads * width;
  if (target < 0) {
    if (me == 0) a.losses[row] = 0;
    if (a.dlogits)
      for (int v = me; v < a.V; v += step) store(a.dlogits, first + v, Floats<width>{});
    return;
  }
  const float target_logit = to_float(a.logits[first + target]);

  float largest = -infinity, sum = 0;
  for (int v = me; v < a.V; v += step) {
    const auto z = load<width>(a.logits, first + v);
    float now = largest;
    for (int i = 0; i < width; ++i) now = larger(now, z[i]);
    sum = sum * exp(largest - reference(now));
    for (int i = 0; i < width; ++i) sum += exp(z[i] - reference(now));
    largest = now;
  }
  const float all = over_block(largest, a.threads, scratch, Max());
  sum = over_block(sum * exp(largest - reference(all)), a.threads, scratch, Sum());
  const float lse = all + log(sum);
  if (me == 0) a.losses[row] = lse - target_logit;

  if (!a.dlogits) return;
  const auto scale = static_cast<float>(a.inputs[0].loss_scale);
  for (int v = me; v < a.V; v += step) {
    const auto z = load<width>(a.logits, first + v);
    Floats<width> dz;
    for (int i = 0; i < width; ++i)
      dz[i] = scale * (exp(z[i] - lse) - (v + i == target ? 1.f : 0.f));
    store(a.dlogits, first + v, dz);
  }
}

}  // namespace

template <class A>
void cross_entropy(float* losses, A* dlogits, const A* logits, const int* targets, Index N, Index V,
                   const StepInputs* inputs, void* stream) {
  if (N == 0) return;
  with_width<vector_width<A>>(
      V,
      [&](auto width) {
        const int threads = threads_for(V / width());
        launch({"cross_entropy",
                {int(N)},
                threads,
                shared_bytes_for<float>(threads / warp_size),
                static_cast<Stream>(stream)},
               cross_entropy_kernel<A, width()>,
               {int(V), threads, view(losses, N), view(dlogits, N * V), view(logits, N * V),
                view(targets, N), view(inputs, 1)});
      },
      dlogits, logits);
}

template void cross_entropy(float*, float*, const float*, const int*, Index, Index,
                            const StepInputs*, void*);
template void cross_entropy(float*, BFloat16*, const BFloat16*, const int*, Index, Index,
                            const StepInputs*, void*);

}  // namespace lazy::LAZY_TARGET
