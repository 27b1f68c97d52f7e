// The dense linear algebra of a group of several members (a GPU's tiles, warps and blocks): the same layouts and the
// same results up to rounding as products.cuh and factor.cuh, which serve one thread whose scalars are packs.
//
// One thread wants large blocks of results in registers. A group wants work for every member, few barriers and little
// memory: products take a row or a column for each member; the factorisation is right-looking, so that all tiles behind
// a column can be updated at once; what depends on one tile alone is computed by every member for itself, which costs
// no barrier. And the scaled constraint rows Ã = F A are stored for the second-order cones only: a nonnegative row is
// a weight, which is applied as the rows are added up. The functions have the same names: overloads for Alone are those
// of one thread.
#pragma once
#include "factor.cuh"

namespace GD_NAMESPACE {

// kTile neighbouring numbers, aligned as one: a single load where the machine has one.
template <class T>
struct alignas(sizeof(T) == 8 ? 16 : sizeof(T) * kTile) TileRow {
  T value[kTile];
};
template <class T>
GD_HD TileRow<T> load_row(const T* p) {
  return *reinterpret_cast<const TileRow<T>*>(p);
}
template <class T>
GD_HD void store_row(T* p, const TileRow<T>& row) {
  *reinterpret_cast<TileRow<T>*>(p) = row;
}

// out_r = M x_r for the first `rows` rows: a row for each member.
template <int R, class T, class G>
GD_HD void multiply(const G& g, const Panels<T>& M, index_t rows, index_t columns, const T* x, index_t x_stride, T* out,
                    index_t out_stride) {
  const index_t panels = tiles(columns);
  GD_NO_UNROLL for (index_t k = g.rank(); k < rows; k += g.size()) {
    T sum[R][2];
    GD_UNROLL for (int r = 0; r < R; r++) { sum[r][0] = sum[r][1] = T{}; }
    GD_UNROLL_FOUR for (index_t p = 0; p < panels; p++) {
      const TileRow<T> m = load_row(M.panel(p) + k * kTile);
      GD_UNROLL for (int r = 0; r < R; r++) {
        const TileRow<T> v = load_row(x + r * x_stride + p * kTile);
        GD_UNROLL for (int j = 0; j < kTile; j++) { sum[r][j % 2] += m.value[j] * v.value[j]; }
      }
    }
    GD_UNROLL for (int r = 0; r < R; r++) { out[r * out_stride + k] = sum[r][0] + sum[r][1]; }
  }
}

// out_r = Mᵀ v_r over rows begin ≤ k < end: a column for each member.
template <int R, class T, class G>
GD_HD void multiply_transposed(const G& g, const Panels<T>& M, index_t begin, index_t end, index_t columns, const T* v,
                               index_t v_stride, T* out, index_t out_stride) {
  GD_NO_UNROLL for (index_t j = g.rank(); j < padded(columns); j += g.size()) {
    const T* m = M.panel(j / kTile) + j % kTile;
    T even[R], odd[R];
    GD_UNROLL for (int r = 0; r < R; r++) { even[r] = odd[r] = T{}; }
    index_t k = begin;
    GD_UNROLL_FOUR for (; k + 2 <= end; k += 2) {
      const T a = m[k * kTile], b = m[(k + 1) * kTile];
      GD_UNROLL for (int r = 0; r < R; r++) {
        even[r] += a * v[r * v_stride + k];
        odd[r] += b * v[r * v_stride + k + 1];
      }
    }
    if (k < end) {
      GD_UNROLL for (int r = 0; r < R; r++) { even[r] += m[k * kTile] * v[r * v_stride + k]; }
    }
    GD_UNROLL for (int r = 0; r < R; r++) { out[r * out_stride + j] = even[r] + odd[r]; }
  }
}

// out = S v for a symmetric matrix of `blocks` tile rows: a row for each member.
template <class T, class G>
GD_HD void multiply_symmetric(const G& g, const SymmetricTiles<T>& S, index_t blocks, const T* v, T* out) {
  GD_NO_UNROLL for (index_t i = g.rank(); i < blocks * kTile; i += g.size()) {
    const index_t I = i / kTile, r = i % kTile;
    T sum[2] = {T{}, T{}};
    const T* s = S.tile(I, 0) + r;
    GD_UNROLL_FOUR for (index_t J = 0; J <= I; J++) {
      const TileRow<T> x = load_row(v + J * kTile);
      GD_UNROLL for (int c = 0; c < kTile; c++) { sum[c % 2] += s[J * kTileWords + c * kTile] * x.value[c]; }
    }
    GD_UNROLL_FOUR for (index_t J = I + 1; J < blocks; J++) {
      const TileRow<T> m = load_row(S.tile(J, I) + r * kTile), x = load_row(v + J * kTile);
      GD_UNROLL for (int c = 0; c < kTile; c++) { sum[c % 2] += m.value[c] * x.value[c]; }
    }
    out[i] = sum[0] + sum[1];
  }
}

// Row and column of entry t of a lower triangle that is counted row by row.
struct TrianglePlace {
  index_t row, column;
};
GD_HD TrianglePlace triangle_place(index_t t) {
  index_t row = index_t((square_root(float(8 * t + 1)) - 1) * 0.5f);
  row += (row + 1) * (row + 2) / 2 <= t ? 1 : 0;  // the root may have been rounded either way
  row -= row * (row + 1) / 2 > t ? 1 : 0;
  return {row, t - row * (row + 1) / 2};
}

// acc += a bᵀ for the tile rows a and b.
template <class T>
GD_HD void add_outer(T (&acc)[kTile][kTile], const TileRow<T>& a, const TileRow<T>& b) {
  GD_UNROLL for (int r = 0; r < kTile; r++) {
    GD_UNROLL for (int c = 0; c < kTile; c++) { acc[r][c] += a.value[r] * b.value[c]; }
  }
}

// K before elimination, into the storage of its factor.
template <class T, class G>
GD_HD void assemble(const G& g, const Quasidefinite<T>& k) {
  const index_t nb = k.variable_blocks(), total = k.blocks(), count = total * (total + 1) / 2;
  const index_t zero = k.equality_rows, weighted = zero + k.weighted_rows;
  GD_NO_UNROLL for (index_t t = g.rank(); t < count; t += g.size()) {
    const TrianglePlace place = triangle_place(t);
    const index_t I = place.row, J = place.column;
    T acc[kTile][kTile];
    if (I < nb) {
      const T* p = k.P.tile(I, J);
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        const TileRow<T> column = load_row(p + c * kTile);
        GD_UNROLL for (int r = 0; r < kTile; r++) { acc[r][c] = column.value[r]; }
      }
      const T *a = k.equalities.panel(I), *b = k.equalities.panel(J);
      GD_UNROLL_FOUR for (index_t row = 0; row < zero; row++)
          add_outer(acc, load_row(a + row * kTile), load_row(b + row * kTile));
      GD_UNROLL_FOUR for (index_t row = zero; row < weighted; row++) {
        const T w = k.weight[row];
        if (w == T{}) continue;  // an inactive row of a polish; the same for every member
        TileRow<T> left = load_row(a + row * kTile);
        GD_UNROLL for (int r = 0; r < kTile; r++) { left.value[r] = left.value[r] * w * w; }
        add_outer(acc, left, load_row(b + row * kTile));
      }
      a = k.scaled.panel(I), b = k.scaled.panel(J);
      GD_UNROLL_FOUR for (index_t row = 0; row < k.scaled_rows; row++)
          add_outer(acc, load_row(a + row * kTile), load_row(b + row * kTile));
      if (I == J) {
        GD_UNROLL for (int c = 0; c < kTile; c++) { k.magnitude[J * kTile + c] = absolute(acc[c][c]); }
      }
    } else {
      equality_tile(k, I, J, acc);
    }
    T* out = k.L.tile(I, J);
    GD_UNROLL for (int c = 0; c < kTile; c++) {
      TileRow<T> column;
      GD_UNROLL for (int r = 0; r < kTile; r++) { column.value[r] = acc[r][c]; }
      store_row(out + c * kTile, column);
    }
  }
}

