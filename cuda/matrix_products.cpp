// Which device's matrix products, and the emulated ones: the CPU's, 16-bit numbers widened to float
// and the results rounded once.

#include "cuda/matrix_products.hpp"

#include <algorithm>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "cuda/simt/commands.hpp"
#include "cuda/simt/formats.hpp"
#include "reference/layers.hpp"

namespace lazy {
namespace emulated {
namespace {

std::vector<float> widened(const BFloat16* x, Index size) {
  std::vector<float> wide(size);
  std::transform(x, x + size, wide.begin(), [](BFloat16 value) { return to_float(value); });
  return wide;
}

void round(BFloat16* to, const std::vector<float>& from) {
  std::transform(from.begin(), from.end(), to, from_float<BFloat16>);
}

// The CPU's, and the same for BFloat16.
using lazy::linear_add_forward, lazy::linear_backward, lazy::linear_forward;

void linear_forward(BFloat16* out, const BFloat16* x, const BFloat16* weight, Index N, Index In,
                    Index Out) {
  std::vector<float> sums(N * Out);
  linear_forward(sums.data(), widened(x, N * In).data(), widened(weight, Out * In).data(), N, In,
                 Out);
  round(out, sums);
}

void linear_add_forward(float* out, const float* base, const BFloat16* x, const BFloat16* weight,
                        Index N, Index In, Index Out) {
  linear_add_forward(out, base, widened(x, N * In).data(), widened(weight, Out * In).data(), N, In,
                     Out);
}

void linear_backward(BFloat16* dx, float* dweight, const BFloat16* dout, const BFloat16* x,
                     const BFloat16* weight, Index N, Index In, Index Out) {
  std::vector<float> sums(N * In);
  linear_backward(sums.data(), dweight, widened(dout, N * Out).data(), widened(x, N * In).data(),
                  widened(weight, Out * In).data(), N, In, Out);
  round(dx, sums);
}

}  // namespace

template <class A>
const MatrixProducts<A>& matrix_products() {
  static constexpr MatrixProducts<A> functions{
      [](A* out, const A* x, const A* weight, Index N, Index In, Index Out, void*) {
        if (N > 0) give([=] { linear_forward(out, x, weight, N, In, Out); });
      },
      [](float* out, const float* base, const A* x, const A* weight, Index N, Index In, Index Out,
         void*) {
        if (N > 0) give([=] { linear_add_forward(out, base, x, weight, N, In, Out); });
      },
      [](A* dx, float* dweight, const A* dout, const A* x, const A* weight, Index N, Index In,
         Index Out, void*) {
        if (N > 0) give([=] { linear_backward(dx, dweight, dout, x, weight, N, In, Out); });
      },
      0};
  return functions;
}

template const MatrixProducts<float>& matrix_products();
template const MatrixProducts<BFloat16>& matrix_products();

}  // namespace emulated

template <class A>
const MatrixProducts<A>& matrix_products(LazyDevice device) {
#if defined(LAZY_WITH_CUBLASLT)
  if (device == LAZY_CUDA) return cuda::matrix_products<A>();
#else
  if (device == LAZY_CUDA)
    throw std::invalid_argument(
        "lazy_attention: this build has no matrix products for NVIDIA GPUs: it was made without "
        "nvcc or cuBLASLt; use the device emulated");
#endif
  return emulated::matrix_products<A>();
}

template const MatrixProducts<float>& matrix_products(LazyDevice);
template const MatrixProducts<BFloat16>& matrix_products(LazyDevice);

}  // namespace lazy
