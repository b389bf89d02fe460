// The compiled kernels against tests/kernel_budgets.tsv: registers, stack, spills, as many products
// of matrices as the algorithm has, and the shared memory that their launches ask for. Without nvcc
// there is nothing to read, and a line says so. `lazy_tests "[print-budgets]"` prints the table of
// this build.

#include <algorithm>
#include <iostream>
#include <set>
#include <sstream>

#include "tests/catch.hpp"
#include "tests/cubin.hpp"
#include "tests/decode_answers.hpp"
#include "tests/kernel_answers.hpp"
#include "tests/layer_checks.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

#if defined(LAZY_CUBINS)
const char* const cubins = LAZY_CUBINS;
const std::string nvcc_version = LAZY_NVCC_VERSION;
#else
const char* const cubins = nullptr;
const std::string nvcc_version;
#endif

struct Row {
  std::string nvcc, architecture;
  KernelCode code;
  std::size_t shared_bytes;
};

/// Shared memory that a block of each of the layers' kernels asks for, with rows of C channels.
template <class A>
std::map<std::string, std::size_t> launched_by_layers(Index C) {
  std::map<std::string, std::size_t> launched;
  KernelLayers<A> way;
  way.shared_bytes = &launched;
  all_of(way, Embedding{{0}, C, 1});
  all_of(way, RmsNorm{1, C});
  all_of(way, SwiGlu{1, C});
  all_of(way, CrossEntropy{{0}, C});
  all_of(way, Heads{{1, 1, 1, 1, C, 1}, false});
  std::vector<float> x(4);
  std::vector<A> rounded(4);
  StepOutputs outputs;
  const StepInputs inputs;
  const UpdatePiece piece{0, 4, true};
  way.measure_step(&outputs, x.data(), 4, x.data(), 4, &inputs);
  way.adamw_step(x.data(), rounded.data(), x.data(), x.data(), x.data(), &piece, 1, {}, &inputs,
                 &outputs);
  const std::vector<float> weights(C);
  RowStatistics row;
  std::vector<std::uint32_t> live_tiles(tile_words(C));
  way.row_statistics(&row, live_tiles.data(), weights.data(), {.batch = 1, .queries = 1, .keys = C},
                     nullptr, 0, 0, 1);
  way.round(rounded.data(), x.data(), 4);
  return launched;
}

/// Shared memory that a block of a decoding kernel asks for: <type, D> or <type, D, heads a block>.
std::size_t shared_bytes_of_decoding(const std::string& name, const std::string& launch) {
  std::vector<Index> numbers;
  for (std::size_t i = name.find(','); i < name.size(); i = name.find(',', i + 1))
    numbers.push_back(std::stoi(name.substr(i + 1)));
  const Index D = numbers.empty() ? 64 : numbers[0], heads = numbers.size() > 1 ? numbers[1] : 8;
  const auto problem = make_problem<float>({{1, 1, 1, heads, 1, D, 1}, {}, {-1}});
  return decode_values(problem, {}).shared_bytes.at(launch);
}

/// Shared memory that a block of a kernel asks for when it is launched, whose D and format are
/// those in the compiled kernel's name. A layer's kernel is given rows of 1024 channels, or, where
/// it moves one number at a time, of 1023.
std::size_t shared_bytes_of(const std::string& name) {
  const std::size_t arguments = std::min(name.find('<'), name.size());
  std::string launch = name.substr(0, arguments);
  if (const auto end = launch.find("_kernel"); end + 7 == launch.size()) launch.erase(end);
  if (launch.rfind("decode", 0) == 0) return shared_bytes_of_decoding(name, launch);
  const Index channels = name.find("1>") == std::string::npos ? 1024 : 1023;
  static std::map<std::pair<bool, Index>, std::map<std::string, std::size_t>> by_layers;
  const bool bfloat16 = name.find("BFloat16") != std::string::npos;
  auto& of_layers = by_layers[{bfloat16, channels}];
  if (of_layers.empty())
    of_layers =
        bfloat16 ? launched_by_layers<BFloat16>(channels) : launched_by_layers<float>(channels);
  if (const auto found = of_layers.find(launch); found != of_layers.end()) return found->second;
  Index D = 64;
  for (std::size_t i = arguments; i + 1 < name.size(); ++i)
    if (std::strchr("<,", name[i]) && std::strchr("123456789", name[i + 1]))
      D = std::stoi(name.substr(i + 1));
  const bool tensor = name.rfind("v2", 0) == 0;
  const KernelRun how{.rung = tensor                     ? "v2"
                              : name.rfind("v0", 0) == 0 ? "v0"
                                                         : "v1",
                      .type = tensor ? LAZY_BFLOAT16 : LAZY_FLOAT32};
  static std::map<std::pair<std::string, Index>, std::map<std::string, std::size_t>> launched;
  auto& of_run = launched[{how.rung, D}];
  if (of_run.empty())
    of_run =
        kernel_attention(make_problem<float>({{1, 1, 1, 1, 1, D, 1}, {}, {-1}}), how).shared_bytes;
  return of_run.at(launch);
}

std::string key(const Row& row) {
  return "sm_" + row.architecture + " " + row.code.name;
}

