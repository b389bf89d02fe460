// The work of v2, counted in emulation, against the cost model: products of matrices, exponentials
// and copied bytes follow from the bitmap of live tiles alone. `lazy_tests "[print-work]"` prints
// the table of docs/kernels.md, `lazy_tests "[draw-tiles]"` draws its picture.

#include <fstream>
#include <iostream>

#include "apps/svg.hpp"
#include "tests/kernel_answers.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

// Scores are small beside a bias that falls by `slope` a token, so that pass 1 sees at once what is
// dead. slope 0: everything is as good as alive at tau = 0.
Problem<float> sloped_problem(Index T, Index D, float slope) {
  auto p = make_problem<float>({{1, T, T, 2, 1, D, T}, {}, {slope == 0 ? 0.f : -1.f}, {}, 0.01});
  for (Index h = 0; h < 2; ++h)
    for (Index d = 0; d < T; ++d) p.bias[h * T + d] = -slope * float(d);
  return p;
}

/// Tiles of 16 rows that a forward pass meets, those of them with a live entry, and tiles of whole
/// blocks of 64 rows or keys; all heads together.
struct Tiles {
  Index all = 0, live = 0;
  Index blocks = 0, blocks_live = 0;  // 64 queries x a tile of keys
  Index steps = 0, steps_live = 0;    // a tile of queries x 64 keys
};

constexpr Index block = 64, strip = 16;

Tiles count_tiles(const Problem<float>& p, const KernelAnswer& k) {
  const AttentionShape& s = p.shape;
  const Index keys = k.sizes.tile_keys, step = s.head_dim == 128 ? 32 : 64;
  const auto is_live = [&](Index h, Index r, Index c) {
    return (k.live_tiles[(h * k.sizes.row_tiles + r) * k.sizes.words + c / 32] >> c % 32 & 1) != 0;
  };
  Tiles t;
  for (Index h = 0; h < s.heads; ++h)
    for (Index row0 = 0; row0 < s.queries; row0 += block)
      for (Index c = 0; c * keys < std::min(row0 + block, s.queries); ++c) {
        Index live = 0;
        for (Index r = 0; r < block / strip; ++r) live += is_live(h, row0 / strip + r, c);
        t.all += block / strip;
        t.live += live;
        t.blocks += 1;
        t.blocks_live += live > 0;
      }
  for (Index h = 0; h < s.heads; ++h)
    for (Index key0 = 0; key0 < s.keys; key0 += block)
      for (Index row0 = key0 / step * step; row0 < s.queries; row0 += step) {
        bool live = false;
        for (Index r = row0; r < std::min(row0 + step, s.queries); r += strip)
          for (Index c = key0; c < key0 + block && c < s.keys; c += keys)
            live |= is_live(h, r / strip, c / keys);
        t.steps += 1;
        t.steps_live += live;
      }
  return t;
}

// Matrix instructions of one product of 16 rows with a tile of keys: 16 x 8 results and 16
// components each.
Index product(const Problem<float>& p, const KernelAnswer& k) {
  return k.sizes.tile_keys / 8 * (p.shape.head_dim / 16);
}

void check_work(const Problem<float>& p, const KernelRun& how) {
  const auto k = kernel_attention(p, how);
  const Tiles t = count_tiles(p, k);
  const Index unit = product(p, k), keys = k.sizes.tile_keys;
  const bool skips = !how.compute_dead_tiles;
  const Index computed = skips ? t.live : t.all;
  INFO("live tiles " << t.live << " of " << t.all);

  // Forward: S once for all tiles; S, O and the mean live value for the live ones.
  CHECK(k.forward.mma == unit * (t.all + 3 * computed));
  // An exponential an entry and pass. Besides, when a tile raises a row's maximum the sum is
  // rescaled, once a lane and row at most.
  const Index entries = strip * keys, lanes = 32;
  const Index least = entries * (t.all + computed);
  CHECK(k.forward.exponentials >= least);
  CHECK(k.forward.exponentials <= least + 2 * lanes * t.all);

  // Backward, split: S and dQ, S and dK for all tiles; dA twice and dV for the live ones.
  CHECK(k.backward.mma == unit * (4 * t.all + 3 * computed));
  CHECK(k.backward.exponentials == 2 * entries * t.all);
}

}  // namespace

