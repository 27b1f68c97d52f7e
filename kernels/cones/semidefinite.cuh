// The cone of positive semidefinite matrices, as vectors of their lower triangles (psd_projection.cuh). Its own dual.
//
// Nesterov–Todd scaling in the frame where both iterates are the same diagonal matrix (Todd, Toh & Tütüncü 1998;
// Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010, §4.3): F(X) = MᵀX M with F(S) = F⁻ᵀ(Z) =
// Λ. Curvature of the projection in the matrix's own eigenvectors (Malick & Sendov 2006). In both frames everything
// that remains is entry by entry.
//
// All members of a group work on one cone at a time.
#pragma once
#include "../linalg/small.cuh"
#include "psd_projection.cuh"
#include "spectral.cuh"

namespace GD_NAMESPACE {

// Place of (row, column), row ≥ column.
GD_HD index_t svec_place(index_t order, index_t row, index_t column) {
  return svec_column(order, column) + row - column;
}

struct SemidefiniteCones {
  index_t count;
  const index_t* first;
  const index_t* order;
  index_t words;  // where they begin in `Spectral::matrix`

  // Calls work(first row, order, words of the cone's matrices).
  template <class Work>
  GD_HD void each(Work work) const {
    index_t word = words;
    GD_NO_UNROLL for (index_t c = 0; c < count; c++) {
      work(first[c], order[c], word);
      word += semidefinite_words(order[c]);
    }
  }
  // Calls work(place in the vector, row, column) for the lower triangle's entries, shared out among the group.
  template <class G, class Work>
  static GD_HD void entries(const G& g, index_t k, Work work) {
    GD_NO_UNROLL for (index_t c = g.rank(); c < k; c += g.size()) {
      GD_NO_UNROLL for (index_t r = c; r < k; r++) work(svec_place(k, r, c), r, c);
    }
    g.sync();
  }

