// One problem on its way from the caller's arrays into a lane (scatter.hpp): gathered, checked, equilibrated.
#pragma once
#include "../equilibrate.cuh"
#include "../system.cuh"
#include "data_rules.cuh"
#include "job.h"

namespace GD_NAMESPACE {

using gpudiff_entry::Rows;

GD_HD double read(const gd_tensor& t, int dtype, index_t offset) {
  return dtype == GD_FLOAT64 ? static_cast<const double*>(t.data)[offset]
                             : double(static_cast<const float*>(t.data)[offset]);
}
GD_HD void write(const gd_tensor& t, int dtype, index_t offset, double value) {
  if (dtype == GD_FLOAT64)
    static_cast<double*>(t.data)[offset] = value;
  else
    static_cast<float*>(t.data)[offset] = float(value);
}
GD_HD void write(void* data, int dtype, index_t offset, double value) {
  if (data) write(gd_tensor{data, 0, 0, 0, 0}, dtype, offset, value);
}

// out[i] = row i, strided source of either type.
template <class Source>
GD_HD void copy_row(const Source* source, index_t stride, index_t count, double* out) {
  if (stride == 1)
    for (index_t j = 0; j < count; j++) out[j] = double(source[j]);
  else
    for (index_t j = 0; j < count; j++) out[j] = double(source[j * stride]);
}
GD_HD void copy_row(const gd_tensor& t, int dtype, index_t offset, index_t stride, index_t count, double* out) {
  if (dtype == GD_FLOAT64)
    copy_row(static_cast<const double*>(t.data) + offset, stride, count, out);
  else
    copy_row(static_cast<const float*>(t.data) + offset, stride, count, out);
}

// out[j] = Σ_k weight[k] M[k, j] for M [count, n], j < columns: eight columns at a time, the sums in registers.
GD_HD void weighted_rows(const double* M, index_t count, index_t n, index_t columns, const double* weight,
                         double* out) {
  index_t first = 0;
  for (; first + 8 <= columns; first += 8) {
    double sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (index_t k = 0; k < count; k++) GD_UNROLL for (int l = 0; l < 8; l++) {
        sum[l] += weight[k] * M[k * n + first + l];
      }
    GD_UNROLL for (int l = 0; l < 8; l++) { out[first + l] = sum[l]; }
  }
  for (; first < columns; first++) {
    double sum = 0;
    for (index_t k = 0; k < count; k++) sum += weight[k] * M[k * n + first];
    out[first] = sum;
  }
}

// Asks for rows of a matrix of problem `index` to be brought near while something else is computed: reading the data
// for the first time is otherwise a tenth of the time of a small solve.
GD_HD void prefetch_rows(const gd_problem& p, const gd_tensor& t, index_t index, index_t first, index_t count) {
  if (!t.data || t.batch == 0 || t.col != 1 || t.row != p.n) return;
  const index_t size = p.dtype == GD_FLOAT64 ? 8 : 4, bytes = count * p.n * size;
  if (bytes > 65536) return;
  const char* begin = static_cast<const char*>(t.data) + (index * t.batch + first * t.row) * size;
  for (index_t offset = 0; offset < bytes; offset += 64) __builtin_prefetch(begin + offset);
}
GD_HD void prefetch_problem(const gd_problem& p, index_t index) {
  prefetch_rows(p, p.A, index, 0, p.m);
  prefetch_rows(p, p.P, index, 0, p.n);
}

// True if every entry is finite: the largest exponent, in integers so that the loop is SIMD.
GD_HD bool all_finite(const double* a, index_t count) {
  const unsigned long long* bits = reinterpret_cast<const unsigned long long*>(a);
  unsigned long long bad = 0;
  for (index_t i = 0; i < count; i++) bad |= (bits[i] & 0x7ff0000000000000ull) + 0x0010000000000000ull;
  return (bad & 0x8000000000000000ull) == 0;
}

enum class Gathered { good, invalid, asymmetric };

// What is known of a problem before it is gathered: its P and A, which are those of a problem that was good before, P
// in place and exactly symmetric; or that it was found good when it was solved, where only P's symmetry is looked at.
enum class Known { nothing, matrices, finite };

struct Instance {
  const double *P, *A;      // [n, n], [m, n] in the kernel's row order, contiguous: the caller's own where that is so
  double *P_copy, *A_copy;  // or copies
  const double *q, *b;      // likewise
  double *q_copy, *b_copy;
  double *D, *E, *column, *row, *row_sum;
  unsigned char* absent;  // [m] rows with b = +inf
  double c;
  bool has_P, some_absent;

  void carve(index_t n, index_t m, Carver<double>& memory) {
    P = P_copy = memory.take(n * n);
    A = A_copy = memory.take(m * n);
    q = q_copy = memory.take(n);
    b = b_copy = memory.take(m);
    D = memory.take(n);
    E = memory.take(m);
    column = memory.take(2 * n);
    row = memory.take(m);
    row_sum = memory.take(n);
    absent = reinterpret_cast<unsigned char*>(memory.take(m / 8 + 1));
  }

