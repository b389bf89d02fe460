#pragma once
// A few query rows over many keys: decoding. Reads K once, and V only where a weight is not 0.

#include <vector>

#include "reference/attention_types.hpp"
#include "reference/simd.hpp"

namespace lazy::tiled {

/// Up to this many queries a sequence, rows one by one are faster than tiles of 48.
inline constexpr Index few_queries = 4;

/// Like attention_forward, for head dimensions of whole vectors and rows with a key; rows without
/// one are left alone. Returns whether everything assigned is finite.
template <class T>
bool attend_rows(const AttentionShape& shape, const AttentionRule& rule,
                 const AttentionInputs<T>& in, const AttentionOutputs<T>& out);

/// Whether attention_forward answers with attend_rows.
template <class T>
bool attends_rows(const AttentionShape& shape) {
  return shape.queries <= few_queries && shape.head_dim % simd::lanes<T> == 0;
}

/// The log-sum-exp [B, H, Tq] for probabilities in tiles: forward's, or where that is of rows,
/// whose scores are rounded differently, the tiles' own, kept in `own`.
template <class T>
const T* lse_for_tiles(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const T* lse, std::vector<T>& own);

}  // namespace lazy::tiled
