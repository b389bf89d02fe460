// The model on plain loops.

#include "reference/training_step.hpp"
#include "reference/transformer_host.hpp"
#include "tests/plain_backend.hpp"

namespace lazy {

template class Transformer<test::PlainBackend<float>, float>;
template class Transformer<test::PlainBackend<BFloat16>, float>;
template class Trainer<test::PlainBackend<float>, float>;
template class Trainer<test::PlainBackend<BFloat16>, float>;

}  // namespace lazy
