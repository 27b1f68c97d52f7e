// The point of the central path at a given μ, near which a solution is known.
//
// It solves P x + q + Aᵀy = 0, A x + s = b, y = −μ∇f(s) with f the cones' logarithmically homogeneous barrier. With v =
// y − s that is a root of the residual map of residual_map.cuh with a smooth Π_μ in the place of the projection: Π_μ(v)
// is the y of the one pair with y − s = v, y = −μ∇f(s) (Chen & Mangasarian 1996; Fukushima, Luo & Tseng 2002), each
// cone's `central`. Its derivative is H (I + H)⁻¹ with H = μ∇²f(s), eigenvalues strictly between 0 and 1, so that
//
//     J(dx, dv) = (r₁, r₂):   [P Aᵀ; A −H⁻¹](dx, w) = (r₁, r₂),   w = dy = H (I + H)⁻¹dv,
//
// is the system of system.cuh with FᵀF = H, exactly: Newton steps need no regular point, and jvp and vjp at the root no
// unique solution.
//
// Newton's method with a line search on ‖R_μ‖, from the solution. The residuals that can be reached are those of
// problems with a strictly feasible primal and dual, a convex set: where there is a central path the whole way of
// Newton's direction, along which the residual shrinks in proportion, stays in it. Whether a step was the last is told
// by its length in the metric of the barrier, t = −F ds, which does not fall below 1 where y or s run away for want of
// an interior, however small the residual is then.
#pragma once
#include "residual_map.cuh"

namespace GD_NAMESPACE {

constexpr int kCentralSteps = 80;          // two to fifteen are usual
constexpr int kCentralHalvings = 30;       // of a step
constexpr double kCentralNear = 1e-3;      // lengths in the barrier's metric: where no search is needed,
constexpr double kCentralReached = 1e-7;   // where the point is exact after the step,
constexpr double kCentralAccepted = 1e-4;  // and where it will do, if rounding allows no better
constexpr double kCentralRegularisation = 1e-11;

template <class T>
struct CentralPoint {
  Mask<T> found;
  T factorisations;
};

// y, s, F and the products at (x, v).
template <class T, class G>
GD_HD void evaluate_central(const G& g, const MapState<T>& i, T mu) {
  const Shape& shape = i.w.shape;
  g.sync();
  cone_central(g, shape.rows, i.v, mu, i.w.F, i.y, i.s);
  multiply_symmetric(g, i.w.P, tiles(shape.n), i.x, i.Px);
  multiply<1>(g, i.w.A, shape.m(), shape.n, i.x, 0, i.Ax, 0);
  g.sync();
  multiply_transposed<1>(g, i.w.A, 0, shape.m(), shape.n, i.y, 0, i.Ay, 0);
  g.sync();
}

// Leaves −R_μ in e1 and e2; returns its square.
template <class T, class G>
GD_HD T central_residual(const G& g, const MapState<T>& i) {
  const Shape& shape = i.w.shape;
  T sum{};
  GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) {
    const T r = -(i.Px[j] + i.w.q[j] + i.Ay[j]);
    i.e1[j] = r;
    sum += r * r;
  }
  GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) {
    const T r = -(i.Ax[k] + i.s[k] - i.w.b[k]);
    i.e2[k] = r;
    sum += r * r;
  }
  return g.sum(sum);
}

// From (x, v) to the central point at μ, in the lanes of `live`; leaves it in x, v, y and s, and F at it. One solve for
// each step: an error in it shrinks with the steps.
template <class T, class G>
GD_HD CentralPoint<T> find_central_point(const G& g, MapState<T>& i, T mu, Mask<T> live) {
  const Shape& shape = i.w.shape;
  const index_t zero = shape.rows.zero, n = shape.n, m = shape.m();
  const T one = broadcast<T>(1);
  CentralPoint<T> result{no_lane<T>(), T{}};
  Mask<T> running = live;
  T before = broadcast<T>(1e30);
  evaluate_central(g, i, mu);
  T residual = central_residual(g, i);
  GD_NO_UNROLL for (int step = 0; step < kCentralSteps && any(running); step++) {
    factorise_system(g, i.w, broadcast<T>(kCentralRegularisation));
    cone_apply(g, shape.rows, i.w.F, i.e2, i.t);
    g.sync();
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) i.e2[k] = i.t[k];
    const Spectral<T>* const exact = nullptr;
    solve_refined(g, i.w, i.refinement, exact, i.e1, i.e2, i.u, i.t,
                  [](int refinement) GD_LAMBDA { return refinement >= 1; });
    T square{};
    GD_NO_UNROLL for (index_t k = zero + g.rank(); k < m; k += g.size()) square += i.t[k] * i.t[k];
    const T length = square_root(T(g.sum(square) / mu));
    cone_apply_transposed(g, shape.rows, i.w.F, i.t, i.e2);  // dy
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
      i.best_x[j] = i.x[j];
      i.x[j] += i.u[j];
    }
    g.sync();
    multiply<1>(g, i.w.A, m, n, i.x, 0, i.Ax, 0);
    g.sync();
    // Where the whole step leads to, as in newton.cuh: y + dy less the slacks of the new x.
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
      i.best_v[k] = i.v[k];
      i.t[k] = k < zero ? T(i.y[k] + i.t[k]) : T(i.y[k] + i.e2[k] - (i.w.b[k] - i.Ax[k]));
    }

    const Mask<T> near = length <= broadcast<T>(kCentralNear);
    const Mask<T> sound = is_tame(length);
    running = running & sound;
    T alpha = one, tried = residual;
    Mask<T> searching = running;
    GD_NO_UNROLL for (int attempt = 0; attempt < kCentralHalvings; attempt++) {
      GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) i.x[j] =
          select(running, T(i.best_x[j] + alpha * i.u[j]), i.best_x[j]);
      GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) i.v[k] =
          select(running, select(alpha == one, i.t[k], T(i.best_v[k] + alpha * (i.t[k] - i.best_v[k]))), i.best_v[k]);
      evaluate_central(g, i, mu);
      tried = central_residual(g, i);
      const T share = one - broadcast<T>(0.1) * alpha;
      const Mask<T> good = near | (tried <= share * share * residual);
      searching = searching & negate(good);
      if (!any(searching)) break;
      alpha = select(searching, T(alpha * broadcast<T>(0.5)), alpha);
    }
    residual = tried;
    // Rounding is what is left where a near step is as long as the one before.
    const Mask<T> settled = near & (length > before * broadcast<T>(0.5));
    const Mask<T> done = (length <= broadcast<T>(kCentralReached)) | settled;
    result.factorisations = select(running, T(result.factorisations + one), result.factorisations);
    result.found = result.found | (running & done & (length <= broadcast<T>(kCentralAccepted)));
    running = running & negate(done | searching);
    before = length;
  }
  return result;
}

}  // namespace GD_NAMESPACE
