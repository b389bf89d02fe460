#pragma once
// A few query rows over many keys: decoding. Reads K once, and V only where a weight is not 0.

#include "reference/attention_types.hpp"

namespace lazy::tiled {

/// Up to this many queries a sequence, rows one by one are faster than tiles of 48.
inline constexpr Index few_queries = 4;

/// Like attention_forward, for head dimensions of whole vectors and rows with a key; rows without
/// one are left alone. Returns whether everything assigned is finite.
template <class T>
bool attend_rows(const AttentionShape& shape, const AttentionRule& rule,
                 const AttentionInputs<T>& in, const AttentionOutputs<T>& out);

}  // namespace lazy::tiled
