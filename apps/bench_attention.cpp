#include <algorithm>
#include <iostream>
#include <map>

#include "apps/bench.hpp"
#include "apps/bench_judge.hpp"
#include "apps/memory.hpp"
#include "apps/stopwatch.hpp"
#include "reference/tiled.hpp"

namespace lazy {
namespace {

template <bool skip>
const Implementation<float> tiled_implementation{
    .name = "tiled",
    .forward =
        [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<float>& in,
           const AttentionOutputs<float>& out) {
          tiled::attention_forward(shape, rule, in, out, {.skip_dead_tiles = skip});
        },
    .backward =
        [](const AttentionShape& shape, const AttentionRule& rule, const AttentionInputs<float>& in,
           const AttentionOutputs<float>& forward, const float* dout,
           const AttentionGrads<float>& grads) {
          tiled::attention_backward(shape, rule, in, forward, dout, grads,
                                    {.skip_dead_tiles = skip});
        },
    .weights = tiled::attention_weights<float>,
};

constexpr AttentionRule lazy_rule{Normalizer::elastic}, softmax_rule{Normalizer::softmax};

constexpr const char *skipping = "lazy, tiled", *not_skipping = "lazy, tiled, nothing skipped",
                     *on_dense_data = "lazy, tiled, dense data";

// One of our implementations on one problem.
struct Own {
  std::string name;
  const Implementation<float>& run;
  AttentionRule rule;
  AttentionShape shape;
  BenchProblem<float> problem;
  BenchAnswer<float> answer = blank_answer<float>(shape);

  void forward() { run.forward(shape, rule, problem.inputs(), answer.outputs()); }
  void backward() {  // adds up from call to call, as in training
    run.backward(shape, rule, problem.inputs(), answer.outputs(), problem.dout.data(),
                 answer.grads());
  }
  Times once() {
    const Stopwatch alone;
    forward();
    const double forward_seconds = alone.seconds();
    const Stopwatch both;
    forward();
    const Stopwatch second_half;
    backward();
    return {1e3 * forward_seconds, 1e3 * both.seconds(), 1e3 * second_half.seconds()};
  }
};

AttentionShape without_bias(AttentionShape shape) {
  shape.window = 0;
  return shape;
}

// The first one is what everybody is compared with.
std::vector<std::shared_ptr<Own>> own_contenders(const BenchCase& c, bool with_oracle) {
  std::vector<std::shared_ptr<Own>> all;
  const auto add = [&](const char* name, const Implementation<float>& run, AttentionRule rule,
                       const AttentionShape& shape, const BenchCase& data) {
    all.push_back(std::shared_ptr<Own>(new Own{name, run, rule, shape, make_bench_problem(data)}));
  };
  add(skipping, tiled_implementation<true>, lazy_rule, c.shape, c);
  add(not_skipping, tiled_implementation<false>, lazy_rule, c.shape, c);
  if (c.local) add(on_dense_data, tiled_implementation<true>, lazy_rule, c.shape, dense(c));
  add("softmax, tiled", tiled_implementation<true>, softmax_rule, without_bias(c.shape), c);
  if (with_oracle) add("lazy, oracle", implementations<float>[0], lazy_rule, c.shape, c);
  return all;
}

struct Contender {
  std::string name;
  double error_share;  // of its budget
  std::function<Times()> turn;
};

double share(const Verdict& verdict) {
  return worst(verdict).error / worst(verdict).budget;
}

std::vector<Contender> validated_own(Bench& bench, const BenchCase& c, bool with_oracle) {
  std::vector<Contender> valid;
  for (const auto& own : own_contenders(c, with_oracle)) {
    const Verdict verdict = judge(own->shape, own->rule, own->problem, own->run);
    if (passes(verdict))
      valid.push_back({own->name, share(verdict), [own, seconds = bench.turn_seconds] {
                         return turn(seconds, [&] { return own->once(); });
                       }});
    else
      report_wrong(bench, own->name + ": " + failures(verdict));
  }
  return valid;
}

void write_problem(const std::filesystem::path& folder, const BenchProblem<float>& p) {
  const auto write = [&](const char* name, const CpuBackend::Buffer<float>& x) {
    write_numbers(folder / name, x.data(), x.size());
  };
  write("q.f32", p.q), write("k.f32", p.k), write("v.f32", p.v), write("dout.f32", p.dout);
  write("bias.f32", p.bias), write("tau.f32", p.tau);
}

BenchAnswer<float> read_answer(const std::filesystem::path& folder, const AttentionShape& s,
                               bool is_lazy) {
  const std::size_t size = s.batch * s.keys * s.heads * s.head_dim;
  const auto read = [&](const char* name, std::size_t n) { return read_numbers(folder / name, n); };
  BenchAnswer<float> a;
  a.out = read("out.f32", size);
  a.dq = read("dq.f32", size), a.dk = read("dk.f32", size), a.dv = read("dv.f32", size);
  if (is_lazy) a.dbias = read("dbias.f32", s.heads * s.window), a.dtau = read("dtau.f32", s.heads);
  return a;
}

Times peer_turn(Peer& peer, const std::string& contender, double seconds) {
  const auto answer = peer.ask({{"ask", "time"}, {"contender", contender}, {"seconds", seconds}});
  return {positive(answer, "forward"), positive(answer, "both"), positive(answer, "backward")};
}

// Eager PyTorch holds many T x T matrices a head at once.
bool fits(const AttentionShape& s) {
  constexpr double matrices = 15;
  const double matrix = double(sizeof(float) * s.batch * s.heads) * double(s.keys) * double(s.keys);
  const double needed = matrices * matrix;
  if (needed <= available_memory()) return true;
  report_left_out("everybody", "eager attention needs about " + readable_size(needed) + ", " +
                                   readable_size(available_memory()) + " are free");
  return false;
}

// What a case gives the peers, and what it expects of them.
struct Exam {
  BenchCase bench_case;
  BenchProblem<float> problem = make_bench_problem(bench_case);
  ExchangeFolder folder = {};
  std::map<bool, BenchAnswer<double>> answers = {};  // of softmax and of lazy, computed once

