// Small square matrices, dense and row by row, that a whole group works on: what the PSD cone computes with.
//
// The caller synchronises before each function; each leaves its results for everybody to read.
#pragma once
#include "../group.cuh"
#include "layout.cuh"

namespace GD_NAMESPACE {

// A matrix or its transpose.
template <class T>
struct Strided {
  const T* data;
  index_t row, column;

  GD_HD const T& operator()(index_t i, index_t j) const { return data[i * row + j * column]; }
};
template <class T>
GD_HD Strided<T> plain(const T* a, index_t k) {
  return {a, k, 1};
}
template <class T>
GD_HD Strided<T> transposed(const T* a, index_t k) {
  return {a, 1, k};
}

// out = A B, or its lower triangle alone. `out` must be neither A nor B.
template <class T, class G>
GD_HD void multiply_small(const G& g, index_t k, const Strided<T>& A, const Strided<T>& B, bool lower, T* out) {
  constexpr index_t kAtOnce = 4;
  const index_t strips = (k + kAtOnce - 1) / kAtOnce;
  GD_NO_UNROLL for (index_t e = g.rank(); e < k * strips; e += g.size()) {
    const index_t i = e / strips, first = e % strips * kAtOnce, end = lower ? i + 1 : k;
    if (first + kAtOnce <= end) {
      T sum[kAtOnce];
      GD_UNROLL for (int c = 0; c < kAtOnce; c++) { sum[c] = T{}; }
      GD_NO_UNROLL for (index_t l = 0; l < k; l++) {
        const T a = A(i, l);
        GD_UNROLL for (int c = 0; c < kAtOnce; c++) { sum[c] += a * B(l, first + c); }
      }
      GD_UNROLL for (int c = 0; c < kAtOnce; c++) { out[i * k + first + c] = sum[c]; }
    } else {
      GD_NO_UNROLL for (index_t j = first; j < end; j++) {
        T sum{};
        GD_NO_UNROLL for (index_t l = 0; l < k; l++) sum += A(i, l) * B(l, j);
        out[i * k + j] = sum;
      }
    }
  }
  g.sync();
}

// A = L Lᵀ in place of the lower triangle; the upper one becomes zero. Where A is not positive definite, NaN.
template <class T, class G>
GD_HD void cholesky_small(const G& g, index_t k, T* A) {
  GD_NO_UNROLL for (index_t j = 0; j < k; j++) {
    const T inverse = inverse_square_root(A[j * k + j]);
    g.sync();
    GD_NO_UNROLL for (index_t i = j + g.rank(); i < k; i += g.size()) {
      A[i * k + j] = A[i * k + j] * inverse;
      if (i > j) A[j * k + i] = T{};
    }
    g.sync();
    GD_NO_UNROLL for (index_t i = j + 1 + g.rank(); i < k; i += g.size()) {
      const T l = A[i * k + j];
      GD_NO_UNROLL for (index_t c = j + 1; c <= i; c++) A[i * k + c] -= l * A[c * k + j];
    }
    g.sync();
  }
}

// X = L⁻ᵀX in place.
template <class T, class G>
GD_HD void solve_transposed_small(const G& g, index_t k, const T* L, T* X) {
  GD_NO_UNROLL for (index_t i = k - 1; i >= 0; i--) {
    const T inverse = broadcast<T>(1) / L[i * k + i];
    GD_NO_UNROLL for (index_t j = g.rank(); j < k; j += g.size()) {
      T sum = X[i * k + j];
      GD_NO_UNROLL for (index_t l = i + 1; l < k; l++) sum -= L[l * k + i] * X[l * k + j];
      X[i * k + j] = sum * inverse;
    }
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
