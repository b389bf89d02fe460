// One AdamW update of all parameters. A block takes a piece: neighbours that all decay, or all not.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

constexpr int threads = 256;
constexpr int wide = vector_width<float>;

template <class A>
struct AdamWArguments {
  bool aligned;
  float beta1, beta2, rest1, rest2, epsilon;  // rest: 1 - beta
  double weight_decay, clip;
  Global<float> parameters;
  Global<A> working;
  Global<float> first_moment, second_moment;
  Global<const float> gradients;
  Global<const UpdatePiece> pieces;
  Global<const StepInputs> inputs;
  Global<const StepOutputs> outputs;
};

// What a step's numbers make of the rule.
struct Factors {
  float gradient, rate, correction, keep;
};

template <class A>
__device__ Factors factors_of_step(const AdamWArguments<A>& a, bool decay) {
  const StepInputs& in = a.inputs[0];
  const double norm = sqrt(double(a.outputs[0].squared_norm));
  return {static_cast<float>(norm > a.clip ? a.clip / norm : 1.0),
          static_cast<float>(in.learning_rate * in.correction1), static_cast<float>(in.correction2),
          static_cast<float>(decay ? 1 - in.learning_rate * a.weight_decay : 1.0)};
}

template <int width, class A>
__device__ void update(const AdamWArguments<A>& a, const Factors& by, Index i) {
  const auto gradient = load<width>(a.gradients, i);
  auto w = load<width>(a.parameters, i);
  auto m = load<width>(a.first_moment, i), v = load<width>(a.second_moment, i);
  for (int j = 0; j < width; ++j) {
    const float g = by.gradient * gradient[j];
    m[j] = a.beta1 * m[j] + a.rest1 * g;
    v[j] = a.beta2 * v[j] + a.rest2 * g * g;
    w[j] = by.keep * w[j] - by.rate * m[j] / (sqrt(v[j] * by.correction) + a.epsilon);
  }
  store(a.parameters, i, w);
  store(a.first_moment, i, m);
  store(a.second_moment, i, v);
  if (a.working) store(a.working, i, w);
}

template <class A>
__global__ void adamw_kernel(AdamWArguments<A> a) {
  if (a.outputs[0].failed_step != 0) return;
  auto shared = SharedMemory().take<float>(4);
  const UpdatePiece piece = a.pieces[block_index().x];
  const int me = thread_index();
  if (me == 0) {  // double is slow on many GPUs: one thread for all
    const Factors by = factors_of_step(a, piece.decay);
    shared[0] = by.gradient, shared[1] = by.rate, shared[2] = by.correction, shared[3] = by.keep;
  }
  barrier();
  const Factors by{shared[0], shared[1], shared[2], shared[3]};

  // One by one up to the first multiple of the width, and after the last.
  const Index begin = piece.offset, end = begin + piece.size;
  Index first = begin, last = begin;
  if (a.aligned) {
    first = divided_up<Index>(begin, wide) * wide;
    if (first > end) first = end;
    last = first + (end - first) / wide * wide;
  }
  for (Index i = begin + me; i < first; i += threads) update<1>(a, by, i);
  for (Index i = first + me * wide; i < last; i += threads * wide) update<wide>(a, by, i);
  for (Index i = last + me; i < end; i += threads) update<1>(a, by, i);
}

}  // namespace

template <class A>
void adamw_step(float* parameters, A* working, float* first_moment, float* second_moment,
                const float* gradients, const UpdatePiece* pieces, Index count,
                const UpdateRule& rule, const StepInputs* inputs, const StepOutputs* outputs,
                void* stream) {
  if (count == 0) return;
  const bool aligned = is_aligned(parameters) && is_aligned(working) && is_aligned(first_moment) &&
                       is_aligned(second_moment) && is_aligned(gradients);
  const Index size = Index(1) << 60;  // the pieces, in the device's memory, know it
  launch(
      {"adamw", {int(count)}, threads, shared_bytes_for<float>(4), static_cast<Stream>(stream)},
      adamw_kernel<A>,
      {aligned, float(rule.beta1), float(rule.beta2), float(1 - rule.beta1), float(1 - rule.beta2),
       float(rule.epsilon), rule.weight_decay, rule.clip, view(parameters, size),
       view(working, size), view(first_moment, size), view(second_moment, size),
       view(gradients, size), view(pieces, count), view(inputs, 1), view(outputs, 1)});
}

template void adamw_step(float*, float*, float*, float*, const float*, const UpdatePiece*, Index,
                         const UpdateRule&, const StepInputs*, const StepOutputs*, void*);
template void adamw_step(float*, BFloat16*, float*, float*, const float*, const UpdatePiece*, Index,
                         const UpdateRule&, const StepInputs*, const StepOutputs*, void*);

}  // namespace lazy::LAZY_TARGET
