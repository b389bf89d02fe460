// Three rungs of the ladder on one problem, counted by the emulator, beside what a cost model on
// paper says. With `cuda` as second argument the same rungs run on a GPU.

#include <bit>
#include <cstring>
#include <vector>

#include "apps/svg.hpp"
#include "cuda/kernel_attention.hpp"
#include "cuda/simt/emulator.hpp"
#include "cuda/simt/formats.hpp"
#include "reference/oracle.hpp"
#include "reference/random.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

constexpr Index T = 256, D = 64, entries = T * (T + 1) / 2;
const AttentionShape shape{.queries = T, .keys = T, .head_dim = D, .window = T};

struct Head {
  std::vector<float> q, k, v, bias, tau{-1};

  AttentionInputs<float> inputs() const {
    return {q.data(), k.data(), v.data(), bias.data(), tau.data()};
  }
};

// Numbers that bfloat16 holds, so that every rung sees the same ones.
Head make_head(double slope) {
  Head h;
  Random random(10);
  for (auto* x : {&h.q, &h.k, &h.v})
    for (Index i = 0; i < T * D; ++i)
      x->push_back(to_float(from_float<BFloat16>(float(2.4 * random.uniform() - 1.2))));
  for (Index d = 0; d < T; ++d) h.bias.push_back(float(-slope * double(d)));
  return h;
}

struct Run {
  emulated::Counters counters;
  LazySizes sizes;
  Index live_tiles = 0;  // tiles with a live entry, of the rung's own size
  std::vector<float> out, lse;
};

Run run(const char* rung, LazyType type, const Head& h, bool count_wavefronts = false) {
  Run r;
  emulated::Machine machine{.count_wavefronts = count_wavefronts};
  LazyAttention call{};
  call.batch = call.heads = call.kv_heads = 1;
  call.queries = call.keys = call.window = T, call.head_dim = D;
  call.type = type, call.device = LAZY_EMULATED, call.rung = rung;
  const auto must = [](int status) {
    if (status == LAZY_OK) return;
    std::fprintf(stderr, "%s\n", lazy_attention_error());
    std::exit(1);
  };
  must(lazy_attention_sizes(&call, &r.sizes));
  const auto formatted = [&](const std::vector<float>& x) {  // 16 bits a number, or left as it is
    std::vector<std::uint16_t> bits;
    for (const float number : x) bits.push_back(from_float<BFloat16>(number).bits);
    return bits;
  };
  const auto q = formatted(h.q), k = formatted(h.k), v = formatted(h.v);
  std::vector<std::uint16_t> out16(T * D);
  std::vector<float> workspace(r.sizes.forward_workspace / sizeof(float) + 1);
  std::vector<std::uint32_t> bits(r.sizes.live_tiles / sizeof(std::uint32_t));
  r.out.assign(T * D, NAN), r.lse.assign(T, NAN);
  const bool wide = type == LAZY_FLOAT32;
  const LazyInputs in =
      wide ? LazyInputs{h.q.data(), h.k.data(), h.v.data(), h.bias.data(), h.tau.data(), nullptr}
           : LazyInputs{q.data(), k.data(), v.data(), h.bias.data(), h.tau.data(), nullptr};
  const LazyOutputs out{wide ? static_cast<void*>(r.out.data()) : out16.data(), r.lse.data(),
                        nullptr, bits.empty() ? nullptr : bits.data()};
  must(lazy_attention_forward(&call, &in, &out, workspace.data(), &machine));
  if (!wide)
    for (Index i = 0; i < T * D; ++i) r.out[i] = to_float(BFloat16{out16[i]});
  for (const std::uint32_t word : bits) r.live_tiles += std::popcount(word);
  r.counters = machine.counters;
  return r;
}

