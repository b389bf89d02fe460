#pragma once
// Attention as the equations say it, in dense Eigen matrices: obviously right, and the judge of
// every faster way.
//
//   S = Q K^T / sqrt(D) + b[i - j]           scores, causal
//   P = exp(S - lse)                         softmax, lse = log sum_j exp S_ij
//   A = max(P + tau / n, 0)                  Elastic-Softmax (arXiv 2601.00919)
//   O = A V
//
// n is the number of visible keys.
//
// The weights of a row are never renormalized. The other rules of `Normalizer` replace the step
// from S to A.

#include "reference/attention_types.hpp"

namespace lazy::oracle {

/// out [B, Tq, H, D] and lse [B, H, Tq] are assigned. Throws std::invalid_argument (see
/// `validate`).
template <class T>
void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& out);

/// Adds the gradients of the loss to `grads`, given its gradient `dout` [B, Tq, H, D] with respect
/// to out. `gate` [B, H, Tq, Tk], if given, replaces the elastic rule's own decision of which
/// entries are live (nonzero): so the gradients of a low-precision implementation can be judged
/// although its gate flips next to the kink.
template <class T>
void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const T* dout, const AttentionGrads<T>& grads,
                        const std::uint8_t* gate = nullptr);

/// The weights A of `rows` query rows of one head, from row `first_row`: assigned to `weights`
/// [rows, Tk].
template <class T>
void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, Index b, Index head, Index first_row,
                       Index rows, T* weights);

}  // namespace lazy::oracle
