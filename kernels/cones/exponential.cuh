// The exponential cone cl{(x, y, z): y > 0, y exp(x/y) ≤ z} and its dual {(u, v, w): u < 0, −u exp(v/u) ≤ e·w}.
//
// Barrier of the dual (Chares 2009; Dahl & Andersen 2022, §5), of degree 3:
//
//     f*(z) = −log ψ − log(−z₀) − log z₂,   ψ = z₁ − z₀ − z₀ log(−z₂/z₀),
//
// where ψ is concave with the Hessian z₀ w wᵀ, w = (1/z₀, 0, −1/z₂). Its conjugate has the gradient below in terms of
// Wright's function, ω + log ω = argument (Goulart & Chen 2024). In the dual cone, (u − v, −u, w) is in the primal one.
#pragma once
#include "exponential_projection.cuh"
#include "triple_central.cuh"

namespace GD_NAMESPACE {

struct ExponentialCones : TripleCones<ExponentialCones> {
  struct None {};
  template <class T>
  GD_HD None parameters(index_t) const {
    return {};
  }

  template <class T>
  static GD_HD void centre(None, T (&v)[3]) {
    v[0] = broadcast<T>(-1.0513832886977477);
    v[1] = broadcast<T>(0.5564092196219204);
    v[2] = broadcast<T>(1.2589666889134486);
  }
  // M = [1 −1 0; −1 0 0; 0 0 1] and its inverse.
  template <class T>
  static GD_HD void forward(None, T (&v)[3]) {
    const T u = v[0];
    v[0] = u - v[1];
    v[1] = -u;
  }
  template <class T>
  static GD_HD void backward(None, T (&v)[3]) {
    const T x = v[0];
    v[0] = -v[1];
    v[1] = -(x + v[1]);
  }

  template <class T>
  struct Point {
    T log_ratio;  // log(s₂/s₁), or log(−z₂/z₀)
    T depth;      // s₁ log(s₂/s₁) − s₀, or ψ
    Mask<T> inside;
  };
  template <class T>
  static GD_HD Point<T> primal_point(None, const T (&s)[3]) {
    const T zero{}, log_ratio = logarithm(T(s[2] / s[1])), depth = s[1] * log_ratio - s[0];
    const Mask<T> inside = (s[1] > zero) & (s[2] > zero) & (depth > zero);
    return {log_ratio, depth, inside};
  }
  template <class T>
  static GD_HD Point<T> dual_point(None, const T (&z)[3]) {
    const T zero{}, log_ratio = logarithm(T(-z[2] / z[0])), depth = z[1] - z[0] - z[0] * log_ratio;
    const Mask<T> inside = (z[0] < zero) & (z[2] > zero) & (depth > zero);
    return {log_ratio, depth, inside};
  }