std::vector<Row> compiled() {
  std::vector<Row> rows;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cubins)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".cubin") continue;
    const int architecture = std::stoi(name.substr(name.find("compute_") + 8));
    for (const KernelCode& code : read_cubin(entry.path()))
      rows.push_back(
          {nvcc_version, std::to_string(architecture), code, shared_bytes_of(code.name)});
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::pair(std::stoi(a.architecture), a.code.name) <
           std::pair(std::stoi(b.architecture), b.code.name);
  });
  return rows;
}

std::vector<Row> table() {
  std::ifstream file(KERNEL_BUDGETS);
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    Row row;
    std::istringstream words(line);
    words >> row.nvcc >> row.architecture >> row.code.name >> row.code.registers >>
        row.code.stack_bytes >> row.code.local_accesses >> row.code.products >> row.shared_bytes;
    REQUIRE(words);
    rows.push_back(row);
  }
  return rows;
}

/// Instructions that multiply 16 x 16 by 16 x 8 in a tensor kernel, counted from the algorithm: a
/// product of 16 rows with `columns` over D components takes columns / 8 x D / 16.
int products_of(const std::string& name) {
  if (name.rfind("v2_", 0) != 0 || name.rfind("v2_delta", 0) == 0) return 0;
  const std::size_t begin = name.find(',') + 1;
  const int D = std::stoi(name.substr(begin)), columns = D == 128 ? 32 : 64;
  const int product = columns / 8 * D / 16;
  if (name.rfind("v2_weights", 0) == 0) return product;             // S
  if (name.rfind("v2_query_gradient", 0) == 0) return 3 * product;  // S, dA, dQ
  if (name.rfind("v2_key_gradients", 0) == 0) return 4 * product;   // S, dA, dV, dK
  return name.find("true") != std::string::npos ? 4 * product       // S, S, O, mean live value
                                                : 3 * product;
}

bool has_budgets(const std::string& nvcc) {
  const auto budgets = table();
  return std::any_of(budgets.begin(), budgets.end(), [&](const Row& b) { return b.nvcc == nvcc; });
}

}  // namespace

TEST_CASE("no kernel takes more than its budget", "[kernels]") {
  if (!cubins) {
    WARN("skipped: no nvcc, no compiled kernels");
    return;
  }
  const auto budgets = table(), kernels = compiled();
  CHECK(!kernels.empty());
  std::set<std::string> architectures;
  for (const Row& row : kernels) {
    architectures.insert(row.architecture);
    const KernelCode& code = row.code;
    INFO("nvcc " << row.nvcc << ", " << key(row));
    CHECK(code.registers > 0);
    const auto budget = std::find_if(budgets.begin(), budgets.end(), [&](const Row& candidate) {
      return candidate.nvcc == row.nvcc && key(candidate) == key(row);
    });
    if (budget != budgets.end()) {
      CHECK(code.registers <= budget->code.registers);
      CHECK(code.stack_bytes <= budget->code.stack_bytes);
      CHECK(code.local_accesses <= budget->code.local_accesses);
      CHECK(code.products == budget->code.products);
      CHECK(row.shared_bytes <= budget->shared_bytes);
      continue;
    }
    // Another compiler: it may take more registers, but not spill what did not spill.
    CHECK(!has_budgets(row.nvcc));  // a kernel without a row
    const auto other = std::find_if(budgets.begin(), budgets.end(),
                                    [&](const Row& b) { return key(b) == key(row); });
    if (other == budgets.end()) continue;
    if (code.registers != other->code.registers)
      WARN(key(row) << ": " << code.registers << " registers with nvcc " << row.nvcc << ", "
                    << other->code.registers << " with " << other->nvcc);
    if (other->code.local_accesses == 0) CHECK(code.local_accesses == 0);
  }
  std::set<std::string> missing;
  for (const Row& row : budgets)
    if (!architectures.count(row.architecture)) missing.insert("sm_" + row.architecture);
  for (const std::string& architecture : missing)
    WARN("not compiled for " << architecture << ": its budgets are not checked");
}

TEST_CASE("tensor kernels multiply as often as the algorithm says", "[kernels]") {
  if (!cubins) return;
  for (const Row& row : compiled()) {
    INFO(key(row));
    // A compiler whose budgets nobody wrote down may have peeled or doubled a loop.
    if (has_budgets(row.nvcc))
      CHECK(row.code.products == products_of(row.code.name));
    else if (row.code.products != products_of(row.code.name))
      WARN(key(row) << ": " << row.code.products << " products with nvcc " << row.nvcc << ", "
                    << products_of(row.code.name) << " by the algorithm");
  }
}

TEST_CASE("the table of budgets of this build", "[.][print-budgets]") {
  std::cout << "# nvcc\tsm\tkernel\tregisters\tstack bytes\tlocal loads and "
               "stores\tproducts\tshared bytes\n";
  for (const Row& row : compiled())
    std::cout << row.nvcc << "\t" << row.architecture << "\t" << row.code.name << "\t"
              << row.code.registers << "\t" << row.code.stack_bytes << "\t"
              << row.code.local_accesses << "\t" << row.code.products << "\t" << row.shared_bytes
              << "\n";
}