double largest_error(const std::vector<float>& out, const Head& h) {
  std::vector<float> exact(T * D), lse(T);
  oracle::attention_forward<float>(shape, {}, h.inputs(), {exact.data(), lse.data()});
  double largest = 0;
  for (Index i = 0; i < T * D; ++i)
    if (const double e = std::abs(out[i] - exact[i]); !(e <= largest)) largest = e;
  return largest;
}

// Entries that v0 finds live: another summation may judge an entry at the kink otherwise.
Index live_entries(const Head& h, Run& v0) {
  std::vector<float> A(T * T);
  kernels::attention_weights(shape, {}, h.inputs(), {v0.out.data(), v0.lse.data()}, 0, 0, 0, T,
                             A.data(), {.rung = "v0"});
  return T * T - std::count(A.begin(), A.end(), 0.f);
}

// Tiles of `rows` x `keys` that hold a visible entry.
Index causal_tiles(Index rows, Index keys) {
  Index tiles = 0;
  for (Index row = 0; row < T; row += rows) tiles += (std::min(row + rows, T) + keys - 1) / keys;
  return tiles;
}

// A product of a tile's rows with its keys, in instructions of the tensor core: 16 x 8 x 16.
Index instructions(Index rows, Index keys) {
  return rows / 16 * (keys / 8) * (D / 16);
}

long long number(std::int64_t x) {
  return static_cast<long long>(x);
}

void show_counts(const char* name, const emulated::Counters& c) {
  std::printf("  %-4s %12lld %10lld %12lld %9lld %12lld\n", name, number(c.fused), number(c.mma),
              number(c.exponentials), number(c.barriers), number(c.copied_bytes));
}

bool close(double counted, double model) {
  return std::abs(counted - model) <= 0.05 * model;
}

