// The C interface: checks what it is given, finds the rung, turns exceptions into a text.

#include "cuda/lazy_attention.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/decode.hpp"
#include "cuda/ladder.hpp"

namespace lazy {
namespace {

thread_local std::string last_error;

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument("lazy_attention: " + what);
}

// What the devices of this build can do.
struct Device {
  std::span<const Rung> rungs;
  const Decoding& decoding;
};

Device find_device(LazyDevice device) {
  if (device == LAZY_EMULATED) return {emulated::ladder(), emulated::decoding()};
#if defined(LAZY_WITH_CUDA)
  if (device == LAZY_CUDA) return {cuda::ladder(), cuda::decoding()};
#endif
  fail("this build has no CUDA: it was made without nvcc; use the device emulated");
}

const char* name(LazyType type) {
  return type == LAZY_FLOAT32 ? "float32" : type == LAZY_BFLOAT16 ? "bfloat16" : "float16";
}

std::string format_of(const LazyAttention& a) {
  return std::string(name(a.type)) + " with D = " + std::to_string(a.head_dim);
}

const Rung& find_rung(const LazyAttention& a) {
  const auto rungs = find_device(a.device).rungs;
  const std::string wanted = format_of(a);
  if (!a.rung) {
    for (auto rung = rungs.rbegin(); rung != rungs.rend(); ++rung)
      if (rung->supports(a.type, a.head_dim)) return *rung;
    fail("no rung computes " + wanted + "; try float32");
  }
  std::string names;
  for (const Rung& rung : rungs) {
    if (std::string(rung.name) == a.rung) {
      if (rung.supports(a.type, a.head_dim)) return rung;
      fail("rung " + std::string(rung.name) + " does not compute " + wanted + ", it takes " +
           rung.requirement + "; leave the choice of the rung open");
    }
    names += std::string(names.empty() ? "" : ", ") + rung.name;
  }
  fail("there is no rung " + std::string(a.rung) + "; there are " + names);
}

const Decoding& find_decoding(const LazyAttention& a) {
  const Decoding& decoding = find_device(a.device).decoding;
  const std::string instead = "; lazy_attention_forward computes it";
  if (a.queries != 1)
    fail("decoding takes one query a sequence, not " + std::to_string(a.queries) + instead);
  if (!decoding.supports(a.type, a.head_dim))
    fail("decoding does not compute " + format_of(a) + ", it takes " + decoding.requirement +
         instead);
  if (a.rung)
    fail("decoding has no rung " + std::string(a.rung) + "; leave the choice of the rung open" +
         instead + " with that rung");
  return decoding;
}

void check_sizes(const LazyAttention& a) {
  const auto text = [](int64_t n) { return std::to_string(n); };
  const auto within = [&](const char* what, int64_t n, int64_t low, int64_t high) {
    if (n < low || n > high)
      fail(std::string(what) + " is " + text(n) + ", must be between " + text(low) + " and " +
           text(high));
  };
  constexpr int64_t grid = 65535, index = int64_t(1) << 30;
  within("batch", a.batch, 0, grid);
  within("keys", a.keys, 0, index);
  within("queries", a.queries, 0, a.keys);
  within("heads", a.heads, 1, grid);
  within("kv_heads", a.kv_heads, 1, a.heads);
  within("head_dim", a.head_dim, 1, index);
  within("window", a.window, 0, index);
  if (a.heads % a.kv_heads != 0)
    fail("heads (" + text(a.heads) + ") must be a multiple of kv_heads (" + text(a.kv_heads) + ")");
}

void check_given(const char* name, const void* pointer) {
  if (!pointer)
    fail(std::string(name) + " is null; lazy_attention.h says what has to be given, and its shape");
}

void check_aligned(const char* name, const void* pointer, int bytes) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0)
    fail(std::string(name) + " does not begin at a multiple of " + std::to_string(bytes) +
         " bytes; pass an array from where it was allocated");
}

void check_floats(const char* name, const void* pointer) {
  check_given(name, pointer);
  check_aligned(name, pointer, sizeof(float));
}

// Numbers of 16 bits move in pieces of up to 16 bytes.
void check_tensor(const LazyAttention& a, const char* name, const void* pointer) {
  check_given(name, pointer);
  check_aligned(name, pointer, a.type == LAZY_FLOAT32 ? sizeof(float) : 16);
}

void check_workspace(std::size_t bytes, const void* workspace) {
  if (bytes == 0) return;
  check_given("workspace", workspace);
  check_aligned("workspace", workspace, 16);
}

void check_inputs(const LazyAttention& a, const LazyInputs& in) {
  check_tensor(a, "q", in.q);
  check_tensor(a, "k", in.k);
  check_tensor(a, "v", in.v);
  if (a.window > 0) check_floats("bias", in.bias);
}

bool is_empty(const LazyAttention& a) {
  return a.batch == 0 || a.queries == 0;
}

