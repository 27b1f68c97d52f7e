// Ruiz equilibration: diagonal D, E and a cost factor c such that [cDPD (EAD)ᵀ; EAD 0] has rows of size about one.
//
// Ruiz 2001, as in OSQP and Clarabel. The matrices are not touched: each sweep reads magnitudes through the current
// scaling, and all factors are powers of two, so that scaling the data afterwards commits no rounding error at all.
// Well-scaled problems leave after the first sweep, untouched.
#pragma once
#include "group.cuh"
#include "cones/spectral.cuh"

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

// largest[j] = max_k weight[k] |M[k, j]| for M [count, n], eight columns at a time so that the maxima stay in registers.
template <class G>
GD_HD void column_maxima(const G& g, index_t count, index_t n, const double* M, const double* weight, double* largest) {
  for (index_t first = 8 * g.rank(); first < n; first += 8 * g.size()) {
    double r[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    const index_t width = n - first < 8 ? n - first : 8;
    if (width == 8) {
      for (index_t k = 0; k < count; k++)
        GD_UNROLL for (int l = 0; l < 8; l++) r[l] = maximum(absolute(M[k * n + first + l]) * weight[k], r[l]);
    } else {
      for (index_t k = 0; k < count; k++)
        for (index_t l = 0; l < width; l++) r[l] = maximum(absolute(M[k * n + first + l]) * weight[k], r[l]);
    }
    for (index_t l = 0; l < width; l++) largest[first + l] = r[l];
  }
}
template <class G>
GD_HD void row_maxima(const G& g, index_t count, index_t n, const double* M, const double* weight, double* largest) {
  for (index_t k = g.rank(); k < count; k += g.size()) {
    const double* row = M + k * n;
    double r[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    index_t j = 0;
    for (; j + 8 <= n; j += 8)
      for (int l = 0; l < 8; l++) r[l] = maximum(absolute(row[j + l]) * weight[j + l], r[l]);
    for (; j < n; j++) r[0] = maximum(absolute(row[j]) * weight[j], r[0]);
    for (int l = 0; l < 4; l++) r[l] = maximum(r[l], r[l + 4]);
    largest[k] = maximum(maximum(r[0], r[1]), maximum(r[2], r[3]));
  }
}

// P [n, n] (may be null), A [m, n] in the kernel's row order, q [n]: row-major. Writes D [n], E [m]; `column` [2n] and
// `row` [m] are scratch. Returns c. One scalar problem, any group.
template <class G>
GD_HD double equilibrate(const G& g, index_t n, const ConeRows& rows, const double* P, const double* q, const double* A,
                         double* D, double* E, double* column, double* row) {
  const index_t m = rows.total;
  double c = 1, *P_column = column + n;
  for (index_t j = g.rank(); j < n; j += g.size()) D[j] = 1;
  for (index_t k = g.rank(); k < m; k += g.size()) E[k] = 1;
  g.sync();
  for (int sweep = 0;; sweep++) {
    if (P)
      column_maxima(g, n, n, P, D, P_column);
    else
      for (index_t j = g.rank(); j < n; j += g.size()) P_column[j] = 0;
    column_maxima(g, m, n, A, E, column);
    row_maxima(g, m, n, A, D, row);
    g.sync();
    // The cost: the mean column of P or the size of q, whichever is larger, becomes one.
    double mean = 0, largest = 0;
    for (index_t j = g.rank(); j < n; j += g.size()) {
      mean += P_column[j] * D[j];
      largest = maximum(absolute(q[j]) * D[j], largest);
    }
    mean = g.sum(mean) / double(n > 0 ? n : 1);
    largest = maximum(g.max(largest), mean);
    c = largest > 0 ? 1 / largest : 1.0;
    // One factor per second-order cone, or the cone would not stay one.
    for (index_t k = g.rank(); k < m; k += g.size()) row[k] *= E[k];
    g.sync();
    for (index_t cone = g.rank(); cone < rows.second_order_count; cone += g.size()) {
      const index_t start = rows.second_order_start[cone], d = rows.second_order_dimension[cone];
      double biggest = 0;
      for (index_t k = start; k < start + d; k++) biggest = maximum(row[k], biggest);
      for (index_t k = start; k < start + d; k++) row[k] = biggest;
    }
    g.sync();
    double bad = 0;
    for (index_t j = g.rank(); j < n; j += g.size()) {
      column[j] = maximum(P_column[j] * c, column[j]) * D[j];
      bad = badly_scaled(column[j]) ? 1 : bad;
    }
    for (index_t k = g.rank(); k < m; k += g.size()) bad = badly_scaled(row[k]) ? 1 : bad;
    if (g.max(bad) == 0 || sweep >= kEquilibrationSweeps) break;
    for (index_t j = g.rank(); j < n; j += g.size()) D[j] = bounded_scale(D[j] * equilibration_factor(column[j]));
    for (index_t k = g.rank(); k < m; k += g.size()) E[k] = bounded_scale(E[k] * equilibration_factor(row[k]));
    g.sync();
  }
  g.sync();
  for (index_t j = g.rank(); j < n; j += g.size()) D[j] = nearest_power_of_two(D[j]);
  for (index_t k = g.rank(); k < m; k += g.size()) E[k] = nearest_power_of_two(E[k]);
  g.sync();
  return nearest_power_of_two(c);
}

}  // namespace GD_NAMESPACE
