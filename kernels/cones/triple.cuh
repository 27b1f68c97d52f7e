// What the cones of three rows that are not symmetric have in common: primal–dual scaling and the search for a step.
//
// Tunçel 2001 and Dahl & Andersen, "A primal-dual interior-point algorithm for nonsymmetric exponential-cone
// optimization", 2022; the closed form for three dimensions is that of Goulart & Chen, "Clarabel", 2024, §5. With f*
// the barrier of K*, f its conjugate, s̃ = −∇f*(z) and z̃ = −∇f(s) the shadows of z and s, μ = sᵀz/3 and μ̃ = s̃ᵀz̃/3, the
// scaling H maps z to s and z̃ to s̃:
//
//     H = s sᵀ/(sᵀz) + δs δsᵀ/(δsᵀδz) + t a aᵀ,   δs = s − μ s̃,  δz = z − μ z̃,   a ⟂ z, z̃,
//
// with t from μ∇²f*(z). Its inverse is of the same form, z, δz and b ⟂ s, s̃ with aᵀb = 1 in the place of s, δs and a,
// so the rows of F with FᵀF = H⁻¹ are z/√(sᵀz), δz/√(δsᵀδz) and b/√t. At the centre, where δs = δz = 0, and where the
// steps of that scaling are too short, H = μ∇²f*(z).
//
// A dual cone is a linear image of its primal one, K* = M⁻¹K with M symmetric: in M s and M⁻¹z everything is as in the
// primal cone, and F is followed by M.
//
// A step must leave the iterates inside and near enough to the centre, μ μ̃ ≤ 1/β in each cone with μ that of all cones
// together. Neither has a closed form: the largest step is searched.
#pragma once
#include "spectral.cuh"
#include "triple_projection.cuh"

