#include "cuda/kernel_attention.hpp"

#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda/kernel_call.hpp"
#include "cuda/memory.hpp"
#include "cuda/simt/formats.hpp"

namespace lazy::kernels {
namespace {

// An array on the device.
class Array {
 public:
  Array(LazyDevice device, std::size_t bytes, bool poison)
      : memory_(memory(device)), bytes_(bytes), data_(memory_.allocate(bytes > 0 ? bytes : 1)) {
    // All ones is NaN in every format.
    if (poison) upload(std::vector<unsigned char>(bytes, 0xFF).data());
  }
  ~Array() { memory_.release(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  void* data() const { return data_; }
  void upload(const void* host) {
    if (bytes_ > 0) memory_.upload(data_, host, bytes_, nullptr);
  }
  void download(void* host) const {
    if (bytes_ > 0) memory_.download(host, data_, bytes_, nullptr);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  const DeviceMemory& memory_;
  std::size_t bytes_;
  void* data_;
};

std::size_t item_size(LazyType type) {
  return type == LAZY_FLOAT32 ? sizeof(float) : sizeof(std::uint16_t);
}

template <class T>
std::vector<T> rounded(const float* x, std::size_t count) {
  std::vector<T> y(count);
  for (std::size_t i = 0; i < count; ++i) y[i] = from_float<T>(x[i]);
  return y;
}

// One call: the problem as the C interface wants it, and every array it needs on the device.
class Call {
 public:
  Call(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<float>& in,
       const Options& o);

  Array& array(std::size_t bytes) {
    arrays_.push_back(std::make_unique<Array>(attention.device, bytes, poison_));
    return *arrays_.back();
  }
  // A tensor of the call's number format.
  Array& upload(const float* host, Index count);
  void download(const Array& from, float* host) const;
  template <class T>
  const T* upload_as_is(const T* host, Index count) {
    Array& a = array(count * sizeof(T));
    a.upload(host);
    return static_cast<const T*>(a.data());
  }

  void forward();

  LazyAttention attention{};
  LazyInputs in{};
  LazyOutputs out{};
  LazySizes sizes{};
  Index queries, keys, rows;  // numbers in q, in k, in lse
  Array *out_array = nullptr, *lse_array = nullptr;

 private:
  std::string rung_;
  bool poison_;
  std::vector<std::unique_ptr<Array>> arrays_;
};

LazyAttention described(const AttentionShape& s, const Options& o) {
  LazyAttention a = describe(s, o.device, o.type);
  a.rung = o.rung.empty() ? nullptr : o.rung.c_str();
  a.compute_dead_tiles = !o.skip_dead_tiles;
  return a;
}

Call::Call(const AttentionShape& s, const AttentionRule& rule, const AttentionInputs<float>& given,
           const Options& o)
    : attention(described(s, o)),
      queries(s.batch * s.queries * s.heads * s.head_dim),
      keys(s.batch * s.keys * s.kv_heads * s.head_dim),
      rows(s.batch * s.heads * s.queries),
      rung_(o.rung),
      poison_(o.poison) {
  validate(s, rule, given);
  check_rule(rule);
  attention.rung = rung_.empty() ? nullptr : rung_.c_str();
  attention.divide_by_length = rule.divisor == Divisor::length;
  must(lazy_attention_sizes(&attention, &sizes));
  in.q = upload(given.q, queries).data();
  in.k = upload(given.k, keys).data();
  in.v = upload(given.v, keys).data();
  if (s.window > 0) in.bias = upload_as_is(given.bias, s.heads * s.window);
  if (rule.normalizer == Normalizer::elastic) in.tau = upload_as_is(given.tau, s.heads);
  if (given.lengths) in.lengths = upload_as_is(given.lengths, s.batch);
}

Array& Call::upload(const float* host, Index count) {
  Array& a = array(count * item_size(attention.type));
  if (attention.type == LAZY_FLOAT32) a.upload(host);
  if (attention.type == LAZY_BFLOAT16) a.upload(rounded<BFloat16>(host, count).data());
  if (attention.type == LAZY_FLOAT16) a.upload(rounded<Float16>(host, count).data());
  return a;
}

void Call::download(const Array& from, float* host) const {
  const std::size_t count = from.bytes() / item_size(attention.type);
  if (attention.type == LAZY_FLOAT32) {
    from.download(host);
  } else {
    std::vector<std::uint16_t> bits(count);
    from.download(bits.data());
    for (std::size_t i = 0; i < count; ++i)
      host[i] = attention.type == LAZY_BFLOAT16 ? to_float(BFloat16{bits[i]})
                                                : to_float(Float16{bits[i]});
  }
}

void Call::forward() {
  out_array = &array(queries * item_size(attention.type));
  lse_array = &array(rows * sizeof(float));
  out.out = out_array->data();
  out.lse = static_cast<float*>(lse_array->data());
  if (sizes.needs_mean_live_value)
    out.mean_live_value = array(queries * item_size(attention.type)).data();
  if (sizes.live_tiles > 0)
    out.live_tiles = static_cast<std::uint32_t*>(array(sizes.live_tiles).data());
  must(lazy_attention_forward(&attention, &in, &out, array(sizes.forward_workspace).data(),
                              nullptr));
}

}  // namespace

std::string chosen_rung(const AttentionShape& shape, const Options& options) {
  const LazyAttention a = described(shape, options);
  const char* name = lazy_attention_rung(&a);
  if (!name) throw std::invalid_argument(lazy_attention_error());
  return name;
}

void attention_forward(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<float>& in, const AttentionOutputs<float>& out,
                       const Options& o) {
  Call call(s, rule, in, o);
  call.forward();
  call.download(*call.out_array, out.out);
  call.lse_array->download(out.lse);
}

void attention_backward(const AttentionShape& s, const AttentionRule& rule,
                        const AttentionInputs<float>& in, const float* dout,
                        const AttentionGrads<float>& grads, const Options& o) {
  Call call(s, rule, in, o);
  call.forward();
  Array& dq = call.upload(grads.dq, call.queries);
  Array &dk = call.upload(grads.dk, call.keys), &dv = call.upload(grads.dv, call.keys);
  Array& dbias = call.array(s.heads * s.window * sizeof(float));
  Array& dtau = call.array(s.heads * sizeof(float));
  if (s.window > 0) dbias.upload(grads.dbias);
  if (call.in.tau) dtau.upload(grads.dtau);
  const LazyGrads on_device{dq.data(), dk.data(), dv.data(),
                            s.window > 0 ? static_cast<float*>(dbias.data()) : nullptr,
                            call.in.tau ? static_cast<float*>(dtau.data()) : nullptr};
  must(lazy_attention_backward(&call.attention, &call.in, &call.out,
                               call.upload(dout, call.queries).data(), &on_device,
                               call.array(call.sizes.backward_workspace).data(), nullptr));
  call.download(dq, grads.dq);
  call.download(dk, grads.dk);
  call.download(dv, grads.dv);
  if (s.window > 0) dbias.download(grads.dbias);
  if (call.in.tau) dtau.download(grads.dtau);
}

void attention_weights(const AttentionShape& s, const AttentionRule& rule,
                       const AttentionInputs<float>& in, const AttentionOutputs<float>& forward,
                       Index b, Index head, Index first_row, Index rows, float* weights,
                       const Options& o) {
  Call call(s, rule, in, o);
  const float* lse = call.upload_as_is(forward.lse, call.rows);
  Array& result = call.array(rows * s.keys * sizeof(float));
  must(lazy_attention_weights(&call.attention, &call.in, lse, b, head, first_row, rows,
                              static_cast<float*>(result.data()), nullptr));
  result.download(weights);
}

}  // namespace lazy::kernels
