// Why one pass over the keys is not enough, and what the first of two can know all the same.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "apps/svg.hpp"
#include "reference/random.hpp"
#include "reference/tiled.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy;
using namespace lazy::tutorial;

namespace {

// log sum_j exp(S_ij) over the scores seen so far. It only grows.
struct RunningSum {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;

  void add(double score) {
    if (score > largest) {
      sum *= std::exp(largest - score);
      largest = score;
    }
    sum += std::exp(score - largest);
  }
  double lse() const { return largest + std::log(sum); }
};

double elastic(double score, double lse, double offset) {  // A = max(P + tau / n, 0)
  return std::max(std::exp(score - lse) + offset, 0.0);
}

// ---- One row of 16 keys, in tiles of 4. The first key is a sink.

const std::vector<double> scores{4, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 2, 3, 1};
const std::vector<double> values{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};  // D = 1
constexpr int n = 16, tile = 4;

double two_passes(double tau) {
  RunningSum all;
  for (const double s : scores) all.add(s);
  double out = 0;
  for (int j = 0; j < n; ++j) out += elastic(scores[j], all.lse(), tau / n) * values[j];
  return out;
}

// The trick of one-pass softmax: weigh with the lse so far, rescale what was added when it grows.
double one_pass(double tau) {
  RunningSum seen;
  double out = 0, before = 0;
  for (int end = n; end > 0; end -= tile) {
    for (int j = end - tile; j < end; ++j) seen.add(scores[j]);
    if (end < n) out *= std::exp(before - seen.lse());
    for (int j = end - tile; j < end; ++j)
      out += elastic(scores[j], seen.lse(), tau / n) * values[j];
    before = seen.lse();
  }
  return out;
}

void show_one_row() {
  std::puts("One row, 16 keys, tau = -1, from the diagonal outwards in tiles of 4:\n");
  std::puts("  keys    largest S   lse so far   exp(largest - lse) + tau/n   with the final lse");
  RunningSum all, seen;
  bool grows = true;
  for (const double s : scores) all.add(s);
  for (int end = n; end > 0; end -= tile) {
    double largest = scores[end - 1], before = seen.lse();
    for (int j = end - tile; j < end; ++j) {
      seen.add(scores[j]);
      largest = std::max(largest, scores[j]);
    }
    grows = grows && !(seen.lse() < before);
    std::printf("  %2d-%-2d %9.0f %12.3f %+20.4f %26.4f\n", end - tile, end - 1, largest,
                seen.lse(), std::exp(largest - seen.lse()) - 1.0 / n,
                elastic(largest, all.lse(), -1.0 / n));
  }
  std::puts("\n                          tau = 0    tau = -1");
  std::printf("  one pass, rescaled   %10.3f %11.3f\n", one_pass(0), one_pass(-1));
  std::printf("  two passes           %10.3f %11.3f\n", two_passes(0), two_passes(-1));
  std::puts("");
  holds(grows, "the log-sum-exp of what was seen only grows");
  holds(std::abs(one_pass(0) - two_passes(0)) < 1e-12, "one pass is enough for softmax");
  holds(std::abs(one_pass(-1) - two_passes(-1)) > 0.01,
        "one pass is not enough for Elastic-Softmax");
}

// ---- One head of 384 rows, in tiles of 48 x 48, as lazy::tiled cuts it.

constexpr Index T = 384, D = 16, side = 48, blocks = T / side;

struct Head {
  std::vector<double> q, k, v, bias, tau{-1};
  AttentionShape shape{.queries = T, .keys = T, .head_dim = D, .window = T};

