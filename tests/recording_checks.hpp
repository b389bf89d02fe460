#pragma once
// Copies and recorded steps on a device, for any device and without a test framework. What is wrong
// comes back as text, empty if nothing is.

#include <cstring>
#include <string>
#include <vector>

#include "cuda/matrix_products.hpp"
#include "cuda/recording.hpp"
#include "tests/product_checks.hpp"

namespace lazy::test {

/// More uploads than pinned memory has room for, of every size up to a few of its pieces, each from
/// memory that is overwritten at once.
inline std::string upload_faults(LazyDevice device) {
  constexpr std::size_t sizes[] = {1, 3, 1000, 65537, 1000003};
  constexpr int rounds = 40;
  const DeviceMemory& memory = lazy::memory(device);
  const auto value = [](int round, std::size_t i) {
    return static_cast<unsigned char>(31 * round + i % 251);
  };
  std::vector<unsigned char> source(sizes[4]);
  for (const std::size_t size : sizes) {
    std::vector<unsigned char> zeros(rounds * size, 0);
    DeviceArray<unsigned char> all(device, zeros);
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < size; ++i) source[i] = value(round, i);
      memory.upload(all.data() + round * size, source.data(), size, memory.stream());
      std::memset(source.data(), 0xEE, size);
    }
    const std::vector<unsigned char> got = all.on_host();
    for (std::size_t i = 0; i < got.size(); ++i)
      if (got[i] != value(int(i / size), i % size))
        return "byte " + std::to_string(i % size) + " of upload " + std::to_string(i / size) +
               " of " + std::to_string(size) + " bytes is wrong";
  }
  return "";
}

/// A small step: products, a copy, zeroing. Recorded, and launched with other numbers on the
/// device, it leaves the same bytes as when it is done at once.
template <class A>
std::string recording_faults(LazyDevice device) {
  const ProductSizes s{23, 40, 24};
  const DeviceMemory& memory = lazy::memory(device);
  const MatrixProducts<A>& products = matrix_products<A>(device);
  void* stream = memory.stream();
  Random random(7);
  const auto draw = [&] { return product_inputs<A>(s, [&] { return float(random.normal()); }); };
  const ProductInputs first = draw();
  DeviceArray<A> x(device, in_format<A>(first.x)), weight(device, in_format<A>(first.weight)),
      dout(device, in_format<A>(first.dout)), dx(device, nans<A>(first.x.size()));
  DeviceArray<float> base(device, first.base), sum(device, nans<float>(first.base.size())),
      dweight(device, first.dweight);
  const auto step = [&] {
    memory.zero(dweight.data(), dweight.bytes(), stream);
    memory.copy(sum.data(), base.data(), base.bytes(), stream);
    products.linear_add_forward(sum.data(), sum.data(), x.data(), weight.data(), s.N, s.In, s.Out,
                                stream);
    products.linear_backward(dx.data(), dweight.data(), dout.data(), x.data(), weight.data(), s.N,
                             s.In, s.Out, stream);
    products.linear_backward(dx.data(), dweight.data(), dout.data(), x.data(), weight.data(), s.N,
                             s.In, s.Out, stream);
  };
  const auto answers = [&] {
    return std::vector{sum.on_host(), as_floats(dx.on_host()), dweight.on_host()};
  };
  step();
  const auto before = answers();
  const Recording recorded(device, step);
  if (!same_bytes(answers(), before)) return "recording already did the step";
  for (int launch = 0; launch < 3; ++launch) {
    const ProductInputs in = draw();
    x.upload(in_format<A>(in.x));
    base.upload(in.base);
    recorded.launch();
    const auto got = answers();
    step();
    if (!same_bytes(got, answers()))
      return "launch " + std::to_string(launch) + " differs from the step done at once";
    if (same_bytes(got, before)) return "the step does not read the device's memory";
  }
  return "";
}

}  // namespace lazy::test
