// Projection onto the power cone {(x, y, z): xᵃ yᵇ ≥ |z|, x, y ≥ 0} with a + b = 1, and its derivative.
//
// Hien, "Differential properties of Euclidean projection onto power cone", 2015. Where neither v nor −v is in a cone
// and z ≠ 0, the projection has |z_p| = θ|z| and x_p the positive root of x² − v_x x − a θ(1 − θ)z² = 0, y_p alike with
// b; the polar part has the other roots and (1 − θ)|z|. That leaves xᵃ yᵇ = θ|z| for θ between 0 and 1, or
//
//     a log(x/θ|z|) + b log(y/θ|z|) = 0,   decreasing in τ with θ = 1/(1 + e^(−2τ)).
//
// In these quotients nothing cancels or underflows: for v_x < 0 the first is a(1 − θ)|z| over the large root.
#pragma once
#include "triple_projection.cuh"

namespace GD_NAMESPACE {

template <class T>
struct PowerEquation {
  T v[2], z;             // v with |z|, scaled
  T weight[2], root[2];  // a and b, and their square roots
  // Filled by `evaluate`.
  T theta, rest;             // θ and 1 − θ
  T large[2], geometric[2];  // the larger root in absolute value, and the square root of the product of both

  GD_HD PowerEquation(T x, T y, T z, T a, T b) : v{x, y}, z(z), weight{a, b}, root{square_root(a), square_root(b)} {}

  // The root for v with this projection and polar part, or NaN or infinity where these do not tell.
  static GD_HD T guess(const T (&primal)[3], const T (&polar)[3]) {
    return broadcast<T>(0.5) * logarithm(T(absolute(primal[2]) / absolute(polar[2])));
  }

  GD_HD void evaluate(T tau) {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5), two = broadcast<T>(2), zero{};
    const T e = exponential(T(-absolute(tau))), square = e * e;
    const T q = one / (one + square);
    const Mask<T> up = tau > zero;
    theta = select(up, q, T(square * q));
    rest = select(up, T(square * q), q);
    const T middle = e * q * z;  // √(θ(1 − θ)) |z|
    GD_UNROLL for (int i = 0; i < 2; i++) {
      const T w = root[i] * middle, twice = two * w;
      geometric[i] = w;
      // Where v is 0 the square of w might underflow.
      large[i] = select(v[i] == zero, w, T(half * (absolute(v[i]) + square_root(T(v[i] * v[i] + twice * twice)))));
    }
  }

  GD_HD T small(int i) const { return geometric[i] * (geometric[i] / large[i]); }
  GD_HD T primal(int i) const { return select(v[i] < T{}, small(i), large[i]); }
  GD_HD T polar(int i) const { return select(v[i] < T{}, large[i], small(i)); }

  GD_HD ValueSlope<T> operator()(T tau) {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5), two = broadcast<T>(2), zero{};
    evaluate(tau);
    const T tip = theta * z, rest_z = rest * z;
    T value = zero, share = zero;
    GD_UNROLL for (int i = 0; i < 2; i++) {
      const Mask<T> negative = v[i] < zero;
      value +=
          weight[i] * logarithm(T(select(negative, T(weight[i] * rest_z), large[i]) / select(negative, large[i], tip)));
      // (x − v)/(2x − v), and 2x − v = 2 large − |v|.
      share += weight[i] * (half - half * v[i] / select(v[i] == zero, one, T(two * large[i] - absolute(v[i]))));
    }
    return {value, T(-two * ((one - share) * rest + share * theta))};
  }
};

