// Projection onto the exponential cone cl{(r, s, t): s > 0, s·exp(r/s) ≤ t} and its derivative.
//
// Friberg, "Projection onto the exponential cone: a univariate root-finding problem", 2021. Where neither v nor −v is
// in a cone nor above the face {r ≤ 0, s = 0, t ≥ 0}, the projection is p = (αρ, α, T) and its polar part y = (−β, (ρ −
// 1)β, αβ/T), with α and β linear in v given ρ = r_p/s_p, T the positive root of T² − t T − αβ = 0, and ρ the root of
//
//     log T − log α = ρ        between  1 − s/r  (α = 0; −∞ if r ≤ 0)  and  r/s  (β = 0; ∞ if s ≤ 0).
//
// ρ is written by its distance to these ends, as e^τ from the only one or as a logistic function of τ between two:
// α and β keep all their digits, and the equation is nearly linear in τ at both ends.
#pragma once
#include "triple_projection.cuh"

namespace GD_NAMESPACE {

template <class T>
struct ExponentialEquation {
  T r, s, t;                // v, scaled
  T left, right;            // ends of the interval of ρ, where they are finite
  T width;                  // of the interval
  Mask<T> bounded, rising;  // both ends are finite; only the right one is, and the equation rises with τ
  // Filled by `evaluate`.
  T rho, alpha, beta, log_alpha_slope, log_beta_slope, rho_slope;

  GD_HD ExponentialEquation(T r, T s, T t) : r(r), s(s), t(t) {
    const T one = broadcast<T>(1), zero{};
    bounded = (r > zero) & (s > zero);
    rising = r <= zero;
    left = one - s / select(r == zero, one, r);
    right = r / select(s == zero, one, s);
    width = (r * r - r * s + s * s) / select(bounded, T(r * s), one);
  }

  // The root for v with this projection and polar part, or NaN or infinity where these do not tell.
  GD_HD T guess(const T (&primal)[3], const T (&polar)[3]) const {
    const T half = broadcast<T>(0.5), alpha = primal[1], beta = -polar[0], from_half = primal[0] / alpha - half;
    const T m = from_half * from_half + broadcast<T>(0.75);
    const T to_right = beta * m / s, from_left = alpha * m / r;
    return logarithm(select(bounded, T(from_left / to_right), select(rising, to_right, from_left)));
  }

  GD_HD void evaluate(T tau) {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5), zero{};
    const T exponent =
        select(bounded, T(-absolute(tau)), minimum(broadcast<T>(sizeof(Real<T>) == 8 ? 345. : 43.), tau));
    const T e = exponential(exponent);
    const T q = one / (one + e), eq = e * q;
    const Mask<T> up = tau > zero;
    const T sigma = select(up, q, eq), rest = select(up, eq, q);
    const Mask<T> near_left = select(bounded, sigma, zero) < select(rising, -one, half);
    const T from_left = select(bounded, T(width * sigma), e), to_right = select(bounded, T(width * rest), e);
    rho = select(near_left, T(left + from_left), T(right - to_right));
    const T inverse = one / ((rho - half) * (rho - half) + broadcast<T>(0.75));
    const T alpha_m = select(rising, T(s + (rho - one) * r), T(r * from_left));
    const T beta_m = select(bounded | rising, T(s * to_right), T(r - rho * s));
    alpha = alpha_m * inverse;
    beta = beta_m * inverse;
    rho_slope = select(bounded, T(width * sigma * rest), select(rising, T(-e), e));
    const T common = (rho + rho - one) * inverse * rho_slope;
    const T other = select(rising, r, s) * e / select(rising, alpha_m, select(beta_m == zero, one, beta_m));
    log_alpha_slope = select(bounded, rest, select(rising, T(-other), one)) - common;
    log_beta_slope = select(bounded, T(-sigma), select(rising, one, T(-other))) - common;
  }

  // T and αβ/T.
  GD_HD void last_row(T& primal, T& polar) const {
    const T product = alpha * beta, root = square_root(T(t * t + broadcast<T>(4) * product));
    const T large = broadcast<T>(0.5) * (root + absolute(t));
    const T small = safe_divide(product, large);
    const Mask<T> below = t < T{};
    primal = select(below, small, large);
    polar = select(below, large, small);
  }

  GD_HD ValueSlope<T> operator()(T tau) {
    const T half = broadcast<T>(0.5), tiny = broadcast<T>(sizeof(Real<T>) == 8 ? 1e-290 : 1e-36);
    evaluate(tau);
    const T root = maximum(square_root(T(t * t + broadcast<T>(4) * (alpha * beta))), tiny);
    const T large = half * (root + absolute(t));
    const Mask<T> below = t < T{};
    const T value = logarithm(T(select(below, beta, large) / select(below, large, alpha))) - rho;
    const T weight = half - half * t / root;  // d log T = weight · d log αβ
    const T slope = weight * (log_alpha_slope + log_beta_slope) - log_alpha_slope - rho_slope;
    return {select(rising, T(-value), value), select(rising, T(-slope), slope)};
  }

  // Near an end if that is close, where the equation is solved best; a step of one from the right end or the left one.
  GD_HD T start() const {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5);
    const T step = minimum(T(half * width), one);
    const T offset = logarithm(T(step / (width - step)));
    return select(bounded, select(right >= one, offset, T(-offset)), T{});
  }
};

