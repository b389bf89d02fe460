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

void forward(float* out, const float* x, const float* weight, Index N, Index In, Index Out) {
  lazy::linear_forward(out, x, weight, N, In, Out);
}

void forward(float* out, const BFloat16* x, const BFloat16* weight, Index N, Index In, Index Out) {
  forward(out, widened(x, N * In).data(), widened(weight, Out * In).data(), N, In, Out);
}

void forward(BFloat16* out, const BFloat16* x, const BFloat16* weight, Index N, Index In,
             Index Out) {
  std::vector<float> sums(N * Out);
  forward(sums.data(), x, weight, N, In, Out);
  round(out, sums);
}

void backward(float* dx, float* dweight, const float* dout, const float* x, const float* weight,
              Index N, Index In, Index Out) {
  std::fill_n(dx, N * In, 0.0f);  // the CPU's adds to it
  lazy::linear_backward(dx, dweight, dout, x, weight, N, In, Out);
}

void backward(BFloat16* dx, float* dweight, const BFloat16* dout, const BFloat16* x,
              const BFloat16* weight, Index N, Index In, Index Out) {
  std::vector<float> sums(N * In);
  backward(sums.data(), dweight, widened(dout, N * Out).data(), widened(x, N * In).data(),
           widened(weight, Out * In).data(), N, In, Out);
  round(dx, sums);
}

template <class A>
void linear_forward(A* out, const A* x, const A* weight, Index N, Index In, Index Out, void*) {
  if (N > 0) give([=] { forward(out, x, weight, N, In, Out); });
}

template <class A>
void linear_add_forward(float* out, const float* base, const A* x, const A* weight, Index N,
                        Index In, Index Out, void*) {
  if (N > 0)
    give([=] {
      std::vector<float> sums(N * Out);
      forward(sums.data(), x, weight, N, In, Out);
      std::transform(sums.begin(), sums.end(), base, out, std::plus());
    });
}

template <class A>
void linear_backward(A* dx, float* dweight, const A* dout, const A* x, const A* weight, Index N,
                     Index In, Index Out, void*) {
  if (N > 0) give([=] { backward(dx, dweight, dout, x, weight, N, In, Out); });
}

}  // namespace

template <class A>
const MatrixProducts<A>& matrix_products() {
  static constexpr MatrixProducts<A> functions{linear_forward<A>, linear_add_forward<A>,
                                               linear_backward<A>};
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
