// Householder reflectors that take the equalities' rows of a QP to the last coordinates (active_set/setup.cuh).
//
// H = H₀ H₁ …, H_i = I − v_i v_iᵀ with ‖v_i‖² = 2, is orthogonal, and row i of M H is zero before coordinate n − 1 − i
// (Golub & Van Loan, §5.2, from the other end): the first coordinates of yᵀH are those of y's part that is orthogonal
// to the rows of M, the last ones are those in their span. v_i is zero from coordinate n − i on.
//
// kTile reflectors at a time are applied as I − V T Vᵀ, T upper triangular (Schreiber & Van Loan 1989).
#pragma once
#include "bands_cooperative.cuh"

namespace GD_NAMESPACE {

template <class E>
struct Reflectors {
  Bands<E> V;  // v_i by rows
  E* T;        // [blocks] kTile × kTile by rows
  index_t n, count;

  GD_HD index_t blocks() const { return tiles(count); }
  GD_HD index_t support(index_t block) const { return padded(n - block * kTile); }
  GD_HD E* triangle(index_t block) const { return T + block * kTile * kTile; }
};

template <class E>
GD_HD Reflectors<E> no_reflectors() {
  return {{nullptr, 0}, nullptr, 0, 0};
}

// c = c T and c = T c for one block, c having a column, or a row, for each of its reflectors.
template <class E, class V>
GD_HD void times_triangle(const E* T, V (&c)[kTile]) {
  GD_UNROLL for (int b = kTile - 1; b >= 0; b--) {
    V sum = T[b * kTile + b] * c[b];
    GD_UNROLL for (int a = 0; a < b; a++) { sum += T[a * kTile + b] * c[a]; }
    c[b] = sum;
  }
}
template <class E, class V>
GD_HD void triangle_times(const E* T, V (&c)[kTile]) {
  GD_UNROLL for (int a = 0; a < kTile; a++) {
    V sum = T[a * kTile + a] * c[a];
    GD_UNROLL for (int b = a + 1; b < kTile; b++) { sum += T[a * kTile + b] * c[b]; }
    c[a] = sum;
  }
}

// A band of rows, in place, times a block of COUNT reflectors.
template <int COUNT, class E>
GD_HD void reflect_band(const Reflectors<E>& H, index_t block, E* m) {
  const E* v = H.V.band(block);
  const index_t support = H.support(block);
  E c[kTile][kTile] = {};
  if constexpr (COUNT == kTile) {
    update_tile<1>(c, m, v, support);
  } else {
    GD_NO_UNROLL for (index_t k = 0; k < support; k++) {
      GD_UNROLL for (int b = 0; b < COUNT; b++) {
        E t = v[k * kTile + b];
        keep_in_register(t);
        GD_UNROLL for (int r = 0; r < kTile; r++) { c[r][b] += m[k * kTile + r] * t; }
      }
    }
  }
  GD_UNROLL for (int r = 0; r < kTile; r++) { times_triangle(H.triangle(block), c[r]); }
  subtract_tile<COUNT>(c, v, support, m);
}
// The same with the first `blocks` blocks, of which the last one may be short.
template <class E>
GD_HD void reflect_band(const Reflectors<E>& H, index_t blocks, E* m) {
  GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
    const index_t count = H.count - J * kTile;
    if (count >= kTile)
      reflect_band<kTile>(H, J, m);
    else if (count == 1)
      reflect_band<1>(H, J, m);
    else
      reflect_band<kTile - 1>(H, J, m);
  }
}

// One block on a vector: y −= V T Vᵀ y, or with Tᵀ. `h`: [kTile] scratch of the group.
template <bool kTransposed, class E, class Y, class G>
GD_HD void reflect_block(const G& g, const Reflectors<E>& H, index_t block, Y* y, Y* h) {
  const Bands<E> band{H.V.band(block), H.V.columns};
  multiply_bands(g, band, 1, H.support(block), y, h);
  g.sync();
  Y c[kTile];
  GD_UNROLL for (int a = 0; a < kTile; a++) { c[a] = h[a]; }
  if constexpr (kTransposed)
    times_triangle(H.triangle(block), c);
  else
    triangle_times(H.triangle(block), c);
  g.sync();
  if (g.rank() == 0) GD_UNROLL for (int a = 0; a < kTile; a++) {
      h[a] = c[a];
    }
  g.sync();
  subtract_transposed(g, band, 1, H.support(block), h, y);
  g.sync();
}

// y = Hᵀ y, and y = H y.
template <class E, class Y, class G>
GD_HD void reflect(const G& g, const Reflectors<E>& H, Y* y, Y* h) {
  GD_NO_UNROLL for (index_t J = 0; J < H.blocks(); J++) reflect_block<true>(g, H, J, y, h);
}
template <class E, class Y, class G>
GD_HD void reflect_back(const G& g, const Reflectors<E>& H, Y* y, Y* h) {
  GD_NO_UNROLL for (index_t J = H.blocks() - 1; J >= 0; J--) reflect_block<false>(g, H, J, y, h);
}

