// What a step is judged by: the sum of its losses and the squared norm of its gradient, in double.
// Each block sums its share of both; one block sums what they found.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

constexpr int threads = 256;
constexpr Index most_shares = 1024;

struct ShareArguments {
  Index N, size;
  int shares;
  Global<double> losses_of, squares_of;  // each share
  Global<const float> losses, gradients;
};

template <int width>
__global__ void step_share_kernel(ShareArguments a) {
  auto scratch = SharedMemory().take<double>(threads / warp_size);
  const Index me = Index(block_index().x) * threads + thread_index();
  const Index step = Index(a.shares) * threads, whole = a.size / width * width;
  double losses = 0, squares = 0;
  for (Index i = me; i < a.N; i += step) losses += a.losses[i];
#pragma unroll 4
  for (Index i = me * width; i < whole; i += step * width) {
    const auto gradient = load<width>(a.gradients, i);
    for (int j = 0; j < width; ++j) squares += double(gradient[j]) * double(gradient[j]);
  }
  if (whole + me < a.size) {
    const double gradient = a.gradients[whole + me];
    squares += gradient * gradient;
  }
  losses = over_block(losses, threads, scratch, Sum());
  squares = over_block(squares, threads, scratch, Sum());
  if (thread_index() > 0) return;
  a.losses_of[block_index().x] = losses;
  a.squares_of[block_index().x] = squares;
}

struct TotalArguments {
  int shares;
  Global<StepOutputs> outputs;
  Global<const double> losses_of, squares_of;
  Global<const StepInputs> inputs;
};

__global__ void step_total_kernel(TotalArguments a) {
  auto scratch = SharedMemory().take<double>(threads / warp_size);
  double losses = 0, squares = 0;
  for (int share = thread_index(); share < a.shares; share += threads) {
    losses += a.losses_of[share];
    squares += a.squares_of[share];
  }
  losses = over_block(losses, threads, scratch, Sum());
  squares = over_block(squares, threads, scratch, Sum());
  if (thread_index() > 0) return;
  StepOutputs& outputs = a.outputs[0];
  outputs.loss_sum = losses;
  outputs.squared_norm = squares;
  outputs.kept[a.inputs[0].step % steps_kept] = {losses, squares};
  // What is not finite differs from itself, or leaves no zero.
  const bool finite = losses - losses == 0 && squares - squares == 0;
  if (!finite && outputs.failed_step == 0) outputs.failed_step = a.inputs[0].step;
}

struct Buffers {
  Global<double> losses_of, squares_of;
  std::size_t bytes;
};

Buffers make_buffers(Index shares, void* workspace) {
  Workspace w(workspace);
  const auto losses_of = w.take<double>(shares), squares_of = w.take<double>(shares);
  return {losses_of, squares_of, w.bytes()};
}

}  // namespace

void measure_step(StepOutputs* outputs, const float* losses, Index N, const float* gradients,
                  Index size, const StepInputs* inputs, void* workspace, void* stream_) {
  const auto stream = static_cast<Stream>(stream_);
  constexpr int wide = vector_width<float>;
  // As many blocks as have a vector for every thread.
  const Index wanted = divided_up<Index>(size > N ? size : N, threads * wide);
  const Index shares = wanted < 1 ? 1 : wanted < most_shares ? wanted : most_shares;
  const Buffers buffers = make_buffers(shares, workspace);
  const std::size_t bytes = shared_bytes_for<double>(threads / warp_size);
  with_width<wide>(
      0,
      [&](auto width) {
        launch({"step_share", {int(shares)}, threads, bytes, stream}, step_share_kernel<width()>,
               {N, size, int(shares), buffers.losses_of, buffers.squares_of, view(losses, N),
                view(gradients, size)});
      },
      gradients);
  launch({"step_total", {}, threads, bytes, stream}, step_total_kernel,
         {int(shares), view(outputs, 1), buffers.losses_of, buffers.squares_of, view(inputs, 1)});
}

std::size_t measure_workspace() {
  return make_buffers(most_shares, nullptr).bytes;
}

}  // namespace lazy::LAZY_TARGET
