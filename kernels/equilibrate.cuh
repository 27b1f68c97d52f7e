// Ruiz equilibration: diagonal D, E and a cost factor c such that [cDPD (EAD)ᵀ; EAD 0] has rows of size about one.
//
// Ruiz 2001, as in OSQP and Clarabel. The matrices are not touched: each sweep reads magnitudes through the current
// scaling, and all factors are powers of two, so that scaling the data afterwards commits no rounding error at all.
// Well-scaled problems leave after the first sweep.
#pragma once
#include "group.cuh"
#include "cones/spectral.cuh"

namespace GD_NAMESPACE {

constexpr int kEquilibrationSweeps = 10;
constexpr double kEquilibrationBound = 1e5;  // of D and E

// 1/√norm; 1 for an empty row or column.
GD_HD double equilibration_factor(double norm) { return norm > 0 ? 1.0 / square_root(norm) : 1.0; }

// The power of two nearest to a > 0 (on a logarithmic scale).
GD_HD double nearest_power_of_two(double a) {
  union {
    double value;
    unsigned long long bits;
  } u{a * 1.4142135623730951};
  u.bits &= 0x7ff0000000000000ull;
  return u.value;
}

// P [n, n] (may be null), A [m, n] in the kernel's row order, q [n]: row-major. Writes D [n], E [m]; `column` [n] and
// `row` [m] are scratch. Returns c. One scalar problem, any group.
template <class G>
GD_HD double equilibrate(const G& g, index_t n, const ConeRows& rows, const double* P, const double* q, const double* A,
                         double* D, double* E, double* column, double* row) {
  const index_t m = rows.total;
  double c = 1;
  for (index_t j = g.rank(); j < n; j += g.size()) D[j] = 1;
  for (index_t k = g.rank(); k < m; k += g.size()) E[k] = 1;
  g.sync();
  for (int sweep = 0; sweep < kEquilibrationSweeps; sweep++) {
    for (index_t j = g.rank(); j < n; j += g.size()) column[j] = 0;
    if (P) {
      for (index_t i = 0; i < n; i++) {
        const double* p = P + i * n;
        const double d = D[i] * c;
        for (index_t j = g.rank(); j < n; j += g.size()) column[j] = maximum(absolute(p[j]) * d, column[j]);
      }
    }
    for (index_t k = 0; k < m; k++) {
      const double* a = A + k * n;
      const double e = E[k];
      for (index_t j = g.rank(); j < n; j += g.size()) column[j] = maximum(absolute(a[j]) * e, column[j]);
    }
    g.sync();
    for (index_t k = g.rank(); k < m; k += g.size()) {
      const double* a = A + k * n;
      double r[4] = {0, 0, 0, 0};
      index_t j = 0;
      for (; j + 4 <= n; j += 4)
        for (int l = 0; l < 4; l++) r[l] = maximum(absolute(a[j + l]) * D[j + l], r[l]);
      for (; j < n; j++) r[0] = maximum(absolute(a[j]) * D[j], r[0]);
      row[k] = maximum(maximum(r[0], r[1]), maximum(r[2], r[3])) * E[k];
    }
    g.sync();
    // One factor per second-order cone, or the cone would not stay one.
    for (index_t cone = g.rank(); cone < rows.second_order_count; cone += g.size()) {
      const index_t start = rows.second_order_start[cone], d = rows.second_order_dimension[cone];
      double largest = 0;
      for (index_t k = start; k < start + d; k++) largest = maximum(row[k], largest);
      for (index_t k = start; k < start + d; k++) row[k] = largest;
    }
    g.sync();
    double deviation = 0;
    for (index_t j = g.rank(); j < n; j += g.size()) {
      const double norm = column[j] * D[j];
      if (norm > 0) deviation = maximum(absolute(1 - norm), deviation);
      column[j] = equilibration_factor(norm);
    }
    for (index_t k = g.rank(); k < m; k += g.size())
      if (row[k] > 0) deviation = maximum(absolute(1 - row[k]), deviation);
    deviation = g.max(deviation);
    for (index_t j = g.rank(); j < n; j += g.size())
      D[j] = minimum(maximum(D[j] * column[j], 1 / kEquilibrationBound), kEquilibrationBound);
    for (index_t k = g.rank(); k < m; k += g.size())
      E[k] = minimum(maximum(E[k] * equilibration_factor(row[k]), 1 / kEquilibrationBound), kEquilibrationBound);
    g.sync();
    // The cost: mean column size of P or the size of q, whichever is larger, becomes one.
    double mean = 0, largest = 0;
    if (P) {
      for (index_t j = g.rank(); j < n; j += g.size()) column[j] = 0;
      for (index_t i = 0; i < n; i++) {
        const double* p = P + i * n;
        const double d = D[i];
        for (index_t j = g.rank(); j < n; j += g.size()) column[j] = maximum(absolute(p[j]) * d, column[j]);
      }
      for (index_t j = g.rank(); j < n; j += g.size()) mean += column[j] * D[j];
    }
    for (index_t j = g.rank(); j < n; j += g.size()) largest = maximum(absolute(q[j]) * D[j], largest);
    mean = g.sum(mean) / double(n > 0 ? n : 1);
    largest = maximum(g.max(largest), mean);
    const double updated = largest > 0 ? 1 / largest : 1.0;
    const bool settled = deviation < 0.5 && updated < 4 * c && updated > 0.25 * c;
    c = updated;
    if (settled) break;
  }
  g.sync();
  for (index_t j = g.rank(); j < n; j += g.size()) D[j] = nearest_power_of_two(D[j]);
  for (index_t k = g.rank(); k < m; k += g.size()) E[k] = nearest_power_of_two(E[k]);
  g.sync();
  return nearest_power_of_two(c);
}

}  // namespace GD_NAMESPACE
