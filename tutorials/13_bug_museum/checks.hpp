#pragma once
// A dozen tests of attention, each a few lines. A test is told which bug is in the loop, and must
// not know it: it only calls `attend(problem, bug)`. It returns whether it passes.

#include "loop.hpp"
#include "reference/oracle.hpp"

namespace museum {

/// NaN never passes.
inline bool close(const std::vector<double>& a, const std::vector<double>& b,
                  double budget = 1e-9) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) all = std::abs(a[i] - b[i]) <= budget;
  return all;
}

// Two heads; a bias shorter than the sequence; tau off the kink of the first row.
inline const lazy::AttentionShape usual{1, 6, 6, 2, 2, 3, 4};

/// Every gradient is the slope of sum(dout * out), measured.
inline bool gradients_are_slopes(Bug bug) {
  Problem p = make_problem(usual, -0.6);
  const Answer exact = attend(p, bug);
  const auto loss = [&] {
    const Answer x = attend(p, bug);
    double sum = 0;
    for (std::size_t i = 0; i < x.out.size(); ++i) sum += p.dout[i] * x.out[i];
    return sum;
  };
  bool all = true;
  for (const auto& [x, dx] : {std::pair{&p.q, &exact.dq},
                              {&p.k, &exact.dk},
                              {&p.v, &exact.dv},
                              {&p.bias, &exact.dbias},
                              {&p.tau, &exact.dtau}})
    for (std::size_t i = 0; i < x->size(); ++i) {
      const double kept = (*x)[i], step = 1e-6;
      (*x)[i] = kept + step;
      const double after = loss();
      (*x)[i] = kept - step;
      const double slope = (after - loss()) / (2 * step);
      (*x)[i] = kept;
      all = all && std::abs(slope - (*dx)[i]) <= 1e-6 * (1 + std::abs(slope));
    }
  return all;
}

inline bool output_is_the_oracles(Bug bug) {
  const Problem p = make_problem(usual, -0.6);
  std::vector<double> out(p.q.size()), lse(usual.queries * usual.heads);
  lazy::oracle::attention_forward<double>(p.shape, {}, p.inputs(), {out.data(), lse.data()});
  return close(attend(p, bug).out, out);
}

/// The last key and value become others: no earlier row notices. tau > 0.
inline bool future_changes_nothing(Bug bug) {
  const Problem p = make_problem(usual, 0.5);
  Problem changed = p;
  const std::size_t row = p.k.size() / usual.keys,
                    earlier = p.q.size() - p.q.size() / usual.queries;
  for (auto* x : {&changed.k, &changed.v})
    for (std::size_t i = x->size() - row; i < x->size(); ++i) (*x)[i] += 1;
  auto a = attend(p, bug).out, b = attend(changed, bug).out;
  a.resize(earlier), b.resize(earlier);
  return close(a, b, 0);
}

/// One query at a time over the keys so far, as with a cache, equals the whole pass.
inline bool decoding_equals_one_pass(Bug bug) {
  const Problem p = make_problem(usual, -0.6);
  const std::vector<double> whole = attend(p, bug).out;
  const std::size_t row = whole.size() / usual.queries;
  bool all = true;
  for (Index t = 0; t < usual.queries; ++t) {
    Problem one = p;
    one.shape.queries = 1, one.shape.keys = t + 1, one.lengths = {t + 1};
    one.q.assign(&p.q[t * row], &p.q[t * row] + row);
    one.dout.resize(row);
    all = all && close(attend(one, bug).out, {&whole[t * row], &whole[t * row] + row});
  }
  return all;
}

/// Two sequences of different lengths in one batch equal each of them alone.
inline bool batch_equals_each_alone(Bug bug) {
  lazy::AttentionShape two = usual;
  two.batch = 2;
  Problem p = make_problem(two, -0.6);
  p.lengths = {3, 6};
  const std::vector<double> both = attend(p, bug).out;
  bool all = true;
  for (Index b = 0; b < 2; ++b) {
    const Index T = p.lengths[b], size = T * usual.heads * usual.head_dim;
    const std::size_t from = b * p.q.size() / 2;
    Problem one = p;
    one.shape.batch = 1, one.shape.queries = one.shape.keys = T, one.lengths = {T};
    for (auto* x : {&one.q, &one.k, &one.v, &one.dout})
      *x = std::vector<double>(x->begin() + from, x->begin() + from + size);
    all = all && close(attend(one, bug).out, {&both[from], &both[from] + size});
  }
  return all;
}

/// Outputs start as NaN; rows past a sequence's length come out as zeros.
inline bool padded_rows_are_zero(Bug bug) {
  Problem p = make_problem(usual, -0.6);
  p.lengths = {4};
  const std::vector<double> out = attend(p, bug).out;
  const std::size_t first = out.size() / usual.queries * 4;
  return close({out.begin() + first, out.end()}, std::vector<double>(out.size() - first, 0.0), 0);
}

