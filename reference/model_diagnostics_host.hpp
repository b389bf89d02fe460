#pragma once
// The definition of model_diagnostics.hpp, for the file that instantiates a backend's model.

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "reference/model_diagnostics.hpp"

namespace lazy {
namespace detail {

inline constexpr Index block_rows = 64;  // also the side of a tile, and Gu et al.'s T

// One head of one layer in one sequence.
struct HeadView {
  HeadStatistics statistics;
  std::vector<double> scores, normalized_scores;  // of the first 64 rows
};

template <class B, class T>
HeadView view_head(const Transformer<B, T>& model, Index layer, Index sequence, Index head) {
  const AttentionShape shape = model.attention_shape();
  HeadView view;
  for (Index first = 0; first < shape.queries; first += block_rows) {
    const Index rows = std::min(block_rows, shape.queries - first);
    const std::vector<T> weights = model.attention_weights(layer, sequence, head, first, rows);
    std::vector<Index> visible(rows);
    for (Index r = 0; r < rows; ++r) visible[r] = visible_keys(shape, shape.keys, first + r);
    const WeightMatrix<T> block{weights, visible, shape.keys};

    view.statistics += head_statistics(block, block_rows);
    if (first > 0) continue;
    view.scores = sink_scores(block, false);
    view.normalized_scores = sink_scores(block, true);
    view.scores.resize(rows);  // no row of this block sees more keys
    view.normalized_scores.resize(rows);
  }
  return view;
}

// Mean over sequences x [rows, channels]; the footprints one after the other.
template <class T>
Collapse mean_collapse(std::span<const T> x, Index sequences, Index rows, Index channels) {
  Collapse all;
  const Index size = rows * channels;
  for (Index b = 0; b < sequences; ++b) {
    const Collapse one = collapse(x.subspan(b * size, size), rows, channels);
    all.mean_cosine += one.mean_cosine / double(sequences);
    all.rank_residual += one.rank_residual / double(sequences);
    all.variance_footprint.insert(all.variance_footprint.end(), one.variance_footprint.begin(),
                                  one.variance_footprint.end());
  }
  return all;
}

}  // namespace detail

template <class B, class T>
ModelDiagnostics diagnose(const Transformer<B, T>& model) {
  const AttentionShape shape = model.attention_shape();
  if (shape.batch == 0 || shape.queries == 0)
    throw std::logic_error("diagnose: the model has seen no tokens; call forward or loss first");
  const TransformerConfig& config = model.config();
  const Index L = config.layers, H = shape.heads, N = shape.batch;

  // Heads are computed in any order and pooled in one: the sums do not know the number of threads.
  std::vector<detail::HeadView> views(L * H * N);
#pragma omp parallel for schedule(dynamic)
  for (Index n = 0; n < L * H * N; ++n)
    views[n] = detail::view_head(model, n / (H * N), n % N, n / N % H);

  ModelDiagnostics result;
  result.heads.resize(L);
  HeadStatistics all;
  std::vector<std::vector<double>> scores, normalized_scores;
  for (Index n = 0; n < L * H; ++n) {
    HeadStatistics head;
    for (Index b = 0; b < N; ++b) {
      detail::HeadView& view = views[n * N + b];
      head += view.statistics;
      scores.push_back(std::move(view.scores));
      normalized_scores.push_back(std::move(view.normalized_scores));
    }
    all += head;
    result.heads[n / H].push_back(summarize(head));
    result.dead_heads += head.dead();
  }
  result.all = summarize(all);
  result.sink_score_rate = sink_rate(scores, 1);
  result.sink_score_rate_normalized = sink_rate(normalized_scores, 1);

  for (Index l = 0; l <= L; ++l) {
    const std::vector<T> x = model.hidden_states(l);
    result.layers.push_back(detail::mean_collapse<T>(x, N, shape.queries, config.channels));
    result.activations.push_back(activations<T>(x));
  }
  return result;
}

}  // namespace lazy
