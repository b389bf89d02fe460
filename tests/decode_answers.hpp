#pragma once
// Asks the decoding kernels, emulated, for everything they can answer: also for their weights, by
// decoding once more with values that show them.

#include "tests/kernel_answers.hpp"

namespace lazy::test {

struct DecodeRun {
  LazyType type = LAZY_FLOAT32;
  bool all_keys = false;  // no lengths are given
  std::uint64_t seed = 1;
};

struct DecodeAnswer {
  Answer<float> answer;  // out, lse, weights; gradients zero
  emulated::Counters counters;
  std::map<std::string, std::size_t> shared_bytes;  // of a block of each kernel launched
};

/// A problem of decoding: one query a sequence, and no loss, so that all gradients are zero.
inline Problem<float> without_loss(Problem<float> p) {
  std::fill(p.dout.begin(), p.dout.end(), 0.f);
  return p;
}

/// out and lse of one call.
inline DecodeAnswer decode_values(const Problem<float>& p, const DecodeRun& how) {
  const LazyAttention a = kernel_call(p, {.type = how.type});
  FormattedInputs inputs(p, how.type);
  LazyInputs in = inputs.inputs(p);
  if (how.all_keys) in.lengths = nullptr;
  LazyDecodeSizes sizes;
  must(lazy_attention_decode_sizes(&a, &sizes));
  // A workspace full of NaN: what a kernel has not written it must not read.
  std::vector<float> space(sizes.workspace / sizeof(float),
                           std::numeric_limits<float>::quiet_NaN());
  DecodeAnswer d{blank_answer(p), {}, {}};
  Formatted out(how.type, d.answer.out);
  const LazyOutputs outputs{out.data(), d.answer.lse.data(), nullptr, nullptr};
  emulated::Machine machine{.seed = how.seed};
  must(lazy_attention_decode(&a, &in, &outputs, space.data(), &machine));
  d.answer.out = out.floats();
  d.counters = machine.counters;
  d.shared_bytes = machine.shared_bytes;
  return d;
}

/// The same, and the weights: where V_j is 1 in component c alone, component c of the output is the
/// weight of key j.
inline DecodeAnswer decode(const Problem<float>& p, const DecodeRun& how = {}) {
  const AttentionShape& s = p.shape;
  DecodeAnswer d = decode_values(p, how);
  for (Index first = 0; first < s.keys; first += s.head_dim) {
    Problem<float> probe = p;
    std::fill(probe.v.begin(), probe.v.end(), 0.f);
    const Index end = std::min(first + s.head_dim, s.keys);
    for (Index b = 0; b < s.batch; ++b)
      for (Index j = first; j < end; ++j)
        for (Index h = 0; h < s.kv_heads; ++h) probe.v[key_offset(s, b, j, h) + j - first] = 1;
    const auto shown = decode_values(probe, how).answer.out;
    for (Index b = 0; b < s.batch; ++b)
      for (Index h = 0; h < s.heads; ++h)
        std::copy_n(shown.begin() + query_offset(s, b, 0, h), end - first,
                    d.answer.weights.begin() + weight_offset(s, b, h, 0) + first);
  }
  return d;
}

}  // namespace lazy::test
