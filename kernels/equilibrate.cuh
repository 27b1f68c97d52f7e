// Ruiz equilibration: diagonal D, E and a cost factor c such that [cDPD (EAD)ᵀ; EAD 0] has rows of size about one.
//
// Ruiz 2001, as in OSQP and Clarabel. The matrices are not touched: each sweep reads magnitudes through the current
// scaling, and all factors are powers of two, so that scaling the data afterwards commits no rounding error at all.
// Well-scaled problems leave after the first sweep, untouched.
#pragma once
#include "cones/spectral.cuh"
#include "group.cuh"
#include "scalar.cuh"

namespace GD_NAMESPACE {

constexpr int kEquilibrationSweeps = 10;
constexpr double kEquilibrationBound = 1e5;  // of D and E
constexpr double kWellScaled = 4;            // rows and columns between 1/4 and 4 are left as they are

// 1/√norm; 1 for an empty row or column.
GD_HD double equilibration_factor(double norm) { return norm > 0 ? 1.0 / square_root(norm) : 1.0; }
GD_HD bool badly_scaled(double norm) { return norm > kWellScaled || (norm < 1 / kWellScaled && norm > 0); }
GD_HD double bounded_scale(double scale) {
  return minimum(maximum(scale, 1 / kEquilibrationBound), kEquilibrationBound);
}

// The power of two nearest to a > 0 (on a logarithmic scale).
GD_HD double nearest_power_of_two(double a) {
  union {
    double value;
    unsigned long long bits;
  } u{a * 1.4142135623730951};
  u.bits &= 0x7ff0000000000000ull;
  return u.value;
}

// Neighbouring columns that are looked at together; compilers do not find these maxima worth vectorising by themselves.
#if defined(__CUDACC__)
using Strip = double;
GD_HD Strip load_strip(const double* p) { return *p; }
GD_HD void store_strip(double* p, Strip s) { *p = s; }
#else
using Strip = double8;
GD_HD Strip load_strip(const double* p) {
  Strip s;
  __builtin_memcpy(&s, p, sizeof s);
  return s;
}
GD_HD void store_strip(double* p, Strip s) { __builtin_memcpy(p, &s, sizeof s); }
#endif
constexpr index_t kStrip = Scalar<Strip>::lanes;

// largest[j] = max_k weight[k] |M[k, j]| for M [count, n].
template <class G>
GD_HD void column_maxima(const G& g, index_t count, index_t n, const double* M, const double* weight, double* largest) {
  const index_t strips = n / kStrip * kStrip;
  GD_NO_UNROLL for (index_t j = kStrip * g.rank(); j < strips; j += kStrip * g.size()) {
    Strip r{};
    for (index_t k = 0; k < count; k++) r = maximum(Strip(absolute(load_strip(M + k * n + j)) * weight[k]), r);
    store_strip(largest + j, r);
  }
  GD_NO_UNROLL for (index_t j = strips + g.rank(); j < n; j += g.size()) {
    double r = 0;
    for (index_t k = 0; k < count; k++) r = maximum(absolute(M[k * n + j]) * weight[k], r);
    largest[j] = r;
  }
}

// largest[k] = max_j |M[k, j]| weight[j].
template <class G>
GD_HD void row_maxima(const G& g, index_t count, index_t n, const double* M, const double* weight, double* largest) {
  const index_t strips = n / kStrip * kStrip;
  GD_NO_UNROLL for (index_t k = g.rank(); k < count; k += g.size()) {
    const double* row = M + k * n;
    Strip r{};
    for (index_t j = 0; j < strips; j += kStrip)
      r = maximum(Strip(absolute(load_strip(row + j)) * load_strip(weight + j)), r);
    double most = 0;
    for (int l = 0; l < kStrip; l++) most = maximum(get_lane(r, l), most);
    for (index_t j = strips; j < n; j++) most = maximum(absolute(row[j]) * weight[j], most);
    largest[k] = most;
  }
}

// The same for matrices that are read through M(k, j), wherever they lie: several loads are on their way at a time.
template <class G, class Matrix>
GD_HD void column_maxima(const G& g, index_t count, index_t n, const Matrix& M, const double* weight, double* largest) {
  GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
    double r = 0;
    GD_UNROLL_EIGHT for (index_t k = 0; k < count; k++) r = maximum(absolute(M(k, j)) * weight[k], r);
    largest[j] = r;
  }
}
template <class G, class Matrix>
GD_HD void row_maxima(const G& g, index_t count, index_t n, const Matrix& M, const double* weight, double* largest) {
  GD_NO_UNROLL for (index_t k = g.rank(); k < count; k += g.size()) {
    double r = 0;
    GD_UNROLL_EIGHT for (index_t j = 0; j < n; j++) r = maximum(absolute(M(k, j)) * weight[j], r);
    largest[k] = r;
  }
}

