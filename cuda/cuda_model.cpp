// The model and its trainer on the backends of the kernels.

#include "cuda/cuda_backend.hpp"
#include "reference/model_diagnostics_host.hpp"
#include "reference/training_step.hpp"
#include "reference/transformer_host.hpp"

namespace lazy {

#define LAZY_INSTANTIATE(Backend)             \
  template class Transformer<Backend, float>; \
  template class Trainer<Backend, float>;     \
  template ModelDiagnostics diagnose(const Transformer<Backend, float>&);

LAZY_INSTANTIATE(CudaBackend)
LAZY_INSTANTIATE(CudaBFloat16Backend)
LAZY_INSTANTIATE(EmulatedBackend)
LAZY_INSTANTIATE(EmulatedBFloat16Backend)

}  // namespace lazy
