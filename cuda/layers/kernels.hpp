#pragma once
// The host's functions of every layer, as the table (layers.cu) lists them. What each is given and
// leaves says layers.hpp.

#include "cuda/layers/layers.hpp"
#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

void embedding_forward(float* x, const float* table, const int* tokens, Index N, Index C, Index V,
                       void* stream);
void embedding_backward(float* dtable, const float* dx, const int* tokens, const int* order,
                        Index N, Index C, Index V, void* stream);

template <class A>
void rmsnorm_forward(A* out, float* rstd, const float* x, const float* weight, Index N, Index C,
                     double epsilon, void* stream);
template <class A>
void rmsnorm_backward(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                      const float* weight, const float* rstd, Index N, Index C, void* workspace,
                      void* stream);
std::size_t rmsnorm_workspace(Index N, Index C);

template <class A>
void split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& split, const float* rope,
                 const Index* past, void* stream);
template <class A>
void join_heads(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& split,
                const float* rope, void* stream);

template <class A>
void swiglu_forward(A* out, const A* gate_up, Index N, Index F, void* stream);
template <class A>
void swiglu_backward(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F, void* stream);

template <class A>
void cross_entropy(float* losses, A* dlogits, const A* logits, const int* targets, Index N, Index V,
                   const StepInputs* inputs, void* stream);

void measure_step(StepOutputs* outputs, const float* losses, Index N, const float* gradients,
                  Index size, const StepInputs* inputs, void* workspace, void* stream);
std::size_t measure_workspace();

template <class A>
void adamw_step(float* parameters, A* working, float* first_moment, float* second_moment,
                const float* gradients, const UpdatePiece* pieces, Index count,
                const UpdateRule& rule, const StepInputs* inputs, const StepOutputs* outputs,
                void* stream);
void row_statistics(RowStatistics* rows, std::uint32_t* live_tiles, const float* weights,
                    const AttentionShape& shape, const std::int64_t* lengths, Index b,
                    Index first_row, Index count, void* stream);

template <class A>
void round(A* to, const float* from, Index size, void* stream);

}  // namespace lazy::LAZY_TARGET
