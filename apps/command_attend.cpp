#include "apps/command_attend.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "apps/attention_file.hpp"
#include "apps/errors.hpp"
#include "apps/implementations.hpp"
#include "apps/memory.hpp"
#include "apps/safetensors_header.hpp"
#include "apps/version.hpp"
#include "reference/parameters.hpp"
#include "reference/rope.hpp"

namespace lazy {
namespace {

namespace fs = std::filesystem;

struct AttendOptions {
  std::string in, out;
  std::string device = "cpu";
  std::optional<std::string> implementation, rung;
  std::optional<std::string> precision;  // absent: float64 on the cpu, float32 elsewhere
  std::string normalizer = "elastic";
  std::string divisor = "visible";
  std::optional<double> rope_base;  // absent: q and k are taken as they are
  bool weights = false;
};

constexpr const char* layouts =
    R"(Layouts (B sequences, Tq queries, Tk keys, H heads, Hkv key heads, D head dimension, W window):
  q, d_out  [B, Tq, H, D]    the last Tq positions of each sequence
  k, v      [B, Tk, Hkv, D]  head h reads key head h / (H / Hkv)
  bias      [H, W]           added to the score at distance i - j; W = 0 for none
  tau       [H]              elastic only; with --normalizer sink, a tensor sink [H] instead
  lengths   [B]              I64: how many keys of each sequence are valid, all Tk if absent
  out, lse, weights          [B, Tq, H, D], [B, H, Tq], [B, H, Tq, Tk]
  d_q d_k d_v d_bias d_tau   as their tensors
Numbers are F64 or F32, mixed as you like. Answers are F64 at float64, else F32.
--device emulated runs the CUDA kernels on the cpu, thread by thread; they compute the normalizers elastic and softmax.)";

std::vector<std::string> implementation_names() {
  std::vector<std::string> names;
  for (const auto& implementation : implementations<double>) names.push_back(implementation.name);
  return names;
}

std::string precision(const AttendOptions& o) {
  return o.precision.value_or(o.device == "cpu" ? "float64" : "float32");
}

void check_device(const AttendOptions& o) {
  const bool cpu = o.device == "cpu";
  if (cpu && o.rung)
    throw UserError("--rung " + *o.rung +
                    " names a kernel of the devices emulated and cuda, but --device is cpu; choose "
                    "with --implementation instead");
  if (!cpu && o.implementation)
    throw UserError("--implementation " + *o.implementation + " runs on the cpu, but --device is " +
                    o.device + "; leave one of the two out");
  if (cpu && precision(o).ends_with("float16"))
    throw UserError("--precision " + precision(o) +
                    " is a format of the devices emulated and cuda, but --device is cpu; use "
                    "--precision float32");
  if (!cpu && precision(o) == "float64")
    throw UserError("--precision float64 is not what --device " + o.device +
                    " computes in; use --precision float32 or --device cpu");
}

AttentionRule chosen_rule(const AttendOptions& o) {
  const AttentionRule rule{parse_normalizer(o.normalizer), parse_divisor(o.divisor)};
  const bool divides =
      rule.normalizer == Normalizer::elastic || rule.normalizer == Normalizer::sigmoid;
  if (rule.divisor == Divisor::length && !divides)
    throw UserError("--divisor length means nothing to --normalizer " + o.normalizer +
                    ", which divides by no number of keys; leave one of the two out");
  return rule;
}

// The writer works beside OUT under the name OUT.partial, so IN may be neither.
void check_paths(const AttendOptions& o) {
  for (const fs::path& path : {fs::path(o.out), fs::path(o.out + ".partial")})
    if (std::error_code absent; fs::equivalent(o.in, path, absent))
      throw UserError("OUT " + o.out + " would overwrite IN " + o.in + "; give OUT another name");
  std::error_code hidden;  // whatever hides OUT stops the writer, too, which says why
  const fs::file_status out = fs::status(o.out, hidden);
  if (fs::exists(out) && !fs::is_regular_file(out))
    throw UserError("OUT " + o.out + " is a " + (fs::is_directory(out) ? "folder" : "device") +
                    ", expected the name of a file");
  const fs::path folder = fs::path(o.out).parent_path();
  if (!folder.empty() && !fs::is_directory(folder, hidden))
    throw UserError("OUT " + o.out + ": there is no folder " + folder.string() +
                    "; create it first");
}

// Counted in double, which no shape overflows. The results are held twice while they are written.
void check_memory(const AttentionShape& s, const TensorFile& file, const AttendOptions& o) {
  const double rows = double(s.batch) * double(s.queries) * double(s.heads);
  const double keys = double(s.batch) * double(s.keys) * double(s.kv_heads);
  const double D = double(s.head_dim), bias = double(s.heads) * double(s.window);
  const bool gradients = file.tensors.count("d_out") > 0;
  const double inputs = (gradients ? 2 : 1) * rows * D + 2 * keys * D + bias;
  const double weights = o.weights ? rows * double(s.keys) : 0;
  const double results = rows * D + rows + weights + (gradients ? inputs - rows * D : 0);
  const double item = precision(o) == "float64" ? sizeof(double) : sizeof(float);
  const double needed = (inputs + 2 * results) * item, available = available_memory();
  if (needed > available)
    throw UserError(
        "this needs " + readable_size(needed) + " of memory" +
        (o.weights ? ", of which the weights [B, H, Tq, Tk] " + readable_size(2 * weights * item)
                   : "") +
        ", but only " + readable_size(available) + " are available; " +
        (o.weights ? "leave out --weights, " : "") + "use --precision float32 or a smaller batch");
}

// A new tensor of zeros in `file`, to be filled in place.
template <class T>
T* new_tensor(TensorFile& file, const std::string& name, const std::vector<Index>& shape) {
  std::size_t bytes = sizeof(T);
  for (const Index n : shape) bytes *= static_cast<std::size_t>(n);
  Tensor& tensor = file.tensors[name];
  tensor = {sizeof(T) == sizeof(double) ? "F64" : "F32", shape, std::vector<std::byte>(bytes)};
  return reinterpret_cast<T*>(tensor.data.data());
}

// Turns q and k, or their gradients, in place: `rope` is rope_forward or rope_backward.
template <class T, class Rope>
void rotate(const AttentionShape& s, const AttentionInputs<T>& in, const RopeTable<T>& table,
            Rope rope, T* q, T* k) {
  for (Index b = 0; b < s.batch; ++b) {
    const Index first_query = query_position(s, sequence_length(s, in, b), 0);
    rope(q + b * s.queries * s.heads * s.head_dim, table, s.queries, s.heads, first_query);
    rope(k + b * s.keys * s.kv_heads * s.head_dim, table, s.keys, s.kv_heads, 0);
  }
}

template <class T>
void ask_for_weights(const Implementation<T>& implementation, const AttentionShape& s,
                     const AttentionRule& rule, const AttentionInputs<T>& in,
                     const AttentionOutputs<T>& forward, T* weights) {  // [B, H, Tq, Tk]
  constexpr Index block_rows = 64;
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index row = 0; row < s.queries; row += block_rows)
        implementation.weights(s, rule, in, forward, b, h, row,
                               std::min(block_rows, s.queries - row),
                               weights + ((b * s.heads + h) * s.queries + row) * s.keys);
}

