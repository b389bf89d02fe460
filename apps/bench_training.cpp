#include <cmath>
#include <iostream>

#include "apps/bench.hpp"
#include "apps/run.hpp"
#include "apps/stopwatch.hpp"

namespace lazy {
namespace {

using Json = nlohmann::ordered_json;

constexpr int compared_steps = 3;
constexpr double loss_budget = 1e-3;  // of the loss: orders of summation differ, mathematics do not

struct Size {
  Index layers, channels, heads, inner;
};

TransformerConfig model_config(bool quick, const Size& size, bool is_lazy) {
  TransformerConfig c;
  c.layers = size.layers, c.channels = size.channels, c.inner = size.inner;
  c.heads = c.kv_heads = size.heads;
  if (quick) c.context = 24, c.window = 16;
  if (!is_lazy) c.rule.normalizer = Normalizer::softmax, c.position = Position::rope;
  return c;
}

// A constant learning rate.
TrainingConfig training_config(bool quick) {
  TrainingConfig c;
  c.warmup = 0, c.minimum_rate = 1;
  if (quick) c.batch = 2;
  return c;
}

std::string describe(const TransformerConfig& c, Index batch) {
  return std::to_string(c.layers) + " layers, C " + std::to_string(c.channels) + ", " +
         std::to_string(c.heads) + " heads, T " + std::to_string(c.context) + ", B " +
         std::to_string(batch);
}

// Of an update: two flop forward and four backward for every weight and token, two causal matrix
// products forward and four backward for every layer.
double update_flop(const TransformerConfig& c, Index batch) {
  double weights = 0;
  for (const ParameterSpec& p : parameter_table(c))
    if (p.decay) weights += double(p.size);  // matrices; the tied table works as the head
  const double tokens = double(batch * c.context);
  const double product = tokens * double(c.context + 1) * double(c.channels);
  return 6 * tokens * weights + 6 * double(c.layers) * product;
}

// Rows of T + 1 random tokens: [compared_steps, B, T + 1].
std::vector<int> random_tokens(const TransformerConfig& c, Index batch) {
  Random random(2);
  std::vector<int> tokens(compared_steps * batch * (c.context + 1));
  for (int& token : tokens) token = int(random.below(c.vocabulary));
  return tokens;
}

Batch batch_of(const std::vector<int>& tokens, const TransformerConfig& c, Index sequences,
               int step) {
  Batch batch{sequences, c.context, {}, {}};
  const int* row = tokens.data() + step * sequences * (c.context + 1);
  for (Index b = 0; b < sequences; ++b, row += c.context + 1) {
    batch.tokens.insert(batch.tokens.end(), row, row + c.context);
    batch.targets.insert(batch.targets.end(), row + 1, row + c.context + 1);
  }
  return batch;
}

// Our model and its optimizer; the losses of the first steps are what a peer must find, too.
struct Own {
  TransformerConfig config;
  TrainingConfig training;
  std::vector<int> tokens = random_tokens(config, training.batch);
  Model model{config, 1};
  CpuBackend::Buffer<float> start = model.parameters();
  Trainer<CpuBackend, float> trainer{model, training};
  Batch first = batch_of(tokens, config, training.batch, 0);
  std::vector<double> losses = {};

