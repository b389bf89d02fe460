/* Lazy Attention for C and whatever can call C: pointers, sizes, a stream, a workspace.
 *
 * B sequences, Tq queries, Tk keys, H heads, Hkv key/value heads, D head dimension, W bias window.
 * All tensors are contiguous, row-major, and lie where the device can read them; in 16-bit formats
 * they begin at multiples of 16 bytes. Nothing is allocated inside a call, and no call waits for the
 * GPU.
 *
 * NaN and infinity: in float32 they reach exactly the rows that see them, and a value or output
 * gradient at a dead entry reaches nothing. On tensor cores (v2) 0 times NaN is NaN: they may reach
 * every row of a tile that they are multiplied in (docs/kernels.md). */
#ifndef LAZY_ATTENTION_H
#define LAZY_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of q, k, v, out, dout, dq, dk and dv. Everything else is float. */
typedef enum { LAZY_FLOAT32, LAZY_BFLOAT16, LAZY_FLOAT16 } LazyType;

/* LAZY_EMULATED runs the same kernels on the CPU, thread by thread (simt/README.md): all pointers
 * are host memory, and the stream is NULL or a lazy::emulated::Machine. */
typedef enum { LAZY_CUDA, LAZY_EMULATED } LazyDevice;

/* One attention call, always causal. Tq = Tk: row r stands at position r. Tq < Tk: the queries are
 * the last Tq positions of each sequence. */
typedef struct {
  int64_t batch, queries, keys, heads, kv_heads, head_dim, window; /* B Tq Tk H Hkv D W */
  LazyType type;
  LazyDevice device;
  const char* rung;     /* "v0", "v1", ...; NULL: the last that supports type and D */
  int divide_by_length; /* 0: tau is divided by the keys a row sees; 1: by the sequence's length */
  int compute_dead_tiles; /* 0: tiles without a live entry are skipped; 1: not. Same bits */
} LazyAttention;

typedef struct {
  const void* q;          /* [B, Tq, H, D] */
  const void* k;          /* [B, Tk, Hkv, D] */
  const void* v;          /* [B, Tk, Hkv, D] */
  const float* bias;      /* [H, W]; NULL if W = 0 */
  const float* tau;       /* [H]; NULL: 0, ordinary softmax */
  const int64_t* lengths; /* [B] valid keys, clamped to 0 .. Tk; NULL: all Tk */
} LazyInputs;

typedef struct {
  void* out;            /* [B, Tq, H, D], assigned; rows without a key are zero */
  float* lse;           /* [B, H, Tq] natural log-sum-exp, assigned; -inf for rows without a key */
  float* live_sums;     /* [B, Tq, H, 2 D], assigned: sums over a row's live entries, 16-byte
                           aligned. Asked for by the backward of rungs whose sizes say so; else NULL */
  uint32_t* live_tiles; /* as the sizes say; NULL: not kept, the backward then skips nothing */
} LazyOutputs;

/* Gradients are added to. */
typedef struct {
  void *dq, *dk, *dv;
  float* dbias; /* NULL if W = 0 */
  float* dtau;  /* NULL if tau is NULL */
} LazyGrads;

typedef struct {
  size_t forward_workspace, backward_workspace; /* bytes, on the device, 16-byte aligned */
  int needs_live_sums;                          /* 1: the backward reads them */
  /* A bit of live_tiles says whether tile_rows query rows x tile_keys keys hold a live entry: bit
   * k % 32 of live_tiles[((b H + h) row_tiles + r) words + k / 32]. */
  int64_t tile_rows, tile_keys, row_tiles, words;
  size_t live_tiles; /* bytes of live_tiles; 0: the rung has no tiles */
} LazySizes;

/* Name of the rung that computes this, or NULL with a text (see lazy_attention_error). */
const char* lazy_attention_rung(const LazyAttention* attention);

/* What calls return. LAZY_REFUSED: nothing was started, an argument is wrong. LAZY_FAILED: the
 * device failed, or an emulated kernel made a mistake. Both leave a text (see
 * lazy_attention_error). */
enum { LAZY_OK, LAZY_REFUSED, LAZY_FAILED };

int lazy_attention_sizes(const LazyAttention* attention, LazySizes* sizes);

int lazy_attention_forward(const LazyAttention* attention, const LazyInputs* in,
                           const LazyOutputs* out, void* workspace, void* stream);

/* `forward` as lazy_attention_forward left it; dout [B, Tq, H, D]. Two runs give the same bytes. */
int lazy_attention_backward(const LazyAttention* attention, const LazyInputs* in,
                            const LazyOutputs* forward, const void* dout, const LazyGrads* grads,
                            void* workspace, void* stream);

/* The weights of rows first_row .. first_row + rows - 1 of one head, with exactly the live entries
 * that forward and backward use: assigned to weights [rows, Tk]. */
int lazy_attention_weights(const LazyAttention* attention, const LazyInputs* in, const float* lse,
                           int64_t batch, int64_t head, int64_t first_row, int64_t rows,
                           float* weights, void* stream);

typedef struct {
  size_t workspace; /* bytes, on the device, 16-byte aligned */
} LazyDecodeSizes;

/* Decoding: one query a sequence, at its last valid key, against a cache of Tk keys: q, out
 * [B, 1, H, D]; k, v [B, Tk, Hkv, D], 16-byte aligned; lse [B, H, 1]. It computes what
 * lazy_attention_forward does with Tq = 1, in any format, for D = 32, 64 or 128. A value to which
 * no head of its group attends is not read, and one that is not finite reaches only heads that
 * attend to it. Lengths are read on the device and change no launch: a captured CUDA graph serves
 * every length up to Tk. Two runs give the same bytes. `rung` has to be NULL; compute_dead_tiles,
 * live_sums and live_tiles have no part in it. */
int lazy_attention_decode_sizes(const LazyAttention* attention, LazyDecodeSizes* sizes);

int lazy_attention_decode(const LazyAttention* attention, const LazyInputs* in,
                          const LazyOutputs* out, void* workspace, void* stream);

/* What went wrong in this thread's last failed call, and one thing to try. */
const char* lazy_attention_error(void);

#ifdef __cplusplus
}
#endif
#endif
