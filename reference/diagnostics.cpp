#include "reference/diagnostics.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace lazy {
namespace {

double mean(double sum, Index count) {
  return count == 0 ? 0 : sum / double(count);
}

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument(what);
}

template <class T>
void validate(const WeightMatrix<T>& matrix) {
  const Index rows = Index(matrix.visible.size()), keys = matrix.keys;
  if (keys < 0 || Index(matrix.weights.size()) != rows * keys)
    fail("weight matrix: " + std::to_string(matrix.weights.size()) + " weights for " +
         std::to_string(rows) + " rows of " + std::to_string(keys) +
         " keys; pass rows * keys of them");
  for (Index r = 0; r < rows; ++r)
    if (matrix.visible[r] < 0 || matrix.visible[r] > keys)
      fail("weight matrix: visible[" + std::to_string(r) + "] is " +
           std::to_string(matrix.visible[r]) + ", must be between 0 and keys (" +
           std::to_string(keys) + ")");
}

// The weights row r can have.
template <class T>
std::span<const T> visible_row(const WeightMatrix<T>& matrix, Index r) {
  return matrix.weights.subspan(r * matrix.keys, matrix.visible[r]);
}

// Not `a > 0`: NaN is live.
template <class T>
bool is_live(T a) {
  return a != 0;
}

template <class T>
double sum(std::span<const T> row) {
  double total = 0;
  for (const T a : row) total += double(a);
  return total;
}

// -sum_j p_j log p_j, p_j = a_j / m, with 0 log 0 = 0.
template <class T>
double entropy(std::span<const T> row, double m) {
  double total = 0;
  for (const T a : row)
    if (is_live(a)) total -= double(a) / m * std::log(double(a) / m);
  return total;
}

HeadStatistics of_row(const RowStatistics& row) {
  HeadStatistics s;
  const Index i = row.visible;
  if (i == 0) return s;
  const double m = row.mass;
  const bool dead = m == 0;

  s.rows = 1;
  s.dead_rows = dead;
  s.entries = i;
  s.live_entries = row.live;
  s.density = mean(double(row.live), i);
  s.mass = m;
  if (!dead) {
    s.entropy = row.entropy;
    s.effective_keys = std::exp(row.entropy);
  }
  if (i >= 2) {
    s.rows_from_second = 1;
    s.dead_from_second = dead;
    s.mass_from_second = m;
    s.first_key = row.first_key;
    s.first_key_share = dead ? 0 : row.first_key / m;
  }
  if (i >= 5) {
    s.rows_from_fifth = 1;
    s.dead_from_fifth = dead;
    s.first_four = row.first_four;
    s.first_four_share = dead ? 0 : row.first_four / m;
  }
  return s;
}

// A tile counts if one of its rows sees one of its keys, and is live if one such weight is.
HeadStatistics tile_statistics(std::span<const RowStatistics> rows,
                               std::span<const std::uint32_t> live_tiles, Index tile_size) {
  HeadStatistics s;
  const Index count = Index(rows.size()), words = count == 0 ? 0 : Index(live_tiles.size()) / count;
  for (Index first = 0; first < count; first += tile_size) {
    const Index last = std::min(first + tile_size, count);
    Index visible = 0;
    for (Index r = first; r < last; ++r) visible = std::max(visible, rows[r].visible);
    s.tiles += (visible + tile_size - 1) / tile_size;
    for (Index word = 0; word < words; ++word) {
      std::uint32_t live = 0;
      for (Index r = first; r < last; ++r) live |= live_tiles[r * words + word];
      s.live_tiles += std::popcount(live);
    }
  }
  return s;
}

// Owned, hence aligned: sums come out the same wherever the caller's array lies.
template <class T>
Eigen::MatrixXd to_matrix(std::span<const T> x, Index rows, Index channels) {
  if (rows < 0 || channels < 0 || Index(x.size()) != rows * channels)
    fail("hidden states: " + std::to_string(x.size()) + " values for " + std::to_string(rows) +
         " rows of " + std::to_string(channels) + " channels; pass rows * channels of them");
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(x.data(), rows, channels).template cast<double>();
}

// sqrt(|X|_1 |X|_inf): the largest sum of |x| in a column, and in a row.
double composite_norm(const Eigen::MatrixXd& X) {
  const double column = X.cwiseAbs().colwise().sum().maxCoeff<Eigen::PropagateNaN>();
  const double row = X.cwiseAbs().rowwise().sum().maxCoeff<Eigen::PropagateNaN>();
  return std::sqrt(column * row);
}

