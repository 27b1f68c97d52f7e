// What bands.cuh and the active-set method ask of one thread, for a group of several members (a GPU's tiles, warps and
// blocks): the same layouts and the same results up to rounding.
//
// As in cooperative.cuh products take a row or a column for each member, and a triangular solve one barrier for each
// tile, whose solution every member computes for itself. The caller synchronises before and after, unless it says here
// that a function does.
#pragma once
#include "bands.cuh"
#include "cooperative.cuh"

namespace GD_NAMESPACE {

// COUNT rows of bands times x, each summed as four numbers: nothing waits for anything else, and many loads are under
// way at a time. A row's result does not depend on the others.
template <int COUNT, class E, class T>
GD_HD void rows_times(const E* const (&m)[COUNT], index_t n, const T* x, T (&out)[COUNT]) {
  T sum[COUNT][kTile];
  GD_UNROLL for (int i = 0; i < COUNT; i++) {
    GD_UNROLL for (int c = 0; c < kTile; c++) { sum[i][c] = T{}; }
  }
  GD_UNROLL_FOUR for (index_t k = 0; k < n; k += kTile) {
    const TileRow<T> v = load_row(x + k);
    GD_UNROLL for (int i = 0; i < COUNT; i++) {
      GD_UNROLL for (int c = 0; c < kTile; c++) { sum[i][c] += m[i][(k + c) * kTile] * v.value[c]; }
    }
  }
  GD_UNROLL for (int i = 0; i < COUNT; i++) { out[i] = (sum[i][0] + sum[i][1]) + (sum[i][2] + sum[i][3]); }
}
template <class E, class T>
GD_HD T row_times(const E* m, index_t n, const T* x) {
  const E* const rows[1] = {m};
  T out[1];
  rows_times(rows, n, x, out);
  return out[0];
}

// out = M x for the first `bands` bands: a row for each member. n: whole tiles of columns.
template <class E, class T, class G>
GD_HD void multiply_bands(const G& g, const Bands<E>& M, index_t bands, index_t n, const T* x, T* out) {
  GD_NO_UNROLL for (index_t i = g.rank(); i < bands * kTile; i += g.size()) out[i] = row_times(&M.at(i, 0), n, x);
}

// y −= Mᵀ c over the first `bands` bands: a column for each member.
template <class E, class T, class G>
GD_HD void subtract_transposed(const G& g, const Bands<E>& M, index_t bands, index_t n, const T* c, T* y) {
  GD_NO_UNROLL for (index_t k = g.rank(); k < n; k += g.size()) {
    T even = y[k], odd{};
    GD_UNROLL_FOUR for (index_t i = 0; i < bands; i++) {
      const TileRow<E> m = load_row(M.band(i) + k * kTile);
      const TileRow<T> f = load_row(c + i * kTile);
      GD_UNROLL for (int r = 0; r < kTile; r += 2) {
        even -= m.value[r] * f.value[r];
        odd += m.value[r + 1] * f.value[r + 1];
      }
    }
    y[k] = even - odd;
  }
}

// h = Q y and y −= Qᵀh for rows that are orthonormal, all bands at once (classical Gram–Schmidt, where one thread's is
// modified): one barrier instead of one for every pair of bands. What cancellation takes from the one more than from
// the other, the caller's second pass gives back.
template <class E, class T, class G>
GD_HD void remove_projection(const G& g, const Bands<E>& Q, index_t bands, index_t n, T* h, T* y) {
  multiply_bands(g, Q, bands, n, y, h);
  g.sync();
  subtract_transposed(g, Q, bands, n, h, y);
}

// The factor of a positive definite matrix, as the solves of cooperative.cuh take it.
template <class T>
GD_HD Quasidefinite<T> positive_definite(const SymmetricTiles<T>& L, index_t n) {
  Quasidefinite<T> k{};
  k.L = L;
  k.n = n;
  return k;
}

// L y = y and Lᵀ y = y in place; these synchronise at the end.
template <class E, class T, class G>
GD_HD void solve_lower(const G& g, const SymmetricTiles<E>& L, index_t n, T* y) {
  substitute_forward<1>(g, positive_definite(L, n), y, 0);
}
template <class E, class T, class G>
GD_HD void solve_lower_transposed(const G& g, const SymmetricTiles<E>& L, index_t n, T* y) {
  substitute_backward<1>(g, positive_definite(L, n), y, 0);
}

}  // namespace GD_NAMESPACE