// A row, whose entries lie kTile apart, times the first `blocks` blocks: what one member of a group does.
template <class E>
GD_HD void reflect_row(const Reflectors<E>& H, index_t blocks, E* m) {
  GD_NO_UNROLL for (index_t J = 0; J < blocks; J++) {
    const E* v = H.V.band(J);
    const index_t support = H.support(J);
    E c[kTile] = {};
    GD_UNROLL_FOUR for (index_t k = 0; k < support; k++) {
      const TileRow<E> column = load_row(v + k * kTile);
      const E a = m[k * kTile];
      GD_UNROLL for (int b = 0; b < kTile; b++) { c[b] += a * column.value[b]; }
    }
    times_triangle(H.triangle(J), c);
    GD_UNROLL_FOUR for (index_t k = 0; k < support; k++) {
      const TileRow<E> column = load_row(v + k * kTile);
      E a = m[k * kTile];
      GD_UNROLL for (int b = 0; b < kTile; b++) { a -= c[b] * column.value[b]; }
      m[k * kTile] = a;
    }
  }
}

// The rows of a band of M by the reflectors that are there: all rows at once, or a row for each member of a group.
template <class E>
GD_HD void reflect_rows(const Alone&, const Reflectors<E>& H, index_t blocks, E* band) {
  reflect_band(H, blocks, band);
}
template <class E, class G>
GD_HD void reflect_rows(const G& g, const Reflectors<E>& H, index_t blocks, E* band) {
  GD_NO_UNROLL for (index_t r = g.rank(); r < kTile; r += g.size()) reflect_row(H, blocks, band + r);
  g.sync();
}

// Row c of a band of M as reflector `i` in its place; what the row has at the last coordinates becomes column i of `R`
// (by rows `stride` apart). Returns where the part before them has a square above `dependent`, the row being of length
// one at first; elsewhere there is no reflector.
template <class E, class G>
GD_HD Mask<E> make_reflector(const G& g, const Reflectors<E>& H, index_t i, E* R, index_t stride, double dependent) {
  const index_t n = H.n, last = n - 1 - i, c = i % kTile;
  E* const row = H.V.band(i / kTile) + c;
  GD_NO_UNROLL for (index_t b = 0; b < c; b++) {  // the reflectors of the same band, which are not among the blocks
    const E* v = H.V.band(i / kTile) + b;
    E dot{};
    for (index_t k = g.rank(); k < n; k += g.size()) dot += row[k * kTile] * v[k * kTile];
    dot = g.sum(dot);
    for (index_t k = g.rank(); k < n; k += g.size()) row[k * kTile] -= dot * v[k * kTile];
    g.sync();
  }
  E square{};
  for (index_t k = g.rank(); k <= last; k += g.size()) square += row[k * kTile] * row[k * kTile];
  square = g.sum(square);
  const Mask<E> outside = square > broadcast<E>(dependent);
  const E length = square_root(square), pivot = row[last * kTile];
  const E diagonal = select(pivot > E{}, E(-length), length);
  const E size = maximum(E(length * (length + absolute(pivot))), broadcast<E>(1e-300));
  const E scale = select(outside, inverse_square_root(size), E{});
  g.sync();
  for (index_t k = g.rank(); k < n; k += g.size()) {
    const E a = row[k * kTile];
    if (k > last) R[(n - 1 - k) * stride + i] = a;
    row[k * kTile] = k > last ? E{} : E((k == last ? E(pivot - diagonal) : a) * scale);
  }
  if (g.rank() == 0) R[i * stride + i] = diagonal;
  g.sync();
  return outside;
}

// T of a block, once its reflectors are there.
template <class E, class G>
GD_HD void make_triangle(const G& g, const Reflectors<E>& H, index_t block) {
  const E* v = H.V.band(block);
  E products[kTile * (kTile - 1) / 2] = {};
  for (index_t k = g.rank(); k < H.n; k += g.size()) {
    int at = 0;
    GD_UNROLL for (int b = 1; b < kTile; b++) {
      GD_UNROLL for (int a = 0; a < b; a++) { products[at++] += v[k * kTile + a] * v[k * kTile + b]; }
    }
  }
  g.sums(products);
  if (g.rank() == 0) {
    E t[kTile][kTile] = {};
    int column = 0;  // where the products with v_b begin
    GD_UNROLL for (int b = 0; b < kTile; b++) {
      t[b][b] = broadcast<E>(1);
      GD_UNROLL for (int a = 0; a < b; a++) {
        GD_UNROLL for (int c = a; c < b; c++) { t[a][b] -= t[a][c] * products[column + c]; }
      }
      column += b;
    }
    E* const T = H.triangle(block);
    GD_UNROLL for (int a = 0; a < kTile; a++) {
      GD_UNROLL for (int b = 0; b < kTile; b++) { T[a * kTile + b] = t[a][b]; }
    }
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