template <class T>
AttentionGrads<T> new_grads(TensorFile& file, const AttentionShape& s, const AttentionRule& rule) {
  const std::vector<Index> keys{s.batch, s.keys, s.kv_heads, s.head_dim};
  AttentionGrads<T> grads;
  grads.dq = new_tensor<T>(file, "d_q", {s.batch, s.queries, s.heads, s.head_dim});
  grads.dk = new_tensor<T>(file, "d_k", keys);
  grads.dv = new_tensor<T>(file, "d_v", keys);
  grads.dbias = new_tensor<T>(file, "d_bias", {s.heads, s.window});
  if (rule.normalizer == Normalizer::elastic) grads.dtau = new_tensor<T>(file, "d_tau", {s.heads});
  if (rule.normalizer == Normalizer::sink) grads.dsink = new_tensor<T>(file, "d_sink", {s.heads});
  return grads;
}

template <class T>
Implementation<T> chosen_implementation(const AttentionShape& s, const AttendOptions& o) {
  if constexpr (std::is_same_v<T, float>)
    if (o.device != "cpu")
      return kernel_implementation(s, {.device = o.device == "cuda" ? LAZY_CUDA : LAZY_EMULATED,
                                       .rung = o.rung.value_or(""),
                                       .type = precision(o) == "bfloat16"  ? LAZY_BFLOAT16
                                               : precision(o) == "float16" ? LAZY_FLOAT16
                                                                           : LAZY_FLOAT32});
  const std::string name = o.implementation.value_or(implementations<T>[0].name);
  return *std::find_if(implementations<T>.begin(), implementations<T>.end(),
                       [&](const Implementation<T>& candidate) { return candidate.name == name; });
}

