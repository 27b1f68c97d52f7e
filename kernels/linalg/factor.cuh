// The quasi-definite factorisation: assembly of the condensed matrix and its LDLᵀ, tile by tile.
//
//     K = [ P + EᵀE + ÃᵀÃ + ε   Eᵀ ]  = L S Lᵀ,   S = diag(+1 … +1, −1 … −1),
//         [ E                  −δ  ]
//
// with E the equality rows. Without EᵀE the upper block could be singular where the whole is not (an LP whose vertex is
// held by equalities), and eliminating it first would lose the digits; as E u is known, EᵀE costs a term on the right.
// L carries √|d| in its columns (a signed Cholesky factor); its diagonal is stored as a reciprocal. Quasi-definite
// matrices have this factorisation in any order (Vanderbei 1995), so no pivoting is needed; pivots that cancellation
// has destroyed are replaced, see `factorise_tile`. What stands here is for one thread; groups of several members have
// their own (cooperative.cuh).
#pragma once
#include "../group.cuh"
#include "layout.cuh"

namespace GD_NAMESPACE {

// Columns of results that fit the register file beside their operands.
#if defined(__AVX512VL__) || defined(__aarch64__) || defined(__CUDACC__)
constexpr int kTileColumnsAtOnce = kTile;
#else
constexpr int kTileColumnsAtOnce = kTile / 2;
#endif

// acc[r][c] ± = Σ_k a[k·kTile + r] · b[k·kTile + c]: where nearly all the floating-point work is done.
template <int SIGN, class T>
GD_HD void update_tile(T (&acc)[kTile][kTile], const T* GD_RESTRICT a, const T* GD_RESTRICT b, index_t count) {
  GD_UNROLL for (int first = 0; first < kTile; first += kTileColumnsAtOnce) {
    GD_NO_UNROLL for (index_t k = 0; k < count; k++) {
      T column[kTileColumnsAtOnce];
      GD_UNROLL for (int c = 0; c < kTileColumnsAtOnce; c++) {
        column[c] = b[k * kTile + first + c];
        keep_in_register(column[c]);
      }
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        T row = a[k * kTile + r];
        keep_in_register(row);
        GD_UNROLL for (int c = 0; c < kTileColumnsAtOnce; c++) {
          if constexpr (SIGN > 0)
            acc[r][first + c] += row * column[c];
          else
            acc[r][first + c] -= row * column[c];
        }
      }
    }
  }
}

// One factorisation's operands. The first `variable_blocks` tile rows belong to the variables, the rest to the equality
// rows.
template <class T>
struct Quasidefinite {
  SymmetricTiles<T> P;   // P + EᵀE (P itself for a cooperative group), with ones on the padded diagonal
  Panels<T> scaled;      // Ã, `scaled_rows` rows
  Panels<T> equalities;  // A, whose first rows are E
  SymmetricTiles<T> L;   // the factor
  index_t n, equality_rows, scaled_rows;
  // For a cooperative group (linalg/cooperative.cuh): Ã's first rows are those of A behind E, each with a weight.
  const T* weight;  // by row of A
  index_t weighted_rows;
  T* magnitude;  // [order] |diagonal| before elimination

  GD_HD index_t variable_blocks() const { return tiles(n); }
  GD_HD index_t blocks() const { return tiles(n) + tiles(equality_rows); }
  GD_HD index_t order() const { return blocks() * kTile; }
};

// Tile (I, J) of K in the rows of the equalities: E, and beside it zero, but for −1 on the padded diagonal.
template <class T>
GD_HD void equality_tile(const Quasidefinite<T>& k, index_t I, index_t J, T (&acc)[kTile][kTile]) {
  const index_t nb = k.variable_blocks();
  GD_UNROLL for (int r = 0; r < kTile; r++) {
    const index_t row = (I - nb) * kTile + r;
    if (J < nb) {
      const T* e = k.equalities.panel(J) + row * kTile;
      // Rows past the equalities belong to other cones.
      GD_UNROLL for (int c = 0; c < kTile; c++) { acc[r][c] = row < k.equality_rows ? e[c] : T{}; }
    } else {
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        acc[r][c] = r == c && I == J && row >= k.equality_rows ? broadcast<T>(-1) : T{};
      }
    }
  }
}

