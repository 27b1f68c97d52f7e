// The power cone {(x, y, z): xᵅ yᵝ ≥ |z|, x, y ≥ 0} with α + β = 1 and its dual {(u/α)ᵅ (v/β)ᵝ ≥ |w|, u, v ≥ 0}.
//
// Barrier of the dual (Chares 2009; Goulart & Chen 2024), of degree 3:
//
//     f*(z) = −log ψ − β log z₀ − α log z₁,   ψ = φ − z₂²,   φ = (z₀/α)²ᵅ (z₁/β)²ᵝ.
//
// In the dual cone, (u/α, v/β, w) is in the primal one.
#pragma once
#include "power_projection.cuh"
#include "triple_central.cuh"

namespace GD_NAMESPACE {

struct PowerCones : TripleCones<PowerCones> {
  const double* alpha;  // of each cone

  template <class T>
  struct Exponents {
    T a, b, over_a, over_b;
  };
  template <class T>
  GD_HD Exponents<T> parameters(index_t c) const {
    const double a = alpha[c], b = 1 - a;
    return {broadcast<T>(a), broadcast<T>(b), broadcast<T>(1 / a), broadcast<T>(1 / b)};
  }

  template <class T>
  static GD_HD void centre(const Exponents<T>& p, T (&v)[3]) {
    const T one = broadcast<T>(1);
    v[0] = square_root(T(one + p.a));
    v[1] = square_root(T(one + p.b));
    v[2] = T{};
  }
  template <class T>
  static GD_HD void forward(const Exponents<T>& p, T (&v)[3]) {
    v[0] = v[0] * p.over_a;
    v[1] = v[1] * p.over_b;
  }
  template <class T>
  static GD_HD void backward(const Exponents<T>& p, T (&v)[3]) {
    v[0] = v[0] * p.a;
    v[1] = v[1] * p.b;
  }

  // x²ᵅ y²ᵝ, as (x/y)²ᵅ y²: one logarithm instead of two.
  template <class T>
  static GD_HD T squared_mean(const Exponents<T>& p, T x, T y) {
    return exponential(T(broadcast<T>(2) * p.a * logarithm(T(x / y)))) * (y * y);
  }
  template <class T>
  struct Point {
    T mean;  // s₀²ᵅ s₁²ᵝ, or φ
    Mask<T> inside;
  };
  template <class T>
  static GD_HD Point<T> primal_point(const Exponents<T>& p, const T (&s)[3]) {
    const T zero{}, mean = squared_mean(p, s[0], s[1]);
    const Mask<T> inside = (s[0] > zero) & (s[1] > zero) & (mean > s[2] * s[2]);
    return {mean, inside};
  }
  template <class T>
  static GD_HD Point<T> dual_point(const Exponents<T>& p, const T (&z)[3]) {
    const T zero{}, mean = squared_mean(p, T(z[0] * p.over_a), T(z[1] * p.over_b));
    const Mask<T> inside = (z[0] > zero) & (z[1] > zero) & (mean > z[2] * z[2]);
    return {mean, inside};
  }

