// From P, A, q and b to the projection problem of state.cuh: the factor of P, the equalities' basis, M, and d.
#pragma once
#include "cooperative.cuh"

namespace GD_NAMESPACE {

// A pivot of P below this part of its diagonal entry has lost too many digits: the problem is not for this method.
constexpr double kSmallestPivot = 1e-12;

// A band of rows of A, in place, times L⁻ᵀ.
template <class E>
GD_HD void substitute_band(const SymmetricTiles<E>& L, index_t n, E* m) {
  GD_NO_UNROLL for (index_t J = 0; J < tiles(n); J++) {
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
      }
    }
  }
}
template <class E>
GD_HD void band_squares(const E* m, index_t columns, E (&square)[kTile]) {
  GD_UNROLL for (int r = 0; r < kTile; r++) { square[r] = E{}; }
  GD_NO_UNROLL for (index_t k = 0; k < columns; k++) {
    GD_UNROLL for (int r = 0; r < kTile; r++) { square[r] += m[k * kTile + r] * m[k * kTile + r]; }
  }
}
// Rows of A, in place, times L⁻ᵀ and H, the first `free` columns of that scaled to length one; `norm` becomes the
// scale. A row with nothing there lies in the span of the equalities, and becomes zero.
template <class E>
GD_HD void transform_rows(const Alone&, const SymmetricTiles<E>& L, index_t n, const Reflectors<E>& H, index_t free,
                          const Bands<E>& M, index_t bands, E* norm) {
  const index_t columns = padded(n), width = padded(free);
  const E one = broadcast<E>(1);
  GD_NO_UNROLL for (index_t i = 0; i < bands; i++) {
    E* m = M.band(i);
    E whole[kTile], square[kTile], scale[kTile];
    substitute_band(L, n, m);
    band_squares(m, columns, whole);
    GD_UNROLL for (int r = 0; r < kTile; r++) { square[r] = whole[r]; }
    if (H.count > 0) {
      reflect_band(H, H.blocks(), m);
      band_squares(m, free, square);
    }
    GD_UNROLL for (int r = 0; r < kTile; r++) {
      const Mask<E> outside = square[r] > whole[r] * broadcast<E>(kDependent);
      const E length = select(outside, square[r], select(whole[r] > E{}, whole[r], one));
      norm[i * kTile + r] = inverse_square_root(length);
      scale[r] = select(outside, norm[i * kTile + r], E{});
    }
    GD_NO_UNROLL for (index_t k = 0; k < free; k++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { m[k * kTile + r] = m[k * kTile + r] * scale[r]; }
    }
    GD_NO_UNROLL for (index_t k = free * kTile; k < width * kTile; k++) m[k] = E{};
  }
}

template <class T, class G>
GD_HD T square_of(const G& g, const T* a, index_t n) {
  T even{}, odd{};
  index_t k = 0;
  if constexpr (kCooperative<G>) {
    for (k = g.rank(); k < n; k += g.size()) even += a[k] * a[k];
  } else {
    for (; k + 1 < n; k += 2) {
      even += a[k] * a[k];
      odd += a[k + 1] * a[k + 1];
    }
  }
  return g.sum(T(even + odd));
}

// H and R_E from M_E, whose rows have length one. Returns the lanes whose equalities are independent, none of them
// zero.
template <class T, class E, class G>
GD_HD Mask<E> reflect_equalities(const G& g, const ActiveSet<T, E>& s) {
  const index_t stride = padded(s.equalities);
  Mask<E> good = every_lane<E>();
  GD_NO_UNROLL for (index_t block = 0; block < s.H.blocks(); block++) {
    reflect_rows(g, s.H, block, s.M_zero.band(block));
    const index_t end = (block + 1) * kTile < s.equalities ? (block + 1) * kTile : s.equalities;
    for (index_t i = block * kTile; i < end; i++)
      good = good & (i < s.n ? make_reflector(g, s.H, i, s.R_zero, stride, kDependent) : no_lane<E>());
    make_triangle(g, s.H, block);
  }
  for (index_t i = g.rank(); i < s.equalities; i += g.size()) {
    const E d = s.R_zero[i * stride + i];
    s.R_zero_inverse[i] = broadcast<E>(1) / select(d == E{}, broadcast<E>(1), d);
  }
  g.sync();
  return good;
}

