// From P, A, q and b to the projection problem of state.cuh: the factor of P, M = N A L⁻ᵀ, v and d.
#pragma once
#include "state.cuh"

namespace GD_NAMESPACE {

// A pivot of P below this part of its diagonal entry has lost too many digits: the problem is not for this method.
constexpr double kSmallestPivot = 1e-12;

// Rows of A, in place, times L⁻ᵀ, then scaled to length one; `norm` becomes the scale. A zero row stays zero.
template <class E>
GD_HD void transform_rows(const Alone&, const SymmetricTiles<E>& L, index_t n, const Bands<E>& M, index_t bands,
                          E* norm) {
  const index_t blocks = tiles(n);
  GD_NO_UNROLL for (index_t i = 0; i < bands; i++) {
    E* m = M.band(i);
    E square[kTile];
    GD_UNROLL for (int r = 0; r < kTile; r++) { square[r] = E{}; }
    GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
      E a[kTile][kTile];
      E* out = m + J * kTile * kTile;
      const E* l = L.tile(J, 0);
      const E* d = l + J * kTile * kTile;
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int r = 0; r < kTile; r++) { a[r][c] = out[c * kTile + r]; }
      }
      update_tile<-1>(a, m, l, J * kTile);
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int r = 0; r < kTile; r++) {
          E t = a[r][c];
          GD_UNROLL for (int e = 0; e < c; e++) { t -= a[r][e] * d[e * kTile + c]; }
          t = t * d[c * kTile + c];
          a[r][c] = t;
          out[c * kTile + r] = t;
          square[r] += t * t;
        }
      }
    }
    GD_UNROLL for (int r = 0; r < kTile; r++) {
      const E one = broadcast<E>(1);
      square[r] = select(square[r] > E{}, inverse_square_root(square[r]), one);
      norm[i * kTile + r] = square[r];
    }
    GD_NO_UNROLL for (index_t k = 0; k < blocks * kTile; k++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { m[k * kTile + r] = m[k * kTile + r] * square[r]; }
    }
  }
}

template <class E>
GD_HD void round_to_single(const Alone&, const Bands<E>& M, index_t bands, const Bands<Single<E>>& out) {
  const index_t count = bands * M.columns * kTile;
  GD_NO_UNROLL for (index_t i = 0; i < count; i++) out.data[i] = to_single(M.data[i]);
}

// L and M from P's lower triangle and A's rows, which they replace. Returns the lanes for whose P that works.
template <class T, class E, class G>
GD_HD Mask<E> prepare_matrices(const G& g, const ActiveSet<T, E>& s, bool single) {
  const index_t n = s.n;
  for (index_t i = g.rank(); i < n; i += g.size()) s.diagonal[i] = s.L.at(i, i);
  g.sync();
  Quasidefinite<E> k{};
  k.P = k.L = s.L;
  k.n = n;
  k.magnitude = s.diagonal;
  factorise(g, k, E{}, not_a_number());
  E smallest = broadcast<E>(1e300), sum{};
  for (index_t i = g.rank(); i < n; i += g.size()) {
    const E r = s.L.at(i, i);
    s.column_size[i] = inverse_square_root(s.diagonal[i]);
    smallest = minimum(E(broadcast<E>(1) / (r * r * s.diagonal[i])), smallest);
    sum += r;
  }
  const Mask<E> good = (g.min(smallest) >= broadcast<E>(kSmallestPivot)) & is_tame(g.sum(sum));
  g.sync();
  transform_rows(g, s.L, n, s.M_zero, tiles(s.equalities), s.norm_zero);
  transform_rows(g, s.L, n, s.M, tiles(s.inequalities), s.norm);
  g.sync();
  if (single) round_to_single(g, s.M, (tiles(s.inequalities) + 1) / 2 * 2, s.M_single);
  return good;
}

// v and d from q and b.
template <class T, class E, class G>
GD_HD void prepare_vectors(const G& g, const ActiveSet<T, E>& s, bool single) {
  const index_t columns = s.columns(), bands = (tiles(s.inequalities) + 1) / 2 * 2;
  for (index_t j = g.rank(); j < columns; j += g.size()) s.v[j] = s.q[j];
  g.sync();
  solve_lower(g, s.L, s.n, s.v);
  g.sync();
  multiply_bands(g, s.M_zero, tiles(s.equalities), columns, s.v, s.d_zero);
  multiply_bands(g, s.M, bands, columns, s.v, s.d);
  g.sync();
  const T never = broadcast<T>(1e300), largest_single = broadcast<T>(1e30);
  for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.d_zero[k] += s.b_zero[k] * s.norm_zero[k];
  for (index_t k = g.rank(); k < bands * kTile; k += g.size()) {
    const T d = k < s.inequalities ? T(s.d[k] + s.b[k] * s.norm[k]) : never;
    s.d[k] = d;
    if (single) s.d_single[k] = to_single(minimum(d, largest_single));
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
