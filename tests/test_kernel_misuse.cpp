// What the kernels' C interface refuses, by its text, and that it says so instead of computing.

#include <cstring>

#include "cuda/kernel_attention.hpp"
#include "tests/kernel_answers.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

// A call that would be right, to be spoiled.
struct Call {
  Problem<float> problem = make_problem<float>({{2, 5, 7, 4, 2, 8, 3}});
  Answer<float> answer = blank_answer(problem);
  LazyAttention attention = kernel_call(problem, {});
  FormattedInputs inputs = FormattedInputs(problem, LAZY_FLOAT32);
  LazyInputs in = inputs.inputs(problem);
  LazyOutputs out{answer.out.data(), answer.lse.data(), nullptr, nullptr};
  LazyGrads grads{answer.dq.data(), answer.dk.data(), answer.dv.data(), answer.dbias.data(),
                  answer.dtau.data()};
  std::vector<char> workspace = std::vector<char>(1 << 20);

  int forward() { return lazy_attention_forward(&attention, &in, &out, workspace.data(), nullptr); }
  int backward() {
    return lazy_attention_backward(&attention, &in, &out, problem.dout.data(), &grads,
                                   workspace.data(), nullptr);
  }
};

void check_says(int status, const std::vector<std::string>& parts) {
  CHECK(status == LAZY_REFUSED);
  for (const std::string& part : parts) {
    INFO(lazy_attention_error());
    CHECK(std::strstr(lazy_attention_error(), part.c_str()) != nullptr);
  }
}

template <class Spoil>
void refuses_forward(Spoil&& spoil, const std::vector<std::string>& parts) {
  Call call;
  spoil(call);
  check_says(call.forward(), parts);
}

template <class Spoil>
void refuses_backward(Spoil&& spoil, const std::vector<std::string>& parts) {
  Call call;
  spoil(call);
  check_says(call.backward(), parts);
}

}  // namespace

TEST_CASE("the kernels' C interface refuses impossible sizes and missing tensors", "[kernels]") {
  Call right;
  REQUIRE(right.forward() == LAZY_OK);
  REQUIRE(right.backward() == LAZY_OK);
  refuses_forward([](Call& c) { c.attention.batch = -1; }, {"batch is -1", "0 and 65535"});
  refuses_forward([](Call& c) { c.attention.queries = 8; }, {"queries is 8", "0 and 7"});
  refuses_forward([](Call& c) { c.attention.head_dim = 0; }, {"head_dim is 0"});
  refuses_forward([](Call& c) { c.attention.window = -1; }, {"window is -1"});
  refuses_forward([](Call& c) { c.attention.kv_heads = 3; }, {"heads (4)", "kv_heads (3)"});
  refuses_forward([](Call& c) { c.in.q = nullptr; }, {"q is null"});
  refuses_forward([](Call& c) { c.in.k = nullptr; }, {"k is null"});
  refuses_forward([](Call& c) { c.in.v = nullptr; }, {"v is null"});
  refuses_forward([](Call& c) { c.in.bias = nullptr; }, {"bias is null"});
  refuses_forward([](Call& c) { c.out.out = nullptr; }, {"out is null"});
  refuses_forward([](Call& c) { c.out.lse = nullptr; }, {"lse is null"});
  refuses_backward([](Call& c) { c.grads.dq = nullptr; }, {"dq is null"});
  refuses_backward([](Call& c) { c.grads.dk = nullptr; }, {"dk is null"});
  refuses_backward([](Call& c) { c.grads.dv = nullptr; }, {"dv is null"});
  refuses_backward([](Call& c) { c.grads.dbias = nullptr; }, {"dbias is null"});
  refuses_backward([](Call& c) { c.grads.dtau = nullptr; }, {"dtau is null"});
  const auto beyond = [](auto*& pointer, int bytes) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(
        reinterpret_cast<std::uintptr_t>(pointer) + bytes);
  };
  refuses_forward([&](Call& c) { beyond(c.in.q, 2); }, {"q does not", "multiple of 4 bytes"});
  refuses_forward([&](Call& c) { beyond(c.in.bias, 1); }, {"bias does not", "multiple of 4"});
  refuses_forward([&](Call& c) { beyond(c.out.lse, 2); }, {"lse does not", "multiple of 4"});
  refuses_backward([&](Call& c) { beyond(c.grads.dk, 2); }, {"dk does not", "multiple of 4"});
  for (const LazyType type : {LAZY_BFLOAT16, LAZY_FLOAT16}) {
    const auto in_16_bits = [&](auto spoil) {
      return [&, spoil](Call& c) {
        c.attention.type = type, c.attention.head_dim = 32;
        spoil(c);
      };
    };
    refuses_forward(in_16_bits([&](Call& c) { beyond(c.in.k, 8); }), {"k does not", "of 16 bytes"});
    refuses_forward(in_16_bits([&](Call& c) { beyond(c.out.out, 8); }), {"out does not", "of 16"});
    refuses_forward(in_16_bits([&](Call& c) { beyond(c.out.live_sums, 4); }),
                    {"live_sums does not", "multiple of 16"});
    refuses_backward(in_16_bits([&](Call& c) { beyond(c.grads.dq, 8); }), {"dq does not", "of 16"});
  }
  check_says(lazy_attention_forward(nullptr, nullptr, nullptr, nullptr, nullptr),
             {"attention is null"});
  check_says(lazy_attention_forward(&right.attention, &right.in, &right.out, nullptr, nullptr),
             {"workspace is null"});
  check_says(lazy_attention_weights(&right.attention, &right.in, right.answer.lse.data(), 0, 4, 0,
                                    1, right.answer.weights.data(), nullptr),
             {"head 4"});
}

