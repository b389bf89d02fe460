#pragma once
// Attention by the kernels, for tensors in host memory: the CPU's signatures, and a choice of
// device, rung and number format. Copies everything there and back; programs that live on the GPU
// use lazy_attention.h.

#include <string>

#include "cuda/lazy_attention.h"
#include "reference/attention_types.hpp"

namespace lazy::kernels {

struct Options {
  LazyDevice device = LAZY_EMULATED;
  std::string rung = {};         // empty: the last that supports the type and D
  LazyType type = LAZY_FLOAT32;  // what q, k, v, dout and the answers are rounded to
  bool skip_dead_tiles = true;   // the bits of every result are the same either way
  bool poison = true;            // workspaces and outputs start as NaN: what is not written shows
};

/// Name of the rung that computes this. Throws as the functions below.
std::string chosen_rung(const AttentionShape& shape, const Options& options);

/// out [B, Tq, H, D] and lse [B, H, Tq] are assigned. Of the rules the kernels compute elastic and
/// softmax. Throws std::invalid_argument (see
/// `validate`; another rule; a rung that does not compute the type or D), std::runtime_error if the
/// GPU fails or an emulated kernel makes a mistake.
void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<float>& in, const AttentionOutputs<float>& out,
                       const Options& options = {});

/// Adds the gradients of the loss to `grads`, given its gradient `dout` [B, Tq, H, D] with respect
/// to out. Runs the forward once more: what it leaves for the backward lies on the device.
void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                        const AttentionInputs<float>& in, const float* dout,
                        const AttentionGrads<float>& grads, const Options& options = {});

/// The weights A of `rows` query rows of one head, from row `first_row`, with exactly the live set
/// that the two functions above use: assigned to `weights` [rows, Tk]. Reads forward.lse.
void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<float>& in, const AttentionOutputs<float>& forward,
                       Index b, Index head, Index first_row, Index rows, float* weights,
                       const Options& options = {});

}  // namespace lazy::kernels