/// Four query heads on two key heads equal the same with every key head written twice.
inline bool groups_equal_repeated_keys(Bug bug) {
  lazy::AttentionShape grouped = usual;
  grouped.heads = 4;
  const Problem p = make_problem(grouped, -0.6);
  Problem repeated = p;
  repeated.shape.kv_heads = 4;
  repeated.k.clear(), repeated.v.clear();
  const Index D = grouped.head_dim;
  for (Index row = 0; row < grouped.keys; ++row)
    for (Index h = 0; h < 4; ++h)
      for (Index d = 0; d < D; ++d) {
        repeated.k.push_back(p.k[(row * 2 + h / 2) * D + d]);
        repeated.v.push_back(p.v[(row * 2 + h / 2) * D + d]);
      }
  return close(attend(p, bug).out, attend(repeated, bug).out);
}

/// A loss on the first head alone has no gradient in the second one's queries.
inline bool heads_do_not_touch(Bug bug) {
  Problem p = make_problem(usual, -0.6);
  const Index D = usual.head_dim;
  for (Index row = 0; row < usual.queries; ++row) std::fill_n(&p.dout[(2 * row + 1) * D], D, 0.0);
  const std::vector<double> dq = attend(p, bug).dq;
  bool all = true;
  for (Index row = 0; row < usual.queries; ++row)
    for (Index d = 0; d < D; ++d) all = all && dq[(2 * row + 1) * D + d] == 0;
  return all;
}

/// max(0, 1 + tau) <= m_i = sum_j A_ij <= max(0, 1 + tau / n), for tau <= 0.
inline bool mass_is_within_bounds(Bug bug) {
  const double tau = -0.6;
  const Problem p = make_problem(usual, tau);
  const Answer x = attend(p, bug);
  bool all = true;
  for (Index r = 0; r < usual.heads * usual.queries; ++r) {
    double m = 0;
    for (Index j = 0; j < usual.keys; ++j) m += x.A[r * usual.keys + j];
    const double n = double(r % usual.queries + 1);
    all = all && m >= 1 + tau - 1e-12 && m <= 1 + tau / n + 1e-12;
  }
  return all;
}

/// Below tau = -1 a row of equal scores is dead, and what is dead passes no gradient to anything.
inline bool dead_rows_pass_no_gradient(Bug bug) {
  Problem p = make_problem(usual, -1.2);
  std::fill(p.q.begin(), p.q.end(), 0.0);
  std::fill(p.bias.begin(), p.bias.end(), 0.0);
  const Answer x = attend(p, bug);
  bool all = true;
  for (const auto* dx : {&x.dq, &x.dk, &x.dv, &x.dbias, &x.dtau})
    for (const double g : *dx) all = all && g == 0;
  return all;
}

/// b[d] acts on the rows that have a key at distance d, on no other; a key beyond the bias table is
/// still seen.
inline bool bias_acts_at_its_distance(Bug bug) {
  const Problem p = make_problem(usual, -0.6);
  const std::vector<double> A = attend(p, bug).A;
  const Index T = usual.queries, W = usual.window;
  bool all = true;
  for (Index d = 0; d < W; ++d) {
    Problem changed = p;
    changed.bias[d] += 1;  // of head 0
    const std::vector<double> B = attend(changed, bug).A;
    for (Index i = 1; i < T; ++i) {  // row 0 has a single key, whose P is 1
      const bool same = close({&A[i * T], &A[i * T] + T}, {&B[i * T], &B[i * T] + T}, 0);
      all = all && same == (i < d);
    }
  }
  Problem far = make_problem(usual, 0);  // tau = 0: every visible key has a weight
  const std::vector<double> P = attend(far, bug).A;
  for (Index j = 0; j + W < T; ++j) all = all && P[(T - 1) * T + j] > 0;
  return all;
}

/// On a row whose scores are nearly equal the same entries are live as in the oracle.
inline bool live_entries_are_the_oracles(Bug bug) {
  const lazy::AttentionShape s{1, 64, 64, 1, 1, 4, 1};
  Problem p = make_problem(s, -0.9);
  for (double& x : p.q) x *= 0.05;
  p.bias = {0};
  std::vector<double> A(64 * 64);
  lazy::oracle::attention_weights<double>(p.shape, {}, p.inputs(), 0, 0, 0, 64, A.data());
  const Answer x = attend(p, bug);
  bool all = true;
  for (std::size_t i = 0; i < A.size(); ++i) all = all && (A[i] > 0) == (x.A[i] > 0);
  return all;
}

}  // namespace museum
