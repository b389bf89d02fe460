// Under mpirun: some steps of one model on shared batches, and the same steps by this process
// alone. Losses, norms and parameters must agree up to the order of sums, and the processes among
// each other to the last bit.

#include <cstdio>

#include "apps/mpi_communicator.hpp"
#include "reference/cpu_backend.hpp"
#include "reference/training.hpp"
#include "tests/comparison.hpp"
#include "tests/tiny_models.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

bool all_right = true;

void expect(bool right, const char* what) {
  if (!right) std::printf("two_processes: %s\n", what), all_right = false;
}

struct Outcome {
  std::vector<double> losses, norms, parameters;
};

Outcome train(Communicator* processes) {
  Model<double> model = lively_model(tiny_config());
  Trainer<CpuBackend, double> trainer(model, {.learning_rate = 3e-3, .warmup = 2}, processes);
  Outcome outcome;
  for (Index n = 1; n <= 5; ++n) {  // padding: the shares have unequal numbers of targets
    const StepResult result = trainer.step(random_batch(4, 6, 13, n, 5));
    outcome.losses.push_back(result.loss);
    outcome.norms.push_back(result.gradient_norm);
  }
  outcome.parameters = to_vector(model.parameters());
  return outcome;
}

bool agree(const std::vector<double>& x, const std::vector<double>& y) {
  return within(compare(x, y), float64_budget);
}

}  // namespace

int main() {
  const auto processes = join_mpi();
  expect(processes->size() == 2, "not two processes");
  const Outcome together = train(processes.get()), alone = train(nullptr);
  expect(agree(together.losses, alone.losses), "the losses differ from one process's");
  expect(agree(together.norms, alone.norms), "the gradient's norms differ from one process's");
  expect(agree(together.parameters, alone.parameters), "the parameters differ from one process's");

  // x + x is exact: where the processes hold the same bits, so does the mean of both.
  std::vector<double> doubled = together.parameters;
  processes->sum(doubled.data(), Index(doubled.size()));
  for (std::size_t i = 0; i < doubled.size(); ++i)
    if (doubled[i] != 2 * together.parameters[i]) {
      expect(false, "the processes hold different parameters");
      break;
    }

  // A step that one process's share makes fail fails in both.
  Model<double> model = lively_model(tiny_config());
  Trainer<CpuBackend, double> trainer(model, {}, processes.get());
  if (processes->rank() == 1) model.parameters()[0] = std::numeric_limits<double>::quiet_NaN();
  bool refused = false;
  try {
    Batch batch = random_batch(4, 6, 13);
    batch.tokens[13] = 0;  // the broken row of the embedding, in the second half
    trainer.step(batch);
  } catch (const std::runtime_error&) {
    refused = true;
  }
  expect(refused, "a step that is not finite was not refused by every process");
  return all_right ? 0 : 1;
}
