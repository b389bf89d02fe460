#pragma once
// The functions of cuBLASLt that are used here, loaded when the first is needed: the library takes
// longer to load, and more memory, than most programs that could multiply on a GPU but do not.

#include <cublasLt.h>

namespace lazy::cuda {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtMatmulDescCreate) make_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&cublasLtMatrixLayoutCreate) make_layout;
  decltype(&cublasLtMatmulPreferenceCreate) make_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithm;
  decltype(&cublasLtMatmul) multiply;
};

/// Throws std::runtime_error if the library is not there.
const CublasLt& cublaslt();

}  // namespace lazy::cuda
