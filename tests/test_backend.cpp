// The CPU's backend has every operation of the list, the list misses none that is taken away, and
// buffers start where vector instructions like them to.

#include <numeric>

#include "reference/backend.hpp"
#include "reference/cpu_backend.hpp"
#include "tests/catch.hpp"

using namespace lazy;

namespace {

// A name hidden by a number is an operation taken away.
struct Everything : CpuBackend {};
struct NoResize : CpuBackend {
  static constexpr int resize = 0;
};
struct NoZero : CpuBackend {
  static constexpr int zero = 0;
};
struct NoRound : CpuBackend {
  static constexpr int round = 0;
};
struct NoUpload : CpuBackend {
  static constexpr int upload = 0;
};
struct NoDownload : CpuBackend {
  static constexpr int download = 0;
};
struct NoEmbedding : CpuBackend {
  static constexpr int embedding_forward = 0;
};
struct NoEmbeddingBackward : CpuBackend {
  static constexpr int embedding_backward = 0;
};
struct NoRmsnorm : CpuBackend {
  static constexpr int rmsnorm_forward = 0;
};
struct NoRmsnormBackward : CpuBackend {
  static constexpr int rmsnorm_backward = 0;
};
struct NoLinear : CpuBackend {
  static constexpr int linear_forward = 0;
};
struct NoLinearBackward : CpuBackend {
  static constexpr int linear_backward = 0;
};
struct NoSwiglu : CpuBackend {
  static constexpr int swiglu_forward = 0;
};
struct NoSwigluBackward : CpuBackend {
  static constexpr int swiglu_backward = 0;
};
struct NoLinearAdd : CpuBackend {
  static constexpr int linear_add_forward = 0;
};
struct NoCrossEntropy : CpuBackend {
  static constexpr int cross_entropy = 0;
};
struct NoMakeRope : CpuBackend {
  template <class T>
  static void make_rope(Index, Index, double) = delete;
};
struct NoSplit : CpuBackend {
  static constexpr int split_heads = 0;
};
struct NoJoin : CpuBackend {
  static constexpr int join_heads = 0;
};
struct NoAttention : CpuBackend {
  static constexpr int attention_forward = 0;
};
struct NoAttentionBackward : CpuBackend {
  static constexpr int attention_backward = 0;
};
struct NoAttentionWeights : CpuBackend {
  static constexpr int attention_weights = 0;
};
struct NoMeasure : CpuBackend {
  static constexpr int measure_step = 0;
};
struct NoRun : CpuBackend {
  static constexpr int run = 0;
};
struct NoAdamW : CpuBackend {
  static constexpr int adamw_step = 0;
};
struct NoBuffer : CpuBackend {
  template <class T>
  using Buffer = int;
};
struct Nothing {};

template <class... Candidates>
constexpr bool none_is_a_backend =
    !(Backend<Candidates, float> || ...) && !(Backend<Candidates, double> || ...);

static_assert(Backend<CpuBackend, float> && Backend<CpuBackend, double>);
static_assert(Backend<Everything, float> && Backend<Everything, double>);
static_assert(none_is_a_backend<NoResize, NoZero, NoRound, NoUpload, NoDownload>);
static_assert(none_is_a_backend<NoEmbedding, NoEmbeddingBackward, NoRmsnorm, NoRmsnormBackward>);
static_assert(none_is_a_backend<NoLinear, NoLinearBackward, NoSwiglu, NoSwigluBackward>);
static_assert(none_is_a_backend<NoCrossEntropy, NoLinearAdd, NoMakeRope, NoSplit>);
static_assert(none_is_a_backend<NoJoin, NoAttention, NoAttentionBackward>);
static_assert(none_is_a_backend<NoAttentionWeights, NoMeasure, NoRun, NoAdamW, NoBuffer, Nothing>);

template <class T>
void check_alignment() {
  for (const Index size : {1, 2, 3, 15, 16, 17, 63, 64, 65, 1000, 4097, 100'003}) {
    CpuBackend::Buffer<T> a, b;
    CpuBackend::resize(a, size);
    CpuBackend::resize(b, size);
    CAPTURE(size, sizeof(T));
    CHECK(Index(a.size()) == size);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
  }
}

}  // namespace

TEST_CASE("buffers are 64-byte aligned", "[backend]") {
  check_alignment<float>();
  check_alignment<double>();
}

TEST_CASE("buffers are copied and cleared as told", "[backend]") {
  const Index size = 1001;
  std::vector<float> host(size), back(size, -1);
  std::iota(host.begin(), host.end(), 1.f);
  CpuBackend::Buffer<float> a;
  CpuBackend::resize(a, size + 1);
  a[size] = 7;  // the neighbor nobody may touch
  CpuBackend::upload(a.data(), host.data(), size);
  CpuBackend::download(back.data(), a.data(), size);
  CHECK(back == host);
  CpuBackend::zero(a.data(), size);
  CHECK(std::count(a.begin(), a.end(), 0.f) == size);
  CHECK(a[size] == 7);
}
