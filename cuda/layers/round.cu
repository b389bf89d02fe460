// The parameters in the type of what is computed with them.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

constexpr int threads = 256;

template <class A>
struct RoundArguments {
  Index size;
  Global<A> to;
  Global<const float> from;
};

template <class A, int width>
__global__ void round_kernel(RoundArguments<A> a) {
  const Index me = Index(block_index().x) * threads + thread_index();
  const Index whole = a.size / width * width;
  if (me * width < whole) store(a.to, me * width, load<width>(a.from, me * width));
  if (whole + me < a.size) a.to[whole + me] = from_float<A>(a.from[whole + me]);
}

}  // namespace

template <class A>
void round(A* to, const float* from, Index size, void* stream) {
  if (size == 0) return;
  constexpr int widest = vector_width<float>;
  with_width<widest>(
      0,
      [&](auto wide) {
        constexpr int width = decltype(wide)::value;
        const int blocks = static_cast<int>(divided_up<Index>(size, threads * width));
        launch({"round", {blocks}, threads, 0, static_cast<Stream>(stream)}, round_kernel<A, width>,
               {size, view(to, size), view(from, size)});
      },
      to, from);
}

template void round(float*, const float*, Index, void*);
template void round(BFloat16*, const float*, Index, void*);

}  // namespace lazy::LAZY_TARGET