// P [n, n] (not looked at unless `has_P`), A [m, n] in the kernel's row order: row-major pointers or M(k, j); q [n].
// Writes D [n], E [m]; `column` [2n] and `row` [m] are scratch. Returns c. One scalar problem, any group.
template <class G, class Objective, class Vector, class Constraints>
GD_HD double equilibrate(const G& g, index_t n, const ConeRows& rows, bool has_P, const Objective& P, const Vector& q,
                         const Constraints& A, double* D, double* E, double* column, double* row) {
  const index_t m = rows.total;
  double c = 1, *P_column = column + n;
  GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) D[j] = 1;
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) E[k] = 1;
  g.sync();
  GD_NO_UNROLL for (int sweep = 0;; sweep++) {
    if (has_P)
      column_maxima(g, n, n, P, D, P_column);
    else
      GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) P_column[j] = 0;
    column_maxima(g, m, n, A, E, column);
    row_maxima(g, m, n, A, D, row);
    g.sync();
    // The cost: the mean column of P or the size of q, whichever is larger, becomes one.
    double mean = 0, largest = 0;
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
      mean += P_column[j] * D[j];
      largest = maximum(absolute(q[j]) * D[j], largest);
    }
    mean = g.sum(mean) / double(n > 0 ? n : 1);
    largest = maximum(g.max(largest), mean);
    c = largest > 0 ? 1 / largest : 1.0;
    // One factor for all rows of a cone that would not stay one otherwise.
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) row[k] *= E[k];
    g.sync();
    const auto level = [row](index_t start, index_t d) GD_LAMBDA {
      double biggest = 0;
      for (index_t k = start; k < start + d; k++) biggest = maximum(row[k], biggest);
      for (index_t k = start; k < start + d; k++) row[k] = biggest;
    };
    GD_NO_UNROLL for (index_t cone = g.rank(); cone < rows.second_order_count; cone += g.size())
        level(rows.second_order_start[cone], rows.second_order_dimension[cone]);
    GD_NO_UNROLL for (index_t cone = g.rank(); cone < rows.semidefinite_count; cone += g.size())
        level(rows.semidefinite_start[cone], semidefinite_rows(rows.semidefinite_order[cone]));
    GD_NO_UNROLL for (index_t cone = g.rank(); cone < rows.triples(); cone += g.size())
        level(rows.triple_start + 3 * cone, 3);
    g.sync();
    double bad = 0;
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
      column[j] = maximum(P_column[j] * c, column[j]) * D[j];
      bad = badly_scaled(column[j]) ? 1 : bad;
    }
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) bad = badly_scaled(row[k]) ? 1 : bad;
    if (g.max(bad) == 0 || sweep >= kEquilibrationSweeps) break;
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) D[j] =
        bounded_scale(D[j] * equilibration_factor(column[j]));
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) E[k] =
        bounded_scale(E[k] * equilibration_factor(row[k]));
    g.sync();
  }
  g.sync();
  GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) D[j] = nearest_power_of_two(D[j]);
  GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) E[k] = nearest_power_of_two(E[k]);
  g.sync();
  return nearest_power_of_two(c);
}

}  // namespace GD_NAMESPACE
