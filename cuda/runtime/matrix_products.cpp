// Matrix products on a GPU by cuBLASLt.
//
// cuBLASLt thinks column by column: a row-major [r, c] is its c x r matrix. So a product of
// row-major matrices is asked for transposed, its factors in the other order.

#include "cuda/matrix_products.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <mutex>
#include <type_traits>

#include "cuda/runtime/check.hpp"
#include "cuda/simt/formats.hpp"

namespace lazy::cuda {
namespace {

constexpr std::size_t workspace_bytes = std::size_t(32) << 20;

// Who multiplies, for the text of an error.
struct Call {
  const char* name;
  Index N, In, Out;
};

void must(cublasStatus_t status, const Call& call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(
      std::string(call.name) + " with N = " + std::to_string(call.N) +
      ", In = " + std::to_string(call.In) + ", Out = " + std::to_string(call.Out) +
      ": cuBLASLt: " + cublasLtGetStatusString(status) +
      (status == CUBLAS_STATUS_NOT_SUPPORTED
           ? "; try float32, or sizes that are multiples of 8"
           : "; is memory short (nvidia-smi)? Try a smaller batch, or the device emulated"));
}

// D (m x n) = op(A) op(B) + beta C, op(A) m x k, op(B) k x n.
struct Product {
  cublasOperation_t op_a, op_b;
  cudaDataType_t factors, result;
  Index m, n, k;
  std::uint32_t alignment;  // of all four matrices in memory

  auto operator<=>(const Product&) const = default;
};

// How cuBLASLt computes a product.
struct Plan {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, d;
  cublasLtMatmulAlgo_t algorithm;
};

template <class T>
void set(cublasLtMatmulDescOpaque_t& operation, cublasLtMatmulDescAttributes_t attribute, T value,
         const Call& call) {
  must(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value), call);
}

template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& wish, cublasLtMatmulPreferenceAttributes_t attribute,
         T value, const Call& call) {
  must(cublasLtMatmulPreferenceSetAttribute(&wish, attribute, &value, sizeof value), call);
}

Plan make_plan(cublasLtHandle_t handle, const Product& p, const Call& call) {
  Plan plan;
  // Sums in float: TF32 would be another compute type.
  must(cublasLtMatmulDescInit(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), call);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.op_a, call);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.op_b, call);
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& at, cudaDataType_t type, Index rows,
                          Index columns, bool transposed) {
    if (transposed) std::swap(rows, columns);
    must(cublasLtMatrixLayoutInit(&at, type, std::uint64_t(rows), std::uint64_t(columns), rows),
         call);
  };
  layout(plan.a, p.factors, p.m, p.k, p.op_a == CUBLAS_OP_T);
  layout(plan.b, p.factors, p.k, p.n, p.op_b == CUBLAS_OP_T);
  layout(plan.d, p.result, p.m, p.n, false);

  cublasLtMatmulPreferenceOpaque_t wish;
  must(cublasLtMatmulPreferenceInit(&wish), call);
  set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes, call);
  // Partial sums are added in float and in a fixed order.
  set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), call);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(wish, attribute, p.alignment, call);

  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  must(cublasLtMatmulAlgoGetHeuristic(handle, &plan.operation, &plan.a, &plan.b, &plan.d, &plan.d,
                                      &wish, 1, &best, &found),
       call);
  must(found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : best.state, call);
  plan.algorithm = best.algo;
  return plan;
}

// cuBLASLt, its workspace, and the plans made so far. Never taken down: at the end of a program
// CUDA may be gone first.
class Library {
 public:
  Library() {
    must(cublasLtCreate(&handle_), {"starting cuBLASLt", 0, 0, 0});
    check(cudaMalloc(&workspace_, workspace_bytes), "allocating the matrix products' workspace");
  }

  void multiply(const Product& product, const void* a, const void* b, float beta, const void* c,
                void* d, void* stream, const Call& call) {
    Plan& plan = plan_of(product, call);
    const float alpha = 1;
    must(cublasLtMatmul(handle_, &plan.operation, &alpha, a, &plan.a, b, &plan.b, &beta, c, &plan.d,
                        d, &plan.d, &plan.algorithm, workspace_, workspace_bytes,
                        static_cast<cudaStream_t>(stream)),
         call);
  }

 private:
  Plan& plan_of(const Product& product, const Call& call) {
    const std::lock_guard one_at_a_time(mutex_);
    const auto known = plans_.find(product);
    if (known != plans_.end()) return known->second;
    return plans_.emplace(product, make_plan(handle_, product, call)).first->second;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::mutex mutex_;
  std::map<Product, Plan> plans_;
};

Library& library() {
  static Library& made = *new Library;
  return made;
}

template <class T>
constexpr cudaDataType_t type_of = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

// The largest power of two that divides every address, up to what cuBLASLt distinguishes.
std::uint32_t common_alignment(auto... pointers) {
  const std::uintptr_t bits = (reinterpret_cast<std::uintptr_t>(pointers) | ... | 256);
  return static_cast<std::uint32_t>(bits & -bits);
}

// D = op(A) op(B) + beta C, all in cuBLASLt's sense.
template <class D, class A>
void multiply(D* d, cublasOperation_t op_a, const A* a, cublasOperation_t op_b, const A* b,
              float beta, const D* c, Index m, Index n, Index k, void* stream, const Call& call) {
  library().multiply({op_a, op_b, type_of<A>, type_of<D>, m, n, k, common_alignment(a, b, c, d)}, a,
                     b, beta, c, d, stream, call);
}

template <class A>
void linear_forward(A* out, const A* x, const A* weight, Index N, Index In, Index Out,
                    void* stream) {
  if (N == 0) return;
  multiply(out, CUBLAS_OP_T, weight, CUBLAS_OP_N, x, 0, out, Out, N, In, stream,
           {"linear_forward", N, In, Out});
}

template <class A>
void linear_add_forward(float* out, const float* base, const A* x, const A* weight, Index N,
                        Index In, Index Out, void* stream) {
  if (N == 0) return;
  multiply(out, CUBLAS_OP_T, weight, CUBLAS_OP_N, x, 1, base, Out, N, In, stream,
           {"linear_add_forward", N, In, Out});
}

template <class A>
void linear_backward(A* dx, float* dweight, const A* dout, const A* x, const A* weight, Index N,
                     Index In, Index Out, void* stream) {
  if (N == 0) return;
  const Call call{"linear_backward", N, In, Out};
  multiply(dx, CUBLAS_OP_N, weight, CUBLAS_OP_N, dout, 0, dx, In, N, Out, stream, call);
  multiply(dweight, CUBLAS_OP_N, x, CUBLAS_OP_T, dout, 1, dweight, In, Out, N, stream, call);
}

}  // namespace

template <class A>
const MatrixProducts<A>& matrix_products() {
  library();
  static constexpr MatrixProducts<A> functions{linear_forward<A>, linear_add_forward<A>,
                                               linear_backward<A>};
  return functions;
}

template const MatrixProducts<float>& matrix_products();
template const MatrixProducts<BFloat16>& matrix_products();

}  // namespace lazy::cuda
