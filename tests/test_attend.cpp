// `lazy attend` gives the right answers: golden files and a second opinion, through the built tool.

#include "tests/attend_tool.hpp"
#include "tests/plain_16bit.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

std::vector<double> doubles(const TensorFile& file, const std::string& name) {
  return floats_as<double>(name, file.tensors.at(name));
}

double largest_finite(const std::vector<double>& values) {
  double largest = 0;
  for (const double x : values)
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  return largest;
}

void check_tensor(const TensorFile& got, const std::string& name, const TensorFile& expected,
                  const std::string& expected_name) {
  REQUIRE(got.tensors.count(name) == 1);
  CHECK(got.tensors.at(name).dtype == "F64");
  CHECK(got.tensors.at(name).shape == expected.tensors.at(expected_name).shape);
  const Comparison c = compare(doubles(got, name), doubles(expected, expected_name));
  INFO(name << ": " << c.where << ", error " << c.error);
  CHECK(within(c, score_budget(largest_finite(doubles(expected, "lse")))));
}

std::vector<std::string> names_of(const TensorFile& file) {
  std::vector<std::string> names;
  for (const auto& entry : file.tensors) names.push_back(entry.first);
  return names;
}

const std::vector<std::string> answers = {"d_bias", "d_k", "d_q", "d_tau",
                                          "d_v",    "lse", "out", "weights"};

Recipe small_recipe() {
  return {{2, 9, 9, 4, 2, 6, 5}, {}, {-1, 0.5, -0.3}, {9, 6}, 1, 7};
}

// Pairs (m, m + D/2) of one position's heads [heads, D] turned by position * base^(-2m/D).
void turn(double* x, Index heads, Index D, double position, double base) {
  for (Index h = 0; h < heads; ++h)
    for (Index m = 0; m < D / 2; ++m) {
      const double angle = position * std::pow(base, -2.0 * double(m) / double(D));
      double &a = x[h * D + m], &b = x[h * D + m + D / 2];
      const double turned = a * std::cos(angle) - b * std::sin(angle);
      b = a * std::sin(angle) + b * std::cos(angle);
      a = turned;
    }
}

// Every row of q and k, or of their gradients, turned forward (sign 1) or back (sign -1).
void turn_all(const Problem<double>& p, std::vector<double>& q, std::vector<double>& k, double base,
              double sign) {
  const AttentionShape& s = p.shape;
  for (Index b = 0; b < s.batch; ++b) {
    for (Index t = 0; t < s.queries; ++t)
      turn(q.data() + query_offset(s, b, t, 0), s.heads, s.head_dim,
           sign * double(p.lengths[b] - s.queries + t), base);
    for (Index j = 0; j < s.keys; ++j)
      turn(k.data() + key_offset(s, b, j, 0), s.kv_heads, s.head_dim, sign * double(j), base);
  }
}

}  // namespace

TEST_CASE("lazy attend answers every golden file", "[attend]") {
  REQUIRE(golden_files().size() == 12);
  for (const auto& path : golden_files()) {
    INFO(path.filename());
    const TensorFile golden = read_safetensors(path);
    const TensorFile got = answered(golden, {"--weights"});
    CHECK(names_of(got) == answers);
    for (const std::string& name : answers)
      if (golden.tensors.count(name)) check_tensor(got, name, golden, name);
  }
}

TEST_CASE("lazy attend in float32 errs no more than twice the plain float loop", "[attend]") {
  for (const auto& path : golden_files()) {
    INFO(path.filename());
    const TensorFile golden = read_safetensors(path);
    const TensorFile got = answered(golden, {"--weights", "--precision", "float32"});
    CHECK(names_of(got) == answers);
    for (const auto& entry : got.tensors) CHECK(entry.second.dtype == "F32");
    const auto problem = problem_of<float>(golden);
    check_low_precision(problem, answer_of(problem, got));
  }
}

TEST_CASE("attend --rope-base rotates q and k, and gradients refer to the unrotated ones",
          "[attend]") {
  const TensorFile golden =
      read_safetensors(std::filesystem::path(GOLDEN_DIR) / "rope.safetensors");
  TensorFile file = golden;
  file.tensors["q"] = golden.tensors.at("q_raw");
  file.tensors["k"] = golden.tensors.at("k_raw");
  const std::string base = std::to_string(doubles(golden, "rope_base")[0]);
  const TensorFile got = answered(file, {"--weights", "--rope-base", base});
  for (const std::string& name : answers) {
    const bool turned = name == "d_q" || name == "d_k";
    check_tensor(got, name, golden, turned ? name + "_raw" : name);
  }
}

