// The parity card: every rung of the ladder in every format it computes, error against float64
// beside the error of the plain program in that format, on the GPU if there is one, else emulated;
// then a whole model, judged in the same way.
//
//   lazy_parity [--device auto|cuda|emulated] [--grid short|full] [--only RUNG|model] [--seed N]
//               [--no-poison] [--no-model] [--commit TEXT] [--out FILE.json]
//
// Exit code 0 if all is green, 1 if not, 2 if it was asked something impossible.

#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>

#include "tests/parity/card.hpp"
#include "tests/parity/choose_device.hpp"
#include "tests/parity/model_card.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

struct Wish {
  std::string device = "auto", grid = "", only, commit = "unknown", out, command;
  std::uint64_t seed = 1;
  bool poison = true, model = true;
};

Wish read(int argc, char** argv) {
  Wish wish;
  std::map<std::string, std::string*> texts{{"--device", &wish.device},
                                            {"--grid", &wish.grid},
                                            {"--only", &wish.only},
                                            {"--commit", &wish.commit},
                                            {"--out", &wish.out}};
  for (int i = 0; i < argc; ++i) wish.command += (i ? " " : "") + std::string(argv[i]);
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--no-poison" || option == "--no-model") {
      (option == "--no-poison" ? wish.poison : wish.model) = false;
      continue;
    }
    if (!texts.contains(option) && option != "--seed")
      throw std::invalid_argument(option +
                                  " is no option; there are --device --grid --only --seed "
                                  "--no-poison --no-model --commit --out");
    if (++i == argc) throw std::invalid_argument(option + " needs a value behind it");
    if (option == "--seed")
      wish.seed = std::stoull(argv[i]);
    else
      *texts.at(option) = argv[i];
  }
  const auto one_of = [](const std::string& option, const std::string& value, auto... choices) {
    if (((value != choices) && ...))
      throw std::invalid_argument(option + " " + value + " is not one of" +
                                  ((" " + std::string(choices)) + ...));
  };
  one_of("--device", wish.device, "auto", "cuda", "emulated");
  if (!wish.grid.empty()) one_of("--grid", wish.grid, "short", "full");
  return wish;
}

std::vector<ParityCase> chosen_cases(const Wish& wish, LazyDevice device) {
  const std::string grid = !wish.grid.empty() ? wish.grid : device == LAZY_CUDA ? "full" : "short";
  std::vector<ParityCase> chosen;
  for (const ParityCase& c : grid == "full" ? full_grid(wish.seed) : short_grid(wish.seed))
    if (wish.only.empty() || wish.only == c.rung) chosen.push_back(c);
  if (chosen.empty() && wish.only != "model")
    throw std::invalid_argument("--only " + wish.only +
                                " is no rung, nor model; leave it out to see them");
  return chosen;
}

int show_card(const Wish& wish) {
  std::string device_text;
  const LazyDevice device = choose_device(wish.device, device_text);
  const std::vector<ParityCase> cases = chosen_cases(wish, device);
  std::cout << "Device: " << device_text << ". Largest error over the largest entry, against "
            << "float64 / of the plain program in the same format.\n"
            << card_heading() << "\n";

  auto lines = nlohmann::ordered_json::array(), model_lines = lines;
  std::size_t green = 0, red = 0;
#pragma omp parallel for ordered schedule(dynamic, 1)
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const ParityResult result = ask(cases[i], device, wish.poison);
#pragma omp ordered
    {
      std::cout << card_line(result) << "\n";
      ++(result.passes() ? green : red);
      if (!result.passes())
        std::cout << "     " << result.faults() << "\n     " << describe(result.asked.recipe)
                  << "\n";
      std::cout << std::flush;
      lines.push_back(card_json(result));
    }
  }
  if (wish.model && (wish.only.empty() || wish.only == "model")) {
    std::cout << model_heading() << "\n";
    for (const ModelResult& result : ask_models(wish.seed, device)) {
      std::cout << model_line(result) << "\n";
      ++(result.passes() ? green : red);
      if (!result.passes()) std::cout << "     " << result.faults() << "\n";
      model_lines.push_back(model_json(result));
    }
  }
  std::cout << green << " green, " << red << " red, on " << device_text << "\n";
  if (!wish.out.empty()) {
    const nlohmann::ordered_json card{{"device", device_text},
                                      {"commit", wish.commit},
                                      {"command", wish.command},
                                      {"green", green},
                                      {"red", red},
                                      {"cases", lines},
                                      {"models", model_lines}};
    std::ofstream file(wish.out);
    file << card.dump(1) << "\n";
    if (!file.flush())
      throw std::runtime_error("could not write " + wish.out + "; is its folder there?");
    std::cout << "written: " << wish.out << "\n";
  }
  return red ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return show_card(read(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "lazy_parity: " << error.what() << "\n";
    return 2;
  }
}
