#pragma once
// The definition of model_diagnostics.hpp, for the file that instantiates a backend's model.

#include <algorithm>
#include <stdexcept>

#include "reference/model_diagnostics.hpp"

namespace lazy {
namespace detail {

// One head of one layer in one sequence.
struct HeadView {
  HeadStatistics statistics;
  double sink_score, normalized_sink_score;  // of the first key over the first 64 rows
};

// Pooled by rows of tiles. rows [T], live_tiles [T, words].
inline HeadView view_head(std::span<const RowStatistics> rows,
                          std::span<const std::uint32_t> live_tiles) {
  constexpr std::size_t side = tile_side;  // also Gu et al.'s T
  const std::size_t words = live_tiles.size() / rows.size();
  const auto first_rows = rows.first(std::min(side, rows.size()));
  HeadView view{{}, first_sink_score(first_rows, false), first_sink_score(first_rows, true)};
  for (std::size_t first = 0; first < rows.size(); first += side) {
    const std::size_t count = std::min(side, rows.size() - first);
    view.statistics += head_statistics(rows.subspan(first, count),
                                       live_tiles.subspan(first * words, count * words));
  }
  return view;
}

// The heads of one layer: [H, B].
template <class B, class T>
std::vector<HeadView> view_layer(const Transformer<B, T>& model, Index layer) {
  const AttentionShape shape = model.attention_shape();
  const Index N = shape.batch, H = shape.heads, length = shape.queries;
  const Index words = tile_words(shape.keys);
  std::vector<RowStatistics> rows(N * H * length);
  std::vector<std::uint32_t> live_tiles(N * H * length * words);
  B::attention_statistics(shape, model.config().rule, model.attention_inputs(layer),
                          model.attention_outputs(layer), rows.data(), live_tiles.data());
  std::vector<HeadView> views;
  for (Index h = 0; h < H; ++h)
    for (Index b = 0; b < N; ++b) {
      const Index first = (b * H + h) * length;
      views.push_back(view_head(std::span(rows).subspan(first, length),
                                std::span(live_tiles).subspan(first * words, length * words)));
    }
  return views;
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

  ModelDiagnostics result;
  result.heads.resize(L);
  HeadStatistics all;
  std::vector<std::vector<double>> scores, normalized_scores;
  for (Index l = 0; l < L; ++l) {
    const std::vector<detail::HeadView> views = detail::view_layer(model, l);
    for (Index h = 0; h < H; ++h) {
      HeadStatistics head;
      for (Index b = 0; b < N; ++b) {
        const detail::HeadView& view = views[h * N + b];
        head += view.statistics;
        scores.push_back({view.sink_score});
        normalized_scores.push_back({view.normalized_sink_score});
      }
      all += head;
      result.heads[l].push_back(summarize(head));
      result.dead_heads += head.dead();
    }
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
