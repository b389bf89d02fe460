#include "reference/oracle.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/normalizers.hpp"

namespace lazy::oracle {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// One head of one sequence, as matrices.
template <class T>
struct Head {
  Matrix<T> Q, K, V;  // [Tq, D], [Tk, D], [Tk, D]
  const T* bias;      // [W]
  Index W;
  T tau, sink;      // 0 where the rule does not read them
  Index length;     // valid keys
  Index first_row;  // rows first_row .. last_row - 1 see at least one key;
  Index last_row;   // row r stands at position r - first_row + first_position
  Index first_position;
};

// A block of consecutive rows of that head: S, P, A [R, keys], where `keys` is what the last row
// sees.
template <class T>
struct Rows {
  Index first_row, first_position, R, keys;
  Matrix<T> S, P, A;
  Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> live;  // [R, keys]
  std::vector<T> lse,
      n;  // [R]; n = divisor of tau: the number of visible keys, or the sequence's length

  Index visible(Index r) const { return first_position + r + 1; }
};

constexpr Index block_rows = 64;  // bounds the memory of a call: no T x T matrix

template <class T>
Matrix<T> head_matrix(const T* x, Index b, Index head, Index rows, Index heads,
                      Index D) {  // x [B, rows, heads, D]
  using Strided = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;
  return Strided(x + (b * rows * heads + head) * D, rows, D, Eigen::OuterStride<>(heads * D));
}

template <class T>
Head<T> make_head(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in,
                  Index b, Index h) {
  const Index kv_head = h / (s.heads / s.kv_heads);
  const Index length = sequence_length(s, in, b), position_of_row_0 = query_position(s, length, 0);
  const Index first_row = std::clamp<Index>(-position_of_row_0, 0, s.queries);
  return {.Q = head_matrix(in.q, b, h, s.queries, s.heads, s.head_dim),
          .K = head_matrix(in.k, b, kv_head, s.keys, s.kv_heads, s.head_dim),
          .V = head_matrix(in.v, b, kv_head, s.keys, s.kv_heads, s.head_dim),
          .bias = in.bias + h * s.window,
          .W = s.window,
          .tau = rule.normalizer == Normalizer::elastic ? in.tau[h] : T(0),
          .sink = rule.normalizer == Normalizer::sink ? in.sink[h] : T(0),
          .length = length,
          .first_row = first_row,
          .last_row = std::max(first_row, std::min(s.queries, length - position_of_row_0)),
          .first_position = position_of_row_0 + first_row};
}

// P + tau/n is NaN where a score is NaN, and NaN is not dead: max(x, 0) would swallow it.
template <class T>
T relu(T x) {
  // [kink]
  return !(x <= 0) ? x : T(0);
  // [kink]
}

// S, P, A of the rows first_row .. first_row + R - 1. Equations in the order of the header's
// comment.
template <class T>
Rows<T> attend(const Head<T>& head, const AttentionRule& rule, Index first_row, Index R) {
  Rows<T> x;
  x.first_row = first_row;
  x.first_position = head.first_position + first_row - head.first_row;
  x.R = R;
  x.keys = x.first_position + R;
  x.P = x.A = Matrix<T>::Zero(R, x.keys);
  x.lse.resize(R);
  x.n.resize(R);

  const T c = 1 / std::sqrt(T(head.Q.cols()));
  // [scores]
  x.S.noalias() = c * (head.Q.middleRows(first_row, R) * head.K.topRows(x.keys).transpose());
  // [scores]

  for (Index r = 0; r < R; ++r) {
    const Index n = x.visible(r), i = n - 1;
    auto s = x.S.row(r).head(n).array();
    auto p = x.P.row(r).head(n).array();
    auto a = x.A.row(r).head(n).array();
    x.n[r] = T(rule.divisor == Divisor::visible ? n : head.length);
    // [weights]
    x.S.row(r).tail(x.keys - n).setConstant(-std::numeric_limits<T>::infinity());  // causal

    for (Index j = std::max<Index>(0, i - head.W + 1); j <= i; ++j) s(j) += head.bias[i - j];

    T m = s.maxCoeff();
    if (!std::isfinite(m)) m = 0;
    x.lse[r] = m + std::log(s.unaryExpr([m](T score) { return std::exp(score - m); }).sum());

    if (rule.normalizer == Normalizer::elastic) {
      const T lse = x.lse[r], offset = head.tau / x.n[r];
      if (lse != -std::numeric_limits<T>::infinity())
        p = s.unaryExpr([lse](T score) { return std::exp(score - lse); });
      a = p.unaryExpr([offset](T probability) { return relu(probability + offset); });
    } else {
      normalizer_weights<T>(rule.normalizer, {&s(0), std::size_t(n)}, head.sink, T(n),
                            {&a(0), std::size_t(n)});
    }
    // [weights]
  }
  x.live = x.A.array() != T(0);
  return x;
}

// sum_j A_ij V_j over the j with A_ij != 0. A dead or invisible entry contributes nothing whatever
// V_j is, but 0 * V_j is NaN where V_j is not finite: such entries are left out of the product and
// added for the rows that see them.
template <class T, class Weights, class Values>
Matrix<T> nonzero_product(const Weights& A, const Values& V) {
  Matrix<T> product = A * Matrix<T>(V.unaryExpr([](T v) { return std::isfinite(v) ? v : T(0); }));
  if (V.allFinite()) return product;
  for (Index j = 0; j < V.rows(); ++j)
    for (Index d = 0; d < V.cols(); ++d)
      for (Index i = 0; i < A.rows() && !std::isfinite(V(j, d)); ++i)
        if (A(i, j) != 0) product(i, d) += A(i, j) * V(j, d);
  return product;
}

// What the heads of one key/value head add up, and one row of dbias, dtau, dsink.
template <class T>
struct HeadGrads {
  Matrix<T> dQ, dK, dV;
  T *dbias, *dtau, *dsink;
};

template <class T>
void attend_backward(const Head<T>& head, const AttentionRule& rule, const Rows<T>& x,
                     const Matrix<T>& dO, HeadGrads<T>& grads) {
  const Index R = x.R;
  const T c = 1 / std::sqrt(T(head.Q.cols()));
  const auto K = head.K.topRows(x.keys), V = head.V.topRows(x.keys);
  const auto Q = head.Q.middleRows(x.first_row, R);

  const Matrix<T> dA = x.live.select((dO * V.transpose()).eval(), Matrix<T>::Zero(R, x.keys));
  Matrix<T> dS = Matrix<T>::Zero(R, x.keys);
  for (Index r = 0; r < R; ++r) {
    const Index n = x.visible(r), i = n - 1;
    const auto p = x.P.row(r).head(n).array();
    const auto da = dA.row(r).head(n).array();
    auto ds = dS.row(r).head(n).array();
    if (rule.normalizer == Normalizer::elastic) {
      // [score gradients]
      const T delta =
          (p * da).sum();     // over live entries, where da is not 0: this is not rowsum(dO * O)
      ds = p * (da - delta);  // a dead entry keeps -p * delta
      *grads.dtau += da.sum() / x.n[r];
      // [score gradients]
    } else {
      const std::size_t size = n;
      *grads.dsink +=
          normalizer_backward<T>(rule.normalizer, {&x.S(r, 0), size}, {&x.A(r, 0), size},
                                 {&dA(r, 0), size}, head.sink, {&dS(r, 0), size});
    }
    // [products]
    for (Index j = std::max<Index>(0, i - head.W + 1); j <= i; ++j) grads.dbias[i - j] += ds(j);
  }
  grads.dQ.middleRows(x.first_row, R) += c * nonzero_product<T>(dS, K);
  grads.dK.topRows(x.keys) += c * nonzero_product<T>(dS.transpose(), Q);
  grads.dV.topRows(x.keys) += nonzero_product<T>(x.A.transpose(), dO);
  // [products]
}

// The elastic weights under a given gate.
template <class T>
void apply_gate(const Head<T>& head, const std::uint8_t* gate, Index Tk,
                Rows<T>& x) {  // gate [Tq, Tk]
  for (Index r = 0; r < x.R; ++r)
    for (Index j = 0; j < x.visible(r); ++j) {
      x.live(r, j) = gate[(x.first_row + r) * Tk + j] != 0;
      x.A(r, j) = x.live(r, j) ? x.P(r, j) + head.tau / x.n[r] : T(0);
    }
}

template <class T>
void add_head(const Matrix<T>& from, T* to, Index b, Index head,
              Index heads) {  // to [B, rows, heads, D]
  const Index rows = from.rows(), D = from.cols();
  for (Index t = 0; t < rows; ++t)
    for (Index d = 0; d < D; ++d) to[((b * rows + t) * heads + head) * D + d] += from(t, d);
}

}  // namespace

