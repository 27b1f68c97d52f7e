// The one linear system behind everything.
//
// The interior point, the polish, jvp and vjp all solve
//
//     [ P   Aᵀ    ] [u]   [e₁]
//     [ A  −F⁻² ] [v] = [e₂]        (zero rows: F⁻² = 0)
//
// with F⁻² short for (FᵀF)⁻¹ and F an operator for each cone: the inverse of the scaling in the interior point, the
// curvature of the projection √(D/(I − D + δ)) in the rest. With Ã = F A, ẽ = F e₂ and v = Fᵀt it condenses to
//
//     (P + EᵀE + ÃᵀÃ) u + Eᵀ v_E = e₁ + Ãᵀẽ + Eᵀe_E,   E u = e_E,   t = Ã u − ẽ,
//
// E being the zero cone's rows (why EᵀE: linalg/factor.cuh). On conic rows right-hand sides and results are in the
// scaled frame (ẽ and t).
#pragma once
#include "cones/cones.cuh"
#include "linalg/cooperative.cuh"
#include "linalg/products.cuh"

namespace GD_NAMESPACE {

struct Shape {
  index_t n;
  ConeRows rows;

  GD_HD index_t m() const { return rows.total; }
  GD_HD index_t columns() const { return padded(n); }
  // Vectors over the rows leave room for products that end in a whole tile, wherever they start.
  GD_HD index_t row_words() const { return padded(rows.total) + kTile; }
  GD_HD index_t order() const { return padded(n) + padded(rows.zero); }
};

// Hands out pieces of one block of memory, each of a multiple of kTile words; counts instead when there is none.
template <class T>
struct Carver {
  T* base;
  index_t used;

  GD_HD T* take(index_t words) {
    T* p = base ? base + used : nullptr;
    used += padded(words);
    return p;
  }
};

template <class T>
struct System {
  Shape shape;
  Panels<T> A;  // all rows
  SymmetricTiles<T> P;
  Quasidefinite<T> k;  // the condensed matrix's parts and its factor
  Spectral<T> F;
  T *q, *b;
  T* right;  // [2][order]

