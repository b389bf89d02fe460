#pragma once
// How the layers go through memory: a block or a warp takes a row, a thread some neighbours at a
// time, 16 bytes of them where rows and arrays allow it.

#include <cstdint>
#include <type_traits>

#include "cuda/reductions.hpp"
#include "reference/attention_types.hpp"

namespace lazy::LAZY_TARGET {

/// Neighbours in 16 bytes.
template <class T>
inline constexpr int vector_width = 16 / sizeof(T);

/// Whether neighbours can be moved at once from where an array starts.
inline bool is_aligned(const void* array) {
  return reinterpret_cast<std::uintptr_t>(array) % 16 == 0;
}

/// Calls run(width), a constant: `wide`, or 1 where a row's length or an array does not allow it.
template <int wide, class Run, class... Arrays>
void with_width(Index length, Run run, const Arrays*... arrays) {
  if (length % wide == 0 && (... && is_aligned(arrays)))
    run(std::integral_constant<int, wide>());
  else
    run(std::integral_constant<int, 1>());
}

/// Threads of a block that goes through a row of `vectors`.
inline int threads_for(Index vectors) {
  constexpr Index most = 256;
  const Index threads = divided_up<Index>(vectors, warp_size) * warp_size;
  return static_cast<int>(threads < warp_size ? warp_size : threads < most ? threads : most);
}

}  // namespace lazy::LAZY_TARGET
