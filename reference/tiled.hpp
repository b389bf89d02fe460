#pragma once
// The fast CPU path: attention over tiles of keys and queries, in two sweeps, O(T) memory, the
// same signature as every backend. Held against the oracle by the tests.
//
// Memory for tiles is kept by each calling thread from call to call: O(Tk) a thread of the team.
//
// Rules of the form max(exp(s - lse') + tau/n, 0) are computed here: elastic, softmax (tau = 0),
// softmax1 and sink (lse' counts one more score). sigmoid, entmax15 and softpick, and inputs with
// NaN or infinities, are handed to the oracle.

#include "reference/attention_types.hpp"

namespace lazy::tiled {

/// What one call met. A tile is 48 keys times up to 48 queries.
struct TileCounts {
  Index tiles = 0;         // with at least one visible entry
  Index live_tiles = 0;    // of them, those that were not skipped
  Index entries = 0;       // visible ones
  Index live_entries = 0;  // of them, those with a weight that is not 0 (counted by forward)
};

struct Options {
  bool skip_dead_tiles = true;   // the bits of every result are the same either way
  TileCounts* counts = nullptr;  // if given, assigned; counting live entries costs a few percent
};

/// out [B, Tq, H, D] and lse [B, H, Tq] are assigned. Throws std::invalid_argument (see
/// `validate`).
template <class T>
void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& out,
                       const Options& options = {});

/// Adds the gradients of the loss to `grads`, given what `attention_forward` assigned (lse is
/// read) and the loss's gradient `dout` [B, Tq, H, D] with respect to out. The bits do not depend
/// on the number of threads.
template <class T>
void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const AttentionOutputs<T>& forward,
                        const T* dout, const AttentionGrads<T>& grads, const Options& options = {});

/// The weights A of `rows` query rows of one head, from row `first_row`, with exactly the live set
/// that the two functions above use: assigned to `weights` [rows, Tk].
template <class T>
void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& forward, Index b,
                       Index head, Index first_row, Index rows, T* weights);

}  // namespace lazy::tiled