  // `bulk` is for the problem's own matrices, which may have to lie farther away than the rest. `cooperative`: for a
  // group of several members, which keeps the scaled rows of the second-order cones alone and P without EᵀE.
  GD_HD void carve(const Shape& s, Carver<T>& memory, Carver<T>& bulk, bool cooperative) {
    shape = s;
    const ConeRows& rows = s.rows;
    const index_t nb = tiles(s.n);
    A = {bulk.take(Panels<T>::words(s.m(), s.n)), panel_rows(s.m())};
    P = {bulk.take(SymmetricTiles<T>::words(nb))};
    k.P = rows.zero > 0 && !cooperative ? SymmetricTiles<T>{bulk.take(SymmetricTiles<T>::words(nb))} : P;
    k.weighted_rows = cooperative ? rows.nonnegative : 0;
    k.scaled_rows = rows.conic() - k.weighted_rows;
    k.scaled = {bulk.take(Panels<T>::words(k.scaled_rows, s.n)), panel_rows(k.scaled_rows)};
    k.equalities = A;
    k.L = {memory.take(SymmetricTiles<T>::words(nb + tiles(rows.zero)))};
    k.magnitude = memory.take(cooperative ? s.order() : 0);
    k.n = s.n;
    k.equality_rows = rows.zero;
    F = {memory.take(s.row_words()), memory.take(rows.operator_words()), memory.take(rows.scratch_words())};
    k.weight = F.vector;
    q = memory.take(s.columns());
    b = memory.take(s.row_words());
    right = memory.take(2 * s.order());
  }
};

// Ã = F A, and the factor of K.
template <class T, class G>
GD_HD void factorise_system(const G& g, const System<T>& w, T regularisation) {
  g.sync();
  if constexpr (kCooperative<G>) {
    cone_scale_dense_rows(g, w.shape.rows, w.F, w.A, w.k.scaled, tiles(w.shape.n));
    g.sync();
    factorise(g, w.k, regularisation);
  } else {
    cone_scale_rows(g, w.shape.rows, w.F, w.A, w.k.scaled, tiles(w.shape.n));
    g.sync();
    factorise(g, w.k, regularisation);
  }
}

// Solves for R right-hand sides: e1 [R][columns], e2 [R][row_words] → u [R][columns], v [R][row_words].
template <int R, class T, class G>
GD_HD void solve_system(const G& g, const System<T>& w, const T* e1, const T* e2, T* u, T* v) {
  const Shape& s = w.shape;
  const index_t columns = s.columns(), rows = s.row_words(), order = s.order(), zero = s.rows.zero;
  T* right = w.right;
  g.sync();
  if constexpr (kCooperative<G>) {  // Ãᵀẽ + Eᵀe_E = Aᵀ(e_E, Fᵀẽ)
    for (int r = 0; r < R; r++) {
      cone_apply_transposed(g, s.rows, w.F, e2 + r * rows, v + r * rows);
      for (index_t k = g.rank(); k < zero; k += g.size()) v[r * rows + k] = e2[r * rows + k];
    }
    g.sync();
    multiply_transposed<R>(g, w.A, 0, s.m(), s.n, v, rows, right, order);
  } else {
    multiply_transposed<R>(g, w.k.scaled, 0, s.rows.conic(), s.n, e2 + zero, rows, right, order);
    if (zero > 0) multiply_transposed<R>(g, w.A, 0, zero, s.n, e2, rows, u, columns);
  }
  g.sync();
  for (int r = 0; r < R; r++) {
    const bool apart = !kCooperative<G> && zero > 0;
    for (index_t i = g.rank(); i < columns; i += g.size())
      right[r * order + i] += apart ? T(e1[r * columns + i] + u[r * columns + i]) : e1[r * columns + i];
    for (index_t i = g.rank(); i < order - columns; i += g.size())
      right[r * order + columns + i] = i < zero ? e2[r * rows + i] : T{};
  }
  g.sync();
  if constexpr (kCooperative<G>) {
    solve_factorised<R>(g, w.k, right, order);
    multiply<R>(g, w.A, s.m(), s.n, right, order, v, rows);
    g.sync();
    for (int r = 0; r < R; r++) cone_apply(g, s.rows, w.F, v + r * rows, v + r * rows);
  } else {
    solve_factorised<R>(g, w.k, right, order);
    multiply<R>(g, w.k.scaled, s.rows.conic(), s.n, right, order, v + zero, rows);
  }
  g.sync();
  for (int r = 0; r < R; r++) {
    for (index_t i = g.rank(); i < columns; i += g.size()) u[r * columns + i] = right[r * order + i];
    for (index_t k = g.rank(); k < s.m(); k += g.size())
      v[r * rows + k] = k < zero ? right[r * order + columns + k] : T(v[r * rows + k] - e2[r * rows + k]);
  }
  g.sync();
}

// What iterative refinement needs beside the system.
template <class T>
struct Refinement {
  T *r1, *r2, *du, *dv, *product;  // for each right-hand side

