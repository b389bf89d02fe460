#pragma once
// The plain program of a whole model, which kernels are measured against: every operation of the
// list (reference/backend.hpp) by loops in float. What is stored as an activation is rounded to A,
// float or BFloat16, once; nothing else is.

#include "reference/cpu_backend.hpp"
#include "tests/plain_16bit.hpp"
#include "tests/scalar_layers.hpp"

namespace lazy::test {

template <class A>
struct PlainBackend {
  template <class>
  using Activation = A;
  template <class T>
  using Buffer = std::vector<T>;
  template <class T>
  using Rope = RopeTable<T>;
  struct AttentionMemory {};
  struct Recording {};

  template <class T>
  static void resize(Buffer<T>& buffer, Index size) {
    buffer.resize(size);
  }
  template <class T>
  static void zero(T* x, Index size) {
    std::fill_n(x, size, T{});
  }
  template <class T>
  static void upload(T* to, const T* host, Index size) {
    std::copy_n(host, size, to);
  }
  template <class T>
  static void download(T* host, const T* from, Index size) {
    std::copy_n(from, size, host);
  }
  static void download(float* host, const BFloat16* from, Index size) {
    for (Index i = 0; i < size; ++i) host[i] = to_float(from[i]);
  }
  static void round(A* to, const float* from, Index size) {
    for (Index i = 0; i < size; ++i) to[i] = from_float<A>(from[i]);
  }

  static void embedding_forward(float* x, const float* table, const int* tokens, Index N, Index C,
                                Index V) {
    assign(x, scalar_embedding(loaded(table, V * C), loaded(tokens, N), C));
  }
  static void embedding_backward(float* dtable, const float* dx, const int* tokens, const int*,
                                 Index N, Index C, Index V) {
    add(dtable, scalar_embedding_backward(loaded(dx, N * C), loaded(tokens, N), C, V));
  }
  static void rmsnorm_forward(A* out, float* rstd, const float* x, const float* weight, Index N,
                              Index C, double epsilon) {
    const Values<float> in = loaded(x, N * C);
    for (Index n = 0; n < N; ++n) rstd[n] = scalar_rstd(in, n, C, epsilon);
    assign(out, scalar_rmsnorm(in, loaded(weight, C), epsilon));
  }
  static void rmsnorm_backward(float* dx, A* rounded, float* dweight, const A* dout, const float* x,
                               const float* weight, const float* rstd, Index N, Index C) {
    for (Index n = 0; n < N; ++n) {
      float mean = 0;
      const auto y = [&](Index c) { return x[n * C + c] * rstd[n]; };
      const auto dy = [&](Index c) { return to_float(dout[n * C + c]); };
      for (Index c = 0; c < C; ++c) mean += weight[c] * dy(c) * y(c) / float(C);
      for (Index c = 0; c < C; ++c) {
        dx[n * C + c] += rstd[n] * (weight[c] * dy(c) - y(c) * mean);
        dweight[c] += dy(c) * y(c);
      }
    }
    if (rounded) round(rounded, dx, N * C);
  }
  static void linear_forward(A* out, const A* x, const A* weight, Index N, Index In, Index Out) {
    assign(out, scalar_linear(loaded(x, N * In), loaded(weight, Out * In), In));
  }
  static void linear_add_forward(float* out, const float* base, const A* x, const A* weight,
                                 Index N, Index In, Index Out) {
    const Values<float> product = scalar_linear(loaded(x, N * In), loaded(weight, Out * In), In);
    for (Index i = 0; i < N * Out; ++i) out[i] = base[i] + product[i];
  }
  static void linear_backward(A* dx, float* dweight, const A* dout, const A* x, const A* weight,
                              Index N, Index In, Index Out) {
    Values<float> in, by_weight;
    scalar_linear_backward(in, by_weight, loaded(dout, N * Out), loaded(x, N * In),
                           loaded(weight, Out * In), In);
    assign(dx, in);
    add(dweight, by_weight);
  }
  static void swiglu_forward(A* out, const A* gate_up, Index N, Index F) {
    assign(out, scalar_swiglu(columns(gate_up, N, F, 0), columns(gate_up, N, F, F)));
  }
  static void swiglu_backward(A* dgate_up, const A* dout, const A* gate_up, Index N, Index F) {
    Values<float> dgate, dup;
    scalar_swiglu_backward(dgate, dup, loaded(dout, N * F), columns(gate_up, N, F, 0),
                           columns(gate_up, N, F, F));
    for (Index n = 0; n < N; ++n) {
      round(dgate_up + n * 2 * F, dgate.data() + n * F, F);
      round(dgate_up + n * 2 * F + F, dup.data() + n * F, F);
    }
  }
  static void cross_entropy(float* losses, A* dlogits, const A* logits, const int* targets, Index N,
                            Index V, const StepInputs* inputs) {
    const Values<float> in = loaded(logits, N * V);
    assign(losses, scalar_cross_entropy(in, loaded(targets, N), V));
    if (dlogits)
      assign(dlogits, scalar_cross_entropy_backward(in, loaded(targets, N), V, inputs->loss_scale));
  }

