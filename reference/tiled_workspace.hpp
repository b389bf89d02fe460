#pragma once
// The memory that tiles are computed in: one workspace a thread, shared by forward and backward,
// kept by the calling thread from call to call.

#include <omp.h>

#include <span>
#include <vector>

#include "reference/tiled_block.hpp"

namespace lazy::tiled {

// Copies of dbias that neighboring keys add to in turn, so as not to wait for each other's stores.
inline constexpr Index bias_copies = 4;

template <class T>
struct Workspace {
  // Of one head, [tiles * 48, padded D].
  AlignedVector<T> keys, values, dK, dV;
  // Strips of one block, [tile][key][48]. Forward: S, then E, then A. Backward: S, then P, then dS.
  AlignedVector<T> strip, dA;
  // Of one block, [48, padded D]: its queries, its dout, their transposes; out or dQ.
  AlignedVector<T> query_rows, dout_rows, queries, douts, rows;
  AlignedVector<T> delta_queries;         // -delta_i q_i, of the same block
  AlignedVector<T> A;                     // one group of keys
  AlignedVector<T> dbias;                 // [4][W + margins]
  std::vector<char> live;                 // [tiles]
  std::vector<LiveVectors> live_vectors;  // [tiles][groups of keys], of backward
  std::vector<Index> live_keys;           // of one row
  Index packed_head = -1;                 // whose keys and values forward has packed

  void reserve_forward(const AttentionShape& s) {
    const std::size_t tiles = divide_up(s.keys, tile_keys), width = padded_dim<T>(s.head_dim);
    at_least(strip, tiles * tile_size);
    for (auto* x : {&keys, &values}) at_least(*x, tiles * tile_keys * width);
    for (auto* x : {&query_rows, &queries, &rows}) at_least(*x, tile_keys * width);
    at_least(live, tiles);
    packed_head = -1;
  }
  void reserve_backward(const AttentionShape& s) {
    reserve_forward(s);
    at_least(dA, strip.size());
    for (auto* x : {&dK, &dV}) at_least(*x, keys.size());
    for (auto* x : {&dout_rows, &douts, &delta_queries}) at_least(*x, queries.size());
    at_least(A, tile_rows * block_queries);
    at_least(live_vectors, live.size() * tile_groups);
    at_least(dbias, bias_copies * BiasTables<T>::table_size(s.window));
  }
  void reserve_rows(const AttentionShape& s) {
    at_least(strip, padded_dim<T>(s.keys));
    at_least(live_keys, s.keys + 1);
  }

 private:
  static void at_least(auto& memory, std::size_t size) {
    if (memory.size() < size) memory.resize(size);
  }
};

/// One workspace for each thread of the caller's next parallel region. Reserve them before it: no
/// exception may leave such a region.
template <class T>
std::span<Workspace<T>> team_workspaces() {
  static thread_local std::vector<Workspace<T>> workspaces;
  const std::size_t team = omp_get_max_threads();
  if (workspaces.size() < team) workspaces.resize(team);
  return {workspaces.data(), team};
}

}  // namespace lazy::tiled
