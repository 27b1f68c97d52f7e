// The linear system behind jvp and vjp at a solution of the active-set method: its active rows are equalities of an
// active-set state that has no others (active_set/state.cuh). In its coordinates, with g = L⁻¹e₁,
//
//     M Mᵀ c = M g − N e₂,   t = N c,   u = L⁻ᵀ(g − Mᵀc),
//
// so that the factors of P and of M Mᵀ, for the active rows alone, are all there is to compute. Keeping the factors of
// the solve instead is not worth it: they are as large as the data, and writing and reading them takes as long as
// making these anew.
//
// Residuals are formed with the problem's own data, and refined away; lanes where that fails are left to the general
// system (derivative/sensitivity.cuh).
#pragma once
#include "active_set_chunk.hpp"

namespace GD_NAMESPACE {

template <class T>
struct WorkingSetSystem {
  static constexpr int W = Scalar<T>::lanes;
  static constexpr int kRounds = 5;
  static constexpr double kSettled = 3e-14, kFailed = 1e-11, kDependentRows = 1e-11;
  ActiveSet<T, T> s;
  SymmetricTiles<T> gram;
  T *band, *u, *t, *r1, *r2;
  double* zeros;  // [n] a row that is not there
  index_t n, room;

  // Room for the system of a problem with n variables and at most n active rows of m.
  static index_t carve(WorkingSetSystem* self, index_t n, index_t m, char* base) {
    ByteCarver memory{base, 0};
    WorkingSetSystem w;
    w.n = n;
    w.room = n < m ? n : m;
    carve_matrices(w.s, memory, memory, memory, n, w.room, 0, false);
    carve_vectors(w.s, memory);
    w.gram = {memory.take<T>(SymmetricTiles<T>::words(tiles(w.room)))};
    w.band = memory.take<T>(kTile * padded(n));
    w.u = memory.take<T>(padded(n));
    w.r1 = memory.take<T>(padded(n));
    w.t = memory.take<T>(padded(w.room) + kTile);
    w.r2 = memory.take<T>(padded(w.room) + kTile);
    w.zeros = memory.take<double>(n);
    if (self) *self = w;
    return memory.used;
  }

  // Solves [P Aᵀ; A 0](u, t) = (e1, e2) for the rows row_at[lane][0 … rows − 1] of each lane's A (−1: none). Returns
  // the lanes where that went well.
  unsigned solve(const Instance* instances, int used, const index_t* row_at, index_t row_stride, index_t rows,
                 const T* e1, const T* e2) {
    const Alone g{};
    const double *P[W], *src[W];
    for (int l = 0; l < W; l++) P[l] = instances[l < used ? l : 0].P;
    s.equalities = rows;
    for (index_t i = 0; i < padded(n); i++) {
      for (int l = 0; l < W; l++) src[l] = P[l] + i * n;
      if (i < n) interleave(src, i + 1, &s.L.at(i, 0), index_t(kTile));
      for (index_t j = 0; i >= n && j <= i; j++) s.L.at(i, j) = i == j ? broadcast<T>(1) : T{};
    }
    const auto row_sources = [&](index_t k, const double** sources) {
      for (int l = 0; l < W; l++) {
        const int from = l < used ? l : 0;
        const index_t row = k < rows ? row_at[from * row_stride + k] : -1;
        sources[l] = row < 0 ? zeros : instances[from].A + row * n;
      }
    };
    for (index_t k = 0; k < padded(rows); k++) {
      row_sources(k, src);
      interleave(src, n, &s.M_zero.at(k, 0), index_t(kTile));
      for (index_t j = n; j < padded(n); j++) s.M_zero.at(k, j) = T{};
    }
    unsigned good = lane_bits<T>(factorise_objective(g, s)) & ((1u << used) - 1u);
    transform_rows(g, s.L, n, no_reflectors<T>(), n, s.M_zero, tiles(rows), s.norm_zero);
    good &= lane_bits<T>(factorise_gram(rows));
    if (!good) return 0;
    for (index_t j = 0; j < padded(n); j++) u[j] = T{}, r1[j] = j < n ? e1[j] : T{};
    for (index_t k = 0; k < padded(rows); k++) t[k] = T{}, r2[k] = k < rows ? e2[k] : T{};
    unsigned open = good;
    for (int round = 0;; round++) {
      for (index_t j = 0; j < padded(n); j++) s.z[j] = r1[j];
      solve_lower(g, s.L, n, s.z);
      multiply_bands(g, s.M_zero, tiles(rows), padded(n), s.z, s.w_zero);
      for (index_t k = 0; k < rows; k++) s.w_zero[k] -= r2[k] * s.norm_zero[k];
      solve_lower(g, gram, rows, s.w_zero);
      solve_lower_transposed(g, gram, rows, s.w_zero);
      subtract_transposed(g, s.M_zero, tiles(rows), padded(n), s.w_zero, s.z);
      solve_lower_transposed(g, s.L, n, s.z);
      const Mask<T> moves = lane_mask<T>(open);
      for (index_t j = 0; j < n; j++) u[j] += select(moves, s.z[j], T{});
      for (index_t k = 0; k < rows; k++) t[k] += select(moves, T(s.w_zero[k] * s.norm_zero[k]), T{});
      const T error = residual(P, row_sources, rows, e1, e2);
      open &= ~lane_bits<T>(error <= broadcast<T>(kSettled));
      if (!open) return good;
      if (round >= kRounds) return good & ~(open & ~lane_bits<T>(error <= broadcast<T>(kFailed)));
    }
  }

