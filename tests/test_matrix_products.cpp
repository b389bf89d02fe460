// Matrix products of every device that is here, against float64.

#include "tests/catch.hpp"
#include "tests/product_checks.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

TEST_CASE("matrix products agree with float64 and with themselves") {
  for (const LazyDevice device : devices_here())
    for (const ProductSizes& s : product_sizes) {
      INFO(device_name(device) << ", N = " << s.N << ", In = " << s.In << ", Out = " << s.Out);
      CHECK(product_faults<float>(device, s) == "");
      CHECK(product_faults<BFloat16>(device, s) == "");
    }
}

TEST_CASE("matrix products of whole numbers are exact, and rounded once") {
  for (const LazyDevice device : devices_here()) {
    INFO(device_name(device));
    CHECK(exact_product_faults<float>(device) == "");
    CHECK(exact_product_faults<BFloat16>(device) == "");
  }
}

TEST_CASE("the sum of a linear layer and another array leaves that array alone") {
  for (const LazyDevice device : devices_here()) {
    DeviceArray<float> x(device, {1, 2}), weight(device, {3, 4, 5, 6, 7, 8}),
        base(device, {9, 9, 9});
    DeviceArray<float> sum(device, nans<float>(3));
    matrix_products<float>(device).linear_add_forward(
        sum.data(), base.data(), x.data(), weight.data(), 1, 2, 3, memory(device).stream());
    CHECK(sum.on_host() == std::vector<float>{20, 26, 32});
    CHECK(base.on_host() == std::vector<float>{9, 9, 9});
  }
}

TEST_CASE("matrix products of no rows write nothing") {
  for (const LazyDevice device : devices_here()) {
    const std::vector<float> numbers{1, 2, 3, 4};
    DeviceArray<float> array(device, numbers), weight(device, numbers);
    const MatrixProducts<float>& products = matrix_products<float>(device);
    void* stream = memory(device).stream();
    float* any = array.data();
    products.linear_forward(any, any, weight.data(), 0, 2, 2, stream);
    products.linear_add_forward(any, any, any, weight.data(), 0, 2, 2, stream);
    products.linear_backward(any, any, any, any, weight.data(), 0, 2, 2, stream);
    CHECK(array.on_host() == numbers);
  }
}

TEST_CASE("matrix products of a GPU that is not there are refused") {
  if (devices_here().size() > 1) return;
  CHECK(mentions(refusal([] { matrix_products<float>(LAZY_CUDA); }), "device emulated"));
}