  // Reads problem `index`. b = +inf on a nonnegative row makes the row absent: 0ᵀx + s = 1.
  Gathered gather(const gd_problem& p, const Rows& rows, index_t index, Known known = Known::nothing) {
    const index_t n = p.n, m = p.m;
    has_P = p.P.data != nullptr;
    const bool plain = p.dtype == GD_FLOAT64;
    if (plain && p.q.row == 1) {
      q = static_cast<const double*>(p.q.data) + index * p.q.batch;
    } else {
      q = q_copy;
      copy_row(p.q, p.dtype, index * p.q.batch, p.q.row, n, q_copy);
    }
    if (plain && p.b.row == 1 && rows.in_order) {
      b = static_cast<const double*>(p.b.data) + index * p.b.batch;
    } else {
      b = b_copy;
      for (index_t k = 0; k < m; k++) b_copy[k] = read(p.b, p.dtype, index * p.b.batch + rows.row_of[k] * p.b.row);
    }
    some_absent = false;
    __builtin_memset(absent, 0, m);
    // Unless all is finite, which is quickly seen, some rows may be absent.
    const bool finite_b = all_finite(b, m);
    if (!finite_b) {
      for (index_t k = 0; k < m; k++) {
        const bool gone = k >= rows.zero && k < rows.zero + rows.nonnegative && b[k] == __builtin_inf();
        absent[k] = gone;
        some_absent |= gone;
        b_copy[k] = gone ? 1 : b[k];
      }
      b = b_copy;
    }
    if (plain && p.A.col == 1 && p.A.row == n && rows.in_order && !some_absent) {
      A = static_cast<const double*>(p.A.data) + index * p.A.batch;
    } else {
      A = A_copy;
      for (index_t k = 0; k < m; k++)
        copy_row(p.A, p.dtype, index * p.A.batch + rows.row_of[k] * p.A.row, p.A.col, n, A_copy + k * n);
    }
    if (has_P) {
      if (plain && p.P.col == 1 && p.P.row == n) {
        P = static_cast<const double*>(p.P.data) + index * p.P.batch;
      } else {
        P = P_copy;
        for (index_t i = 0; i < n; i++)
          copy_row(p.P, p.dtype, index * p.P.batch + i * p.P.row, p.P.col, n, P_copy + i * n);
      }
    }
    bool finite = known == Known::finite || (all_finite(q, n) && (finite_b || all_finite(b, m)));
    if (known == Known::nothing) finite = finite && all_finite(A, m * n) && (!has_P || all_finite(P, n * n));
    if (!finite) return Gathered::invalid;
    if (some_absent)
      for (index_t k = rows.zero; k < rows.zero + rows.nonnegative; k++)
        if (absent[k])
          for (index_t j = 0; j < n; j++) A_copy[k * n + j] = 0;
    if (known == Known::matrices) return Gathered::good;
    return has_P ? symmetrise(symmetry_tolerance(!plain)) : Gathered::good;
  }

  // max |P_ij − P_ji|, four rows and columns at a time.
  double asymmetry() const {
    const index_t n = order, whole = n / 4 * 4;
    double4 worst{};
    for (index_t i = 0; i < whole; i += 4) {
      for (index_t j = 0; j <= i; j += 4) {
        const double* const upper[] = {P + j * n + i, P + (j + 1) * n + i, P + (j + 2) * n + i, P + (j + 3) * n + i};
        double4 mirrored[4], row;
        interleave(upper, index_t(4), mirrored, index_t(1));
        for (index_t r = 0; r < 4; r++) {
          __builtin_memcpy(&row, P + (i + r) * n + j, sizeof row);
          worst = maximum(absolute(double4(row - mirrored[r])), worst);
        }
      }
    }
    double difference = 0;
    for (int l = 0; l < 4; l++) difference = maximum(get_lane(worst, l), difference);
    for (index_t i = whole; i < n; i++)
      for (index_t j = 0; j < i; j++) difference = maximum(absolute(P[j * n + i] - P[i * n + j]), difference);
    return difference;
  }

  // Rounding may differ between the triangles; more than that is a mistake of the caller's.
  Gathered symmetrise(double tolerance) {
    const index_t n = order;
    double largest = 0;
    const double difference = asymmetry();
    if (difference == 0) return Gathered::good;
    for (index_t i = 0; i < n * n; i++) largest = maximum(absolute(P[i]), largest);
    if (difference > tolerance * largest) return Gathered::asymmetric;
    for (index_t i = 0; i < n; i++)
      for (index_t j = 0; j <= i; j++) P_copy[i * n + j] = 0.5 * P[i * n + j] + 0.5 * P[j * n + i];
    for (index_t i = 0; i < n; i++)
      for (index_t j = i + 1; j < n; j++) P_copy[i * n + j] = P_copy[j * n + i];
    P = P_copy;
    return Gathered::good;
  }
  index_t order = 0;  // n, set by the owner

  // Cholesky with a relative tolerance: false if P has a clearly negative direction. `work`: a packed triangle.
  bool convex(double* work) const {
    const index_t n = order;
    double largest = 0;
    for (index_t i = 0; i < n; i++) largest = maximum(absolute(P[i * n + i]), largest);
    const double tolerance = kConvexTolerance * (largest > 0 ? largest : 1);
    for (index_t i = 0; i < n; i++) {
      double* row = work + i * (i + 1) / 2;
      for (index_t j = 0; j <= i; j++) {
        const double* above = work + j * (j + 1) / 2;
        double t = P[i * n + j] + (i == j ? tolerance : 0);
        for (index_t k = 0; k < j; k++) t -= row[k] * above[k];
        if (i == j) {
          if (!(t > 0)) return false;
          row[i] = square_root(t);
        } else {
          row[j] = t / above[j];
        }
      }
    }
    return true;
  }

  void unscaled(const ConeRows& rows) {
    for (index_t j = 0; j < order; j++) D[j] = 1;
    for (index_t k = 0; k < rows.total; k++) E[k] = 1;
    c = 1;
  }
  void scale(const ConeRows& rows) { c = equilibrate(Alone{}, order, rows, has_P, P, q, A, D, E, column, row); }
};

}  // namespace GD_NAMESPACE