  // The factor of M Mᵀ, whose rows have length one or, where there is none, zero. Returns the lanes where they are
  // independent enough for refinement to make up for the square.
  Mask<T> factorise_gram(index_t rows) {
    const index_t blocks = tiles(rows), columns = padded(n);
    const T one = broadcast<T>(1);
    T smallest = one;
    for (index_t J = 0; J < blocks; J++) {
      T* diagonal = gram.tile(J, J);
      for (index_t I = J; I < blocks; I++) {
        T a[kTile][kTile] = {};
        T* out = gram.tile(I, J);
        update_tile<1>(a, s.M_zero.band(I), s.M_zero.band(J), columns);
        T magnitude[kTile];
        GD_UNROLL for (int c = 0; c < kTile; c++) {
          if (I == J) a[c][c] = select(a[c][c] > T{}, a[c][c], one);
          magnitude[c] = one;
        }
        update_tile<-1>(a, gram.tile(I, 0), gram.tile(J, 0), J * kTile);
        if (I == J) {
          factorise_tile(a, magnitude, one, T{}, not_a_number());
          GD_UNROLL for (int c = 0; c < kTile; c++) {
            smallest = minimum(T(one / (a[c][c] * a[c][c])), smallest);
            smallest = select(a[c][c] == a[c][c], smallest, T{});
            GD_UNROLL for (int r = c; r < kTile; r++) { out[c * kTile + r] = a[r][c]; }
          }
          continue;
        }
        GD_UNROLL for (int c = 0; c < kTile; c++) {
          GD_UNROLL for (int r = 0; r < kTile; r++) {
            T v = a[r][c];
            GD_UNROLL for (int e = 0; e < c; e++) { v -= a[r][e] * diagonal[e * kTile + c]; }
            a[r][c] = v * diagonal[c * kTile + c];
            out[c * kTile + r] = a[r][c];
          }
        }
      }
    }
    return smallest > broadcast<T>(kDependentRows);
  }

  // r1 = e1 − P u − Aᵀt and r2 = e2 − A u; their size relative to the terms, in the metric of P.
  template <class RowSources>
  T residual(const double* const* P, RowSources row_sources, index_t rows, const T* e1, const T* e2) {
    const double* src[W];
    T *Pu = s.Px, *At = s.Ay;
    for (index_t j = 0; j < padded(n); j++) At[j] = T{};
    for (index_t i = 0; i < n; i += kTile) {
      for (index_t r = 0; r < kTile; r++) {
        for (int l = 0; l < W; l++) src[l] = i + r < n ? P[l] + (i + r) * n : zeros;
        interleave(src, n, band + r, index_t(kTile));
      }
      band_products<T, T>(band, n, u, Pu + i, nullptr, nullptr);
    }
    T size{}, error{}, extent{}, row_size{}, row_error{};
    for (index_t k = 0; k < rows; k += kTile) {
      for (index_t r = 0; r < kTile; r++) {
        row_sources(k + r, src);
        interleave(src, n, band + r, index_t(kTile));
      }
      band_products<T, T>(band, n, u, r2 + k, t + k, At);
    }
    for (index_t j = 0; j < n; j++) {
      const T r = e1[j] - Pu[j] - At[j];
      r1[j] = r;
      const T terms = maximum(maximum(absolute(e1[j]), absolute(Pu[j])), absolute(At[j]));
      size = maximum(T(terms * s.column_size[j]), size);
      error = maximum(T(absolute(r) * s.column_size[j]), error);
      extent = maximum(T(absolute(u[j]) / s.column_size[j]), extent);
    }
    for (index_t k = 0; k < rows; k++) {
      const T r = e2[k] - r2[k];
      r2[k] = r;
      row_size = maximum(T(absolute(e2[k]) * s.norm_zero[k]), row_size);
      row_error = maximum(T(absolute(r) * s.norm_zero[k]), row_error);
    }
    const T tiny = broadcast<T>(1e-300);
    // What rounding leaves of u where it is to vanish is as large as e1 makes it.
    const T rows_size = maximum(maximum(row_size, extent), size);
    return maximum(T(error / maximum(size, tiny)), T(row_error / maximum(rows_size, tiny)));
  }
};

}  // namespace GD_NAMESPACE
