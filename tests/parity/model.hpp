#pragma once
// A whole model judged like one attention: every tensor it answers against float64 on the CPU,
// beside the error of the plain program in the same format (plain_backend.hpp). Without a test
// framework.

#include "tests/low_precision.hpp"
#include "tests/tiny_models.hpp"

namespace lazy::test {

struct ModelCase {
  TransformerConfig config;
  Index sequences, length;
  std::uint64_t seed;
};

/// Two layers, a pair of query heads to a key head, a bias shorter than the context. `seed` draws
/// parameters and batches.
ModelCase parity_model(std::uint64_t seed);
std::string describe(const ModelCase& c);

/// Something a model is asked for, in one tensor or many.
struct ModelPart {
  std::string name;
  std::vector<TensorVerdict> tensors;

  bool passes() const;
  /// The tensor that takes the largest share of its budget.
  const TensorVerdict& nearest() const;
};

/// Logits; losses; the gradient of every parameter; ten steps of AdamW: their losses and norms, and
/// by how much every parameter changed; tokens decoded with a cache of different lengths.
using ModelVerdict = std::vector<ModelPart>;

struct ModelTensor {
  const char* part;
  std::string name;
  std::vector<double> values;
  double factor;  // see low_precision.hpp
};

/// The judge of models on backends B with Activation<float> = A, float or BFloat16.
template <class A>
class ModelJudge {
 public:
  explicit ModelJudge(const ModelCase& c);

  template <class B>
  std::vector<ModelTensor> answers() const;
  ModelVerdict judge(const std::vector<ModelTensor>& got) const;

 private:
  ModelCase case_;
  std::vector<ModelTensor> exact_;
  std::vector<Comparison> plain_;  // the plain program's errors
};

}  // namespace lazy::test
