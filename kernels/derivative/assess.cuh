// Judges a point (x, y, s) as the interior point judges its iterates: residuals, objective and gap in the problem's own
// units. What a caller sees as primal_residual, dual_residual, gap and status comes from here.
#pragma once
#include "../ipm/termination.cuh"
#include "residual_map.cuh"

namespace GD_NAMESPACE {

// The point is i.x, i.y, i.s with its products.
template <class T, class G>
GD_HD Residuals<T> assess(const G& g, const MapState<T>& i) {
  const Shape& shape = i.w.shape;
  const T one = broadcast<T>(1);
  T reach_x, reach_y;
  largest_entries(g, i.x, shape.n, i.y, shape.m(), reach_x, reach_y);
  T rx{}, xPx{}, qx{}, dual_relative{};
  GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) {
    const T unit = i.unit_x[j], r = i.Px[j] + i.w.q[j] + i.Ay[j];
    rx = maximum(absolute(T(r * unit)), rx);
    dual_relative = maximum(relative_residual(r, i.w.q[j], i.Px[j], i.Ay[j], reach_y, T(one / unit)), dual_relative);
    xPx += i.x[j] * i.Px[j];
    qx += i.w.q[j] * i.x[j];
  }
  T rz{}, by{}, primal_relative{};
  GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) {
    const T unit = i.unit_z[k], r = i.Ax[k] + i.s[k] - i.w.b[k];
    rz = maximum(absolute(T(r * unit)), rz);
    primal_relative = maximum(relative_residual(r, i.w.b[k], i.Ax[k], i.s[k], reach_x, T(one / unit)), primal_relative);
    by += i.w.b[k] * i.y[k];
  }
  const T inverse_cost = one / i.cost_scale, half = broadcast<T>(0.5);
  T sum[3] = {xPx, qx, by}, most[4] = {rz, rx, primal_relative, dual_relative};
  g.sums(sum);
  g.maxima(most);
  Residuals<T> r{};
  r.primal = most[0];
  r.dual = most[1];
  r.primal_relative = most[2];
  r.dual_relative = most[3];
  const T quadratic = sum[0] * half;
  r.objective = (quadratic + sum[1]) * inverse_cost;
  r.dual_objective = -(quadratic + sum[2]) * inverse_cost;
  r.gap = absolute(T(r.objective - r.dual_objective));
  // Sums, unlike the maxima, carry a NaN of any entry.
  r.primal = select(is_tame(T(sum[2] + r.objective)), r.primal, broadcast<T>(1e30));
  return r;
}

}  // namespace GD_NAMESPACE
