#pragma once
// Decoding: attention of one query a sequence against a cache of keys and values. The equations are
// those of every rung; the work is reading the cache, so it is divided by keys, not by queries.

#include "cuda/lazy_attention.h"

namespace lazy {

struct Decoding {
  const char* requirement;  // of types and D, for people
  bool (*supports)(LazyType type, int64_t head_dim);
  LazyDecodeSizes (*sizes)(const LazyAttention&);
  void (*decode)(const LazyAttention&, const LazyInputs&, const LazyOutputs&, void* workspace,
                 void* stream);
};

namespace emulated {
const Decoding& decoding();
}
namespace cuda {
const Decoding& decoding();  // only where the program was built with nvcc
}

}  // namespace lazy
