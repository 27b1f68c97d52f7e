// What the projections onto the cones of three rows have in common: their result, the frame of their derivative, and
// the root of one equation in one unknown.
//
// With p = Π_K(v) and its polar part y = Π_{K*}(−v) = p − v, pᵀy = 0. Where both are nonzero and v is not above a face,
// DΠ_K(v) has the eigenvectors p/|p| (eigenvalue 1: K is a cone), y/|y| (eigenvalue 0: so is K*) and n = p × y /
// |p||y|, whose eigenvalue 1/(1 + ratio of curvature) is all that is left to find.
#pragma once
#include "../elementary.cuh"

namespace GD_NAMESPACE {

template <class T>
struct TripleProjection {
  T primal[3];     // Π_K(v)
  T polar[3];      // Π_{K*}(−v), never by subtraction
  T l[3], lc[3];   // eigenvalues of DΠ_K(v) and what they lack to 1, each computed for itself
  T margin;        // distance, to first order where it is small, to the nearest v at which Π is not differentiable
  Mask<T> curved;  // the eigenvectors are those above; otherwise they are the coordinates' axes
};

// The eigenvectors of DΠ_K(v), orthonormal rows in the order of l.
template <class T>
GD_HD void derivative_frame(const TripleProjection<T>& projection, T (&frame)[3][3]) {
  const T one = broadcast<T>(1), zero{};
  const T *p = projection.primal, *y = projection.polar;
  const T p_scale = inverse_magnitude(maximum(maximum(absolute(p[0]), absolute(p[1])), absolute(p[2])));
  const T y_scale = inverse_magnitude(maximum(maximum(absolute(y[0]), absolute(y[1])), absolute(y[2])));
  T a[3], n[3], d[3];
  GD_UNROLL for (int i = 0; i < 3; i++) {
    a[i] = p[i] * p_scale;
    d[i] = y[i] * y_scale;
  }
  const auto normalise = [&](T(&x)[3]) GD_LAMBDA {
    const T inverse = safe_divide(one, square_root(T(x[0] * x[0] + x[1] * x[1] + x[2] * x[2])));
    GD_UNROLL for (int i = 0; i < 3; i++) { x[i] = x[i] * inverse; }
  };
  const auto cross = [](const T(&x)[3], const T(&z)[3], T(&out)[3]) GD_LAMBDA {
    GD_UNROLL for (int i = 0; i < 3; i++) {
      out[i] = x[(i + 1) % 3] * z[(i + 2) % 3] - x[(i + 2) % 3] * z[(i + 1) % 3];
    }
  };
  normalise(a);
  cross(a, d, n);
  normalise(n);
  cross(n, a, d);
  GD_UNROLL for (int i = 0; i < 3; i++) {
    frame[0][i] = select(projection.curved, a[i], i == 0 ? one : zero);
    frame[1][i] = select(projection.curved, n[i], i == 1 ? one : zero);
    frame[2][i] = select(projection.curved, d[i], i == 2 ? one : zero);
  }
}

// out = DΠ_K(v) x, or with the complements of the eigenvalues I − DΠ_K(v), which is DΠ_{K*}(−v).
template <class T>
GD_HD void apply_frame(const T (&frame)[3][3], const T (&weight)[3], const T* x, T* out) {
  T r[3] = {};
  GD_UNROLL for (int i = 0; i < 3; i++) {
    const T along = weight[i] * (frame[i][0] * x[0] + frame[i][1] * x[1] + frame[i][2] * x[2]);
    GD_UNROLL for (int j = 0; j < 3; j++) { r[j] += along * frame[i][j]; }
  }
  GD_UNROLL for (int j = 0; j < 3; j++) { out[j] = r[j]; }
}

// A value of a function, and its slope.
template <class T>
struct ValueSlope {
  T value, slope;
};

// The zero in [−box, box] of a decreasing function, or the end nearer to it: Newton's method, which falls back to the
// ends until both have been seen to be beyond the zero, and to bisection afterwards. In the lanes of `wanted`; others
// keep `start`. A lane stops by itself, and no lane's bits depend on another's.
template <class T, class Function>
GD_HD T decreasing_root(Function& function, T start, double box, Mask<T> wanted) {
  constexpr int kIterations = 60;  // seven are usual; only bisection takes more than 16
  const bool wide = sizeof(Real<T>) == 8;
  const T half = broadcast<T>(0.5), one = broadcast<T>(1), zero{};
  const T last_step = broadcast<T>(wide ? 0x1p-27 : 0x1p-12);  // squared: Newton's error after it
  T x = start, low = broadcast<T>(-box), high = broadcast<T>(box), before = high, twice_before = high;
  Mask<T> seen_low = no_lane<T>(), seen_high = no_lane<T>(), going = wanted;
  GD_NO_UNROLL for (int i = 0; i < kIterations && any(going); i++) {
    const ValueSlope<T> f = function(x);
    const Mask<T> right = f.value > zero;  // of x lies the zero
    const Mask<T> at_end = (right & (x >= broadcast<T>(box))) | (negate(right) & (x <= broadcast<T>(-box)));
    low = select(right, x, low);
    high = select(right, high, x);
    seen_low = seen_low | right;
    seen_high = seen_high | negate(right);
    const T step = -f.value / select(f.slope < zero, f.slope, -one);
    const T newton = x + step, length = absolute(step);
    // A last step may cross an end of the bracket by rounding; one to the middle of it is never the last.
    const Mask<T> last = (f.slope < zero) & (length <= last_step);
    const Mask<T> good = (f.slope < zero) & (newton > low) & (newton < high);
    const Mask<T> both = seen_low & seen_high;
    const Mask<T> slow = both & (length > half * twice_before);
    T next = select(both, T(half * low + half * high), select(right, high, low));
    next = select(last | (good & negate(slow)), newton, next);
    next = select(at_end, x, next);
    twice_before = before;
    before = length;
    const Mask<T> done = last | at_end | (next == x);
    x = select(going, next, x);
    going = going & negate(done);
  }
  return x;
}

}  // namespace GD_NAMESPACE