  AttentionInputs<double> inputs() const {
    return {q.data(), k.data(), v.data(), bias.data(), tau.data()};
  }
  double score(Index i, Index j) const {  // S = Q K^T / sqrt(D) + b[i - j]
    double s = 0;
    for (Index d = 0; d < D; ++d) s += q[i * D + d] * k[j * D + d];
    return s / std::sqrt(double(D)) + bias[i - j];
  }
};

// Scores of a standard deviation of 0.5, a bias that falls with the distance, a first key that lies
// `sink` above the others.
Head make_head(double slope, double sink) {
  Head h;
  Random random(8);
  for (auto* x : {&h.q, &h.k, &h.v})
    for (Index i = 0; i < T * D; ++i) x->push_back((2 * random.uniform() - 1) * std::sqrt(1.5));
  for (Index d = 0; d < T; ++d) h.bias.push_back(-slope * double(d));
  if (sink > 0) {  // component 0 of every query is 1, of the first key as large as it takes
    for (Index i = 0; i < T; ++i) h.q[i * D] = 1, h.k[i * D] = 0;
    h.k[0] = sink * std::sqrt(double(D));
  }
  return h;
}

enum class Order { outwards, inwards, first_tile_first };

std::vector<Index> tiles_in_order(Index block, Order order) {
  std::vector<Index> tiles;
  for (Index t = 0; t <= block; ++t) tiles.push_back(order == Order::inwards ? t : block - t);
  if (order == Order::first_tile_first) std::rotate(tiles.begin(), tiles.end() - 1, tiles.end());
  return tiles;
}

struct Marks {
  Index marked = 0, dead = 0, wrong = 0;
  std::vector<double> live_share;  // [blocks, blocks]
};

// Pass 1 marks a tile dead where no row can find a live entry in it; pass 2 looks.
Marks mark_tiles(const Head& h, Order order) {
  Marks marks;
  marks.live_share.assign(blocks * blocks, 0);
  for (Index block = 0; block < blocks; ++block) {
    std::vector<RunningSum> rows(side);
    std::vector<bool> marked(block + 1);
    const auto for_entries = [&](Index t, auto&& f) {
      for (Index r = 0; r < side; ++r)
        for (Index j = t * side; j < (t + 1) * side && j <= block * side + r; ++j)
          f(r, h.score(block * side + r, j), h.tau[0] / double(block * side + r + 1));
    };
    for (const Index t : tiles_in_order(block, order)) {
      for_entries(t, [&](Index r, double s, double) { rows[r].add(s); });
      bool may_live = false;  // P <= exp(S - lse so far), because lse only grows
      for_entries(t, [&](Index r, double s, double offset) {
        may_live |= std::exp(s - rows[r].lse()) + offset > 0;
      });
      marked[t] = !may_live;
    }
    for (Index t = 0; t <= block; ++t) {
      double live = 0, entries = 0;
      for_entries(t, [&](Index r, double s, double offset) {
        live += elastic(s, rows[r].lse(), offset) > 0;
        ++entries;
      });
      marks.live_share[block * blocks + t] = live / entries;
      marks.marked += marked[t], marks.dead += live == 0, marks.wrong += marked[t] && live > 0;
    }
  }
  return marks;
}

struct Call {
  tiled::TileCounts forward, backward;
  std::vector<double> numbers;  // out, lse and every gradient
};

Call call_tiled(const Head& h, bool skip) {
  Call c;
  c.numbers.assign(4 * T * D + T + T + 1, 0);
  double *out = c.numbers.data(), *lse = out + T * D, *dq = lse + T, *dk = dq + T * D;
  double *dv = dk + T * D, *dbias = dv + T * D;
  const AttentionRule rule;  // elastic
  tiled::attention_forward<double>(h.shape, rule, h.inputs(), {out, lse}, {skip, &c.forward});
  tiled::attention_backward<double>(h.shape, rule, h.inputs(), {out, lse}, h.v.data(),
                                    {dq, dk, dv, dbias, dbias + T}, {skip, &c.backward});
  return c;
}

struct Findings {
  bool no_live_tile_marked = true, same_bits = true, same_marks = true;
};

void show_marks(const char* name, const Head& h, Findings& found) {
  std::printf("  %-24s", name);
  for (const Order order : {Order::outwards, Order::inwards, Order::first_tile_first}) {
    const Marks m = mark_tiles(h, order);
    found.no_live_tile_marked = found.no_live_tile_marked && m.wrong == 0;
    if (order == Order::outwards) std::printf("%6td", m.dead);
    std::printf("%12td", m.marked);
  }
  std::puts("");
}

void show_work(const char* name, const Head& h, Findings& found) {
  const Call skipped = call_tiled(h, true), all = call_tiled(h, false);
  found.same_bits = found.same_bits && std::memcmp(skipped.numbers.data(), all.numbers.data(),
                                                   all.numbers.size() * sizeof(double)) == 0;
  const tiled::TileCounts &f = skipped.forward, &b = skipped.backward;
  found.same_marks =
      found.same_marks && f.tiles - f.live_tiles == mark_tiles(h, Order::outwards).marked;
  const double dead = 1 - double(f.live_entries) / double(f.entries);
  std::printf("  %-24s%8s %%%8td of %td%8td of %td%8td of %td\n", name,
              fixed(100 * dead, 1).c_str(), f.tiles - f.live_tiles, f.tiles, f.tiles + f.live_tiles,
              2 * f.tiles, 3 * b.tiles + 2 * b.live_tiles, 5 * b.tiles);
}

}  // namespace

int main(int argc, char** argv) {
  show_one_row();
  const std::pair<const char*, Head> heads[] = {{"scores without order", make_head(0, 0)},
                                                {"bias falls by 0.1 a key", make_head(0.1, 0)},
                                                {"the first key is a sink", make_head(0, 8)}};
  Findings found;
  std::printf(
      "\nHeads of %td rows in %td tiles of %td x %td, tau = -1. Dead, and marked in pass 1:\n\n", T,
      blocks * (blocks + 1) / 2, side, side);
  std::puts("                            dead    outwards     inwards  first tile");
  for (const auto& [name, head] : heads) show_marks(name, head, found);
  std::puts("\nWhat lazy::tiled, which walks outwards, makes of them:\n");
  std::puts("                          dead entries  dead tiles   products forward, backward");
  for (const auto& [name, head] : heads) show_work(name, head, found);
  std::puts("");
  holds(found.no_live_tile_marked, "no tile with a live entry is marked, in any order");
  holds(found.same_marks, "lazy::tiled marks the tiles that this program marks");
  holds(found.same_bits, "skipping them changes no bit of the output or of a gradient");

  const Head& local = heads[1].second;
  std::vector<Series> lines{{"outwards"}, {"inwards"}};
  for (const bool inwards : {false, true}) {
    RunningSum seen;
    for (Index j = 0; j < T; ++j) {
      seen.add(local.score(T - 1, inwards ? j : T - 1 - j));
      lines[inwards].x.push_back(double(j + 1));
      lines[inwards].y.push_back(seen.lse());
    }
  }
  write_picture(argc, argv, "running.svg",
                line_chart({.title = "The last row: log-sum-exp of the keys seen so far",
                            .x_label = "keys seen",
                            .y_label = "lse so far",
                            .marks = {{"final", lines[0].y.back()}}},
                           lines));
  write_picture(argc, argv, "tiles.svg",
                heat_map({.title = "Share of live entries in each tile of 48 x 48",
                          .x_label = "tile of keys",
                          .y_label = "block of rows",
                          .causal = true,
                          .square_cells = true,
                          .show_values = true},
                         blocks, blocks, mark_tiles(local, Order::outwards).live_share));
}
