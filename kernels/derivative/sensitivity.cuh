// jvp and vjp: one factorisation of the linearised residual map, and a refined solve for each direction
// (residual_map.cuh has the algebra).
//
// Forward. Data moving by (dP, dq, dA, db) moves R by (dP x + dq + dAᵀy, dA x − db) = −(r₁, r₂), hence
//
//     e₁ = r₁, e₂ = r₂:   dx = u,   dy = w,   ds = r₂ − A dx.
//
// Reverse. With Jᵀ(a, c) = (x̄, D ȳ − (I − D) s̄) eliminated the same way,
//
//     e₁ = x̄ − Aᵀs̄, e₂ = ȳ:   a = u,   c = w + s̄,
//     q̄ = −a,   b̄ = c,   Ā = −(y aᵀ + c xᵀ),   P̄ = −½(a xᵀ + x aᵀ).
//
// Both solve the same symmetric system, which is why they are each other's adjoint to rounding. The objective's
// derivative is added by the envelope theorem: it needs no solve.
//
// At a central point (central.cuh) all of that holds with its x and y; the objective is then no longer stationary and
// its derivative is that of ½xᵀPx + qᵀx: ō adds ō (P x + q) to x̄, and ½ō xxᵀ to P̄ and ō x to q̄.
#pragma once
#include "central.cuh"

