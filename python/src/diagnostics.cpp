// What attention weights and hidden states look like (reference/diagnostics.hpp).

#include "reference/diagnostics.hpp"

#include "bindings.hpp"
#include "reference/model_diagnostics.hpp"

namespace lazy::python {
namespace {

template <class T>
WeightMatrix<T> matrix(const Array<const T, 3>& weights, const std::vector<Index>& visible,
                       std::size_t head) {
  const std::size_t rows = weights.shape(1), keys = weights.shape(2);
  return {{weights.data() + head * rows * keys, rows * keys}, visible, Index(keys)};
}

template <class T>
AttentionSummary attention_summary(Array<const T, 3> weights, std::vector<Index> visible,
                                   Index tile_size) {  // weights [heads, rows, keys]
  HeadStatistics pool;
  for (std::size_t head = 0; head < weights.shape(0); ++head)
    pool += head_statistics(matrix(weights, visible, head), tile_size);
  return summarize(pool);
}

template <class T>
std::vector<std::vector<double>> all_sink_scores(Array<const T, 3> weights,
                                                 std::vector<Index> visible, bool normalized) {
  std::vector<std::vector<double>> scores;
  for (std::size_t head = 0; head < weights.shape(0); ++head)
    scores.push_back(sink_scores(matrix(weights, visible, head), normalized));
  return scores;
}

template <class T>
std::span<const T> entries(const Array<const T, 2>& x) {
  return {x.data(), x.size()};
}

template <class T>
void bind_for(nb::module_& module) {
  module.def("attention_summary", &attention_summary<T>, nb::arg("weights").noconvert(),
             nb::arg("visible"), nb::arg("tile_size"));
  module.def("sink_scores", &all_sink_scores<T>, nb::arg("weights").noconvert(), nb::arg("visible"),
             nb::arg("normalized"));
  module.def(
      "collapse",
      [](Array<const T, 2> x) {
        return collapse(entries(x), Index(x.shape(0)), Index(x.shape(1)));
      },
      nb::arg("x").noconvert());
  module.def(
      "activations", [](Array<const T, 2> x) { return activations(entries(x)); },
      nb::arg("x").noconvert());
}

}  // namespace

void bind_diagnostics(nb::module_& module) {
  using S = AttentionSummary;
  nb::class_<S>(module, "AttentionSummary", "Means over the rows of a pool of attention matrices.")
      .def_ro("mass", &S::mass, "mean surviving mass of a row")
      .def_ro("sink_mass", &S::sink_mass, "mean weight on the first key, rows from the second")
      .def_ro("rest_mass", &S::rest_mass, "mean mass elsewhere, the same rows")
      .def_ro("sink_ratio", &S::sink_ratio, "mean share of the mass on the first key, live rows")
      .def_ro("sink_mass_four", &S::sink_mass_four, "the first four keys, rows from the fifth")
      .def_ro("sink_ratio_four", &S::sink_ratio_four, "their share of the mass")
      .def_ro("density_micro", &S::density_micro, "live entries / causal entries, pooled")
      .def_ro("density_macro", &S::density_macro, "mean over rows of their live share")
      .def_ro("tile_density", &S::tile_density, "live tiles / causal tiles")
      .def_ro("dead_rows", &S::dead_rows, "share of rows without a live entry")
      .def_ro("entropy", &S::entropy, "mean over live rows, nats")
      .def_ro("effective_keys", &S::effective_keys, "mean over live rows of exp(entropy)")
      .def_prop_ro("sparsity", &S::sparsity, "1 - density_micro");

  nb::class_<Collapse>(module, "Collapse", "How alike the hidden states of one sequence are.")
      .def_ro("mean_cosine", &Collapse::mean_cosine, "of all pairs of different rows")
      .def_ro("rank_residual", &Collapse::rank_residual, "|X - 1 x^T| / |X|, composite norm")
      .def_ro("variance_footprint", &Collapse::variance_footprint, "variance of each row");

  nb::class_<Activations>(module, "Activations", "How far the largest hidden states stand out.")
      .def_ro("largest", &Activations::largest)
      .def_ro("median", &Activations::median)
      .def_ro("massive", &Activations::massive)
      .def_ro("kurtosis", &Activations::kurtosis);

  using M = ModelDiagnostics;
  nb::class_<M>(module, "ModelDiagnostics", "The diagnostics of a model's last forward.")
      .def_ro("all", &M::all, "pooled over layers, sequences and heads")
      .def_ro("heads", &M::heads, "[layer][head], pooled over sequences")
      .def_ro("dead_heads", &M::dead_heads, "heads dead in every row")
      .def_ro("sink_score_rate", &M::sink_score_rate)
      .def_ro("sink_score_rate_normalized", &M::sink_score_rate_normalized)
      .def_ro("layers", &M::layers,
              "[L + 1] collapse of the states entering each layer, and leaving")
      .def_ro("activations", &M::activations, "[L + 1], the same states");

  bind_for<float>(module);
  bind_for<double>(module);
}

}  // namespace lazy::python
