// The stages of a solve, as the CPU library and the GPU kernels both run them:
//
//   1. a fast interior point, in single precision, to the point where Newton's method takes over (ipm/solve.cuh)
//   2. Newton polish in double precision, to rounding error (derivative/newton.cuh)
//   3. what failed: a careful interior point in double precision to full accuracy, then polish, and an honest status
//
// Here is what they aim at, and how a polished point is judged. Single precision can suspect that a problem is
// infeasible, not prove it: certificates come from stage 3 alone.
#pragma once
#include "../derivative/assess.cuh"
#include "../derivative/newton.cuh"
#include "../ipm/solve.cuh"
#include "gpudiff.h"

namespace GD_NAMESPACE {

// Relative optimality at which Newton's method takes over: early, and once more for those that it was too early for.
constexpr double kCrossover = 5e-4, kCrossoverMu = 5e-5, kCrossoverFeasibility = 1e-2, kLaterCrossover = 1e-6;
// With PSD cones and cones of three rows an iteration of the interior point gains less than one of Newton's, earlier.
constexpr double kCurvedCrossoverMu = 1e-3;
constexpr int kFastIterations = 25;  // what takes longer is better off with the careful run
constexpr double kAccept = 1e-9;
constexpr double kAlmostGap = 5e-5, kAlmostFeasibility = 1e-4;  // ALMOST_SOLVED, as in Clarabel
constexpr double kFloat32Tolerance = 1e-6;                      // the least that float32 data allow to ask for

// Newton's method after a warm start, after the fast interior point, and where nothing else is left.
GD_HD NewtonSettings newton_from_warm_start() { return {4, 20, kAccept}; }
GD_HD NewtonSettings newton_after_fast() { return {3, 20, kAccept}; }
GD_HD NewtonSettings newton_after_careful() { return {8, 40, kAccept}; }

// First regularisation of the condensed matrix; a step that is not finite raises it.
GD_HD double first_regularisation(bool single_precision, bool careful) {
  return single_precision ? 1e-6 : careful ? 1e-10 : 1e-9;
}

struct StageSettings {
  InteriorSettings strict, almost, fast, later;
};

// `single_data`: float32 data are known to 6e-8 only, and a degenerate problem's rows contradict each other by as much.
// `single_fast`: the fast run is in single precision.
GD_HD StageSettings stage_settings(const gd_settings& o, const ConeRows& rows, bool single_data, bool single_fast) {
  const double floor = single_data ? kFloat32Tolerance : 0;
  StageSettings s;
  InteriorSettings& strict = s.strict;
  strict.tol_gap_abs = maximum(o.tol_gap_abs, floor);
  strict.tol_gap_rel = maximum(o.tol_gap_rel, floor);
  strict.tol_feas = maximum(o.tol_feas, floor);
  strict.tol_infeas_abs = o.tol_infeas_abs;
  strict.tol_infeas_rel = o.tol_infeas_rel;
  strict.almost_infeas = maximum(o.tol_infeas_rel, kAlmostGap);
  strict.max_iter = o.max_iter;
  strict.refinements = 1;
  strict.keep_best = true;
  s.almost = strict;
  s.almost.tol_gap_abs = maximum(strict.tol_gap_abs, kAlmostGap);
  s.almost.tol_gap_rel = maximum(strict.tol_gap_rel, kAlmostGap);
  s.almost.tol_feas = maximum(strict.tol_feas, kAlmostFeasibility);
  InteriorSettings& fast = s.fast;
  fast = strict;
  fast.tol_gap_abs = fast.tol_gap_rel = fast.tol_feas = kCrossover;
  fast.max_iter = o.max_iter < kFastIterations ? o.max_iter : kFastIterations;
  fast.refinements = 0;
  fast.keep_best = false;
  fast.crossover_mu = rows.semidefinite_count + rows.triples() > 0 ? kCurvedCrossoverMu : kCrossoverMu;
  fast.crossover_feas = kCrossoverFeasibility;
  s.later = fast;
  s.later.crossover_mu = 0;
  s.later.tol_gap_abs = s.later.tol_gap_rel = s.later.tol_feas = kLaterCrossover;
  s.later.max_iter = o.max_iter < 2 * kFastIterations ? o.max_iter : 2 * kFastIterations;
  if (single_fast) fast.tol_infeas_rel = maximum(1e-4, o.tol_infeas_rel);
  return s;
}

// A point of the map, and how good it is: at most 1 meets the settings' tolerances, or the reduced ones.
template <class T>
struct Judged {
  T merit, almost_merit;
  T margin;  // distance of v to the nearest kink of the projection, relative to its size
  T factorisations;
  Residuals<T> residuals;
};

// Newton's method from (x, v) in the lanes of `live`, or the bare projection of it if not `refine`.
template <class T, class G>
GD_HD Judged<T> polish_point(const G& g, MapState<T>& map, Mask<T> live, bool refine, const NewtonSettings& o,
                             const StageSettings& s) {
  const Shape& shape = map.w.shape;
  Judged<T> j{broadcast<T>(1e30), broadcast<T>(1e30), T{}, T{}, {}};
  if (refine) {
    j.factorisations = newton(g, map, live, o);
    j.residuals = assess(g, map);
    j.merit = optimality_merit(j.residuals, s.strict);
    j.almost_merit = optimality_merit(j.residuals, s.almost);
  } else {
    project_map(g, map, map.y, map.s, every_lane<T>());
  }
  T size = broadcast<T>(1e-8);  // v's own size, unless it is nothing beside the data
  g.sync();
  GD_NO_UNROLL for (index_t k = shape.rows.zero + g.rank(); k < shape.m(); k += g.size()) size =
      maximum(absolute(map.v[k]), size);
  j.margin = cone_margin(g, shape.rows, map.v, map.frame) / g.max(size);
  return j;
}

// The products of (x, y).
template <class T, class G>
GD_HD void products_of_point(const G& g, const MapState<T>& map) {
  const Shape& shape = map.w.shape;
  g.sync();
  multiply_symmetric(g, map.w.P, tiles(shape.n), map.x, map.Px);
  multiply<1>(g, map.w.A, shape.m(), shape.n, map.x, 0, map.Ax, 0);
  multiply_transposed<1>(g, map.w.A, 0, shape.m(), shape.n, map.y, 0, map.Ay, 0);
  g.sync();
}

// Replaces the point by the interior point's own, which `restore` puts into x, y and s, where that is the better one.
template <class T, class G, class Restore>
GD_HD void keep_better_point(const G& g, MapState<T>& map, Judged<T>& j, const StageSettings& s, Restore restore) {
  const Shape& shape = map.w.shape;
  const index_t n = shape.n, m = shape.m();
  T* const kept_y = map.best_v;
  T* const kept_s = map.e2;
  g.sync();
  GD_NO_UNROLL for (index_t i = g.rank(); i < n; i += g.size()) map.best_x[i] = map.x[i];
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
    kept_y[k] = map.y[k];
    kept_s[k] = map.s[k];
  }
  g.sync();
  restore();
  products_of_point(g, map);
  const Residuals<T> r = assess(g, map);
  const T merit = optimality_merit(r, s.strict);
  const Mask<T> stays = (j.merit <= broadcast<T>(1)) | (j.merit <= merit);
  g.sync();
  GD_NO_UNROLL for (index_t i = g.rank(); i < n; i += g.size()) map.x[i] = select(stays, map.best_x[i], map.x[i]);
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
    map.y[k] = select(stays, kept_y[k], map.y[k]);
    map.s[k] = select(stays, kept_s[k], map.s[k]);
  }
  j.almost_merit = select(stays, j.almost_merit, optimality_merit(r, s.almost));
  j.merit = select(stays, j.merit, merit);
  j.margin = select(stays, j.margin, T{});
  Residuals<T>& kept = j.residuals;
  kept.primal = select(stays, kept.primal, r.primal);
  kept.dual = select(stays, kept.dual, r.dual);
  kept.gap = select(stays, kept.gap, r.gap);
  kept.objective = select(stays, kept.objective, r.objective);
  g.sync();
}

// The status of a point that nothing will improve; `ended` is how the interior point ended.
GD_HD int final_status(double merit, double almost_merit, int ended) {
  if (merit <= 1) return GD_SOLVED;
  if (almost_merit <= 1) return GD_ALMOST_SOLVED;
  return ended == outcome::iteration_limit ? GD_MAX_ITERATIONS : GD_NUMERICAL_ERROR;
}

}  // namespace GD_NAMESPACE