TEST_CASE("v2 multiplies and exponentiates as often as the cost model says", "[kernels]") {
  for (const Index D : {32, 64, 128})
    for (const float slope : {0.f, 0.2f}) {
      INFO("D " << D << ", slope " << slope);
      const auto p = sloped_problem(256, D, slope);
      const KernelRun how{.rung = "v2", .type = LAZY_BFLOAT16};
      check_work(p, how);
      KernelRun dense = how;
      dense.compute_dead_tiles = true;
      check_work(p, dense);
    }
}

TEST_CASE("v2 copies no values and no output gradients of dead tiles", "[kernels]") {
  for (const Index D : {32, 64, 128}) {
    INFO("D " << D);
    const auto p = sloped_problem(256, D, 0.2f);
    const auto k = kernel_attention(p, {.rung = "v2", .type = LAZY_BFLOAT16});
    const Tiles t = count_tiles(p, k);
    const Index row = 2 * D, keys = k.sizes.tile_keys, step = D == 128 ? 32 : 64;
    const Index heads = p.shape.heads, T = p.shape.queries;
    CHECK(t.blocks_live < t.blocks);
    CHECK(t.steps_live < t.steps);
    // Pass 1: Q and K; pass 2: K and V where a warp has something alive.
    CHECK(k.forward.copied_bytes == row * (heads * T + keys * t.blocks + 2 * keys * t.blocks_live));
    // Q, dO, and K of all tiles with V of the live ones; K, V, and Q and the rows' numbers of all
    // steps with dO of the live ones.
    const Index numbers = 16, kv_heads = p.shape.kv_heads;
    CHECK(k.backward.copied_bytes == row * (2 * heads * T + keys * (t.blocks + t.blocks_live)) +
                                         row * 2 * kv_heads * T +
                                         step * ((row + numbers) * t.steps + row * t.steps_live));
  }
}

TEST_CASE("the counted work of each rung", "[.][print-work]") {
  const Index T = 192, D = 64;
  std::cout
      << "Two heads on one of keys, T " << T << ", D " << D << ", W = T. Counted in emulation.\n\n"
      << "| bias a token | tiles alive | rung | | mma or FMA | exponentials | bytes copied to "
         "shared memory |\n|---|---|---|---|---|---|---|\n";
  for (const float slope : {0.f, 0.2f}) {
    const auto p = sloped_problem(T, D, slope);
    for (const char* rung : {"v1", "v2"}) {
      const LazyType type = rung[1] == '2' ? LAZY_BFLOAT16 : LAZY_FLOAT32;
      const auto k = kernel_attention(p, {.rung = rung, .type = type});
      Index live = 0, all = 0;
      if (type == LAZY_BFLOAT16) {
        const Tiles t = count_tiles(p, k);
        live = t.live, all = t.all;
      }
      for (const auto& [name, c] :
           {std::pair("forward", k.forward), std::pair("backward", k.backward)}) {
        std::cout << "| " << -slope << " | ";
        if (all) std::cout << live << " of " << all;
        std::cout << " | " << rung << " | " << name << " | " << (c.mma ? c.mma : c.fused) << " | "
                  << c.exponentials << " | " << c.copied_bytes << " |\n";
      }
    }
  }
}

TEST_CASE("pictures of the two passes and of the bitmap", "[.][draw-tiles]") {
  const Index T = 384;
  const auto p = sloped_problem(T, 64, 0.05f);
  const auto k = kernel_attention(p, {.rung = "v2", .type = LAZY_BFLOAT16});
  const Index rows = T / strip, columns = T / k.sizes.tile_keys;
  std::vector<double> visits(rows * columns, 0), bits = visits, products = visits;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c <= r / 4; ++c) {
      const Index at = r * columns + c;
      visits[at] = double(r / 4 - c + 1);
      bits[at] = double(k.live_tiles[r * k.sizes.words] >> c & 1);
      products[at] = bits[at] != 0 ? 2 : 0;
    }
  const auto draw = [&](const char* name, const char* title, const std::vector<double>& values) {
    std::ofstream(GOLDEN_DIR "/../../docs/images/" + std::string(name) + ".svg")
        << heat_map({.title = title,
                     .x_label = "tile of 64 keys",
                     .y_label = "tile of 16 queries",
                     .width = 280},
                    rows, columns, values);
  };
  draw("pass_1", "Pass 1: order of visits", visits);
  draw("live_tiles", "The bitmap", bits);
  draw("pass_2", "Pass 2: products", products);
}
