// Attention as a backend's functions, on tensors that lie on the device: the kernels' answers, with
// nothing of the host's memory in between.

#include "cuda/cuda_backend.hpp"
#include "cuda/kernel_attention.hpp"
#include "tests/decode_answers.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

using DeviceFloats = EmulatedBackend::Buffer<float>;

DeviceFloats on_device(const std::vector<float>& host) {
  DeviceFloats buffer;
  EmulatedBackend::resize(buffer, Index(host.size()));
  EmulatedBackend::upload(buffer.data(), host.data(), Index(host.size()));
  return buffer;
}

std::vector<float> on_host(const DeviceFloats& buffer) {
  std::vector<float> host(buffer.size());
  EmulatedBackend::download(host.data(), buffer.data(), Index(host.size()));
  return host;
}

/// `backward` false: the forward keeps nothing for it, and gradients stay zero.
Answer<float> backend_attention(const Problem<float>& p, bool backward = true) {
  const DeviceFloats q = on_device(p.q), k = on_device(p.k), v = on_device(p.v);
  const DeviceFloats bias = on_device(p.bias), tau = on_device(p.tau), dout = on_device(p.dout);
  EmulatedBackend::Buffer<Index> lengths;
  EmulatedBackend::resize(lengths, Index(p.lengths.size()));
  EmulatedBackend::upload(lengths.data(), p.lengths.data(), Index(p.lengths.size()));
  const AttentionInputs<float> in{.q = q.data(),
                                  .k = k.data(),
                                  .v = v.data(),
                                  .bias = bias.data(),
                                  .tau = tau.data(),
                                  .lengths = lengths.data()};
  Answer<float> a = blank_answer(p);
  DeviceFloats out = on_device(a.out), lse = on_device(a.lse);
  DeviceFloats dq = on_device(a.dq), dk = on_device(a.dk), dv = on_device(a.dv);
  DeviceFloats dbias = on_device(a.dbias), dtau = on_device(a.dtau);
  const AttentionOutputs<float> outputs{out.data(), lse.data()};
  EmulatedBackend::AttentionMemory memory;
  EmulatedBackend::reserve(p.shape);
  EmulatedBackend::attention_forward(p.shape, p.rule, in, outputs, backward ? &memory : nullptr);
  for (Index b = 0; b < p.shape.batch; ++b)
    for (Index h = 0; h < p.shape.heads; ++h)
      EmulatedBackend::attention_weights(p.shape, p.rule, in, outputs, b, h, 0, p.shape.queries,
                                         a.weights.data() + weight_offset(p.shape, b, h, 0));
  if (backward)
    EmulatedBackend::attention_backward(p.shape, p.rule, in, outputs, &memory, dout.data(),
                                        {.dq = dq.data(),
                                         .dk = dk.data(),
                                         .dv = dv.data(),
                                         .dbias = dbias.data(),
                                         .dtau = dtau.data()});
  a.out = on_host(out), a.lse = on_host(lse);
  a.dq = on_host(dq), a.dk = on_host(dk), a.dv = on_host(dv);
  a.dbias = on_host(dbias), a.dtau = on_host(dtau);
  return a;
}

}  // namespace

TEST_CASE("the kernels' backend computes attention", "[kernels]") {
  const auto lazy = make_problem<float>({{2, 20, 40, 4, 2, 32, 9}, {}, {-1, 0.5}, {33, 7}});
  check_low_precision(lazy, backend_attention(lazy));
  const auto softmax = make_problem<float>({{1, 17, 17, 2, 1, 10, 3}, {Normalizer::softmax}});
  check_low_precision(softmax, backend_attention(softmax));
}

TEST_CASE("the kernels' backend decodes one query a sequence by the kernels for it", "[kernels]") {
  for (const Index head_dim : {32, 64, 128}) {
    const auto p = without_loss(
        make_problem<float>({{3, 1, 300, 4, 2, head_dim, 9}, {}, {-1, 0.5}, {300, 7, 0}}));
    const Answer<float> got = backend_attention(p, false);
    check_low_precision(p, got);
    CHECK(got.out == decode_values(p, {}).answer.out);
  }
  const auto other = without_loss(make_problem<float>({{2, 1, 40, 2, 1, 10, 3}, {}, {-1, 0.5}}));
  check_low_precision(other, backend_attention(other, false));
}

TEST_CASE("the kernels' backend keeps for the backward what one query leaves", "[kernels]") {
  const auto p = make_problem<float>({{2, 1, 40, 4, 2, 32, 9}, {}, {-1, 0.5}, {33, 7}});
  check_low_precision(p, backend_attention(p));
}

TEST_CASE("the kernels' backend refuses what kernels do not compute", "[kernels]") {
  const auto p = make_problem<float>({{1, 4, 4, 1, 1, 8, 0}, {Normalizer::entmax15}});
  Answer<float> a = blank_answer(p);
  CHECK(mentions(refusal<std::invalid_argument>([&] {
                   EmulatedBackend::attention_forward(p.shape, p.rule, p.inputs(), a.outputs(),
                                                      nullptr);
                 }),
                 "elastic and softmax only"));
}

TEST_CASE("a buffer of the device moves and does not copy", "[kernels]") {
  DeviceFloats a = on_device({1, 2, 3});
  const float* where = a.data();
  DeviceFloats b = std::move(a);
  CHECK(b.data() == where);
  CHECK(a.data() == nullptr);
  b = on_device({4});
  CHECK(on_host(b) == std::vector<float>{4});
}
