// `lazy bench`: its arithmetic by hand, its judge on wrong answers, its peers played by scripts.
// Nothing here looks at how long anything takes.

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/bench.hpp"
#include "apps/bench_judge.hpp"
#include "apps/peak.hpp"
#include "apps/stopwatch.hpp"
#include "reference/oracle.hpp"
#include "tests/answers.hpp"
#include "tests/train_tool.hpp"

using namespace lazy;
using namespace lazy::test;
using Json = nlohmann::ordered_json;

namespace {

const BenchCase small_case = bench_cases(true)[0];
constexpr AttentionRule lazy_rule{Normalizer::elastic}, softmax_rule{Normalizer::softmax};

const Words bench_tool = Words{"env", "-C", GOLDEN_DIR "/../.."} + Words{LAZY_TOOL, "bench"};

// A program of its own, to stand in for Python; it is given peer.py and the number of threads.
std::string script(const TemporaryFolder& folder, const std::string& lines) {
  const auto path = folder.path / "fake";
  write_file(path, "#!/bin/sh\n" + lines);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

Verdict judged(const Implementation<float>& implementation) {
  return judge(small_case.shape, lazy_rule, make_bench_problem(small_case), implementation);
}

std::string failing(const Verdict& verdict) {
  return passes(verdict) ? "" : worst(verdict).name;
}

const Json& row_of(const Json& results, const std::string& part, const std::string& contender) {
  for (const Json& row : results)
    if (row["part"] == part && row["contender"] == contender) return row;
  FAIL("no row of " << part << ", " << contender);
  return results;
}

// Throws where it is not there or a word.
double number_in(const Json& row, const char* name) {
  return row.at(name).get<double>();
}

}  // namespace

TEST_CASE("flop of a causal product: two for every component of every visible entry", "[bench]") {
  CHECK(product_flop({.keys = 3, .head_dim = 2}) == 2 * 2 * 6);
  CHECK(product_flop({.batch = 2, .keys = 3, .heads = 5, .head_dim = 2}) == 2 * 5 * 2 * 2 * 6);
  CHECK(product_flop({.keys = 1, .head_dim = 1}) == 2);
}

TEST_CASE("contenders take turns, and their medians are taken part by part", "[bench]") {
  std::string order;
  const double forward[] = {5, 1, 3};
  int round = 0;
  std::vector<std::string> left_out;
  const auto times =
      interleaved(3,
                  {[&] {
                     order += "a";
                     ++round;
                     return Times{.forward = forward[round - 1], .backward = 10.0 * round};
                   },
                   [&]() -> Times {
                     order += "b";
                     if (round == 2) throw PeerError("b is gone");
                     return {.forward = 7};
                   },
                   [&] {
                     order += "c";
                     return Times{.both = 4};
                   }},
                  [&](std::size_t i, const std::string& why) {
                    left_out.push_back(std::to_string(i) + " " + why);
                  });
  CHECK(order == "abcabcac");
  CHECK(left_out == std::vector<std::string>{"1 b is gone"});
  REQUIRE(times.size() == 3);
  CHECK(times[0].forward == 3);
  CHECK(times[0].backward == 20);
  CHECK(std::isnan(times[0].both));
  CHECK(std::isnan(times[1].forward));  // one round of three is no median
  CHECK(times[2].both == 4);
}

TEST_CASE("a turn is a call that does not count, and at least one that does", "[bench]") {
  int calls = 0;
  const Times t = turn(0, [&] { return Times{.both = double(++calls)}; });
  CHECK(calls == 2);
  CHECK(t.both == 2);
}

TEST_CASE("the peak is a number of this build's vectors", "[bench]") {
  CHECK(fma_peak(1) > 0);
  CHECK(std::isfinite(fma_peak(2)));
  CHECK(vector_bytes() % 16 == 0);
}

TEST_CASE("the judge passes the oracle and names what a broken implementation gets wrong",
          "[bench]") {
  const Implementation<float>& right = implementations<float>[0];
  CHECK(judged(right).size() == 8);
  CHECK(failing(judged(right)).empty());

  Implementation<float> wrong = right;
  wrong.forward = [](const AttentionShape& s, const AttentionRule& rule,
                     const AttentionInputs<float>& in, const AttentionOutputs<float>& out) {
    oracle::attention_forward(s, rule, in, out);
    out.out[s.heads * s.head_dim] += 1e-4f;  // the second row: the first one is dead
  };
  CHECK(failing(judged(wrong)) == "out");

  wrong.forward = [](const AttentionShape& s, const AttentionRule& rule,
                     const AttentionInputs<float>& in, const AttentionOutputs<float>& out) {
    std::vector<float> lost(s.batch * s.queries * s.heads);
    oracle::attention_forward(s, rule, in, {out.out, lost.data()});
  };
  CHECK(failing(judged(wrong)) == "lse");  // never written

  wrong = right;
  wrong.backward = [](const AttentionShape& s, const AttentionRule& rule,
                      const AttentionInputs<float>& in, const AttentionOutputs<float>&,
                      const float* dout, const AttentionGrads<float>& grads) {
    oracle::attention_backward(s, rule, in, dout, grads);
    grads.dtau[1] *= 1.001f;
  };
  CHECK(failing(judged(wrong)) == "dtau");

  wrong = right;
  wrong.weights = [](const AttentionShape& s, const AttentionRule& rule,
                     const AttentionInputs<float>& in, const AttentionOutputs<float>&, Index b,
                     Index head, Index first_row, Index rows, float* weights) {
    oracle::attention_weights(s, rule, in, b, head, first_row, rows, weights);
    for (Index i = 0; i < rows * s.keys; ++i)
      if (weights[i] < 0.01f) weights[i] = 0;  // a gate of its own
  };
  CHECK(!passes(judged(wrong)));
}

TEST_CASE("softmax is no peer of Lazy Attention", "[bench]") {
  const BenchProblem<float> problem = make_bench_problem(small_case);
  const AttentionShape& s = small_case.shape;
  const auto exact = exact_answer(s, lazy_rule, problem);
  BenchAnswer<float> answer = blank_answer<float>(s);
  CHECK(!passes(judge_peer(answer, exact)));
  oracle::attention_forward(s, lazy_rule, problem.inputs(), answer.outputs());
  oracle::attention_backward(s, lazy_rule, problem.inputs(), problem.dout.data(), answer.grads());
  CHECK(passes(judge_peer(answer, exact)));
  CHECK(!passes(judge_peer(answer, exact_answer(s, softmax_rule, problem))));
}

TEST_CASE("results as table, CSV and JSON", "[bench]") {
  const std::vector<BenchRow> rows{
      {"part", "B 1, T 2", "me", {{"forward_ms", 12.345}, {"ratio", 1}}},
      {"part", "B 1, T 2", "somebody", {{"forward_ms", 2345.6}, {"tokens_per_second", NAN}}}};
  CHECK(table_text(rows) ==
        "            forward             tokens\n"
        "                 ms  ratio  per second\n"
        "  me           12.3   1.00           -\n"
        "  somebody    2,346      -           -\n");
  CHECK(csv_text(rows) ==
        "part,subject,contender,quantity,value\n"
        "part,\"B 1, T 2\",me,forward_ms,12.345\n"
        "part,\"B 1, T 2\",me,ratio,1\n"
        "part,\"B 1, T 2\",somebody,forward_ms,2345.6\n"
        "part,\"B 1, T 2\",somebody,tokens_per_second,\n");
  const Json json = rows_json(rows);
  CHECK(json[0]["forward_ms"] == 12.345);
  CHECK(json[1]["contender"] == "somebody");
  CHECK(json[1]["tokens_per_second"] == "NaN");
}

TEST_CASE("a peer that dies, talks nonsense or refuses is an error with a reason", "[bench]") {
  const TemporaryFolder folder;
  const auto hello = std::string("echo '{\"name\": \"Fake\"}'\nread line\n");
  const auto started = [&](const std::string& lines) { Peer({script(folder, lines)}, {}); };
  const auto asked = [&](const std::string& lines) {
    Peer peer({script(folder, hello + lines)}, {});
    CHECK(peer.introduction()["name"] == "Fake");
    const std::string first = refusal<PeerError>([&] { peer.ask({{"ask", "x"}}); });
    const std::string second = refusal<PeerError>([&] { peer.ask({{"ask", "x"}}); });
    return first + " | " + second;
  };
  CHECK(mentions(refusal<PeerError>([] { Peer({"/nonesuch/python"}, {}); }), "cannot run"));
  CHECK(mentions(refusal<PeerError>([&] { started("echo no module torch >&2; exit 3\n"); }),
                 "status 3, saying: no module torch"));
  CHECK(mentions(refusal<PeerError>([&] { started("echo hello\n"); }), "not an answer: hello"));
  CHECK(mentions(refusal<PeerError>([&] { started("echo '{\"error\": \"no torch\"}'\n"); }),
                 "no torch"));
  CHECK(mentions(asked("kill -9 $$\n"), "signal 9 ended it | no answer"));
  CHECK(mentions(asked("echo '[1, 2'\n"), "not an answer: [1, 2 | not an answer"));
  CHECK(mentions(
      asked("echo '{\"error\": \"too large\"}'\nread line\necho '{\"error\": \"still\"}'\n"),
      "\"too large\" | \"still\""));
  for (const char* answer : {"{}", "{\"ms\": 0}", "{\"ms\": \"3\"}", "{\"ms\": -1}"})
    CHECK(mentions(refusal<PeerError>([&] { positive(Json::parse(answer), "ms"); }), "\"ms\""));
  CHECK(positive({{"ms", 2.5}}, "ms") == 2.5);
}

TEST_CASE("lazy bench --quick leaves every promised number in its files", "[bench]") {
  const TemporaryFolder folder;
  const std::string out = folder.path / "result";
  const Outcome outcome = succeed(bench_tool + Words{"--quick", "--rounds", "2", "--threads", "2",
                                                     "--oracle", "--peers", "none", "--out", out});
  CHECK(mentions_all(outcome.out, {"GFLOP/s", "lazy, oracle", "dense", "local", "result.json"}));

  const Json json = Json::parse(text_of(out + ".json"));
  for (const char* fact : {"date", "commit", "command", "compiler", "flags", "cpu"})
    CHECK(!json.at(fact).get<std::string>().empty());
  CHECK(json["threads"] == 2);
  CHECK(json["rounds"] == 2);
  CHECK(json["vector_bytes"] == vector_bytes());
  CHECK(mentions(json["command"], "bench --quick"));
  for (const char* when : {"one_thread", "start", "end", "used"})
    CHECK(number_in(json["peak_gflops"], when) > 0);
  CHECK(json["peers"].empty());
  CHECK(json["wrong"].empty());

  const Json& results = json["results"];
  for (const char* contender :
       {"lazy, tiled", "lazy, tiled, nothing skipped", "softmax, tiled", "lazy, oracle"})
    for (const char* number : {"forward_ms", "forward_percent", "forward_ratio", "both_ms",
                               "both_percent", "both_ratio", "backward_ms", "error_share"})
      CHECK(number_in(row_of(results, "attention", contender), number) > 0);
  const Json& skipping = row_of(results, "skipping", "lazy, tiled");
  for (const char* number :
       {"tiles", "live_tiles", "live_entries", "forward_of_unskipped", "backward_of_unskipped"})
    CHECK(number_in(skipping, number) > 0);
  CHECK(number_in(row_of(results, "training", "lazy, ours"), "tokens_per_second") > 0);
  const Json& decoding = row_of(results, "decoding", "lazy, 16 tokens in the cache");
  CHECK(number_in(decoding, "tokens_per_second") > 0);
  const Json& memory = row_of(results, "memory", "lazy, tiled");
  CHECK(number_in(memory, "forward_MB") > 0);
  CHECK(number_in(memory, "both_MB") > 0);

  const std::string csv = text_of(out + ".csv");
  std::size_t numbers = 0;
  for (const Json& row : results) numbers += row.size() - 3;
  CHECK(std::size_t(std::count(csv.begin(), csv.end(), '\n')) == numbers + 1);
}

TEST_CASE("a peer is validated, asked once a round, and compared with ours", "[bench]") {
  const TemporaryFolder folder;
  const auto exact = exact_answer(small_case.shape, lazy_rule, make_bench_problem(small_case));
  std::filesystem::create_directory(folder.path / "answers");
  for (const auto& [name, values] : {std::pair{"out", &exact.out},
                                     {"dq", &exact.dq},
                                     {"dk", &exact.dk},
                                     {"dv", &exact.dv},
                                     {"dbias", &exact.dbias},
                                     {"dtau", &exact.dtau}}) {
    const std::vector<float> rounded(values->begin(), values->end());
    write_numbers(folder.path / "answers" / (std::string(name) + ".f32"), rounded.data(),
                  rounded.size());
  }
  const std::string log = folder.path / "log", out = folder.path / "result";
  const auto fake = [&](const std::string& answers) {
    return script(
        folder,
        "echo '{\"name\": \"Fake '$MALLOC_TOP_PAD_'\", \"contenders\": [\"lazy\"]}'\n"
        "while read -r line; do\n"
        "  echo \"$line\" >> " +
            log +
            "\n"
            "  case $line in\n"
            "    *'\"ask\":\"answer\"'*)\n"
            "      cp " +
            answers +
            " \"$(echo \"$line\" | "
            "sed 's/.*\"folder\":\"\\([^\"]*\\)\".*/\\1/')\" && echo '{}' ;;\n"
            "    *'\"ask\":\"time\"'*) echo '{\"forward\": 3, \"both\": 8, \"backward\": 5}' ;;\n"
            "    *) echo '{}' ;;\n"
            "  esac\n"
            "done\n");
  };
  const auto bench = [&](const std::string& python) {
    return succeed(bench_tool + Words{"--quick", "--only", "attention", "--cases", "dense",
                                      "--rounds", "3", "--peers", python, "--out", out});
  };
  bench(fake((folder.path / "answers" / "*").string()));
  const Json results = Json::parse(text_of(out + ".json"))["results"];
  const Json& ours = row_of(results, "attention", "lazy, tiled");
  for (const char* name : {"lazy, Fake 1000000000", "lazy, Fake , default malloc"}) {
    const Json& theirs = row_of(results, "attention", name);
    CHECK(number_in(theirs, "forward_ms") == 3);
    CHECK(number_in(theirs, "backward_ms") == 5);
    check_near({number_in(theirs, "forward_ratio"), number_in(theirs, "both_ratio")},
               {3 / number_in(ours, "forward_ms"), 8 / number_in(ours, "both_ms")});
  }
  const std::string requests = text_of(log);
  std::size_t times = 0;
  for (std::size_t at = 0; (at = requests.find("\"time\"", at)) != std::string::npos; ++at) ++times;
  CHECK(times == 2 * 3);

  const Outcome wrong = bench(fake((folder.path / "answers" / "d*").string()));
  CHECK(mentions(wrong.out, "lazy, Fake 1000000000 is left out: its out.f32 holds nothing"));
  const std::vector<float> zeros(exact.out.size());
  write_numbers(folder.path / "answers" / "out.f32", zeros.data(), zeros.size());
  CHECK(mentions(bench(fake((folder.path / "answers" / "*").string())).out,
                 "is left out: computes something else: out errs by 1.0e+00"));
  CHECK(mentions(bench("/nonesuch/python").out, "is left out: cannot run"));
}

TEST_CASE("lazy bench refuses what makes no sense", "[bench]") {
  check_fails(bench_tool + Words{"--cases", "T5"}, 2, {"no case is called T5", "T4096", "local"});
  check_fails(bench_tool + Words{"--rounds", "0"}, 2, {"--rounds is 0"});
  check_fails(bench_tool + Words{"--threads", "0"}, 2, {"--threads"});
  check_fails(bench_tool + Words{"--only", "sleeping"}, 2, {"--only"});
  check_fails(bench_tool + Words{"--out", "/nonesuch/result"}, 2, {"no folder /nonesuch"});
}

TEST_CASE("PyTorch, where it is installed, computes and trains the same", "[.][full][bench]") {
  const Outcome outcome = succeed(bench_tool + Words{"--quick", "--rounds", "1"});
  INFO(outcome.out);
  if (mentions(outcome.out, "python3 is left out")) {
    WARN("python3 has no PyTorch");
    return;
  }
  CHECK(mentions(outcome.out, "softmax, PyTorch"));
  CHECK(!mentions(outcome.out, "left out"));
}