// Factorises K into k.L, with the pivot rule of factor.cuh.
template <class T, class G>
GD_HD void factorise(const G& g, const Quasidefinite<T>& k, T regularisation, double replaced_by = kReplacedPivot<T>) {
  const index_t nb = k.variable_blocks(), total = k.blocks(), order = k.order();
  assemble(g, k);
  GD_NO_UNROLL for (index_t J = 0; J < total; J++) {
    g.sync();
    if (J == nb) {  // a Schur complement's size is what the positive part made of it
      for (index_t i = J * kTile + g.rank(); i < order; i += g.size()) k.magnitude[i] = absolute(k.L.at(i, i));
      g.sync();
    }
    const T sign = broadcast<T>(J < nb ? 1 : -1);
    T* diagonal = k.L.tile(J, J);
    T d[kTile][kTile], magnitude[kTile];
    GD_UNROLL for (int c = 0; c < kTile; c++) {
      const TileRow<T> column = load_row(diagonal + c * kTile);
      GD_UNROLL for (int r = 0; r < kTile; r++) { d[r][c] = column.value[r]; }
      magnitude[c] = k.magnitude[J * kTile + c];
    }
    factorise_tile(d, magnitude, sign, regularisation, replaced_by);
    GD_NO_UNROLL for (index_t row = (J + 1) * kTile + g.rank(); row < order; row += g.size()) {
      T* l = k.L.tile(row / kTile, J) + row % kTile;
      T t[kTile];
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        t[c] = l[c * kTile];
        GD_UNROLL for (int c2 = 0; c2 < c; c2++) { t[c] -= t[c2] * (sign * d[c][c2]); }
        t[c] = t[c] * (d[c][c] * sign);
        l[c * kTile] = t[c];
      }
    }
    g.sync();
    if (g.rank() == 0) {
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int r = c; r < kTile; r++) { diagonal[c * kTile + r] = d[r][c]; }
      }
    }
    const index_t rest = total - J - 1, count = rest * (rest + 1) / 2;
    GD_NO_UNROLL for (index_t t = g.rank(); t < count; t += g.size()) {
      const TrianglePlace place = triangle_place(t);
      const index_t I = J + 1 + place.row, K = J + 1 + place.column;
      const T *a = k.L.tile(I, J), *b = k.L.tile(K, J);
      T* out = k.L.tile(I, K);
      TileRow<T> left[kTile];
      GD_UNROLL for (int e = 0; e < kTile; e++) {
        left[e] = load_row(a + e * kTile);
        GD_UNROLL for (int r = 0; r < kTile; r++) { left[e].value[r] = left[e].value[r] * -sign; }
      }
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        TileRow<T> column = load_row(out + c * kTile);
        GD_UNROLL for (int e = 0; e < kTile; e++) {
          const T right = b[e * kTile + c];
          GD_UNROLL for (int r = 0; r < kTile; r++) { column.value[r] += left[e].value[r] * right; }
        }
        store_row(out + c * kTile, column);
      }
    }
  }
  g.sync();
}

