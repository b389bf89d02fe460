// What every rung of the ladder promises beside its numbers: the same bytes in any order of
// threads and with dead tiles skipped or not, no look into the future, NaN where the oracle has
// NaN, gradients that add.

#include "tests/kernel_answers.hpp"
#include "tests/plain_16bit.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const float nan_value = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();

// Sharp scores whose bias falls with the distance: most tiles far from the diagonal are dead.
Problem<float> local_problem(Index T) {
  auto p = make_problem<float>({{1, T, T, 2, 1, 32, T}, {}, {-1, -0.5}});
  for (Index h = 0; h < 2; ++h)
    for (Index d = 0; d < T; ++d) p.bias[h * T + d] = -0.15f * float(d);
  return p;
}

template <class F>
void for_each_tiled_kernel(F&& f) {
  for_each_kernel([&](const KernelRun& how) {
    LazySizes sizes;
    const LazyAttention a = kernel_call(local_problem(1), how);
    must(lazy_attention_sizes(&a, &sizes));
    if (sizes.live_tiles > 0) f(how);
  });
}

bool is_live(const KernelAnswer& k, const AttentionShape& s, Index b, Index h, Index row_tile,
             Index key_tile) {
  const auto word = ((b * s.heads + h) * k.sizes.row_tiles + row_tile) * k.sizes.words;
  return k.live_tiles[word + key_tile / 32] >> key_tile % 32 & 1;
}

}  // namespace

TEST_CASE("two runs of a rung in different orders of threads give the same bytes", "[kernels]") {
  const auto p = make_problem<float>({{2, 67, 67, 4, 2, 32, 40}, {}, {-1, 0.5, -0.2}, {67, 30}});
  for_each_kernel([&](KernelRun how) {
    const auto once = kernel_attention(p, how);
    how.seed = 2;
    const auto again = kernel_attention(p, how);
    check_same_bytes(once.answer, again.answer);
    CHECK(once.live_tiles == again.live_tiles);
  });
}

TEST_CASE("dead tiles are skipped, and no bit tells", "[kernels]") {
  const auto p = local_problem(160);
  for_each_tiled_kernel([&](KernelRun how) {
    const auto skipped = kernel_attention(p, how);
    how.compute_dead_tiles = true;
    const auto computed = kernel_attention(p, how);
    check_same_bytes(skipped.answer, computed.answer);
    CHECK(skipped.live_tiles == computed.live_tiles);
    CHECK(skipped.forward.exponentials < computed.forward.exponentials);
    const auto work = [](const emulated::Counters& c) { return double(c.mma ? c.mma : c.fused); };
    CHECK(work(skipped.forward) < 0.9 * work(computed.forward));
    CHECK(work(skipped.backward) < 0.9 * work(computed.backward));
  });
}

TEST_CASE("the bits of live tiles say where the weights are", "[kernels]") {
  const auto p = local_problem(160);
  for_each_tiled_kernel([&](const KernelRun& how) {
    const auto k = kernel_attention(p, how);
    const AttentionShape& s = p.shape;
    std::vector<bool> live(k.live_tiles.size() * 32, false);
    Index dead = 0, wrong = 0;
    const auto at = [&](Index b, Index h, Index row_tile, Index key_tile) {
      return (((b * s.heads + h) * k.sizes.row_tiles + row_tile) * k.sizes.words) * 32 + key_tile;
    };
    for_each_row(s, [&](Index b, Index h, Index t) {
      for (Index j = 0; j < s.keys; ++j)
        if (k.answer.weights[weight_offset(s, b, h, t) + j] != 0)
          live[at(b, h, t / k.sizes.tile_rows, j / k.sizes.tile_keys)] = true;
    });
    for (Index h = 0; h < s.heads; ++h)
      for (Index r = 0; r < k.sizes.row_tiles; ++r)
        for (Index c = 0; c < k.sizes.words * 32; ++c) {
          wrong += is_live(k, s, 0, h, r, c) != live[at(0, h, r, c)];
          dead += c * k.sizes.tile_keys <= r * k.sizes.tile_rows && !live[at(0, h, r, c)];
        }
    CHECK(wrong == 0);
    CHECK(dead > 0);
  });
}

TEST_CASE("the first row at tau = -1 is exactly dead, in every rung", "[kernels]") {
  auto p = make_problem<float>({{16, 5, 5, 2, 1, 32, 3}, {}, {-1}});
  for (Index h = 0; h < 2; ++h)  // only the first rows have a loss
    for (Index b = 0; b < 16; ++b)
      for (Index t = 1; t < 5; ++t)
        std::fill_n(p.dout.begin() + query_offset(p.shape, b, t, h), 32, 0.f);
  for_each_kernel([&](const KernelRun& how) {
    const auto k = kernel_attention(p, how).answer;
    for (Index b = 0; b < 16; ++b)
      for (Index h = 0; h < 2; ++h)
        for (Index d = 0; d < 32; ++d) CHECK(k.out[query_offset(p.shape, b, 0, h) + d] == 0);
    for (const auto& tensor : gradient_tensors<float>)
      for (const float x : k.*tensor.values) CHECK(x == 0);
  });
}

