#pragma once
// Random attention problems from a recipe, so that a failure is reproducible from one printed line,
// and the awkward shapes every implementation has to pass.

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "reference/attention_types.hpp"
#include "reference/random.hpp"

namespace lazy::test {

inline constexpr Normalizer all_normalizers[] = {
    Normalizer::softmax,  Normalizer::softmax1, Normalizer::sink,   Normalizer::sigmoid,
    Normalizer::entmax15, Normalizer::softpick, Normalizer::elastic};

inline std::string name(Normalizer rule) {
  const char* names[] = {"softmax",  "softmax1", "sink",   "sigmoid",
                         "entmax15", "softpick", "elastic"};
  return names[static_cast<int>(rule)];
}

/// Everything a problem is made from.
struct Recipe {
  AttentionShape shape;
  AttentionRule rule = {};
  std::vector<double> tau = {-1};   // repeated over the heads
  std::vector<Index> lengths = {};  // [B]; empty: every sequence has all keys
  double sharpness = 1;             // scores are about N(0, sharpness^4)
  std::uint64_t seed = 1;
  double bias_slope = 0;  // added to the bias for each token of distance
};

/// The recipe as the C++ that makes it again.
inline std::string describe(const Recipe& r) {
  std::ostringstream text;
  const auto list = [&](const auto& values) {
    text << "{";
    for (std::size_t i = 0; i < values.size(); ++i) text << (i ? ", " : "") << values[i];
    text << "}";
  };
  const AttentionShape& s = r.shape;
  text << "Recipe{{" << s.batch << ", " << s.queries << ", " << s.keys << ", " << s.heads << ", "
       << s.kv_heads << ", " << s.head_dim << ", " << s.window
       << "}, {Normalizer::" << name(r.rule.normalizer)
       << ", Divisor::" << (r.rule.divisor == Divisor::visible ? "visible" : "length") << "}, ";
  list(r.tau);
  text << ", ";
  list(r.lengths);
  text << ", " << r.sharpness << ", " << r.seed << "u, " << r.bias_slope << "}";
  return text.str();
}

/// One attention call with everything it reads.
template <class T>
struct Problem {
  Recipe recipe;
  AttentionShape shape;  // of the recipe
  AttentionRule rule;
  std::vector<T> q, k, v, bias, tau, sink, dout;
  std::vector<Index> lengths;  // [B], always present

  AttentionInputs<T> inputs() const {
    return {q.data(), k.data(), v.data(), bias.data(), tau.data(), sink.data(), lengths.data()};
  }
};

template <class T = double>
Problem<T> make_problem(const Recipe& recipe) {
  const AttentionShape& s = recipe.shape;
  Problem<T> p{recipe, s, recipe.rule, {}, {}, {}, {}, {}, {}, {}, recipe.lengths};
  Random random(recipe.seed);
  const auto normals = [&](Index count, double deviation) {
    std::vector<T> x(static_cast<std::size_t>(count));
    for (T& value : x) value = static_cast<T>(deviation * random.normal());
    return x;
  };
  p.q = normals(s.batch * s.queries * s.heads * s.head_dim, recipe.sharpness);
  p.k = normals(s.batch * s.keys * s.kv_heads * s.head_dim, recipe.sharpness);
  p.v = normals(s.batch * s.keys * s.kv_heads * s.head_dim, 1);
  p.bias = normals(s.heads * s.window, 0.7);
  for (Index i = 0; i < s.heads * s.window; ++i)
    p.bias[i] += T(recipe.bias_slope * double(i % s.window));
  p.sink = normals(s.heads, 1);
  p.dout = normals(s.batch * s.queries * s.heads * s.head_dim, 1);
  for (Index h = 0; h < s.heads; ++h)
    p.tau.push_back(static_cast<T>(recipe.tau[static_cast<std::size_t>(h) % recipe.tau.size()]));
  if (p.lengths.empty()) p.lengths.assign(static_cast<std::size_t>(s.batch), s.keys);
  return p;
}

/// `p` with every score moved by `shift`, up to the rounding of so large a score.
template <class T>
Problem<T> shifted_scores(Problem<T> p, double shift) {
  const Index D = p.shape.head_dim;
  const double component = std::sqrt(std::abs(shift) * std::sqrt(double(D)));
  for (std::size_t i = 0; i < p.q.size(); i += D) p.q[i] = T(std::copysign(component, shift));
  for (std::size_t i = 0; i < p.k.size(); i += D) p.k[i] = T(component);
  return p;
}

/// The same problem in another precision.
template <class U, class T>
Problem<U> converted(const Problem<T>& p) {
  const auto convert = [](const std::vector<T>& x) { return std::vector<U>(x.begin(), x.end()); };
  return {p.recipe,        p.shape,         p.rule,          convert(p.q),
          convert(p.k),    convert(p.v),    convert(p.bias), convert(p.tau),
          convert(p.sink), convert(p.dout), p.lengths};
}

/// Everything an implementation of attention answers.
template <class T>
struct Answer {
  std::vector<T> out, lse, weights;  // weights [B, H, Tq, Tk]
  std::vector<T> dq, dk, dv, dbias, dtau, dsink;

