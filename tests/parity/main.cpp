// The parity card: every rung of the ladder in every format it computes, error against float64
// beside the error of the plain program in that format, on the GPU if there is one, else emulated.
//
//   lazy_parity [--device auto|cuda|emulated] [--grid short|full] [--only RUNG] [--seed N]
//               [--no-poison] [--commit TEXT] [--out FILE.json]
//
// Exit code 0 if all is green, 1 if not, 2 if it was asked something impossible.

#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>

#include "tests/parity/card.hpp"
#include "tests/parity/choose_device.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

struct Wish {
  std::string device = "auto", grid = "", only, commit = "unknown", out, command;
  std::uint64_t seed = 1;
  bool poison = true;
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
    if (option == "--no-poison") {
      wish.poison = false;
      continue;
    }
    if (!texts.contains(option) && option != "--seed")
      throw std::invalid_argument(option +
                                  " is no option; there are --device --grid --only --seed "
                                  "--no-poison --commit --out");
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
  if (chosen.empty())
    throw std::invalid_argument("--only " + wish.only + " is no rung; leave it out to see them");
  return chosen;
}

int show_card(const Wish& wish) {
  std::string device_text;
  const LazyDevice device = choose_device(wish.device, device_text);
  const std::vector<ParityCase> cases = chosen_cases(wish, device);
  std::cout << "Device: " << device_text << ". Largest error over the largest entry, against "
            << "float64 / of the plain program in the same format.\n"
            << card_heading() << "\n";

  auto lines = nlohmann::ordered_json::array();
  int red = 0;
#pragma omp parallel for ordered schedule(dynamic, 1)
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const ParityResult result = ask(cases[i], device, wish.poison);
#pragma omp ordered
    {
      std::cout << card_line(result) << "\n";
      if (!result.passes()) {
        ++red;
        std::cout << "     " << result.faults() << "\n     " << describe(result.asked.recipe)
                  << "\n";
      }
      std::cout << std::flush;
      lines.push_back(card_json(result));
    }
  }
  std::cout << cases.size() - red << " green, " << red << " red, on " << device_text << "\n";
  if (!wish.out.empty()) {
    const nlohmann::ordered_json card{{"device", device_text},
                                      {"commit", wish.commit},
                                      {"command", wish.command},
                                      {"green", cases.size() - red},
                                      {"red", red},
                                      {"cases", lines}};
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
