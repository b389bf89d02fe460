// Attention on host memory: the tiled path and the oracle, float and double.

#include "bindings.hpp"
#include "reference/oracle.hpp"
#include "reference/parameters.hpp"
#include "reference/tiled.hpp"

namespace lazy::python {
namespace {

// One call's shape, rule and inputs, taken from the arrays.
template <class T>
struct Call {
  AttentionShape shape;
  AttentionRule rule;
  AttentionInputs<T> in;
  bool oracle;

  Call(const std::string& implementation, const std::string& normalizer, const std::string& divisor,
       const Array<const T, 4>& q, const Array<const T, 4>& k, const Array<const T, 4>& v,
       const MaybeArray<const T, 2>& bias, const MaybeArray<const T, 1>& tau,
       const MaybeArray<const T, 1>& sink, const MaybeArray<const Index, 1>& lengths)
      : shape{.batch = Index(q.shape(0)),
              .queries = Index(q.shape(1)),
              .keys = Index(k.shape(1)),
              .heads = Index(q.shape(2)),
              .kv_heads = Index(k.shape(2)),
              .head_dim = Index(q.shape(3)),
              .window = bias ? Index(bias->shape(1)) : 0},
        rule{parse_normalizer(normalizer), parse_divisor(divisor)},
        in{.q = q.data(),
           .k = k.data(),
           .v = v.data(),
           .bias = data_or_null(bias),
           .tau = data_or_null(tau),
           .sink = data_or_null(sink),
           .lengths = data_or_null(lengths)},
        oracle(implementation == "oracle") {}
};

template <class T>
void forward(const std::string& implementation, const std::string& normalizer,
             const std::string& divisor, Array<const T, 4> q, Array<const T, 4> k,
             Array<const T, 4> v, MaybeArray<const T, 2> bias, MaybeArray<const T, 1> tau,
             MaybeArray<const T, 1> sink, MaybeArray<const Index, 1> lengths, Array<T, 4> out,
             Array<T, 3> lse) {
  const Call<T> call(implementation, normalizer, divisor, q, k, v, bias, tau, sink, lengths);
  const AttentionOutputs<T> outputs{out.data(), lse.data()};
  nb::gil_scoped_release others_may_run;
  if (call.oracle)
    oracle::attention_forward(call.shape, call.rule, call.in, outputs);
  else
    tiled::attention_forward(call.shape, call.rule, call.in, outputs);
}

template <class T>
void backward(const std::string& implementation, const std::string& normalizer,
              const std::string& divisor, Array<const T, 4> q, Array<const T, 4> k,
              Array<const T, 4> v, MaybeArray<const T, 2> bias, MaybeArray<const T, 1> tau,
              MaybeArray<const T, 1> sink, MaybeArray<const Index, 1> lengths,
              Array<const T, 4> out, Array<const T, 3> lse, Array<const T, 4> dout, Array<T, 4> dq,
              Array<T, 4> dk, Array<T, 4> dv, MaybeArray<T, 2> dbias, MaybeArray<T, 1> dtau,
              MaybeArray<T, 1> dsink) {
  const Call<T> call(implementation, normalizer, divisor, q, k, v, bias, tau, sink, lengths);
  // A view that is only read: AttentionOutputs is written by the forward alone.
  const AttentionOutputs<T> outputs{const_cast<T*>(out.data()), const_cast<T*>(lse.data())};
  const AttentionGrads<T> grads{dq.data(),           dk.data(),          dv.data(),
                                data_or_null(dbias), data_or_null(dtau), data_or_null(dsink)};
  nb::gil_scoped_release others_may_run;
  if (call.oracle)
    oracle::attention_backward(call.shape, call.rule, call.in, dout.data(), grads);
  else
    tiled::attention_backward(call.shape, call.rule, call.in, outputs, dout.data(), grads);
}

template <class T>
void weights(const std::string& implementation, const std::string& normalizer,
             const std::string& divisor, Array<const T, 4> q, Array<const T, 4> k,
             Array<const T, 4> v, MaybeArray<const T, 2> bias, MaybeArray<const T, 1> tau,
             MaybeArray<const T, 1> sink, MaybeArray<const Index, 1> lengths, Array<const T, 4> out,
             Array<const T, 3> lse, Array<T, 4> weights) {
  const Call<T> call(implementation, normalizer, divisor, q, k, v, bias, tau, sink, lengths);
  const AttentionOutputs<T> outputs{const_cast<T*>(out.data()), const_cast<T*>(lse.data())};
  const AttentionShape& s = call.shape;
  nb::gil_scoped_release others_may_run;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h) {
      T* head = weights.data() + (b * s.heads + h) * s.queries * s.keys;
      if (call.oracle)
        oracle::attention_weights(s, call.rule, call.in, b, h, 0, s.queries, head);
      else
        tiled::attention_weights(s, call.rule, call.in, outputs, b, h, 0, s.queries, head);
    }
}

// Without noconvert() an array of another dtype would be converted into a copy, and what is
// written into a copy is lost.
auto fixed(const char* name) {
  return nb::arg(name).noconvert();
}

template <class T>
void bind_for(nb::module_& module) {
  module.def("forward", &forward<T>, nb::arg("implementation"), nb::arg("normalizer"),
             nb::arg("divisor"), fixed("q"), fixed("k"), fixed("v"), fixed("bias").none(),
             fixed("tau").none(), fixed("sink").none(), fixed("lengths").none(), fixed("out"),
             fixed("lse"));
  module.def("backward", &backward<T>, nb::arg("implementation"), nb::arg("normalizer"),
             nb::arg("divisor"), fixed("q"), fixed("k"), fixed("v"), fixed("bias").none(),
             fixed("tau").none(), fixed("sink").none(), fixed("lengths").none(), fixed("out"),
             fixed("lse"), fixed("dout"), fixed("dq"), fixed("dk"), fixed("dv"),
             fixed("dbias").none(), fixed("dtau").none(), fixed("dsink").none());
  module.def("weights", &weights<T>, nb::arg("implementation"), nb::arg("normalizer"),
             nb::arg("divisor"), fixed("q"), fixed("k"), fixed("v"), fixed("bias").none(),
             fixed("tau").none(), fixed("sink").none(), fixed("lengths").none(), fixed("out"),
             fixed("lse"), fixed("weights"));
}

}  // namespace

void bind_attention(nb::module_& module) {
  bind_for<float>(module);
  bind_for<double>(module);
}

}  // namespace lazy::python
