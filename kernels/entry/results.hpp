// What is kept of a problem between the stages of a solve, and how its result is written into the caller's arrays.
#pragma once
#include "../derivative/residual_map.cuh"
#include "../ipm/termination.cuh"
#include "instance.hpp"

namespace GD_NAMESPACE {

using gpudiff_entry::Counters;
using gpudiff_entry::Solve;

inline ConeRows cone_rows(const Rows& r) {
  return {r.zero,
          r.nonnegative,
          r.zero,
          r.second_order_count,
          r.second_order_start,
          r.second_order_dimension,
          r.semidefinite_count,
          r.semidefinite_start,
          r.semidefinite_order,
          r.triple_start,
          r.exponential,
          r.dual_exponential,
          r.power,
          r.dual_power,
          r.power_alpha,
          r.total};
}
inline Shape shape_of(const gd_problem& p, const Rows& r) { return {p.n, cone_rows(r)}; }

// Multiply–add pairs counted as two operations: one factorisation with its solves, and one Newton step.
inline double factor_flops(const Shape& s) {
  const double n = double(s.n), c = double(s.rows.conic()), N = n + double(s.rows.zero);
  return c * n + c * n * (n + 1) + N * N * N / 3;
}
inline double solve_flops(const Shape& s) {
  const double n = double(s.n), c = double(s.rows.conic()), N = n + double(s.rows.zero);
  return 2 * N * N + 4 * c * n;
}
inline double product_flops(const Shape& s) { return 2 * double(s.n) * double(s.n) + 4 * double(s.m()) * double(s.n); }

struct Saved {  // of one problem, equilibrated; index: position in the chunk
  double *x, *z, *s, *D, *E;
  double *c, *kappa, *iterations, *newton;
  int *state, *result;
  static index_t words(index_t n, index_t m) { return 2 * n + 3 * m + 5; }
};

// Takes equilibrated points back to the problem's own units and row order.
struct Results {
  const Solve& job;
  const gd_problem& problem;
  Shape shape;
  index_t begin;  // of the chunk in the batch
  Saved saved{};

  // `count`: iterations of whatever kind.
  void write_scalars(index_t i, int status, double objective, double primal, double dual, double gap, double margin,
                     double count) const {
    const index_t at = begin + i;
    gd_solution& o = *job.out;
    const int type = problem.dtype;
    write(o.obj, type, at, objective);
    write(o.primal_residual, type, at, primal);
    write(o.dual_residual, type, at, dual);
    write(o.gap, type, at, gap);
    write(o.margin, type, at, margin);
    if (o.status) o.status[at] = int8_t(status);
    if (o.iterations) o.iterations[at] = int32_t(count);
  }

  template <class T>
  void write_point(const MapState<T>& map, index_t i, int lane, int status, const Residuals<T>& r,
                   const T& margin) const {
    const index_t n = shape.n, m = shape.m(), at = begin + i;
    gd_solution& o = *job.out;
    const int type = problem.dtype;
    const double *D = saved.D + i * n, *E = saved.E + i * m, c = saved.c[i];
    for (index_t j = 0; j < n; j++) write(o.x, type, at * n + j, double(get_lane(map.x[j], lane)) * D[j]);
    for (index_t k = 0; k < m; k++) {
      const index_t row = at * m + job.rows.row_of[k];
      const bool absent = is_absent(i, k);
      write(o.y, type, row, absent ? 0.0 : double(get_lane(map.y[k], lane)) * E[k] / c);
      write(o.s, type, row, absent ? __builtin_inf() : double(get_lane(map.s[k], lane)) / E[k]);
    }
    write_scalars(i, status, double(get_lane(r.objective, lane)), double(get_lane(r.primal, lane)),
                  double(get_lane(r.dual, lane)), double(get_lane(r.gap, lane)), double(get_lane(margin, lane)),
                  spent(i));
  }
  bool is_absent(index_t i, index_t k) const {
    const Rows& rows = job.rows;
    return k >= rows.zero && k < rows.zero + rows.nonnegative &&
           read(problem.b, problem.dtype, (begin + i) * problem.b.batch + rows.row_of[k] * problem.b.row) ==
               __builtin_inf();
  }