// With unit rows u_i: sum over i != j of u_i.u_j = |sum_i u_i|^2 - sum_i |u_i|^2.
double mean_cosine(const Eigen::MatrixXd& X) {
  Eigen::MatrixXd U = X;
  for (Index i = 0; i < X.rows(); ++i)
    if (const double norm = X.row(i).norm(); norm != 0) U.row(i) /= norm;
  const double pairs = U.colwise().sum().squaredNorm() - U.squaredNorm();
  return mean(pairs, X.rows() * (X.rows() - 1));
}

}  // namespace

HeadStatistics& HeadStatistics::operator+=(const HeadStatistics& other) {
  for (const auto field :
       {&HeadStatistics::rows, &HeadStatistics::rows_from_second, &HeadStatistics::rows_from_fifth,
        &HeadStatistics::dead_rows, &HeadStatistics::dead_from_second,
        &HeadStatistics::dead_from_fifth, &HeadStatistics::entries, &HeadStatistics::live_entries,
        &HeadStatistics::tiles, &HeadStatistics::live_tiles})
    this->*field += other.*field;
  for (const auto field :
       {&HeadStatistics::density, &HeadStatistics::mass, &HeadStatistics::mass_from_second,
        &HeadStatistics::first_key, &HeadStatistics::first_key_share, &HeadStatistics::first_four,
        &HeadStatistics::first_four_share, &HeadStatistics::entropy,
        &HeadStatistics::effective_keys})
    this->*field += other.*field;
  return *this;
}

template <class T>
RowStatistics row_statistics(std::span<const T> row, std::span<std::uint32_t> live_tiles,
                             Index tile_size) {
  RowStatistics s;
  s.visible = Index(row.size());
  if (const Index words = tile_words(s.visible, tile_size); Index(live_tiles.size()) < words)
    fail("row statistics: " + std::to_string(live_tiles.size()) + " words for the tiles of " +
         std::to_string(s.visible) + " keys; pass at least " + std::to_string(words));
  std::fill(live_tiles.begin(), live_tiles.end(), 0u);
  for (Index first = 0; first < s.visible; first += tile_size) {
    const auto part = row.subspan(first, std::min(tile_size, s.visible - first));
    const Index live = std::count_if(part.begin(), part.end(), is_live<T>);
    const Index tile = first / tile_size;
    if (live > 0) live_tiles[tile / 32] |= 1u << tile % 32;
    s.live += live;
  }
  s.mass = sum(row);
  s.first_key = sum(row.first(std::min<Index>(1, s.visible)));
  s.first_four = sum(row.first(std::min<Index>(4, s.visible)));
  if (s.mass != 0) s.entropy = entropy(row, s.mass);
  return s;
}

HeadStatistics head_statistics(std::span<const RowStatistics> rows,
                               std::span<const std::uint32_t> live_tiles, Index tile_size) {
  if (rows.empty() ? !live_tiles.empty() : live_tiles.size() % rows.size() != 0)
    fail("head statistics: " + std::to_string(live_tiles.size()) + " words of live tiles for " +
         std::to_string(rows.size()) + " rows; pass as many for each row");
  HeadStatistics s = tile_statistics(rows, live_tiles, tile_size);
  for (const RowStatistics& row : rows) s += of_row(row);
  return s;
}

template <class T>
HeadStatistics head_statistics(const WeightMatrix<T>& matrix, Index tile_size) {
  validate(matrix);
  if (tile_size < 1) fail("tile_size is " + std::to_string(tile_size) + ", must be at least 1");
  const Index count = Index(matrix.visible.size()), words = tile_words(matrix.keys, tile_size);
  std::vector<RowStatistics> rows(count);
  std::vector<std::uint32_t> live_tiles(count * words);
  for (Index r = 0; r < count; ++r)
    rows[r] = row_statistics(visible_row(matrix, r),
                             std::span(live_tiles).subspan(r * words, words), tile_size);
  return head_statistics(rows, live_tiles, tile_size);
}

AttentionSummary summarize(const HeadStatistics& s) {
  const Index live = s.rows - s.dead_rows;
  return {.mass = mean(s.mass, s.rows),
          .sink_mass = mean(s.first_key, s.rows_from_second),
          .rest_mass = mean(s.mass_from_second - s.first_key, s.rows_from_second),
          .sink_ratio = mean(s.first_key_share, s.rows_from_second - s.dead_from_second),
          .sink_mass_four = mean(s.first_four, s.rows_from_fifth),
          .sink_ratio_four = mean(s.first_four_share, s.rows_from_fifth - s.dead_from_fifth),
          .density_micro = mean(double(s.live_entries), s.entries),
          .density_macro = mean(s.density, s.rows),
          .tile_density = mean(double(s.live_tiles), s.tiles),
          .dead_rows = mean(double(s.dead_rows), s.rows),
          .entropy = mean(s.entropy, live),
          .effective_keys = mean(s.effective_keys, live)};
}

