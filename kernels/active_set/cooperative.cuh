// The steps of the active-set method in which machines differ, for a group of several members that works on one
// problem: what the files beside this have for one thread. Members read each other's numbers through a barrier or a
// reduction; loops that one thread runs over the places of the working set become a place for each member.
#pragma once
#include "state.cuh"

namespace GD_NAMESPACE {

// Rows of A, in place, times L⁻ᵀ and H, the first `free` columns of that scaled to length one: a row for each member,
// so that no member waits for another; otherwise as for one thread.
template <class E, class G>
GD_HD void transform_rows(const G& g, const SymmetricTiles<E>& L, index_t n, const Reflectors<E>& H, index_t free,
                          const Bands<E>& M, index_t bands, E* norm) {
  const index_t blocks = tiles(n), width = padded(free);
  GD_NO_UNROLL for (index_t row = g.rank(); row < bands * kTile; row += g.size()) {
    E* m = &M.at(row, 0);
    E square[2] = {E{}, E{}};
    GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
      const E* d = L.tile(J, J);
      E a[kTile];
      GD_UNROLL for (int c = 0; c < kTile; c++) { a[c] = m[(J * kTile + c) * kTile]; }
      GD_NO_UNROLL for (index_t K = 0; K < J; K++) {
        const E* l = L.tile(J, K);
        GD_UNROLL for (int k = 0; k < kTile; k++) {
          const TileRow<E> column = load_row(l + k * kTile);
          const E v = m[(K * kTile + k) * kTile];
          GD_UNROLL for (int c = 0; c < kTile; c++) { a[c] -= column.value[c] * v; }
        }
      }
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int e = 0; e < c; e++) { a[c] -= a[e] * d[e * kTile + c]; }
        a[c] = a[c] * d[c * kTile + c];
        m[(J * kTile + c) * kTile] = a[c];
        square[c % 2] += a[c] * a[c];
      }
    }
    const E whole = square[0] + square[1];
    E length = whole;
    if (H.count > 0) {
      reflect_row(H, H.blocks(), m);
      length = E{};
      GD_UNROLL_FOUR for (index_t k = 0; k < free; k++) length += m[k * kTile] * m[k * kTile];
    }
    const bool outside = length > whole * E(kDependent);
    norm[row] = inverse_square_root(outside ? length : whole > E{} ? whole : E(1));
    const E scale = outside ? norm[row] : E{};
    GD_UNROLL_FOUR for (index_t k = 0; k < width; k++) m[k * kTile] = k < free ? m[k * kTile] * scale : E{};
  }
}

// w = R_E⁻ᵀ w and w = R_E⁻¹ w, in place: a column, or a row, at a time.
template <class T, class E, class G>
GD_HD void solve_R_zero_transposed(const G& g, const ActiveSet<T, E>& s, T* w) {
  const index_t e = s.equalities, stride = padded(e);
  GD_NO_UNROLL for (index_t i = 0; i < e; i++) {
    g.sync();
    const T t = w[i] * s.R_zero_inverse[i];
    g.sync();
    if (g.rank() == 0) w[i] = t;
    for (index_t j = i + 1 + g.rank(); j < e; j += g.size()) w[j] -= s.R_zero[i * stride + j] * t;
  }
  g.sync();
}
template <class T, class E, class G>
GD_HD void solve_R_zero(const G& g, const ActiveSet<T, E>& s, T* w) {
  const index_t e = s.equalities, stride = padded(e);
  GD_NO_UNROLL for (index_t i = e - 1; i >= 0; i--) {
    g.sync();
    const T t = w[i] * s.R_zero_inverse[i];
    g.sync();
    if (g.rank() == 0) w[i] = t;
    for (index_t j = g.rank(); j < i; j += g.size()) w[j] -= s.R_zero[j * stride + i] * t;
  }
  g.sync();
}

template <class T, class E, class G>
GD_HD void round_matrix(const G& g, const SinglePricing<T, E>& s, const Bands<E>& M, index_t rows, index_t columns) {
  GD_NO_UNROLL for (index_t band = 0; band < tiles(rows); band++) {
    for (index_t k = g.rank(); k < columns * kTile; k += g.size()) s.M.band(band)[k] = to_single(M.band(band)[k]);
  }
}
template <class T, class E, class G>
GD_HD void round_slacks(const G& g, const SinglePricing<T, E>& s, const T* d, index_t rows) {
  GD_NO_UNROLL for (index_t k = g.rank(); k < padded(rows); k += g.size()) s.d[k] =
      k < rows ? to_single(minimum(d[k], T(1e30))) : Single<T>(1e30);
  g.sync();
}

