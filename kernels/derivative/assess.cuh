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
  T rx{}, Px{}, Ay{}, q{}, xPx{}, qx{};
  for (index_t j = g.rank(); j < shape.n; j += g.size()) {
    const T unit = i.unit_x[j];
    rx = maximum(absolute(T((i.Px[j] + i.w.q[j] + i.Ay[j]) * unit)), rx);
    Px = maximum(absolute(T(i.Px[j] * unit)), Px);
    Ay = maximum(absolute(T(i.Ay[j] * unit)), Ay);
    q = maximum(absolute(T(i.w.q[j] * unit)), q);
    xPx += i.x[j] * i.Px[j];
    qx += i.w.q[j] * i.x[j];
  }
  T rz{}, b{}, Ax{}, s{}, by{};
  for (index_t k = g.rank(); k < shape.m(); k += g.size()) {
    const T unit = i.unit_z[k];
    rz = maximum(absolute(T((i.Ax[k] + i.s[k] - i.w.b[k]) * unit)), rz);
    b = maximum(absolute(T(i.w.b[k] * unit)), b);
    Ax = maximum(absolute(T(i.Ax[k] * unit)), Ax);
    s = maximum(absolute(T(i.s[k] * unit)), s);
    by += i.w.b[k] * i.y[k];
  }
  const T inverse_cost = broadcast<T>(1) / i.cost_scale, one = broadcast<T>(1), half = broadcast<T>(0.5);
  Residuals<T> r{};
  r.primal = g.max(rz);
  r.dual = g.max(rx);
  r.primal_size = maximum(T(g.max(b) + g.max(Ax) + g.max(s)), one);
  r.dual_size = maximum(T(g.max(q) + g.max(Px) + g.max(Ay)), one);
  const T quadratic = g.sum(xPx) * half;
  r.objective = (quadratic + g.sum(qx)) * inverse_cost;
  r.dual_objective = -(quadratic + g.sum(by)) * inverse_cost;
  r.gap = absolute(T(r.objective - r.dual_objective));
  // Sums, unlike the maxima, carry a NaN of any entry.
  r.primal = select(is_tame(T(g.sum(by) + r.objective)), r.primal, broadcast<T>(1e30));
  return r;
}

}  // namespace GD_NAMESPACE