int on_a_gpu(const Head& h) {
  for (const auto& [rung, type, budget] : {std::tuple{"v0", LAZY_FLOAT32, 1e-5},
                                           {"v1", LAZY_FLOAT32, 1e-5},
                                           {"v2", LAZY_BFLOAT16, 0.02}}) {
    std::vector<float> out(T * D), lse(T);
    kernels::attention_forward(shape, {}, h.inputs(), {out.data(), lse.data()},
                               {.device = LAZY_CUDA, .rung = rung, .type = type});
    holds(largest_error(out, h) < budget, std::string(rung) + " on the GPU agrees with the oracle");
  }
  std::puts("A GPU counts nothing for us. Times: build/lazy bench");
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const Head dense = make_head(0), local = make_head(0.1);
  if (argc > 2) {
    if (std::strcmp(argv[2], "cuda") != 0)
      throw std::invalid_argument(std::string(argv[2]) +
                                  " is no device: leave it away, or say cuda");
    return on_a_gpu(local);
  }

  std::printf("One head, T = %td, D = %td: %td visible entries. Forward, scores without order:\n\n",
              T, D, entries);
  std::puts("       multiply-adds  tensor-core exponentials  barriers  bytes copied");
  Run v0 = run("v0", LAZY_FLOAT32, dense);
  const Run v1 = run("v1", LAZY_FLOAT32, dense, true), v2 = run("v2", LAZY_BFLOAT16, dense, true);
  show_counts("v0", v0.counters);
  show_counts("v1", v1.counters);
  show_counts("v2", v2.counters);
  std::puts("");
  holds(largest_error(v0.out, dense) < 1e-5 && largest_error(v1.out, dense) < 1e-5,
        "v0 and v1 agree with the oracle");
  holds(largest_error(v2.out, dense) < 0.02, "so does v2, as far as bfloat16 goes");

  std::puts("\nOn paper:\n");
  const Index live = live_entries(dense, v0);
  const Index by_v0 = 3 * entries * (D + 1) + live * D;
  std::printf("  v0: three scores an entry, one value a live entry: %td multiply-adds\n", by_v0);
  holds(v0.counters.fused == by_v0, "v0 does exactly that");
  holds(v0.counters.exponentials == 2 * entries, "and two exponentials an entry");
  const Index tiles1 = causal_tiles(64, 32), of_tile = 64 * 32;
  const Index sums = tiles1 * 64 * 16;  // each of the 16 threads of a row keeps its running sum
  const Index by_v1 = 2 * tiles1 * of_tile * (D + 1) + live * D + sums;
  std::printf("  v1: two scores an entry of its %td tiles of 64 x 32: %td\n", tiles1, by_v1);
  holds(v1.counters.fused == by_v1, "v1 does exactly that");
  const Index tiles2 = causal_tiles(64, 64), by_v2 = 3 * tiles2 * instructions(64, 64);
  std::printf("  v2: three products a tile of 64 x 64, %td tiles: %td instructions\n", tiles2,
              by_v2);
  holds(v2.counters.mma == by_v2, "v2 does exactly that");

  std::puts("\nNumbers fetched from global memory: in all, and for an entry and component:\n");
  const double fetched0 = double(3 * entries * 2 * D + live * D);
  const double fetched1 = double(T * D + tiles1 * 32 * 3 * D);
  const double fetched2 = double(v2.counters.copied_bytes) / 2;
  for (const auto& [name, fetched] :
       {std::pair{"v0, on paper", fetched0}, {"v1, on paper", fetched1}, {"v2, counted", fetched2}})
    std::printf("  %-14s %10.0f  %s\n", name, fetched,
                right(fixed(fetched / double(entries * D), 3), 8).c_str());

  std::puts("\nTrips of a warp to shared memory, and what they would be without bank conflicts:\n");
  std::printf("  v1, loads and stores %10lld %10lld\n", number(v1.counters.wavefronts),
              number(v1.counters.ideal_wavefronts));
  std::printf("  v2, matrix loads     %10lld %10lld\n", number(v2.counters.ldmatrix_wavefronts),
              number(4 * v2.counters.ldmatrix));
  holds(v2.counters.ldmatrix_wavefronts == 4 * v2.counters.ldmatrix,
        "v2's matrix loads never collide");

  std::puts("\nThe same with a bias that falls by 0.1 a key:\n");
  const Run local1 = run("v1", LAZY_FLOAT32, local), local2 = run("v2", LAZY_BFLOAT16, local);
  const Index strips = causal_tiles(64, 64) * 4;
  const double f = double(local2.live_tiles) / double(strips);
  std::printf(
      "  v1: %td of %td tiles live, %s of the multiply-adds, %s of the exponentials\n",
      local1.live_tiles, tiles1,
      fixed(double(local1.counters.fused) / double(v1.counters.fused)).c_str(),
      fixed(double(local1.counters.exponentials) / double(v1.counters.exponentials)).c_str());
  std::printf("  v2: %td of %td strips of 16 x 64 live, f = %s: (1 + 2 f) / 3 = %s, counted %s\n",
              local2.live_tiles, strips, fixed(f).c_str(), fixed((1 + 2 * f) / 3).c_str(),
              fixed(double(local2.counters.mma) / double(v2.counters.mma)).c_str());
  holds(close(double(local2.counters.mma) / double(v2.counters.mma), (1 + 2 * f) / 3),
        "what v2 saves is what the live strips say, to 5 percent");

  const std::vector<double> x{0, 1, 2};
  const auto per_entry = [](double a, double b, double c) {
    return std::vector<double>{a / double(entries), b / double(entries), c / double(entries)};
  };
  write_picture(argc, argv, "ladder.svg",
                line_chart({.title = "Work for a visible entry, rung by rung",
                            .x_label = "rung",
                            .y_label = "a visible entry",
                            .log_y = true},
                           {{"numbers fetched", x, per_entry(fetched0, fetched1, fetched2)},
                            {"instructions", x,
                             per_entry(double(v0.counters.fused) / 32,
                                       double(v1.counters.fused) / 32, double(v2.counters.mma))}}));
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 2;
}
