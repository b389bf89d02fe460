#pragma once
// The layers around the attention, forward and backward, on plain row-major arrays.
//
// N rows (all tokens of a batch), C channels. Backward functions add to the gradients of parameters
// and assign those of activations; rmsnorm_backward adds to dx too, the gradient of the residual
// stream. Sums are cut into pieces that depend on the sizes alone, so the number of threads never
// changes a bit.

#include "reference/attention_types.hpp"

namespace lazy {

/// out[n] = table[tokens[n]]; out [N, C], table [V, C]. Throws std::out_of_range naming a token
/// outside 0 .. V-1.
template <class T>
void embedding_forward(T* out, const T* table, const int* tokens, Index N, Index C, Index V);
template <class T>
void embedding_backward(T* dtable, const T* dout, const int* tokens, Index N, Index C);

/// RMSNorm (arXiv 1910.07467): out = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon); rstd
/// [N] is kept.
template <class T>
void rmsnorm_forward(T* out, T* rstd, const T* x, const T* weight, Index N, Index C,
                     double epsilon);
template <class T>
void rmsnorm_backward(T* dx, T* dweight, const T* dout, const T* x, const T* weight, const T* rstd,
                      Index N, Index C);

/// out [N, Out] = x [N, In] * weight^T, weight [Out, In]; no bias.
template <class T>
void linear_forward(T* out, const T* x, const T* weight, Index N, Index In, Index Out);
/// out = base + x * weight^T; base [N, Out] may be out.
template <class T>
void linear_add_forward(T* out, const T* base, const T* x, const T* weight, Index N, Index In,
                        Index Out);
template <class T>
void linear_backward(T* dx, T* dweight, const T* dout, const T* x, const T* weight, Index N,
                     Index In, Index Out);

/// SwiGLU (arXiv 2002.05202): out [N, F] = gate * sigmoid(gate) * up; gate_up [N, 2 F], a row's
/// gate before its up.
template <class T>
void swiglu_forward(T* out, const T* gate_up, Index N, Index F);
template <class T>
void swiglu_backward(T* dgate_up, const T* dout, const T* gate_up, Index N, Index F);

/// losses[n] = -log softmax(logits[n])[targets[n]] in nats; a negative target has loss 0 and no
/// gradient (padding). dlogits = scale * d(sum of losses) / d(logits); null: losses only; it may be
/// `logits` itself. Throws std::out_of_range naming a target >= V.
template <class T>
void cross_entropy(T* losses, T* dlogits, const T* logits, const int* targets, Index N, Index V,
                   double scale);

/// sum of x^2 in double, in an order that depends on `size` alone.
template <class T>
double squared_norm(const T* x, Index size);

/// What AdamW (arXiv 1711.05101) needs to know for a whole run.
struct UpdateRule {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0;
  double clip = 1e300;  // largest norm of the gradient
};
/// What changes from step to step. It lies where the device reads it, so that a recorded step can
/// be replayed.
struct StepInputs {
  Index step = 1;         // counting from 1
  double loss_scale = 1;  // of the gradient of the sum of losses: 1 / targets
  double learning_rate = 0;
  double correction1 = 1, correction2 = 1;  // of the moments' start from zero: 1 / (1 - beta^step)
};
/// What a step leaves there. The host may ask for several steps' measures at once.
struct StepMeasures {
  double loss_sum, squared_norm;
};
inline constexpr int steps_kept = 8;
struct StepOutputs {
  double loss_sum = 0, squared_norm = 0;  // of the gradient, before clipping
  Index failed_step =
      0;  // the first with a loss or a norm that is not finite; no later one updates
  StepMeasures kept[steps_kept] = {};  // of the last steps, step n's at n % steps_kept
};
/// Neighbouring parameters that all take weight decay, or all none.
struct UpdatePiece {
  Index offset, size;
  bool decay;
};
inline constexpr Index update_piece_size = 4096;  // at most

/// One AdamW update (arXiv 1711.05101) of `size` parameters. `gradient_scale` multiplies the
/// gradient first (clipping); `step` counts from 1.
struct AdamW {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0,
         gradient_scale = 1;
};
template <class T>
void adamw_step(T* parameters, T* first_moment, T* second_moment, const T* gradient, Index size,
                const AdamW& options, Index step);

}  // namespace lazy
