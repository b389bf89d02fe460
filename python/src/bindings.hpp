#pragma once
// The extension module: arrays in, arrays out. Shapes and dtypes are checked, with words, by
// lazy_attention/arguments.py; here they are only taken apart.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <vector>

#include "reference/attention_types.hpp"

namespace lazy::python {

namespace nb = nanobind;

/// An array the caller lends, row-major in host memory, never copied; T is const where it is read.
template <class T, std::size_t N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, std::size_t N>
using MaybeArray = std::optional<Array<T, N>>;

template <class A>
auto data_or_null(const std::optional<A>& array) {
  return array ? array->data() : nullptr;
}

/// A new NumPy array that owns `values`.
template <class T>
nb::ndarray<nb::numpy, T> new_array(std::vector<T> values,
                                    std::initializer_list<std::size_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T>(kept->data(), shape, owner);
}

void bind_attention(nb::module_& module);
void bind_kernels(nb::module_& module);
void bind_diagnostics(nb::module_& module);
void bind_model(nb::module_& module);

}  // namespace lazy::python