namespace GD_NAMESPACE {

// A step that moves the solution by a fraction ε leaves an error of about ε², as steps shrink geometrically.
constexpr int kMaximumRefinements = 8;
constexpr double kRefinementSettled = 1e-7;

// Where the system is singular, a right-hand side may have a part that no solution can have. The regularised factor
// turns it into a null vector w of the system, 1/δ times as large, and each correction adds that once more: they do not
// shrink. What there is to solve is the rest, e less its part along w, whose solution is that of least squares and of
// least norm; what rounding leaves of the part is small enough in the end to be taken off the solution itself.
constexpr double kStagnant = 0.9;     // of the correction before
constexpr double kUnsolvable = 0.01;  // of the solution, of which each of nine steps has made a ninth: not rounding
constexpr int kRounds = 2;

// The factor at the solution v, for any number of right-hand sides. t and best_v hold y and s, equilibrated.
template <class T, class G>
GD_HD void factorise_sensitivity(const G& g, MapState<T>& i) {
  if (i.frame.vector) project_map(g, i, i.t, i.best_v, every_lane<T>());
  factorise_map(g, i, every_lane<T>());
}

// The same at the central point that `find_central_point` has left.
template <class T, class G>
GD_HD void factorise_central(const G& g, const MapState<T>& i) {
  factorise_system(g, i.w, broadcast<T>(kCentralRegularisation));
}

// Solves for R right-hand sides (e1, e2 unscaled) → u and w in t, each with the operations that it has alone. e2 is
// left scaled by F. N is system_residual's: that of `i` at a solution, null at a central point.
template <int R = 1, class T, class G>
GD_HD void solve_sensitivity(const G& g, MapState<T>& i, const Spectral<T>* N, Mask<T> live) {
  const Shape& shape = i.w.shape;
  const index_t zero = shape.rows.zero, n = shape.n, m = shape.m();
  const index_t columns = shape.columns(), rows = shape.row_words();
  g.sync();
  for (int r = 0; r < R; r++) cone_apply(g, shape.rows, i.w.F, i.e2 + r * rows, i.t + r * rows);
  g.sync();
  for (int r = 0; r < R; r++)
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.e2[r * rows + k] = i.t[r * rows + k];
  // A lane that is exact already takes no part in further corrections (best_x and best_v hold its values), so that no
  // problem's bits depend on its neighbours, nor those of one direction on the others.
  Mask<T> running[R], stagnant[R];
  T before[R];
  for (int r = 0; r < R; r++) {
    running[r] = live;
    stagnant[r] = no_lane<T>();
    before[r] = T{};
  }
  const auto any_running = [&]() GD_LAMBDA {
    Mask<T> some = running[0];
    for (int r = 1; r < R; r++) some = some | running[r];
    return any(some);
  };
  T least = broadcast<T>(kUnsolvable);
  const auto enough = [&](int step) GD_LAMBDA {
    for (int r = 0; r < R; r++) {
      T moved{}, size{}, moved_rows{}, size_rows{};  // largest entries
      GD_NO_UNROLL for (index_t j = r * columns + g.rank(); j < r * columns + n; j += g.size()) {
        moved = maximum(absolute(i.refinement.du[j]), moved);
        size = maximum(absolute(i.u[j]), size);
        i.best_x[j] = i.u[j] = select(running[r], i.u[j], i.best_x[j]);
      }
      GD_NO_UNROLL for (index_t k = r * rows + g.rank(); k < r * rows + m; k += g.size()) {
        moved_rows = maximum(absolute(i.refinement.dv[k]), moved_rows);
        size_rows = maximum(absolute(i.t[k]), size_rows);
        i.best_v[k] = i.t[k] = select(running[r], i.t[k], i.best_v[k]);
      }
      g.sync();
      if (step == 0) continue;
      T largest[4] = {moved, size, moved_rows, size_rows};
      g.maxima(largest);
      const T settled = broadcast<T>(kRefinementSettled);
      running[r] = running[r] & ((largest[0] > largest[1] * settled) | (largest[2] > largest[3] * settled));
      const T length = maximum(largest[0], largest[2]), whole = maximum(largest[1], largest[3]);
      stagnant[r] = running[r] & (length > before[r] * broadcast<T>(kStagnant)) & (length > whole * least);
      before[r] = length;
    }
    return step >= kMaximumRefinements || !any_running();
  };
  GD_NO_UNROLL for (int round = 0;; round++) {
    solve_refined<R>(g, i.w, i.refinement, N, i.e1, i.e2, i.u, i.t, enough);
    if (!any_running()) break;
    for (int r = 0; r < R; r++) running[r] = stagnant[r];
    if (!any_running()) break;
    const bool last = round + 1 == kRounds;
    for (int r = 0; r < R; r++) {
      T *e1 = i.e1 + r * columns, *e2 = i.e2 + r * rows, *w1 = i.refinement.du + r * columns,
        *w2 = i.refinement.dv + r * rows;
      T sum[2] = {};
      GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
        sum[0] += w1[j] * e1[j];
        sum[1] += w1[j] * w1[j];
      }
      GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
        sum[0] += w2[k] * e2[k];
        sum[1] += w2[k] * w2[k];
      }
      g.sums(sum);
      const T share = select(running[r], last ? broadcast<T>(kMaximumRefinements + 1) : T(sum[0] / sum[1]), T{});
      T *from_x = last ? i.u + r * columns : e1, *from_rows = last ? i.t + r * rows : e2;
      GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) from_x[j] -=
          select(running[r], T(share * w1[j]), T{});
      GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) from_rows[k] -=
          select(running[r], T(share * w2[k]), T{});
      before[r] = T{};
    }
    least = T{};
    g.sync();
    if (last) break;
  }
  g.sync();
  for (int r = 0; r < R; r++) cone_apply_transposed(g, shape.rows, i.w.F, i.t + r * rows, i.best_v + r * rows);
  g.sync();
  for (int r = 0; r < R; r++)
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.t[r * rows + k] = i.best_v[r * rows + k];
  g.sync();
}

// The lanes whose solution for right-hand side r is finite: at a central point F has entries of the size of 1/μ.
template <class T, class G>
GD_HD Mask<T> finite_sensitivity(const G& g, const MapState<T>& i, int r) {
  const Shape& shape = i.w.shape;
  const T *u = i.u + r * shape.columns(), *t = i.t + r * shape.row_words();
  T sum{};
  GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) sum += absolute(u[j]);
  GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) sum += absolute(t[k]);
  return is_tame(g.sum(sum));
}

}  // namespace GD_NAMESPACE
