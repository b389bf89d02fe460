// Linear layers on the register tile. Weights are packed once a call into panels as wide as the
// tile, so that the innermost loop reads memory in order; rows of activations are read where they
// lie. Every entry is summed by one thread in an order that depends on the sizes alone.

#include <omp.h>

#include <algorithm>

#include "reference/aligned.hpp"
#include "reference/layers.hpp"
#include "reference/register_tile.hpp"

namespace lazy {
namespace {

using simd::lanes, simd::load, simd::store, simd::Vector;

constexpr Index few_rows = 4;
constexpr Index row_block = 96;    // rows a task: whole register tiles
constexpr Index weight_rows = 48;  // of a task of the weight gradient
constexpr Index weight_columns = 128;
constexpr Index token_chunk = 128;  // summed in registers at a time, in the weight gradient
template <class T>
constexpr Index panel_width = tile_vectors* lanes<T>;

// Memory of the calling thread, kept from call to call.
template <class T>
T* scratch(Index size) {
  static thread_local AlignedVector<T> memory;
  if (Index(memory.size()) < size) memory.resize(size);
  return memory.data();
}

// Columns of one panel, [depth][panel_width], from B[k][n] = b[k * b_row + n * b_column]; zeros
// past `columns`.
template <class T>
void pack_panel(const T* b, Index b_row, Index b_column, Index depth, Index columns, T* panel) {
  for (Index k = 0; k < depth; ++k) {
    T* to = panel + k * panel_width<T>;
    const T* from = b + k * b_row;
    if (b_column == 1 && columns == panel_width<T>)
      for (Index n = 0; n < panel_width<T>; n += lanes<T>) store(to + n, load(from + n));
    else
      for (Index n = 0; n < panel_width<T>; ++n) to[n] = n < columns ? from[n * b_column] : T(0);
  }
}

// C [rows, columns] = A B, or += if `adds`, for one panel of B. A[r][k] = a[r * a_row + k *
// a_step]; it can be read up to a full register tile.
template <bool adds, class T>
void multiply_panel(const T* a, Index a_row, Index a_step, const T* panel, Index depth, Index rows,
                    Index columns, T* c, Index c_row) {
  const Index vectors = divide_up(columns, lanes<T>);
  for (Index first = 0; first < rows; first += tile_rows) {
    const auto multiply_into = [=]<bool add>(T* to, Index pitch, std::bool_constant<add>) {
      register_tiles(a + first * a_row, a_row, a_step, panel, panel_width<T>, depth, vectors,
                     [=](int r, Index v, Vector<T> sum) {
                       T* at = to + r * pitch + v * lanes<T>;
                       if constexpr (add) sum += load(at);
                       store(at, sum);
                     });
    };
    T* target = c + first * c_row;
    if (first + tile_rows <= rows && columns % lanes<T> == 0) {
      multiply_into(target, c_row, std::bool_constant<adds>());
    } else {  // a tile over the edge of C
      T tile[tile_rows * panel_width<T>];
      multiply_into(tile, panel_width<T>, std::false_type());
      for (Index r = 0; r < std::min<Index>(tile_rows, rows - first); ++r)
        for (Index n = 0; n < columns; ++n)
          target[r * c_row + n] =
              (adds ? target[r * c_row + n] : T(0)) + tile[r * panel_width<T> + n];
    }
  }
}

// C [N, columns] = A B, or +=, for row-major A [N, depth] and B[k][n] = b[k * b_row + n *
// b_column].
template <bool adds, class T>
void multiply(const T* a, const T* b, Index b_row, Index b_column, T* c, Index N, Index depth,
              Index columns) {
  const Index panels = divide_up(columns, panel_width<T>), panel_size = depth * panel_width<T>;
  T* packed = scratch<T>(panels * panel_size + tile_rows * depth);
  T* last_rows = packed + panels * panel_size;  // filled up with zeros to a register tile
  const Index whole = N / tile_rows * tile_rows;
  std::fill_n(std::copy(a + whole * depth, a + N * depth, last_rows),
              (whole + tile_rows - N) * depth, T(0));
  const auto width = [=](Index p) {
    return std::min(panel_width<T>, columns - p * panel_width<T>);
  };
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (Index p = 0; p < panels; ++p)
      pack_panel(b + p * panel_width<T> * b_column, b_row, b_column, depth, width(p),
                 packed + p * panel_size);
#pragma omp for schedule(dynamic)
    for (Index begin = 0; begin < N; begin += row_block)
      for (Index p = 0; p < panels; ++p) {
        const Index end = std::min(whole, begin + row_block);
        T* column = c + p * panel_width<T>;
        const T* panel = packed + p * panel_size;
        multiply_panel<adds>(a + begin * depth, depth, 1, panel, depth, end - begin, width(p),
                             column + begin * columns, columns);
        if (begin + row_block >= N)
          multiply_panel<adds>(last_rows, depth, 1, panel, depth, N - whole, width(p),
                               column + whole * columns, columns);
      }
  }
}

}  // namespace

