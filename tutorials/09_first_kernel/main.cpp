// The first kernel: Elastic-Softmax of a matrix of scores, a block of 64 threads a row. Four ways
// to get it wrong, and then the library's own first rung, v0.

#include <cstring>
#include <set>
#include <vector>

#include "apps/svg.hpp"
#include "cuda/lazy_attention.h"
#include "cuda/simt/simt.hpp"
#include "reference/elastic.hpp"
#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "tutorials/tutorial.hpp"

namespace lazy::LAZY_TARGET {
namespace {

constexpr int threads = 64, warps = threads / warp_size;

struct Rows {
  Global<const float> scores;  // [T, T], of which row i uses the first i + 1
  Global<float> weights;       // [T, T]
  float tau;
  int T;
};

enum class Mistake { none, no_barrier, scratch_reused, barrier_for_some, one_key_too_many };

// The numbers of all threads combined into one, which every thread gets.
template <Mistake mistake, class Combine>
__device__ float over_block(float x, Shared<float> scratch, Combine combine) {
  // The 32 threads of a warp exchange registers: after five rounds each has all 32.
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) x = combine(x, shuffle_xor(x, lanes));
  // The warps of a block meet in shared memory.
  if (mistake != Mistake::scratch_reused) barrier();  // others may still read the last result
  if (thread_index() % warp_size == 0) scratch[thread_index() / warp_size] = x;
  if (mistake != Mistake::no_barrier) barrier();  // both have written
  return combine(scratch[0], scratch[1]);
}

// One block a row. Thread t takes the keys t, t + 64, t + 128, ...
template <Mistake mistake>
__global__ void elastic_rows(Rows a) {
  auto scratch = SharedMemory().take<float>(warps);
  const int i = block_index().x, me = thread_index(), n = i + 1;  // i counts from 0
  const int end = mistake == Mistake::one_key_too_many ? n + 1 : n;
  const auto S = a.scores + i * a.T;
  const auto A = a.weights + i * a.T;

  float m = -__builtin_huge_valf();  // m = max_j S_ij
  for (int j = me; j < end; j += threads) m = S[j] > m ? S[j] : m;
  m = over_block<mistake>(m, scratch, [](float x, float y) { return x > y ? x : y; });

  float sum = 0;  // lse = m + log sum_j exp(S_ij - m)
  for (int j = me; j < end; j += threads) sum += exp(S[j] - m);
  const float lse =
      m + log(over_block<mistake>(sum, scratch, [](float x, float y) { return x + y; }));

  // A = max(exp(S - lse) + tau / n, 0)
  for (int j = me; j < a.T; j += threads)
    A[j] = j < n ? elastic_weight(exp(S[j] - lse), a.tau / float(n)) : 0.f;
  if (mistake == Mistake::barrier_for_some && me < n) barrier();
}

}  // namespace
}  // namespace lazy::LAZY_TARGET

using namespace lazy;
using namespace lazy::emulated;
using namespace lazy::tutorial;

namespace {

constexpr int T = 100, D = 8;
const AttentionShape shape{.queries = T, .keys = T, .head_dim = D, .window = 1};

struct Head {
  std::vector<float> q, k, v, bias{0}, tau{-1}, scores;

  AttentionInputs<float> inputs() const {
    return {q.data(), k.data(), v.data(), bias.data(), tau.data()};
  }
};

Head make_head() {
  Head h;
  Random random(9);
  for (auto* x : {&h.q, &h.k, &h.v})
    for (int i = 0; i < T * D; ++i) x->push_back(float(4 * random.uniform() - 2));
  for (int i = 0; i < T; ++i)
    for (int j = 0; j < T; ++j) {
      float s = 0;
      for (int d = 0; d < D; ++d) s += h.q[i * D + d] * h.k[j * D + d];
      h.scores.push_back(s / std::sqrt(float(D)));
    }
  return h;
}

std::vector<float> run(void (*kernel)(Rows), const Head& h, Machine& machine) {
  std::vector<float> weights(T * T, NAN);
  const Launch how{"elastic_rows", {T}, threads, shared_bytes_for<float>(warps), &machine};
  launch(how, kernel, {view(h.scores.data(), T * T), view(weights.data(), T * T), h.tau[0], T});
  return weights;
}

const char* name(Fault fault) {
  switch (fault) {
    case Fault::race:
      return "race";
    case Fault::divergence:
      return "divergence";
    case Fault::out_of_bounds:
      return "out of bounds";
    case Fault::uninitialized:
      return "unwritten memory";
    default:
      return "another fault";
  }
}

/// What the emulator says of a wrong kernel in five orders of its threads. Which thread is caught
/// depends on the order; the fault and the lines do not.
bool show_fault(const char* mistake, void (*kernel)(Rows), const Head& h) {
  std::set<std::string> faults;
  std::set<unsigned> lines;
  int found = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Machine machine{.seed = seed};
    try {
      run(kernel, h, machine);
    } catch (const KernelFault& fault) {
      ++found;
      faults.insert(name(fault.fault));
      lines.insert(fault.where.line);
      if (fault.earlier.line > 0) lines.insert(fault.earlier.line);
      if (seed == 1) std::fprintf(stderr, "%s\n", fault.what());
    }
  }
  std::string text;
  for (const auto& fault : faults) text += (text.empty() ? "" : ", ") + fault;
  text += ", line";
  for (const unsigned line : lines) text += " " + std::to_string(line);
  std::printf("  %-38s found %d times of 5: %s\n", mistake, found, text.c_str());
  return found == 5;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (const float d = std::abs(a[i] - b[i]); !(d <= largest)) largest = d;
  return largest;
}

