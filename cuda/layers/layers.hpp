#pragma once
// The layers around the attention as kernels: what reference/layers.hpp computes, for arrays on a
// device. One kernel file each.
//
// N rows (all tokens of a batch), C channels. A is the type of what lies between two matrix
// products, float or BFloat16; the residual stream, parameters, their gradients and statistics are
// float, and sums are taken in float or double. Nothing is allocated, no call waits, two runs give
// the same bytes. `stream` is a cudaStream_t, or a lazy::emulated::Machine or null.

#include <cstddef>

#include "cuda/lazy_attention.h"
#include "reference/attention_types.hpp"
#include "reference/diagnostics.hpp"
#include "reference/layers.hpp"
#include "reference/rope.hpp"

namespace lazy {

template <class A>
struct LayerKernels {
  /// x[n] = table[tokens[n]]; x [N, C], table [V, C].
  void (*embedding_forward)(float* x, const float* table, const int* tokens, Index N, Index C,
                            Index V, void* stream);
  /// dtable[tokens[n]] += dx[n]. `order` [N]: the rows sorted by token, equal ones by row; it alone
  /// determines the order in which rows of equal tokens are summed.
  void (*embedding_backward)(float* dtable, const float* dx, const int* tokens, const int* order,
                             Index N, Index C, Index V, void* stream);

  /// out = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon); rstd [N] is kept.
  void (*rmsnorm_forward)(A* out, float* rstd, const float* x, const float* weight, Index N,
                          Index C, double epsilon, void* stream);
  /// dx += ..., dweight += ...; `rounded`, if not null, is assigned the new dx in A [N, C]. A block
  /// keeps a row of C floats in shared memory.
  void (*rmsnorm_backward)(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                           const float* weight, const float* rstd, Index N, Index C,
                           void* workspace, void* stream);

  /// From the joint projection qkv [N, (H + 2 Hkv) D] (all heads of q, then of k, then of v) to
  /// q [B, T, H, D], rotated, and to rows past[b] + t of k (rotated) and v [B, capacity, Hkv, D].
  /// `past` [B] null: 0; negative: nothing of that sequence is written. `rope` [positions, D/2, 2],
  /// cos and sin; null: no rotation.
  void (*split_heads)(A* q, A* k, A* v, const A* qkv, const HeadSplit& split, const float* rope,
                      const Index* past, void* stream);
  /// The transpose, for past = 0 and capacity = T: dqkv is assigned.
  void (*join_heads)(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& split,
                     const float* rope, void* stream);

  /// out [N, F] = gate * sigmoid(gate) * up, from gate_up [N, 2 F], a row's gate before its up.
  void (*swiglu_forward)(A* out, const A* gate_up, Index N, Index F, void* stream);
  /// dgate_up is assigned.
  void (*swiglu_backward)(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F,
                          void* stream);

  /// losses [N] = -log softmax(logits)[target] in nats, 0 for a negative target; dlogits [N, V] =
  /// inputs->loss_scale * d(sum of losses) / d(logits), assigned. dlogits null: losses only. It may
  /// be `logits` itself.
  void (*cross_entropy)(float* losses, A* dlogits, const A* logits, const int* targets, Index N,
                        Index V, const StepInputs* inputs, void* stream);

  /// outputs->loss_sum and outputs->squared_norm are assigned, in an order that the sizes alone
  /// determine; where one of them is not finite and failed_step is 0, failed_step = inputs->step.
  void (*measure_step)(StepOutputs* outputs, const float* losses, Index N, const float* gradients,
                       Index size, const StepInputs* inputs, void* workspace, void* stream);
  /// One AdamW update of every piece, of gradients scaled by min(1, rule.clip / norm); `working`,
  /// if not null, is assigned the new parameters in A. Nothing happens after a failed step.
  void (*adamw_step)(float* parameters, A* working, float* first_moment, float* second_moment,
                     const float* gradients, const UpdatePiece* pieces, Index count,
                     const UpdateRule& rule, const StepInputs* inputs, const StepOutputs* outputs,
                     void* stream);

  /// What `row_statistics` of diagnostics.hpp gives for `count` rows from `first_row` of sequence
  /// `b`, whose weights [count, keys] these are: rows [count], live_tiles [count, words]. Of
  /// `shape` the batch, the queries and the keys are read; `lengths` [B] null: all keys are valid.
  void (*row_statistics)(RowStatistics* rows, std::uint32_t* live_tiles, const float* weights,
                         const AttentionShape& shape, const std::int64_t* lengths, Index b,
                         Index first_row, Index count, void* stream);

  /// to [size] = from, rounded to A.
  void (*round)(A* to, const float* from, Index size, void* stream);

  /// Bytes of `workspace` that serve every call with at most these sizes.
  std::size_t (*workspace)(Index N, Index C, Index size);
};

namespace emulated {
template <class A>
const LayerKernels<A>& layers();
}
namespace cuda {
template <class A>
const LayerKernels<A>& layers();  // only where the program was built with nvcc
}  // namespace cuda

}  // namespace lazy
