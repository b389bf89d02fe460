#pragma once
// What every attention kernel is given, and where things lie in it.

#include <cstdint>

#include "cuda/lazy_attention.h"
#include "cuda/simt/simt.hpp"
#include "reference/elastic.hpp"

namespace lazy::LAZY_TARGET {

inline constexpr float infinity = __builtin_huge_valf();

/// Rows of one head of a tensor: row r starts at first[r * stride]. Rows outside [begin, end) count
/// as zero; nothing there is read.
template <class T>
struct HeadRows {
  Global<const T> first;
  std::int64_t stride;
  int begin, end;
};

/// Sizes and inputs of one call; T is float, BFloat16 or Float16.
template <class T>
struct Problem {
  int batch, queries, keys, heads, kv_heads, head_dim, window;
  bool divide_by_length, skip_dead_tiles;
  float scale;  // 1 / sqrt(D)
  Global<const T> q, k, v;
  Global<const float> bias, tau;       // tau null: 0
  Global<const std::int64_t> lengths;  // null: all keys

  __device__ int key_head(int head) const { return head / (heads / kv_heads); }

  /// Valid keys of sequence `b`.
  __device__ int length(int b) const {
    if (!lengths) return keys;
    const std::int64_t length = lengths[b];
    return length < 0 ? 0 : length > keys ? keys : static_cast<int>(length);
  }

  /// Position of query row 0 in a sequence of `length` keys; negative if it lies before the first.
  __device__ int first_position(int length) const { return queries == keys ? 0 : length - queries; }

  /// n, the number of keys query row `row` sees.
  __device__ int visible_keys(int length, int row) const {
    const int position = first_position(length) + row;
    return row >= queries || position < 0 || position >= length ? 0 : position + 1;
  }

  /// What tau is divided by in a row that sees `n` keys.
  __device__ float divisor(int n, int length) const {
    return static_cast<float>(divide_by_length ? length : n);
  }

  __device__ float tau_of(int head) const { return tau ? tau[head] : 0.f; }

  /// b[distance] of one head, 0 beyond the window.
  __device__ float bias_at(int head, int distance) const {
    return in_bias_window(distance, window) ? bias[std::int64_t(head) * window + distance] : 0.f;
  }

  /// First component of a query's row in q, out, dout, dq: [B, Tq, H, D].
  __device__ std::int64_t query(int b, int row, int head) const {
    return ((std::int64_t(b) * queries + row) * heads + head) * head_dim;
  }

  /// First component of a key's row in k, v, dk, dv: [B, Tk, Hkv, D].
  __device__ std::int64_t key(int b, int j, int kv_head) const {
    return ((std::int64_t(b) * keys + j) * kv_heads + kv_head) * head_dim;
  }

  /// The query rows of one head in x = q, dout or dq that see a key.
  __device__ HeadRows<T> query_rows(Global<const T> x, int b, int head) const {
    const int length = this->length(b), position0 = first_position(length);
    return {x + query(b, 0, head), std::int64_t(heads) * head_dim, position0 < 0 ? -position0 : 0,
            length - position0 < queries ? length - position0 : queries};
  }

  /// The valid keys that a query head reads, in x = k or v.
  __device__ HeadRows<T> key_rows(Global<const T> x, int b, int head) const {
    return {x + key(b, 0, key_head(head)), std::int64_t(kv_heads) * head_dim, 0, length(b)};
  }

  /// Of a row in lse, delta: [B, H, Tq].
  __device__ std::int64_t row(int b, int head, int row) const {
    return (std::int64_t(b) * heads + head) * queries + row;
  }
};

/// exp(score - lse); the row's other entries are 0 where one score is infinite.
__device__ inline float probability(float score, float lse) {
  return lse == -infinity ? 0.f : exp(score - lse);
}

/// Gradient of a score: a dead entry (weight 0) keeps -p delta.
__device__ inline float score_gradient(float probability, float weight, float weight_gradient,
                                       float delta) {
  return probability * (where_live(weight, weight_gradient) - delta);
}

// ---- The host's side.

template <class T>
Problem<T> make_problem(const LazyAttention& a, const LazyInputs& in) {
  const std::int64_t keys = a.batch * a.keys * a.kv_heads * a.head_dim;
  Problem<T> p;
  p.batch = static_cast<int>(a.batch);
  p.queries = static_cast<int>(a.queries);
  p.keys = static_cast<int>(a.keys);
  p.heads = static_cast<int>(a.heads);
  p.kv_heads = static_cast<int>(a.kv_heads);
  p.head_dim = static_cast<int>(a.head_dim);
  p.window = static_cast<int>(a.window);
  p.divide_by_length = a.divide_by_length != 0;
  p.skip_dead_tiles = a.compute_dead_tiles == 0;
  p.scale = static_cast<float>(1 / __builtin_sqrt(static_cast<double>(a.head_dim)));
  p.q = view(static_cast<const T*>(in.q), a.batch * a.queries * a.heads * a.head_dim);
  p.k = view(static_cast<const T*>(in.k), keys);
  p.v = view(static_cast<const T*>(in.v), keys);
  p.bias = view(in.bias, a.heads * a.window);
  p.tau = view(in.tau, a.heads);
  p.lengths = view(in.lengths, a.batch);
  return p;
}

inline std::int64_t query_count(const LazyAttention& a) {
  return a.batch * a.queries * a.heads * a.head_dim;
}
inline std::int64_t key_count(const LazyAttention& a) {
  return a.batch * a.keys * a.kv_heads * a.head_dim;
}
inline std::int64_t row_count(const LazyAttention& a) {
  return a.batch * a.heads * a.queries;
}

/// Hands out a workspace, array after array; with a null start it only counts.
class Workspace {
 public:
  explicit Workspace(void* start) : start_(static_cast<char*>(start)) {}
  template <class T>
  Global<T> take(std::int64_t count) {
    T* array = start_ ? reinterpret_cast<T*>(start_ + bytes_) : nullptr;
    bytes_ += (count * sizeof(T) + 255) / 256 * 256;
    return view(array, count);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* start_;
  std::size_t bytes_ = 0;
};

/// How many pieces of size `b` hold `a`.
template <class T>
constexpr T divided_up(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace lazy::LAZY_TARGET
