#pragma once
// What attention weights and hidden states look like from outside: sinks, surviving mass, sparsity,
// collapse. Every formula, with the value to expect of it: docs/diagnostics.md.
//
// The weights of a row need not sum to 1, so every sink measure is given twice: on the raw weights
// a_ij, and on a_ij / m_i with m_i = sum_j a_ij (rows with m_i = 0 left out and counted as dead).
// Rows and keys are 1-based in the formulas. Row i is the one that sees i keys; empty (padding)
// rows do not count. A NaN weight is live, its row is not dead, and every mean it enters is NaN.

#include <cstdint>
#include <span>
#include <vector>

#include "reference/attention_types.hpp"

namespace lazy {

/// One attention matrix, or a block of its rows: [rows, keys] row-major, weights >= 0. Row r sees
/// keys 0 .. visible[r] - 1 (0: an empty row); what stands beyond is never read.
template <class T>
struct WeightMatrix {
  std::span<const T> weights;
  std::span<const Index> visible;  // [rows]
  Index keys = 0;
};

/// Side of the tiles of weights that are told live or dead, as a kernel skips them.
inline constexpr Index tile_side = 64;

/// What a row of weights contributes to the statistics of its matrix: a few numbers, wherever the
/// weights are.
struct RowStatistics {
  Index visible = 0;      // i, the keys it sees; 0: an empty row
  Index live = 0;         // how many of their weights are not 0
  double mass = 0;        // m_i = sum_j a_ij
  double first_key = 0;   // a_i1
  double first_four = 0;  // a_i1 + .. + a_i4, as far as it sees them
  double entropy = 0;     // -sum_j (a_ij / m_i) log(a_ij / m_i), nats; 0 if m_i = 0
  bool operator==(const RowStatistics&) const = default;
};

/// Words of 32 bits in which a row of `keys` keys has a bit for each tile of keys: tile t is bit
/// t % 32 of word t / 32, set if the row has a live entry there.
inline Index tile_words(Index keys, Index tile_size = tile_side) {
  const Index tiles = (keys + tile_size - 1) / tile_size;
  return (tiles + 31) / 32;
}

/// Of one row, given the weights it sees. `live_tiles`, at least their `tile_words`, is assigned.
/// Throws std::invalid_argument if it is shorter.
template <class T>
RowStatistics row_statistics(std::span<const T> row, std::span<std::uint32_t> live_tiles,
                             Index tile_size = tile_side);

/// Sums over the rows of any number of weight matrices; `operator+=` pools them.
struct HeadStatistics {
  Index rows = 0;              // with at least one key
  Index rows_from_second = 0;  // rows i >= 2
  Index rows_from_fifth = 0;   // rows i >= 5
  Index dead_rows = 0;         // m_i = 0
  Index dead_from_second = 0;  // rows i >= 2 with m_i = 0
  Index dead_from_fifth = 0;   // rows i >= 5 with m_i = 0
  Index entries = 0, live_entries = 0;
  Index tiles = 0, live_tiles = 0;  // causal tiles of tile_size x tile_size
  double density = 0;               // sum over rows of live_i / i
  double mass = 0;                  // sum over rows of m_i
  double mass_from_second = 0;      // sum over rows i >= 2 of m_i
  double first_key = 0;             // sum over rows i >= 2 of a_i1
  double first_key_share = 0;       // sum over live rows i >= 2 of a_i1 / m_i
  double first_four = 0;            // sum over rows i >= 5 of a_i1 + .. + a_i4
  double first_four_share = 0;      // sum over live rows i >= 5 of the same / m_i
  double entropy = 0;         // sum over live rows of -sum_j (a_ij / m_i) log(a_ij / m_i), nats
  double effective_keys = 0;  // sum over live rows of exp(entropy_i)