// Π_K(v), its polar part, derivative and margin for v = (x, y, z) and exponents a, b, of which none is below 1e-6.
// `guess`: of the root; 0 if there is none.
template <class T>
GD_HD TripleProjection<T> project_power(T x_, T y_, T z_, T a, T b, T guess = broadcast<T>(0)) {
  const bool wide = sizeof(Real<T>) == 8;
  const T one = broadcast<T>(1), half = broadcast<T>(0.5), zero{};
  const T scale = inverse_magnitude(maximum(maximum(absolute(x_), absolute(y_)), absolute(z_)));
  const T back = inverse_power_of_two(scale);
  const auto flush = [](T u) GD_LAMBDA {
    return select(absolute(u) < broadcast<T>(sizeof(Real<T>) == 8 ? 1e-100 : 1e-17), T{}, u);
  };
  const T x = flush(T(x_ * scale)), y = flush(T(y_ * scale)), signed_z = flush(T(z_ * scale)), z = absolute(signed_z);
  const Mask<T> finite = (x_ - x_) + (y_ - y_) + (z_ - z_) == zero;

  // xᵃ yᵇ ≥ |z|, and (−x/a)ᵃ (−y/b)ᵇ ≥ |z|, by logarithms.
  const Mask<T> above = (x > zero) & (y > zero) & (z > zero), below = (x < zero) & (y < zero) & (z > zero);
  const Mask<T> both = above | below;
  const T x_part = select(both, T(absolute(x) / select(below, a, one)), one);
  const T y_part = select(both, T(absolute(y) / select(below, b, one)), one);
  const T safe_z = select(both, z, one);
  const T slack = a * logarithm(T(x_part / safe_z)) + b * logarithm(T(y_part / safe_z));
  const Mask<T> inside = (above & (slack >= zero)) | ((x >= zero) & (y >= zero) & (z == zero));
  const Mask<T> outside = negate(inside) & ((below & (slack >= zero)) | ((x <= zero) & (y <= zero) & (z == zero)));
  const Mask<T> flat = negate(inside | outside) & (z == zero);
  Mask<T> curved = finite & negate(inside | outside | flat);

  TripleProjection<T> out;
  T p[3], d[3], middle = zero, rest = one;
  GD_UNROLL for (int i = 0; i < 3; i++) { p[i] = d[i] = zero; }
  if (any(curved)) {
    PowerEquation<T> equation(select(curved, x, one), select(curved, y, one), select(curved, z, one), a, b);
    const double box = wide ? 230. : 21.;
    const T tau = decreasing_root(equation, select(absolute(guess) < broadcast<T>(box), guess, zero), box, curved);
    equation.evaluate(tau);
    GD_UNROLL for (int i = 0; i < 2; i++) {
      p[i] = equation.primal(i);
      d[i] = equation.polar(i);
    }
    const T tip = equation.theta * equation.z;
    p[2] = select(signed_z < zero, T(-tip), tip);
    d[2] = equation.rest * select(signed_z < zero, equation.z, T(-equation.z));
    // Curvature of the surface over that of the dual's, with z_p = xᵃ yᵇ, everything beside the larger of x and y.
    const T larger = maximum(p[0], p[1]), ex = p[0] / larger, ey = p[1] / larger, ez = tip / larger;
    const T cross = ex * safe_divide(ey, ez);
    const T stiff = equation.theta * (a * a * ey * ey + b * b * ex * ex + cross * cross);
    const T loose = equation.rest * (a * b * (ex * ex + ey * ey + ez * ez));
    const T sum = stiff + loose;
    middle = safe_divide(stiff, sum);
    rest = safe_divide(loose, sum);
  }
  const T tiny = broadcast<T>(wide ? 1e-150 : 1e-30);
  const Mask<T> on_cone = curved & (maximum(maximum(d[0], d[1]), absolute(d[2])) < tiny);
  const Mask<T> on_polar = curved & (maximum(maximum(p[0], p[1]), absolute(p[2])) < tiny);
  curved = curved & negate(on_cone | on_polar);

  // z = 0 and one of x and y negative: as z → 0, θ → 0 if the exponent of the negative one is above ½, and 1 if below;
  // at ½ it is y/(y − 2x) for a negative x.
  const Mask<T> x_negative = x < zero;
  const T exponent = select(x_negative, a, b);
  const T kept = absolute(select(x_negative, y, x)), clipped = absolute(select(x_negative, T(x + x), T(y + y)));
  const T share = safe_divide(kept, T(kept + clipped)), missing = safe_divide(clipped, T(kept + clipped));
  const T flat_l = select(exponent > half, zero, select(exponent < half, one, share));
  const T flat_lc = select(exponent > half, one, select(exponent < half, zero, missing));

  const Mask<T> keep = inside | on_cone, none = outside | on_polar;
  const T v[3] = {x_, y_, z_}, w[3] = {x, y, zero};
  const T nothing = broadcast<T>(not_a_number());
  GD_UNROLL for (int i = 0; i < 3; i++) {
    const Mask<T> positive = w[i] > zero;
    const T flat_p = select(positive, v[i], zero), flat_y = select(positive, zero, T(-v[i]));
    out.primal[i] = select(keep, v[i], select(none, zero, select(flat, flat_p, T(p[i] * back))));
    out.polar[i] = select(keep, zero, select(none, T(-v[i]), select(flat, flat_y, T(d[i] * back))));
    out.primal[i] = select(finite, out.primal[i], nothing);
    out.polar[i] = select(finite, out.polar[i], nothing);
    const T along = i == 0 ? one : i == 1 ? middle : zero, across = i == 0 ? zero : i == 1 ? rest : one;
    const T axis = i == 2 ? flat_l : select(positive, one, zero),
            axis_rest = i == 2 ? flat_lc : select(positive, zero, one);
    out.l[i] = select(finite, select(keep, one, select(none, zero, select(flat, axis, along))), nothing);
    out.lc[i] = select(finite, select(keep, zero, select(none, one, select(flat, axis_rest, across))), nothing);
  }
  out.curved = curved;

  // Inside, to the surface (its gradient is that of the geometric mean); outside likewise; else where p or y vanishes.
  const T mean = safe_z * exponential(minimum(slack, broadcast<T>(wide ? 300. : 40.)));
  const T x_slope = a * mean / select(both, absolute(x), one), y_slope = b * mean / select(both, absolute(y), one);
  const T surface = (mean - z) / square_root(T(one + x_slope * x_slope + y_slope * y_slope));
  const T edges = minimum(absolute(x), absolute(y));
  const T p_size = square_root(T(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]));
  const T d_size = square_root(T(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]));
  T margin = minimum(p_size, d_size);
  margin = select(inside | outside, minimum(edges, select(both, surface, edges)), select(flat, edges, margin));
  out.margin = select(finite, T(maximum(margin, zero) * back), nothing);
  return out;
}

}  // namespace GD_NAMESPACE
