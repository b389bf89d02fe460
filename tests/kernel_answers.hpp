#pragma once
// Asks a rung of the ladder for everything it can answer, in emulation, and through the C
// interface.

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda/ladder.hpp"
#include "cuda/simt/emulator.hpp"
#include "cuda/simt/formats.hpp"
#include "tests/answers.hpp"

namespace lazy::test {

struct KernelRun {
  const char* rung = nullptr;
  LazyType type = LAZY_FLOAT32;
  bool compute_dead_tiles = false;
  std::uint64_t seed = 1;
  int backward_runs = 1;  // into the same gradients
};

template <class F>
void for_each_rung(LazyType type, F&& f) {
  for (const Rung& rung : emulated::ladder())
    if (rung.supports(type, 64)) f(rung);
}

/// Calls f with every rung in every format it computes, at head size 32.
template <class F>
void for_each_kernel(F&& f) {
  for (const Rung& rung : emulated::ladder())
    for (const LazyType type : {LAZY_FLOAT32, LAZY_BFLOAT16, LAZY_FLOAT16})
      if (rung.supports(type, 32)) {
        INFO(rung.name << " in format " << type);
        f(KernelRun{.rung = rung.name, .type = type});
      }
}

/// Of the rules of attention the kernels compute two; softmax is tau = 0.
inline bool has_kernel(const AttentionRule& rule) {
  return rule.normalizer == Normalizer::elastic || rule.normalizer == Normalizer::softmax;
}

struct KernelAnswer {
  Answer<float> answer;
  std::vector<std::uint32_t> live_tiles;
  LazySizes sizes;
  emulated::Counters forward, backward;
  std::map<std::string, std::size_t> shared_bytes;  // of a block of each kernel launched
};

inline LazyAttention kernel_call(const Problem<float>& p, const KernelRun& how) {
  const AttentionShape& s = p.shape;
  LazyAttention a{};
  a.batch = s.batch, a.queries = s.queries, a.keys = s.keys, a.heads = s.heads;
  a.kv_heads = s.kv_heads, a.head_dim = s.head_dim, a.window = s.window;
  a.type = how.type;
  a.device = LAZY_EMULATED;
  a.rung = how.rung;
  a.divide_by_length = p.rule.divisor == Divisor::length;
  a.compute_dead_tiles = how.compute_dead_tiles;
  return a;
}

/// A tensor in the format of a call, and back.
class Formatted {
 public:
  Formatted(LazyType type, const std::vector<float>& x) : type_(type), floats_(x) {
    if (type == LAZY_FLOAT32) return;
    for (const float value : x)
      bits_.push_back(type == LAZY_BFLOAT16 ? from_float<BFloat16>(value).bits
                                            : from_float<Float16>(value).bits);
  }
  void* data() { return type_ == LAZY_FLOAT32 ? static_cast<void*>(floats_.data()) : bits_.data(); }
  std::vector<float> floats() const {
    if (type_ == LAZY_FLOAT32) return floats_;
    std::vector<float> x;
    for (const std::uint16_t b : bits_)
      x.push_back(type_ == LAZY_BFLOAT16 ? to_float(BFloat16{b}) : to_float(Float16{b}));
    return x;
  }

 private:
  LazyType type_;
  std::vector<float> floats_;
  std::vector<std::uint16_t> bits_;
};

/// q, k and v of a problem in a format.
struct FormattedInputs {
  Formatted q, k, v;

  FormattedInputs(const Problem<float>& p, LazyType type)
      : q(type, p.q), k(type, p.k), v(type, p.v) {}
  LazyInputs inputs(const Problem<float>& p) {
    return {q.data(),
            k.data(),
            v.data(),
            p.bias.data(),
            p.rule.normalizer == Normalizer::elastic ? p.tau.data() : nullptr,
            p.lengths.data()};
  }
};

/// Throws what the C interface says.
inline void must(int status) {
  if (status != 0) throw std::runtime_error(lazy_attention_error());
}

/// Weights of all rows, with the rung's own gate.
inline void kernel_weights(const Problem<float>& p, const LazyAttention& a, const LazyInputs& in,
                           Answer<float>& answer, void* stream = nullptr) {
  const AttentionShape& s = p.shape;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      must(lazy_attention_weights(&a, &in, answer.lse.data(), b, h, 0, s.queries,
                                  answer.weights.data() + weight_offset(s, b, h, 0), stream));
}

inline KernelAnswer kernel_attention(const Problem<float>& p, const KernelRun& how) {
  const LazyAttention a = kernel_call(p, how);
  FormattedInputs inputs(p, how.type);
  const LazyInputs in = inputs.inputs(p);
  KernelAnswer k;
  k.answer = blank_answer(p);
  Answer<float>& answer = k.answer;
  must(lazy_attention_sizes(&a, &k.sizes));
  k.live_tiles.assign(k.sizes.live_tiles / sizeof(std::uint32_t), 0xDEADBEEF);
  // Workspaces full of NaN: what a kernel has not written it must not read.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> forward_space(k.sizes.forward_workspace / sizeof(float) + 1, nan);
  std::vector<float> backward_space(k.sizes.backward_workspace / sizeof(float) + 1, nan);

  Formatted out_tensor(how.type, answer.out);
  std::vector<float> live_sums(2 * answer.out.size(), nan);
  const LazyOutputs out{out_tensor.data(), answer.lse.data(),
                        k.sizes.needs_live_sums ? live_sums.data() : nullptr,
                        k.live_tiles.empty() ? nullptr : k.live_tiles.data()};
  emulated::Machine machine{.seed = how.seed};
  must(lazy_attention_forward(&a, &in, &out, forward_space.data(), &machine));
  k.forward = machine.counters;
  answer.out = out_tensor.floats();
  kernel_weights(p, a, in, answer, &machine);
  machine.counters = {};

  Formatted dq(how.type, answer.dq), dk(how.type, answer.dk), dv(how.type, answer.dv);
  Formatted dout(how.type, p.dout);
  const LazyGrads grads{dq.data(), dk.data(), dv.data(), answer.dbias.data(),
                        in.tau ? answer.dtau.data() : nullptr};
  for (int run = 0; run < how.backward_runs; ++run)
    must(lazy_attention_backward(&a, &in, &out, dout.data(), &grads, backward_space.data(),
                                 &machine));
  k.backward = machine.counters;
  k.shared_bytes = machine.shared_bytes;
  answer.dq = dq.floats(), answer.dk = dk.floats(), answer.dv = dv.floats();
  return k;
}

inline bool same_bytes(const std::vector<float>& x, const std::vector<float>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

/// Out, lse and gradients, byte for byte.
inline void check_same_bytes(const Answer<float>& x, const Answer<float>& y) {
  const auto check = [&](const AnswerTensor<float>& tensor) {
    INFO(tensor.name);
    CHECK(same_bytes(x.*tensor.values, y.*tensor.values));
  };
  for (const auto& tensor : value_tensors<float>) check(tensor);
  for (const auto& tensor : gradient_tensors<float>) check(tensor);
}

}  // namespace lazy::test
