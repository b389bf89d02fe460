// Trains the preset toy as `lazy train` does, seed, crops and all, until the validation loss is as
// low as asked, and says how many seconds that took: updates and evaluations, from the first update
// on. Prints one JSON object.
//
//   lazy_toy cuda|emulated float32|bfloat16 TEXT LOSS SECONDS [tiny]
//
// TEXT: a file, or "tales". Gives up after SECONDS. tiny: a model and batches that can be emulated.

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/text.hpp"
#include "apps/training_data.hpp"
#include "tests/gpu/device_model.hpp"

namespace lazy {

// The tool's own reads archives, too, and needs a library for it that a bare machine may lack.
Corpus load_corpus(const std::filesystem::path& path, const std::string&) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("could not read " + path.string() + "; is it there?");
  return {text.str(), path.filename().string(), ""};
}

}  // namespace lazy

using namespace lazy;
using namespace lazy::test;

namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t seed = 1;
constexpr Index evaluated_batches = 8;

struct Wish {
  std::string text;
  double loss, seconds;
  bool tiny;
};

template <class B>
Json train(const Wish& wish) {
  const TrainingData data = wish.text == "tales" ? load_tales() : load_text(wish.text);
  Preset toy = find_preset("toy");
  TransformerConfig& c = toy.model;
  TrainingConfig& t = toy.training;
  if (wish.tiny) {
    c.layers = 1, c.channels = 32, c.heads = c.kv_heads = 1, c.inner = 40,
    c.context = c.window = 20;
    t.batch = 2, t.warmup = 2, t.evaluate_every = 10, t.schedule_steps = 20;
  }
  Transformer<B, float> model(c, seed);
  Trainer<B, float> trainer(model, t);
  Random random(~seed);
  const auto validation = validation_batches(data, evaluated_batches, t.batch, c.context);

  const Watch watch;
  double loss = 0;
  do {
    std::vector<Batch> crops;
    for (Index i = 0; i < t.evaluate_every; ++i)
      crops.push_back(training_batch(data, random, t.batch, c.context));
    update<B>(trainer, crops);
    loss = 0;
    for (const Batch& batch : validation) loss += model.loss(batch) / double(validation.size());
  } while (!(loss <= wish.loss) && watch.seconds() < wish.seconds);
  return {{"reached", loss <= wish.loss},
          {"seconds", watch.seconds()},
          {"steps", trainer.steps_done()},
          {"loss", loss},
          {"wanted", wish.loss}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::cerr << "lazy_toy: usage: lazy_toy cuda|emulated float32|bfloat16 TEXT LOSS SECONDS "
                 "[tiny]\n";
    return 2;
  }
  try {
    const Wish wish{argv[3], std::stod(argv[4]), std::stod(argv[5]), argc > 6};
    const Json result = with_backend(argv[1], argv[2], [&]<class B>() { return train<B>(wish); });
    std::cout << result.dump() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "lazy_toy: " << error.what() << "\n";
    return 2;
  }
}
