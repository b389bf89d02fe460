// A recording on a GPU: a CUDA graph, captured from the model's stream.

#include "cuda/recording.hpp"

#include <memory>

#include "cuda/memory.hpp"
#include "cuda/runtime/check.hpp"

namespace lazy::cuda {
namespace {

template <class Handle, cudaError_t (*destroy)(Handle)>
struct Destroy {
  using pointer = Handle;
  void operator()(Handle handle) const { destroy(handle); }
};
using Graph = std::unique_ptr<cudaGraph_t, Destroy<cudaGraph_t, cudaGraphDestroy>>;

// What the stream was given since the capture began; null if it was broken off.
cudaError_t end_capture(cudaStream_t stream, Graph& graph) {
  cudaGraph_t captured = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream, &captured);
  graph.reset(captured);
  cudaGetLastError();  // or the next launch would report it
  return error;
}

}  // namespace

std::function<void()> record(const std::function<void()>& work) {
  const auto stream = static_cast<cudaStream_t>(memory().stream());
  Graph graph;
  // Of this thread only: another may allocate meanwhile.
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "starting to record");
  try {
    work();
  } catch (...) {
    end_capture(stream, graph);
    throw;
  }
  check(end_capture(stream, graph),
        "recording: something was called that a GPU cannot repeat by itself, as waiting, "
        "allocating or work on another stream");
  cudaGraphExec_t launchable = nullptr;
  check(cudaGraphInstantiate(&launchable, graph.get(), 0), "preparing what was recorded");
  const std::shared_ptr<CUgraphExec_st> kept(launchable, cudaGraphExecDestroy);
  return
      [kept, stream] { check(cudaGraphLaunch(kept.get(), stream), "launching what was recorded"); };
}

}  // namespace lazy::cuda
