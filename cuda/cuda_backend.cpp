#include "cuda/cuda_backend.hpp"

#include <algorithm>

#include "cuda/kernel_call.hpp"
#include "cuda/memory.hpp"

namespace lazy {
namespace {

using kernels::must;

LazyAttention described(LazyDevice device, const AttentionShape& s, const AttentionRule& rule) {
  kernels::check_rule(rule);
  LazyAttention a = kernels::describe(s, device, LAZY_FLOAT32);
  a.divide_by_length = rule.divisor == Divisor::length;
  return a;
}

LazySizes sizes_of(const LazyAttention& a) {
  LazySizes sizes;
  must(lazy_attention_sizes(&a, &sizes));
  return sizes;
}

LazyInputs inputs(const AttentionRule& rule, const AttentionInputs<float>& in) {
  static_assert(sizeof(Index) == sizeof(std::int64_t));
  return {in.q,
          in.k,
          in.v,
          in.bias,
          rule.normalizer == Normalizer::elastic ? in.tau : nullptr,
          reinterpret_cast<const std::int64_t*>(in.lengths)};
}

}  // namespace

template <LazyDevice device>
void* KernelBackend<device>::allocate(std::size_t bytes) {
  return memory(device).allocate(bytes > 0 ? bytes : 1);
}
template <LazyDevice device>
void KernelBackend<device>::release(void* data) {
  if (data) memory(device).release(data);
}
template <LazyDevice device>
void KernelBackend<device>::upload_bytes(void* to, const void* host, std::size_t bytes) {
  if (bytes > 0) memory(device).upload(to, host, bytes, nullptr);
}
template <LazyDevice device>
void KernelBackend<device>::download_bytes(void* host, const void* from, std::size_t bytes) {
  if (bytes > 0) memory(device).download(host, from, bytes, nullptr);
}
template <LazyDevice device>
void* KernelBackend<device>::workspace(std::size_t bytes) {
  static thread_local Buffer<char> kept;
  if (kept.size() < bytes) resize(kept, static_cast<Index>(bytes));
  return kept.data();
}

template <LazyDevice device>
void KernelBackend<device>::reserve(const AttentionShape& s) {
  const LazySizes sizes = sizes_of(described(device, s, {}));
  workspace(std::max(sizes.forward_workspace, sizes.backward_workspace));
}

template <LazyDevice device>
void KernelBackend<device>::attention_forward(const AttentionShape& s, const AttentionRule& rule,
                                              const AttentionInputs<float>& in,
                                              const AttentionOutputs<float>& out) {
  const LazyAttention a = described(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  const LazyOutputs outputs{out.out, out.lse, nullptr, nullptr};
  must(lazy_attention_forward(&a, &given, &outputs, workspace(sizes_of(a).forward_workspace),
                              nullptr));
}

template <LazyDevice device>
void KernelBackend<device>::attention_backward(const AttentionShape& s, const AttentionRule& rule,
                                               const AttentionInputs<float>& in,
                                               const AttentionOutputs<float>& forward,
                                               const float* dout,
                                               const AttentionGrads<float>& grads) {
  const LazyAttention a = described(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  const LazyOutputs outputs{forward.out, forward.lse, nullptr, nullptr};
  const LazyGrads to{grads.dq, grads.dk, grads.dv, grads.dbias, given.tau ? grads.dtau : nullptr};
  must(lazy_attention_backward(&a, &given, &outputs, dout, &to,
                               workspace(sizes_of(a).backward_workspace), nullptr));
}

template <LazyDevice device>
void KernelBackend<device>::attention_weights(const AttentionShape& s, const AttentionRule& rule,
                                              const AttentionInputs<float>& in,
                                              const AttentionOutputs<float>& forward, Index b,
                                              Index head, Index first_row, Index rows,
                                              float* weights) {
  const LazyAttention a = described(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  must(lazy_attention_weights(&a, &given, forward.lse, b, head, first_row, rows, weights, nullptr));
}

template struct KernelBackend<LAZY_CUDA>;
template struct KernelBackend<LAZY_EMULATED>;

}  // namespace lazy