  // δ = ω − 1 > 0 from δ + log(1 + δ) = excess, by steps of Fritsch, Shafer & Crowley 1973, of order four: the start
  // has a relative error of 8e-2 at most, one step leaves 3e-8 of it, two that of rounding.
  template <class T>
  static GD_HD T wright_excess(T excess, int steps) {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5), two = broadcast<T>(2), third = broadcast<T>(2.0 / 3);
    T delta = excess - logarithm(T(one + half * excess));
    GD_NO_UNROLL for (int step = 0; step < steps; step++) {
      const T omega = one + delta;
      // log(1 + δ) with the digits that 1 + δ rounds away (Kahan).
      const T lost = omega - one, logarithm_of = logarithm(omega);
      const T log_omega = select(lost == T{}, delta, T(logarithm_of * (delta / select(lost == T{}, one, lost))));
      const T r = excess - delta - log_omega, q = two * (one + omega) * (one + omega + third * r);
      delta += omega * (r / (one + omega)) * ((q - r) / (q - two * r));
    }
    return delta;
  }
  static constexpr int kGradientSteps = 2;
  template <class T>
  static GD_HD void primal_gradient(None, const T (&s)[3], const Point<T>& at, T (&g)[3], int steps) {
    const T one = broadcast<T>(1), slope = s[0] / s[1];
    const T delta = wright_excess(T(at.log_ratio - slope), steps), inverse = one / delta;
    g[0] = inverse / s[1];
    g[1] = g[0] * (one - slope - delta - delta);  // log ω − log(s₂/s₁) = −δ − s₀/s₁
    g[2] = -(one + delta) * inverse / s[2];
  }
  template <class T>
  static GD_HD void dual_gradient(None, const T (&z)[3], const Point<T>& at, T (&g)[3]) {
    const T one = broadcast<T>(1), log_ratio = at.log_ratio, inverse = one / at.depth;
    g[0] = inverse * log_ratio - one / z[0];
    g[1] = -inverse;
    g[2] = (inverse * z[0] - one) / z[2];
  }
  template <class T>
  static GD_HD Symmetric3<T> dual_hessian(None, const T (&z)[3], const Point<T>& at) {
    const T one = broadcast<T>(1), log_ratio = at.log_ratio, inverse = one / at.depth;
    const T i0 = one / z[0], i2 = one / z[2], across = z[0] * i2 * inverse, along = log_ratio * inverse;
    Symmetric3<T> H;
    H.a00 = i0 * i0 - i0 * inverse + along * along;
    H.a10 = -along * inverse;
    H.a11 = inverse * inverse;
    H.a20 = i2 * inverse + along * across;
    H.a21 = -across * inverse;
    H.a22 = i2 * i2 - i2 * across + across * across;
    return H;
  }
  // ∇²f* = ∇ψ∇ψᵀ/ψ² − (z₀/ψ) w wᵀ + diag(1/z₀², 0, 1/z₂²): what the first term leaves has nothing in row 1.
  template <class T>
  static GD_HD Factor3<T> dual_factor(None, const T (&z)[3], const Point<T>& at) {
    const T one = broadcast<T>(1), log_ratio = at.log_ratio, inverse = one / at.depth;
    const T i0 = -one / z[0], i2 = one / z[2], share = -z[0] * inverse;
    const T l11 = square_root(T(one + share)), l22 = square_root(T(one + share + share)) / l11;
    return {1, 0, 2, inverse, T(-log_ratio * inverse), T(l11 * i0), T(share * i2), T(share * i2 / l11), T(l22 * i2)};
  }
  // −D³ψ[u, v]/ψ + (D²ψ u)(∇ψ·v)/ψ² + (D²ψ v)(∇ψ·u)/ψ² + ∇ψ (uᵀD²ψ v)/ψ² − 2∇ψ(∇ψ·u)(∇ψ·v)/ψ³ and two logarithms.
  template <class T>
  static GD_HD void dual_third(None, const T (&z)[3], const Point<T>& at, const T (&u)[3], const T (&v)[3],
                               T (&out)[3]) {
    const T one = broadcast<T>(1), two = broadcast<T>(2);
    const T log_ratio = at.log_ratio, inverse = one / at.depth;
    const T i0 = one / z[0], i2 = one / z[2];
    const T slope[3] = {-log_ratio, one, -z[0] * i2};
    const T w[3] = {i0, T{}, -i2};
    const T su = dot3(slope, u) * inverse, sv = dot3(slope, v) * inverse;
    const T wu = u[0] * i0 - u[2] * i2, wv = v[0] * i0 - v[2] * i2;
    // D³ψ[u, v] = v₀ w (w·u) + z₀ (w·u) w′ + z₀ w (w′·u), where w′ = Dw[v] = (−v₀/z₀², 0, v₂/z₂²).
    const T turned[3] = {-v[0] * i0 * i0, T{}, v[2] * i2 * i2};
    const T along = v[0] * wu + z[0] * dot3(turned, u), across = z[0] * wu;
    const T straight = z[0] * (wu * sv + wv * su), steep = z[0] * wu * wv - two * su * sv * at.depth;
    GD_UNROLL for (int i = 0; i < 3; i++) {
      out[i] = inverse * (w[i] * (straight - along) - across * turned[i] + slope[i] * (steep * inverse));
    }
    out[0] -= two * u[0] * v[0] * i0 * i0 * i0;
    out[2] -= two * u[2] * v[2] * i2 * i2 * i2;
  }

  template <class T, class G>
  GD_HD void central(const G& g, const T* v, T mu, const Spectral<T>& F, T* y, T* s) const {
    central_triples(g, *this, v, mu, F, y, s);
  }

  template <class T>
  static GD_HD TripleProjection<T> project_primal(None, const T (&v)[3], const T (&primal)[3], const T (&polar)[3]) {
    return project_exponential(v[0], v[1], v[2], ExponentialEquation<T>(v[0], v[1], v[2]).guess(primal, polar));
  }
};

}  // namespace GD_NAMESPACE