namespace GD_NAMESPACE {

constexpr double kNeighbourhood = 0.1;  // β

template <class T>
GD_HD T dot3(const T* a, const T* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
template <class T>
GD_HD void cross3(const T* a, const T* b, T* out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// The lower triangle of a symmetric 3 × 3 matrix: (0,0), (1,0), (2,0), (1,1), (2,1), (2,2).
template <class T>
struct Symmetric3 {
  T a00, a10, a20, a11, a21, a22;

  GD_HD void multiply(const T* v, T* out) const {
    out[0] = a00 * v[0] + a10 * v[1] + a20 * v[2];
    out[1] = a10 * v[0] + a11 * v[1] + a21 * v[2];
    out[2] = a20 * v[0] + a21 * v[1] + a22 * v[2];
  }
};

// L with L Lᵀ = ∇²f*(z), and L⁻¹. Near the boundary the eigenvalues of that matrix differ by the square of the
// distance: a cone gives L in closed form, in an order of the coordinates that leaves nothing to cancel.
template <class T>
struct Factor3 {
  T L[3][3], inverse[3][3];  // [row][column]

  // l: the lower triangle row by row, its rows being those of coordinates a, b, c.
  GD_HD Factor3(int a, int b, int c, T l00, T l10, T l11, T l20, T l21, T l22) {
    const int order[3] = {a, b, c};
    const T one = broadcast<T>(1), zero{}, i0 = one / l00, i1 = one / l11, i2 = one / l22, m10 = -l10 * i0 * i1;
    const T lower[3][3] = {{l00, zero, zero}, {l10, l11, zero}, {l20, l21, l22}};
    const T upside[3][3] = {{i0, zero, zero}, {m10, i1, zero}, {-(l20 * i0 + l21 * m10) * i2, -l21 * i1 * i2, i2}};
    GD_UNROLL for (int r = 0; r < 3; r++) {
      GD_UNROLL for (int k = 0; k < 3; k++) {
        L[order[r]][k] = lower[r][k];
        inverse[r][order[k]] = upside[r][k];
      }
    }
  }
};

// Self has, for cone c in the coordinates of the primal cone:
//     parameters<T>(c)                        whatever the rest wants
//     centre(p, v)                            v = −∇f*(v)
//     primal_point(p, s), dual_point(p, z)    `inside`, and of logarithms and exponentials what all below share
//     primal_gradient(p, s, at, g, steps)     ∇f(s), with at = primal_point(p, s); kGradientSteps give all digits
//     dual_gradient(p, z, at, g)              ∇f*(z), with at = dual_point(p, z)
//     dual_hessian(p, z, at)                  ∇²f*(z)
//     dual_factor(p, z, at)                   its factor
//     dual_third(p, z, at, u, v, out)         ∇³f*(z)[u, v]
//     forward(p, v), backward(p, v)           M v, M⁻¹v
//     project_primal(p, v, primal, polar)     Π_K and its derivative, with a guess of Π_K(v) and its polar part
template <class Self>
struct TripleCones {
  index_t count, dual_from;  // the last ones, from there on, are dual cones
  index_t first, words;      // row, and word of `Spectral::matrix`
  index_t number;            // among all cones of three rows

  GD_HD const Self& self() const { return static_cast<const Self&>(*this); }
  GD_HD bool is_dual(index_t c) const { return c >= dual_from; }
  GD_HD index_t row(index_t c) const { return first + 3 * c; }
  GD_HD index_t word(index_t c) const { return words + kTripleWords * c; }

  template <class T>
  static GD_HD void load(const T* from, T (&v)[3]) {
    GD_UNROLL for (int i = 0; i < 3; i++) { v[i] = from[i]; }
  }
  template <class T>
  static GD_HD void store(const T (&v)[3], T* to) {
    GD_UNROLL for (int i = 0; i < 3; i++) { to[i] = v[i]; }
  }
  template <class T>
  static GD_HD void multiply(const T* F, const T* v, T* out) {
    T r[3];
    GD_UNROLL for (int i = 0; i < 3; i++) { r[i] = dot3(F + 3 * i, v); }
    store(r, out);
  }
  template <class T>
  static GD_HD void multiply_transposed(const T* F, const T* v, T* out) {
    T r[3];
    GD_UNROLL for (int i = 0; i < 3; i++) { r[i] = F[i] * v[0] + F[3 + i] * v[1] + F[6 + i] * v[2]; }
    store(r, out);
  }
  // The central point with μ = 1.
  template <class T, class G>
  GD_HD void start(const G& g, const T*, T* s, T* z) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const auto p = self().template parameters<T>(c);
      T v[3], w[3];
      self().centre(p, v);
      load(v, w);
      if (is_dual(c)) {
        self().backward(p, v);
        self().forward(p, w);
      }
      store(v, s + row(c));
      store(w, z + row(c));
    }
  }

  template <class T, class G>
  GD_CONE void scaling(const G& g, const T* s_all, const T* z_all, const Centring<T>& centring,
                       const Spectral<T>& F_all, T* lambda) const {
    const T zero{}, one = broadcast<T>(1), third = broadcast<T>(1.0 / 3);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const auto p = self().template parameters<T>(c);
      T s[3], z[3], ds[3], dz[3], gradient[3], shadow[3], image[3], a[3], b[3];
      load(s_all + row(c), s);
      load(z_all + row(c), z);
      if (is_dual(c)) {
        self().forward(p, s);
        self().backward(p, z);
      }
      const auto at = self().dual_point(p, z);
      self().dual_gradient(p, z, at, gradient);                                               // −s̃
      self().primal_gradient(p, s, self().primal_point(p, s), shadow, Self::kGradientSteps);  // −z̃
      const Symmetric3<T> H = self().dual_hessian(p, z, at);
      const T product = dot3(s, z), mu = product * third, mu_shadow = dot3(gradient, shadow) * third;
      GD_UNROLL for (int i = 0; i < 3; i++) {
        ds[i] = s[i] + mu * gradient[i];
        dz[i] = z[i] + mu * shadow[i];
      }
      const T delta = dot3(ds, dz);
      H.multiply(shadow, image);
      const T excess = dot3(shadow, image) - broadcast<T>(3) * mu_shadow * mu_shadow;
      cross3(z, shadow, a);
      cross3(s, gradient, b);
      const T length = inverse_square_root(dot3(a, a));
      GD_UNROLL for (int i = 0; i < 3; i++) { a[i] = a[i] * length; }
      const T along = one / dot3(a, b);
      // t = μ (aᵀ∇²f* a less what the other two directions have of it).
      H.multiply(a, image);
      const T slope = dot3(gradient, a), tilt = dot3(image, shadow) - mu_shadow * slope;
      const T t = mu * (dot3(a, image) - slope * slope * third - tilt * tilt / excess);
      // δsᵀδz = 3μ(μ μ̃ − 1) must be more than the rounding errors in it.
      const T noise = broadcast<T>(1e-12) * square_root(T(dot3(s, s) * dot3(z, z)));
      const Mask<T> off_centre =
          (mu * mu_shadow - one > broadcast<T>(1e-7)) & (excess > zero) & (delta > noise) & (t > zero);
      const Mask<T> primal_dual = off_centre & negate(centring.dual) & is_tame(T(along / t));
      const Factor3<T> dual = self().dual_factor(p, z, at);
      const T root = square_root(mu), over = one / root;
      const T i0 = inverse_square_root(product), i1 = inverse_square_root(delta), root_t = square_root(t);
      const T f2 = along / root_t;
      T *F = F_all.matrix + word(c), *inverse = F + kTripleInverse;
      GD_UNROLL for (int i = 0; i < 3; i++) {
        F[i] = select(primal_dual, T(z[i] * i0), T(dual.inverse[0][i] * over));
        F[3 + i] = select(primal_dual, T(dz[i] * i1), T(dual.inverse[1][i] * over));
        F[6 + i] = select(primal_dual, T(b[i] * f2), T(dual.inverse[2][i] * over));
        inverse[3 * i] = select(primal_dual, T(s[i] * i0), T(dual.L[i][0] * root));
        inverse[3 * i + 1] = select(primal_dual, T(ds[i] * i1), T(dual.L[i][1] * root));
        inverse[3 * i + 2] = select(primal_dual, T(a[i] * root_t), T(dual.L[i][2] * root));
      }
      multiply(F, s, lambda + row(c));
      if (is_dual(c)) {
        GD_UNROLL for (int i = 0; i < 3; i++) {
          T v[3], w[3] = {inverse[i], inverse[3 + i], inverse[6 + i]};
          load(F + 3 * i, v);
          self().forward(p, v);
          self().backward(p, w);
          store(v, F + 3 * i);
          GD_UNROLL for (int j = 0; j < 3; j++) { inverse[3 * j + i] = w[j]; }
        }
      }
    }
  }