  template <class T>
  static Rope<T> make_rope(Index positions, Index head_dim, double base) {
    return make_rope_table<T>(positions, head_dim, base);
  }
  static void split_heads(A* q, A* k, A* v, const A* qkv, const HeadSplit& s,
                          const Rope<float>* rope, const Index* past) {
    const Index rows = s.sequences * s.length, keys = s.sequences * s.capacity * s.kv_heads;
    const Values<float> in = loaded(qkv, rows * (s.heads + 2 * s.kv_heads) * s.head_dim);
    Values<float> to_q(rows * s.heads * s.head_dim), to_k = loaded(k, keys * s.head_dim),
                                                     to_v = loaded(v, keys * s.head_dim);
    lazy::split_heads(to_q.data(), to_k.data(), to_v.data(), in.data(), s, rope, past);
    assign(q, to_q), assign(k, to_k), assign(v, to_v);
  }
  static void join_heads(A* dqkv, const A* dq, const A* dk, const A* dv, const HeadSplit& s,
                         const Rope<float>* rope) {
    const Index rows = s.sequences * s.length * s.head_dim;
    Values<float> q = loaded(dq, rows * s.heads), k = loaded(dk, rows * s.kv_heads),
                  v = loaded(dv, rows * s.kv_heads), joint(rows * (s.heads + 2 * s.kv_heads));
    lazy::join_heads(joint.data(), q.data(), k.data(), v.data(), s, rope);
    assign(dqkv, joint);
  }

  static void attention_forward(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<A, float>& in,
                                const AttentionOutputs<A, float>& out, AttentionMemory*) {
    const Answer<float> a = attention(problem(shape, rule, in));
    assign(out.out, a.out);
    assign(out.lse, a.lse);
  }
  static void attention_backward(const AttentionShape& shape, const AttentionRule& rule,
                                 const AttentionInputs<A, float>& in,
                                 const AttentionOutputs<A, float>&, AttentionMemory*, const A* dout,
                                 const AttentionGrads<A, float>& grads) {
    Problem<float> p = problem(shape, rule, in);
    p.dout = loaded(dout, Index(p.q.size()));
    const Answer<float> a = attention(p);
    add(grads.dq, a.dq), add(grads.dk, a.dk), add(grads.dv, a.dv);
    if (grads.dbias) add(grads.dbias, a.dbias);
    if (grads.dtau) add(grads.dtau, a.dtau);
  }
  static void attention_weights(const AttentionShape& shape, const AttentionRule& rule,
                                const AttentionInputs<A, float>& in,
                                const AttentionOutputs<A, float>&, Index b, Index head,
                                Index first_row, Index rows, float* weights) {
    const Answer<float> a = attention(problem(shape, rule, in));
    std::copy_n(a.weights.data() + weight_offset(shape, b, head, first_row), rows * shape.keys,
                weights);
  }
  static void attention_statistics(const AttentionShape& shape, const AttentionRule& rule,
                                   const AttentionInputs<A, float>& in,
                                   const AttentionOutputs<A, float>& out, RowStatistics* rows,
                                   std::uint32_t* live_tiles) {
    const auto weights = [&](Index b, Index head, Index first, Index count, float* to) {
      attention_weights(shape, rule, in, out, b, head, first, count, to);
    };
    lazy::attention_statistics<float>(shape, in.lengths, weights, rows, live_tiles);
  }

