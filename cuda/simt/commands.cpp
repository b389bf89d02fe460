#include "cuda/simt/commands.hpp"

#include <utility>

namespace lazy::emulated {
namespace {

thread_local Commands* recorded = nullptr;

// Ends the recording also if the work throws.
struct Recorded {
  Commands commands;
  Commands* outer = std::exchange(recorded, &commands);
  ~Recorded() { recorded = outer; }
};

}  // namespace

void give(std::function<void()> command) {
  if (recorded)
    recorded->push_back(std::move(command));
  else
    command();
}

Commands record_commands(const std::function<void()>& work) {
  Recorded recording;
  work();
  return std::move(recording.commands);
}

}  // namespace lazy::emulated
