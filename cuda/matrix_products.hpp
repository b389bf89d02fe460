#pragma once
// The linear layers of a model on a device: on a GPU by cuBLASLt, in emulation by the CPU's code.
//
// N rows (all tokens of a batch). A is the type of x, weight, out, dx and dout, float or BFloat16;
// products are summed in float, never in TF32, and rounded once. Two runs give the same bytes; no
// call waits. `stream` as in memory.hpp, one stream at a time: all share a workspace.

#include <cstddef>

#include "cuda/lazy_attention.h"
#include "reference/attention_types.hpp"

namespace lazy {

/// Everything throws std::runtime_error if the GPU or cuBLASLt fails. N = 0 is allowed.
template <class A>
struct MatrixProducts {
  /// out [N, Out] = x [N, In] weight^T, weight [Out, In].
  void (*linear_forward)(A* out, const A* x, const A* weight, Index N, Index In, Index Out,
                         void* stream);
  /// out [N, Out] = base [N, Out] + x weight^T; `base` may be `out`.
  void (*linear_add_forward)(float* out, const float* base, const A* x, const A* weight, Index N,
                             Index In, Index Out, void* stream);
  /// dx [N, In] = dout [N, Out] weight, assigned; dweight [Out, In] += dout^T x.
  void (*linear_backward)(A* dx, float* dweight, const A* dout, const A* x, const A* weight,
                          Index N, Index In, Index Out, void* stream);
  std::size_t workspace;  // bytes, taken with the first call of matrix_products
};

namespace emulated {
template <class A>
const MatrixProducts<A>& matrix_products();
}
namespace cuda {  // only where the program was built with nvcc and cuBLASLt
template <class A>
const MatrixProducts<A>& matrix_products();
}  // namespace cuda

/// Of either device. Throws std::invalid_argument where CUDA is asked for and the program was built
/// without nvcc or cuBLASLt.
template <class A>
const MatrixProducts<A>& matrix_products(LazyDevice device);

}  // namespace lazy