  static constexpr int kGradientSteps = 3;
  // w = −∇f(s) solves −∇f*(w) = s. With r = φ(w)/ψ(w) = 1 + t that is
  //
  //     w₀ s₀ = 2αr + β,   w₁ s₁ = 2βr + α,   w₂ s₂ = −2t,   A/(4rt) = s₀²ᵅ s₁²ᵝ/s₂²
  //
  // with A = (2r + β/α)²ᵅ (2r + α/β)²ᵝ. The inverse of both sides less one, 4rt/(A − 4rt) = s₂²/(s₀²ᵅ s₁²ᵝ − s₂²), is
  // nearly linear in t: Newton's method from its solution for α = ½, for t/wanted, as t and s₂ may be 0. For any α from
  // 0.01 to 0.99 that is at most 2.1 times too large; one step leaves a relative error of 2e-2, two 4e-5, three 1e-9.
  // −sᵀg = 3 whatever t is.
  template <class T>
  static GD_HD void primal_gradient(const Exponents<T>& p, const T (&s)[3], const Point<T>& at, T (&g)[3], int steps) {
    const T one = broadcast<T>(1), two = broadcast<T>(2), four = broadcast<T>(4);
    const T square = s[2] * s[2], inside = at.mean - square, wanted = square / inside;
    const T root = square_root(T(one + wanted * (broadcast<T>(5) + four * wanted)));
    const T c0 = two + p.b * p.over_a, c1 = two + p.a * p.over_b;
    T ratio = broadcast<T>(4.5) / (root + one - two * wanted);
    GD_NO_UNROLL for (int step = 0; step < steps; step++) {
      const T t = ratio * wanted, first = two * t + c0, second = two * t + c1;
      const T A = squared_mean(p, first, second), share = four * ratio * (one + t), product = share * wanted;
      const T over = one / (A - product), growth = four * (p.a * second + p.b * first) / (first * second);  // A′/A
      const T slope = A * (four + broadcast<T>(8) * t - product * growth) * over * over;
      const T next = ratio - (share * over - one) / slope;
      ratio = maximum(next, T(ratio * broadcast<T>(0.1)));  // NaN passes
    }
    const T r = one + ratio * wanted;
    g[0] = -(two * p.a * r + p.b) / s[0];
    g[1] = -(two * p.b * r + p.a) / s[1];
    g[2] = two * s[2] * ratio / inside;  // 2t/s₂
  }
  template <class T>
  static GD_HD void dual_gradient(const Exponents<T>& p, const T (&z)[3], const Point<T>& at, T (&g)[3]) {
    const T two = broadcast<T>(2), mean = at.mean, inverse = broadcast<T>(1) / (mean - z[2] * z[2]);
    const T ratio = mean * inverse;
    g[0] = -(two * p.a * ratio + p.b) / z[0];
    g[1] = -(two * p.b * ratio + p.a) / z[1];
    g[2] = two * z[2] * inverse;
  }
  // With π = (2α/z₀, 2β/z₁), ∇φ = φ π and D²φ = φ(π πᵀ − diag(2α/z₀², 2β/z₁²)); r = φ/ψ.
  template <class T>
  static GD_HD Symmetric3<T> dual_hessian(const Exponents<T>& p, const T (&z)[3], const Point<T>& at) {
    const T two = broadcast<T>(2), one = broadcast<T>(1);
    const T mean = at.mean, inverse = one / (mean - z[2] * z[2]), r = mean * inverse;
    const T excess = z[2] * z[2] * inverse, i0 = one / z[0], i1 = one / z[1];  // r − 1
    const T p0 = two * p.a * i0, p1 = two * p.b * i1, across = two * z[2] * inverse;
    Symmetric3<T> H;
    // −D²ψ/ψ + ∇ψ∇ψᵀ/ψ²: r² − r = r·excess.
    H.a00 = r * (excess * p0 * p0 + p0 * i0) + p.b * i0 * i0;
    H.a10 = r * excess * p0 * p1;
    H.a11 = r * (excess * p1 * p1 + p1 * i1) + p.a * i1 * i1;
    H.a20 = -r * p0 * across;
    H.a21 = -r * p1 * across;
    H.a22 = two * inverse + across * across;
    return H;
  }
  // −log ψ = −log(ρ − |z₂|) − log(ρ + |z₂|) with the concave ρ = √φ, D²ρ = −αβρ (1/z₀, −1/z₁)(1/z₀, −1/z₁)ᵀ. With d = ρ
  // − |z₂|, e = ρ + |z₂|, eliminating coordinate 2 leaves 4/(d² + e²) ∇ρ∇ρᵀ of what these two have of ∇ρ, all positive.
  template <class T>
  static GD_HD Factor3<T> dual_factor(const Exponents<T>& p, const T (&z)[3], const Point<T>& at) {
    const T one = broadcast<T>(1), two = broadcast<T>(2), zero{};
    const T rho = square_root(at.mean), size = absolute(z[2]), d = rho - size, e = rho + size;
    const T i0 = one / z[0], i1 = one / z[1], over_d = one / d, over_e = one / e;
    const T top = over_d * over_d + over_e * over_e, l00 = square_root(top);
    const T across = (over_e * over_e - over_d * over_d) / l00 * select(z[2] < zero, T(-rho), rho);
    const T kept = broadcast<T>(4) * rho * rho / (d * d + e * e), bent = p.a * p.b * two * rho * rho * over_d * over_e;
    const T b00 = kept * p.a * p.a + bent + p.b, b10 = kept * p.a * p.b - bent;
    const T determinant = kept * bent + kept * (p.a * p.a * p.a + p.b * p.b * p.b) + bent + p.a * p.b;
    const T l11 = square_root(b00), l22 = square_root(T(determinant / b00));
    return {2, 0, 1, l00, T(across * p.a * i0), T(l11 * i0), T(across * p.b * i1), T(b10 / l11 * i1), T(l22 * i1)};
  }
  template <class T>
  static GD_HD void dual_third(const Exponents<T>& p, const T (&z)[3], const Point<T>& at, const T (&u)[3],
                               const T (&v)[3], T (&out)[3]) {
    const T two = broadcast<T>(2), one = broadcast<T>(1);
    const T mean = at.mean, inverse = one / (mean - z[2] * z[2]), r = mean * inverse;
    const T i0 = one / z[0], i1 = one / z[1], p0 = two * p.a * i0, p1 = two * p.b * i1;
    const T q0 = p0 * i0, q1 = p1 * i1;
    const T pu = p0 * u[0] + p1 * u[1], pv = p0 * v[0] + p1 * v[1];
    const T quv = q0 * u[0] * v[0] + q1 * u[1] * v[1];
    // Everything divided by ψ: its slope along u and v, D²ψ u, D²ψ v, uᵀD²ψ v, D³ψ[u, v].
    const T slope[3] = {r * p0, r * p1, -two * z[2] * inverse};
    const T su = dot3(slope, u), sv = dot3(slope, v);
    const T Hu[3] = {r * (p0 * pu - q0 * u[0]), r * (p1 * pu - q1 * u[1]), -two * u[2] * inverse};
    const T Hv[3] = {r * (p0 * pv - q0 * v[0]), r * (p1 * pv - q1 * v[1]), -two * v[2] * inverse};
    const T uHv = dot3(u, Hv), both = pu * pv - quv;
    const T third[3] = {r * (p0 * both - q0 * (u[0] * pv + v[0] * pu) + two * q0 * i0 * u[0] * v[0]),
                        r * (p1 * both - q1 * (u[1] * pv + v[1] * pu) + two * q1 * i1 * u[1] * v[1]), T{}};
    GD_UNROLL for (int i = 0; i < 3; i++) {
      out[i] = -third[i] + Hu[i] * sv + Hv[i] * su + slope[i] * (uHv - two * su * sv);
    }
    out[0] -= two * p.b * u[0] * v[0] * i0 * i0 * i0;
    out[1] -= two * p.a * u[1] * v[1] * i1 * i1 * i1;
  }

  template <class T, class G>
  GD_HD void central(const G& g, const T* v, T mu, const Spectral<T>& F, T* y, T* s) const {
    central_triples(g, *this, v, mu, F, y, s);
  }

  template <class T>
  static GD_HD TripleProjection<T> project_primal(const Exponents<T>& p, const T (&v)[3], const T (&primal)[3],
                                                  const T (&polar)[3]) {
    return project_power(v[0], v[1], v[2], p.a, p.b, PowerEquation<T>::guess(primal, polar));
  }
};

}  // namespace GD_NAMESPACE
