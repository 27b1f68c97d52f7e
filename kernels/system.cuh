// The one linear system behind everything.
//
// The interior point, the polish, jvp and vjp all solve
//
//     [ P   Aᵀ    ] [u]   [e₁]
//     [ A  −F⁻² ] [v] = [e₂]        (zero rows: F⁻² = 0)
//
// with F a cone-wise symmetric operator: the inverse Nesterov–Todd scaling in the interior point, the curvature of the
// projection √(D/(I − D + δ)) in the rest. With Ã = F A, ẽ = F e₂ and v = F t it condenses to
//
//     (P + EᵀE + ÃᵀÃ) u + Eᵀ v_E = e₁ + Ãᵀẽ + Eᵀe_E,   E u = e_E,   t = Ã u − ẽ,
//
// E being the zero cone's rows (why EᵀE: linalg/factor.cuh). On conic rows right-hand sides and results are in the
// scaled frame (ẽ and t).
#pragma once
#include "cones/cones.cuh"
#include "linalg/factor.cuh"
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

// Hands out pieces of one block of memory; counts instead when there is none.
template <class T>
struct Carver {
  T* base;
  index_t used;

  GD_HD T* take(index_t words) {
    T* p = base ? base + used : nullptr;
    used += words;
    return p;
  }
};

template <class T>
struct System {
  Shape shape;
  Panels<T> A;  // all rows
  SymmetricTiles<T> P;
  Quasidefinite<T> k;  // P + EᵀE (P itself without equality rows), Ã and the factor
  Spectral<T> F;
  T *q, *b;
  T* right;  // [2][order]

  GD_HD void carve(const Shape& s, Carver<T>& memory) {
    shape = s;
    const index_t nb = tiles(s.n), conic = s.rows.conic();
    A = {memory.take(Panels<T>::words(s.m(), s.n)), padded(s.m())};
    P = {memory.take(SymmetricTiles<T>::words(nb))};
    k.P = s.rows.zero > 0 ? SymmetricTiles<T>{memory.take(SymmetricTiles<T>::words(nb))} : P;
    k.scaled = {memory.take(Panels<T>::words(conic, s.n)), padded(conic)};
    k.equalities = A;
    k.L = {memory.take(SymmetricTiles<T>::words(nb + tiles(s.rows.zero)))};
    k.n = s.n;
    k.equality_rows = s.rows.zero;
    k.scaled_rows = conic;
    F = {memory.take(s.row_words()), memory.take(3 * s.rows.second_order_count)};
    q = memory.take(s.columns());
    b = memory.take(s.row_words());
    right = memory.take(2 * s.order());
  }
};

// Ã = F A, and the factor of K.
template <class T, class G>
GD_HD void factorise_system(const G& g, const System<T>& w, T regularisation) {
  g.sync();
  cone_scale_rows(g, w.shape.rows, w.F, w.A, w.k.scaled, tiles(w.shape.n));
  g.sync();
  factorise(g, w.k, regularisation);
}

// Solves for R right-hand sides: e1 [R][columns], e2 [R][row_words] → u [R][columns], v [R][row_words].
template <int R, class T, class G>
GD_HD void solve_system(const G& g, const System<T>& w, const T* e1, const T* e2, T* u, T* v) {
  const Shape& s = w.shape;
  const index_t columns = s.columns(), rows = s.row_words(), order = s.order(), zero = s.rows.zero;
  T* right = w.right;
  g.sync();
  multiply_transposed<R>(g, w.k.scaled, 0, s.rows.conic(), s.n, e2 + zero, rows, right, order);
  g.sync();
  if (zero > 0) {
    multiply_transposed<R>(g, w.A, 0, zero, s.n, e2, rows, u, columns);
    g.sync();
  }
  for (int r = 0; r < R; r++) {
    for (index_t i = g.rank(); i < columns; i += g.size())
      right[r * order + i] += zero > 0 ? T(e1[r * columns + i] + u[r * columns + i]) : e1[r * columns + i];
    for (index_t i = g.rank(); i < order - columns; i += g.size())
      right[r * order + columns + i] = i < zero ? e2[r * rows + i] : T{};
  }
  g.sync();
  solve_factorised<R>(g, w.k, right, order);
  multiply<R>(g, w.k.scaled, s.rows.conic(), s.n, right, order, v + zero, rows);
  for (int r = 0; r < R; r++) {
    for (index_t i = g.rank(); i < columns; i += g.size()) u[r * columns + i] = right[r * order + i];
    for (index_t i = g.rank(); i < zero; i += g.size()) v[r * rows + i] = right[r * order + columns + i];
  }
  g.sync();
  for (int r = 0; r < R; r++)
    for (index_t i = zero + g.rank(); i < s.m(); i += g.size()) v[r * rows + i] -= e2[r * rows + i];
  g.sync();
}

// What iterative refinement needs beside the system.
template <class T>
struct Refinement {
  T *r1, *r2, *du, *dv, *product;

  GD_HD void carve(const Shape& s, Carver<T>& memory) {
    r1 = memory.take(s.columns());
    du = memory.take(s.columns());
    product = memory.take(s.columns());
    r2 = memory.take(s.row_words());
    dv = memory.take(s.row_words());
  }
};

// One step of iterative refinement against the unregularised system. N is the operator (I − D)/(I − D + δ) by which the
// scaled conic rows of the exact system differ from those that were factorised; null in the interior point, where they
// agree.
template <class T, class G>
GD_HD void refine_system(const G& g, const System<T>& w, const Refinement<T>& f, const Spectral<T>* N, const T* e1,
                         const T* e2, T* u, T* v) {
  const Shape& s = w.shape;
  const index_t zero = s.rows.zero, columns = s.columns();
  g.sync();
  multiply_symmetric(g, w.P, tiles(s.n), u, f.product);
  multiply_transposed<1>(g, w.k.scaled, 0, s.rows.conic(), s.n, v + zero, 0, f.r1, 0);
  g.sync();
  multiply_transposed<1>(g, w.A, 0, zero, s.n, v, 0, f.du, 0);
  g.sync();
  for (index_t i = g.rank(); i < columns; i += g.size()) f.r1[i] = e1[i] - f.product[i] - f.r1[i] - f.du[i];
  g.sync();
  multiply<1>(g, w.k.scaled, s.rows.conic(), s.n, u, 0, f.r2 + zero, 0);
  g.sync();
  if (N) {
    cone_apply(g, s.rows, *N, v, f.dv);
    g.sync();
    for (index_t i = zero + g.rank(); i < s.m(); i += g.size()) f.r2[i] = e2[i] - f.r2[i] + f.dv[i];
  } else {
    for (index_t i = zero + g.rank(); i < s.m(); i += g.size()) f.r2[i] = e2[i] - f.r2[i] + v[i];
  }
  g.sync();
  multiply<1>(g, w.A, zero, s.n, u, 0, f.dv, 0);
  g.sync();
  for (index_t i = g.rank(); i < zero; i += g.size()) f.r2[i] = e2[i] - f.dv[i];
  g.sync();
  solve_system<1>(g, w, f.r1, f.r2, f.du, f.dv);
  for (index_t i = g.rank(); i < columns; i += g.size()) u[i] += f.du[i];
  for (index_t i = g.rank(); i < s.m(); i += g.size()) v[i] += f.dv[i];
  g.sync();
}

}  // namespace GD_NAMESPACE