  template <class T, class G>
  GD_HD void apply(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size())
        multiply(F.matrix + word(c), v + row(c), out + row(c));
  }
  template <class T, class G>
  GD_HD void apply_transposed(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size())
        multiply_transposed(F.matrix + word(c), v + row(c), out + row(c));
  }
  template <class T, class G>
  GD_HD void apply_inverse(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size())
        multiply(F.matrix + word(c) + kTripleInverse, v + row(c), out + row(c));
  }
  template <class T, class G>
  GD_HD void apply_complement(const G& g, const Spectral<T>& N, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t k = first + g.rank(); k < first + 3 * count; k += g.size()) out[k] = N.vector[k] * v[k];
  }

  template <class T, class G>
  GD_HD void scale_rows(const G& g, const Spectral<T>& F_all, const Panels<T>& A, const Panels<T>& scaled,
                        index_t offset, index_t panels) const {
    GD_NO_UNROLL for (index_t e = g.rank(); e < count * panels; e += g.size()) {
      const index_t c = e % count, p = e / count;
      const T *F = F_all.matrix + word(c), *a = A.panel(p) + row(c) * kTile;
      T* out = scaled.panel(p) + (row(c) - offset) * kTile;
      GD_UNROLL for (int i = 0; i < 3; i++) {
        GD_UNROLL for (int j = 0; j < kTile; j++) {
          out[i * kTile + j] = F[3 * i] * a[j] + F[3 * i + 1] * a[kTile + j] + F[3 * i + 2] * a[2 * kTile + j];
        }
      }
    }
  }
  template <class T, class G>
  GD_HD void scale_dense_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled,
                              index_t offset, index_t panels) const {
    scale_rows(g, F, A, scaled, offset, panels);
  }

  // F (s + centre ∇f*(z) + η) with η = −½ ∇³f*(z)[Δz, ∇²f*(z)⁻¹Δs]: the second derivative of the central path, a
  // third-order correction (Dahl & Andersen 2022, §4). In one dimension that is Mehrotra's. It is left out of a
  // step to the centre, to which that path does not lead.
  template <class T, class G>
  GD_CONE void correction(const G& g, const ScaledStep<T>& step, const Spectral<T>& F_all, const Centring<T>& centring,
                          T centre, T* out) const {
    const T half = broadcast<T>(0.5);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const auto p = self().template parameters<T>(c);
      const T* F = F_all.matrix + word(c);
      T s[3], z[3], ds[3], dz[3], u[3], gradient[3], third[3];
      load(step.s + row(c), s);
      load(step.z + row(c), z);
      multiply(F + kTripleInverse, step.ds + row(c), ds);
      multiply_transposed(F, step.dz + row(c), dz);
      if (is_dual(c)) {
        self().forward(p, s);
        self().backward(p, z);
        self().forward(p, ds);
        self().backward(p, dz);
      }
      const auto at = self().dual_point(p, z);
      self().dual_gradient(p, z, at, gradient);
      const Factor3<T> factor = self().dual_factor(p, z, at);
      T w[3];
      GD_UNROLL for (int i = 0; i < 3; i++) { w[i] = dot3(factor.inverse[i], ds); }
      GD_UNROLL for (int i = 0; i < 3; i++) {
        u[i] = factor.inverse[0][i] * w[0] + factor.inverse[1][i] * w[1] + factor.inverse[2][i] * w[2];
      }
      self().dual_third(p, z, at, u, dz, third);
      GD_UNROLL for (int i = 0; i < 3; i++) {
        s[i] += centre * gradient[i] - select(centring.only, T{}, T(half * third[i]));
      }
      if (is_dual(c)) self().backward(p, s);
      multiply(F, s, out + row(c));
    }
  }

  template <class T, class G>
  GD_HD T inverse_step(const G&, const T*, const T*, const Spectral<T>&) const {
    return T{};
  }

  // Leaves Δs and Δz in F.scratch, cone by cone.
  template <class T, class G>
  GD_HD void prepare_reach(const G& g, const ScaledStep<T>& step, const Spectral<T>& F) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      T* d = F.scratch + reach_word(c);
      T moved[3];
      if (step.slack_step)
        load(step.slack_step + row(c), moved);
      else
        multiply(F.matrix + word(c) + kTripleInverse, step.ds + row(c), moved);
      store(moved, d);
      multiply_transposed(F.matrix + word(c), step.dz + row(c), d + 3);
    }
  }
  GD_HD index_t reach_word(index_t c) const { return kReachWords * (number + c); }

  // Shortens the step until s + α Δs and z + α Δz are inside each of these cones, and with `centred` in the
  // neighbourhood of the central path at μ(α).
  template <class T, class G>
  GD_CONE void search_step(const G& g, const ScaledStep<T>& step, const Spectral<T>& F, const PathProduct<T>& product,
                           bool centred, Mask<T> live, StepSearch<T>& search) const {
    GD_NO_UNROLL for (index_t c = g.rank(); c < count && number + c < search.until; c += g.size()) {
      GD_NO_UNROLL for (int attempt = 0; attempt < StepSearch<T>::kMost; attempt++) {
        const Mask<T> refused = live & negate(accepts(c, step, F, search.alpha, product, centred));
        if (!any(refused)) break;
        search.shorten(refused);
        search.last = number + c;
      }
    }
  }
  template <class T>
  GD_HD Mask<T> accepts(index_t c, const ScaledStep<T>& step, const Spectral<T>& F, T alpha,
                        const PathProduct<T>& product, bool centred) const {
    const auto p = self().template parameters<T>(c);
    const T* d = F.scratch + reach_word(c);
    T s[3], z[3], gradient[3], shadow[3];
    GD_UNROLL for (int i = 0; i < 3; i++) {
      s[i] = step.s[row(c) + i] + alpha * d[i];
      z[i] = step.z[row(c) + i] + alpha * d[3 + i];
    }
    if (is_dual(c)) {
      self().forward(p, s);
      self().backward(p, z);
    }
    const auto at = self().dual_point(p, z);
    const auto primal_at = self().primal_point(p, s);
    const Mask<T> inside = at.inside & primal_at.inside;
    if (!centred || !any(inside)) return inside;
    self().dual_gradient(p, z, at, gradient);
    // Roughly, which is within a factor of 2.1, and better only where that does not decide.
    constexpr double kMost = 3 / kNeighbourhood;
    const T mu = product.at(alpha);
    self().primal_gradient(p, s, primal_at, shadow, 0);
    T measure = mu * dot3(gradient, shadow);
    const Mask<T> doubtful = inside & (measure > broadcast<T>(kMost / 3)) & (measure < broadcast<T>(kMost * 3));
    if (any(doubtful)) {
      self().primal_gradient(p, s, primal_at, shadow, 1);
      measure = select(doubtful, T(mu * dot3(gradient, shadow)), measure);
    }
    return inside & (measure <= broadcast<T>(kMost));
  }

  // Leaves F, the diagonal of N and the margin in `frame`: with the eigenvectors of DΠ as rows, F = √(l/(1−l+δ)) times
  // each, N = (1−l)/(1−l+δ). DΠ_{K*}(v) is I − DΠ_K(−v).
  template <class T, class G>
  GD_CONE void project(const G& g, const T* v_all, T delta, const Spectral<T>& frame, T* y, T* s,
                       Mask<T> update) const {
    const T one = broadcast<T>(1);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) {
      const bool dual = is_dual(c);
      T v[3], axes[3][3], guess[3], polar[3];
      load(v_all + row(c), v);
      load((dual ? y : s) + row(c), guess);
      load((dual ? s : y) + row(c), polar);
      if (!dual) {
        GD_UNROLL for (int i = 0; i < 3; i++) { v[i] = -v[i]; }
      }
      const TripleProjection<T> found = self().project_primal(self().template parameters<T>(c), v, guess, polar);
      derivative_frame(found, axes);
      GD_UNROLL for (int i = 0; i < 3; i++) {
        guess[i] = select(update, found.primal[i], guess[i]);
        polar[i] = select(update, found.polar[i], polar[i]);
      }
      store(guess, (dual ? y : s) + row(c));
      store(polar, (dual ? s : y) + row(c));
      T* F = frame.matrix + word(c);
      GD_UNROLL for (int i = 0; i < 3; i++) {
        const T l = dual ? found.l[i] : found.lc[i], rest = dual ? found.lc[i] : found.l[i];
        const T over = one / (rest + delta), f = square_root(T(l * over));
        GD_UNROLL for (int j = 0; j < 3; j++) { F[3 * i + j] = select(update, T(f * axes[i][j]), F[3 * i + j]); }
        T* N = frame.vector + row(c) + i;
        *N = select(update, T(rest * over), *N);
      }
      F[kMarginWord] = select(update, found.margin, F[kMarginWord]);
    }
  }

  template <class T, class G>
  GD_HD void curvature(const G& g, const T*, const Spectral<T>& frame, T, Mask<T> update, const Spectral<T>& F,
                       const Spectral<T>& N) const {
    GD_NO_UNROLL for (index_t e = words + g.rank(); e < words + kTripleWords * count; e += g.size()) F.matrix[e] =
        select(update, frame.matrix[e], F.matrix[e]);
    GD_NO_UNROLL for (index_t k = first + g.rank(); k < first + 3 * count; k += g.size()) N.vector[k] =
        select(update, frame.vector[k], N.vector[k]);
  }

  template <class T, class G>
  GD_HD T margin(const G& g, const T*, const Spectral<T>& frame) const {
    T r = broadcast<T>(1e30);
    GD_NO_UNROLL for (index_t c = g.rank(); c < count; c += g.size()) r =
        minimum(frame.matrix[word(c) + kMarginWord], r);
    return r;
  }
};

}  // namespace GD_NAMESPACE