  AttentionOutputs<T> outputs() { return {out.data(), lse.data()}; }
  AttentionGrads<T> grads() {
    return {dq.data(), dk.data(), dv.data(), dbias.data(), dtau.data(), dsink.data()};
  }
};

template <class T>
struct AnswerTensor {
  const char* name;
  std::vector<T> Answer<T>::*values;
};

template <class T>
inline constexpr AnswerTensor<T> value_tensors[] = {
    {"out", &Answer<T>::out}, {"lse", &Answer<T>::lse}, {"weights", &Answer<T>::weights}};

template <class T>
inline constexpr AnswerTensor<T> gradient_tensors[] = {
    {"dq", &Answer<T>::dq},       {"dk", &Answer<T>::dk},     {"dv", &Answer<T>::dv},
    {"dbias", &Answer<T>::dbias}, {"dtau", &Answer<T>::dtau}, {"dsink", &Answer<T>::dsink}};

/// Outputs full of NaN, so that what was never written cannot pass; gradients zero.
template <class T>
Answer<T> blank_answer(const Problem<T>& p) {
  const AttentionShape& s = p.shape;
  const auto rows = static_cast<std::size_t>(s.batch * s.heads * s.queries);
  const auto poisoned = [](std::size_t n) {
    return std::vector<T>(n, std::numeric_limits<T>::quiet_NaN());
  };
  const auto zeros = [](const std::vector<T>& like) { return std::vector<T>(like.size(), T(0)); };
  return {poisoned(p.q.size()), poisoned(rows), poisoned(rows * static_cast<std::size_t>(s.keys)),
          zeros(p.q),           zeros(p.k),     zeros(p.v),
          zeros(p.bias),        zeros(p.tau),   zeros(p.sink)};
}

/// Flat index of row (b, t, head) in a [B, T, heads, D] tensor.
inline std::size_t row_offset(Index b, Index t, Index head, Index rows, Index heads, Index dim) {
  return static_cast<std::size_t>(((b * rows + t) * heads + head) * dim);
}

/// Flat index of query row (b, t, h), component 0, in q, out and dout.
inline std::size_t query_offset(const AttentionShape& s, Index b, Index t, Index h) {
  return row_offset(b, t, h, s.queries, s.heads, s.head_dim);
}

/// Flat index of key (b, j, kv head), component 0, in k and v.
inline std::size_t key_offset(const AttentionShape& s, Index b, Index j, Index kv_head) {
  return row_offset(b, j, kv_head, s.keys, s.kv_heads, s.head_dim);
}

/// Flat index of the first weight of row (b, h, t).
inline std::size_t weight_offset(const AttentionShape& s, Index b, Index h, Index t) {
  return static_cast<std::size_t>(((b * s.heads + h) * s.queries + t) * s.keys);
}

/// Every awkward length with every kind of window; head sizes, groups, tau, lengths and rules take
/// turns. Elastic every time, a sibling beside it.
inline std::vector<Recipe> awkward_recipes() {
  std::vector<Recipe> recipes;
  std::size_t turn = 0;
  for (const Index T : {1, 2, 3, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 257})
    for (const Index W : {Index{0}, Index{1}, T - 1, T, T + 1, Index{512}}) {
      const Index D[] = {8, 16, 32, 64, 128}, kv_heads[] = {1, 2, 4};
      const double tau[] = {-5, -1, -0.1, 0, 0.5};
      const Index queries[] = {T, T, 1, (T + 1) / 2};
      const std::vector<Index> lengths[] = {{T, T}, {1, T}, {T / 2, 0}, {T, T - 1}, {}};
      Recipe r;
      r.shape = {2, queries[turn % 4], T, 4, kv_heads[turn % 3], D[turn % 5], W};
      r.tau = {tau[turn % 5], tau[(turn / 2 + 1) % 5], -0.4};
      r.lengths = lengths[(turn / 3) % 5];
      r.seed = 1000 + turn;
      recipes.push_back(r);
      r.rule.normalizer = all_normalizers[turn % 6];
      recipes.push_back(r);
      ++turn;
    }
  return recipes;
}

/// Few queries and many, around the edges of tiles of 48, and head sizes of no whole vectors.
inline std::vector<Recipe> tile_edge_recipes() {
  std::vector<Recipe> recipes;
  std::size_t turn = 0;
  for (const Index Tq : {1, 4, 5, 47, 48, 49})
    for (const Index Tk : {Tq, Tq + 1, Index{96}, Index{145}}) {
      const Index D[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 40, 100};
      const Index W[] = {0, 1, Tk, 500}, kv_heads[] = {1, 2, 4};
      const std::vector<Index> lengths[] = {{Tk, Tk}, {Tk / 2, 0}, {1, Tk}, {Tk - 1, Tk}, {}};
      Recipe r;
      r.shape = {2, Tq, Tk, 4, kv_heads[turn % 3], D[turn % 20], W[turn / 2 % 4]};
      r.tau = {-1, -0.1, -3, 0.5};
      r.lengths = lengths[turn % 5];
      r.seed = 2000 + turn;
      recipes.push_back(r);
      const AttentionRule others[] = {{Normalizer::softmax, Divisor::visible},
                                      {Normalizer::elastic, Divisor::length},
                                      {Normalizer::softmax1, Divisor::visible},
                                      {Normalizer::sink, Divisor::visible}};
      r.rule = others[turn / 3 % 4];
      recipes.push_back(r);
      ++turn;
    }
  return recipes;
}

/// T = 1 .. 130, small everything else.
inline std::vector<Recipe> recipes_of_every_length() {
  std::vector<Recipe> recipes;
  for (Index T = 1; T <= 130; ++T)
    recipes.push_back({{1, T, T, 2, 1, 3, T / 3}, {}, {-1, -0.4}, {}, 1.3, std::uint64_t(T)});
  return recipes;
}

/// A small problem drawn at random: shape, rule, tau, lengths, sharpness. `largest` bounds T.
inline Recipe random_recipe(std::uint64_t seed, Index largest, Index largest_dim) {
  Random random(seed);
  const auto between = [&](Index low, Index high) { return low + random.below(high - low + 1); };
  Recipe r;
  r.seed = seed;
  const Index T = between(1, largest), group = between(1, 3), kv_heads = between(1, 2);
  r.shape = {between(1, 3),
             random.below(2) ? T : between(1, T),
             T,
             group * kv_heads,
             kv_heads,
             between(1, largest_dim),
             between(0, T + 2)};
  r.rule.normalizer = random.below(2) ? Normalizer::elastic : all_normalizers[random.below(7)];
  r.rule.divisor = random.below(4) ? Divisor::visible : Divisor::length;
  r.tau.clear();
  for (Index h = 0; h < r.shape.heads; ++h) {
    const double usual[] = {-5, -1, -0.1, 0, 0.5};
    r.tau.push_back(random.below(2) ? usual[random.below(5)] : random.uniform() * 2.5 - 1.5);
  }
  if (random.below(2))
    for (Index b = 0; b < r.shape.batch; ++b) r.lengths.push_back(between(0, T));
  r.sharpness = 0.3 + 1.5 * random.uniform();
  return r;
}

}  // namespace lazy::test
