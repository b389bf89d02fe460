// The statistics of rows on a device: the kernel, emulated, against the CPU's of the same weights,
// and the diagnostics of emulated models against those of the weights they hand out.

#include <cmath>
#include <limits>
#include <utility>

#include "cuda/cuda_backend.hpp"
#include "reference/model_diagnostics.hpp"
#include "reference/random.hpp"
#include "tests/catch.hpp"
#include "tests/comparison.hpp"
#include "tests/device_array.hpp"
#include "tests/layer_ways.hpp"
#include "tests/problems.hpp"
#include "tests/threads.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Statistics {
  std::vector<RowStatistics> rows;
  std::vector<std::uint32_t> live_tiles;
};

/// Rows of one head of sequence `b`, [count, keys].
struct Rows {
  AttentionShape shape;
  std::vector<Index> lengths;  // [B]
  Index b, first, count;
  std::vector<float> weights;

  Index visible(Index r) const { return visible_keys(shape, lengths[b], first + r); }
  float& weight(Index r, Index j) { return weights[r * shape.keys + j]; }
};

/// Half of the entries dead, the 128 keys before the last 64 too, and every fifth row. What a row
/// does not see is NaN.
Rows random_rows(const AttentionShape& shape, std::vector<Index> lengths, Index b, Index first,
                 Index count) {
  Rows rows{shape, std::move(lengths), b, first, count, {}};
  rows.weights.assign(count * shape.keys, not_a_number);
  Random random(6);
  for (Index r = 0; r < count; ++r)
    for (Index j = 0, n = rows.visible(r); j < n; ++j) {
      const bool dead = r % 5 == 4 || (j < n - 64 && j >= n - 192) || random.uniform() < 0.5;
      rows.weight(r, j) = dead ? 0 : float(random.uniform());
    }
  return rows;
}
Rows causal_rows(Index T) {
  return random_rows({.batch = 1, .queries = T, .keys = T, .heads = 1}, {T}, 0, 0, T);
}

Statistics by_kernel(const Rows& of, std::uint64_t seed = 1) {
  KernelLayers<float> way;
  way.seed = seed;
  const RowStatistics unwritten{-1, -1, std::nan(""), std::nan(""), std::nan(""), std::nan("")};
  Statistics s{std::vector<RowStatistics>(of.count, unwritten),
               std::vector<std::uint32_t>(of.count * tile_words(of.shape.keys), 0xAAAAAAAA)};
  way.row_statistics(s.rows.data(), s.live_tiles.data(), of.weights.data(), of.shape,
                     of.lengths.data(), of.b, of.first, of.count);
  return s;
}

Statistics on_cpu(const Rows& of) {
  const Index words = tile_words(of.shape.keys);
  Statistics s{std::vector<RowStatistics>(of.count), std::vector<std::uint32_t>(of.count * words)};
  for (Index r = 0; r < of.count; ++r)
    s.rows[r] =
        row_statistics(std::span<const float>(of.weights).subspan(r * of.shape.keys, of.visible(r)),
                       std::span(s.live_tiles).subspan(r * words, words));
  return s;
}

std::vector<double> column(const Statistics& s, double RowStatistics::*field) {
  std::vector<double> values;
  for (const RowStatistics& row : s.rows) values.push_back(row.*field);
  return values;
}
std::vector<Index> counts(const Statistics& s) {
  std::vector<Index> values;
  for (const RowStatistics& row : s.rows) values.insert(values.end(), {row.visible, row.live});
  return values;
}

void check_agreement(const Statistics& got, const Statistics& expected) {
  CHECK(counts(got) == counts(expected));
  CHECK(got.live_tiles == expected.live_tiles);
  for (const auto field : {&RowStatistics::mass, &RowStatistics::first_key,
                           &RowStatistics::first_four, &RowStatistics::entropy}) {
    const Comparison found = compare(column(got, field), column(expected, field));
    CAPTURE(found.where);
    CHECK(within(found, float64_budget));
  }
}

void check_kernel(const Rows& rows) {
  CAPTURE(rows.shape.queries, rows.shape.keys, rows.b, rows.first);
  check_agreement(by_kernel(rows), on_cpu(rows));
}

// In the order of AttentionSummary; what is counted, then what is summed.
std::vector<double> counted(const AttentionSummary& s) {
  return {s.density_micro, s.tile_density, s.dead_rows};
}
std::vector<double> summed(const AttentionSummary& s) {
  return {s.mass,          s.sink_mass,      s.rest_mass,
          s.sink_ratio,    s.sink_mass_four, s.sink_ratio_four,
          s.density_macro, s.entropy,        s.effective_keys};
}
void check_summary(const AttentionSummary& got, const AttentionSummary& expected) {
  CHECK(counted(got) == counted(expected));
  CHECK(within(compare(summed(got), summed(expected)), float64_budget));
}

