#include "reference/cpu_backend.hpp"
#include "reference/transformer_host.hpp"

namespace lazy {

template class Transformer<CpuBackend, float>;
template class Transformer<CpuBackend, double>;

}  // namespace lazy
