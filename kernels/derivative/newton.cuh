// Polish: semismooth Newton on the residual map, from an interior-point iterate (or a warm start) to rounding error.
//
// Full steps, no line search, the best iterate kept: on weakly active problems this succeeds most often. A factor
// serves as long as it still shrinks the residual tenfold per step; with only linear cones that is until the active set
// changes, and the later steps act as iterative refinement. Where projecting costs as much as factorising, a factor is
// kept only while it is nearly as good as a new one.
#pragma once
#include "../ipm/termination.cuh"
#include "residual_map.cuh"

namespace GD_NAMESPACE {

// What a step must leave of the residual at most for its factor to serve once more.
constexpr double kServes = 0.1, kServesCurved = 1e-3;

struct NewtonSettings {
  int max_factorisations, max_steps;
  double accept;  // a relative residual that counts as a root
};

template <class T, class G>
GD_HD T map_residual(const G& g, const MapState<T>& i) {
  const Shape& shape = i.w.shape;
  const T one = broadcast<T>(1);
  T reach_x, reach_y;
  largest_entries(g, i.x, shape.n, i.y, shape.m(), reach_x, reach_y);
  T relative{}, sum{};
  GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) {
    const T r = -(i.Px[j] + i.w.q[j] + i.Ay[j]);
    i.e1[j] = r;
    relative = maximum(T(absolute(r) / maximum(row_size(i.w.q[j], i.Px[j], i.Ay[j], one), reach_y)), relative);
    sum += r;
  }
  GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) {
    const T r = -(i.Ax[k] + i.s[k] - i.w.b[k]);
    i.e2[k] = r;
    relative = maximum(T(absolute(r) / maximum(row_size(i.w.b[k], i.Ax[k], i.s[k], one), reach_x)), relative);
    sum += r;
  }
  return select(is_tame(g.sum(sum)), g.max(relative), broadcast<T>(1e30));
}

// Runs the lanes of `live`; leaves the best iterate in x, v (and y, s and the products). Returns the factorisations.
template <class T, class G>
GD_HD T newton(const G& g, MapState<T>& i, Mask<T> live, const NewtonSettings& o) {
  const Shape& shape = i.w.shape;
  const index_t zero = shape.rows.zero, n = shape.n, m = shape.m();
  const T one = broadcast<T>(1);
  T best = broadcast<T>(1e29), previous = broadcast<T>(1e29), count{};
  Mask<T> running = live, first = live, at_best = negate(live);
  const bool curved = i.frame.vector != nullptr;
  const T serves = broadcast<T>(curved ? kServesCurved : kServes);
  Mask<T> fresh = every_lane<T>();  // whether the last step had a factor of its own, where projections are curved
  evaluate_map(g, i, true, live);
  GD_NO_UNROLL for (int step = 0;; step++) {
    const T residual = map_residual(g, i);
    const Mask<T> better = running & (residual < best);
    best = select(better, residual, best);
    at_best = at_best | better;
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) i.best_x[j] = select(better, i.x[j], i.best_x[j]);
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) i.best_v[k] = select(better, i.v[k], i.best_v[k]);
    const Mask<T> shrinking = residual < previous * broadcast<T>(kServes);
    const Mask<T> exact = best <= broadcast<T>(2e-15);
    const Mask<T> settled = (best <= broadcast<T>(o.accept)) & negate(shrinking) & fresh;
    const Mask<T> lost =
        negate(residual < broadcast<T>(1e12)) | (negate(shrinking) & (count >= broadcast<T>(o.max_factorisations)));
    running = running & negate(exact | settled | lost);
    if (!any(running) || step >= o.max_steps) break;
    const T before = previous;
    previous = residual;
    at_best = at_best & negate(running);

    const Mask<T> renew = running & (first | negate(residual < before * serves));
    first = no_lane<T>();
    if (curved) fresh = renew;
    if (any(renew)) {
      factorise_map(g, i, renew);
      count = select(renew, T(count + one), count);
    }
    g.sync();
    cone_apply(g, shape.rows, i.w.F, i.e2, i.t);
    g.sync();
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.e2[k] = i.t[k];
    solve_system<1>(g, i.w, i.e1, i.e2, i.u, i.t);
    cone_apply_transposed(g, shape.rows, i.w.F, i.t, i.e2);  // w = D dv
    g.sync();
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) i.x[j] = select(running, T(i.x[j] + i.u[j]), i.x[j]);
    g.sync();
    // dv = w + A dx − r₂ makes v = (y + w) − (b − A x) with the new x: multipliers less slacks.
    multiply<1>(g, i.w.A, m, n, i.x, 0, i.Ax, 0);
    g.sync();
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
      const T moved = k < zero ? T(i.y[k] + i.t[k]) : T(i.y[k] + i.e2[k] - (i.w.b[k] - i.Ax[k]));
      i.v[k] = select(running, moved, i.v[k]);
    }
    evaluate_map(g, i, false, running);
  }
  if (all(at_best)) return count;
  GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) i.x[j] = i.best_x[j];
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) i.v[k] = i.best_v[k];
  evaluate_map(g, i, true, negate(at_best));
  return count;
}

}  // namespace GD_NAMESPACE