/// Two layers; sharp queries in the first, a dead head, layer 1 head 2, in the second.
template <class B>
Transformer<B, float> sparse_model(Index sequences, Index length) {
  Transformer<B, float> model({.vocabulary = 13,
                               .layers = 2,
                               .channels = 128,
                               .heads = 4,
                               .kv_heads = 2,
                               .inner = 24,
                               .context = 140,
                               .window = 32,
                               .rule = {},
                               .position = Position::rope_bias},
                              5);
  std::vector<float> parameters(model.parameters().size());
  B::download(parameters.data(), std::as_const(model.parameters()).data(),
              Index(parameters.size()));
  for (const ParameterSpec& p : model.table()) {
    if (p.name == "model.layers.0.self_attn.q_proj.weight")
      for (Index n = 0; n < p.size; ++n) parameters[p.offset + n] *= 300;
    if (p.name == "model.layers.1.self_attn.tau") parameters[p.offset + 2] = -100;
  }
  model.set_parameters(parameters);
  Random random(7);
  std::vector<int> tokens(sequences * length);
  for (int& token : tokens) token = int(random.below(13));
  model.forward(tokens.data(), sequences, length);
  return model;
}

}  // namespace

TEST_CASE("the kernel's row statistics are the CPU's", "[diagnostics][kernels]") {
  for (const Index T : {1, 2, 5, 63, 64, 65, 130}) check_kernel(causal_rows(T));
}

TEST_CASE("the kernel sees of ragged sequences what their rows see", "[diagnostics][kernels]") {
  const AttentionShape square{.batch = 3, .queries = 70, .keys = 70, .heads = 1};
  for (const Index b : {0, 1, 2}) check_kernel(random_rows(square, {70, 65, 0}, b, 0, 70));
  // Queries at the end of more keys than a word of bits has tiles; some before the first key.
  const AttentionShape late{.batch = 2, .queries = 6, .keys = 2200, .heads = 1};
  for (const Index b : {0, 1}) check_kernel(random_rows(late, {2200, 3}, b, 0, 6));
  check_kernel(random_rows(late, {2101, 3}, 0, 2, 3));
}

TEST_CASE("without lengths the kernel sees all keys", "[diagnostics][kernels]") {
  const Rows rows = causal_rows(66);
  Statistics s = by_kernel(rows);
  const Statistics with_lengths = s;
  KernelLayers<float>().row_statistics(s.rows.data(), s.live_tiles.data(), rows.weights.data(),
                                       rows.shape, nullptr, 0, 0, rows.count);
  CHECK(s.rows == with_lengths.rows);
  CHECK(s.live_tiles == with_lengths.live_tiles);
}

TEST_CASE("a head of dead rows has no live tile and no entropy", "[diagnostics][kernels]") {
  Rows rows = causal_rows(70);
  for (float& weight : rows.weights)
    if (!std::isnan(weight)) weight = 0;
  const Statistics s = by_kernel(rows);
  for (Index r = 0; r < 70; ++r) CHECK(s.rows[r] == RowStatistics{.visible = r + 1});
  CHECK(s.live_tiles == std::vector<std::uint32_t>(70, 0));
  CHECK(head_statistics(s.rows, s.live_tiles).dead());
}

TEST_CASE("a NaN weight is live to the kernel and reaches its row only", "[diagnostics][kernels]") {
  Rows rows = causal_rows(70);
  const Statistics before = by_kernel(rows);
  rows.weight(69, 65) = not_a_number;  // row 70 was dead
  rows.weight(33, 0) = not_a_number;
  Statistics s = by_kernel(rows);
  const Statistics expected = on_cpu(rows);
  CHECK(counts(s) == counts(expected));
  CHECK(s.rows[69].live == 1);
  CHECK(s.live_tiles == expected.live_tiles);
  CHECK(s.live_tiles[69] == 0b10);
  for (const Index r : {33, 69}) {
    CHECK(std::isnan(s.rows[r].mass));
    CHECK(std::isnan(s.rows[r].entropy));
    CHECK(std::isnan(s.rows[r].first_key) == (r == 33));
    CHECK(std::isnan(s.rows[r].first_four) == (r == 33));
    s.rows[r] = before.rows[r];
  }
  CHECK(s.rows == before.rows);
}

TEST_CASE("row statistics are the same bytes in any order of threads", "[diagnostics][kernels]") {
  const Rows rows =
      random_rows({.batch = 1, .queries = 9, .keys = 1500, .heads = 1}, {1500}, 0, 0, 9);
  const Statistics first = by_kernel(rows, 1);
  for (const std::uint64_t seed : {2, 3}) {
    const Statistics again = by_kernel(rows, seed);
    CHECK(same_bytes(first.rows, again.rows));
    CHECK(same_bytes(first.live_tiles, again.live_tiles));
  }
}

