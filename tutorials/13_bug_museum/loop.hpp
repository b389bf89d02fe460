#pragma once
// The museum's own loop: attention forward and backward in plain double, and a dozen mistakes that
// can be switched on. The library has no such switches.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cuda/simt/formats.hpp"
#include "reference/attention_types.hpp"
#include "reference/random.hpp"

namespace museum {

using lazy::Index;

enum class Bug {
  none,
  strides_of_another_tensor,  // T1
  dead_entries_dropped,       // T4
  positive_tau_leaks,         // T5
  straight_through_tau,       // T6
  last_bias_ignored,          // T7
  no_query_offset,            // T9
  first_length_for_all,       // T10
  padded_rows_unwritten,      // T11
  divided_by_column,          // T14
  keys_not_repeated,          // T15
  rounded_before_threshold,   // T17
  window_hides_keys,          // T24
};

struct Problem {
  lazy::AttentionShape shape;
  std::vector<double> q, k, v, bias, tau, dout;  // the layouts of AttentionInputs
  std::vector<Index> lengths;

  lazy::AttentionInputs<double> inputs() const {
    return {q.data(), k.data(), v.data(), bias.data(), tau.data(), nullptr, lengths.data()};
  }
};

struct Answer {
  std::vector<double> out, A;  // [B, Tq, H, D], [B, H, Tq, Tk]
  std::vector<double> dq, dk, dv, dbias, dtau;
};

inline Problem make_problem(const lazy::AttentionShape& s, double tau, std::uint64_t seed = 1) {
  lazy::Random random(seed);
  const auto draw = [&](Index size) {
    std::vector<double> x(size);
    for (double& value : x) value = 4 * random.uniform() - 2;
    return x;
  };
  const Index queries = s.batch * s.queries * s.heads * s.head_dim;
  const Index keys = s.batch * s.keys * s.kv_heads * s.head_dim;
  Problem p{s,  draw(queries), draw(keys), draw(keys), draw(s.heads * s.window),
            {}, draw(queries), {}};
  p.tau.assign(s.heads, tau);
  p.lengths.assign(s.batch, s.keys);
  return p;
}

inline Answer attend(const Problem& p, Bug bug) {
  const auto& s = p.shape;
  const Index H = s.heads, Hkv = s.kv_heads, D = s.head_dim, W = s.window;
  const double c = 1 / std::sqrt(double(D)), nan = std::numeric_limits<double>::quiet_NaN();
  Answer x;
  x.out.assign(p.q.size(), nan);  // whoever forgets to write is found out
  x.A.assign(s.batch * H * s.queries * s.keys, 0);
  x.dq.assign(p.q.size(), 0), x.dk.assign(p.k.size(), 0), x.dv.assign(p.v.size(), 0);
  x.dbias.assign(p.bias.size(), 0), x.dtau.assign(H, 0);

  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index row = 0; row < s.queries; ++row) {
        // Which keys does the row see? n of them.
        const Index length = p.lengths[bug == Bug::first_length_for_all ? 0 : b];
        const bool whole = s.queries == s.keys || bug == Bug::no_query_offset;
        const Index i = whole ? row : length - s.queries + row;
        const Index n = i < 0 || i >= length ? 0 : i + 1;
        const Index kv = bug == Bug::keys_not_repeated ? h % Hkv : h / (H / Hkv);
        const Index at_q = ((b * s.queries + row) * H + h) * D;
        const auto at_k = [&](Index j) { return ((b * s.keys + j) * Hkv + kv) * D; };
        double* A = &x.A[((b * H + h) * s.queries + row) * s.keys];
        if (n > 0 || bug != Bug::padded_rows_unwritten) std::fill_n(&x.out[at_q], D, 0.0);
        if (n == 0) continue;

        // S = q k / sqrt(D) + b[i - j],  P = exp(S - lse)
        std::vector<double> P(s.keys, 0), dA(s.keys, 0);
        double sum = 0;
        const Index reach = bug == Bug::last_bias_ignored ? W - 1 : W;
        for (Index j = 0; j < n; ++j) {
          double S = i - j < reach ? p.bias[h * W + i - j] : 0;
          for (Index d = 0; d < D; ++d) S += c * p.q[at_q + d] * p.k[at_k(j) + d];
          P[j] = bug == Bug::window_hides_keys && i - j >= W ? 0 : std::exp(S);
          sum += P[j];
        }
        for (Index j = 0; j < n; ++j) {
          P[j] /= sum;
          if (bug == Bug::rounded_before_threshold)
            P[j] = to_float(lazy::from_float<lazy::BFloat16>(float(P[j])));
        }

        // A = max(P + tau / n, 0),  O = A V
        const Index end = bug == Bug::positive_tau_leaks ? length : n;
        for (Index j = 0; j < end; ++j) {
          A[j] = std::max(P[j] + p.tau[h] / double(bug == Bug::divided_by_column ? j + 1 : n), 0.0);
          for (Index d = 0; d < D; ++d) x.out[at_q + d] += A[j] * p.v[at_k(j) + d];
        }

        // dA = dO V^T where live,  delta = sum P dA,  dS = P (dA - delta),  dtau = sum dA / n
        const double* dO =
            &p.dout[bug == Bug::strides_of_another_tensor ? ((b * H + h) * s.queries + row) * D
                                                          : at_q];
        double delta = 0;
        for (Index j = 0; j < end; ++j) {
          double dOv = 0;
          for (Index d = 0; d < D; ++d) dOv += dO[d] * p.v[at_k(j) + d];
          dA[j] = A[j] > 0 ? dOv : 0;
          delta += P[j] * dA[j];
          x.dtau[h] += (bug == Bug::straight_through_tau ? dOv : dA[j]) /
                       double(bug == Bug::divided_by_column ? j + 1 : n);
        }
        for (Index j = 0; j < end; ++j) {
          const bool dropped = bug == Bug::dead_entries_dropped && A[j] == 0;
          const double dS = dropped ? 0 : P[j] * (dA[j] - delta);
          if (i - j >= 0 && i - j < reach) x.dbias[h * W + i - j] += dS;
          for (Index d = 0; d < D; ++d) {
            x.dq[at_q + d] += c * dS * p.k[at_k(j) + d];
            x.dk[at_k(j) + d] += c * dS * p.q[at_q + d];
            x.dv[at_k(j) + d] += A[j] * dO[d];
          }
        }
      }
  return x;
}

}  // namespace museum