  const BenchAnswer<double>& exact(bool is_lazy) {
    const AttentionShape& s = bench_case.shape;
    if (!answers.contains(is_lazy))
      answers[is_lazy] = is_lazy ? exact_answer(s, lazy_rule, problem)
                                 : exact_answer(without_bias(s), softmax_rule, problem);
    return answers[is_lazy];
  }
};

void load_problem(Peer& peer, Exam& exam) {
  const auto inputs = exam.folder.subfolder(exam.bench_case.name);
  write_problem(inputs, exam.problem);
  const AttentionShape& s = exam.bench_case.shape;
  peer.ask({{"ask", "load"},
            {"folder", inputs.string()},
            {"shape",
             {{"batch", s.batch},
              {"length", s.keys},
              {"heads", s.heads},
              {"head_dim", s.head_dim},
              {"window", s.window}}}});
}

// Throws PeerError unless the peer computes the same.
Contender validated_peer(BenchPeer& p, const std::string& contender, Exam& exam, double seconds) {
  const bool is_lazy = contender == "lazy";
  load_problem(p.peer, exam);
  std::filesystem::remove_all(exam.folder.path / "answers");
  const auto folder = exam.folder.subfolder("answers");
  p.peer.ask({{"ask", "answer"}, {"contender", contender}, {"folder", folder.string()}});
  const Verdict verdict =
      judge_peer(read_answer(folder, exam.bench_case.shape, is_lazy), exam.exact(is_lazy));
  if (!passes(verdict)) throw PeerError("computes something else: " + failures(verdict));
  return {p.name(contender), share(verdict),
          [&peer = p.peer, contender, seconds] { return peer_turn(peer, contender, seconds); }};
}

std::vector<Contender> validated_peers(Bench& bench, const BenchCase& c) {
  // What they do takes the same time on any numbers: they are in the dense case of this shape.
  if (bench.peers.empty() || c.local || !fits(c.shape)) return {};
  Exam exam{c};
  std::vector<Contender> valid;
  for (const auto& p : bench.peers)
    for (const std::string& contender : p->contenders) {
      try {
        valid.push_back(validated_peer(*p, contender, exam, bench.turn_seconds));
      } catch (const PeerError& error) {
        report_left_out(p->name(contender), error.what());
      }
    }
  return valid;
}

// How much of the work was alive, and the time that skipping the rest saved.
BenchRow skipping_row(const BenchCase& c, const std::map<std::string, Times>& times) {
  BenchProblem<float> problem = make_bench_problem(c);
  BenchAnswer<float> answer = blank_answer<float>(c.shape);
  tiled::TileCounts counts;
  tiled::attention_forward(c.shape, lazy_rule, problem.inputs(), answer.outputs(),
                           {.counts = &counts});
  BenchRow row{"skipping",
               describe(c),
               skipping,
               {{"tiles", double(counts.tiles)},
                {"live_tiles", double(counts.live_tiles) / double(counts.tiles)},
                {"live_entries", double(counts.live_entries) / double(counts.entries)}}};
  const auto add = [&](const std::string& of, const char* other) {
    if (!times.contains(skipping) || !times.contains(other)) return;
    const Times &a = times.at(skipping), &b = times.at(other);
    row.values.push_back({"forward_of_" + of, a.forward / b.forward});
    row.values.push_back({"backward_of_" + of, a.backward / b.backward});
  };
  add("unskipped", not_skipping);
  if (c.local) add("dense", on_dense_data);
  return row;
}

}  // namespace

void bench_attention(Bench& bench, const BenchCase& c, bool with_oracle) {
  std::cout << "\n" << describe(c) << ": validated, then timed\n" << std::flush;
  std::vector<Contender> contenders = validated_own(bench, c, with_oracle);
  for (Contender& peer : validated_peers(bench, c)) contenders.push_back(std::move(peer));

  std::vector<std::function<Times()>> turns;
  for (const Contender& contender : contenders) turns.push_back(contender.turn);
  const std::vector<Times> times = interleaved(
      bench.rounds, turns,
      [&](std::size_t i, const std::string& why) { report_left_out(contenders[i].name, why); });

  std::map<std::string, Times> by_name;
  for (std::size_t i = 0; i < contenders.size(); ++i) by_name[contenders[i].name] = times[i];
  const Times nobody = medians({});
  const Times ours = by_name.contains(skipping) ? by_name[skipping] : nobody;
  const auto percent = [&](double products, double milliseconds) {
    return 100 * products * product_flop(c.shape) / (1e-3 * milliseconds) / bench.peak;
  };
  std::vector<BenchRow> rows;
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    const Times& t = times[i];
    rows.push_back({"attention",
                    describe(c),
                    contenders[i].name,
                    {{"forward_ms", t.forward},
                     {"forward_percent", percent(forward_products, t.forward)},
                     {"forward_ratio", t.forward / ours.forward},
                     {"both_ms", t.both},
                     {"both_percent", percent(both_products, t.both)},
                     {"both_ratio", t.both / ours.both},
                     {"backward_ms", t.backward},
                     {"backward_ratio", t.backward / ours.backward},
                     {"error_share", contenders[i].error_share}}});
  }
  report_rows(bench, "", rows);
  if (by_name.contains(skipping)) report_rows(bench, "", {skipping_row(c, by_name)});
}

}  // namespace lazy