TEST_CASE("a rung that is not there or does not compute the type is refused", "[kernels]") {
  refuses_forward([](Call& c) { c.attention.rung = "v9"; }, {"no rung v9", "v0", "v1"});
  refuses_forward(
      [](Call& c) {
        c.attention.rung = "v1";
        c.attention.type = LAZY_FLOAT16;
      },
      {"v1", "float16", "float32"});
  Call call;
  CHECK(std::string(lazy_attention_rung(&call.attention)) == "v1");
}

TEST_CASE("a call without sequences or queries does nothing", "[kernels]") {
  Call call;
  call.attention.batch = 0;
  CHECK(call.forward() == LAZY_OK);
  CHECK(call.backward() == LAZY_OK);
  CHECK(std::isnan(call.answer.out[0]));
}

TEST_CASE("a GPU or a build with CUDA that is missing is said to be", "[kernels]") {
  const auto p = make_problem<float>({{1, 3, 3, 1, 1, 4, 2}});
  auto answer = blank_answer(p);
  try {
    kernels::attention_forward(p.shape, p.rule, p.inputs(), answer.outputs(),
                               {.device = LAZY_CUDA});
    check_low_precision(p, oracle_attention(p));  // there is a GPU: nothing to say
  } catch (const std::exception& missing) {
    INFO(missing.what());
    const std::string text = missing.what();
    CHECK((text.find("nvcc") != std::string::npos || text.find("CUDA") != std::string::npos));
    CHECK(text.find("emulated") != std::string::npos);
  }
}

TEST_CASE("the kernels with the CPU's signatures refuse what the CPU refuses", "[kernels]") {
  const auto p = make_problem<float>({{1, 3, 3, 1, 1, 4, 2}});
  auto answer = blank_answer(p);
  auto in = p.inputs();
  in.tau = nullptr;
  CHECK_THROWS_AS(kernels::attention_forward(p.shape, p.rule, in, answer.outputs()),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      kernels::attention_forward(p.shape, {Normalizer::entmax15}, p.inputs(), answer.outputs()),
      std::invalid_argument);
}