// Tile (I, J) of K less what the columns left of J have eliminated. `magnitude`: |diagonal| before elimination.
template <class T>
GD_HD void eliminated_tile(const Quasidefinite<T>& k, index_t I, index_t J, T (&acc)[kTile][kTile], T* magnitude) {
  const index_t nb = k.variable_blocks();
  if (I < nb) {
    const T* p = k.P.tile(I, J);
    GD_UNROLL for (int c = 0; c < kTile; c++) {
      GD_UNROLL for (int r = 0; r < kTile; r++) { acc[r][c] = p[c * kTile + r]; }
    }
    update_tile<1>(acc, k.scaled.panel(I), k.scaled.panel(J), k.scaled_rows);
  } else {
    equality_tile(k, I, J, acc);
  }
  if (magnitude && J < nb) {
    GD_UNROLL for (int c = 0; c < kTile; c++) { magnitude[c] = absolute(acc[c][c]); }
  }
  const index_t positive = (J < nb ? J : nb) * kTile;
  update_tile<-1>(acc, k.L.tile(I, 0), k.L.tile(J, 0), positive);
  if (magnitude && J >= nb) {  // a Schur complement's size is what the positive part made of it
    GD_UNROLL for (int c = 0; c < kTile; c++) { magnitude[c] = absolute(acc[c][c]); }
  }
  if (J > nb)
    update_tile<1>(acc, k.L.tile(I, 0) + positive * kTile, k.L.tile(J, 0) + positive * kTile, J * kTile - positive);
}

template <class T>
constexpr double kReplacedPivot = sizeof(Real<T>) == 8 ? 1e-6 : 1e-3;

// The signed factor of a diagonal tile, in place of its lower triangle; the diagonal as reciprocals. `regularisation`
// (ε = δ) is added to every pivot's magnitude; a pivot below 1e-15 times its value before elimination carries no digits
// and becomes `replaced_by` times that value, by default so large that its variable stays put.
template <class T>
GD_HD void factorise_tile(T (&a)[kTile][kTile], const T (&magnitude)[kTile], T sign, T regularisation,
                          double replaced_by) {
  constexpr bool is_double = sizeof(Real<T>) == 8;
  const T tiny = broadcast<T>(is_double ? 1e-15 : 1e-6), replacement = broadcast<T>(replaced_by);
  GD_UNROLL for (int c = 0; c < kTile; c++) {
    T d = a[c][c] * sign + regularisation;
    const T floor = magnitude[c] * tiny + regularisation * broadcast<T>(0.5);
    d = select(d > floor, d, T(magnitude[c] * replacement + regularisation));
    a[c][c] = inverse_square_root(d);
    GD_UNROLL for (int r = c + 1; r < kTile; r++) { a[r][c] = a[r][c] * (a[c][c] * sign); }
    GD_UNROLL for (int c2 = c + 1; c2 < kTile; c2++) {
      const T l = sign * a[c2][c];
      GD_UNROLL for (int r = c2; r < kTile; r++) { a[r][c2] -= a[r][c] * l; }
    }
  }
}