// |a|² and |b|², in one reduction. Each member looks at the entries that it writes itself elsewhere.
template <class T, class G>
GD_HD void squares_of(const G& g, const T* a, const T* b, index_t n, T& square_a, T& square_b) {
  T sums[2] = {T{}, T{}};
  GD_NO_UNROLL for (index_t k = g.rank(); k < n; k += g.size()) {
    sums[0] += a[k] * a[k];
    sums[1] += b[k] * b[k];
  }
  g.sums(sums);
  square_a = sums[0];
  square_b = sums[1];
}

// r = R⁻¹ c. One barrier for each tile, whose solution every member computes for itself: it is written when all have
// read.
template <class T, class E, class G>
GD_HD void solve_R(const G& g, const ActiveSet<T, E>& s, int most, const T* c, T* r) {
  const index_t blocks = tiles(most);
  if (blocks == 0) return;
  GD_NO_UNROLL for (index_t i = g.rank(); i < blocks * kTile; i += g.size()) r[i] = i < most ? c[i] : T{};
  TileRow<T> t;
  GD_NO_UNROLL for (index_t J = blocks - 1; J >= 0; J--) {
    g.sync();
    if (J + 1 < blocks && g.rank() == 0) store_row(r + (J + 1) * kTile, t);
    t = load_row(r + J * kTile);
    GD_UNROLL for (int i = kTile - 1; i >= 0; i--) {
      const index_t row = J * kTile + i;
      GD_UNROLL for (int j = i + 1; j < kTile; j++) { t.value[i] -= s.r_at(row, J * kTile + j) * t.value[j]; }
      t.value[i] = t.value[i] * s.R_inverse[row];
    }
    GD_NO_UNROLL for (index_t row = g.rank(); row < J * kTile; row += g.size()) {
      const TileRow<T> e = load_row(&s.r_at(row, J * kTile));
      T a = r[row];
      GD_UNROLL for (int j = 0; j < kTile; j++) { a -= e.value[j] * t.value[j]; }
      r[row] = a;
    }
  }
  g.sync();
  if (g.rank() == 0) store_row(r, t);
}

// w = R⁻ᵀ c, in place.
template <class T, class E, class G>
GD_HD void solve_R_transposed(const G& g, const ActiveSet<T, E>& s, int most, T* w) {
  const index_t blocks = tiles(most);
  TileRow<T> t;
  GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
    if (J > 0) {
      g.sync();
      if (g.rank() == 0) store_row(w + (J - 1) * kTile, t);
    }
    t = load_row(w + J * kTile);
    GD_UNROLL for (int i = 0; i < kTile; i++) {
      const index_t row = J * kTile + i;
      GD_UNROLL for (int e = 0; e < i; e++) { t.value[i] -= s.r_at(J * kTile + e, row) * t.value[e]; }
      t.value[i] = t.value[i] * s.R_inverse[row];
    }
    GD_NO_UNROLL for (index_t j = (J + 1) * kTile + g.rank(); j < blocks * kTile; j += g.size()) {
      T a = w[j];
      GD_UNROLL for (int i = 0; i < kTile; i++) { a -= s.r_at(J * kTile + i, j) * t.value[i]; }
      w[j] = a;
    }
  }
  g.sync();
  if (blocks > 0 && g.rank() == 0) store_row(w + (blocks - 1) * kTile, t);
}

// The smallest of the members' values, none of them NaN, and the index `at` of the first member that has it.
template <class T, class G>
GD_HD void least_of(const G& g, T& value, T& at) {
  const T mine = value;
  value = g.min(mine);
  at = g.from_first_that(mine == value, at);
}

// The row with the smallest slack: its slack and its number, as numbers of T. Each member looks at two rows at a time.
template <class Element, class V, class T, class G>
GD_HD void least_slack(const G& g, const Bands<Element>& M, index_t rows, index_t columns, const V* u, const V* d,
                       T& least, T& which) {
  V best = V(1e30), at = V(0);
  const auto look = [&](index_t row, V product) GD_LAMBDA {
    const V slack = d[row] - product;
    const bool less = slack < best;
    best = less ? slack : best;
    at = less ? V(row) : at;
  };
  index_t row = g.rank();
  GD_NO_UNROLL for (; row + g.size() < rows; row += 2 * g.size()) {
    const Element* const m[2] = {&M.at(row, 0), &M.at(row + g.size(), 0)};
    V products[2];
    rows_times(m, columns, u, products);
    look(row, products[0]);
    look(row + g.size(), products[1]);
  }
  if (row < rows) look(row, row_times(&M.at(row, 0), columns, u));
  least_of(g, best, at);
  least = T(best);
  which = T(at);
}

