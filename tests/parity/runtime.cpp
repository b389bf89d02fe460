// What the model needs of a device beside kernels: matrix products against float64, copies,
// recorded steps; on the GPU if there is one, else emulated.
//
//   lazy_runtime [auto|cuda|emulated]
//
// Exit code 0 if all is green, 1 if not, 2 if it was asked something impossible.

#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>

#include "tests/parity/choose_device.hpp"
#include "tests/recording_checks.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

class Card {
 public:
  void ask(const std::string& what, const std::function<std::string()>& faults) {
    std::string text;
    try {
      text = faults();
    } catch (const std::exception& error) {
      text = error.what();
    }
    std::cout << (text.empty() ? "green  " : "RED    ") << what << "\n";
    if (!text.empty()) std::cout << "       " << text << "\n";
    ++(text.empty() ? green : red);
  }

  int green = 0, red = 0;
};

template <class A>
void ask_products(Card& card, LazyDevice device, const std::string& format) {
  card.ask("products of whole numbers, " + format, [&] { return exact_product_faults<A>(device); });
  for (const ProductSizes& s : product_sizes)
    card.ask("products, " + format + ", N " + std::to_string(s.N) + " In " + std::to_string(s.In) +
                 " Out " + std::to_string(s.Out),
             [&] { return product_faults<A>(device, s); });
  card.ask("a recorded step, " + format, [&] { return recording_faults<A>(device); });
}

int show_card(const std::string& wanted) {
  if (wanted != "auto" && wanted != "cuda" && wanted != "emulated")
    throw std::invalid_argument(wanted + " is no device; there are auto, cuda, emulated");
  std::string name;
  const LazyDevice device = choose_device(wanted, name);
  Card card;
  card.ask("copies to the device", [&] { return upload_faults(device); });
  ask_products<float>(card, device, "float32");
  ask_products<BFloat16>(card, device, "bfloat16");
  std::cout << card.green << " green, " << card.red << " red, on " << name << "\n";
  return card.red ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return show_card(argc > 1 ? argv[1] : "auto");
  } catch (const std::exception& error) {
    std::cerr << "lazy_runtime: " << error.what() << "\n";
    return 2;
  }
}
