// Every kernel of the model once, for tools that watch them run (compute-sanitizer): training
// steps, the third from a recording, decoding of sequences of different lengths, weights and what
// their rows are reduced to. It judges only that what comes out is finite.
//
//   lazy_exercise cuda|emulated
//
// Exit code 0 if all went well.

#include <cmath>
#include <iostream>

#include "cuda/kernel_call.hpp"
#include "reference/model_diagnostics.hpp"
#include "reference/random.hpp"
#include "tests/gpu/device_model.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

constexpr Index sequences = 2, length = 70;  // more than a tile

void must_be_finite(const std::string& what, double x) {
  if (!std::isfinite(x)) throw std::runtime_error(what + " is " + std::to_string(x));
}

Batch random_batch(Index vocabulary) {
  Random random(3);
  Batch batch{sequences, length, {}, {}};
  for (Index n = 0; n < sequences * length; ++n) {
    batch.tokens.push_back(int(random.below(vocabulary)));
    batch.targets.push_back(n % 5 == 4 ? -1 : int(random.below(vocabulary)));
  }
  return batch;
}

TransformerConfig small_model() {
  TransformerConfig c;
  c.vocabulary = 61, c.layers = 2, c.channels = 128, c.heads = 4, c.kv_heads = 2, c.inner = 72;
  c.context = length, c.window = 20, c.tied = false;
  return c;
}

template <class B>
void exercise_model() {
  Transformer<B, float> model(small_model(), 1);
  Trainer<B, float> trainer(model, {.warmup = 0});
  const std::vector<Batch> batches(3, random_batch(model.config().vocabulary));
  must_be_finite("the loss of a step", update<B>(trainer, batches));
  must_be_finite("the loss", model.loss(batches[0]));
  must_be_finite("the mass", diagnose(model).all.mass);

  auto cache = model.make_cache(length, 2);
  const std::span<const int> tokens = batches[0].tokens;
  model.decode(tokens.first(length - 4), cache, 0);
  model.decode(tokens.first(3), cache, 1);
  for (const std::vector<int>& next : {std::vector<int>{5, 6}, {-1, 7}, {8, 9}})
    must_be_finite("a logit", model.decode_each(next, cache)[model.config().vocabulary - 1]);
}

// One query a sequence against a cache, by the kernels made for it.
template <LazyDevice device, class A>
void exercise_decoding(Index head_dim) {
  using B = KernelBackend<device, A>;
  const Index heads = 8, kv_heads = 2, keys = 300, window = 40;
  Random random(4);
  const auto filled = [&](Index size) {
    std::vector<float> host;
    for (Index i = 0; i < size; ++i) host.push_back(float(random.normal()));
    typename B::template Buffer<float> wide;
    B::resize(wide, size);
    B::upload(wide.data(), host.data(), size);
    return wide;
  };
  const auto rounded = [&](Index size) {
    const auto wide = filled(size);
    typename B::template Buffer<A> narrow;
    B::resize(narrow, size);
    if constexpr (std::is_same_v<A, float>)
      memory(device).copy(narrow.data(), wide.data(), size * sizeof(A), memory(device).stream());
    else
      B::round(narrow.data(), wide.data(), size);
    return narrow;
  };
  LazyAttention a =
      kernels::describe({.batch = sequences,
                         .queries = 1,
                         .keys = keys,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .head_dim = head_dim,
                         .window = window},
                        device, std::is_same_v<A, float> ? LAZY_FLOAT32 : LAZY_BFLOAT16);
  const auto q = rounded(sequences * heads * head_dim);
  const auto k = rounded(sequences * keys * kv_heads * head_dim);
  const auto v = rounded(sequences * keys * kv_heads * head_dim);
  const auto bias = filled(heads * window), tau = filled(heads);
  typename B::template Buffer<std::int64_t> lengths;
  const std::int64_t valid[] = {keys, 77};
  B::resize(lengths, sequences);
  B::upload(lengths.data(), valid, sequences);
  typename B::template Buffer<A> out;
  typename B::template Buffer<float> lse;
  typename B::template Buffer<char> space;
  LazyDecodeSizes sizes;
  kernels::must(lazy_attention_decode_sizes(&a, &sizes));
  B::resize(out, sequences * heads * head_dim);
  B::resize(lse, sequences * heads);
  B::resize(space, Index(sizes.workspace));
  const LazyInputs in{q.data(), k.data(), v.data(), bias.data(), tau.data(), lengths.data()};
  const LazyOutputs to{out.data(), lse.data(), nullptr, nullptr};
  kernels::must(lazy_attention_decode(&a, &in, &to, space.data(), memory(device).stream()));
  std::vector<float> host(out.size());
  B::download(host.data(), static_cast<const A*>(out.data()), Index(out.size()));
  for (const float x : host) must_be_finite("a decoded number", x);
}

template <LazyDevice device>
void exercise() {
  exercise_model<KernelBackend<device, float>>();
  exercise_model<KernelBackend<device, BFloat16>>();
  for (const Index head_dim : {64, 128}) {
    exercise_decoding<device, float>(head_dim);
    exercise_decoding<device, BFloat16>(head_dim);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string device = argc > 1 ? argv[1] : "emulated";
    if (device == "cuda")
      exercise<LAZY_CUDA>();
    else if (device == "emulated")
      exercise<LAZY_EMULATED>();
    else
      throw std::invalid_argument(device + " is no device; there are cuda and emulated");
    std::cout << "all went well on " << device << "\n";
  } catch (const std::exception& error) {
    std::cerr << "lazy_exercise: " << error.what() << "\n";
    return 1;
  }
}
