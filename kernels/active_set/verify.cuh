// The last word on a point: its residuals in the problem's own data, in double precision, whatever the method did.
#pragma once
#include "../ipm/termination.cuh"
#include "kkt.cuh"

namespace GD_NAMESPACE {

// A residual counts against what an error of the size of the point makes of it in the metric of P, or against the terms
// that were added up, entry by entry (Oettli & Prager 1964), whichever is larger. Both are the same whatever rows,
// columns and cost are scaled by; terms alone would not do where all of them vanish, as at a bound of zero.
constexpr double kVerified = 1e-12;  // a point that is worse is not called solved
constexpr double kRefine = 1e-13;    // and one that is worse than this is refined first

template <class T>
struct Verdict {
  T primal, dual, gap, objective;  // as in Residuals, in the problem's own units
  T error;                         // the largest relative residual
  T margin;                        // distance to the nearest change of the active set, relative to the point
};

// The point in the metric of P: |Lᵀx| for what rows say about x, and for the gradient the terms that make it up, which
// may be much larger.
template <class T>
struct PointSize {
  T primal, dual;
};
template <class T, class E, class G>
GD_HD PointSize<T> point_size(const G& g, const ActiveSet<T, E>& s) {
  const index_t n = s.columns();
  T sums[3] = {T{}, T{}, T{}};
  for (index_t j = g.rank(); j < n; j += g.size()) {
    const T u = j < s.width() ? s.u[j] : T{}, base = s.base[j], x = u - base;
    sums[0] += x * x;
    sums[1] += u * u;
    sums[2] += base * base;
  }
  g.sums(sums);
  return {square_root(sums[0]), square_root(sums[1]) + square_root(sums[2])};
}

// x, y and the tight rows, out of u and the working set.
template <class T, class E, class G, int W>
GD_HD void take_point(const G& g, const ActiveSet<T, E>& s, const Places<W>& p) {
  for (index_t k = g.rank(); k < s.columns(); k += g.size()) s.x[k] = (k < s.width() ? s.u[k] : T{}) - s.base[k];
  for (index_t k = g.rank(); k < s.inequalities; k += g.size()) s.y[k] = s.tight[k] = T{};
  g.sync();
  if (s.equalities > 0) reflect_back(g, s.H, s.x, s.block);
  solve_lower_transposed(g, s.L, s.n, s.x);
  for (int i = g.rank(); i < p.most; i += g.size())
    for (int l = 0; l < W; l++) {
      if (i >= p.used[l]) continue;
      const int k = s.id(i, l);
      set_lane(s.y[k], l, Real<T>(get_lane(s.multiplier[i], l) * lane_or_shared(s.norm[k], l)));
      set_lane(s.tight[k], l, Real<T>(1));
    }
  g.sync();
}

// Judges x and the inequalities' y, and finds the equalities' y, which is what is left. `products` has, with the
// problem's own data, `objective`: P x into s.Px; `inequalities`: A_Iᵀ y_I into s.Ay and A_I x into s.slack;
// `equalities`: A_Eᵀ y_E added to s.Ay and A_E x into s.slack_zero; each with an argument that asks for Σ|P_ij x_j| and
// so on instead. Leaves −(P x + q + Aᵀy) in s.z and b − A x in s.slack and s.slack_zero.
template <class T, class E, class G, class Products>
GD_HD Verdict<T> verify_point(const G& g, const ActiveSet<T, E>& s, Products products) {
  const index_t n = s.n, zero = s.equalities, rows = s.inequalities;
  const T half = broadcast<T>(0.5), tiny = broadcast<T>(1e-300);
  products.objective(false);
  products.inequalities(false);
  g.sync();
  if (zero > 0) {
    for (index_t j = g.rank(); j < n; j += g.size()) s.z[j] = -(s.Px[j] + s.q[j] + s.Ay[j]);
    g.sync();
    equality_multipliers(g, s);
    products.equalities(false);
    g.sync();
  }
  const PointSize<T> size = point_size(g, s);
  T quadratic{}, linear{}, bound{}, primal{}, dual{}, row_error{}, column_error{}, spread{},
      nearest = broadcast<T>(-1e30);
  for (index_t j = g.rank(); j < n; j += g.size()) {
    const T r = s.Px[j] + s.q[j] + s.Ay[j];
    quadratic += s.Px[j] * s.x[j];
    linear += s.q[j] * s.x[j];
    s.z[j] = -r;
    dual = maximum(absolute(r), dual);
    column_error = maximum(T(absolute(r) * (T{} + s.column_size[j])), column_error);
  }
  for (index_t k = g.rank(); k < zero; k += g.size()) {
    const T r = s.b_zero[k] - s.slack_zero[k];
    s.slack_zero[k] = r;
    bound += s.b_zero[k] * s.y_zero[k];
    primal = maximum(absolute(r), primal);
    row_error = maximum(T(absolute(r) * s.norm_zero[k]), row_error);
  }
  const T most = broadcast<T>(kAbsent);
  for (index_t k = g.rank(); k < rows; k += g.size()) {
    const T b = s.b[k], r = b - s.slack[k], norm = T{} + s.norm[k];
    const Mask<T> tight = s.tight[k] > T{};
    const T violation = select(tight, absolute(r), maximum(T(-r), T{}));
    s.slack[k] = r;
    bound += select(tight, T(b * s.y[k]), T{});
    primal = maximum(violation, primal);
    row_error = maximum(T(violation * norm), row_error);
    const T away = select(tight, T(s.y[k] / norm), maximum(T(r * norm), T{}));
    const Mask<T> absent = b >= most;
    nearest = maximum(select(absent, broadcast<T>(-1e30), T(-away)), nearest);
    spread = maximum(select(absent, T{}, away), spread);
  }
  T sums[3] = {quadratic, linear, bound}, largest[6] = {primal, dual, row_error, column_error, spread, nearest};
  g.sums(sums);
  g.maxima(largest);
  Verdict<T> v;
  v.primal = largest[0];
  v.dual = largest[1];
  v.objective = half * sums[0] + sums[1];
  v.gap = absolute(T(sums[0] + sums[1] + sums[2]));
  v.error = maximum(T(largest[2] / maximum(size.primal, tiny)), T(largest[3] / maximum(size.dual, tiny)));
  v.margin = -largest[5] / maximum(largest[4], tiny);
  // Sums, unlike maxima, carry a NaN of any entry.
  v.error = select(is_tame(T(v.gap + v.primal + v.dual)), v.error, broadcast<T>(1e30));
  return v;
}

// The same error with every residual held against its own terms where those are larger; for points that did not pass.
// Overwrites the products; the residuals stay.
template <class T, class E, class G, class Products>
GD_HD T error_by_terms(const G& g, const ActiveSet<T, E>& s, Products products) {
  const index_t n = s.n, zero = s.equalities, rows = s.inequalities;
  const T tiny = broadcast<T>(1e-300);
  const PointSize<T> size = point_size(g, s);
  // The products take the residuals' places.
  for (index_t k = g.rank(); k < rows; k += g.size()) s.spare_rows[k] = s.slack[k];
  for (index_t k = g.rank(); k < zero; k += g.size()) s.spare_zero[k] = s.slack_zero[k];
  g.sync();
  products.objective(true);
  products.inequalities(true);
  if (zero > 0) products.equalities(true);
  g.sync();
  T error{};
  for (index_t j = g.rank(); j < n; j += g.size()) {
    const T terms = s.Px[j] + absolute(s.q[j]) + s.Ay[j], other = size.dual / maximum(T(T{} + s.column_size[j]), tiny);
    error = maximum(T(absolute(s.z[j]) / maximum(maximum(terms, other), tiny)), error);
  }
  for (index_t k = g.rank(); k < zero; k += g.size()) {
    const T terms = s.slack_zero[k] + absolute(s.b_zero[k]), r = s.spare_zero[k];
    error = maximum(T(absolute(r) / maximum(maximum(terms, T(size.primal / s.norm_zero[k])), tiny)), error);
    s.slack_zero[k] = r;
  }
  for (index_t k = g.rank(); k < rows; k += g.size()) {
    const T terms = s.slack[k] + absolute(s.b[k]), r = s.spare_rows[k];
    const T violation = select(s.tight[k] > T{}, absolute(r), maximum(T(-r), T{}));
    error = maximum(T(violation / maximum(maximum(terms, T(size.primal / s.norm[k])), tiny)), error);
    s.slack[k] = r;
  }
  return g.max(error);
}

// y in s.y, with the equalities' y that belongs to it, as a proof that there is no feasible point: Aᵀy = 0, y ≥ 0 on
// inequalities, bᵀy < 0. Returns −bᵀy, or 0 in the lanes where it is none.
template <class T, class E, class G, class Products>
GD_HD T verify_infeasible(const G& g, const ActiveSet<T, E>& s, double tolerance, Products products) {
  const index_t n = s.n;
  const bool zero = s.equalities > 0;
  products.inequalities(false);
  g.sync();
  if (zero) {
    for (index_t j = g.rank(); j < n; j += g.size()) s.z[j] = -s.Ay[j];
    g.sync();
    equality_multipliers(g, s);
    products.equalities(false);
    g.sync();
  }
  for (index_t j = g.rank(); j < n; j += g.size()) s.spare[j] = s.Ay[j];
  g.sync();
  products.inequalities(true);
  if (zero) products.equalities(true);
  g.sync();
  T left{}, relative{}, bound{}, terms{};
  for (index_t j = g.rank(); j < n; j += g.size()) {
    left = maximum(absolute(s.spare[j]), left);
    relative = maximum(T(absolute(s.spare[j]) / maximum(s.Ay[j], broadcast<T>(1e-300))), relative);
  }
  const auto add = [&](const T& b, const T& y) GD_LAMBDA {
    const T product = select(y == T{}, T{}, T(b * y));  // an absent row has a huge b
    bound += product;
    terms += absolute(product);
  };
  for (index_t k = g.rank(); k < s.equalities; k += g.size()) add(s.b_zero[k], s.y_zero[k]);
  for (index_t k = g.rank(); k < s.inequalities; k += g.size()) add(s.b[k], s.y[k]);
  T sums[2] = {bound, terms}, most[2] = {left, relative};
  g.sums(sums);
  g.maxima(most);
  const Mask<T> proof = (most[1] <= broadcast<T>(kVerified)) & (sums[0] < sums[1] * broadcast<T>(-1e-9)) &
                        (most[0] <= -sums[0] * broadcast<T>(tolerance)) & is_tame(sums[1]);
  return select(proof, T(-sums[0]), T{});
}

}  // namespace GD_NAMESPACE