template <class T>
TensorFile attend(const TensorFile& file, const AttentionShape& s, const AttentionRule& rule,
                  const AttendOptions& o) {
  const Implementation<T> implementation = chosen_implementation<T>(s, o);
  AttentionProblem<T> problem = read_attention_problem<T>(file, rule);
  const AttentionInputs<T> in = problem.inputs();
  const bool gradients = file.tensors.count("d_out") > 0;

  TensorFile result;
  result.metadata["implementation"] = implementation.name;
  const AttentionOutputs<T> out{
      .out = new_tensor<T>(result, "out", {s.batch, s.queries, s.heads, s.head_dim}),
      .lse = new_tensor<T>(result, "lse", {s.batch, s.heads, s.queries})};
  T* weights = nullptr;
  if (o.weights) weights = new_tensor<T>(result, "weights", {s.batch, s.heads, s.queries, s.keys});
  AttentionGrads<T> grads;
  if (gradients) grads = new_grads<T>(result, s, rule);
  if (s.batch == 0 || s.queries == 0) return result;  // nobody asks: all is empty or zero

  RopeTable<T> table;
  if (o.rope_base) {
    table = make_rope_table<T>(s.keys, s.head_dim, *o.rope_base);
    rotate(s, in, table, rope_forward<T>, problem.q.data(), problem.k.data());
  }
  implementation.forward(s, rule, in, out);
  if (o.weights) ask_for_weights(implementation, s, rule, in, out, weights);
  if (gradients) implementation.backward(s, rule, in, out, problem.d_out.data(), grads);
  if (gradients && o.rope_base) rotate(s, in, table, rope_backward<T>, grads.dq, grads.dk);
  return result;
}

std::string shortest(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

void run(const AttendOptions& o) {
  check_device(o);
  const AttentionRule rule = chosen_rule(o);
  if (o.rope_base && !(*o.rope_base > 0 && std::isfinite(*o.rope_base)))
    throw UserError("--rope-base is " + shortest(*o.rope_base) + ", expected a positive number");
  const TensorFile file = read_safetensors(o.in);
  check_paths(o);
  const AttentionShape shape = read_attention_shape(file, rule);
  if (o.rope_base && shape.head_dim % 2 != 0)
    safetensors::refuse(safetensors::tensor_label("q"),
                        "head dimension D = " + std::to_string(shape.head_dim),
                        "an even one, since --rope-base rotates pairs", "leave out --rope-base");
  check_memory(shape, file, o);

  TensorFile result = precision(o) == "float64" ? attend<double>(file, shape, rule, o)
                                                : attend<float>(file, shape, rule, o);
  result.metadata.merge(std::map<std::string, std::string>{
      {"device", o.device},
      {"precision", precision(o)},
      {"normalizer", o.normalizer},
      {"divisor", o.divisor},
      {"rope_base", o.rope_base ? shortest(*o.rope_base) : "none"},
      {"version", first_line(version_text())}});
  write_safetensors(o.out, result);
  std::cout << o.out << ":";
  for (const auto& entry : result.tensors) std::cout << " " << entry.first;
  std::cout << "\n";
}

}  // namespace

void add_attend_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "attend", "Attention, and its gradients, on your own tensors (safetensors files)");
  const auto o = std::make_shared<AttendOptions>();
  command->add_option("IN", o->in, "Tensors q, k, v, bias, tau; lengths and d_out if you like")
      ->required();
  command->add_option("OUT", o->out, "Receives out, lse and, given d_out, the gradients")
      ->required();
  const auto choice = [&](const std::string& flag, auto& value, const std::string& what,
                          const std::vector<std::string>& names) {
    command->add_option(flag, value, what)->check(CLI::IsMember(names))->capture_default_str();
  };
  choice("--device", o->device, "Where to compute", {"cpu", "emulated", "cuda"});
  choice("--implementation", o->implementation, "Which of the cpu's ways", implementation_names());
  command->add_option("--rung", o->rung, "Which kernel of the devices emulated and cuda");
  choice("--precision", o->precision,
         "To compute in; float64 on the cpu and float32 elsewhere if not given",
         {"float64", "float32", "bfloat16", "float16"});
  choice("--normalizer", o->normalizer, "How scores become weights",
         {"softmax", "softmax1", "sink", "sigmoid", "entmax15", "softpick", "elastic"});
  choice("--divisor", o->divisor, "Number of keys that tau is divided by", {"visible", "length"});
  command->add_option("--rope-base", o->rope_base, "Rotate q and k first, with this base");
  command->add_flag("--weights", o->weights, "Also write the weights");
  command->footer(layouts);
  command->callback([o] {
    try {
      run(*o);
    } catch (const std::runtime_error& error) {  // from the reader or the writer of files
      throw UserError(error.what());
    }
  });
}

}  // namespace lazy
