// Recorded steps: done at no other time than when launched, with the arguments they were given and
// the numbers that then lie on the device.

#include "cuda/kernel_call.hpp"
#include "tests/catch.hpp"
#include "tests/problems.hpp"
#include "tests/recording_checks.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

TEST_CASE("a recorded step repeats itself with the numbers on the device") {
  for (const LazyDevice device : devices_here()) {
    INFO(device_name(device));
    CHECK(recording_faults<float>(device) == "");
    CHECK(recording_faults<BFloat16>(device) == "");
  }
}

TEST_CASE("a recorded step keeps the arguments it was given") {
  for (const LazyDevice device : devices_here()) {
    const DeviceMemory& memory = lazy::memory(device);
    DeviceArray<float> numbers(device, {1, 2, 3}), to(device, {0});
    std::ptrdiff_t which = 0;
    int calls = 0;
    Recording recorded;
    CHECK(!recorded);
    recorded = Recording(device, [&] {
      ++calls;
      memory.copy(to.data(), numbers.data() + which, sizeof(float), memory.stream());
    });
    CHECK(recorded);
    CHECK(to.on_host() == std::vector<float>{0});
    which = 1;
    recorded.launch();
    CHECK(to.on_host() == std::vector<float>{1});
    numbers.upload({4, 5, 6});
    const Recording moved = std::move(recorded);
    moved.launch();
    CHECK(to.on_host() == std::vector<float>{4});
    CHECK(calls == 1);
  }
}

TEST_CASE("what needs the host at every launch cannot be recorded") {
  for (const LazyDevice device : devices_here()) {
    const DeviceMemory& memory = lazy::memory(device);
    void* stream = memory.stream();
    DeviceArray<float> array(device, {1});
    float host = 2;
    const auto refused = [&](auto call) {
      return refusal<std::logic_error>([&] { Recording(device, call); });
    };
    CHECK(mentions(refused([&] { memory.upload(array.data(), &host, 4, stream); }), "upload"));
    CHECK(mentions(refused([&] { memory.download(&host, array.data(), 4, stream); }), "download"));
    CHECK(mentions(refused([&] { memory.wait(stream); }), "wait"));
    CHECK(mentions(refused([&] { memory.allocate(4); }), "allocate"));
    CHECK(mentions(refused([&] { Recording(device, [] {}); }), "another recording"));
    CHECK(array.on_host() == std::vector<float>{1});
  }
}

TEST_CASE("after a recording that failed the device does as it is asked") {
  for (const LazyDevice device : devices_here()) {
    const DeviceMemory& memory = lazy::memory(device);
    DeviceArray<float> array(device, {1});
    const auto zero = [&] { memory.zero(array.data(), array.bytes(), memory.stream()); };
    CHECK(refusal<std::runtime_error>([&] {
            Recording(device, [&] {
              zero();
              throw std::runtime_error("in the midst of it");
            });
          }) == "in the midst of it");
    CHECK(array.on_host() == std::vector<float>{1});
    zero();
    CHECK(array.on_host() == std::vector<float>{0});
    array.upload({3});
    const Recording recorded(device, zero);
    recorded.launch();
    CHECK(array.on_host() == std::vector<float>{0});
  }
}

TEST_CASE("attention is recorded with the arguments it was given", "[kernels]") {
  const auto p = make_problem<float>({{1, 20, 20, 2, 1, 16, 5}});
  for (const LazyDevice device : devices_here()) {
    DeviceArray<float> q(device, p.q), k(device, p.k), v(device, p.v), bias(device, p.bias),
        tau(device, p.tau), out(device, nans<float>(p.q.size())), lse(device, nans<float>(2 * 20));
    const LazyAttention a = kernels::describe(p.shape, device, LAZY_FLOAT32);
    LazySizes sizes;
    kernels::must(lazy_attention_sizes(&a, &sizes));
    DeviceArray<char> workspace(device, std::vector<char>(sizes.forward_workspace));
    const auto step = [&] {
      const LazyInputs in{q.data(), k.data(), v.data(), bias.data(), tau.data(), nullptr};
      const LazyOutputs outputs{out.data(), lse.data(), nullptr, nullptr};
      kernels::must(
          lazy_attention_forward(&a, &in, &outputs, workspace.data(), memory(device).stream()));
    };
    step();
    const std::vector<float> before = out.on_host();
    q.upload(p.dout);
    const Recording recorded(device, step);
    CHECK(out.on_host() == before);
    recorded.launch();
    const std::vector<float> launched = out.on_host();
    CHECK(launched != before);
    step();
    CHECK(out.on_host() == launched);
  }
}