// A solution of one tile row into each of R vectors, by the first member: once nobody reads what it replaces.
template <int R, class T, class G>
GD_HD void write_solution(const G& g, const TileRow<T> (&t)[R], T sign, index_t block, T* v, index_t stride) {
  if (g.rank() != 0) return;
  GD_UNROLL for (int r = 0; r < R; r++) {
    TileRow<T> out;
    GD_UNROLL for (int c = 0; c < kTile; c++) { out.value[c] = t[r].value[c] * sign; }
    store_row(v + r * stride + block * kTile, out);
  }
}

// Solves L S v_r = v_r in place for R right-hand sides `stride` apart. One barrier for each tile, and one at the end:
// its solution is computed by every member, and written when all have read.
template <int R, class T, class G>
GD_HD void substitute_forward(const G& g, const Quasidefinite<T>& k, T* v, index_t stride) {
  const index_t nb = k.variable_blocks(), total = k.blocks(), order = k.order();
  if (total == 0) return;
  TileRow<T> t[R];
  const auto sign_of = [&](index_t block) GD_LAMBDA { return broadcast<T>(block < nb ? 1 : -1); };
  GD_NO_UNROLL for (index_t J = 0; J < total; J++) {
    g.sync();
    if (J > 0) write_solution(g, t, sign_of(J - 1), J - 1, v, stride);
    const T* d = k.L.tile(J, J);
    GD_UNROLL for (int r = 0; r < R; r++) {
      t[r] = load_row(v + r * stride + J * kTile);
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int c2 = 0; c2 < c; c2++) { t[r].value[c] -= d[c2 * kTile + c] * t[r].value[c2]; }
        t[r].value[c] = t[r].value[c] * d[c * kTile + c];
      }
    }
    GD_NO_UNROLL for (index_t row = (J + 1) * kTile + g.rank(); row < order; row += g.size()) {
      const T* l = k.L.tile(row / kTile, J) + row % kTile;
      GD_UNROLL for (int r = 0; r < R; r++) {
        T a = v[r * stride + row];
        GD_UNROLL for (int c = 0; c < kTile; c++) { a -= l[c * kTile] * t[r].value[c]; }
        v[r * stride + row] = a;
      }
    }
  }
  g.sync();
  write_solution(g, t, sign_of(total - 1), total - 1, v, stride);
  g.sync();
}

