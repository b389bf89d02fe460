// `lazy attend` refuses what is wrong: exit 2, one line on stderr, no file left behind.

#include <functional>

#include "tests/attend_tool.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

namespace fs = std::filesystem;

TensorFile small_file() {
  return file_of(make_problem({{2, 3, 5, 4, 2, 6, 3}, {}, {-1}, {5, 4}}));
}

void check_refused(const Outcome& outcome, const std::vector<std::string>& parts) {
  INFO("stderr: " << outcome.err);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.starts_with("lazy attend: "));
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  CHECK(outcome.err.ends_with("\n"));
  for (const std::string& part : parts) {
    INFO("expected: " << part);
    CHECK(mentions(outcome.err, part));
  }
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Refused without OUT, and refused with an older OUT, which stays as it was.
void check_file_refused(const TensorFile& file, const Flags& flags,
                        const std::vector<std::string>& parts) {
  const TemporaryFolder folder;
  const fs::path in = folder.path / "in", out = folder.path / "out";
  write_safetensors(in, file);
  check_refused(lazy_attend(in, out, flags), parts);
  CHECK(files_in(folder.path) == 1);
  std::ofstream(out) << "an older result";
  check_refused(lazy_attend(in, out, flags), parts);
  CHECK(files_in(folder.path) == 2);
  CHECK(text_of(out) == "an older result");
}

Tensor zeros(std::vector<Index> shape) {
  Index count = 1;
  for (const Index n : shape) count *= n;
  return tensor_of(std::move(shape), std::vector<double>(static_cast<std::size_t>(count)));
}

struct WrongTensor {
  std::string name;
  Tensor tensor;
  std::vector<std::string> parts;
};

}  // namespace

TEST_CASE("a missing tensor is named", "[attend]") {
  for (const std::string name : {"q", "k", "v", "bias", "tau"}) {
    TensorFile file = small_file();
    file.tensors.erase(name);
    check_file_refused(file, {}, {"tensor \"" + name + "\"", "no such tensor"});
  }
  TensorFile file = small_file();
  file.tensors.erase("sink");
  check_file_refused(file, {"--normalizer", "sink"}, {"tensor \"sink\"", "[H = 4]"});
  check_file_refused({}, {}, {"tensor \"q\"", "no such tensor"});
}

TEST_CASE("a wrong tensor is named, with what was found and what was expected", "[attend]") {
  const Tensor whole = tensor_of({2}, std::vector<Index>{5, 4});
  const Tensor bytes = tensor_of({4}, std::vector<std::uint8_t>(4));
  const std::vector<WrongTensor> wrong = {
      {"q", zeros({3, 4, 6}), {"[3, 4, 6]", "[B, Tq, H, D]"}},
      {"q", zeros({}), {"shape []", "[B, Tq, H, D]"}},
      {"q", zeros({2, 3, 0, 6}), {"[2, 3, 0, 6]", "at least one head"}},
      {"q", zeros({2, 3, 4, 0}), {"[2, 3, 4, 0]", "dimension"}},
      {"k", zeros({3, 5, 2, 6}), {"[3, 5, 2, 6]", "B = 2"}},
      {"k", zeros({2, 5, 2, 8}), {"[2, 5, 2, 8]", "D = 6"}},
      {"k", zeros({2, 5, 3, 6}), {"[2, 5, 3, 6]", "divisor", "H = 4"}},
      {"k", zeros({2, 5, 0, 6}), {"[2, 5, 0, 6]", "divisor"}},
      {"k", zeros({2, 2, 2, 6}), {"[2, 2, 2, 6]", "Tq = 3"}},
      {"v", zeros({2, 5, 2, 8}), {"[2, 5, 2, 8]", "[B = 2, Tk = 5, Hkv = 2, D = 6]"}},
      {"v", zeros({2, 4, 2, 6}), {"[2, 4, 2, 6]", "Tk = 5"}},
      {"bias", zeros({3, 7}), {"[3, 7]", "[H = 4, W]"}},
      {"bias", zeros({4}), {"[4]", "[H = 4, W]"}},
      {"tau", zeros({4, 1}), {"[4, 1]", "[H = 4]"}},
      {"tau", zeros({3}), {"[3]", "[H = 4]"}},
      {"tau", bytes, {"dtype U8", "F64 or F32"}},
      {"d_out", zeros({2, 5, 4, 6}), {"[2, 5, 4, 6]", "Tq = 3"}},
      {"d_out", tensor_of({2}, std::vector<Index>{1, 2}), {"dtype I64", "F64 or F32"}},
      {"lengths", zeros({2}), {"dtype F64", "I64"}},
      {"lengths", tensor_of({3}, std::vector<Index>{5, 4, 3}), {"[3]", "[B = 2]"}},
      {"lengths", tensor_of({2}, std::vector<Index>{5, 6}), {"6 at entry 1", "0 to Tk = 5"}},
      {"lengths", tensor_of({2}, std::vector<Index>{-1, 5}), {"-1 at entry 0", "0 to Tk = 5"}},
  };
  for (const auto& [name, tensor, parts] : wrong) {
    TensorFile file = small_file();
    file.tensors[name] = tensor;
    std::vector<std::string> expected = parts;
    expected.push_back("tensor \"" + name + "\"");
    check_file_refused(file, {}, expected);
  }
  TensorFile file = small_file();
  file.tensors["sink"] = zeros({2});
  check_file_refused(file, {"--normalizer", "sink"}, {"tensor \"sink\"", "[2]", "[H = 4]"});
  for (const char* name : {"q", "k", "v", "d_out"}) file.tensors[name] = zeros({1, 3, 4, 5});
  file.tensors.erase("lengths");
  check_file_refused(file, {"--rope-base", "10000"}, {"tensor \"q\"", "D = 5", "even"});
}

