// jvp and vjp: one factorisation of the linearised residual map, one refined solve (residual_map.cuh has the algebra).
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

// Factorises at v, then solves for the right-hand side (e1, e2 unscaled) → u and w in t. e2 is left scaled by F.
template <class T, class G>
GD_HD void solve_sensitivity(const G& g, MapState<T>& i, Mask<T> live) {
  const Shape& shape = i.w.shape;
  const index_t zero = shape.rows.zero, n = shape.n, m = shape.m();
  if (i.frame.vector) project_map(g, i, i.t, i.best_v, every_lane<T>());  // which hold y and s, equilibrated
  factorise_map(g, i, every_lane<T>());
  cone_apply(g, shape.rows, i.w.F, i.e2, i.t);
  g.sync();
  GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.e2[k] = i.t[k];
  // A lane that is exact already takes no part in further corrections (best_x and best_v hold its values), so that no
  // problem's bits depend on its neighbours.
  Mask<T> running = live;
  solve_refined(g, i.w, i.refinement, &i.N, i.e1, i.e2, i.u, i.t, [&](int step) GD_LAMBDA {
    T moved{}, size{}, moved_rows{}, size_rows{};  // largest entries
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
      moved = maximum(absolute(i.refinement.du[j]), moved);
      size = maximum(absolute(i.u[j]), size);
      i.best_x[j] = i.u[j] = step > 0 ? select(running, i.u[j], i.best_x[j]) : i.u[j];
    }
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
      moved_rows = maximum(absolute(i.refinement.dv[k]), moved_rows);
      size_rows = maximum(absolute(i.t[k]), size_rows);
      i.best_v[k] = i.t[k] = step > 0 ? select(running, i.t[k], i.best_v[k]) : i.t[k];
    }
    g.sync();
    if (step == 0) return !any(running);
    T largest[4] = {moved, size, moved_rows, size_rows};
    g.maxima(largest);
    const T settled = broadcast<T>(kRefinementSettled);
    running = running & ((largest[0] > largest[1] * settled) | (largest[2] > largest[3] * settled));
    return step >= kMaximumRefinements || !any(running);
  });
  g.sync();
  cone_apply_transposed(g, shape.rows, i.w.F, i.t, i.best_v);
  g.sync();
  GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.t[k] = i.best_v[k];
  g.sync();
}

}  // namespace GD_NAMESPACE