// Factorises K into k.L.
template <class T>
GD_HD void factorise(const Alone&, const Quasidefinite<T>& k, T regularisation,
                     double replaced_by = kReplacedPivot<T>) {
  const index_t nb = k.variable_blocks(), total = k.blocks();
  GD_NO_UNROLL for (index_t J = 0; J < total; J++) {
    const T sign = broadcast<T>(J < nb ? 1 : -1);
    T* diagonal = k.L.tile(J, J);
    {
      T a[kTile][kTile], magnitude[kTile] = {};
      eliminated_tile(k, J, J, a, magnitude);
      factorise_tile(a, magnitude, sign, regularisation, replaced_by);
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int r = c; r < kTile; r++) { diagonal[c * kTile + r] = a[r][c]; }
      }
    }
    GD_NO_UNROLL for (index_t I = J + 1; I < total; I++) {
      T a[kTile][kTile];
      eliminated_tile(k, I, J, a, static_cast<T*>(nullptr));
      T* out = k.L.tile(I, J);
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        const T scale = diagonal[c * kTile + c] * sign;
        T l[kTile];
        GD_UNROLL for (int c2 = 0; c2 < c; c2++) { l[c2] = sign * diagonal[c2 * kTile + c]; }
        GD_UNROLL for (int r = 0; r < kTile; r++) {
          T t = a[r][c];
          GD_UNROLL for (int c2 = 0; c2 < c; c2++) { t -= a[r][c2] * l[c2]; }
          t = t * scale;
          a[r][c] = t;
          out[c * kTile + r] = t;
        }
      }
    }
  }
}

// Solves K v_r = v_r in place for R right-hand sides `stride` apart, each of k.order() entries with zeros in the
// padding.
template <int R, class T>
GD_HD void solve_factorised(const Alone&, const Quasidefinite<T>& k, T* v, index_t stride) {
  const index_t nb = k.variable_blocks(), total = k.blocks();
  GD_NO_UNROLL for (index_t J = 0; J < total; J++) {
    const T* d = k.L.tile(J, J);
    T t[R][kTile];
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        T a = v[r * stride + J * kTile + c];
        GD_UNROLL for (int c2 = 0; c2 < c; c2++) { a -= d[c2 * kTile + c] * t[r][c2]; }
        t[r][c] = a * d[c * kTile + c];
      }
    }
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int c = 0; c < kTile; c++) { v[r * stride + J * kTile + c] = J < nb ? t[r][c] : -t[r][c]; }
    }
    GD_NO_UNROLL for (index_t I = J + 1; I < total; I++) {
      const T* l = k.L.tile(I, J);
      T a[R][kTile];
      GD_UNROLL for (int r = 0; r < R; r++) {
        GD_UNROLL for (int i = 0; i < kTile; i++) { a[r][i] = v[r * stride + I * kTile + i]; }
      }
      GD_UNROLL for (int c = 0; c < kTile; c++) {
        GD_UNROLL for (int i = 0; i < kTile; i++) {
          T e = l[c * kTile + i];
          keep_in_register(e);
          GD_UNROLL for (int r = 0; r < R; r++) { a[r][i] -= e * t[r][c]; }
        }
      }
      GD_UNROLL for (int r = 0; r < R; r++) {
        GD_UNROLL for (int i = 0; i < kTile; i++) { v[r * stride + I * kTile + i] = a[r][i]; }
      }
    }
  }
  GD_NO_UNROLL for (index_t I = total - 1; I >= 0; I--) {
    const T* d = k.L.tile(I, I);
    T t[R][kTile];
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int c = kTile - 1; c >= 0; c--) {
        T a = v[r * stride + I * kTile + c];
        GD_UNROLL for (int i = c + 1; i < kTile; i++) { a -= d[c * kTile + i] * t[r][i]; }
        t[r][c] = a * d[c * kTile + c];
      }
    }
    GD_UNROLL for (int r = 0; r < R; r++) {
      GD_UNROLL for (int c = 0; c < kTile; c++) { v[r * stride + I * kTile + c] = t[r][c]; }
    }
    GD_NO_UNROLL for (index_t J = 0; J < I; J++) {
      const T* l = k.L.tile(I, J);
      GD_UNROLL for (int r = 0; r < R; r++) {
        GD_UNROLL for (int c = 0; c < kTile; c++) {
          T a = v[r * stride + J * kTile + c];
          GD_UNROLL for (int i = 0; i < kTile; i++) { a -= l[c * kTile + i] * t[r][i]; }
          v[r * stride + J * kTile + c] = a;
        }
      }
    }
  }
}

}  // namespace GD_NAMESPACE