// The same for Lᵀ v_r = v_r.
template <int R, class T, class G>
GD_HD void substitute_backward(const G& g, const Quasidefinite<T>& k, T* v, index_t stride) {
  const index_t total = k.blocks();
  if (total == 0) return;
  const T one = broadcast<T>(1);
  TileRow<T> t[R];
  GD_NO_UNROLL for (index_t I = total - 1; I >= 0; I--) {
    if (I < total - 1) {
      g.sync();
      write_solution(g, t, one, I + 1, v, stride);
    }
    const T* d = k.L.tile(I, I);
    GD_UNROLL for (int r = 0; r < R; r++) {
      t[r] = load_row(v + r * stride + I * kTile);
      GD_UNROLL for (int c = kTile - 1; c >= 0; c--) {
        GD_UNROLL for (int i = c + 1; i < kTile; i++) { t[r].value[c] -= d[c * kTile + i] * t[r].value[i]; }
        t[r].value[c] = t[r].value[c] * d[c * kTile + c];
      }
    }
    const T* l = k.L.tile(I, 0);
    GD_NO_UNROLL for (index_t column = g.rank(); column < I * kTile; column += g.size()) {
      const TileRow<T> e = load_row(l + column / kTile * kTileWords + column % kTile * kTile);
      GD_UNROLL for (int r = 0; r < R; r++) {
        T a = v[r * stride + column];
        GD_UNROLL for (int i = 0; i < kTile; i++) { a -= e.value[i] * t[r].value[i]; }
        v[r * stride + column] = a;
      }
    }
  }
  g.sync();
  write_solution(g, t, one, 0, v, stride);
  g.sync();
}

// Solves K v_r = v_r in place for R right-hand sides `stride` apart.
template <int R, class T, class G>
GD_HD void solve_factorised(const G& g, const Quasidefinite<T>& k, T* v, index_t stride) {
  substitute_forward<R>(g, k, v, stride);
  substitute_backward<R>(g, k, v, stride);
}

}  // namespace GD_NAMESPACE
