#include "apps/bench_case.hpp"

#include <algorithm>
#include <cmath>

#include "reference/random.hpp"

namespace lazy {
namespace {

BenchCase make_case(const std::string& name, Index B, Index T, Index H, Index D, bool local) {
  return {name,
          {.batch = B,
           .queries = T,
           .keys = T,
           .heads = H,
           .kv_heads = H,
           .head_dim = D,
           .window = std::min<Index>(512, T)},
          local};
}

}  // namespace

std::vector<BenchCase> bench_cases(bool quick) {
  if (quick)
    return {make_case("dense", 2, 96, 2, 16, false), make_case("local", 1, 448, 2, 16, true)};
  return {make_case("T4096", 1, 4096, 8, 64, false), make_case("T1024", 1, 1024, 8, 64, false),
          make_case("T256", 4, 256, 8, 64, false), make_case("local", 1, 4096, 8, 64, true)};
}

std::string describe(const BenchCase& c) {
  const AttentionShape& s = c.shape;
  return "B " + std::to_string(s.batch) + ", T " + std::to_string(s.keys) + ", H " +
         std::to_string(s.heads) + ", D " + std::to_string(s.head_dim) + ", W " +
         std::to_string(s.window) + (c.local ? ", local" : ", dense");
}

BenchCase dense(BenchCase bench_case) {
  bench_case.local = false;
  return bench_case;
}

BenchProblem<float> make_bench_problem(const BenchCase& c) {
  const AttentionShape& s = c.shape;
  Random random(1);
  const auto normals = [&](Index count, double deviation) {
    CpuBackend::Buffer<float> x(count);
    for (float& value : x) value = float(deviation * random.normal());
    return x;
  };
  const Index size = s.batch * s.keys * s.heads * s.head_dim;
  BenchProblem<float> p;
  p.q = normals(size, c.local ? 0.5 : 1);
  p.k = normals(size, 1);
  p.v = normals(size, 1);
  p.dout = normals(size, 1);
  p.bias = normals(s.heads * s.window, 0.5);
  for (Index h = 0; c.local && h < s.heads; ++h)
    for (Index d = 0; d < s.window; ++d)
      p.bias[h * s.window + d] = float(8 * std::exp(-double(d) / 64));
  p.tau.assign(s.heads, -1.f);
  return p;
}

double product_flop(const AttentionShape& s) {
  const double entries = double(s.keys) * double(s.keys + 1) / 2;
  return 2 * double(s.head_dim) * entries * double(s.batch * s.heads);
}

}  // namespace lazy
