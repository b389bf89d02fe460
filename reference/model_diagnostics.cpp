#include "reference/cpu_backend.hpp"
#include "reference/model_diagnostics_host.hpp"

namespace lazy {

template ModelDiagnostics diagnose(const Transformer<CpuBackend, float>&);
template ModelDiagnostics diagnose(const Transformer<CpuBackend, double>&);

}  // namespace lazy