TEST_CASE("a device's row statistics are those of its weights, in blocks of any size",
          "[diagnostics][kernels]") {
  // Ragged, and more tiles of keys than a word has bits.
  const auto p = make_problem<float>({.shape = {.batch = 2,
                                                .queries = 70,
                                                .keys = 2100,
                                                .heads = 2,
                                                .kv_heads = 1,
                                                .head_dim = 4,
                                                .window = 40},
                                      .lengths = {2100, 30}});
  const AttentionShape& s = p.shape;
  const auto on_device = [](const auto& host) { return DeviceArray(LAZY_EMULATED, host); };
  auto q = on_device(p.q), k = on_device(p.k), v = on_device(p.v), bias = on_device(p.bias),
       tau = on_device(p.tau), out = on_device(p.q),
       lse = on_device(nans<float>(s.batch * s.heads * s.queries));
  auto lengths = on_device(p.lengths);
  const AttentionInputs<float> in{.q = q.data(),
                                  .k = k.data(),
                                  .v = v.data(),
                                  .bias = bias.data(),
                                  .tau = tau.data(),
                                  .lengths = lengths.data()};
  const AttentionOutputs<float> outputs{out.data(), lse.data()};
  EmulatedBackend::attention_forward(s, p.rule, in, outputs, nullptr);

  Statistics expected;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      Rows rows{s, p.lengths, b, 0, s.queries, nans<float>(s.queries * s.keys)};
      EmulatedBackend::attention_weights(s, p.rule, in, outputs, b, h, 0, s.queries,
                                         rows.weights.data());
      const Statistics head = on_cpu(rows);
      expected.rows.insert(expected.rows.end(), head.rows.begin(), head.rows.end());
      expected.live_tiles.insert(expected.live_tiles.end(), head.live_tiles.begin(),
                                 head.live_tiles.end());
    }
  const auto statistics = [&](auto... rows_at_once) {
    Statistics got{std::vector<RowStatistics>(expected.rows.size()),
                   std::vector<std::uint32_t>(expected.live_tiles.size(), 0xAAAAAAAA)};
    EmulatedBackend::attention_statistics(s, p.rule, in, outputs, got.rows.data(),
                                          got.live_tiles.data(), rows_at_once...);
    return got;
  };
  const Statistics whole = statistics(), blocks = statistics(40);
  check_agreement(whole, expected);
  CHECK(same_bytes(whole.rows, blocks.rows));
  CHECK(same_bytes(whole.live_tiles, blocks.live_tiles));
}

TEMPLATE_TEST_CASE("a model's diagnostics on a device are those of its weights",
                   "[diagnostics][kernels]", EmulatedBackend, EmulatedBFloat16Backend) {
  const Index B = 2, T = 130;
  const auto model = sparse_model<TestType>(B, T);
  const ModelDiagnostics d = diagnose(model);

  HeadStatistics all;
  std::vector<Index> visible(T);
  for (Index i = 0; i < T; ++i) visible[i] = i + 1;
  std::vector<std::vector<double>> scores, normalized;
  for (Index l = 0; l < 2; ++l)
    for (Index h = 0; h < 4; ++h) {
      HeadStatistics head;
      for (Index b = 0; b < B; ++b) {
        const std::vector<float> weights = model.attention_weights(l, b, h, 0, T);
        head += head_statistics(WeightMatrix<float>{weights, visible, T});
        const WeightMatrix<float> begin{std::span(weights).first(64 * T),
                                        std::span(visible).first(64), T};
        scores.push_back(sink_scores(begin, false));
        normalized.push_back(sink_scores(begin, true));
      }
      all += head;
      CAPTURE(l, h);
      check_summary(d.heads[l][h], summarize(head));
    }
  check_summary(d.all, summarize(all));
  CHECK(d.sink_score_rate == sink_rate(scores, 1));
  CHECK(d.sink_score_rate_normalized == sink_rate(normalized, 1));
  CHECK(d.dead_heads == 1);
  CHECK(d.heads[1][2].dead_rows == 1);
  CHECK(d.all.density_micro > 0.05);
  CHECK(d.all.density_micro < 0.95);
}

TEST_CASE("a second diagnosis takes no memory of the device", "[diagnostics][kernels]") {
  const auto model = sparse_model<EmulatedBackend>(1, 70);
  const ModelDiagnostics first = diagnose(model);
  EmulatedBackend::Buffer<float> x;
  EmulatedBackend::resize(x, 1);
  EmulatedBackend::Recording recording;
  int calls = 0;
  const auto run = [&] {
    EmulatedBackend::run(recording, 1, [&] { EmulatedBackend::zero(x.data(), 1), ++calls; });
  };
  run(), run();  // as it is, and recorded
  CHECK(diagnose(model) == first);
  run();  // replayed, if no memory was taken
  CHECK(calls == 2);
}
