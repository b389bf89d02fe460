#pragma once
// The diagnostics of a whole model, from its last forward.

#include "reference/diagnostics.hpp"
#include "reference/transformer.hpp"

namespace lazy {

struct ModelDiagnostics {
  AttentionSummary all;                              // pooled over layers, sequences and heads
  std::vector<std::vector<AttentionSummary>> heads;  // [layer][head], pooled over sequences
  Index dead_heads = 0;  // heads (of any layer) dead in every row of every sequence
  // Share of (layer, sequence, head) whose first key has a sink score above 0.3, over rows i <= 64
  // as in arXiv 2410.10781; raw, and on the weights divided by the surviving mass.
  double sink_score_rate = 0, sink_score_rate_normalized = 0;
  // [L + 1]: states entering layer 0 .. L - 1, then those leaving the last one. Collapse is
  // measured in each sequence and averaged; its footprint is [B T]. Activations are pooled.
  std::vector<Collapse> layers;
  std::vector<Activations> activations;
  bool operator==(const ModelDiagnostics&) const = default;
};

/// What the last `forward` or `loss` of a model looked like (not a `decode`, which keeps no keys).
/// The backend reduces weights to a few numbers a row: on the CPU from 64 rows at a time in each
/// thread, the same bytes for any number of threads; on a device there, with no weights copied.
/// Throws std::logic_error if there was no forward.
template <class B, class T>
ModelDiagnostics diagnose(const Transformer<B, T>& model);

}  // namespace lazy