// A few rows, as in decoding: packing the weights would take longer than to multiply. Each entry is
// one dot product of two rows.
template <class T>
void multiply_few_rows(T* out, const T* base, const T* x, const T* weight, Index N, Index In,
                       Index Out) {
#pragma omp parallel for schedule(static) if (In * Out >= 1 << 15)
  for (Index o = 0; o < Out; ++o)
    for (Index n = 0; n < N; ++n) {
      Vector<T> sum[4] = {};
      for (Index i = 0; i < In; i += lanes<T>)
        sum[i / lanes<T> % 4] += simd::load_first(x + n * In + i, In - i) *
                                 simd::load_first(weight + o * In + i, In - i);
      out[n * Out + o] =
          (base ? base[n * Out + o] : T(0)) + simd::sum<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

template <class T>
void linear_forward(T* out, const T* x, const T* weight, Index N, Index In, Index Out) {
  if (N <= few_rows) return multiply_few_rows<T>(out, nullptr, x, weight, N, In, Out);
  multiply<false>(x, weight, 1, In, out, N, In, Out);
}

template <class T>
void linear_add_forward(T* out, const T* base, const T* x, const T* weight, Index N, Index In,
                        Index Out) {
  if (N <= few_rows) return multiply_few_rows(out, base, x, weight, N, In, Out);
  if (out != base) {
#pragma omp parallel for simd schedule(static)
    for (Index i = 0; i < N * Out; ++i) out[i] = base[i];
  }
  multiply<true>(x, weight, 1, In, out, N, In, Out);
}

template <class T>
void linear_backward(T* dx, T* dweight, const T* dout, const T* x, const T* weight, Index N,
                     Index In, Index Out) {
  multiply<false>(dout, weight, In, 1, dx, N, Out, In);

  // dweight [Out, In] += dout^T x, block by block, a chunk of tokens at a time.
  const Index row_blocks = divide_up(Out, weight_rows),
              column_blocks = divide_up(In, weight_columns);
  constexpr Index packed_size = token_chunk * (weight_rows + panel_width<T>);
  T* memory = scratch<T>(packed_size * omp_get_max_threads());
#pragma omp parallel for schedule(dynamic)
  for (Index task = 0; task < row_blocks * column_blocks; ++task) {
    const Index row = task / column_blocks * weight_rows;
    const Index first_column = task % column_blocks * weight_columns;
    const Index rows = std::min(weight_rows, Out - row);
    T* douts = memory + omp_get_thread_num() * packed_size;  // [token][48]
    T* panel = douts + token_chunk * weight_rows;
    for (Index token = 0; token < N; token += token_chunk) {
      const Index tokens = std::min(token_chunk, N - token);
      for (Index t = 0; t < tokens; ++t)
        std::fill(std::copy_n(dout + (token + t) * Out + row, rows, douts + t * weight_rows),
                  douts + (t + 1) * weight_rows, T(0));
      const Index last_column = std::min(In, first_column + weight_columns);
      for (Index column = first_column; column < last_column; column += panel_width<T>) {
        const Index columns = std::min(panel_width<T>, last_column - column);
        pack_panel(x + token * In + column, In, 1, tokens, columns, panel);
        multiply_panel<true>(douts, 1, weight_rows, panel, tokens, rows, columns,
                             dweight + row * In + column, In);
      }
    }
  }
}

template void linear_forward(float*, const float*, const float*, Index, Index, Index);
template void linear_forward(double*, const double*, const double*, Index, Index, Index);
template void linear_add_forward(float*, const float*, const float*, const float*, Index, Index,
                                 Index);
template void linear_add_forward(double*, const double*, const double*, const double*, Index, Index,
                                 Index);
template void linear_backward(float*, float*, const float*, const float*, const float*, Index,
                              Index, Index);
template void linear_backward(double*, double*, const double*, const double*, const double*, Index,
                              Index, Index);

}  // namespace lazy
