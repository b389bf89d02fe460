// From the joint projection to the heads of q, k and v, turned by their positions, and back. Both
// ways a number of a head needs its partner half a head away:
//
//   x[m] cos - x[m + D/2] sin     x[m + D/2] cos + x[m] sin     (back: with -sin)
//
// One block a row of the projection; a thread turns some neighbours.

#include "cuda/layers/kernels.hpp"
#include "cuda/layers/rows.hpp"

namespace lazy::LAZY_TARGET {
namespace {

template <class A>
struct HeadArguments {
  Index length, capacity;
  int heads, kv_heads, head_dim, threads;
  Global<const float> rope;  // [positions, D/2, 2]
  Global<const Index> past;
  Global<A> q, k, v;
  Global<A> joint;  // [N, (H + 2 Hkv) D]
};

// Where a head of a row lies among q, k or v.
template <class A>
struct HeadPlace {
  Global<A> array;
  Index first;
};

template <class A>
__device__ HeadPlace<A> place(const HeadArguments<A>& a, Index row, Index sequence, Index position,
                              int head) {
  if (head < a.heads) return {a.q, (row * a.heads + head) * a.head_dim};
  const bool key = head < a.heads + a.kv_heads;
  const int kv_head = head - a.heads - (key ? 0 : a.kv_heads);
  return {key ? a.k : a.v,
          ((sequence * a.capacity + position) * a.kv_heads + kv_head) * a.head_dim};
}

// x turned by the angles of its position; `sign` -1 turns back.
template <int width>
__device__ Floats<width> turned(const Floats<width>& x, const Floats<width>& partner, bool upper,
                                float sign, Global<const float> rope, Index at) {
  constexpr int pairs = width > 1 ? 2 : 1;  // cosines and sines loaded at once
  Floats<width> y;
  for (int i = 0; i < width; i += pairs) {
    const auto angles = load<2 * pairs>(rope, at + 2 * i);
    for (int j = 0; j < pairs; ++j) {
      const float cos = angles[2 * j],
                  sin = upper ? sign * angles[2 * j + 1] : -sign * angles[2 * j + 1];
      y[i + j] = x[i + j] * cos + partner[i + j] * sin;
    }
  }
  return y;
}

template <class A, int width, bool split>
__global__ void heads_kernel(HeadArguments<A> a) {
  const Index row = block_index().x, sequence = row / a.length;
  const Index position = row % a.length + (a.past ? a.past[sequence] : 0);
  const int D = a.head_dim, half = D / 2, columns = (a.heads + 2 * a.kv_heads) * D;
  for (int c = thread_index() * width; c < columns; c += a.threads * width) {
    const int head = c / D, d = c % D;
    const HeadPlace<A> there = place(a, row, sequence, position, head);
    const Global<A> from = split ? a.joint : there.array, to = split ? there.array : a.joint;
    const Index source = split ? row * columns + head * D : there.first;
    const Index target = split ? there.first : row * columns + head * D;
    auto x = load<width>(from, source + d);
    if (a.rope && head < a.heads + a.kv_heads) {
      const bool upper = d >= half;
      const auto partner = load<width>(from, source + (upper ? d - half : d + half));
      const Index angle = position * half + (upper ? d - half : d);
      x = turned<width>(x, partner, upper, split ? 1.f : -1.f, a.rope, 2 * angle);
    }
    store(to, target + d, x);
  }
}

template <class A, bool split>
void run(const char* name, A* q, A* k, A* v, A* joint, const HeadSplit& s, const float* rope,
         const Index* past, void* stream) {
  const Index rows = s.sequences * s.length, columns = (s.heads + 2 * s.kv_heads) * s.head_dim;
  if (rows == 0) return;
  const Index cached = s.sequences * s.capacity * s.kv_heads * s.head_dim;
  // Without rotation a head may have an odd size.
  const Index unit = rope ? s.head_dim / 2 : s.head_dim;
  with_width<vector_width<A>>(
      unit,
      [&](auto width) {
        const int threads = threads_for(columns / width());
        launch({name, {int(rows)}, threads, 0, static_cast<Stream>(stream)},
               heads_kernel<A, width(), split>,
               {s.length, s.capacity, int(s.heads), int(s.kv_heads), int(s.head_dim), threads,
                view(rope, s.capacity * s.head_dim), view(past, s.sequences),
                view(q, rows * s.heads * s.head_dim), view(k, cached), view(v, cached),
                view(joint, rows * columns)});
      },
      q, k, v, joint, rope);
}

}  // namespace

template <class A>
void split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& split, const float* rope,
                 const Index* past, void* stream) {
  run<A, true>("split_heads", q, k, v, const_cast<A*>(qkv), split, rope, past, stream);
}

template <class A>
void join_heads(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& split,
                const float* rope, void* stream) {
  run<A, false>("join_heads", const_cast<A*>(dq), const_cast<A*>(dk), const_cast<A*>(dv), dqkv,
                split, rope, nullptr, stream);
}

#define LAZY_INSTANTIATE(A)                                                                     \
  template void split_heads(A*, A*, A*, const A*, const HeadSplit&, const float*, const Index*, \
                            void*);                                                             \
  template void join_heads(A*, const A*, const A*, const A*, const HeadSplit&, const float*, void*);

LAZY_INSTANTIATE(float)
LAZY_INSTANTIATE(BFloat16)

}  // namespace lazy::LAZY_TARGET
