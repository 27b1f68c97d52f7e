// One problem on its way from the caller's arrays into a group's memory: looked at, equilibrated, loaded.
#pragma once
#include "../../equilibrate.cuh"
#include "../data_rules.cuh"
#include "structure.cuh"

namespace GD_NAMESPACE {

// One problem's part of an array of the batch.
struct View {
  const Data* data;
  long long row, column;

  GD_DEVICE View(const gd_tensor& t, long long index, long long direction = 0)
      : data(static_cast<const Data*>(t.data) + index * t.batch + direction * t.direction), row(t.row), column(t.col) {}
  GD_DEVICE double operator()(index_t i, index_t j) const { return double(data[i * row + j * column]); }
  GD_DEVICE double operator[](index_t i) const { return double(data[i * row]); }
};
// The same to write to; nothing happens where the array is absent.
struct Target {
  Data* data;
  long long row, column;

  GD_DEVICE Target(const gd_tensor& t, long long index, long long direction = 0)
      : data(t.data ? static_cast<Data*>(t.data) + index * t.batch + direction * t.direction : nullptr), row(t.row),
        column(t.col) {}
  GD_DEVICE explicit operator bool() const { return data != nullptr; }
  GD_DEVICE void set(index_t i, index_t j, double value) const { data[i * row + j * column] = Data(value); }
  GD_DEVICE void set(index_t i, double value) const { data[i * row] = Data(value); }
};

// The constraints in the kernel's row order, absent rows empty.
struct Constraints {
  View A;
  const unsigned char* absent;

  GD_DEVICE double operator()(index_t k, index_t j) const { return absent[k] ? 0.0 : A(caller_row(k), j); }
};

GD_DEVICE bool is_finite(double a) { return absolute(a) <= 1.7976931348623157e308; }

struct Problem {
  View P, q, A, b;

  GD_DEVICE Problem(const gd_tensor& P_, const gd_tensor& q_, const gd_tensor& A_, const gd_tensor& b_, long long index)
      : P(P_, index), q(q_, index), A(A_, index), b(b_, index) {}

  // Notes which rows are absent, those with b = +inf; the caller must have all members wait before they read that.
  template <class G>
  GD_DEVICE void find_absent(const G& g, unsigned char* absent) const {
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      const bool may_be = k >= GD_ZERO_ROWS && k < GD_ZERO_ROWS + GD_NONNEGATIVE_ROWS;
      absent[k] = may_be && b[caller_row(k)] == infinity() ? 1 : 0;
    }
  }

  // Whether all numbers are finite and P is symmetric up to rounding. Every member gets the answer.
  template <class G>
  GD_DEVICE bool acceptable(const G& g, const unsigned char* absent) const {
    return look(g, absent, true).good;
  }
  // The same, and whether P is symmetric to the last bit. Without `matrices`, P and A are not looked at.
  struct Looks {
    bool good, symmetric;
  };
  template <class G>
  GD_DEVICE Looks look(const G& g, const unsigned char* absent, bool matrices) const {
    double r[3] = {0, 0, 0};  // a fault; the largest difference between the triangles of P; its largest entry
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      if (!absent[k] && !is_finite(b[caller_row(k)])) r[0] = 1;
    }
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
      if (!is_finite(q[j])) r[0] = 1;
    }
    GD_UNROLL_FOUR for (index_t e = matrices ? g.rank() : kTotalRows * GD_N; e < kTotalRows * GD_N; e += g.size()) {
      if (!is_finite(A(e / kPitch, e % kPitch))) r[0] = 1;
    }
#if GD_HAS_P
    GD_UNROLL_FOUR for (index_t e = matrices ? g.rank() : GD_N * GD_N; e < GD_N * GD_N; e += g.size()) {
      const double here = P(e / kPitch, e % kPitch), mirrored = P(e % kPitch, e / kPitch);
      if (!is_finite(here)) r[0] = 1;
      r[1] = maximum(absolute(here - mirrored), r[1]);
      r[2] = maximum(absolute(here), r[2]);
    }