  static void measure_step(StepOutputs* outputs, const float* losses, Index N,
                           const float* gradients, Index size, const StepInputs* inputs) {
    CpuBackend::measure_step(outputs, losses, N, gradients, size, inputs);
  }
  static void adamw_step(float* parameters, A* rounded, float* first_moment, float* second_moment,
                         const float* gradients, const UpdatePiece* pieces, Index count,
                         const UpdateRule& rule, const StepInputs* inputs,
                         const StepOutputs* outputs) {
    CpuBackend::adamw_step(parameters, static_cast<float*>(nullptr), first_moment, second_moment,
                           gradients, pieces, count, rule, inputs, outputs);
    for (Index i = 0; rounded && i < count; ++i)
      round(rounded + pieces[i].offset, parameters + pieces[i].offset, pieces[i].size);
  }

  template <class F>
  static void run(Recording&, Index, F&& enqueue) {
    enqueue();
  }

 private:
  static Values<float> loaded(const float* x, Index size) { return {x, x + size}; }
  static Values<int> loaded(const int* x, Index size) { return {x, x + size}; }
  static Values<float> loaded(const BFloat16* x, Index size) {
    Values<float> values(size);
    download(values.data(), x, size);
    return values;
  }
  /// F columns of gate_up [N, 2 F] from column `first`.
  static Values<float> columns(const A* gate_up, Index N, Index F, Index first) {
    Values<float> x(N * F);
    for (Index n = 0; n < N; ++n)
      for (Index f = 0; f < F; ++f) x[n * F + f] = to_float(gate_up[n * 2 * F + first + f]);
    return x;
  }
  template <class U>
  static void assign(U* to, const Values<float>& x) {
    for (std::size_t i = 0; i < x.size(); ++i) to[i] = from_float<U>(x[i]);
  }
  template <class U>
  static void add(U* to, const Values<float>& x) {
    for (std::size_t i = 0; i < x.size(); ++i) to[i] = from_float<U>(to_float(to[i]) + x[i]);
  }
  static Problem<float> problem(const AttentionShape& s, const AttentionRule& rule,
                                const AttentionInputs<A, float>& in) {
    Problem<float> p;
    p.shape = s, p.rule = rule;
    p.q = loaded(in.q, s.batch * s.queries * s.heads * s.head_dim);
    p.k = loaded(in.k, s.batch * s.keys * s.kv_heads * s.head_dim);
    p.v = loaded(in.v, s.batch * s.keys * s.kv_heads * s.head_dim);
    p.bias = loaded(in.bias, s.heads * s.window);
    p.tau = in.tau ? loaded(in.tau, s.heads) : Values<float>(s.heads, 0);
    p.sink.assign(s.heads, 0);
    p.dout.assign(p.q.size(), 0);
    for (Index b = 0; b < s.batch; ++b) p.lengths.push_back(in.lengths ? in.lengths[b] : s.keys);
    return p;
  }
  static Answer<float> attention(const Problem<float>& p) {
    if constexpr (std::is_same_v<A, float>)
      return scalar_attention(p);
    else
      return plain_attention<A>(p);
  }
};

static_assert(Backend<PlainBackend<float>, float> && Backend<PlainBackend<BFloat16>, float>);

}  // namespace lazy::test
