#include "bindings.hpp"

NB_MODULE(_core, module) {
  module.doc() = "Lazy Attention in C++: what lazy_attention is made of.";
  lazy::python::bind_attention(module);
  lazy::python::bind_kernels(module);
  lazy::python::bind_diagnostics(module);
  lazy::python::bind_model(module);
}
