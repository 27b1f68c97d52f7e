// The interior point's variables, scratch space and settings.
#pragma once
#include "../system.cuh"

namespace GD_NAMESPACE {

// Why a problem left the loop. The numbers up to 10 are gd_status's (entry/gpudiff.h).
namespace outcome {
constexpr int going = 0, reached = 1, primal_infeasible = 3, dual_infeasible = 4, almost_primal_infeasible = 5,
              almost_dual_infeasible = 6, iteration_limit = 7, stalled = 9;
GD_HD bool is_primal(int out) { return out == primal_infeasible || out == almost_primal_infeasible; }
GD_HD bool is_certificate(int out) { return is_primal(out) || out == dual_infeasible || out == almost_dual_infeasible; }
}  // namespace outcome

struct InteriorSettings {
  double tol_gap_abs = 0, tol_gap_rel = 0, tol_feas = 0, tol_infeas_abs = 0, tol_infeas_rel = 0;
  int max_iter = 0;
  int refinements = 0;     // per solve
  bool keep_best = false;  // remember the best iterate, end early when nothing improves
  // Also good enough: μ/τ² this small with residuals this small, in equilibrated terms; 0 switches it off. What
  // Newton's method needs is the right active set, which complementarity tells long before single precision gets the
  // residuals down.
  double crossover_mu = 0, crossover_feas = 0;
  double
      almost_infeas;  // a certificate this good is reported, as almost one, where the loop ends without anything better
};

template <class T>
struct InteriorState {
  System<T> w;
  Refinement<T> refinement;
  T *x, *z, *s;                      // the embedding's iterate; the problem's is this divided by τ
  T *Px, *Az, *Ax;                   // P x, Aᵀz, A x
  T *unit_x, *unit_z;                // factors that take r_x and r_z to the problem's own units: 1/(cD), 1/E
  T *rx, *rz;                        // residuals
  T *e1, *e2, *u, *v;                // two right-hand sides and their solutions: constant (−q, b) and step
  T *lambda, *Frz, *ds, *corrected;  // λ = F s, F r_z, F Δs, and c in F Δs = −(c + F⁻ᵀΔz)
  T *best_x, *best_z, *best_s;
  T tau, kappa, cost_scale, iterations, regularisation;
  T short_steps;  // in a row, up to 2: see `Centring`
  T best_merit, best_tau, best_kappa, since_best;

  // `careful`: with refinement and the best iterate; `bulk` and `cooperative` are System's.
  GD_HD void carve(const Shape& shape, Carver<T>& memory, Carver<T>& bulk, bool careful, bool cooperative) {
    w.carve(shape, memory, bulk, cooperative);
    const index_t columns = shape.columns(), rows = shape.row_words();
    if (careful) refinement.carve(shape, memory);
    x = memory.take(columns);
    Px = memory.take(columns);
    Az = memory.take(columns);
    unit_x = memory.take(columns);
    rx = memory.take(columns);
    e1 = memory.take(2 * columns);
    u = memory.take(2 * columns);
    z = memory.take(rows);
    s = memory.take(rows);
    Ax = memory.take(rows);
    unit_z = memory.take(rows);
    rz = memory.take(rows);
    e2 = memory.take(2 * rows);
    v = memory.take(2 * rows);
    lambda = memory.take(rows);
    Frz = memory.take(rows);
    ds = memory.take(rows);
    corrected = memory.take(rows);
    best_x = memory.take(careful ? columns : 0);
    best_z = memory.take(careful ? rows : 0);
    best_s = memory.take(careful ? rows : 0);
  }
};

}  // namespace GD_NAMESPACE