TEST_CASE("an entry too small for the format is live still", "[kernels]") {
  // Off the diagonal the weights are about 1e-9. At tau > 0 all entries are live, and dtau counts
  // them: the mean of dO_i.V_j over the keys of each row.
  auto p = make_problem<float>({{1, 40, 40, 1, 1, 32, 40}, {}, {1e-9}, {}, 0.01});
  std::fill(p.bias.begin() + 1, p.bias.end(), -30.f);
  double dtau = 0, magnitude = 0;
  for (Index i = 0; i < 40; ++i)
    for (Index j = 0; j <= i; ++j)
      for (Index d = 0; d < 32; ++d) {
        const double term = double(p.dout[i * 32 + d]) * p.v[j * 32 + d] / double(i + 1);
        dtau += term;
        magnitude += std::abs(term);
      }
  for_each_kernel([&](const KernelRun& how) {
    const double got = kernel_attention(p, how).answer.dtau[0];
    CHECK(std::abs(got - dtau) <= 1e-3 * magnitude);
  });
}

namespace {

// Entries of `x` that are not finite, outside rows of one tensor [B, T, heads, D] for which
// `may(t, h)` holds.
template <class May>
void check_finite_but(const char* tensor, const std::vector<float>& x, Index heads, Index D,
                      May may) {
  INFO(tensor);
  Index wrong = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Index row = Index(i) / D;
    wrong += !std::isfinite(x[i]) && !may(row / heads, row % heads);
  }
  CHECK(wrong == 0);
}

}  // namespace

// Tensor cores multiply what they are given, and 0 times NaN is NaN: docs/kernels.md, "What is not
// finite".
TEST_CASE("in v2 a value or output gradient that is none stays within its tile", "[kernels]") {
  const Index T = 160, D = 32, bad = 70;
  const auto p = local_problem(T);
  for (const LazyType type : {LAZY_BFLOAT16, LAZY_FLOAT16}) {
    const KernelRun how{.rung = "v2", .type = type};
    const auto clean = kernel_attention(p, how);
    const auto shares_live_tile = [&](Index row, Index key, Index h) {
      return is_live(clean, p.shape, 0, h, row / clean.sizes.tile_rows,
                     key / clean.sizes.tile_keys);
    };
    auto in_v = p;
    in_v.v[key_offset(p.shape, 0, bad, 0)] = nan_value;
    const auto v = kernel_attention(in_v, how).answer;
    const auto tile_of_key = [&](Index t, Index h) { return shares_live_tile(t, bad, h); };
    check_finite_but("out", v.out, 2, D, tile_of_key);
    check_finite_but("dq", v.dq, 2, D, tile_of_key);
    CHECK(same_bytes(v.lse, clean.answer.lse));
    CHECK(same_bytes(v.dv, clean.answer.dv));  // dV does not depend on V
    for (Index h = 0; h < 2; ++h) {            // and who attends to it has NaN
      const float weight = clean.answer.weights[weight_offset(p.shape, 0, h, bad) + bad];
      CHECK(weight != 0);
      CHECK(std::isnan(v.out[query_offset(p.shape, 0, bad, h)]));
    }
    auto in_dout = p;
    in_dout.dout[query_offset(p.shape, 0, bad, 1)] = nan_value;
    const auto g = kernel_attention(in_dout, how).answer;
    CHECK(same_bytes(g.out, clean.answer.out));
    check_finite_but("dq", g.dq, 2, D, [&](Index t, Index h) { return t == bad && h == 1; });
    check_finite_but("dv", g.dv, 1, D, [&](Index j, Index) { return shares_live_tile(bad, j, 1); });
  }
}

TEST_CASE("a future token changes no bit of an earlier row, in any rung", "[kernels]") {
  for_each_kernel([&](const KernelRun& how) {
    for (const float replacement : {3.f, nan_value, infinity}) {
      if (how.type != LAZY_FLOAT32 && replacement != 3.f)
        continue;  // 0 times NaN: see the case above
      for (const Index cut : {1, 20, 66}) {
        INFO("tokens from " << cut << " on become " << replacement);
        const auto p = make_problem<float>({{1, 70, 70, 2, 1, 32, 30}, {}, {-1, 0.5}});
        auto changed = p;
        for (auto* x : {&changed.q, &changed.k, &changed.v}) {
          const std::size_t row = x->size() / 70;
          std::fill(x->begin() + cut * row, x->end(), replacement);
        }
        const auto a = kernel_attention(p, how).answer;
        const auto c = kernel_attention(changed, how).answer;
        const std::size_t end = query_offset(p.shape, 0, cut, 0);
        CHECK(std::memcmp(a.out.data(), c.out.data(), end * sizeof(float)) == 0);
        for (Index h = 0; h < 2; ++h)
          CHECK(std::memcmp(&a.lse[h * 70], &c.lse[h * 70], cut * sizeof(float)) == 0);
      }
    }
  });
}