template <class T>
void attention_forward(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& out) {
  validate(s, rule, in);
  if (s.batch * s.queries > 0 && (!out.out || !out.lse))
    throw std::invalid_argument("attention: out and lse must not be null");
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      const Head<T> head = make_head(s, rule, in, b, h);
      Matrix<T> O = Matrix<T>::Zero(s.queries, s.head_dim);
      T* lse = out.lse + (b * s.heads + h) * s.queries;
      std::fill_n(lse, s.queries, -std::numeric_limits<T>::infinity());
      for (Index row = head.first_row; row < head.last_row; row += block_rows) {
        const Rows<T> x = attend(head, rule, row, std::min(block_rows, head.last_row - row));
        O.middleRows(row, x.R) = nonzero_product<T>(x.A, head.V.topRows(x.keys));
        std::copy(x.lse.begin(), x.lse.end(), lse + row);
      }
      for (Index t = 0; t < s.queries; ++t)
        std::copy_n(O.row(t).data(), s.head_dim,
                    out.out + ((b * s.queries + t) * s.heads + h) * s.head_dim);
    }
}

template <class T>
void attention_backward(const AttentionShape& s, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const T* dout, const AttentionGrads<T>& grads,
                        const std::uint8_t* gate) {
  validate(s, rule, in);
  if (s.batch * s.queries == 0) return;
  if (!dout) throw std::invalid_argument("attention: dout must not be null");
  validate_grads(s, rule, grads);

  // Sequences add to the same dbias, dtau and dsink: one slot a sequence and head, summed in a
  // fixed order afterwards.
  const Index group = s.heads / s.kv_heads, slot_size = s.window + 2;
  std::vector<T> slots(s.batch * s.heads * slot_size, T(0));
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (Index b = 0; b < s.batch; ++b)
    for (Index kv_head = 0; kv_head < s.kv_heads; ++kv_head) {
      HeadGrads<T> sum;
      sum.dK = sum.dV = Matrix<T>::Zero(s.keys, s.head_dim);
      for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        const Head<T> head = make_head(s, rule, in, b, h);
        const Matrix<T> dO = head_matrix(dout, b, h, s.queries, s.heads, s.head_dim);
        sum.dQ = Matrix<T>::Zero(s.queries, s.head_dim);
        sum.dbias = slots.data() + (b * s.heads + h) * slot_size;
        sum.dtau = sum.dbias + s.window;
        sum.dsink = sum.dtau + 1;
        for (Index row = head.first_row; row < head.last_row; row += block_rows) {
          Rows<T> x = attend(head, rule, row, std::min(block_rows, head.last_row - row));
          if (gate && rule.normalizer == Normalizer::elastic)
            apply_gate(head, gate + (b * s.heads + h) * s.queries * s.keys, s.keys, x);
          attend_backward<T>(head, rule, x, dO.middleRows(row, x.R), sum);
        }
        add_head(sum.dQ, grads.dq, b, h, s.heads);
      }
      add_head(sum.dK, grads.dk, b, kv_head, s.kv_heads);
      add_head(sum.dV, grads.dv, b, kv_head, s.kv_heads);
    }
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      const T* slot = slots.data() + (b * s.heads + h) * slot_size;
      for (Index d = 0; d < s.window; ++d) grads.dbias[h * s.window + d] += slot[d];
      if (rule.normalizer == Normalizer::elastic) grads.dtau[h] += slot[s.window];
      if (rule.normalizer == Normalizer::sink) grads.dsink[h] += slot[s.window + 1];
    }
}

