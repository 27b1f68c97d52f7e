// THE LOOP: a primal–dual interior point on the homogeneous embedding of
//
//     minimise ½ xᵀPx + qᵀx  subject to  Ax + s = b, s ∈ K,
//
// that keeps the quadratic objective quadratic (Goulart & Chen 2024). It looks for (x, z, s, τ, κ) with
//
//     Px + Aᵀz + qτ = 0,   Ax + s − bτ = 0,   qᵀx + bᵀz + κ + xᵀPx/τ = 0,   s ∈ K, z ∈ K*, τ, κ ≥ 0,   sᵀz = τκ = 0.
//
// τ > 0 gives the optimum x/τ; κ > 0 a certificate that there is none. Each pass of the loop is one iteration:
// residuals → termination → scale the cones → factorise → affine step → combined step → move (Mehrotra 1992).
//
// T may be a pack of problems that are at different iterations: a lane that is done hands in its result and receives
// the next problem (the `Feeder`), so that slow problems hold nobody up. On a GPU a group does the same with one
// problem.
#pragma once
#include "termination.cuh"

namespace GD_NAMESPACE {

// Px, Aᵀz and Ax of the iterate.
template <class T, class G>
GD_HD void compute_products(const G& g, const InteriorState<T>& i) {
  const Shape& shape = i.w.shape;
  g.sync();
  multiply_symmetric(g, i.w.P, tiles(shape.n), i.x, i.Px);
  multiply_transposed<1>(g, i.w.A, 0, shape.m(), shape.n, i.z, 0, i.Az, 0);
  multiply<1>(g, i.w.A, shape.m(), shape.n, i.x, 0, i.Ax, 0);
  g.sync();
}

// A combined step shorter than this is not made, where there are cones with another scaling to choose: that is tried
// next, and a step to the centre if it is no better.
constexpr double kShortStep = 0.05;

template <class T>
struct Direction {  // Δτ and Δκ; the rest of the step is in u and v
  T tau, kappa;
};

template <class T, class G>
GD_HD T gap_gradient(const G& g, const InteriorState<T>& i, T inverse_tau, const T* u, const T* v) {
  const Shape& shape = i.w.shape;
  T r{};
  // (q + 2Pξ)ᵀu + bᵀz, with bᵀz in the scaled frame: the constant right-hand side e2 holds F b.
  for (index_t j = g.rank(); j < shape.n; j += g.size())
    r += (i.w.q[j] + broadcast<T>(2) * inverse_tau * i.Px[j]) * u[j];
  for (index_t k = g.rank(); k < shape.m(); k += g.size()) r += i.e2[k] * v[k];
  return g.sum(r);
}
// Δτ from the third equation once the system has been solved for the constant and for the step's right-hand side, and
// the step itself: u₁ + Δτ u₀.
template <class T, class G>
GD_HD Direction<T> combine(const G& g, const InteriorState<T>& i, T gap_residual, T complementarity, T denominator) {
  const Shape& shape = i.w.shape;
  const index_t columns = shape.columns(), rows = shape.row_words();
  const T inverse_tau = broadcast<T>(1) / i.tau;
  T *u = i.u + columns, *v = i.v + rows;
  Direction<T> d;
  d.tau = (gap_residual - complementarity * inverse_tau + gap_gradient(g, i, inverse_tau, u, v)) / denominator;
  d.kappa = -(complementarity + i.kappa * d.tau) * inverse_tau;
  g.sync();
  for (index_t j = g.rank(); j < shape.n; j += g.size()) u[j] += d.tau * i.u[j];
  for (index_t k = g.rank(); k < shape.m(); k += g.size()) v[k] += d.tau * i.v[k];
  g.sync();
  return d;
}

// A step up to `longest` that keeps the cones of three rows inside, and near the central path if it is to be made:
// tried from the longest one on, ever less often. Symmetric cones are not asked: they tell their step in one go, and do
// without a neighbourhood. Lanes that are not `live` must not keep the others searching.
template <class T, class G>
GD_HD T search_step(const G& g, const InteriorState<T>& i, const ScaledStep<T>& step, const Direction<T>& d, T longest,
                    Mask<T> live) {
  const Shape& shape = i.w.shape;
  const index_t first = shape.rows.triple_start, end = first + 3 * shape.rows.triples();
  cone_prepare_reach(g, shape.rows, step, i.w.F);
  // (s + α Δs)ᵀ(z + α Δz) + (τ + α Δτ)(κ + α Δκ) = c₀ + c₁ α + c₂ α², in the scaled frame. There z is λ, too, but for
  // cones of three rows in the dual barrier's scaling.
  PathProduct<T> product{};
  T(&c)[3] = product.c;
  g.sync();
  GD_NO_UNROLL for (index_t k = shape.rows.zero + g.rank(); k < shape.m(); k += g.size()) {
    const index_t t = k - first;
    const T moved =
        k < first || k >= end ? T(i.lambda[k] * step.ds[k]) : T(i.z[k] * i.w.F.scratch[t / 3 * kReachWords + t % 3]);
    c[0] += i.s[k] * i.z[k];
    c[1] += moved + i.lambda[k] * step.dz[k];
    c[2] += step.ds[k] * step.dz[k];
  }
  g.sums(c);
  c[0] += i.tau * i.kappa;
  c[1] += i.tau * d.kappa + i.kappa * d.tau;
  c[2] += d.tau * d.kappa;
  const T share = broadcast<T>(1.0 / double(shape.rows.degree() + 1));
  live = live & is_tame(T(c[0] + c[1] + c[2]));
  for (int k = 0; k < 3; k++) c[k] = c[k] * share;
  StepSearch<T> search{longest, broadcast<T>(0.02), 0, 0};
  cone_search_step(g, shape.rows, step, i.w.F, product, live, search);
  return search.alpha;
}

// The largest step in (0, 1] that keeps s, z, τ and κ in their cones, times `fraction`. `corrected` is c in Δs̃ = −(c +
// Δz̃); `slack_step` is Δs for the step that is to be made, null for one that is to be looked at.
template <class T, class G>
GD_HD T step_to_boundary(const G& g, const InteriorState<T>& i, const T* corrected, const Direction<T>& d,
                         double fraction, const T* slack_step, Mask<T> live) {
  const Shape& shape = i.w.shape;
  const T* dz = i.v + shape.row_words();
  for (index_t k = shape.rows.zero + g.rank(); k < shape.m(); k += g.size()) i.ds[k] = -(corrected[k] + dz[k]);
  g.sync();
  T inverse = maximum(cone_inverse_step(g, shape.rows, i.lambda, i.ds, i.w.F),
                      cone_inverse_step(g, shape.rows, i.lambda, dz, i.w.F));
  inverse = maximum(T(-d.tau / i.tau), inverse);
  inverse = maximum(T(-d.kappa / i.kappa), inverse);
  const T alpha = broadcast<T>(fraction) / maximum(inverse, broadcast<T>(1));
  if (!has_triples<T>(shape.rows)) return alpha;
  return search_step(g, i, {i.s, i.z, i.lambda, i.ds, dz, slack_step}, d, alpha, live);
}

// Δs from the linear equations, A Δx + Δs − b Δτ = −keep (A x + s − b τ). The scaling of cones of three rows loses too
// many digits near the boundary to take it from F Δs: the equations would no longer hold.
template <class T, class G>
GD_HD void slack_step(const G& g, const InteriorState<T>& i, const T* dx, T keep, T d_tau, T* out) {
  const Shape& shape = i.w.shape;
  g.sync();
  multiply<1>(g, i.w.A, shape.m(), shape.n, dx, 0, out, 0);
  g.sync();
  GD_NO_UNROLL for (index_t k = shape.rows.zero + g.rank(); k < shape.m(); k += g.size()) out[k] =
      i.w.b[k] * d_tau - keep * i.rz[k] - out[k];
  g.sync();
}

template <class T, class G>
GD_HD void keep_best(const G& g, InteriorState<T>& i, Mask<T> better, T merit) {
  if (!any(better)) {
    i.since_best += broadcast<T>(1);
    return;
  }
  i.best_merit = select(better, merit, i.best_merit);
  i.since_best = select(better, T{}, T(i.since_best + broadcast<T>(1)));
  i.best_tau = select(better, i.tau, i.best_tau);
  i.best_kappa = select(better, i.kappa, i.best_kappa);
  for (index_t j = g.rank(); j < i.w.shape.n; j += g.size()) i.best_x[j] = select(better, i.x[j], i.best_x[j]);
  for (index_t k = g.rank(); k < i.w.shape.m(); k += g.size()) {
    i.best_z[k] = select(better, i.z[k], i.best_z[k]);
    i.best_s[k] = select(better, i.s[k], i.best_s[k]);
  }
}

template <class T, class G, class Feeder>
GD_HD void interior_point(const G& g, InteriorState<T>& i, const InteriorSettings& o, Feeder& feeder) {
  const Shape& shape = i.w.shape;
  const ConeRows& rows = shape.rows;
  const index_t columns = shape.columns(), row_words = shape.row_words(), zero = rows.zero, m = shape.m(), n = shape.n;
  const T one = broadcast<T>(1);
  T *step_u = i.u + columns, *step_v = i.v + row_words, *step_e1 = i.e1 + columns, *step_e2 = i.e2 + row_words;

  const Spectral<T>* const exact = nullptr;  // what is factorised is what is solved
  const auto refined = [&](int step) GD_LAMBDA { return step >= o.refinements; };

  // Fills the lanes; sets x, z, s, τ, κ, the products and the counters of each.
  Mask<T> live = feeder.exchange(i, every_lane<T>(), T{});
  GD_NO_UNROLL while (any(live)) {
    const Residuals<T> r = compute_residuals(g, i);

    // Termination.
    const T merit = optimality_merit(r, o);
    T out = select(i.iterations >= broadcast<T>(o.max_iter), broadcast<T>(outcome::iteration_limit), T{});
    if (o.keep_best) {
      keep_best(g, i, merit < i.best_merit, merit);
      out = select(i.since_best > broadcast<T>(15), broadcast<T>(outcome::stalled), out);
    }
    const T too_much_regularisation = broadcast<T>(sizeof(Real<T>) == 8 ? 1e-5 : 1e-2);
    out = select((i.regularisation > too_much_regularisation) | negate(is_tame(T(r.primal + r.dual))),
                 broadcast<T>(outcome::stalled), out);
    const Mask<T> given_up = out != T{};
    out = select(given_up & certifies_dual_infeasible(i, r, o.tol_infeas_abs, o.almost_infeas),
                 broadcast<T>(outcome::almost_dual_infeasible), out);
    out = select(given_up & certifies_primal_infeasible(i, r, o.tol_infeas_abs, o.almost_infeas),
                 broadcast<T>(outcome::almost_primal_infeasible), out);
    out = select(certifies_dual_infeasible(i, r, o.tol_infeas_abs, o.tol_infeas_rel),
                 broadcast<T>(outcome::dual_infeasible), out);
    out = select(certifies_primal_infeasible(i, r, o.tol_infeas_abs, o.tol_infeas_rel),
                 broadcast<T>(outcome::primal_infeasible), out);
    const Mask<T> close = (r.mu <= broadcast<T>(o.crossover_mu) * i.tau * i.tau) &
                          (maximum(r.primal_relative, r.dual_relative) <= broadcast<T>(o.crossover_feas));
    out = select((merit <= one) | close, broadcast<T>(outcome::reached), out);
    const Mask<T> finished = live & (out != T{});
    if (any(finished)) {
      live = feeder.exchange(i, finished, out);
      continue;
    }

    // Scale the cones; the constant right-hand side (−q, b) and the affine one, both with the same factor.
    const Centring<T> centring{i.short_steps > T{}, i.short_steps > one};
    cone_scaling(g, rows, i.s, i.z, centring, i.w.F, i.lambda);
    factorise_system(g, i.w, i.regularisation);
    cone_apply(g, rows, i.w.F, i.w.b, i.e2);
    cone_apply(g, rows, i.w.F, i.rz, i.Frz);
    g.sync();
    for (index_t j = g.rank(); j < n; j += g.size()) {
      i.e1[j] = -i.w.q[j];
      step_e1[j] = -i.rx[j];
    }
    for (index_t k = g.rank(); k < m; k += g.size()) {
      if (k < zero) {
        i.e2[k] = i.w.b[k];
        step_e2[k] = -i.rz[k];
      } else {
        step_e2[k] = i.lambda[k] - i.Frz[k];
      }
    }
    if (o.refinements == 0) {
      solve_system<2>(g, i.w, i.e1, i.e2, i.u, i.v);
    } else {
      GD_NO_UNROLL for (int r = 0; r < 2; r++)
          solve_refined(g, i.w, i.refinement, exact, i.e1 + r * columns, i.e2 + r * row_words, i.u + r * columns,
                        i.v + r * row_words, refined);
    }

    // Affine step: how far could one go towards μ = 0?
    const T inverse_tau = one / i.tau;
    const T denominator = i.kappa * inverse_tau + r.curvature - gap_gradient(g, i, inverse_tau, i.u, i.v);
    const Direction<T> affine = combine(g, i, r.gap_residual, T(i.kappa * i.tau), denominator);
    const T reach = step_to_boundary(g, i, i.lambda, affine, 1, static_cast<const T*>(nullptr), live);

    // Combined step: centring σ = (1 − α)³, second-order correction.
    T sigma = one - reach;
    sigma =
        maximum(T(sigma * sigma * sigma), broadcast<T>(1e-3));  // without a floor weakly active pairs ruin centrality
    sigma = select(centring.only, one, sigma);
    const T keep = one - sigma, centre = sigma * r.mu;
    cone_correction(g, rows, ScaledStep<T>{i.s, i.z, i.lambda, i.ds, step_v, nullptr}, i.w.F, centring, centre,
                    i.corrected);
    g.sync();
    for (index_t j = g.rank(); j < n; j += g.size()) step_e1[j] = -(keep * i.rx[j]);
    for (index_t k = g.rank(); k < m; k += g.size())
      step_e2[k] = k < zero ? T(-(keep * i.rz[k])) : T(i.corrected[k] - keep * i.Frz[k]);
    solve_refined(g, i.w, i.refinement, exact, step_e1, step_e2, step_u, step_v, refined);
    const T complementarity = i.kappa * i.tau + affine.tau * affine.kappa - centre;
    const Direction<T> d = combine(g, i, T(keep * r.gap_residual), complementarity, denominator);
    if (has_triples<T>(rows)) slack_step(g, i, step_u, keep, d.tau, i.Ax);
    T alpha = step_to_boundary(g, i, i.corrected, d, 0.99, i.Ax, live);
    if (has_triples<T>(rows)) {
      const Mask<T> poor = alpha < broadcast<T>(kShortStep);
      alpha = select(poor & negate(centring.dual), T{}, alpha);
      i.short_steps = select(poor & negate(centring.only), T(i.short_steps + one), T{});
    }

    // Move. A lane whose step is not finite stays where it is and tries again with a hundred times the regularisation.
    cone_apply_transposed(g, rows, i.w.F, step_v, i.Frz);   // Δz
    cone_apply_inverse(g, rows, i.w.F, i.ds, i.corrected);  // Δs
    g.sync();
    GD_NO_UNROLL for (index_t k = zero + g.rank(); has_triples<T>(rows) && k < m; k += g.size()) i.corrected[k] =
        i.Ax[k];
    T size = absolute(d.tau) + absolute(d.kappa);
    for (index_t j = g.rank(); j < n; j += g.size()) size += absolute(step_u[j]);
    for (index_t k = g.rank(); k < m; k += g.size())
      size += k < zero ? absolute(step_v[k]) : T(absolute(i.Frz[k]) + absolute(i.corrected[k]));
    const Mask<T> sound = is_tame(g.sum(size));
    i.regularisation = select(sound, i.regularisation, T(i.regularisation * broadcast<T>(100)));
    i.iterations += one;
    for (index_t j = g.rank(); j < n; j += g.size()) i.x[j] = select(sound, T(i.x[j] + alpha * step_u[j]), i.x[j]);
    for (index_t k = g.rank(); k < m; k += g.size()) {
      if (k < zero) {
        i.z[k] = select(sound, T(i.z[k] + alpha * step_v[k]), i.z[k]);
      } else {
        i.z[k] = select(sound, T(i.z[k] + alpha * i.Frz[k]), i.z[k]);
        i.s[k] = select(sound, T(i.s[k] + alpha * i.corrected[k]), i.s[k]);
      }
    }
    i.tau = select(sound, T(i.tau + alpha * d.tau), i.tau);
    i.kappa = select(sound, T(i.kappa + alpha * d.kappa), i.kappa);
    compute_products(g, i);
  }
}

}  // namespace GD_NAMESPACE