// Π_K(v), its polar part, derivative and margin for v = (r, s, t). `guess`: of the root; not finite if there is none.
template <class T>
GD_HD TripleProjection<T> project_exponential(T r_, T s_, T t_, T guess = broadcast<T>(infinity())) {
  const bool wide = sizeof(Real<T>) == 8;
  const T one = broadcast<T>(1), zero{};
  const T scale = inverse_magnitude(maximum(maximum(absolute(r_), absolute(s_)), absolute(t_)));
  const T back = inverse_power_of_two(scale);
  const auto flush = [](T a) GD_LAMBDA {
    return select(absolute(a) < broadcast<T>(sizeof(Real<T>) == 8 ? 1e-100 : 1e-17), T{}, a);
  };
  const T r = flush(T(r_ * scale)), s = flush(T(s_ * scale)), t = flush(T(t_ * scale));
  const Mask<T> finite = (r_ - r_) + (s_ - s_) + (t_ - t_) == zero;

  // t ≥ s exp(r/s) and −t·e ≥ r exp(s/r), by logarithms.
  const Mask<T> above = (s > zero) & (t > zero), below = (r > zero) & (t < zero);
  const T divisor = select(above, s, select(below, r, one));
  const T quotient = logarithm(select(above | below, T(absolute(t) / divisor), one));
  const T slack = divisor * quotient - select(above, r, T(s - r));
  const Mask<T> inside = (above & (slack >= zero)) | ((s == zero) & (r <= zero) & (t >= zero));
  const Mask<T> outside = negate(inside) & ((below & (slack >= zero)) | ((r == zero) & (s <= zero) & (t <= zero)));
  const Mask<T> flat = negate(inside | outside) & (r <= zero) & (s <= zero);
  Mask<T> curved = finite & negate(inside | outside | flat);

  TripleProjection<T> out;
  T p[3], y[3], middle = zero, rest = one;
  GD_UNROLL for (int i = 0; i < 3; i++) { p[i] = y[i] = zero; }
  if (any(curved)) {
    ExponentialEquation<T> equation(select(curved, r, one), select(curved, s, one), select(curved, t, one));
    const double box = wide ? 460. : 43.;
    const Mask<T> known = absolute(guess) < broadcast<T>(box);
    const T tau = decreasing_root(equation, select(known, guess, equation.start()), box, curved);
    equation.evaluate(tau);
    const T rho = equation.rho, alpha = equation.alpha, beta = equation.beta;
    p[0] = alpha * rho;
    p[1] = alpha;
    y[0] = -beta;
    y[1] = (rho - one) * beta;
    equation.last_row(p[2], y[2]);
    // Curvature of the surface over that of the dual's: l / (1 − l) = α num / (β den), both over e^{2ρ} where that is
    // large.
    const T e = exponential(T(broadcast<T>(-2) * absolute(rho)));
    const T big = select(rho > zero, one, e), small = select(rho > zero, e, one);
    const T stiff = alpha * (big * (one + (one - rho) * (one - rho)) + small);
    const T loose = beta * ((rho * rho + one) * small + big);
    const T sum = stiff + loose;
    middle = safe_divide(stiff, sum);
    rest = safe_divide(loose, sum);
  }
  const T tiny = broadcast<T>(wide ? 1e-150 : 1e-30);
  const Mask<T> on_cone = curved & (maximum(maximum(absolute(y[0]), absolute(y[1])), absolute(y[2])) < tiny);
  const Mask<T> on_polar = curved & (maximum(maximum(absolute(p[0]), absolute(p[1])), absolute(p[2])) < tiny);
  curved = curved & negate(on_cone | on_polar);

  const Mask<T> keep = inside | on_cone, none = outside | on_polar;
  const T v[3] = {r_, s_, t_}, w[3] = {r, s, t};
  const T nothing = broadcast<T>(not_a_number());
  GD_UNROLL for (int i = 0; i < 3; i++) {
    // Above the face {r ≤ 0, s = 0, t ≥ 0}: r is kept, s goes, t is clipped.
    const Mask<T> positive = i == 0 ? every_lane<T>() : i == 1 ? no_lane<T>() : w[i] > zero;
    const T flat_p = select(positive, v[i], zero), flat_y = select(positive, zero, T(-v[i]));
    out.primal[i] = select(keep, v[i], select(none, zero, select(flat, flat_p, T(p[i] * back))));
    out.polar[i] = select(keep, zero, select(none, T(-v[i]), select(flat, flat_y, T(y[i] * back))));
    out.primal[i] = select(finite, out.primal[i], nothing);
    out.polar[i] = select(finite, out.polar[i], nothing);
    const T along = i == 0 ? one : i == 1 ? middle : zero, across = i == 0 ? zero : i == 1 ? rest : one;
    out.l[i] = select(keep, one, select(none, zero, select(flat, select(positive, one, zero), along)));
    out.lc[i] = select(keep, zero, select(none, one, select(flat, select(positive, zero, one), across)));
    out.l[i] = select(finite, out.l[i], nothing);
    out.lc[i] = select(finite, out.lc[i], nothing);
  }
  out.curved = curved;

  // Inside, to the surface s log(t/s) = r and to the edges; outside likewise; else where p or y vanishes, and from the
  // half-planes at which the face begins and ends.
  const T gradient = quotient - select(above, one, zero), ratio = divisor / select(t == zero, one, t);
  const T surface = slack / square_root(T(one + gradient * gradient + ratio * ratio));
  const T edges = minimum(select(above, s, select(below, r, zero)), absolute(t));
  const T p_size = square_root(T(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]));
  const T y_size = square_root(T(y[0] * y[0] + y[1] * y[1] + y[2] * y[2]));
  T margin = minimum(minimum(p_size, y_size), maximum(r, s));
  margin = select(flat, minimum(minimum(absolute(r), absolute(s)), absolute(t)), margin);
  margin = select(inside | outside, select(above | below, minimum(surface, edges), zero), margin);
  out.margin = select(finite, T(maximum(margin, zero) * back), nothing);
  return out;
}

}  // namespace GD_NAMESPACE
