// When the interior point stops: residuals in the problem's own units, Clarabel's tests, certificates of infeasibility.
#pragma once
#include "state.cuh"

namespace GD_NAMESPACE {

// Scalars of one iterate, in the problem's own units and divided by τ, but for `mu`, `gap_residual` and `xPx_embedded`.
template <class T>
struct Residuals {
  T primal, dual;                    // ‖Ax + s − b‖∞, ‖Px + q + Aᵀz‖∞
  T primal_relative, dual_relative;  // the largest `relative_residual` of a row
  T objective, dual_objective, gap;
  T mu;                            // (sᵀz + τκ)/(ν + 1)
  T gap_residual;                  // r_τ = qᵀx + bᵀz + κ + xᵀPx/τ
  T curvature;                     // ξᵀPξ with ξ = x/τ, equilibrated
  T linear_cost, linear_dual;      // qᵀx, bᵀz of the embedding
  T Px_norm, Az_norm, slack_norm;  // of the embedding
  T cost_scale, bound_scale;       // Σ|q x| / Σ|x| and Σ|b z| / Σ|z|: the size of the data that a certificate touches
  T Px_size, Az_size, slack_size;  // like the norms, equilibrated
};

// What a row's residual is compared with: its own terms, or one in the problem's own units, whichever is largest. Row
// by row, so that one huge entry (a bound of 1e10, say) does not excuse the others.
template <class T>
GD_HD T row_size(T a, T b, T c, T one) {
  return maximum(maximum(absolute(a), absolute(b)), maximum(absolute(c), one));
}

// The same as a part of that, beyond what rounding may have left of terms as large as `reach` that cancelled: no more
// of them is excused, or a point far enough away would solve an infeasible problem.
template <class T>
GD_HD T relative_residual(T r, T a, T b, T c, T reach, T one) {
  const T rounding = broadcast<T>(sizeof(Real<T>) == 8 ? 1e-14 : 4e-6);
  return maximum(T(absolute(r) - reach * rounding), T{}) / row_size(a, b, c, one);
}

// ‖x‖∞ and ‖z‖∞.
template <class T, class G>
GD_HD void largest_entries(const G& g, const T* x, index_t n, const T* z, index_t m, T& largest_x, T& largest_z) {
  T r[2] = {T{}, T{}};
  GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) r[0] = maximum(absolute(x[j]), r[0]);
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) r[1] = maximum(absolute(z[k]), r[1]);
  g.maxima(r);
  largest_x = r[0];
  largest_z = r[1];
}

// Fills rx = Px + qτ + Aᵀz and rz = Ax + s − bτ from the products.
template <class T, class G>
GD_HD Residuals<T> compute_residuals(const G& g, const InteriorState<T>& i) {
  const Shape& shape = i.w.shape;
  const T tau = i.tau, inverse_tau = broadcast<T>(1) / tau;
  T reach_x, reach_z;
  largest_entries(g, i.x, shape.n, i.z, shape.m(), reach_x, reach_z);
  T rx{}, Px{}, Az{}, xPx{}, qx{}, dual_relative{}, x_sum{}, qx_sum{}, Px_size{}, Az_size{};
  GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) {
    const T qj = i.w.q[j] * tau, r = i.Px[j] + qj + i.Az[j], unit = i.unit_x[j];
    i.rx[j] = r;
    rx = maximum(absolute(T(r * unit)), rx);
    Px = maximum(absolute(T(i.Px[j] * unit)), Px);
    Az = maximum(absolute(T(i.Az[j] * unit)), Az);
    dual_relative = maximum(relative_residual(r, qj, i.Px[j], i.Az[j], reach_z, T(tau / unit)), dual_relative);
    Px_size = maximum(absolute(i.Px[j]), Px_size);
    Az_size = maximum(absolute(i.Az[j]), Az_size);
    xPx += i.x[j] * i.Px[j];
    const T product = i.w.q[j] * i.x[j];
    qx += product;
    qx_sum += absolute(product);
    x_sum += absolute(i.x[j]);
  }
  T rz{}, slack{}, bz{}, sz{}, primal_relative{}, z_sum{}, bz_sum{}, slack_size{};
  GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) {
    const T bk = i.w.b[k] * tau, a = i.Ax[k] + i.s[k], r = a - bk, unit = i.unit_z[k];
    i.rz[k] = r;
    rz = maximum(absolute(T(r * unit)), rz);
    slack = maximum(absolute(T(a * unit)), slack);
    primal_relative = maximum(relative_residual(r, bk, i.Ax[k], i.s[k], reach_x, T(tau / unit)), primal_relative);
    slack_size = maximum(absolute(a), slack_size);
    const T product = i.w.b[k] * i.z[k];
    bz += product;
    bz_sum += absolute(product);
    z_sum += absolute(i.z[k]);
    sz += i.s[k] * i.z[k];
  }
  const T inverse_cost = broadcast<T>(1) / i.cost_scale, half = broadcast<T>(0.5);
  T sum[8] = {xPx, qx, bz, sz, qx_sum, x_sum, bz_sum, z_sum};
  T most[10] = {Px_size, Az_size, slack_size, Px, Az, slack, rz, rx, primal_relative, dual_relative};
  g.sums(sum);
  g.maxima(most);
  xPx = sum[0];
  qx = sum[1];
  bz = sum[2];
  sz = sum[3];
  Residuals<T> r;
  r.cost_scale = sum[4] / maximum(sum[5], broadcast<T>(1e-30));
  r.bound_scale = sum[6] / maximum(sum[7], broadcast<T>(1e-30));
  r.Px_size = most[0];
  r.Az_size = most[1];
  r.slack_size = most[2];
  r.Px_norm = most[3];
  r.Az_norm = most[4];
  r.slack_norm = most[5];
  r.linear_cost = qx * inverse_cost;
  r.linear_dual = bz * inverse_cost;
  r.mu = (sz + tau * i.kappa) * broadcast<T>(1.0 / double(shape.rows.degree() + 1));
  r.gap_residual = qx + bz + i.kappa + xPx * inverse_tau;
  r.curvature = xPx * inverse_tau * inverse_tau;
  r.primal = most[6] * inverse_tau;
  r.dual = most[7] * inverse_tau;
  r.primal_relative = most[8];
  r.dual_relative = most[9];
  const T quadratic = r.curvature * inverse_cost * half;
  r.objective = quadratic + r.linear_cost * inverse_tau;
  r.dual_objective = -quadratic - r.linear_dual * inverse_tau;
  r.gap = absolute(T(r.objective - r.dual_objective));
  return r;
}

