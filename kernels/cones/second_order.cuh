// The second-order cone {(t, x): t ≥ ‖x‖}. Its own dual; every operator has three eigenvalues (spectral.cuh).
//
// Nesterov–Todd scaling and Jordan algebra: Alizadeh & Goldfarb 2003; Vandenberghe, "The CVXOPT linear and quadratic
// cone program solvers", 2010, §4 and §8. Projection: eigenvalues t ± ‖x‖ (Fukushima, Luo & Tseng 2002).
#pragma once
#include "../group.cuh"
#include "spectral.cuh"

namespace GD_NAMESPACE {

struct SecondOrderCones {
  index_t count;
  const index_t* first;
  const index_t* dimension;

  template <class T>
  static GD_HD T norm(const T* x, index_t d) {  // of x₁ … x_{d−1}
    T r{};
    GD_NO_UNROLL for (index_t i = 1; i < d; i++) r += x[i] * x[i];
    return square_root(r);
  }
  template <class T>
  static GD_HD T dot(const T* a, const T* b, index_t d) {  // without the first entry
    T r{};
    GD_NO_UNROLL for (index_t i = 1; i < d; i++) r += a[i] * b[i];
    return r;
  }

  template <class T, class G>
  GD_HD void start(const G& g, const T* b, T* s, T* z) const {
    const T one = broadcast<T>(1);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c];
      s[k] = maximum(b[k], one);
      z[k] = one / s[k];
      GD_NO_UNROLL for (index_t i = 1; i < dimension[c]; i++) s[k + i] = z[k + i] = T{};
    }
  }

  // F = W⁻¹ and λ = F s = W z, from the normalised points s̄, z̄ and their midpoint w̄ = (s̄ + J z̄)/(2γ).
  template <class T, class G>
  GD_HD void scaling(const G& g, const T* s_all, const T* z_all, const Centring<T>&, const Spectral<T>& F,
                     T* lambda) const {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T *s = s_all + k, *z = z_all + k;
      T* u = F.vector + k;
      const T ns = norm(s, d), nz = norm(z, d);
      const T s_det = square_root(T((s[0] - ns) * (s[0] + ns))), z_det = square_root(T((z[0] - nz) * (z[0] + nz)));
      const T si = one / s_det, zi = one / z_det;
      const T gamma = square_root(T(half + half * (s[0] * z[0] + dot(s, z, d)) * si * zi));
      const T scale = half / gamma;
      const T w0 = (s[0] * si + z[0] * zi) * scale;
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) u[i] = (s[i] * si - z[i] * zi) * scale;
      const T nw = norm(u, d);
      const T inverse = safe_divide(one, nw);
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) u[i] = u[i] * inverse;
      const T eta = square_root(T(s_det * zi)), boost = w0 + nw;  // (w0 + nw)(w0 − nw) = 1
      T* e = F.matrix + kSecondOrderWords * c;
      e[0] = one / (eta * boost);
      e[1] = boost / eta;
      e[2] = one / eta;
      apply_one(F, c, s, lambda + k);
    }
  }

  template <class T>
  static GD_HD void spectral_product(const T* u, T plus, T minus, T middle, const T* v, T* out, index_t d) {
    const T half = broadcast<T>(0.5), along = dot(u, v, d);
    const T p = plus * (half * (v[0] + along)), r = minus * (half * (v[0] - along));
    const T tilt = p - r - middle * along;
    out[0] = p + r;
    GD_NO_UNROLL for (index_t i = 1; i < d; i++) out[i] = middle * v[i] + u[i] * tilt;
  }
  template <class T>
  GD_HD void apply_one(const Spectral<T>& F, index_t c, const T* v, T* out) const {
    const T* e = F.matrix + kSecondOrderWords * c;
    spectral_product(F.vector + first[c], e[0], e[1], e[2], v, out, dimension[c]);
  }

  template <class T, class G>
  GD_HD void apply(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) apply_one(F, c, v + first[c], out + first[c]);
  }

  template <class T, class G>
  GD_HD void apply_transposed(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    apply(g, F, v, out);
  }

  template <class T, class G>
  GD_HD void apply_complement(const G& g, const Spectral<T>& N, const T* v, T* out) const {
    apply(g, N, v, out);
  }

  template <class T, class G>
  GD_HD void apply_inverse(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    const T one = broadcast<T>(1);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const T* e = F.matrix + kSecondOrderWords * c;
      spectral_product(F.vector + first[c], T(one / e[0]), T(one / e[1]), T(one / e[2]), v + first[c], out + first[c],
                       dimension[c]);
    }
  }

  template <class T, class G>
  GD_HD void scale_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled, index_t offset,
                        index_t panels) const {
    const T half = broadcast<T>(0.5);
    GD_NO_UNROLL for (index_t c = 0; c < count; c++) {
      const index_t d = dimension[c];
      const T *u = F.vector + first[c], *e = F.matrix + kSecondOrderWords * c;
      const T plus = e[0], minus = e[1], middle = e[2];
      GD_NO_UNROLL for (index_t p = g.rank(); p < panels; p += g.size()) {
        const T* a = A.panel(p) + first[c] * kTile;
        T* out = scaled.panel(p) + (first[c] - offset) * kTile;
        T along[kTile], tilt[kTile];
        GD_UNROLL for (int j = 0; j < kTile; j++) { along[j] = T{}; }
        GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
          GD_UNROLL for (int j = 0; j < kTile; j++) { along[j] += u[i] * a[i * kTile + j]; }
        }
        GD_UNROLL for (int j = 0; j < kTile; j++) {
          const T x = plus * (half * (a[j] + along[j])), y = minus * (half * (a[j] - along[j]));
          out[j] = x + y;
          tilt[j] = x - y - middle * along[j];
        }
        GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
          GD_UNROLL for (int j = 0; j < kTile; j++) { out[i * kTile + j] = middle * a[i * kTile + j] + u[i] * tilt[j]; }
        }
      }
    }
  }

  template <class T, class G>
  GD_HD void scale_dense_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled,
                              index_t offset, index_t panels) const {
    scale_rows(g, F, A, scaled, offset, panels);
  }

  // λ + λ \ (ds∘dz − centre·e), with a∘b = (aᵀb, a₀b₁ + b₀a₁) and λ\ the inverse of λ∘.
  template <class T, class G>
  GD_HD void correction(const G& g, const ScaledStep<T>& step, const Spectral<T>&, const Centring<T>&, T centre,
                        T* out_all) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T *lambda = step.lambda + k, *ds = step.ds + k, *dz = step.dz + k;
      T* out = out_all + k;
      const T n = norm(lambda, d), determinant = (lambda[0] - n) * (lambda[0] + n);
      const T r0 = ds[0] * dz[0] + dot(ds, dz, d) - centre;
      T along{};
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) along += lambda[i] * (ds[0] * dz[i] + dz[0] * ds[i]);
      const T first = (lambda[0] * r0 - along) / determinant, inverse = broadcast<T>(1) / lambda[0];
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) out[i] =
          lambda[i] + (ds[0] * dz[i] + dz[0] * ds[i] - first * lambda[i]) * inverse;
      out[0] = lambda[0] + first;
    }
  }

  template <class T, class G>
  GD_HD T inverse_step(const G& g, const T* s_all, const T* ds_all, const Spectral<T>&) const {
    T worst{};
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T *s = s_all + k, *ds = ds_all + k;
      const T n = norm(s, d), det = square_root(T((s[0] - n) * (s[0] + n))), inverse = broadcast<T>(1) / det;
      // ds seen from the frame in which s is the identity.
      const T first = (s[0] * ds[0] - dot(s, ds, d)) * inverse;
      const T factor = (first + ds[0]) / (s[0] + det);
      T square{};
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
        const T r = ds[i] - factor * s[i];
        square += r * r;
      }
      worst = maximum(T((square_root(square) - first) * inverse), worst);
    }
    return worst;
  }

  template <class T, class G>
  GD_HD void project(const G& g, const T* v_all, T, const Spectral<T>&, T* y_all, T* s_all, Mask<T>) const {
    const T half = broadcast<T>(0.5), zero{};
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T* v = v_all + k;
      const T n = norm(v, d), high = v[0] + n, low = v[0] - n, inverse = safe_divide(broadcast<T>(1), n);
      const T y_high = maximum(high, zero), y_low = maximum(low, zero);
      const T s_high = maximum(T(-high), zero), s_low = maximum(T(-low), zero);
      const T y_tilt = half * (y_high - y_low) * inverse, s_tilt = half * (s_high - s_low) * inverse;
      y_all[k] = half * (y_high + y_low);
      s_all[k] = half * (s_high + s_low);
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
        y_all[k + i] = y_tilt * v[i];
        s_all[k + i] = s_tilt * v[i];
      }
    }
  }

  template <class T, class G>
  GD_HD void curvature(const G& g, const T* v_all, const Spectral<T>&, T delta, Mask<T> update, const Spectral<T>& F,
                       const Spectral<T>& N) const {
    const T one = broadcast<T>(1), zero{};
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T* v = v_all + k;
      const T n = norm(v, d), high = v[0] + n, low = v[0] - n, inverse = safe_divide(one, n);
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
        const T u = v[i] * inverse;
        F.vector[k + i] = select(update, u, F.vector[k + i]);
        N.vector[k + i] = select(update, u, N.vector[k + i]);
      }
      // l and 1 − l, each from what it is, never one from the other.
      const Mask<T> inside = (low >= zero) & (high > zero), outside = high <= zero;
      const T width = select(inside | outside, one, T(high - low));
      const T middle = select(inside, one, select(outside, zero, T(high / width)));
      const T rest = select(inside, zero, select(outside, one, T(-low / width)));
      const T l[3] = {select(high > zero, one, zero), select(low > zero, one, zero), middle};
      const T lc[3] = {one - l[0], one - l[1], rest};
      for (int i = 0; i < 3; i++) {
        T &f = F.matrix[kSecondOrderWords * c + i], &r = N.matrix[kSecondOrderWords * c + i];
        f = select(update, square_root(T(l[i] / (lc[i] + delta))), f);
        r = select(update, T(lc[i] / (lc[i] + delta)), r);
      }
    }
  }

  // s∘y = μ e of the Jordan algebra, y = −μ∇f(s) for f(s) = −½ log(s₀² − ‖s₁‖²), of degree 1: each eigenvalue of v by
  // itself. With h = y₊y₋/μ, the middle eigenvalue of μ∇²f(s), (y₊ − y₋)/(v₊ − v₋) = h/(1 + h) holds for v₊ = v₋, too.
  template <class T, class G>
  GD_HD void central(const G& g, const T* v_all, T mu, const Spectral<T>& F, T* y_all, T* s_all) const {
    const T one = broadcast<T>(1), half = broadcast<T>(0.5), inverse = one / square_root(mu);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const index_t k = first[c], d = dimension[c];
      const T* v = v_all + k;
      const T n = norm(v, d), over = safe_divide(one, n);
      const CentralPair<T> high = central_pair(T(v[0] + n), mu), low = central_pair(T(v[0] - n), mu);
      const T root_high = high.y * inverse, root_low = low.y * inverse, h = root_high * root_low;
      const T rest = one / (one + h), share = h * rest;
      y_all[k] = half * (high.y + low.y);
      s_all[k] = half * (high.s + low.s);
      GD_NO_UNROLL for (index_t i = 1; i < d; i++) {
        y_all[k + i] = share * v[i];
        s_all[k + i] = -(rest * v[i]);
        F.vector[k + i] = over * v[i];
      }
      T* e = F.matrix + kSecondOrderWords * c;
      e[0] = root_high;
      e[1] = root_low;
      e[2] = square_root(h);
    }
  }

  template <class T, class G>
  GD_HD T margin(const G& g, const T* v_all, const Spectral<T>&) const {
    T r = broadcast<T>(1e30);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const T* v = v_all + first[c];
      const T n = norm(v, dimension[c]);
      r = minimum(minimum(absolute(T(v[0] + n)), absolute(T(v[0] - n))), r);
    }
    return r;
  }
};

}  // namespace GD_NAMESPACE