// When the first multiplier becomes zero, and at which place.
template <class T, class E, class G>
GD_HD T first_to_leave(const G& g, const ActiveSet<T, E>& s, int most, T& leaving) {
  T least = T(kNever);
  leaving = T{};
  GD_NO_UNROLL for (int i = g.rank(); i < most; i += g.size()) {
    const T r = s.r[i];
    if (!(r > T(kFallingMultiplier))) continue;
    const T until = s.multiplier[i] / r;
    const bool sooner = until < least;
    least = sooner ? until : least;
    leaving = sooner ? T(i) : leaving;
  }
  least_of(g, least, leaving);
  return least;
}

// The smallest multiplier below zero (0 if there is none) and where it is, and the largest one.
template <class T, class E, class G>
GD_HD void extreme_multipliers(const G& g, const ActiveSet<T, E>& s, int most, T& least, T& at, T& largest) {
  least = at = largest = T{};
  GD_NO_UNROLL for (int i = g.rank(); i < most; i += g.size()) {
    const T a = s.multiplier[i];
    const bool less = a < least;
    least = less ? a : least;
    at = less ? T(i) : at;
    largest = maximum(a, largest);
  }
  largest = g.max(largest);
  least_of(g, least, at);
}

// What the places behind `first` hold moves up by one: rows' numbers and multipliers.
template <class T, class E, class G, int W>
GD_HD void move_up(const G& g, const ActiveSet<T, E>& s, const Places<W>& p, unsigned, T, index_t first) {
  const index_t most = p.most;
  GD_NO_UNROLL for (index_t begin = first; begin < most; begin += g.size()) {
    const index_t i = begin + g.rank();
    const bool moves = i + 1 < most;
    const int id = moves ? s.ids[i + 1] : -1;
    const T multiplier = moves ? s.multiplier[i + 1] : T{};
    g.sync();
    if (i >= most) continue;
    s.ids[i] = id;
    s.multiplier[i] = multiplier;
  }
}

// The row that is violated most, into s.row: its number in `chosen` and its slack in `exact`. Returns whether it is
// violated by more than rounding explains. Everything that is summed up takes one reduction.
template <class T, class E, class G, int W>
GD_HD unsigned choose_rows(const G& g, const ActiveSet<T, E>& s, const Places<W>& p, unsigned lanes, T size_base,
                           bool single, int (&chosen)[W], T& exact) {
  static_assert(W == 1, "a group works on one problem");
  const index_t n = s.width(), rows = padded(s.inequalities);
  T least, which;
  exact = T{};
  if (!lanes) return 0;
  if (single) {
    for (index_t k = g.rank(); k < n; k += g.size()) s.pricing.u[k] = to_single(s.u[k]);
    g.sync();
    least_slack(g, s.pricing.M, rows, n, s.pricing.u, s.pricing.d, least, which);
  } else {
    least_slack(g, s.M, rows, n, s.u, s.d, least, which);
  }
  if (!(least < T{})) return 0;
  const int id = int(which);
  const T d = s.d[id];
  T sums[3] = {T{}, T{}, T{}};  // M_p u, |u|², whether the row is in the working set: rounding alone violates it there
  GD_NO_UNROLL for (index_t k = g.rank(); k < n; k += g.size()) {
    const T a = s.M.at(id, k), u = s.u[k];
    s.row[k] = a;
    sums[0] += a * u;
    sums[1] += u * u;
  }
  for (int i = g.rank(); i < p.used[0]; i += g.size()) sums[2] += s.ids[i] == id ? T(1) : T{};
  g.sums(sums);
  const T size = square_root(sums[1]) + size_base, allowed = -size * T(kViolation);
  exact = d - sums[0];
  chosen[0] = id;
  return least < (single ? T(-size * T(kViolationSingle)) : allowed) && exact < allowed && sums[2] == T{} ? 1u : 0u;
}

}  // namespace GD_NAMESPACE