  template <class T, class G>
  GD_HD void start(const G& g, const T* b, T* s, T* z) const {
    const T one = broadcast<T>(1);
    each([&](index_t row, index_t k, index_t) GD_LAMBDA {
      T trace{};
      GD_NO_UNROLL for (index_t i = 0; i < k; i++) trace += b[row + svec_place(k, i, i)];
      const T size = maximum(T(trace * broadcast<T>(1.0 / double(k))), one);
      entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
        s[row + e] = r == c ? size : T{};
        z[row + e] = r == c ? T(one / size) : T{};
      });
    });
  }

  // With Z = L Lᵀ and LᵀS L = U Λ² Uᵀ: M = L U Λ^(−1/2), M⁻ᵀ = L⁻ᵀU Λ^(1/2).
  template <class T, class G>
  GD_CONE void scaling(const G& g, const T* s, const T* z, const Centring<T>&, const Spectral<T>& F, T* lambda) const {
    const T one = broadcast<T>(1);
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      T *M = F.matrix + word, *inverse = M + k * k;
      T *L = F.scratch, *product = L + k * k, *small = product + k * k, *U = small + k * k,
        *values = U + k * k;  // U's rows are the eigenvectors
      g.sync();
      svec_to_matrix(g, k, z + row, L);
      cholesky_small(g, k, L);
      svec_to_matrix(g, k, s + row, small);
      multiply_small(g, k, plain(small, k), plain(L, k), false, product);
      multiply_small(g, k, transposed(L, k), plain(product, k), false, small);
      symmetric_eigen(g, k, small, k, U, values);
      multiply_small(g, k, plain(L, k), transposed(U, k), false, M);
      // Λ^(±1/2) from the eigenvalues Λ².
      GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) values[i] = square_root(values[i]);
      g.sync();
      GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) {
        const T root = square_root(values[i]), over = one / root;
        GD_NO_UNROLL for (index_t r = 0; r < k; r++) {
          M[r * k + i] = M[r * k + i] * over;
          inverse[r * k + i] = U[i * k + r] * root;
        }
      }
      g.sync();
      solve_transposed_small(g, k, L, inverse);
      entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
        lambda[row + e] = r == c ? values[r] : T{};
        F.vector[row + e] = one;
      });
    });
  }

  // out = svec(Aᵀ smat(v) A), or with `out` of the transpose A smat(v) Aᵀ.
  template <class T, class G>
  static GD_CONE void congruence(const G& g, index_t k, const T* A, bool flipped, T* scratch, const T* v, T* out) {
    T *X = scratch, *product = X + k * k;
    svec_to_matrix(g, k, v, X);
    multiply_small(g, k, plain(X, k), flipped ? transposed(A, k) : plain(A, k), false, product);
    multiply_small(g, k, flipped ? plain(A, k) : transposed(A, k), plain(product, k), true, X);
    const T root = broadcast<T>(kRootTwo);
    entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
      out[e] = r == c ? X[r * k + c] : T(root * X[r * k + c]);
    });
  }

  template <class T, class G>
  GD_HD void apply(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      g.sync();
      congruence(g, k, F.matrix + word, false, F.scratch, v + row, out + row);
      entries(g, k, [&](index_t e, index_t, index_t) GD_LAMBDA { out[row + e] = F.vector[row + e] * out[row + e]; });
    });
  }
  template <class T, class G>
  GD_HD void apply_transposed(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      g.sync();
      entries(g, k, [&](index_t e, index_t, index_t) GD_LAMBDA { out[row + e] = F.vector[row + e] * v[row + e]; });
      congruence(g, k, F.matrix + word, true, F.scratch, out + row, out + row);
    });
  }
  // Of a scaling: F⁻¹(Y) = M⁻ᵀY M⁻¹.
  template <class T, class G>
  GD_HD void apply_inverse(const G& g, const Spectral<T>& F, const T* v, T* out) const {
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      g.sync();
      congruence(g, k, F.matrix + word + k * k, true, F.scratch, v + row, out + row);
    });
  }
  template <class T, class G>
  GD_HD void apply_complement(const G& g, const Spectral<T>& N, const T* v, T* out) const {
    each([&](index_t row, index_t k, index_t) GD_LAMBDA {
      GD_NO_UNROLL for (index_t e = row + g.rank(); e < row + semidefinite_rows(k); e += g.size()) out[e] =
          N.vector[e] * v[e];
    });
  }

  // A panel's kTile columns at a time, each the vector of a symmetric matrix.
  template <class T, class G>
  GD_CONE void scale_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled, index_t offset,
                          index_t panels) const {
    const T half = broadcast<T>(kHalfRoot), two = broadcast<T>(kRootTwo);
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      const T *M = F.matrix + word, *weight = F.vector + row;
      T *X = F.scratch, *product = X + kTile * k * k;
      GD_NO_UNROLL for (index_t p = 0; p < panels; p++) {
        const T* a = A.panel(p) + row * kTile;
        T* out = scaled.panel(p) + (row - offset) * kTile;
        g.sync();
        entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
          const T factor = r == c ? broadcast<T>(1) : half;
          GD_UNROLL for (int j = 0; j < kTile; j++) {
            X[(r * k + c) * kTile + j] = X[(c * k + r) * kTile + j] = a[e * kTile + j] * factor;
          }
        });
        GD_NO_UNROLL for (index_t e = g.rank(); e < k * k; e += g.size()) {  // X M
          const T *x = X + e / k * k * kTile, *m = M + e % k;
          T sum[kTile];
          GD_UNROLL for (int j = 0; j < kTile; j++) { sum[j] = T{}; }
          GD_NO_UNROLL for (index_t l = 0; l < k; l++) {
            const T f = m[l * k];
            GD_UNROLL for (int j = 0; j < kTile; j++) { sum[j] += x[l * kTile + j] * f; }
          }
          GD_UNROLL for (int j = 0; j < kTile; j++) { product[e * kTile + j] = sum[j]; }
        }
        g.sync();
        entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
          T sum[kTile];
          GD_UNROLL for (int j = 0; j < kTile; j++) { sum[j] = T{}; }
          GD_NO_UNROLL for (index_t l = 0; l < k; l++) {
            const T f = M[l * k + r];
            const T* x = product + (l * k + c) * kTile;
            GD_UNROLL for (int j = 0; j < kTile; j++) { sum[j] += x[j] * f; }
          }
          const T w = r == c ? weight[e] : T(weight[e] * two);
          GD_UNROLL for (int j = 0; j < kTile; j++) { out[e * kTile + j] = w * sum[j]; }
        });
      }
    });
  }
  template <class T, class G>
  GD_HD void scale_dense_rows(const G& g, const Spectral<T>& F, const Panels<T>& A, const Panels<T>& scaled,
                              index_t offset, index_t panels) const {
    scale_rows(g, F, A, scaled, offset, panels);
  }

  // Λ + Λ \ (ds∘dz − centre·I), with A∘B = (AB + BA)/2, of which Λ\ divides entry (i, j) by (λᵢ + λⱼ)/2.
  template <class T, class G>
  GD_CONE void correction(const G& g, const ScaledStep<T>& step, const Spectral<T>& F, const Centring<T>&, T centre,
                          T* out) const {
    const T half = broadcast<T>(0.5), one = broadcast<T>(1), root = broadcast<T>(kRootTwo);
    each([&](index_t row, index_t k, index_t) GD_LAMBDA {
      T *S = F.scratch, *Z = S + k * k, *product = Z + k * k;
      g.sync();
      svec_to_matrix(g, k, step.ds + row, S);
      svec_to_matrix(g, k, step.dz + row, Z);
      multiply_small(g, k, plain(S, k), plain(Z, k), false, product);
      const T* lambda = step.lambda + row;
      entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
        const T inverse = one / (half * (lambda[svec_place(k, r, r)] + lambda[svec_place(k, c, c)]));
        const T both = half * (product[r * k + c] + product[c * k + r]);
        out[row + e] = r == c ? T(lambda[e] + (both - centre) * inverse) : T(root * both * inverse);
      });
    });
  }

  // −(the least eigenvalue of Λ^(−1/2) ds Λ^(−1/2)).
  template <class T, class G>
  GD_CONE T inverse_step(const G& g, const T* lambda_all, const T* ds, const Spectral<T>& F) const {
    T worst{};
    each([&](index_t row, index_t k, index_t) GD_LAMBDA {
      T *X = F.scratch, *U = X + k * k, *values = U + k * k;
      const T* lambda = lambda_all + row;
      g.sync();
      svec_to_matrix(g, k, ds + row, X);
      GD_NO_UNROLL for (index_t r = g.rank(); r < k; r += g.size()) values[r] =
          inverse_square_root(lambda[svec_place(k, r, r)]);
      g.sync();
      GD_NO_UNROLL for (index_t e = g.rank(); e < k * k; e += g.size()) X[e] = X[e] * values[e / k] * values[e % k];
      g.sync();
      symmetric_eigen(g, k, X, k, U, values);
      GD_NO_UNROLL for (index_t r = 0; r < k; r++) worst = maximum(T(-values[r]), worst);
      g.sync();
    });
    return worst;
  }

  // Leaves eigenvalues and eigenvectors in `frame`.
  template <class T, class G>
  GD_CONE void project(const G& g, const T* v, T, const Spectral<T>& frame, T* y, T* s, Mask<T>) const {
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      g.sync();
      project_psd(g, k, v + row, y + row, s + row, frame.matrix + word, frame.vector + row, frame.scratch);
    });
  }

  template <class T, class G>
  GD_CONE void curvature(const G& g, const T*, const Spectral<T>& frame, T delta, Mask<T> update, const Spectral<T>& F,
                         const Spectral<T>& N) const {
    const T one = broadcast<T>(1);
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      const T *U = frame.matrix + word, *values = frame.vector + row;
      T* M = F.matrix + word;
      GD_NO_UNROLL for (index_t e = g.rank(); e < k * k; e += g.size()) M[e] =
          select(update, U[e % k * k + e / k], M[e]);
      entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
        const T l = psd_weight(values[r], values[c]), rest = psd_complement(values[r], values[c]);
        const T over = one / (rest + delta);
        T &f = F.vector[row + e], &n = N.vector[row + e];
        f = select(update, square_root(T(l * over)), f);
        n = select(update, T(rest * over), n);
      });
    });
  }

  // S Y = μ I, y = −μ∇f(s) for f(s) = −log det S: each eigenvalue of v by itself, and μ∇²f(s) has √(yᵢyⱼ/μ)² in the
  // frame of the eigenvectors.
  template <class T, class G>
  GD_CONE void central(const G& g, const T* v, T mu, const Spectral<T>& F, T* y, T* s) const {
    const T inverse = broadcast<T>(1) / mu;
    each([&](index_t row, index_t k, index_t word) GD_LAMBDA {
      T *X = F.scratch, *U = X + k * k, *dual = U + k * k, *primal = dual + k, *M = F.matrix + word;
      g.sync();
      svec_to_matrix(g, k, v + row, X);
      symmetric_eigen(g, k, X, k, U, dual, false);
      GD_NO_UNROLL for (index_t e = g.rank(); e < k; e += g.size()) {
        const CentralPair<T> pair = central_pair(dual[e], mu);
        dual[e] = pair.y;
        primal[e] = pair.s;
      }
      g.sync();
      svec_of_products(g, k, U, U, [dual](index_t e) GD_LAMBDA { return dual[e]; }, y + row);
      svec_of_products(g, k, U, U, [primal](index_t e) GD_LAMBDA { return primal[e]; }, s + row);
      GD_NO_UNROLL for (index_t e = g.rank(); e < k * k; e += g.size()) M[e] = U[e % k * k + e / k];
      entries(g, k, [&](index_t e, index_t r, index_t c) GD_LAMBDA {
        F.vector[row + e] = square_root(T(dual[r] * dual[c] * inverse));
      });
    });
  }

  template <class T, class G>
  GD_HD T margin(const G& g, const T*, const Spectral<T>& frame) const {
    T r = broadcast<T>(1e30);
    each([&](index_t row, index_t k, index_t) GD_LAMBDA {
      GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) r = minimum(absolute(frame.vector[row + i]), r);
    });
    return r;
  }
};

}  // namespace GD_NAMESPACE
