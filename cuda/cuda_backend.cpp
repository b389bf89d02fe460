#include "cuda/cuda_backend.hpp"

#include <algorithm>
#include <atomic>

#include "cuda/decode.hpp"
#include "cuda/kernel_call.hpp"
#include "cuda/layers/layers.hpp"
#include "cuda/matrix_products.hpp"
#include "cuda/memory.hpp"

namespace lazy {
namespace {

using kernels::must;

template <class A>
constexpr LazyType type_of = std::is_same_v<A, float> ? LAZY_FLOAT32 : LAZY_BFLOAT16;

template <class A>
LazyAttention described(LazyDevice device, const AttentionShape& s, const AttentionRule& rule) {
  kernels::check_rule(rule);
  LazyAttention a = kernels::describe(s, device, type_of<A>);
  a.divide_by_length = rule.divisor == Divisor::length;
  return a;
}

LazySizes sizes_of(const LazyAttention& a) {
  LazySizes sizes;
  must(lazy_attention_sizes(&a, &sizes));
  return sizes;
}

/// Whether the kernels of decoding compute this. What they answer has no backward.
bool decodes(const LazyAttention& a) {
  return a.queries == 1 && emulated::decoding().supports(a.type, a.head_dim);
}

std::size_t decode_workspace(const LazyAttention& a) {
  LazyDecodeSizes sizes;
  must(lazy_attention_decode_sizes(&a, &sizes));
  return sizes.workspace;
}

template <class A>
LazyInputs inputs(const AttentionRule& rule, const AttentionInputs<A, float>& in) {
  static_assert(sizeof(Index) == sizeof(std::int64_t));
  return {in.q,
          in.k,
          in.v,
          in.bias,
          rule.normalizer == Normalizer::elastic ? in.tau : nullptr,
          reinterpret_cast<const std::int64_t*>(in.lengths)};
}

template <LazyDevice device, class A>
const LayerKernels<A>& layers() {
  if constexpr (device == LAZY_EMULATED) return emulated::layers<A>();
#if defined(LAZY_WITH_CUDA)
  if constexpr (device == LAZY_CUDA) return cuda::layers<A>();
#endif
  memory(device);  // refuses what this build does not have
  return emulated::layers<A>();
}

void* stream_of(LazyDevice device) {
  return memory(device).stream();
}

std::atomic<Index> allocation_count = 0;

}  // namespace

template <LazyDevice device, class A>
void* KernelBackend<device, A>::allocate(std::size_t bytes) {
  ++allocation_count;
  return memory(device).allocate(bytes > 0 ? bytes : 1);
}
template <LazyDevice device, class A>
Index KernelBackend<device, A>::allocations() {
  return allocation_count;
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::release(void* data) {
  if (!data) return;
  ++allocation_count;  // what was recorded may have used it
  memory(device).release(data);
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::upload_bytes(void* to, const void* host, std::size_t bytes) {
  if (bytes > 0) memory(device).upload(to, host, bytes, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::download_bytes(void* host, const void* from, std::size_t bytes) {
  if (bytes > 0) memory(device).download(host, from, bytes, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::zero_bytes(void* data, std::size_t bytes) {
  if (bytes > 0) memory(device).zero(data, bytes, stream_of(device));
}
template <LazyDevice device, class A>
void* KernelBackend<device, A>::workspace(std::size_t bytes) {
  static thread_local Buffer<char> kept;
  if (kept.size() < bytes) resize(kept, static_cast<Index>(bytes));
  return kept.data();
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::round(A* to, const float* from, Index size) {
  layers<device, A>().round(to, from, size, stream_of(device));
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::embedding_forward(float* x, const float* table, const int* tokens,
                                                 Index N, Index C, Index V) {
  layers<device, A>().embedding_forward(x, table, tokens, N, C, V, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::embedding_backward(float* dtable, const float* dx, const int* tokens,
                                                  const int* order, Index N, Index C, Index V) {
  layers<device, A>().embedding_backward(dtable, dx, tokens, order, N, C, V, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::rmsnorm_forward(A* out, float* rstd, const float* x,
                                               const float* weight, Index N, Index C,
                                               double epsilon) {
  layers<device, A>().rmsnorm_forward(out, rstd, x, weight, N, C, epsilon, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::rmsnorm_backward(float* dx, A* rounded, float* dweight,
                                                const A* dout, const float* x, const float* weight,
                                                const float* rstd, Index N, Index C) {
  const LayerKernels<A>& kernels = layers<device, A>();
  kernels.rmsnorm_backward(dx, rounded, dweight, dout, x, weight, rstd, N, C,
                           workspace(kernels.workspace(N, C, 0)), stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::linear_forward(A* out, const A* x, const A* weight, Index N,
                                              Index In, Index Out) {
  matrix_products<A>(device).linear_forward(out, x, weight, N, In, Out, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::linear_add_forward(float* out, const float* base, const A* x,
                                                  const A* weight, Index N, Index In, Index Out) {
  matrix_products<A>(device).linear_add_forward(out, base, x, weight, N, In, Out,
                                                stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::linear_backward(A* dx, float* dweight, const A* dout, const A* x,
                                               const A* weight, Index N, Index In, Index Out) {
  matrix_products<A>(device).linear_backward(dx, dweight, dout, x, weight, N, In, Out,
                                             stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::swiglu_forward(A* out, const A* gate_up, Index N, Index F) {
  layers<device, A>().swiglu_forward(out, gate_up, N, F, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::swiglu_backward(A* dgate_up, const A* dout, const A* gate_up,
                                               Index N, Index F) {
  layers<device, A>().swiglu_backward(dgate_up, dout, gate_up, N, F, stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::cross_entropy(float* losses, A* dlogits, const A* logits,
                                             const int* targets, Index N, Index V,
                                             const StepInputs* inputs) {
  layers<device, A>().cross_entropy(losses, dlogits, logits, targets, N, V, inputs,
                                    stream_of(device));
}

template <LazyDevice device, class A>
auto KernelBackend<device, A>::rope_pairs(Index positions, Index head_dim, double base)
    -> Rope<float> {
  const RopeTable<float> table = make_rope_table<float>(positions, head_dim, base);
  std::vector<float> pairs;
  for (std::size_t i = 0; i < table.cos.size(); ++i)
    for (const float x : {table.cos[i], table.sin[i]}) pairs.push_back(x);
  Rope<float> rope;
  resize(rope.pairs, Index(pairs.size()));
  upload(rope.pairs.data(), pairs.data(), Index(pairs.size()));
  return rope;
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& split,
                                           const Rope<float>* rope, const Index* past) {
  layers<device, A>().split_heads(q, k, v, qkv, split, rope ? rope->pairs.data() : nullptr, past,
                                  stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::join_heads(A* dqkv, const A* dq, const A* dk, const A* dv,
                                          const HeadSplit& split, const Rope<float>* rope) {
  layers<device, A>().join_heads(dqkv, dq, dk, dv, split, rope ? rope->pairs.data() : nullptr,
                                 stream_of(device));
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::reserve(const AttentionShape& s) {
  const LazyAttention a = described<A>(device, s, {});
  const LazySizes sizes = sizes_of(a);
  workspace(std::max(
      {sizes.forward_workspace, sizes.backward_workspace, decodes(a) ? decode_workspace(a) : 0}));
}

template <LazyDevice device, class A>
auto KernelBackend<device, A>::step_bytes(const AttentionShape& s, Index C, Index parameters)
    -> StepBytes {
  const LazySizes sizes = sizes_of(described<A>(device, s, {}));
  const std::size_t live_sums =
      sizes.needs_live_sums ? sizeof(float) * s.batch * s.queries * s.heads * 2 * s.head_dim : 0;
  return {live_sums + sizes.live_tiles,
          std::max({sizes.forward_workspace, sizes.backward_workspace,
                    layers<device, A>().workspace(s.batch * s.queries, C, parameters)}) +
              matrix_products<A>(device).workspace};
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::attention_forward(const AttentionShape& s, const AttentionRule& rule,
                                                 const AttentionInputs<A, float>& in,
                                                 const AttentionOutputs<A, float>& out,
                                                 AttentionMemory* memory) {
  const LazyAttention a = described<A>(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  LazyOutputs outputs{out.out, out.lse, nullptr, nullptr};
  if (!memory && decodes(a)) {
    must(lazy_attention_decode(&a, &given, &outputs, workspace(decode_workspace(a)),
                               stream_of(device)));
    return;
  }
  const LazySizes sizes = sizes_of(a);
  if (memory && sizes.needs_live_sums) {
    resize(memory->live_sums, s.batch * s.queries * s.heads * 2 * s.head_dim);
    outputs.live_sums = memory->live_sums.data();
  }
  if (memory && sizes.live_tiles > 0) {
    resize(memory->live_tiles, Index(sizes.live_tiles));
    outputs.live_tiles = reinterpret_cast<std::uint32_t*>(memory->live_tiles.data());
  }
  must(lazy_attention_forward(&a, &given, &outputs, workspace(sizes.forward_workspace),
                              stream_of(device)));
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::attention_backward(const AttentionShape& s,
                                                  const AttentionRule& rule,
                                                  const AttentionInputs<A, float>& in,
                                                  const AttentionOutputs<A, float>& forward,
                                                  AttentionMemory* memory, const A* dout,
                                                  const AttentionGrads<A, float>& grads) {
  const LazyAttention a = described<A>(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  const LazyOutputs outputs{forward.out, forward.lse, memory->live_sums.data(),
                            reinterpret_cast<std::uint32_t*>(memory->live_tiles.data())};
  const LazyGrads to{grads.dq, grads.dk, grads.dv, grads.dbias, given.tau ? grads.dtau : nullptr};
  must(lazy_attention_backward(&a, &given, &outputs, dout, &to,
                               workspace(sizes_of(a).backward_workspace), stream_of(device)));
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::attention_weights(const AttentionShape& s, const AttentionRule& rule,
                                                 const AttentionInputs<A, float>& in,
                                                 const AttentionOutputs<A, float>& forward, Index b,
                                                 Index head, Index first_row, Index rows,
                                                 float* weights) {
  const LazyAttention a = described<A>(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  Buffer<float> block;
  resize(block, rows * s.keys);
  must(lazy_attention_weights(&a, &given, forward.lse, b, head, first_row, rows, block.data(),
                              stream_of(device)));
  download(weights, static_cast<const float*>(block.data()), rows * s.keys);
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::attention_statistics(const AttentionShape& s,
                                                    const AttentionRule& rule,
                                                    const AttentionInputs<A, float>& in,
                                                    const AttentionOutputs<A, float>& forward,
                                                    RowStatistics* rows, std::uint32_t* live_tiles,
                                                    Index rows_at_once) {
  const LazyAttention a = described<A>(device, s, rule);
  const LazyInputs given = inputs(rule, in);
  const LayerKernels<A>& kernels = layers<device, A>();
  const Index words = tile_words(s.keys), of_sequence = s.heads * s.queries;
  const Index block = std::min(s.queries, rows_at_once);

  const std::size_t row_bytes = of_sequence * sizeof(RowStatistics);
  const std::size_t weight_bytes = block * s.keys * sizeof(float);
  char* const space = static_cast<char*>(
      workspace(row_bytes + weight_bytes + of_sequence * words * sizeof(std::uint32_t)));
  const auto rows_there = reinterpret_cast<RowStatistics*>(space);
  const auto weights = reinterpret_cast<float*>(space + row_bytes);
  const auto tiles_there = reinterpret_cast<std::uint32_t*>(space + row_bytes + weight_bytes);

  for (Index b = 0; b < s.batch; ++b) {
    for (Index head = 0; head < s.heads; ++head)
      for (Index first = 0; first < s.queries; first += block) {
        const Index count = std::min(block, s.queries - first), row = head * s.queries + first;
        must(lazy_attention_weights(&a, &given, forward.lse, b, head, first, count, weights,
                                    stream_of(device)));
        kernels.row_statistics(rows_there + row, tiles_there + row * words, weights, s,
                               given.lengths, b, first, count, stream_of(device));
      }
    download(rows + b * of_sequence, static_cast<const RowStatistics*>(rows_there), of_sequence);
    download(live_tiles + b * of_sequence * words, static_cast<const std::uint32_t*>(tiles_there),
             of_sequence * words);
  }
}

template <LazyDevice device, class A>
void KernelBackend<device, A>::measure_step(StepOutputs* outputs, const float* losses, Index N,
                                            const float* gradients, Index size,
                                            const StepInputs* inputs) {
  const LayerKernels<A>& kernels = layers<device, A>();
  kernels.measure_step(outputs, losses, N, gradients, size, inputs,
                       workspace(kernels.workspace(N, 0, size)), stream_of(device));
}
template <LazyDevice device, class A>
void KernelBackend<device, A>::adamw_step(float* parameters, A* rounded, float* first_moment,
                                          float* second_moment, const float* gradients,
                                          const UpdatePiece* pieces, Index count,
                                          const UpdateRule& rule, const StepInputs* inputs,
                                          const StepOutputs* outputs) {
  layers<device, A>().adamw_step(parameters, rounded, first_moment, second_moment, gradients,
                                 pieces, count, rule, inputs, outputs, stream_of(device));
}

template struct KernelBackend<LAZY_CUDA, float>;
template struct KernelBackend<LAZY_CUDA, BFloat16>;
template struct KernelBackend<LAZY_EMULATED, float>;
template struct KernelBackend<LAZY_EMULATED, BFloat16>;

static_assert(Backend<CudaBackend, float> && Backend<CudaBFloat16Backend, float>);
static_assert(Backend<EmulatedBackend, float> && Backend<EmulatedBFloat16Backend, float>);

}  // namespace lazy