template <class T>
void attention_weights(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<T>& in, Index b, Index h, Index first_row, Index rows,
                       T* weights) {
  validate(s, rule, in);
  if (b < 0 || b >= s.batch || h < 0 || h >= s.heads || first_row < 0 || rows < 0 ||
      first_row + rows > s.queries)
    throw std::invalid_argument("attention_weights: sequence " + std::to_string(b) + " of " +
                                std::to_string(s.batch) + ", head " + std::to_string(h) + " of " +
                                std::to_string(s.heads) + ", " + std::to_string(rows) +
                                " rows from " + std::to_string(first_row) + " of " +
                                std::to_string(s.queries) + " are not all there");
  if (!weights && rows > 0) throw std::invalid_argument("attention_weights: weights is null");
  std::fill_n(weights, rows * s.keys, T(0));
  const Head<T> head = make_head(s, rule, in, b, h);
  const Index begin = std::max(first_row, head.first_row),
              end = std::min(first_row + rows, head.last_row);
  for (Index row = begin; row < end; row += block_rows) {
    const Rows<T> x = attend(head, rule, row, std::min(block_rows, end - row));
    for (Index r = 0; r < x.R; ++r)
      std::copy_n(x.A.row(r).data(), x.keys, weights + (row + r - first_row) * s.keys);
  }
}

template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<float>&, const AttentionOutputs<float>&);
template void attention_forward(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<double>&, const AttentionOutputs<double>&);
template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<float>&, const float*,
                                 const AttentionGrads<float>&, const std::uint8_t*);
template void attention_backward(const AttentionShape&, const AttentionRule&,
                                 const AttentionInputs<double>&, const double*,
                                 const AttentionGrads<double>&, const std::uint8_t*);
template void attention_weights(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<float>&, Index, Index, Index, Index, float*);
template void attention_weights(const AttentionShape&, const AttentionRule&,
                                const AttentionInputs<double>&, Index, Index, Index, Index,
                                double*);

}  // namespace lazy::oracle
