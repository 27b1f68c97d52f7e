// The nonnegative cone, row by row. Its own dual; every operator is a weight per row.
#pragma once
#include "../group.cuh"
#include "spectral.cuh"

namespace GD_NAMESPACE {

struct NonnegativeRows {
  index_t begin, end;

  // Where an interior point starts: s = ρ e, z = e/ρ with ρ the larger of 1 and what b allows, so that rows with a huge
  // bound start feasible and centred.
  template <class T, class G>
  GD_HD void start(const G& g, const T* b, T* s, T* z) const {
    const T one = broadcast<T>(1);
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
      s[k] = maximum(b[k], one);
      z[k] = one / s[k];
    }
  }

  // F = W⁻¹ = √(z/s), λ = √(s z).
  template <class T, class G>
  GD_HD void scaling(const G& g, const T* s, const T* z, const Centring<T>&, const Spectral<T>& F, T* lambda) const {
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
      const T root = square_root(T(s[k] * z[k]));
      lambda[k] = root;
      F.vector[k] = z[k] / root;
    }
  }

  template <class T, class G>
  GD_HD void apply(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) out[k] = F.vector[k] * v[k];
  }

  template <class T, class G>
  GD_HD void apply_transposed(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    apply(g, F, v, out);
  }

  // Of N (see `curvature`).
  template <class T, class G>
  GD_HD void apply_complement(const G& g, const Spectral<T>& N, const T* v, T* out) const {
    apply(g, N, v, out);
  }

  template <class T, class G>
  GD_HD void apply_inverse(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) out[k] = v[k] / F.vector[k];
  }

  // Rows of Ã = F A; row k of A is row k − offset of Ã.
  template <class T, class G>
  GD_HD void scale_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled, index_t offset,
                        index_t panels) const {
    for (index_t p = 0; p < panels; p++) {
      const T* a = A.panel(p);
      T* out = scaled.panel(p) - offset * kTile;
      GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
        const T f = F.vector[k];
        GD_UNROLL for (int j = 0; j < kTile; j++) { out[k * kTile + j] = f * a[k * kTile + j]; }
      }
    }
  }

  // F is a weight per row, which a cooperative group applies as it goes (linalg/cooperative.cuh).
  template <class T, class G>
  GD_HD void scale_dense_rows(const G&, const Spectral<T>&, const Panels<T>&, const Panels<T>&, index_t,
                              index_t) const {}

  // λ \ (λ∘λ + ds∘dz − centre·e): Mehrotra's corrected complementarity.
  template <class T, class G>
  GD_HD void correction(const G& g, const ScaledStep<T>& step, const Spectral<T>&, const Centring<T>&, T centre,
                        T* out) const {
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) out[k] =
        step.lambda[k] + (step.ds[k] * step.dz[k] - centre) / step.lambda[k];
  }

  // The largest 1/α for which s + α ds touches the boundary, over this member's rows.
  template <class T, class G>
  GD_HD T inverse_step(const G& g, const T* s, const T* ds, const Spectral<T>&) const {
    T r{};
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) r = maximum(T(-ds[k] / s[k]), r);
    return r;
  }

  // y = Π_{K*}(v), s = y − v = Π_K(−v).
  template <class T, class G>
  GD_HD void project(const G& g, const T* v, T, const Spectral<T>&, T* y, T* s, Mask<T>) const {
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
      const Mask<T> active = v[k] > T{};
      y[k] = select(active, v[k], T{});
      s[k] = select(active, T{}, T(-v[k]));
    }
  }

  // With l the eigenvalues of DΠ_{K*}(v): F = √(l/(1−l+δ)), N = (1−l)/(1−l+δ), in the lanes of `update`.
  template <class T, class G>
  GD_HD void curvature(const G& g, const T* v, const Spectral<T>&, T delta, Mask<T> update, const Spectral<T>& F,
                       const Spectral<T>& N) const {
    const T stiff = broadcast<T>(1) / square_root(delta), loose = broadcast<T>(1) / (broadcast<T>(1) + delta);
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
      const Mask<T> active = v[k] > T{};
      F.vector[k] = select(update, select(active, stiff, T{}), F.vector[k]);
      N.vector[k] = select(update, select(active, T{}, loose), N.vector[k]);
    }
  }

  // The interior y and s with y − s = v and s y = μ, and F = √(y/s) = y/√μ.
  template <class T, class G>
  GD_HD void central(const G& g, const T* v, T mu, const Spectral<T>& F, T* y, T* s) const {
    const T inverse = broadcast<T>(1) / square_root(mu);
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) {
      const CentralPair<T> pair = central_pair(v[k], mu);
      y[k] = pair.y;
      s[k] = pair.s;
      F.vector[k] = pair.y * inverse;
    }
  }

  // Distance of v to the nearest point where Π is not differentiable.
  template <class T, class G>
  GD_HD T margin(const G& g, const T* v, const Spectral<T>&) const {
    T r = broadcast<T>(1e30);
    GD_NO_UNROLL for (index_t k = begin + g.rank(); k < end; k += g.size()) r = minimum(absolute(v[k]), r);
    return r;
  }
};

}  // namespace GD_NAMESPACE