template <class F>
int guarded(F&& f) {
  try {
    f();
    return LAZY_OK;
  } catch (const std::invalid_argument& error) {
    last_error = error.what();
    return LAZY_REFUSED;
  } catch (const std::exception& error) {
    last_error = error.what();
    return LAZY_FAILED;
  }
}

template <class F>
int with_rung(const LazyAttention* a, F&& f) {
  return guarded([&] {
    check_given("attention", a);
    check_sizes(*a);
    f(find_rung(*a));
  });
}

template <class F>
int with_decoding(const LazyAttention* a, F&& f) {
  return guarded([&] {
    check_given("attention", a);
    check_sizes(*a);
    f(find_decoding(*a));
  });
}

}  // namespace
}  // namespace lazy

using namespace lazy;

const char* lazy_attention_rung(const LazyAttention* a) {
  const char* name = nullptr;
  with_rung(a, [&](const Rung& rung) { name = rung.name; });
  return name;
}

int lazy_attention_sizes(const LazyAttention* a, LazySizes* sizes) {
  return with_rung(a, [&](const Rung& rung) {
    check_given("sizes", sizes);
    *sizes = rung.sizes(*a);
  });
}

int lazy_attention_forward(const LazyAttention* a, const LazyInputs* in, const LazyOutputs* out,
                           void* workspace, void* stream) {
  return with_rung(a, [&](const Rung& rung) {
    if (is_empty(*a)) return;
    check_given("in", in);
    check_given("out", out);
    check_inputs(*a, *in);
    check_tensor(*a, "out", out->out);
    check_floats("lse", out->lse);
    check_aligned("live_sums", out->live_sums, 16);
    check_workspace(rung.sizes(*a).forward_workspace, workspace);
    rung.forward(*a, *in, *out, workspace, stream);
  });
}

int lazy_attention_backward(const LazyAttention* a, const LazyInputs* in,
                            const LazyOutputs* forward, const void* dout, const LazyGrads* grads,
                            void* workspace, void* stream) {
  return with_rung(a, [&](const Rung& rung) {
    if (is_empty(*a)) return;
    check_given("in", in);
    check_given("forward", forward);
    check_given("grads", grads);
    check_inputs(*a, *in);
    check_tensor(*a, "out", forward->out);
    check_floats("lse", forward->lse);
    check_tensor(*a, "dout", dout);
    check_tensor(*a, "dq", grads->dq);
    check_tensor(*a, "dk", grads->dk);
    check_tensor(*a, "dv", grads->dv);
    if (a->window > 0) check_floats("dbias", grads->dbias);
    if (in->tau) check_floats("dtau", grads->dtau);
    const LazySizes sizes = rung.sizes(*a);
    if (sizes.needs_live_sums) check_given("live_sums", forward->live_sums);
    check_aligned("live_sums", forward->live_sums, 16);
    check_workspace(sizes.backward_workspace, workspace);
    rung.backward(*a, *in, *forward, dout, *grads, workspace, stream);
  });
}

int lazy_attention_weights(const LazyAttention* a, const LazyInputs* in, const float* lse,
                           int64_t batch, int64_t head, int64_t first_row, int64_t rows,
                           float* weights, void* stream) {
  return with_rung(a, [&](const Rung& rung) {
    if (is_empty(*a) || rows == 0) return;
    check_given("in", in);
    check_inputs(*a, *in);
    check_floats("lse", lse);
    check_floats("weights", weights);
    if (batch < 0 || batch >= a->batch || head < 0 || head >= a->heads || first_row < 0 ||
        rows < 0 || first_row + rows > a->queries)
      fail("rows " + std::to_string(first_row) + " to " + std::to_string(first_row + rows) +
           " of head " + std::to_string(head) + " of sequence " + std::to_string(batch) +
           " are not all there");
    rung.weights(*a, *in, lse, batch, head, first_row, rows, weights, stream);
  });
}

int lazy_attention_decode_sizes(const LazyAttention* a, LazyDecodeSizes* sizes) {
  return with_decoding(a, [&](const Decoding& decoding) {
    check_given("sizes", sizes);
    *sizes = decoding.sizes(*a);
  });
}

int lazy_attention_decode(const LazyAttention* a, const LazyInputs* in, const LazyOutputs* out,
                          void* workspace, void* stream) {
  return with_decoding(a, [&](const Decoding& decoding) {
    if (a->batch == 0) return;
    check_given("in", in);
    check_given("out", out);
    check_inputs(*a, *in);
    check_aligned("k", in->k, 16);
    check_aligned("v", in->v, 16);
    check_tensor(*a, "out", out->out);
    check_floats("lse", out->lse);
    check_workspace(1, workspace);
    decoding.decode(*a, *in, *out, workspace, stream);
  });
}

const char* lazy_attention_error(void) {
  return last_error.c_str();
}
