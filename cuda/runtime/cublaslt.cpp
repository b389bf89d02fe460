#include "cuda/runtime/cublaslt.hpp"

#include <dlfcn.h>

#include <stdexcept>
#include <string>

namespace lazy::cuda {
namespace {

// Of the version this was compiled for: where the system looks for libraries, or else where the
// compiler found it.
void* open_library() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  if (void* found = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
  const std::string why = dlerror();
  if (void* found = dlopen(LAZY_CUBLASLT, RTLD_NOW | RTLD_LOCAL)) return found;
  throw std::runtime_error("matrix products need cuBLASLt of CUDA " +
                           std::to_string(CUBLAS_VER_MAJOR) + ": " + why +
                           "; put the folder it lies in into LD_LIBRARY_PATH");
}

class Library {
 public:
  template <class Function>
  Library& find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (!function)
      throw std::runtime_error(std::string("cuBLASLt has no function ") + name +
                               "; is it older than CUDA 12?");
    return *this;
  }

 private:
  void* library_ = open_library();
};

}  // namespace

const CublasLt& cublaslt() {
  static const CublasLt functions = [] {
    CublasLt f;
    Library()
        .find(f.create, "cublasLtCreate")
        .find(f.status_text, "cublasLtGetStatusString")
        .find(f.make_operation, "cublasLtMatmulDescCreate")
        .find(f.set_operation, "cublasLtMatmulDescSetAttribute")
        .find(f.make_layout, "cublasLtMatrixLayoutCreate")
        .find(f.make_preference, "cublasLtMatmulPreferenceCreate")
        .find(f.set_preference, "cublasLtMatmulPreferenceSetAttribute")
        .find(f.destroy_preference, "cublasLtMatmulPreferenceDestroy")
        .find(f.find_algorithm, "cublasLtMatmulAlgoGetHeuristic")
        .find(f.multiply, "cublasLtMatmul");
    return f;
  }();
  return functions;
}

}  // namespace lazy::cuda
