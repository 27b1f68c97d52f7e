// Matrix–vector products with the layouts of layout.cuh, for R right-hand sides at a time: with R = 2 each matrix
// element that is loaded serves two multiply-adds, and these loops are limited by loads. What stands here is for one
// thread; groups of several members have their own (cooperative.cuh).
#pragma once
#include "cooperative.cuh"

namespace GD_NAMESPACE {

// out_r = M x_r for the first `rows` rows (rounded up to whole tiles). x_r, out_r: R vectors `x_stride`, `out_stride`
// apart. The caller synchronises before and after.
template <int R, class T>
GD_HD void multiply(const Alone&, const Panels<T>& M, index_t rows, index_t columns, const T* x, index_t x_stride,
                    T* out, index_t out_stride) {
  const index_t panels = tiles(columns);
  GD_NO_UNROLL for (index_t k = 0; k < rows; k += kTile) {
    // Two partial sums per result, or the adder's latency would show.
    T even[R][kTile], odd[R][kTile];
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int i = 0; i < kTile; i++) { even[r][i] = odd[r][i] = T{}; }
    }
    GD_NO_UNROLL for (index_t p = 0; p < panels; p++) {
      const T* m = M.panel(p) + k * kTile;
      GD_UNROLL for (int j = 0; j < kTile; j += 2) {
        GD_UNROLL for (int i = 0; i < kTile; i++) {
          T a = m[i * kTile + j], b = m[i * kTile + j + 1];
          keep_in_register(a);
          keep_in_register(b);
          GD_UNROLL for (int r = 0; r < R; r++) {
            const T* v = x + r * x_stride + p * kTile;
            even[r][i] += a * v[j];
            odd[r][i] += b * v[j + 1];
          }
        }
      }
    }
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int i = 0; i < kTile; i++) { out[r * out_stride + k + i] = even[r][i] + odd[r][i]; }
    }
  }
}

// out_r = Mᵀ v_r, over rows begin ≤ k < end.
template <int R, class T>
GD_HD void multiply_transposed(const Alone&, const Panels<T>& M, index_t begin, index_t end, index_t columns,
                               const T* v, index_t v_stride, T* out, index_t out_stride) {
  const index_t panels = tiles(columns);
  GD_NO_UNROLL for (index_t p = 0; p < panels; p++) {
    T even[R][kTile], odd[R][kTile];
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int j = 0; j < kTile; j++) { even[r][j] = odd[r][j] = T{}; }
    }
    const T* m = M.panel(p) + begin * kTile;
    index_t k = begin;
    GD_NO_UNROLL for (; k + 2 <= end; k += 2, m += 2 * kTile) {
      GD_UNROLL for (int j = 0; j < kTile; j++) {
        T a = m[j], b = m[kTile + j];
        keep_in_register(a);
        keep_in_register(b);
        GD_UNROLL for (int r = 0; r < R; r++) {
          even[r][j] += a * v[r * v_stride + k];
          odd[r][j] += b * v[r * v_stride + k + 1];
        }
      }
    }
    if (k < end) {
      GD_UNROLL for (int j = 0; j < kTile; j++) {
        GD_UNROLL for (int r = 0; r < R; r++) { even[r][j] += m[j] * v[r * v_stride + k]; }
      }
    }
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int j = 0; j < kTile; j++) { out[r * out_stride + p * kTile + j] = even[r][j] + odd[r][j]; }
    }
  }
}

// out_r = S v_r for a symmetric matrix of `blocks` tile rows.
template <int R, class T>
GD_HD void multiply_symmetric(const Alone&, const SymmetricTiles<T>& S, index_t blocks, const T* v, index_t v_stride,
                              T* out, index_t out_stride) {
  GD_NO_UNROLL for (index_t I = 0; I < blocks; I++) {
    T even[R][kTile], odd[R][kTile];
    GD_UNROLL for (int i = 0; i < R; i++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { even[i][r] = odd[i][r] = T{}; }
    }
    const auto add = [&](const T& a, const T& b, int r, index_t k) {  // columns k and k + 1 of a row
      GD_UNROLL for (int i = 0; i < R; i++) {
        even[i][r] += a * v[i * v_stride + k];
        odd[i][r] += b * v[i * v_stride + k + 1];
      }
    };
    const T* s = S.tile(I, 0);
    GD_NO_UNROLL for (index_t k = 0; k < (I + 1) * kTile; k += 2) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { add(s[k * kTile + r], s[(k + 1) * kTile + r], r, k); }
    }
    GD_NO_UNROLL for (index_t J = I + 1; J < blocks; J++) {
      const T* t = S.tile(J, I);
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        GD_UNROLL for (int j = 0; j < kTile; j += 2) { add(t[r * kTile + j], t[r * kTile + j + 1], r, J * kTile + j); }
      }
    }
    GD_UNROLL for (int i = 0; i < R; i++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { out[i * out_stride + I * kTile + r] = even[i][r] + odd[i][r]; }
    }
  }
}
template <class T>
GD_HD void multiply_symmetric(const Alone& g, const SymmetricTiles<T>& S, index_t blocks, const T* v, T* out) {
  multiply_symmetric<1>(g, S, blocks, v, 0, out, 0);
}

}  // namespace GD_NAMESPACE
