#include "reference/tiled.hpp"

#include "reference/oracle.hpp"

namespace lazy::tiled {

template <class T>
void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>& out,
                       const Options&) {
  oracle::attention_forward(shape, rule, in, out);
}
template <class T>
void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                        const AttentionInputs<T>& in, const AttentionOutputs<T>&,
                        const T* dout, const AttentionGrads<T>& grads, const Options&) {
  oracle::attention_backward(shape, rule, in, dout, grads);
}
template <class T>
void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                       const AttentionInputs<T>& in, const AttentionOutputs<T>&, Index b,
                       Index head, Index first_row, Index rows, T* weights) {
  oracle::attention_weights(shape, rule, in, b, head, first_row, rows, weights);
}

#define LAZY_INSTANTIATE(T)                                                                        \
  template void attention_forward(const AttentionShape&, const AttentionRule&,                     \
                                  const AttentionInputs<T>&, const AttentionOutputs<T>&,           \
                                  const Options&);                                                 \
  template void attention_backward(const AttentionShape&, const AttentionRule&,                    \
                                   const AttentionInputs<T>&, const AttentionOutputs<T>&,          \
                                   const T*, const AttentionGrads<T>&, const Options&);            \
  template void attention_weights(const AttentionShape&, const AttentionRule&,                     \
                                  const AttentionInputs<T>&, const AttentionOutputs<T>&, Index,    \
                                  Index, Index, Index, T*);
LAZY_INSTANTIATE(float)
LAZY_INSTANTIATE(double)
#undef LAZY_INSTANTIATE

}  // namespace lazy::tiled
