#include "reference/tiled_rows.hpp"

#include "reference/tiled.hpp"
#include "reference/tiled_workspace.hpp"

namespace lazy::tiled {
namespace {

// S [keys], lanes<T> keys at a time: their partial sums, transposed, add up to scores.
template <class T>
void score_row(const Head<T>& head, const T* q, Index position, T* S) {
  constexpr Index L = lanes<T>;
  const Vector<T> scale = simd::broadcast(query_scale<T>(head.D));
  for (Index j = 0; j <= position; j += L) {
    Vector<T> sums[L] = {};
    for (Index r = 0; r < std::min(L, position + 1 - j); ++r)
      for (Index d = 0; d < head.D; d += L)
        sums[r] += load(q + d) * load(head.k + (j + r) * head.kv_pitch + d);
    simd::transpose<T>(sums);
    for (Index step = 1; step < L; step *= 2)
      for (Index r = 0; r < L; r += 2 * step) sums[r] += sums[r + step];
    store(S + j, scale * sums[0]);
  }
  for (Index j = std::max<Index>(0, position - head.W + 1); j <= position; ++j)
    S[j] += head.bias[position - j];
}

// S to A, in place; entries past `position` to 0. Assigns lse and returns the number of live keys.
template <class T>
Index weigh_row(const Head<T>& head, Index position, T* S, Index* live, T& lse) {
  constexpr Index L = lanes<T>;
  const Index filled = divide_up(position + 1, L) * L;
  std::fill(S + position + 1, S + filled, -std::numeric_limits<T>::infinity());
  Vector<T> largest = load(S), sum = {};
  for (Index j = L; j < filled; j += L) largest = simd::max(load(S + j), largest);
  T reference = largest[0];
  for (Index l = 1; l < L; ++l) reference = std::max(reference, T(largest[l]));
  for (Index j = 0; j < filled; j += L)
    sum += exponential<T>(load(S + j), simd::broadcast(reference));
  lse = reference + std::log(simd::sum<T>(sum));

  const Vector<T> scale = exponential<T>(simd::broadcast(reference), simd::broadcast(lse)) *
                          share(lse, head.extra_score);
  const Vector<T> offset = simd::broadcast(head.tau / head.divisor(position));
  Index count = 0;
  for (Index j = 0; j < filled; j += L) {
    const Vector<T> e = exponential<T>(load(S + j), simd::broadcast(reference));
    store(S + j, elastic_weight(simd::min(e * scale, simd::broadcast(T(1))), offset));
    for (Index l = 0; l < std::min(L, position + 1 - j); ++l) {
      live[count] = j + l;
      count += S[j + l] != 0;
    }
  }
  return count;
}

// out [D] = sum of A_j V_j over the live keys. Returns whether it is finite.
template <class T>
bool gather_values(const Head<T>& head, const T* A, const Index* live, Index count, T* out) {
  constexpr Index L = lanes<T>;
  Vector<T> poison = {};
  for (Index d = 0; d < head.D; d += L) {
    Vector<T> sum[2] = {};
    for (Index n = 0; n < count; ++n)
      sum[n % 2] += A[live[n]] * load(head.v + live[n] * head.kv_pitch + d);
    store(out + d, sum[0] + sum[1]);
    poison += (sum[0] + sum[1]) * T(0);
  }
  return simd::sum<T>(poison) == 0;
}

}  // namespace

template <class T>
bool attend_rows(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<T>& in,
                 const AttentionOutputs<T>& out) {
  const BiasTables<T> bias(s, in.bias);
  const std::span<Workspace<T>> team = team_workspaces<T>();
  for (Workspace<T>& ws : team) ws.reserve_rows(s);
  bool finite = true;
#pragma omp parallel for schedule(dynamic) reduction(&& : finite)
  for (Index task = 0; task < s.batch * s.heads; ++task) {
    const Index b = task / s.heads, h = task % s.heads;
    const Head<T> head = make_head(s, rule, in, bias, b, h);
    Workspace<T>& ws = team[omp_get_thread_num()];
    for (Index row = head.first_row; row < head.last_row; ++row) {
      const Index position = head.first_position + row - head.first_row;
      T& lse = out.lse[(b * s.heads + h) * s.queries + row];
      score_row(head, head.q + row * head.q_pitch, position, ws.strip.data());
      const Index count = weigh_row(head, position, ws.strip.data(), ws.live_keys.data(), lse);
      finite = gather_values(head, ws.strip.data(), ws.live_keys.data(), count,
                             out.out + ((b * s.queries + row) * s.heads + h) * s.head_dim) &&
               std::isfinite(lse) && finite;
    }
  }
  return finite;
}

template <class T>
const T* lse_for_tiles(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const T* lse, std::vector<T>& own) {
  if (!attends_rows<T>(s)) return lse;
  std::vector<T> out(s.batch * s.queries * s.heads * s.head_dim);
  own.resize(s.batch * s.heads * s.queries);
  TileCounts counts;  // which only tiles can answer
  attention_forward(s, rule, in, {out.data(), own.data()}, {.counts = &counts});
  return own.data();
}

template bool attend_rows(const AttentionShape&, const AttentionRule&,
                          const AttentionInputs<float>&, const AttentionOutputs<float>&);
template bool attend_rows(const AttentionShape&, const AttentionRule&,
                          const AttentionInputs<double>&, const AttentionOutputs<double>&);

template const float* lse_for_tiles(const AttentionShape&, const AttentionRule&,
                                    const AttentionInputs<float>&, const float*,
                                    std::vector<float>&);
template const double* lse_for_tiles(const AttentionShape&, const AttentionRule&,
                                     const AttentionInputs<double>&, const double*,
                                     std::vector<double>&);

}  // namespace lazy::tiled