// The largest of the three optimality measures, each divided by its tolerance: at most 1 means optimal.
template <class T>
GD_HD T optimality_merit(const Residuals<T>& r, const InteriorSettings& o) {
  const T scale = minimum(absolute(r.objective), absolute(r.dual_objective));
  const T allowed = maximum(T(scale * broadcast<T>(o.tol_gap_rel)), broadcast<T>(o.tol_gap_abs));
  const T feasibility = maximum(r.primal_relative, r.dual_relative) * broadcast<T>(1 / o.tol_feas);
  const T gap = r.gap / allowed;
  // A NaN must not pass for a small number.
  const T merit = maximum(feasibility, gap);
  return select(is_tame(T(r.primal + r.dual)) & (gap == gap), merit, broadcast<T>(1e30));
}

// How much looser a certificate is held against the size of the data: by itself that test admits only a feasible point
// some 1/(100 tol) times larger than the data.
constexpr double kCertificateSlack = 100;

// Aᵀz = 0 with bᵀz < 0, and Px = 0, −Ax ∈ K with qᵀx < 0, twice: in the problem's own units relative to the objective,
// and equilibrated relative to the size of the data, without which any z would do for a large b. The embedding tells
// the two worlds apart by τ and κ, of which one tends to zero: κ > τ keeps early iterates of feasible problems from
// passing.
template <class T>
GD_HD Mask<T> certifies_primal_infeasible(const InteriorState<T>& i, const Residuals<T>& r, double abs_tol,
                                          double rel_tol) {
  const T relative = broadcast<T>(-rel_tol);
  return (r.linear_dual < broadcast<T>(-abs_tol)) & (r.Az_norm <= r.linear_dual * relative) &
         (r.Az_size * r.bound_scale <= r.linear_dual * i.cost_scale * relative * broadcast<T>(kCertificateSlack)) &
         (i.kappa > i.tau);
}
template <class T>
GD_HD Mask<T> certifies_dual_infeasible(const InteriorState<T>& i, const Residuals<T>& r, double abs_tol,
                                        double rel_tol) {
  const T relative = broadcast<T>(-rel_tol), allowed = r.linear_cost * relative;
  return (r.linear_cost < broadcast<T>(-abs_tol)) & (r.Px_norm <= allowed) & (r.slack_norm <= allowed) &
         (maximum(r.Px_size, r.slack_size) * r.cost_scale <= allowed * i.cost_scale * broadcast<T>(kCertificateSlack)) &
         (i.kappa > i.tau);
}

}  // namespace GD_NAMESPACE
