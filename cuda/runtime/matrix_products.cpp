// Matrix products on a GPU by cuBLASLt.
//
// cuBLASLt thinks column by column: a row-major [r, c] is its c x r matrix. So a product of
// row-major matrices is asked for transposed, its factors in the other order.

#include "cuda/matrix_products.hpp"

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "cuda/memory.hpp"
#include "cuda/runtime/cublaslt.hpp"
#include "cuda/simt/formats.hpp"

namespace lazy::cuda {
namespace {

constexpr std::size_t workspace_bytes = std::size_t(32) << 20;

// Who multiplies, for the text of an error.
struct Call {
  const char* name;
  Index N, In, Out;
};

[[noreturn]] void fail(const std::string& what, cublasStatus_t status) {
  throw std::runtime_error(
      what + ": cuBLASLt: " + cublaslt().status_text(status) +
      (status == CUBLAS_STATUS_NOT_SUPPORTED
           ? "; try float32, or sizes that are multiples of 8"
           : "; is memory short (nvidia-smi)? Try a smaller batch, or the device emulated"));
}

void must(cublasStatus_t status, const Call& call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(std::string(call.name) + " with N = " + std::to_string(call.N) +
             ", In = " + std::to_string(call.In) + ", Out = " + std::to_string(call.Out),
         status);
}

// D (m x n) = op(A) op(B) + beta C, op(A) m x k, op(B) k x n.
struct Product {
  cublasOperation_t op_a, op_b;
  cudaDataType_t factors, result;
  Index m, n, k;
  std::uint32_t alignment;  // of all four matrices in memory

  auto operator<=>(const Product&) const = default;
};

// How cuBLASLt computes a product. Kept for as long as the program runs.
struct Plan {
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t a, b, d;
  cublasLtMatmulAlgo_t algorithm;
};

cublasLtMatmulDesc_t describe_operation(const Product& p, const Call& call) {
  cublasLtMatmulDesc_t operation;
  // Sums in float: TF32 would be another compute type.
  must(cublaslt().make_operation(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), call);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value) {
    must(cublaslt().set_operation(operation, attribute, &value, sizeof value), call);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.op_a);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.op_b);
  return operation;
}

// Of the matrix that `op` makes a rows x columns one.
cublasLtMatrixLayout_t describe_matrix(cudaDataType_t type, Index rows, Index columns,
                                       cublasOperation_t op, const Call& call) {
  if (op == CUBLAS_OP_T) std::swap(rows, columns);
  cublasLtMatrixLayout_t layout;
  must(cublaslt().make_layout(&layout, type, std::uint64_t(rows), std::uint64_t(columns), rows),
       call);
  return layout;
}

// What cuBLASLt holds for the fastest way that fits.
cublasLtMatmulAlgo_t find_algorithm(cublasLtHandle_t handle, const Product& p, const Plan& plan,
                                    const Call& call) {
  cublasLtMatmulPreference_t wish;
  must(cublaslt().make_preference(&wish), call);
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                        cublasStatus_t (*)(cublasLtMatmulPreference_t)>
      until_done(wish, cublaslt().destroy_preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    must(cublaslt().set_preference(wish, attribute, &value, sizeof value), call);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Partial sums are added in float and in a fixed order.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(attribute, p.alignment);
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  must(cublaslt().find_algorithm(handle, plan.operation, plan.a, plan.b, plan.d, plan.d, wish, 1,
                                 &best, &found),
       call);
  must(found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : best.state, call);
  return best.algo;
}

Plan make_plan(cublasLtHandle_t handle, const Product& p, const Call& call) {
  Plan plan{describe_operation(p, call),
            describe_matrix(p.factors, p.m, p.k, p.op_a, call),
            describe_matrix(p.factors, p.k, p.n, p.op_b, call),
            describe_matrix(p.result, p.m, p.n, CUBLAS_OP_N, call),
            {}};
  plan.algorithm = find_algorithm(handle, p, plan, call);
  return plan;
}

// cuBLASLt, its workspace, and the plans made so far. Never taken down: at the end of a program
// CUDA may be gone first.
class Library {
 public:
  Library() : workspace_(memory().allocate(workspace_bytes)) {
    if (const cublasStatus_t status = cublaslt().create(&handle_); status != CUBLAS_STATUS_SUCCESS)
      fail("preparing matrix products", status);
  }

  void multiply(const Product& product, const void* a, const void* b, float beta, const void* c,
                void* d, void* stream, const Call& call) {
    const Plan& plan = plan_of(product, call);
    const float alpha = 1;
    must(cublaslt().multiply(handle_, plan.operation, &alpha, a, plan.a, b, plan.b, &beta, c,
                             plan.d, d, plan.d, &plan.algorithm, workspace_, workspace_bytes,
                             static_cast<cudaStream_t>(stream)),
         call);
  }

 private:
  const Plan& plan_of(const Product& product, const Call& call) {
    const std::lock_guard one_at_a_time(mutex_);
    const auto known = plans_.find(product);
    if (known != plans_.end()) return known->second;
    return plans_.emplace(product, make_plan(handle_, product, call)).first->second;
  }

  void* workspace_;
  cublasLtHandle_t handle_ = nullptr;
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
                                               linear_backward<A>, workspace_bytes};
  return functions;
}

template const MatrixProducts<float>& matrix_products();
template const MatrixProducts<BFloat16>& matrix_products();

}  // namespace lazy::cuda