  void compare_steps() {
    for (int i = 0; i < compared_steps; ++i)
      losses.push_back(trainer.step(batch_of(tokens, config, training.batch, i)).loss);
  }
  Times once() {
    const Stopwatch watch;
    trainer.step(first);
    return {.both = 1e3 * watch.seconds()};
  }
};

Json model_json(const Own& own) {
  const TransformerConfig& c = own.config;
  const TrainingConfig& t = own.training;
  Json table = Json::object(), decayed = Json::array();
  for (const ParameterSpec& p : own.model.table()) {
    table[p.name] = p.shape;
    if (p.decay) decayed.push_back(p.name);
  }
  return {{"layers", c.layers},
          {"channels", c.channels},
          {"heads", c.heads},
          {"length", c.context},
          {"batch", t.batch},
          {"window", c.window},
          {"rope_base", c.rope_base},
          {"norm_epsilon", c.norm_epsilon},
          {"learning_rate", t.learning_rate},
          {"betas", {AdamW{}.beta1, AdamW{}.beta2}},
          {"weight_decay", t.weight_decay},
          {"clip", t.clip},
          {"table", table},
          {"decayed", decayed}};
}

// Throws PeerError if the peer's losses of the first steps are not ours.
void load_training(Peer& peer, const std::string& contender, const Own& own,
                   const ExchangeFolder& folder) {
  write_numbers(folder.path / "parameters.f32", own.start.data(), own.start.size());
  write_numbers(folder.path / "tokens.i32", own.tokens.data(), own.tokens.size());
  const Json answer = peer.ask({{"ask", "load training"},
                                {"contender", contender},
                                {"folder", folder.path.string()},
                                {"model", model_json(own)},
                                {"steps", compared_steps}});
  const Json losses = answer.value("losses", Json());
  for (int i = 0; i < compared_steps; ++i) {
    const double theirs =
        losses.is_array() && int(losses.size()) == compared_steps && losses[i].is_number()
            ? losses[i].get<double>()
            : std::nan("");
    if (!(std::abs(theirs - own.losses[i]) <= loss_budget * own.losses[i]))
      throw PeerError("trains something else: its loss in step " + std::to_string(i + 1) + " is " +
                      std::to_string(theirs) + ", ours " + std::to_string(own.losses[i]));
  }
}

struct Contender {
  std::string name;
  std::function<Times()> turn;
};

void bench_size(Bench& bench, const Size& size) {
  const double seconds = bench.turn_seconds;
  const auto own_turn = [seconds](Own& own) { return turn(seconds, [&] { return own.once(); }); };
  Own own[] = {{model_config(bench.quick, size, false), training_config(bench.quick)},
               {model_config(bench.quick, size, true), training_config(bench.quick)}};
  for (Own& o : own) o.compare_steps();
  std::vector<Contender> contenders{{"lazy, ours", [&] { return own_turn(own[1]); }},
                                    {"softmax, ours", [&] { return own_turn(own[0]); }}};
  const ExchangeFolder folder;
  for (const auto& p : bench.peers)
    for (const std::string& contender : p->contenders) {
      const Own& same = own[contender == "lazy"];
      const auto load = [&folder, &peer = p->peer, contender, &same] {
        load_training(peer, contender, same, folder);
      };
      try {
        load();
        contenders.push_back(
            {p->name(contender), [load, &peer = p->peer, seconds] {
               load();  // a peer holds one model at a time
               const Json answer = peer.ask({{"ask", "time training"}, {"seconds", seconds}});
               return Times{.both = positive(answer, "step")};
             }});
      } catch (const PeerError& error) {
        report_left_out(p->name(contender), error.what());
      }
    }
  std::vector<std::function<Times()>> turns;
  for (const Contender& contender : contenders) turns.push_back(contender.turn);
  const std::vector<Times> times = interleaved(
      bench.rounds, turns,
      [&](std::size_t i, const std::string& why) { report_left_out(contenders[i].name, why); });

  const TransformerConfig& c = own[1].config;
  const Index batch = own[1].training.batch;
  std::vector<BenchRow> rows;
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    const double ms = times[i].both;
    rows.push_back({"training",
                    describe(c, batch),
                    contenders[i].name,
                    {{"step_ms", ms},
                     {"tokens_per_second", double(batch * c.context) / (1e-3 * ms)},
                     {"step_percent", 100 * update_flop(c, batch) / (1e-3 * ms) / bench.peak},
                     {"step_ratio", ms / times[0].both}}});
  }
  report_rows(bench, "training: " + describe(c, batch), rows);
}

}  // namespace

void bench_training(Bench& bench) {
  if (bench.quick) return bench_size(bench, {1, 16, 2, 24});
  for (const Size& size : {Size{4, 128, 4, 352}, Size{6, 256, 4, 704}, Size{6, 384, 6, 1056}})
    bench_size(bench, size);
}

void bench_decoding(Bench& bench) {
  const TransformerConfig config = find_preset("toy").model;
  Model model(config, 1);
  std::vector<BenchRow> rows;
  for (const Index context : bench.quick ? std::vector<Index>{16} : std::vector<Index>{256, 4096}) {
    const std::vector<int> tokens(context - 1, 1);
    auto cache = model.make_cache(context);
    model.decode(tokens, cache);
    const auto last_token = [&] {
      cache.lengths = {context - 1};
      const Stopwatch watch;
      model.decode(std::vector<int>{2}, cache);
      return Times{.forward = 1e3 * watch.seconds()};
    };
    const double ms =
        interleaved(bench.rounds, {[&] { return turn(bench.turn_seconds, last_token); }}, {})[0]
            .forward;
    rows.push_back({"decoding",
                    "toy preset",
                    "lazy, " + std::to_string(context) + " tokens in the cache",
                    {{"token_ms", ms}, {"tokens_per_second", 1e3 / ms}}});
  }
  report_rows(bench, "decoding: toy preset, one sequence", rows);
}

}  // namespace lazy