  // y with Aᵀy = 0, bᵀy = −1, or x with Px = 0, −Ax ∈ K, qᵀx = −1.
  template <class Q>
  void write_certificate(const InteriorState<Q>& s, index_t i, int lane, int out) const {
    const index_t n = shape.n, m = shape.m(), at = begin + i;
    gd_solution& o = *job.out;
    const int type = problem.dtype;
    const double nan = __builtin_nan(""), inf = __builtin_inf();
    const double *D = saved.D + i * n, *E = saved.E + i * m;
    const bool primal = outcome::is_primal(out);
    double product = 0;
    if (primal)
      for (index_t k = 0; k < m; k++) product -= double(get_lane(s.z[k], lane)) * double(get_lane(s.w.b[k], lane));
    else
      for (index_t j = 0; j < n; j++) product -= double(get_lane(s.x[j], lane)) * double(get_lane(s.w.q[j], lane));
    // Equilibrated: bᵀz is what it is outside (z·E against b/E, the cost factor cancels in the direction); qᵀx is c
    // times it.
    const double scale = 1 / product, c = saved.c[i];
    for (index_t j = 0; j < n; j++)
      write(o.x, type, at * n + j, primal ? nan : double(get_lane(s.x[j], lane)) * D[j] * scale * c);
    for (index_t k = 0; k < m; k++) {
      const index_t row = at * m + job.rows.row_of[k];
      write(o.y, type, row, !primal ? nan : is_absent(i, k) ? 0.0 : double(get_lane(s.z[k], lane)) * E[k] * scale);
      write(o.s, type, row,
            primal                ? nan
            : k < shape.rows.zero ? 0.0
                                  : double(get_lane(s.s[k], lane)) / E[k] * scale * c);
    }
    write_scalars(i, out, primal ? inf : -inf, nan, nan, nan, nan, spent(i));
  }

  double spent(index_t i) const { return saved.iterations[i] + saved.newton[i]; }

  // A point in the problem's own units, in kernel row order.
  void write_values(index_t i, const double* x, const double* y, const double* s) const {
    const index_t n = shape.n, m = shape.m(), at = begin + i;
    gd_solution& o = *job.out;
    const int type = problem.dtype;
    for (index_t j = 0; j < n; j++) write(o.x, type, at * n + j, x[j]);
    for (index_t k = 0; k < m; k++) {
      const index_t row = at * m + job.rows.row_of[k];
      write(o.y, type, row, y[k]);
      write(o.s, type, row, s[k]);
    }
  }
  // The normalised certificate of a problem without a feasible point.
  void write_infeasible(index_t i, const double* y, int changes) const {
    write_failure(i, GD_PRIMAL_INFEASIBLE, changes);
    for (index_t k = 0; k < shape.m(); k++)
      write(job.out->y, problem.dtype, (begin + i) * shape.m() + job.rows.row_of[k], y[k]);
    write(job.out->obj, problem.dtype, begin + i, __builtin_inf());
  }

  void write_failure(index_t i, int status) const { write_failure(i, status, spent(i)); }
  void write_failure(index_t i, int status, double count) const {
    const index_t n = shape.n, m = shape.m(), at = begin + i;
    gd_solution& o = *job.out;
    const double nan = __builtin_nan("");
    for (index_t j = 0; j < n; j++) write(o.x, problem.dtype, at * n + j, nan);
    for (index_t k = 0; k < m; k++) {
      write(o.y, problem.dtype, at * m + k, nan);
      write(o.s, problem.dtype, at * m + k, nan);
    }
    write_scalars(i, status, nan, nan, nan, nan, nan, count);
  }
};

}  // namespace GD_NAMESPACE