#endif
    g.maxima(r);
    return {r[0] == 0 && r[1] <= r[2] * symmetry_tolerance(sizeof(Data) == 4), r[1] == 0};
  }

  // Fills D and E of `kept`; returns the cost factor c.
  template <class G>
  GD_DEVICE double equilibrate(const G& g, const Shape& shape, const Kept<Quick>& kept, char* scratch_base) const {
    EquilibrationScratch w;
    w.carve(shape, scratch_base);
    const double c = GD_NAMESPACE::equilibrate(g, shape.n, shape.rows, bool(GD_HAS_P), P, q,
                                               Constraints{A, kept.absent}, w.D, w.E, w.column, w.row);
    GD_NO_UNROLL for (index_t j = g.rank(); j < shape.n; j += g.size()) kept.D[j] = float(w.D[j]);
    GD_NO_UNROLL for (index_t k = g.rank(); k < shape.m(); k += g.size()) kept.E[k] = float(w.E[k]);
    g.sync();
    return c;
  }

  // The equilibrated problem, with what belongs into the padding.
  template <class T, class G>
  GD_DEVICE void load(const G& g, const Kept<Quick>& kept, double c, const System<T>& w, T* unit_x, T* unit_z) const {
    const index_t n = w.shape.n, m = w.shape.m(), columns = w.shape.columns(), pitch = columns > 0 ? columns : 1;
    const Constraints constraints{A, kept.absent};
    GD_UNROLL_FOUR for (index_t e = g.rank(); e < padded(m) * columns; e += g.size()) {
      const index_t k = e / pitch, j = e % pitch;
      double a = 0;
      if (k < m && j < n) a = constraints(k, j) * (double(kept.D[j]) * double(kept.E[k]));
      w.A.at(k, j) = T(a);
    }
    GD_UNROLL_FOUR for (index_t e = g.rank(); e < columns * columns; e += g.size()) {
      const index_t i = e / pitch, j = e % pitch;
      if (j / kTile > i / kTile) continue;
      double p = i == j && i >= n ? 1 : 0;
#if GD_HAS_P
      if (i < n && j < n)  // halves first: the mean of two equal numbers is that number
        p = (0.5 * P(i, j) + 0.5 * P(j, i)) * (double(kept.D[i]) * double(kept.D[j])) * c;
#endif
      w.P.at(i, j) = T(p);
    }
    GD_NO_UNROLL for (index_t j = g.rank(); j < n; j += g.size()) {
      w.q[j] = T(q[j] * double(kept.D[j]) * c);
      unit_x[j] = T(1 / (double(kept.D[j]) * c));
    }
    GD_NO_UNROLL for (index_t k = g.rank(); k < m; k += g.size()) {
      w.b[k] = T(kept.absent[k] ? 1.0 : b[caller_row(k)] * double(kept.E[k]));
      unit_z[k] = T(1 / double(kept.E[k]));
    }
  }

#if GD_HAS_P
  // Cholesky with a relative tolerance: false if P has a clearly negative direction. `work`: a packed triangle.
  template <class G>
  GD_DEVICE bool convex(const G& g, double* work) const {
    double largest = 0;
    GD_NO_UNROLL for (index_t i = g.rank(); i < GD_N; i += g.size()) largest = maximum(absolute(P(i, i)), largest);
    largest = g.max(largest);
    const double tolerance = kConvexTolerance * (largest > 0 ? largest : 1);
    GD_NO_UNROLL for (index_t i = g.rank(); i < GD_N; i += g.size()) {
      for (index_t j = 0; j <= i; j++)
        work[i * (i + 1) / 2 + j] = 0.5 * P(i, j) + 0.5 * P(j, i) + (i == j ? tolerance : 0);
    }
    bool good = true;
    for (index_t j = 0; j < GD_N && good; j++) {
      g.sync();
      const double pivot = work[j * (j + 1) / 2 + j];
      good = pivot > 0;
      const double inverse = inverse_square_root(good ? pivot : 1.0);
      GD_NO_UNROLL for (index_t i = j + 1 + g.rank(); i < GD_N; i += g.size()) work[i * (i + 1) / 2 + j] *= inverse;
      g.sync();
      GD_NO_UNROLL for (index_t i = j + 1 + g.rank(); i < GD_N; i += g.size()) {
        for (index_t l = j + 1; l <= i; l++)
          work[i * (i + 1) / 2 + l] -= work[i * (i + 1) / 2 + j] * work[l * (l + 1) / 2 + j];
      }
    }
    g.sync();
    return good;
  }
#endif
};

// Sets a stage's vectors to zero: products read the padding of some, and what lay here before may not be finite.
template <class G>
GD_DEVICE void clear(const G& g, char* memory, index_t bytes) {
  struct alignas(16) Line {
    double value[2];
  };
  g.sync();
  GD_NO_UNROLL for (index_t i = g.rank(); i < bytes / 16; i += g.size()) {
    reinterpret_cast<Line*>(memory)[i] = Line{{0, 0}};
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