namespace {

// In every tensor: NaN and infinities where the oracle in float has them, and nowhere else.
void check_same_poison(const Rung& rung, const Problem<float>& p) {
  const auto got = kernel_attention(p, {.rung = rung.name}).answer;
  const auto expected = oracle_attention(p);
  const auto check = [&](const AnswerTensor<float>& tensor) {
    const auto &x = got.*tensor.values, &y = expected.*tensor.values;
    INFO(rung.name << ": " << tensor.name);
    REQUIRE(x.size() == y.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      INFO("entry " << i << ": " << x[i] << " instead of " << y[i]);
      if (std::isnan(x[i]) != std::isnan(y[i]) || std::isinf(x[i]) != std::isinf(y[i]))
        FAIL("poison where it does not belong, or none where it does");
    }
  };
  for (const auto& tensor : value_tensors<float>) check(tensor);
  for (const auto& tensor : gradient_tensors<float>) check(tensor);
}

}  // namespace

TEST_CASE("a number that is none reaches what it reaches in the oracle", "[kernels]") {
  const auto p = make_problem<float>({{2, 9, 9, 4, 2, 4, 5}, {}, {-1, 0.5, -0.3}, {9, 7}, 0.5});
  const auto poisoned = [&](std::vector<float> Problem<float>::*tensor, std::size_t i, float x) {
    auto q = p;
    (q.*tensor)[i] = x;
    return q;
  };
  for_each_rung(LAZY_FLOAT32, [&](const Rung& rung) {
    for (const float x : {nan_value, infinity, -infinity}) {
      const std::size_t query = query_offset(p.shape, 0, 4, 2), key = key_offset(p.shape, 0, 2, 1);
      INFO(x);
      check_same_poison(rung, poisoned(&Problem<float>::v, key + 1, x));
      check_same_poison(rung, poisoned(&Problem<float>::dout, query + 1, x));
      check_same_poison(rung, poisoned(&Problem<float>::bias, 1 * 5 + 2, x));
    }
    check_same_poison(rung,
                      poisoned(&Problem<float>::q, query_offset(p.shape, 0, 4, 2), nan_value));
    check_same_poison(rung, poisoned(&Problem<float>::k, key_offset(p.shape, 1, 3, 1), nan_value));
    check_same_poison(rung, poisoned(&Problem<float>::tau, 3, nan_value));
  });
}

TEST_CASE("what lies beyond a sequence's length is not read", "[kernels]") {
  const auto p = make_problem<float>({{2, 40, 40, 2, 1, 32, 9}, {}, {-1, 0.5}, {33, 7}});
  auto garbage = p;
  for (Index b = 0; b < 2; ++b)
    for (Index t = p.lengths[b]; t < 40; ++t) {
      std::fill_n(garbage.q.begin() + query_offset(p.shape, b, t, 0), 64, nan_value);
      std::fill_n(garbage.dout.begin() + query_offset(p.shape, b, t, 0), 64, nan_value);
      std::fill_n(garbage.k.begin() + key_offset(p.shape, b, t, 0), 32, nan_value);
      std::fill_n(garbage.v.begin() + key_offset(p.shape, b, t, 0), 32, nan_value);
    }
  for_each_kernel([&](const KernelRun& how) {
    check_same_bytes(kernel_attention(garbage, how).answer, kernel_attention(p, how).answer);
  });
}

TEST_CASE("gradients are added to what is there, in every rung", "[kernels]") {
  auto p = make_problem<float>({{1, 40, 40, 2, 1, 32, 12}, {}, {-1, 0.5}});
  for (auto* x : {&p.q, &p.k, &p.v, &p.dout}) *x = rounded_to<BFloat16>(*x);
  for_each_kernel([&](KernelRun how) {
    how.backward_runs = 2;
    auto twice = kernel_attention(p, how).answer;
    for (const auto& tensor : gradient_tensors<float>)
      for (float& x : twice.*tensor.values) x /= 2;
    if (how.type == LAZY_FLOAT32) check_low_precision(p, twice);
    if (how.type == LAZY_BFLOAT16) check_16bit<BFloat16>(p, twice);
    if (how.type == LAZY_FLOAT16) check_16bit<Float16>(p, twice);
  });
}
