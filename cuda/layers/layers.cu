#include "cuda/layers/kernels.hpp"
#include "cuda/layers/layers.hpp"

namespace lazy::LAZY_TARGET {
namespace {

std::size_t workspace(Index N, Index C, Index) {
  const std::size_t rows = rmsnorm_workspace(N, C), measures = measure_workspace();
  return rows > measures ? rows : measures;
}

}  // namespace

template <class A>
const LayerKernels<A>& layers() {
  static constexpr LayerKernels<A> kernels{
      .embedding_forward = embedding_forward,
      .embedding_backward = embedding_backward,
      .rmsnorm_forward = rmsnorm_forward<A>,
      .rmsnorm_backward = rmsnorm_backward<A>,
      .split_heads = split_heads<A>,
      .join_heads = join_heads<A>,
      .swiglu_forward = swiglu_forward<A>,
      .swiglu_backward = swiglu_backward<A>,
      .cross_entropy = cross_entropy<A>,
      .measure_step = measure_step,
      .adamw_step = adamw_step<A>,
      .row_statistics = row_statistics,
      .round = round<A>,
      .workspace = workspace,
  };
  return kernels;
}

template const LayerKernels<float>& layers();
template const LayerKernels<BFloat16>& layers();

}  // namespace lazy::LAZY_TARGET