template <class T>
std::vector<double> sink_scores(const WeightMatrix<T>& matrix, bool normalized) {
  validate(matrix);
  std::vector<double> alpha(matrix.keys, 0.0);
  std::vector<Index> rows(matrix.keys, 0);
  for (Index r = 0; r < Index(matrix.visible.size()); ++r) {
    const std::span<const T> row = visible_row(matrix, r);
    const double m = normalized ? sum(row) : 1;
    if (m == 0) continue;
    for (std::size_t k = 0; k < row.size(); ++k) {
      alpha[k] += double(row[k]) / m;
      ++rows[k];
    }
  }
  for (Index k = 0; k < matrix.keys; ++k) alpha[k] = mean(alpha[k], rows[k]);
  return alpha;
}

double first_sink_score(std::span<const RowStatistics> rows, bool normalized) {
  double alpha = 0;
  Index counted = 0;
  for (const RowStatistics& row : rows) {
    if (row.visible == 0 || (normalized && row.mass == 0)) continue;
    alpha += row.first_key / (normalized ? row.mass : 1);
    ++counted;
  }
  return mean(alpha, counted);
}

double sink_rate(std::span<const std::vector<double>> scores, Index k, double epsilon) {
  if (k < 1) fail("sink_rate: k is " + std::to_string(k) + ", keys are counted from 1");
  double sinks = 0;
  Index matrices = 0;
  for (const std::vector<double>& alpha : scores) {
    if (Index(alpha.size()) < k) continue;
    const double score = alpha[k - 1];
    sinks += std::isnan(score) ? score : score > epsilon;
    ++matrices;
  }
  return mean(sinks, matrices);
}

template <class T>
Collapse collapse(std::span<const T> x, Index rows, Index channels) {
  const Eigen::MatrixXd X = to_matrix(x, rows, channels);
  Collapse result;
  result.variance_footprint.resize(rows);
  if (X.size() == 0) return result;

  result.mean_cosine = mean_cosine(X);
  const double norm = composite_norm(X);
  if (norm != 0) result.rank_residual = composite_norm(X.rowwise() - X.colwise().mean()) / norm;
  for (Index i = 0; i < rows; ++i)
    result.variance_footprint[i] =
        mean((X.row(i).array() - X.row(i).mean()).square().sum(), channels - 1);
  return result;
}

template <class T>
double last_token_distance(std::span<const T> x, Index rows, Index channels) {
  if (rows < 2)
    fail("last_token_distance: " + std::to_string(rows) + " rows, needs at least two tokens");
  const Eigen::MatrixXd X = to_matrix(x, rows, channels);
  return (X.row(rows - 1) - X.row(rows - 2)).lpNorm<1>();
}

template <class T>
Activations activations(std::span<const T> x) {
  if (x.empty()) return {};
  const Eigen::ArrayXd values = to_matrix(x, Index(x.size()), 1).array();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (values.isNaN().any()) return {nan, nan, nan, nan};  // NaN has no place in an order

  Eigen::ArrayXd magnitude = values.abs();
  double* middle = magnitude.data() + (magnitude.size() - 1) / 2;
  std::nth_element(magnitude.data(), middle, magnitude.data() + magnitude.size());
  const double median = *middle;
  const Eigen::ArrayXd square = (values - values.mean()).square();
  const double variance = square.mean();
  return {.largest = magnitude.maxCoeff(),
          .median = median,
          .massive = double((magnitude > 100 && magnitude > 1000 * median).count()),
          .kurtosis = variance == 0 ? 0 : square.square().mean() / (variance * variance)};
}

template HeadStatistics head_statistics(const WeightMatrix<float>&, Index);
template HeadStatistics head_statistics(const WeightMatrix<double>&, Index);
template std::vector<double> sink_scores(const WeightMatrix<float>&, bool);
template std::vector<double> sink_scores(const WeightMatrix<double>&, bool);
template Collapse collapse(std::span<const float>, Index, Index);
template Collapse collapse(std::span<const double>, Index, Index);
template double last_token_distance(std::span<const float>, Index, Index);
template double last_token_distance(std::span<const double>, Index, Index);
template Activations activations(std::span<const float>);
template Activations activations(std::span<const double>);

}  // namespace lazy