TEST_CASE("attend --rope-base puts queries at the last positions of each sequence", "[attend]") {
  auto p = make_problem({{3, 4, 11, 4, 2, 6, 5}, {}, {-1, 0.5}, {11, 6, 2}});
  const TensorFile got = answered(file_of(p), {"--weights", "--rope-base", "100"});
  turn_all(p, p.q, p.k, 100, 1);
  Answer<double> expected = scalar_attention(p);
  turn_all(p, expected.dq, expected.dk, 100, -1);
  check_same(answer_of(p, got), expected, float64_budget);
}

TEST_CASE("lazy attend agrees with scalar loops for every rule and divisor", "[attend]") {
  for (const Normalizer rule : all_normalizers)
    for (const bool by_length : {false, true}) {
      if (by_length && rule != Normalizer::elastic) continue;
      Recipe recipe = small_recipe();
      recipe.rule = {rule, by_length ? Divisor::length : Divisor::visible};
      INFO(describe(recipe));
      const auto p = make_problem(recipe);
      const TensorFile got = answered(file_of(p), {"--weights", "--normalizer", name(rule),
                                                   "--divisor", by_length ? "length" : "visible"});
      check_same(answer_of(p, got), scalar_attention(p), float64_budget);
      CHECK(got.tensors.count("d_tau") == (rule == Normalizer::elastic));
      CHECK(got.tensors.count("d_sink") == (rule == Normalizer::sink));
      CHECK(got.metadata.at("normalizer") == name(rule));
    }
}

TEST_CASE("F32 and F64 tensors may be mixed", "[attend]") {
  const auto floats = make_problem<float>(small_recipe());
  TensorFile mixed = file_of(converted<double>(floats));
  const TensorFile all_float = file_of(floats);
  for (const char* name : {"q", "v", "tau"}) mixed.tensors[name] = all_float.tensors.at(name);
  const auto expected = answered(file_of(converted<double>(floats)), {"--weights"});
  const auto got = answered(mixed, {"--weights"});
  for (const std::string& name : answers)
    CHECK(got.tensors.at(name).data == expected.tensors.at(name).data);
}

TEST_CASE("lengths may be left out, and so may d_out", "[attend]") {
  Recipe recipe = small_recipe();
  recipe.lengths = {};
  const auto p = make_problem(recipe);
  TensorFile file = file_of(p);
  file.tensors.erase("lengths");
  check_same(answer_of(p, answered(file, {"--weights"})), scalar_attention(p), float64_budget);
  file.tensors.erase("d_out");
  CHECK(names_of(answered(file)) == std::vector<std::string>{"lse", "out"});
  CHECK(names_of(answered(file, {"--weights"})) ==
        std::vector<std::string>{"lse", "out", "weights"});
}

TEST_CASE("OUT says how it was made, and the same call gives the same bytes", "[attend]") {
  const TemporaryFolder folder;
  const auto in = folder.path / "in", out = folder.path / "out";
  write_safetensors(in, file_of(make_problem(small_recipe())));
  const Flags flags{"--weights", "--rope-base", "500", "--implementation", "oracle"};
  REQUIRE(lazy_attend(in, out, flags).exit_code == 0);
  const auto metadata = read_safetensors(out).metadata;
  CHECK(metadata.at("implementation") == "oracle");
  CHECK(metadata.at("precision") == "float64");
  CHECK(metadata.at("divisor") == "visible");
  CHECK(metadata.at("rope_base") == "500");
  CHECK(mentions(metadata.at("version"), "lazy "));
  CHECK(metadata.at("device") == "cpu");
  CHECK(metadata.size() == 7);

  for (const char* threads : {"1", "2", "5"}) {
    const auto again = folder.path / "again";
    std::vector<std::string> command{
        "env", std::string("OMP_NUM_THREADS=") + threads, LAZY_TOOL, "attend", in, again};
    command.insert(command.end(), flags.begin(), flags.end());
    REQUIRE(run(command).exit_code == 0);
    CHECK(text_of(again) == text_of(out));
  }
}

