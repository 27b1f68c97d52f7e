// Projections and their derivatives for one cone at a time, of every kind that gd_project knows.
//
// The lanes of T hold different points, or on a GPU a thread or a group of threads holds one. Rows are read and written
// through accessors: `in[i]` and `out.set(i, value)`, so that what lies in the caller's arrays need not be copied.
#pragma once
#include "../cones/exponential_projection.cuh"
#include "../cones/power_projection.cuh"
#include "../cones/psd_projection.cuh"
#include "gpudiff.h"

namespace GD_NAMESPACE {

// Rows that lie one behind the other.
template <class T>
struct RowsOf {
  T* rows;

  GD_HD T operator[](index_t i) const { return rows[i]; }
  GD_HD void set(index_t i, T value) const { rows[i] = value; }
};

// Whether a kind of cones is projected onto by the polar part of its dual's projection at −v; `dual`: onto its dual.
GD_HD bool by_polar_part(int kind, bool dual) {
  if (kind == GD_DUAL_EXPONENTIAL || kind == GD_DUAL_POWER) return !dual;
  return (kind == GD_EXPONENTIAL || kind == GD_POWER) && dual;
}

// A row of a zero, free or nonnegative cone. What is not finite gives NaN.
template <class T>
GD_HD T project_row(bool zero, bool nonnegative, T v) {
  const T nothing = v - v;
  return zero ? nothing : nonnegative ? T(select(v > T{}, v, T{}) + nothing) : T(v + nothing);
}
template <class T>
GD_HD T differentiate_row(bool zero, bool nonnegative, T v, T h) {
  const T nothing = v - v;
  return zero ? nothing : nonnegative ? T(select(v > T{}, h, T{}) + nothing) : T(h + nothing);
}

// A second-order cone of `rows` rows, two at least: eigenvalues t ± |x| (Fukushima, Luo & Tseng 2002). Derivatives go
// to `derivative` if `direction` is there.
template <class T, class In, class Out>
GD_HD void project_second_order(index_t rows, const In& v, const Out* primal, const In* direction,
                                const Out* derivative) {
  const T one = broadcast<T>(1), half = broadcast<T>(0.5), zero{};
  T largest{}, nothing{};
  GD_NO_UNROLL for (index_t i = 0; i < rows; i++) {
    const T a = v[i];
    largest = maximum(absolute(a), largest);
    nothing += a - a;
  }
  const T scale = inverse_magnitude(largest), t = v[0] * scale;
  T square{};
  GD_NO_UNROLL for (index_t i = 1; i < rows; i++) {
    const T a = v[i] * scale;
    square += a * a;
  }
  const T n = square_root(square), high = t + n, low = t - n;
  const Mask<T> inside = low >= zero, outside = high <= zero;
  const T inverse = safe_divide(one, n);
  if (primal) {
    const T tilt = select(outside, zero, T(half * high * inverse));
    primal->set(0,
                T(select(inside, v[0], select(outside, zero, T(half * high * inverse_power_of_two(scale)))) + nothing));
    GD_NO_UNROLL for (index_t i = 1; i < rows; i++) {
      const T a = v[i];
      primal->set(i, T(select(inside, a, T(tilt * a)) + nothing));
    }
  }
  if (direction) {
    const In& h = *direction;
    T along{};
    GD_NO_UNROLL for (index_t i = 1; i < rows; i++) along += (v[i] * scale * inverse) * h[i];
    const T plus = select(outside, zero, one), minus = select(low > zero, one, zero);
    const T middle = select(outside, zero, select(inside, one, T(half * high * inverse)));
    const T head = h[0], p = plus * (half * (head + along)), r = minus * (half * (head - along));
    const T tilt = p - r - middle * along;
    derivative->set(0, T(p + r + nothing));
    GD_NO_UNROLL for (index_t i = 1; i < rows; i++) {
      derivative->set(i, T(middle * h[i] + (v[i] * scale * inverse) * tilt + nothing));
    }
  }
}

// An exponential or a power cone (`a`: its exponents, b = 1 − a), or with `polar` their duals.
template <class T, class In, class Out>
GD_HD void project_triple(bool exponential, bool polar, T a, T b, const In& v, const Out* primal, const In* direction,
                          const Out* derivative) {
  T w[3];
  GD_UNROLL for (int i = 0; i < 3; i++) {
    const T x = v[i];
    w[i] = polar ? T(-x) : x;
  }
  const TripleProjection<T> found =
      exponential ? project_exponential(w[0], w[1], w[2]) : project_power(w[0], w[1], w[2], a, b);
  if (primal) {
    GD_UNROLL for (int i = 0; i < 3; i++) { primal->set(i, polar ? found.polar[i] : found.primal[i]); }
  }
  if (direction) {
    T frame[3][3], weight[3], h[3], out[3];
    derivative_frame(found, frame);
    GD_UNROLL for (int i = 0; i < 3; i++) {
      weight[i] = polar ? found.lc[i] : found.l[i];
      h[i] = (*direction)[i];
    }
    apply_frame(frame, weight, h, out);
    GD_UNROLL for (int i = 0; i < 3; i++) { derivative->set(i, out[i]); }
  }
}

// Words that a semidefinite cone of an order needs.
GD_HD constexpr index_t semidefinite_work(index_t order) { return 4 * order * order + order + order * (order + 1); }

// A semidefinite cone; all members of a group call.
template <class T, class G, class In, class Out>
GD_HD void project_semidefinite(const G& g, index_t order, const In& v, const Out* primal, const In* direction,
                                const Out* derivative, T* work) {
  const index_t rows = order * (order + 1) / 2;
  T *vectors = work, *values = vectors + order * order, *scratch = values + order;
  T *from = scratch + 3 * order * order, *to = from + rows;
  g.sync();  // the last cone's rows have been read
  T nothing{};
  GD_NO_UNROLL for (index_t i = g.rank(); i < rows; i += g.size()) {
    const T a = v[i];
    from[i] = a;
    nothing += a - a;
  }
  nothing = g.sum(nothing);
  g.sync();
  project_psd(g, order, from, to, static_cast<T*>(nullptr), vectors, values, scratch);
  if (primal) {
    GD_NO_UNROLL for (index_t i = g.rank(); i < rows; i += g.size()) primal->set(i, T(to[i] + nothing));
  }
  if (direction) {
    g.sync();
    GD_NO_UNROLL for (index_t i = g.rank(); i < rows; i += g.size()) from[i] = (*direction)[i];
    g.sync();
    differentiate_psd(g, order, vectors, values, false, from, to, scratch);
    GD_NO_UNROLL for (index_t i = g.rank(); i < rows; i += g.size()) derivative->set(i, T(to[i] + nothing));
  }
}

}  // namespace GD_NAMESPACE