  /// A head whose every row is dead: no gradient reaches its scores, bias or tau.
  bool dead() const { return rows > 0 && dead_rows == rows; }
  HeadStatistics& operator+=(const HeadStatistics&);
  bool operator==(const HeadStatistics&) const = default;
};

/// Block row 0 is taken as the first row of a tile: cut a matrix at multiples of `tile_size` only.
/// Throws std::invalid_argument if sizes, visible counts or tile_size make no sense.
template <class T>
HeadStatistics head_statistics(const WeightMatrix<T>& matrix, Index tile_size = tile_side);
/// The same from what `row_statistics` left of each row: `live_tiles` [rows, words]. Throws
/// std::invalid_argument if that is no whole number of words a row.
HeadStatistics head_statistics(std::span<const RowStatistics> rows,
                               std::span<const std::uint32_t> live_tiles,
                               Index tile_size = tile_side);

/// Means of a pool of matrices. Everything is 0 where nothing was counted.
struct AttentionSummary {
  double mass = 0;                         // mean surviving mass m_i over rows
  double sink_mass = 0;                    // mean a_i1 over rows i >= 2: the raw sink ratio
  double rest_mass = 0;                    // mean m_i - a_i1 over rows i >= 2
  double sink_ratio = 0;                   // mean a_i1 / m_i over live rows i >= 2
  double sink_mass_four = 0;               // the first four keys (arXiv 2309.17453), rows i >= 5
  double sink_ratio_four = 0;              // the same / m_i, live rows i >= 5
  double density_micro = 0;                // live entries / causal entries, pooled
  double density_macro = 0;                // mean over rows of live_i / i
  double tile_density = 0;                 // live tiles / causal tiles: what a kernel can skip
  double dead_rows = 0;                    // share of rows with m_i = 0
  double entropy = 0, effective_keys = 0;  // means over live rows

  double sparsity() const { return 1 - density_micro; }
  bool operator==(const AttentionSummary&) const = default;
};
AttentionSummary summarize(const HeadStatistics& statistics);

/// alpha_k = mean over rows i >= k of a_ik (normalized: of a_ik / m_i, dead rows left out), for k =
/// 1 .. keys (Gu et al., arXiv 2410.10781). 0 where there is no such row. Throws like
/// `head_statistics`.
template <class T>
std::vector<double> sink_scores(const WeightMatrix<T>& matrix, bool normalized);
/// alpha_1 of these rows.
double first_sink_score(std::span<const RowStatistics> rows, bool normalized);

/// Share of matrices whose alpha_k exceeds epsilon, given each one's `sink_scores`; matrices with
/// fewer than k keys are left out. NaN if an alpha_k is NaN. Throws std::invalid_argument if k < 1.
double sink_rate(std::span<const std::vector<double>> scores, Index k, double epsilon = 0.3);

/// How alike the hidden states X [rows, channels] of one sequence at one layer are. Everything is 0
/// where nothing was counted.
struct Collapse {
  double mean_cosine = 0;    // of all pairs of different rows; a zero row has cosine 0 with any
  double rank_residual = 0;  // |X - 1 x^T| / |X|, composite norm sqrt(|.|_1 |.|_inf), x = column
                             // mean (arXiv 2103.03404)
  std::vector<double> variance_footprint;  // [rows] unbiased variance over the channels of each row
  bool operator==(const Collapse&) const = default;
};
/// Throws std::invalid_argument if x has not rows * channels entries.
template <class T>
Collapse collapse(std::span<const T> x, Index rows, Index channels);

/// L1 distance between the last two rows of x [rows, channels], rows >= 2. On the final states of a
/// sequence whose last token stands there twice it measures how far the model can still tell one
/// from two (arXiv 2406.04267). Throws std::invalid_argument if there are no two rows.
template <class T>
double last_token_distance(std::span<const T> x, Index rows, Index channels);

/// How far the largest entries of a layer's hidden states stand out.
struct Activations {
  double largest = 0;   // max |x|
  double median = 0;    // of |x|; the lower one of an even number of entries
  double massive = 0;   // entries with |x| > 100 and |x| > 1000 median (arXiv 2402.17762)
  double kurtosis = 0;  // mean (x - mean)^4 / variance^2: 3 for a normal distribution
  bool operator==(const Activations&) const = default;
};
/// All NaN if an entry is NaN; all 0 if there is none.
template <class T>
Activations activations(std::span<const T> x);

}  // namespace lazy
