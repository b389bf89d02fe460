// A training run on the kernels' backend, emulated: what it holds moves between devices, steps
// under way are the steps one by one, memory is what was announced; and what --device refuses.

#include "apps/device.hpp"
#include "apps/errors.hpp"
#include "cuda/memory.hpp"
#include "tests/catch.hpp"
#include "tests/refusal.hpp"
#include "tests/tiny_runs.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const RunPlace on_cpu{{Device::cpu}}, on_kernels{{Device::emulated}},
    kernels_bfloat16{{Device::emulated, true}};

// Heads that the tensor cores' rung computes, too.
TransformerConfig head_of_32(const TrainingData& data) {
  TransformerConfig c = one_layer(data);
  c.channels = 32, c.heads = c.kv_heads = 1;
  return c;
}

Run tiny_run_on(const RunPlace& place, const TrainingData& data = tales()) {
  return Run("toy", head_of_32(data), often_evaluated(), 1, data, place);
}

}  // namespace

TEST_CASE("a run moves from device to device without losing a bit", "[run][resume][kernels]") {
  for (const RunPlace& place : {on_kernels, kernels_bfloat16}) {
    Run whole = tiny_run_on(place);
    auto log = advance(whole, 4);
    Run first = tiny_run_on(place);
    auto parts = advance(first, 2);
    const Checkpoint half = first.checkpoint();
    const Checkpoint through_cpu = Run(half, tales(), on_cpu).checkpoint();
    CHECK((bytes_of(through_cpu) == bytes_of(half)));
    Run rest(through_cpu, tales(), place);
    for (const auto& line : advance(rest, 2)) parts.push_back(line);
    CHECK(parts == log);
    CHECK((bytes_of(rest.checkpoint()) == bytes_of(whole.checkpoint())));
    CHECK((bytes_of(whole.checkpoint()) != bytes_of(half)));
  }
}

TEST_CASE("a run starts from the same parameters and crops on every device", "[run][kernels]") {
  Run cpu = tiny_run_on(on_cpu), kernels = tiny_run_on(on_kernels);
  CHECK((bytes_of(kernels.checkpoint()) == bytes_of(cpu.checkpoint())));
  cpu.step(), kernels.step();
  CHECK((kernels.checkpoint().random.state == cpu.checkpoint().random.state));
  CHECK(kernels.checkpoint().parameters != tiny_run_on(on_kernels).checkpoint().parameters);
}

TEST_CASE("steps under way are the steps one by one", "[run][kernels]") {
  for (const TrainingData* data : {&tales(), &backcopy()}) {
    Run one_by_one = tiny_run_on(on_kernels, *data), ahead = tiny_run_on(on_kernels, *data);
    const auto log = advance(one_by_one, 7);
    std::vector<std::string> got{to_json_line(ahead.start())};
    std::vector<Index> under_way;
    for (Index n = 1; n <= 7; ++n) {
      got.push_back(to_json_line(ahead.step(7)));
      CHECK(ahead.steps_done() == n);
      under_way.push_back(ahead.steps_under_way());
    }
    CHECK(got == log);
    CHECK(under_way == std::vector<Index>{2, 1, 0, 2, 1, 0, 0});  // evaluated after 3 and 6
    CHECK((bytes_of(ahead.checkpoint()) == bytes_of(one_by_one.checkpoint())));
  }
}

TEST_CASE("a checkpoint is of a step, not of steps under way", "[run][kernels]") {
  Run run = tiny_run_on(on_kernels);
  run.step(2);
  CHECK(mentions_all(refusal<std::logic_error>([&] { run.checkpoint(); }),
                     {"1 steps are under way", "call step"}));
  run.step();
  CHECK(run.checkpoint().step == 2);
  CHECK(mentions(refusal<std::logic_error>([&] { run.model(); }), "not on the CPU"));
}

TEST_CASE("on the CPU no step is ever under way", "[run]") {
  Run run = tiny_run_on(on_cpu);
  run.step(5);
  CHECK(run.steps_under_way() == 0);
  CHECK(run.checkpoint().step == 1);
}

TEST_CASE("the memory a run announces is what a training step takes", "[run][kernels]") {
  for (const RunPlace& place : {on_kernels, kernels_bfloat16})
    for (const Index batch : {2, 3})
      for (const Index layers : {1, 3}) {
        TransformerConfig c = head_of_32(tales());
        c.layers = layers, c.context = 40, c.window = 24, c.heads = 2, c.channels = 64;
        TrainingConfig training = often_evaluated();
        training.batch = batch;
        const std::size_t before = memory(LAZY_EMULATED).space().free;
        Run run("toy", c, training, 1, tales(), place);
        run.step();
        const double held = double(before - memory(LAZY_EMULATED).space().free);
        const double announced = run_memory(c, batch, place.device);
        CAPTURE(place.device.bfloat16, batch, layers, held, announced);
        CHECK(announced >= 0.98 * held);
        CHECK(announced <= 1.03 * held);
      }
}

TEST_CASE("a device that cannot be had is refused with what to try", "[tool][device]") {
  const TransformerConfig elastic = head_of_32(tales());
  TransformerConfig sigmoid = elastic, narrow = elastic;
  sigmoid.rule.normalizer = Normalizer::sigmoid;
  narrow.heads = narrow.kv_heads = 4;
  const auto refused = [](const TransformerConfig& model, const DeviceOptions& options,
                          std::initializer_list<const char*> parts, bool processes = false) {
    const std::string text =
        refusal<UserError>([&] { choose_device(options, std::span(&model, 1), processes); });
    INFO(text);
    CHECK(mentions_all(text, parts));
  };
  refused(sigmoid, {"emulated"}, {"--device emulated", "attention sigmoid", "--device cpu"});
  refused(sigmoid, {"cuda"}, {"--device cuda", "attention sigmoid", "--device cpu"});
  refused(narrow, {"emulated", "bfloat16"}, {"bfloat16 with D = 8", "float32"});
  refused(elastic, {"cpu", "bfloat16"}, {"--precision bfloat16", "--device is cpu"});
  refused(elastic, {"auto"}, {"several", "--device cpu or --device cuda"}, true);
  refused(elastic, {"emulated"}, {"several", "--device cpu or --device cuda"}, true);
  const std::string no_gpu = missing_gpu();
  if (no_gpu.empty()) return;
  refused(elastic, {"cuda"}, {"--device cuda", no_gpu.c_str(), "--device cpu"});
  refused(elastic, {"auto", "bfloat16"}, {"--precision bfloat16", no_gpu.c_str()});
}

TEST_CASE("a device says what it is and why auto took it", "[tool][device]") {
  const TransformerConfig elastic = head_of_32(tales());
  const auto chosen = [&](const DeviceOptions& options) {
    return describe(choose_device(options, std::span(&elastic, 1)));
  };
  CHECK(chosen({"cpu"}) == "cpu, float32");
  CHECK(chosen({"emulated", "bfloat16"}) == "emulated on the CPU, bfloat16");
  const std::string no_gpu = missing_gpu();
  if (!no_gpu.empty())
    CHECK(chosen({}) == "cpu, float32 (auto: there is no GPU: " + no_gpu + ")");
  else
    CHECK(mentions(chosen({}), "(auto: there is a GPU)"));
  // What the GPU's kernels do not compute is computed on the CPU, and said so.
  TransformerConfig models[] = {elastic, elastic};
  models[1].rule.normalizer = Normalizer::entmax15;
  const Device device = choose_device({}, models);
  CHECK(device.kind == Device::cpu);
  if (no_gpu.empty()) CHECK(mentions(describe(device), "do not compute attention entmax15"));
}