TEST_CASE("flags that make no sense, alone or together, are refused", "[attend]") {
  const TensorFile file = small_file();
  const auto refuses = [&](const Flags& flags, const std::vector<std::string>& parts) {
    check_file_refused(file, flags, parts);
  };
  refuses({"--device", "emulated", "--rung", "v9"}, {"no rung v9", "v0", "v1"});
  refuses({"--device", "emulated", "--rung", "v1", "--precision", "bfloat16"},
          {"v1", "bfloat16", "float32"});
  refuses({"--device", "emulated", "--precision", "float64"}, {"float64", "emulated", "float32"});
  refuses({"--device", "cuda", "--precision", "float64"}, {"float64", "cuda", "float32"});
  refuses({"--device", "emulated", "--normalizer", "sigmoid"}, {"elastic and softmax", "cpu"});
  refuses({"--device", "tpu"}, {"--device", "tpu", "cpu"});
  refuses({"--device", "cuda", "--implementation", "oracle"}, {"oracle", "cuda", "leave one"});
  refuses({"--rung", "1"}, {"--rung 1", "--device is cpu", "--implementation"});
  refuses({"--implementation", "orakle"}, {"--implementation", "orakle", "oracle"});
  refuses({"--precision", "float16"}, {"--precision float16", "--device is cpu", "float32"});
  refuses({"--precision", "float8"}, {"--precision", "float8", "float32"});
  refuses({"--normalizer", "hardmax"}, {"--normalizer", "hardmax", "softmax"});
  refuses({"--divisor", "keys"}, {"--divisor", "keys", "visible"});
  refuses({"--divisor", "length", "--normalizer", "softmax"}, {"--divisor length", "softmax"});
  for (const char* base : {"0", "-1", "nan", "inf", "1e999"})
    refuses({"--rope-base", base}, {"--rope-base", "expected a positive number"});
  refuses({"--rope-base", "ten"}, {"--rope-base", "ten"});
  refuses({"--rope-base"}, {"--rope-base"});
  refuses({"--weigths"}, {"unknown flag --weigths", "did you mean --weights?"});
  refuses({"--precison=float32"}, {"unknown flag --precison", "did you mean --precision?"});
  refuses({"more"}, {"unexpected word more", "lazy attend --help"});
}

TEST_CASE("an IN that is no file of tensors is refused", "[attend]") {
  const TemporaryFolder folder;
  const fs::path in = folder.path / "in", out = folder.path / "out";
  check_refused(lazy_attend(in, out), {in.string(), "no such file"});
  std::ofstream(in).close();
  check_refused(lazy_attend(in, out), {in.string(), "an empty file"});
  std::ofstream(in) << "this is a text, not a file of tensors";
  check_refused(lazy_attend(in, out), {in.string()});
  write_safetensors(in, small_file());
  fs::resize_file(in, fs::file_size(in) - 1);
  check_refused(lazy_attend(in, out), {in.string()});
  CHECK(files_in(folder.path) == 1);
  check_refused(lazy_attend(folder.path, out), {"a folder"});
  check_refused(lazy_attend("/dev/null", out), {"/dev/null"});
  CHECK(files_in(folder.path) == 1);
}

TEST_CASE("an OUT that cannot be written is refused", "[attend]") {
  const TemporaryFolder folder;
  const fs::path in = folder.path / "in";
  write_safetensors(in, small_file());
  check_refused(lazy_attend(in, folder.path), {folder.path.string(), "is a folder"});
  check_refused(lazy_attend(in, folder.path / "none" / "out"), {"there is no folder"});
  check_refused(lazy_attend(in, in / "out"), {"there is no folder"});
  check_refused(lazy_attend(in, "/dev/null"), {"/dev/null is a device"});
  check_refused(lazy_attend(in, ""), {"could not save"});
  check_refused(lazy_attend(in, folder.path / std::string(300, 'x')), {"could not save"});
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(files_in(folder.path) == 1);
}

TEST_CASE("an OUT that is IN under whatever name is refused", "[attend]") {
  const TemporaryFolder folder;
  const fs::path in = folder.path / "in.partial", inner = folder.path / "inner";
  write_safetensors(in, small_file());
  const std::string before = text_of(in);
  fs::create_directory(inner);
  fs::create_symlink(in, folder.path / "symbolic");
  fs::create_hard_link(in, folder.path / "hard");
  for (const fs::path& out : {in, folder.path / "inner" / ".." / "in.partial",
                              folder.path / "symbolic", folder.path / "hard", folder.path / "in"}) {
    check_refused(lazy_attend(in, out), {"would overwrite IN"});
    CHECK(text_of(in) == before);
  }
  check_refused(lazy_attend(folder.path / "symbolic", in), {"would overwrite IN"});
  CHECK(text_of(in) == before);
  CHECK(files_in(folder.path) == 4);
}

TEST_CASE("what does not fit into memory is refused before it is allocated", "[attend]") {
  constexpr Index T = Index{1} << 20;
  const Tensor column = tensor_of({1, T, 1, 1}, std::vector<float>(T));
  TensorFile file;
  for (const char* name : {"q", "k", "v"}) file.tensors[name] = column;
  file.tensors["bias"] = zeros({1, 0});
  file.tensors["tau"] = zeros({1});
  check_file_refused(file, {"--weights"}, {"17.6 TB", "weights", "leave out --weights"});
}
