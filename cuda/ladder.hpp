#pragma once
// The ladder: attention kernels from readable to fast, one row each. A new rung is one file and one
// row; the tests and the library go through the table.

#include <span>

#include "cuda/lazy_attention.h"

namespace lazy {

struct Rung {
  const char* name;
  const char* teaches;
  const char* requirement;  // of types, D and GPU, for people
  bool (*supports)(LazyType type, int64_t head_dim);
  LazySizes (*sizes)(const LazyAttention&);
  void (*forward)(const LazyAttention&, const LazyInputs&, const LazyOutputs&, void* workspace,
                  void* stream);
  void (*backward)(const LazyAttention&, const LazyInputs&, const LazyOutputs&, const void* dout,
                   const LazyGrads&, void* workspace, void* stream);
  void (*weights)(const LazyAttention&, const LazyInputs&, const float* lse, int64_t batch,
                  int64_t head, int64_t first_row, int64_t rows, float* weights, void* stream);
};

namespace emulated {
std::span<const Rung> ladder();
}
namespace cuda {
std::span<const Rung> ladder();  // only where the program was built with nvcc
}

}  // namespace lazy