// L from P's lower triangle, which it replaces. Returns the lanes whose P is positive definite enough.
template <class T, class E, class G>
GD_HD Mask<E> factorise_objective(const G& g, const ActiveSet<T, E>& s) {
  const index_t n = s.n;
  for (index_t i = g.rank(); i < n; i += g.size()) s.diagonal[i] = s.L.at(i, i);
  g.sync();
  Quasidefinite<E> k{};
  k.P = k.L = s.L;
  k.n = n;
  k.magnitude = s.diagonal;
  factorise(g, k, E{}, not_a_number());
  E smallest = broadcast<E>(kNever), sum{};
  for (index_t i = g.rank(); i < n; i += g.size()) {
    const E r = s.L.at(i, i);
    s.column_size[i] = inverse_square_root(s.diagonal[i]);
    smallest = minimum(E(broadcast<E>(1) / (r * r * s.diagonal[i])), smallest);
    sum += r;
  }
  const Mask<E> good = (g.min(smallest) >= broadcast<E>(kSmallestPivot)) & is_tame(g.sum(sum));
  g.sync();
  return good;
}

// L and M from P's lower triangle and A's rows, which they replace. Returns the lanes for whose data that works.
template <class T, class E, class G>
GD_HD Mask<E> prepare_matrices(const G& g, const ActiveSet<T, E>& s, bool single) {
  const index_t n = s.n;
  const Mask<E> good = factorise_objective(g, s);
  transform_rows(g, s.L, n, no_reflectors<E>(), n, s.M_zero, tiles(s.equalities), s.norm_zero);
  g.sync();
  const Mask<E> independent = reflect_equalities(g, s);
  transform_rows(g, s.L, n, s.H, s.free, s.M, tiles(s.inequalities), s.norm);
  g.sync();
  if (single) round_matrix(g, s.pricing, s.M, s.inequalities, s.width());
  return good & independent;
}

// w = R_E⁻ᵀ w and w = R_E⁻¹ w, in place.
template <class T, class E>
GD_HD void solve_R_zero_transposed(const Alone&, const ActiveSet<T, E>& s, T* w) {
  const index_t e = s.equalities, stride = padded(e);
  GD_NO_UNROLL for (index_t i = 0; i < e; i++) {
    const E* r = s.R_zero + i * stride;
    T t = w[i] * s.R_zero_inverse[i];
    keep_in_register(t);
    w[i] = t;
    GD_NO_UNROLL for (index_t j = i + 1; j < e; j++) w[j] -= r[j] * t;
  }
}
template <class T, class E>
GD_HD void solve_R_zero(const Alone&, const ActiveSet<T, E>& s, T* w) {
  const index_t e = s.equalities, stride = padded(e);
  GD_NO_UNROLL for (index_t i = e - 1; i >= 0; i--) {
    const E* r = s.R_zero + i * stride;
    T even = w[i], odd{};
    index_t j = i + 1;
    GD_NO_UNROLL for (; j + 1 < e; j += 2) {
      even -= r[j] * w[j];
      odd -= r[j + 1] * w[j + 1];
    }
    if (j < e) even -= r[j] * w[j];
    w[i] = (even + odd) * s.R_zero_inverse[i];
  }
}

// base and d from q and b. `products` as in verify.cuh.
template <class T, class E, class G, class Products>
GD_HD void prepare_vectors(const G& g, const ActiveSet<T, E>& s, bool single, Products products) {
  const index_t columns = s.columns(), bands = (tiles(s.inequalities) + 1) / 2 * 2;
  for (index_t j = g.rank(); j < columns; j += g.size()) s.base[j] = s.q[j];
  g.sync();
  solve_lower(g, s.L, s.n, s.base);
  g.sync();
  if (s.equalities > 0) {
    reflect(g, s.H, s.base, s.block);
    for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.w_zero[k] = s.b_zero[k] * s.norm_zero[k];
    g.sync();
    solve_R_zero_transposed(g, s, s.w_zero);
    g.sync();
    for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.base[s.n - 1 - k] = -s.w_zero[k];
    g.sync();
    // The slacks where all other coordinates are zero, from the problem's own data: M has lost the last columns.
    for (index_t j = g.rank(); j < columns; j += g.size()) s.x[j] = -s.base[j];
    for (index_t k = g.rank(); k < s.inequalities; k += g.size()) s.y[k] = T{};
    g.sync();
    reflect_back(g, s.H, s.x, s.block);
    solve_lower_transposed(g, s.L, s.n, s.x);
    g.sync();
    products.inequalities(false);
    g.sync();
    for (index_t k = g.rank(); k < s.inequalities; k += g.size()) s.d[k] = (s.b[k] - s.slack[k]) * s.norm[k];
  } else {
    multiply_bands(g, s.M, bands, columns, s.base, s.d);
    g.sync();
    for (index_t k = g.rank(); k < s.inequalities; k += g.size()) s.d[k] += s.b[k] * s.norm[k];
  }
  for (index_t k = s.inequalities + g.rank(); k < bands * kTile; k += g.size()) s.d[k] = broadcast<T>(kNever);
  g.sync();
  if (single) round_slacks(g, s.pricing, s.d, s.inequalities);
}

}  // namespace GD_NAMESPACE