  GD_HD void carve(const Shape& s, Carver<T>& memory, index_t sides = 1) {
    r1 = memory.take(sides * s.columns());
    du = memory.take(sides * s.columns());
    product = memory.take(sides * s.columns());
    r2 = memory.take(sides * s.row_words());
    dv = memory.take(sides * s.row_words());
  }
};

// What R solutions (u, v) leave of the unregularised system: r1 and r2. N is the operator (I − D)/(I − D + δ) by which
// the scaled conic rows of the exact system differ from those that were factorised; null in the interior point, where
// they agree.
template <int R = 1, class T, class G>
GD_HD void system_residual(const G& g, const System<T>& w, const Refinement<T>& f, const Spectral<T>* N, const T* e1,
                           const T* e2, const T* u, const T* v) {
  const Shape& s = w.shape;
  const index_t zero = s.rows.zero, columns = s.columns(), rows = s.row_words();
  g.sync();
  if constexpr (kCooperative<G>) {
    static_assert(R == 1, "one thread alone solves for several right-hand sides at a time");
    multiply_symmetric(g, w.P, tiles(s.n), u, f.product);
    cone_apply_transposed(g, s.rows, w.F, v, f.dv);
    for (index_t k = g.rank(); k < zero; k += g.size()) f.dv[k] = v[k];
    multiply<1>(g, w.A, s.m(), s.n, u, 0, f.r2, 0);
    g.sync();
    multiply_transposed<1>(g, w.A, 0, s.m(), s.n, f.dv, 0, f.r1, 0);
    cone_apply(g, s.rows, w.F, f.r2, f.r2);
    g.sync();
    for (index_t i = g.rank(); i < columns; i += g.size()) f.r1[i] = e1[i] - f.product[i] - f.r1[i];
  } else {
    multiply_symmetric<R>(g, w.P, tiles(s.n), u, columns, f.product, columns);
    multiply_transposed<R>(g, w.k.scaled, 0, s.rows.conic(), s.n, v + zero, rows, f.r1, columns);
    multiply_transposed<R>(g, w.A, 0, zero, s.n, v, rows, f.du, columns);
    multiply<R>(g, w.k.scaled, s.rows.conic(), s.n, u, columns, f.r2 + zero, rows);
    // A product ends in a whole tile: the equality rows' own goes elsewhere.
    multiply<R>(g, w.A, zero, s.n, u, columns, f.dv, rows);
    g.sync();
    for (index_t i = g.rank(); i < R * columns; i += g.size()) f.r1[i] = e1[i] - f.product[i] - f.r1[i] - f.du[i];
    for (int r = 0; r < R; r++)
      for (index_t k = g.rank(); k < zero; k += g.size()) f.r2[r * rows + k] = f.dv[r * rows + k];
    g.sync();
  }
  for (int r = 0; N && r < R; r++) cone_apply_complement(g, s.rows, *N, v + r * rows, f.dv + r * rows);
  g.sync();
  const T* against = N ? f.dv : v;
  for (int i = 0; i < R; i++) {
    for (index_t k = g.rank(); k < s.m(); k += g.size()) {
      const index_t at = i * rows + k;
      const T r = e2[at] - f.r2[at];
      f.r2[at] = k < zero ? r : T(r + against[at]);
    }
  }
  g.sync();
}

// Solves for R right-hand sides, with steps of iterative refinement until `enough(step)` says so, which may look at
// the last correction in f.du and f.dv. One loop with one solve in it: the solve is most of a GPU kernel's code.
template <int R = 1, class T, class G, class Enough>
GD_HD void solve_refined(const G& g, const System<T>& w, const Refinement<T>& f, const Spectral<T>* N, const T* e1,
                         const T* e2, T* u, T* v, Enough enough) {
  const Shape& s = w.shape;
  GD_NO_UNROLL for (int step = 0;; step++) {
    const bool first = step == 0;
    if (!first) system_residual<R>(g, w, f, N, e1, e2, u, v);
    solve_system<R>(g, w, first ? e1 : f.r1, first ? e2 : f.r2, first ? u : f.du, first ? v : f.dv);
    if (!first) {
      for (index_t i = g.rank(); i < R * s.columns(); i += g.size()) u[i] += f.du[i];
      for (int r = 0; r < R; r++) {
        const index_t begin = r * s.row_words();
        for (index_t k = begin + g.rank(); k < begin + s.m(); k += g.size()) v[k] += f.dv[k];
      }
      g.sync();
    }
    if (enough(step)) return;
  }
}

}  // namespace GD_NAMESPACE
