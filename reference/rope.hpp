#pragma once
// Rotary positions: dimension pair (m, m + D/2) of the vector at position t turns by t *
// base^(-2m/D), so that a score depends on positions through their difference alone (RoFormer,
// arXiv 2104.09864; half-split pairing).

#include <vector>

#include "reference/attention_types.hpp"

namespace lazy {

/// cos and sin of every angle, [positions, D/2], computed in double and rounded once.
template <class T>
struct RopeTable {
  Index positions = 0;
  Index head_dim = 0;
  std::vector<T> cos, sin;
};

/// Throws std::invalid_argument if head_dim is odd or base is not positive.
template <class T>
RopeTable<T> make_rope_table(Index positions, Index head_dim, double base);

/// Rotates x [rows, heads, D] in place; row t stands at position first_position + t. Rows at
/// negative positions are empty and stay as they are. Throws std::invalid_argument if the table is
/// too short or of another head_dim.
template <class T>
void rope_forward(T* x, const RopeTable<T>& table, Index rows, Index heads, Index first_position);

/// The transpose: turns a gradient dx [rows, heads, D] back, in place.
template <class T>
void rope_backward(T* dx, const RopeTable<T>& table, Index rows, Index heads, Index first_position);

/// How the heads of one projection lie in memory.
struct HeadSplit {
  Index sequences, length, heads, kv_heads, head_dim;
  Index capacity;  // keys a sequence has room for
};

/// From the joint projection qkv [N, (H + 2 Hkv) D], a row's heads of q before those of k and of v,
/// to q [B, T, H, D] and to rows past[b] + t of k and v [B, capacity, Hkv, D]; q and k are rotated.
/// Row t of sequence b stands at position past[b] + t. `past` [B] null: 0; negative: nothing of
/// that sequence is written. `rope` null: no rotation. Throws as rope_forward.
template <class T>
void split_heads(T* q, T* k, T* v, const T* qkv, const HeadSplit& split, const RopeTable<T>* rope,
                 const Index* past);

/// The transpose, for past 0 and capacity T: dqkv is assigned; dq and dk are turned back in place.
template <class T>
void join_heads(T* dqkv, T* dq, T* dk, const T* dv, const HeadSplit& split,
                const RopeTable<T>* rope);

}  // namespace lazy