TEST_CASE("OUT is replaced if it was there", "[attend]") {
  const TemporaryFolder folder;
  const auto in = folder.path / "in", out = folder.path / "out";
  write_safetensors(in, file_of(make_problem(small_recipe())));
  std::ofstream(out) << "an older result";
  REQUIRE(lazy_attend(in, out).exit_code == 0);
  CHECK(names_of(read_safetensors(out)).size() == answers.size() - 1);
}

TEST_CASE("lazy attend takes sizes of zero where they have a meaning", "[attend]") {
  const auto sizes = {AttentionShape{0, 3, 5, 2, 1, 4, 2}, AttentionShape{2, 0, 5, 2, 1, 4, 2},
                      AttentionShape{2, 0, 0, 2, 1, 4, 2}, AttentionShape{2, 3, 5, 2, 1, 4, 0}};
  for (const AttentionShape& shape : sizes) {
    const auto p = make_problem({shape, {}});
    INFO(describe(p.recipe));
    const TensorFile got = answered(file_of(p), {"--weights", "--rope-base", "10000"});
    CHECK(names_of(got) == answers);
    CHECK(got.tensors.at("weights").shape ==
          std::vector<Index>{shape.batch, shape.heads, shape.queries, shape.keys});
    if (shape.batch == 0 || shape.queries == 0)
      for (const double x : doubles(got, "d_k")) CHECK(x == 0);
  }
  const auto empty_rows = make_problem({{2, 3, 5, 2, 1, 4, 2}, {}, {-1}, {0, 1}});
  check_same(answer_of(empty_rows, answered(file_of(empty_rows), {"--weights"})),
             scalar_attention(empty_rows), float64_budget);
}

TEST_CASE("NaN poisons the rows that see it and no others", "[attend]") {
  auto p = make_problem({{1, 5, 5, 2, 1, 4, 2}, {}});
  const auto clean = answer_of(p, answered(file_of(p), {"--weights"}));
  p.k[key_offset(p.shape, 0, 3, 0)] = std::nan("");
  const auto got = answer_of(p, answered(file_of(p), {"--weights"}));
  for (Index t = 0; t < 5; ++t)
    for (Index i = 0; i < 8; ++i) {
      const std::size_t at = query_offset(p.shape, 0, t, 0) + i;
      if (t < 3) CHECK(got.out[at] == clean.out[at]);
      if (t >= 3) CHECK(std::isnan(got.out[at]));
    }
}

TEST_CASE("attend runs the CUDA kernels, emulated, by rung", "[attend][kernels]") {
  const auto golden = std::filesystem::path(GOLDEN_DIR) / "padded_lengths.safetensors";
  const TensorFile file = read_safetensors(golden);
  const auto problem = problem_of<float>(file);
  const auto check = [&](const Flags& rung, const std::string& name) {
    Flags flags{"--weights", "--device", "emulated"};
    flags.insert(flags.end(), rung.begin(), rung.end());
    const TensorFile got = answered(file, flags);
    CHECK(names_of(got) == answers);
    CHECK(got.metadata.at("implementation") == name);
    CHECK(got.metadata.at("device") == "emulated");
    CHECK(got.metadata.at("precision") == "float32");
    check_low_precision(problem, answer_of(problem, got));
  };
  check({"--rung", "v0"}, "v0");
  check({}, "v1");
}

TEST_CASE("attend computes in 16-bit formats and answers in F32", "[attend][kernels]") {
  const auto check = [](const std::string& format, auto number) {
    using Format = decltype(number);
    const auto problem = rounded_problem<Format>({{2, 40, 40, 4, 2, 32, 12}, {}, {-1, 0.3}});
    const TensorFile got =
        answered(file_of(problem), {"--weights", "--device", "emulated", "--precision", format});
    CHECK(names_of(got) == answers);
    for (const auto& entry : got.tensors) CHECK(entry.second.dtype == "F32");
    CHECK(got.metadata.at("implementation") == "v2");
    CHECK(got.metadata.at("precision") == format);
    check_16bit<Format>(problem, answer_of(problem, got));
  };
  check("bfloat16", BFloat16());
  check("float16", Float16());
}
