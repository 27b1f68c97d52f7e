// Matrices whose rows are looked at one by one, and whose number may grow: bands of kTile rows, column after column
// inside a band, so that products keep a band's results in registers and appended rows find their place in the last
// band. `E` is the element type: that of the vectors, or a plain number where all problems of a pack share the matrix.
#pragma once
#include "../group.cuh"
#include "layout.cuh"

namespace GD_NAMESPACE {

// Columns in memory. Neighbouring threads of a GPU read neighbouring rows: their bands must not begin at one bank.
#if defined(__CUDACC__) || defined(GD_GPU_LAYOUT)
GD_HD index_t band_columns(index_t n) { return padded(n) + 1; }
#else
GD_HD index_t band_columns(index_t n) { return padded(n); }
#endif

// Rows of whole pairs of bands, which products take together.
GD_HD index_t padded_to_pairs(index_t rows) { return (rows + 2 * kTile - 1) / (2 * kTile) * (2 * kTile); }

template <class E>
struct Bands {
  E* data;
  index_t columns;  // in memory: `band_columns`

  static GD_HD index_t words(index_t rows, index_t n) { return tiles(rows) * band_columns(n) * kTile; }
  GD_HD E* band(index_t i) const { return data + i * columns * kTile; }
  GD_HD E& at(index_t row, index_t column) const {
    return data[((row / kTile) * columns + column) * kTile + row % kTile];
  }
};

// What follows takes R vectors, some words apart, side by side: each element of a matrix that is loaded serves them
// all, and each vector gets the very operations that it gets alone.

// The entries (first + r, 0 … n) of `COUNT` bands times x, in registers. One sum per row, in the order of the columns:
// the result does not depend on how many bands are looked at together.
template <int COUNT, int R, class E, class T>
GD_HD void multiply_some(const E* m, index_t stride, index_t n, const T* x, index_t apart, T (&sum)[R][COUNT * kTile]) {
  GD_UNROLL for (int i = 0; i < R; i++) {
    GD_UNROLL for (int r = 0; r < COUNT * kTile; r++) { sum[i][r] = T{}; }
  }
  GD_NO_UNROLL for (index_t k = 0; k < n; k++) {
    T v[R];
    GD_UNROLL for (int i = 0; i < R; i++) {
      v[i] = x[i * apart + k];
      keep_in_register(v[i]);
    }
    GD_UNROLL for (int band = 0; band < COUNT; band++) {
      const E* a = m + band * stride + k * kTile;
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        GD_UNROLL for (int i = 0; i < R; i++) { sum[i][band * kTile + r] += a[r] * v[i]; }
      }
    }
  }
}

// m −= c b for two bands of n columns, with the first COUNT rows of b.
template <int COUNT = kTile, class E>
GD_HD void subtract_tile(const E (&c)[kTile][kTile], const E* b, index_t n, E* m) {
  GD_NO_UNROLL for (index_t k = 0; k < n; k++) {
    E row[kTile];
    GD_UNROLL for (int r = 0; r < kTile; r++) { row[r] = m[k * kTile + r]; }
    GD_UNROLL for (int i = 0; i < COUNT; i++) {
      E t = b[k * kTile + i];
      keep_in_register(t);
      GD_UNROLL for (int r = 0; r < kTile; r++) { row[r] -= c[r][i] * t; }
    }
    GD_UNROLL for (int r = 0; r < kTile; r++) { m[k * kTile + r] = row[r]; }
  }
}

// out = M x for the first `bands` bands.
template <int R = 1, class E, class T>
GD_HD void multiply_bands(const Alone&, const Bands<E>& M, index_t bands, index_t n, const T* x, T* out,
                          index_t x_apart = 0, index_t out_apart = 0) {
  const index_t stride = M.columns * kTile;
  index_t i = 0;
  GD_NO_UNROLL for (; i + 2 <= bands; i += 2) {
    T sum[R][2 * kTile];
    multiply_some<2>(M.band(i), stride, n, x, x_apart, sum);
    GD_UNROLL for (int v = 0; v < R; v++) {
      GD_UNROLL for (int r = 0; r < 2 * kTile; r++) { out[v * out_apart + i * kTile + r] = sum[v][r]; }
    }
  }
  if (i < bands) {
    T sum[R][kTile];
    multiply_some<1>(M.band(i), stride, n, x, x_apart, sum);
    GD_UNROLL for (int v = 0; v < R; v++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { out[v * out_apart + i * kTile + r] = sum[v][r]; }
    }
  }
}

