// What the cones of three rows that are not symmetric have in common where a central point is looked for.
#pragma once
#include "triple.cuh"

namespace GD_NAMESPACE {

// The interior y and s with y − s = v and s = −μ∇f*(y). In units of √μ, where μ is 1, y minimises ½‖y‖² − vᵀy +
// f*(y), for a dual cone in the coordinates z = M⁻¹y: Newton's method, damped while it is far away, as that function
// is self-concordant, from the projection of v on the boundary and a little of the centre. F = L⁻¹ with L Lᵀ =
// ∇²f*(y), followed by M.
template <class Self, class T, class G>
GD_CONE void central_triples(const G& g, const Self& cones, const T* v_all, T mu, const Spectral<T>& F_all, T* y_all,
                             T* s_all) {
  constexpr int kSteps = 60;  // six are usual, 25 the most
  const T one = broadcast<T>(1), half = broadcast<T>(0.5);
  const T unit = square_root(mu), over = one / unit;
  GD_NO_UNROLL for (index_t c = g.rank(); c < cones.count; c += g.size()) {
    const auto p = cones.template parameters<T>(c);
    const bool dual = cones.is_dual(c);
    T v[3], z[3], slack[3], centre[3], weight[3];
    GD_UNROLL for (int i = 0; i < 3; i++) { v[i] = (dual ? over : T(-over)) * v_all[cones.row(c) + i]; }
    const T unknown[3] = {};
    const TripleProjection<T> found = cones.project_primal(p, v, unknown, unknown);
    Self::load(dual ? found.primal : found.polar, z);
    Self::load(dual ? found.polar : found.primal, slack);
    cones.centre(p, centre);
    Self::load(centre, weight);
    if (dual) {
      cones.backward(p, z);
      cones.forward(p, slack);
      cones.forward(p, weight);
      cones.forward(p, v);
    } else {
      GD_UNROLL for (int i = 0; i < 3; i++) { v[i] = -v[i]; }
    }
    T reach = one;
    GD_UNROLL for (int i = 0; i < 3; i++) { reach += absolute(slack[i]) + absolute(weight[i]); }
    GD_UNROLL for (int i = 0; i < 3; i++) { z[i] += centre[i] / reach; }

    Mask<T> going = every_lane<T>();
    T before = broadcast<T>(1e30);
    GD_NO_UNROLL for (int step = 0; step < kSteps && any(going); step++) {
      T gradient[3], image[3], f[3][3], r[3], w[3];
      const auto at = cones.dual_point(p, z);
      cones.dual_gradient(p, z, at, gradient);
      const Factor3<T> factor = cones.dual_factor(p, z, at);
      Self::load(z, image);
      GD_UNROLL for (int i = 0; i < 3; i++) { Self::load(factor.inverse[i], f[i]); }
      if (dual) {
        cones.forward(p, image);
        cones.forward(p, image);
        GD_UNROLL for (int i = 0; i < 3; i++) { cones.forward(p, f[i]); }
      }
      GD_UNROLL for (int i = 0; i < 3; i++) { image[i] = v[i] - image[i] - gradient[i]; }
      // (I + L⁻¹M²L⁻ᵀ) w = L⁻¹r by its Cholesky factor; the step is L⁻ᵀw.
      GD_UNROLL for (int i = 0; i < 3; i++) { r[i] = dot3(factor.inverse[i], image); }
      const T i0 = inverse_square_root(T(one + dot3(f[0], f[0])));
      const T l10 = dot3(f[1], f[0]) * i0, l20 = dot3(f[2], f[0]) * i0;
      const T i1 = inverse_square_root(T(one + dot3(f[1], f[1]) - l10 * l10));
      const T l21 = (dot3(f[2], f[1]) - l20 * l10) * i1;
      const T i2 = inverse_square_root(T(one + dot3(f[2], f[2]) - l20 * l20 - l21 * l21));
      const T a0 = r[0] * i0, a1 = (r[1] - l10 * a0) * i1, a2 = (r[2] - l20 * a0 - l21 * a1) * i2;
      w[2] = a2 * i2;
      w[1] = (a1 - l21 * w[2]) * i1;
      w[0] = (a0 - l10 * w[1] - l20 * w[2]) * i0;
      const T decrement = square_root(T(a0 * a0 + a1 * a1 + a2 * a2));
      const Mask<T> near = decrement < broadcast<T>(0.25);
      const T length = select(near, one, T(one / (one + decrement)));
      GD_UNROLL for (int i = 0; i < 3; i++) {
        const T moved = factor.inverse[0][i] * w[0] + factor.inverse[1][i] * w[1] + factor.inverse[2][i] * w[2];
        z[i] = select(going, T(z[i] + length * moved), z[i]);
      }
      // Rounding is what is left where steps no longer shrink as the last ones should.
      const Mask<T> settled = (decrement < broadcast<T>(1e-4)) & (decrement > half * before);
      const Mask<T> last = (decrement <= broadcast<T>(1e-9)) | settled;
      going = going & negate(last) & is_tame(decrement);
      before = decrement;
    }
    const Factor3<T> factor = cones.dual_factor(p, z, cones.dual_point(p, z));
    T* F = F_all.matrix + cones.word(c);
    GD_UNROLL for (int i = 0; i < 3; i++) {
      T line[3];
      Self::load(factor.inverse[i], line);
      if (dual) cones.forward(p, line);
      Self::store(line, F + 3 * i);
    }
    if (dual) cones.forward(p, z);
    GD_UNROLL for (int i = 0; i < 3; i++) {
      const T y = unit * z[i];
      y_all[cones.row(c) + i] = y;
      s_all[cones.row(c) + i] = y - v_all[cones.row(c) + i];
    }
  }
}

}  // namespace GD_NAMESPACE
