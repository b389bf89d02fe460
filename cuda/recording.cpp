#include "cuda/recording.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/memory.hpp"
#include "cuda/simt/commands.hpp"

namespace lazy {
namespace {

thread_local bool recording = false;

struct WhileRecording {
  ~WhileRecording() { recording = false; }
};

std::function<void()> record(LazyDevice device, const std::function<void()>& work) {
#if defined(LAZY_WITH_CUDA)
  if (device == LAZY_CUDA) return cuda::record(work);
#endif
  memory(device);  // refuses CUDA where there is none
  return emulated::record(work);
}

}  // namespace

Recording::Recording(LazyDevice device, const std::function<void()>& work) {
  refuse_while_recording("another recording");
  launch_ = record(device, [&] {
    const WhileRecording until_done;
    recording = true;
    work();
  });
}

void refuse_while_recording(const char* what) {
  if (recording)
    throw std::logic_error(std::string(what) +
                           " cannot be recorded: it needs the host at every launch; do it before "
                           "the recording is made or between launches");
}

std::function<void()> emulated::record(const std::function<void()>& work) {
  return [commands = record_commands(work)] {
    for (const auto& command : commands) command();
  };
}

}  // namespace lazy
