#pragma once
// The host's functions of every rung, as the table (ladder.cu) lists them.

#include "cuda/lazy_attention.h"
#include "cuda/simt/simt.hpp"

namespace lazy::LAZY_TARGET {

LazySizes v0_sizes(const LazyAttention&);
void v0_forward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, void* workspace,
                void* stream);
void v0_backward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, const void* dout,
                 const LazyGrads&, void* workspace, void* stream);
void v0_weights(const LazyAttention&, const LazyInputs&, const float* lse, std::int64_t batch,
                std::int64_t head, std::int64_t first_row, std::int64_t rows, float* weights,
                void* stream);

LazySizes v1_sizes(const LazyAttention&);
void v1_forward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, void* workspace,
                void* stream);
void v1_backward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, const void* dout,
                 const LazyGrads&, void* workspace, void* stream);

LazySizes v2_sizes(const LazyAttention&);
void v2_forward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, void* workspace,
                void* stream);
void v2_backward(const LazyAttention&, const LazyInputs&, const LazyOutputs&, const void* dout,
                 const LazyGrads&, void* workspace, void* stream);
void v2_weights(const LazyAttention&, const LazyInputs&, const float* lse, std::int64_t batch,
                std::int64_t head, std::int64_t first_row, std::int64_t rows, float* weights,
                void* stream);

}  // namespace lazy::LAZY_TARGET
