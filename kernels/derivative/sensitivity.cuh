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
#pragma once
#include "residual_map.cuh"

namespace GD_NAMESPACE {

// A step that moves the solution by a fraction ε leaves an error of about ε², as steps shrink geometrically.
constexpr int kMaximumRefinements = 8;
constexpr double kRefinementSettled = 1e-7;

// The factor at v, for any number of right-hand sides. t and best_v hold y and s, equilibrated.
template <class T, class G>
GD_HD void factorise_sensitivity(const G& g, MapState<T>& i) {
  if (i.frame.vector) project_map(g, i, i.t, i.best_v, every_lane<T>());
  factorise_map(g, i, every_lane<T>());
}

// Solves for R right-hand sides (e1, e2 unscaled) → u and w in t, each with the operations that it has alone. e2 is
// left scaled by F.
template <int R = 1, class T, class G>
GD_HD void solve_sensitivity(const G& g, MapState<T>& i, Mask<T> live) {
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
  Mask<T> running[R];
  for (int r = 0; r < R; r++) running[r] = live;
  const auto any_running = [&]() GD_LAMBDA {
    Mask<T> some = running[0];
    for (int r = 1; r < R; r++) some = some | running[r];
    return any(some);
  };
  solve_refined<R>(g, i.w, i.refinement, &i.N, i.e1, i.e2, i.u, i.t, [&](int step) GD_LAMBDA {
    for (int r = 0; r < R; r++) {
      T moved{}, size{}, moved_rows{}, size_rows{};  // largest entries
      GD_NO_UNROLL for (index_t j = r * columns + g.rank(); j < r * columns + n; j += g.size()) {
        moved = maximum(absolute(i.refinement.du[j]), moved);
        size = maximum(absolute(i.u[j]), size);
        i.best_x[j] = i.u[j] = step > 0 ? select(running[r], i.u[j], i.best_x[j]) : i.u[j];
      }
      GD_NO_UNROLL for (index_t k = r * rows + g.rank(); k < r * rows + m; k += g.size()) {
        moved_rows = maximum(absolute(i.refinement.dv[k]), moved_rows);
        size_rows = maximum(absolute(i.t[k]), size_rows);
        i.best_v[k] = i.t[k] = step > 0 ? select(running[r], i.t[k], i.best_v[k]) : i.t[k];
      }
      g.sync();
      if (step == 0) continue;
      T largest[4] = {moved, size, moved_rows, size_rows};
      g.maxima(largest);
      const T settled = broadcast<T>(kRefinementSettled);
      running[r] = running[r] & ((largest[0] > largest[1] * settled) | (largest[2] > largest[3] * settled));
    }
    return step >= kMaximumRefinements || !any_running();
  });
  g.sync();
  for (int r = 0; r < R; r++) cone_apply_transposed(g, shape.rows, i.w.F, i.t + r * rows, i.best_v + r * rows);
  g.sync();
  for (int r = 0; r < R; r++)
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.t[r * rows + k] = i.best_v[r * rows + k];
  g.sync();
}

}  // namespace GD_NAMESPACE
