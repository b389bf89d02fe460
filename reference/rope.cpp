#include "reference/rope.hpp"

#include <algorithm>
#include <cmath>

namespace lazy {
namespace {

template <class T>
void check_covers(const RopeTable<T>& table, Index first_position, Index rows) {
  if (first_position + rows > table.positions)
    throw std::invalid_argument("rope: position " + std::to_string(first_position + rows - 1) +
                                " lies beyond the table of " + std::to_string(table.positions) +
                                " positions; make a longer table");
}

template <class T>
void rotate(T* x, const RopeTable<T>& table, Index rows, Index heads, Index first_position,
            T sign) {
  const Index D = table.head_dim, half = D / 2;
  check_covers(table, first_position, rows);
  for (Index t = 0; t < rows; ++t) {
    if (first_position + t < 0) continue;
    const T* cos = table.cos.data() + (first_position + t) * half;
    const T* sin = table.sin.data() + (first_position + t) * half;
    for (Index h = 0; h < heads; ++h) {
      T* a = x + (t * heads + h) * D;
      T* b = a + half;
      for (Index m = 0; m < half; ++m) {
        const T turned = a[m] * cos[m] - sign * b[m] * sin[m];
        b[m] = b[m] * cos[m] + sign * a[m] * sin[m];
        a[m] = turned;
      }
    }
  }
}

}  // namespace

template <class T>
RopeTable<T> make_rope_table(Index positions, Index head_dim, double base) {
  if (head_dim < 2 || head_dim % 2 != 0)
    throw std::invalid_argument("rope: head_dim is " + std::to_string(head_dim) +
                                ", must be even to be rotated in pairs");
  if (!(base > 0) || !std::isfinite(base))
    throw std::invalid_argument("rope: base is " + std::to_string(base) + ", must be positive");
  RopeTable<T> table{positions, head_dim, {}, {}};
  for (Index t = 0; t < positions; ++t)
    for (Index m = 0; m < head_dim / 2; ++m) {
      const double angle = double(t) * std::pow(base, -2.0 * double(m) / double(head_dim));
      table.cos.push_back(T(std::cos(angle)));
      table.sin.push_back(T(std::sin(angle)));
    }
  return table;
}

template <class T>
void rope_forward(T* x, const RopeTable<T>& table, Index rows, Index heads, Index first_position) {
  rotate(x, table, rows, heads, first_position, T(1));
}

template <class T>
void rope_backward(T* dx, const RopeTable<T>& table, Index rows, Index heads,
                   Index first_position) {
  rotate(dx, table, rows, heads, first_position, T(-1));
}

namespace {

template <class T>
void check_covers(const RopeTable<T>* rope, const HeadSplit& s, const Index* past) {
  for (Index b = 0; rope && b < s.sequences; ++b) check_covers(*rope, past ? past[b] : 0, s.length);
}

}  // namespace

template <class T>
void split_heads(T* q, T* k, T* v, const T* qkv, const HeadSplit& s, const RopeTable<T>* rope,
                 const Index* past) {
  const Index query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
  check_covers(rope, s, past);
#pragma omp parallel for schedule(static)
  for (Index n = 0; n < s.sequences * s.length; ++n) {
    const Index b = n / s.length, position = (past ? past[b] : 0) + n % s.length;
    if (past && past[b] < 0) continue;
    const Index row = b * s.capacity + position;
    const T* from = qkv + n * (query + 2 * key);
    std::copy_n(from, query, q + n * query);
    std::copy_n(from + query, key, k + row * key);
    std::copy_n(from + query + key, key, v + row * key);
    if (!rope) continue;
    rope_forward(q + n * query, *rope, 1, s.heads, position);
    rope_forward(k + row * key, *rope, 1, s.kv_heads, position);
  }
}

template <class T>
void join_heads(T* dqkv, T* dq, T* dk, const T* dv, const HeadSplit& s, const RopeTable<T>* rope) {
  const Index query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
  check_covers(rope, s, nullptr);
#pragma omp parallel for schedule(static)
  for (Index n = 0; n < s.sequences * s.length; ++n) {
    if (rope) {
      rope_backward(dq + n * query, *rope, 1, s.heads, n % s.length);
      rope_backward(dk + n * key, *rope, 1, s.kv_heads, n % s.length);
    }
    T* to = dqkv + n * (query + 2 * key);
    std::copy_n(dq + n * query, query, to);
    std::copy_n(dk + n * key, key, to + query);
    std::copy_n(dv + n * key, key, to + query + key);
  }
}

template RopeTable<float> make_rope_table(Index, Index, double);
template RopeTable<double> make_rope_table(Index, Index, double);
template void rope_forward(float*, const RopeTable<float>&, Index, Index, Index);
template void rope_forward(double*, const RopeTable<double>&, Index, Index, Index);
template void rope_backward(float*, const RopeTable<float>&, Index, Index, Index);
template void rope_backward(double*, const RopeTable<double>&, Index, Index, Index);

#define LAZY_INSTANTIATE(T)                                                              \
  template void split_heads(T*, T*, T*, const T*, const HeadSplit&, const RopeTable<T>*, \
                            const Index*);                                               \
  template void join_heads(T*, T*, T*, const T*, const HeadSplit&, const RopeTable<T>*);

LAZY_INSTANTIATE(float)
LAZY_INSTANTIATE(double)

}  // namespace lazy
