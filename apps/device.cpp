#include "apps/device.hpp"

#include "apps/errors.hpp"
#include "apps/memory.hpp"
#include "cuda/matrix_products.hpp"
#include "cuda/memory.hpp"

namespace lazy {
namespace {

// Empty, or why the kernels do not compute a model's attention.
std::string not_computed(const TransformerConfig& model, bool bfloat16) {
  const Normalizer rule = model.rule.normalizer;
  if (rule != Normalizer::elastic && rule != Normalizer::softmax)
    return "the kernels do not compute attention " + std::string(name_of(rule));
  LazyAttention a{};
  a.batch = 1, a.queries = a.keys = model.context;
  a.heads = model.heads, a.kv_heads = model.kv_heads, a.head_dim = model.head_dim();
  a.window = model.window;
  a.type = bfloat16 ? LAZY_BFLOAT16 : LAZY_FLOAT32;
  a.device = LAZY_EMULATED;  // has the rungs of a GPU
  return lazy_attention_rung(&a) ? "" : lazy_attention_error();
}

std::string not_computed(std::span<const TransformerConfig> models, bool bfloat16) {
  for (const TransformerConfig& model : models)
    if (const std::string why = not_computed(model, bfloat16); !why.empty()) return why;
  return "";
}

Device by_itself(std::span<const TransformerConfig> models, bool bfloat16) {
  if (const std::string why = missing_gpu(); !why.empty())
    return {Device::cpu, bfloat16, "there is no GPU: " + why};
  if (const std::string why = not_computed(models, bfloat16); !why.empty())
    return {Device::cpu, bfloat16, "not the GPU: " + why};
  try {
    matrix_products<float>(LAZY_CUDA);
  } catch (const std::exception& missing) {
    return {Device::cpu, bfloat16, std::string("not the GPU: ") + missing.what()};
  }
  return {Device::cuda, bfloat16, "there is a GPU"};
}

Device asked_for(const DeviceOptions& o, std::span<const TransformerConfig> models,
                 bool processes) {
  const bool bfloat16 = o.precision == "bfloat16";
  if (processes && (o.device == "auto" || o.device == "emulated"))
    throw UserError("--device " + o.device +
                    " is for one process, there are several; give --device cpu or --device cuda");
  if (o.device == "auto") return by_itself(models, bfloat16);
  if (o.device == "cpu") return {Device::cpu, bfloat16};
  const Device device{o.device == "cuda" ? Device::cuda : Device::emulated, bfloat16};
  if (const std::string why = not_computed(models, bfloat16); !why.empty())
    throw UserError("--device " + o.device + ": " + why + "; choose --device cpu");
  // Several processes learn which GPU is whose when they are joined.
  if (device.kind == Device::cuda && !processes)
    if (const std::string why = missing_gpu(); !why.empty())
      throw UserError("--device cuda: there is no GPU: " + why +
                      "; choose --device cpu, or --device emulated");
  return device;
}

}  // namespace

Device choose_device(const DeviceOptions& o, std::span<const TransformerConfig> models,
                     bool processes) {
  Device device = asked_for(o, models, processes);
  if (device.kind == Device::cpu && device.bfloat16)
    throw UserError("--precision bfloat16 is computed on cuda and emulated only, and " +
                    (device.reason.empty() ? "--device is cpu" : device.reason) + "; leave it out");
  return device;
}

std::string describe(const Device& device) {
  const std::string name =
      device.kind == Device::cpu
          ? "cpu"
          : device_name(device.kind == Device::cuda ? LAZY_CUDA : LAZY_EMULATED);
  return name + (device.bfloat16 ? ", bfloat16" : ", float32") +
         (device.reason.empty() ? "" : " (auto: " + device.reason + ")");
}

void require_memory(const Device& device, double needed, const std::string& what,
                    const std::string& advice) {
  if (device.kind != Device::cuda) return require_memory(needed, what, advice);
  const MemorySpace space = memory(LAZY_CUDA).space();
  if (needed > double(space.free))
    throw UserError(what + " needs about " + readable_size(needed) + " of GPU memory, " +
                    readable_size(double(space.free)) + " of " +
                    readable_size(double(space.total)) + " are free; " + advice);
}

}  // namespace lazy