// y −= Mᵀ c over the first `bands` bands. Even and odd rows are summed apart, or the adder's latency would show; as
// pairs of bands begin at even ones, zero bands behind the last of a lane change none of its bits.
template <int COUNT, int R, class E, class T>
GD_HD void subtract_some(const E* m, index_t stride, index_t n, const T* c, index_t c_apart, T* y, index_t y_apart) {
  T f[R][COUNT * kTile];
  GD_UNROLL for (int i = 0; i < R; i++) {
    GD_UNROLL for (int r = 0; r < COUNT * kTile; r++) {
      f[i][r] = c[i * c_apart + r];
      keep_in_register(f[i][r]);
    }
  }
  GD_NO_UNROLL for (index_t k = 0; k < n; k++) {
    GD_UNROLL for (int i = 0; i < R; i++) {
      T even = y[i * y_apart + k], odd = m[k * kTile + 1] * f[i][1];
      even -= m[k * kTile] * f[i][0];
      even -= m[k * kTile + 2] * f[i][2];
      odd += m[k * kTile + 3] * f[i][3];
      GD_UNROLL for (int band = 1; band < COUNT; band++) {
        const E* a = m + band * stride + k * kTile;
        GD_UNROLL for (int r = 0; r < kTile; r += 2) {
          even -= a[r] * f[i][band * kTile + r];
          odd += a[r + 1] * f[i][band * kTile + r + 1];
        }
      }
      y[i * y_apart + k] = even - odd;
    }
  }
}
template <int R = 1, class E, class T>
GD_HD void subtract_transposed(const Alone&, const Bands<E>& M, index_t bands, index_t n, const T* c, T* y,
                               index_t c_apart = 0, index_t y_apart = 0) {
  const index_t stride = M.columns * kTile;
  index_t i = 0;
  GD_NO_UNROLL for (; i + 2 <= bands; i += 2)
      subtract_some<2, R>(M.band(i), stride, n, c + i * kTile, c_apart, y, y_apart);
  if (i < bands) subtract_some<1, R>(M.band(i), stride, n, c + i * kTile, c_apart, y, y_apart);
}

// h = Q y and y −= Qᵀh for rows that are orthonormal, two bands at a time with what the bands before have left of y
// (modified Gram–Schmidt by blocks): each band is read once from memory, and once more from the nearest cache.
template <class E, class T>
GD_HD void remove_projection(const Alone& g, const Bands<E>& Q, index_t bands, index_t n, T* h, T* y) {
  const index_t stride = Q.columns * kTile;
  GD_NO_UNROLL for (index_t i = 0; i < bands; i += 2) {
    const index_t count = bands - i < 2 ? 1 : 2;
    if (count == 2) {
      T sum[1][2 * kTile];
      multiply_some<2>(Q.band(i), stride, n, y, 0, sum);
      GD_UNROLL for (int r = 0; r < 2 * kTile; r++) { h[i * kTile + r] = sum[0][r]; }
    } else {
      T sum[1][kTile];
      multiply_some<1>(Q.band(i), stride, n, y, 0, sum);
      GD_UNROLL for (int r = 0; r < kTile; r++) { h[i * kTile + r] = sum[0][r]; }
    }
    subtract_transposed(g, Bands<E>{Q.band(i), Q.columns}, count, n, h + i * kTile, y);
  }
}

// L y = y and Lᵀ y = y in place, for a factor in tiles whose diagonal holds reciprocals (linalg/factor.cuh).
template <int R = 1, class E, class T>
GD_HD void solve_lower(const Alone&, const SymmetricTiles<E>& L, index_t n, T* y, index_t apart = 0) {
  const index_t blocks = tiles(n);
  GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
    const E* l = L.tile(J, 0);
    T a[R][kTile];
    GD_UNROLL for (int v = 0; v < R; v++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { a[v][r] = y[v * apart + J * kTile + r]; }
    }
    GD_NO_UNROLL for (index_t k = 0; k < J * kTile; k++) {
      T f[R];
      GD_UNROLL for (int v = 0; v < R; v++) {
        f[v] = y[v * apart + k];
        keep_in_register(f[v]);
      }
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        GD_UNROLL for (int v = 0; v < R; v++) { a[v][r] -= l[k * kTile + r] * f[v]; }
      }
    }
    const E* d = l + J * kTile * kTile;
    GD_UNROLL for (int c = 0; c < kTile; c++) {
      GD_UNROLL for (int v = 0; v < R; v++) {
        GD_UNROLL for (int i = 0; i < c; i++) { a[v][c] -= d[i * kTile + c] * a[v][i]; }
        a[v][c] = a[v][c] * d[c * kTile + c];
        y[v * apart + J * kTile + c] = a[v][c];
      }
    }
  }
}
template <int R = 1, class E, class T>
GD_HD void solve_lower_transposed(const Alone&, const SymmetricTiles<E>& L, index_t n, T* y, index_t apart = 0) {
  GD_NO_UNROLL for (index_t J = tiles(n) - 1; J >= 0; J--) {
    const E* l = L.tile(J, 0);
    const E* d = l + J * kTile * kTile;
    T a[R][kTile];
    GD_UNROLL for (int v = 0; v < R; v++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { a[v][r] = y[v * apart + J * kTile + r]; }
    }
    GD_UNROLL for (int c = kTile - 1; c >= 0; c--) {
      GD_UNROLL for (int v = 0; v < R; v++) {
        GD_UNROLL for (int i = c + 1; i < kTile; i++) { a[v][c] -= d[c * kTile + i] * a[v][i]; }
        a[v][c] = a[v][c] * d[c * kTile + c];
        y[v * apart + J * kTile + c] = a[v][c];
      }
    }
    GD_NO_UNROLL for (index_t k = 0; k < J * kTile; k++) {
      GD_UNROLL for (int v = 0; v < R; v++) {
        T even = y[v * apart + k], odd = l[k * kTile + 1] * a[v][1];
        even -= l[k * kTile] * a[v][0];
        even -= l[k * kTile + 2] * a[v][2];
        odd += l[k * kTile + 3] * a[v][3];
        y[v * apart + k] = even - odd;
      }
    }
  }
}

}  // namespace GD_NAMESPACE