// The ladder's first rung through the C interface: attention from q, k and v to out.
std::vector<float> run_v0(const Head& h, Machine& machine) {
  LazyAttention call{};
  call.batch = call.heads = call.kv_heads = call.window = 1;
  call.queries = call.keys = T, call.head_dim = D;
  call.type = LAZY_FLOAT32, call.device = LAZY_EMULATED, call.rung = "v0";
  const LazyInputs in{h.q.data(), h.k.data(), h.v.data(), h.bias.data(), h.tau.data(), nullptr};
  std::vector<float> out(T * D, NAN), lse(T, NAN);
  const LazyOutputs to{out.data(), lse.data(), nullptr, nullptr};
  if (lazy_attention_forward(&call, &in, &to, nullptr, &machine) != LAZY_OK) {
    std::fprintf(stderr, "%s\n", lazy_attention_error());
    std::exit(1);
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const Head h = make_head();
  std::vector<float> expected(T * T), expected_out(T * D), lse(T);
  oracle::attention_weights<float>(shape, {}, h.inputs(), 0, 0, 0, T, expected.data());
  oracle::attention_forward<float>(shape, {}, h.inputs(), {expected_out.data(), lse.data()});

  std::printf("elastic_rows: %d rows, a block each, %d threads a block, %d warps\n\n", T, threads,
              warps);
  for (const int t : {0, 31, 32, 63})
    std::printf("  thread %2d: warp %d, lane %2d, keys %d and %d\n", t, t / warp_size,
                t % warp_size, t, t + threads);
  Machine machine;
  const std::vector<float> weights = run(elastic_rows<Mistake::none>, h, machine);
  const Counters& c = machine.counters;
  std::printf("\n  %lld blocks, %lld barriers, %lld exponentials\n\n", (long long)c.blocks,
              (long long)c.barriers, (long long)c.exponentials);
  holds(largest_difference(weights, expected) < 1e-6f, "the weights are the oracle's");
  holds(weights[0] == 0, "the first row at tau = -1 is exactly dead");
  bool same = true;
  for (std::uint64_t seed = 2; seed <= 5; ++seed) {
    Machine other{.seed = seed};
    const auto again = run(elastic_rows<Mistake::none>, h, other);
    same = same && std::memcmp(again.data(), weights.data(), T * T * sizeof(float)) == 0;
  }
  holds(same, "five orders of the threads give the same bytes");

  std::puts("\nFour mistakes:\n");
  bool found = true;
  found &= show_fault("no barrier between write and read", elastic_rows<Mistake::no_barrier>, h);
  found &= show_fault("scratch written while it is read", elastic_rows<Mistake::scratch_reused>, h);
  found &=
      show_fault("a barrier that some threads skip", elastic_rows<Mistake::barrier_for_some>, h);
  found &= show_fault("one key too many", elastic_rows<Mistake::one_key_too_many>, h);
  std::puts("");
  holds(found, "each is found, in every order of the threads");

  Machine v0;
  const std::vector<float> out = run_v0(h, v0);
  std::printf(
      "\nRung v0, from q, k, v to out: %lld blocks, %lld barriers, %lld exponentials, %lld "
      "multiply-adds\n\n",
      (long long)v0.counters.blocks, (long long)v0.counters.barriers,
      (long long)v0.counters.exponentials, (long long)v0.counters.fused);
  holds(largest_difference(out, expected_out) < 1e-5f, "v0's output is the oracle's");

  write_picture(argc, argv, "weights.svg",
                heat_map({.title = "What the kernel computed: A, tau = -1",
                          .x_label = "key",
                          .y_label = "row, one block each",
                          .square_root = true,
                          .causal = true,
                          .square_cells = true},
                         T, T, {weights.begin(), weights.end()}));
}
