// The GPU kernels through their C interface: on a GPU's memory, or emulated on the host's.

#include "bindings.hpp"
#include "cuda/lazy_attention.h"

namespace lazy::python {
namespace {

// Of any dtype, on any device: arguments.py has checked both.
using Tensor = nb::ndarray<nb::c_contig>;
using MaybeTensor = std::optional<Tensor>;

template <class T = void>
T* pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.data());
}
template <class T = void>
T* pointer(const MaybeTensor& tensor) {
  return tensor ? pointer<T>(*tensor) : nullptr;
}

void check(int status) {
  if (status == LAZY_REFUSED) throw std::invalid_argument(lazy_attention_error());
  if (status == LAZY_FAILED) throw std::runtime_error(lazy_attention_error());
}

struct Kernels {
  LazyAttention call{};
  std::string rung;
  LazySizes sizes{};

  Kernels(const std::string& device, const std::string& type,
          const std::optional<std::string>& rung, const std::string& divisor, std::int64_t batch,
          std::int64_t queries, std::int64_t keys, std::int64_t heads, std::int64_t kv_heads,
          std::int64_t head_dim, std::int64_t window)
      : rung(rung.value_or("")) {
    call.batch = batch, call.queries = queries, call.keys = keys, call.heads = heads;
    call.kv_heads = kv_heads, call.head_dim = head_dim, call.window = window;
    call.type = type == "bfloat16"  ? LAZY_BFLOAT16
                : type == "float16" ? LAZY_FLOAT16
                                    : LAZY_FLOAT32;
    call.device = device == "cuda" ? LAZY_CUDA : LAZY_EMULATED;
    call.rung = this->rung.empty() ? nullptr : this->rung.c_str();
    call.divide_by_length = divisor == "length";
    check(lazy_attention_sizes(&call, &sizes));
  }
  Kernels(const Kernels&) = delete;  // call.rung points into this->rung

  void forward(Tensor q, Tensor k, Tensor v, MaybeTensor bias, MaybeTensor tau, MaybeTensor lengths,
               Tensor out, Tensor lse, Tensor live_sums, Tensor live_tiles, Tensor workspace,
               std::uintptr_t stream) const {
    const LazyInputs in = inputs(q, k, v, bias, tau, lengths);
    const LazyOutputs outputs = this->outputs(out, lse, live_sums, live_tiles);
    nb::gil_scoped_release others_may_run;
    check(lazy_attention_forward(&call, &in, &outputs, workspace.data(),
                                 reinterpret_cast<void*>(stream)));
  }

  void backward(Tensor q, Tensor k, Tensor v, MaybeTensor bias, MaybeTensor tau,
                MaybeTensor lengths, Tensor out, Tensor lse, Tensor live_sums, Tensor live_tiles,
                Tensor dout, Tensor dq, Tensor dk, Tensor dv, MaybeTensor dbias, MaybeTensor dtau,
                Tensor workspace, std::uintptr_t stream) const {
    const LazyInputs in = inputs(q, k, v, bias, tau, lengths);
    const LazyOutputs outputs = this->outputs(out, lse, live_sums, live_tiles);
    const LazyGrads grads{dq.data(), dk.data(), dv.data(), pointer<float>(dbias),
                          pointer<float>(dtau)};
    nb::gil_scoped_release others_may_run;
    check(lazy_attention_backward(&call, &in, &outputs, dout.data(), &grads, workspace.data(),
                                  reinterpret_cast<void*>(stream)));
  }

 private:
  LazyInputs inputs(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
                    const MaybeTensor& tau, const MaybeTensor& lengths) const {
    return {q.data(),
            k.data(),
            v.data(),
            pointer<float>(bias),
            pointer<float>(tau),
            pointer<std::int64_t>(lengths)};
  }
  LazyOutputs outputs(const Tensor& out, const Tensor& lse, const Tensor& live_sums,
                      const Tensor& live_tiles) const {
    return {out.data(), pointer<float>(lse),
            sizes.needs_live_sums ? pointer<float>(live_sums) : nullptr,
            sizes.live_tiles > 0 ? pointer<std::uint32_t>(live_tiles) : nullptr};
  }
};

}  // namespace

void bind_kernels(nb::module_& module) {
  nb::class_<Kernels>(module, "Kernels",
                      "One attention call of the GPU kernels (cuda/lazy_attention.h).")
      .def(nb::init<std::string, std::string, std::optional<std::string>, std::string, std::int64_t,
                    std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                    std::int64_t>(),
           nb::arg("device"), nb::arg("type"), nb::arg("rung").none(), nb::arg("divisor"),
           nb::arg("batch"), nb::arg("queries"), nb::arg("keys"), nb::arg("heads"),
           nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("window"))
      .def_prop_ro("forward_workspace", [](const Kernels& k) { return k.sizes.forward_workspace; })
      .def_prop_ro("backward_workspace",
                   [](const Kernels& k) { return k.sizes.backward_workspace; })
      .def_prop_ro("needs_live_sums", [](const Kernels& k) { return k.sizes.needs_live_sums != 0; })
      .def_prop_ro("live_tiles", [](const Kernels& k) { return k.sizes.live_tiles; })
      .def("forward", &Kernels::forward)
      .def("backward", &Kernels::backward);
}

}  // namespace lazy::python
