// The linear system behind jvp and vjp at a solution of the active-set method: its active rows are equalities of an
// active-set state that has no others (active_set/state.cuh). In its coordinates, with g = L⁻¹e₁,
//
//     M Mᵀ c = M g − N e₂,   t = N c,   u = L⁻ᵀ(g − Mᵀc),
//
// so that the factors of P and of M Mᵀ, for the active rows alone, are all there is to compute. Keeping the factors of
// the solve instead is not worth it: they are as large as the data, and writing and reading them takes as long as
// making these anew.
//
// One factorisation serves any number of right-hand sides, of which some are solved for side by side. Residuals are
// formed with the problem's own data, and refined away; lanes where that fails are left to the general system
// (derivative/sensitivity.cuh).
#pragma once
#include "active_set_chunk.hpp"

namespace GD_NAMESPACE {

// Right-hand sides that are solved for together: enough to keep the arithmetic busy, few enough for its registers.
constexpr int kSideBySide = 2;

template <class T>
struct WorkingSetSystem {
  static constexpr int W = Scalar<T>::lanes;
  static constexpr int kRounds = 5;
  static constexpr double kSettled = 3e-14, kFailed = 1e-11, kDependentRows = 1e-11;
  ActiveSet<T, T> s;
  SymmetricTiles<T> P, gram;                   // P with diagonal tiles whole
  Bands<T> A;                                  // the active rows
  T *u, *t, *r1, *r2, *z, *w, *Pu, *minus_At;  // of each right-hand side, as those of n or of the rows are apart
  T* reach;                                    // [n] 1/s.column_size
  double* zeros;                               // [n] a row that is not there
  index_t n, room, rows;

  index_t apart() const { return padded(n); }
  index_t rows_apart() const { return padded(room) + kTile; }

  // Room for the system of a problem with n variables and at most n active rows of m.
  static index_t carve(WorkingSetSystem* self, index_t n, index_t m, char* base) {
    ByteCarver memory{base, 0};
    WorkingSetSystem w;
    w.n = n;
    w.room = n < m ? n : m;
    carve_matrices(w.s, memory, memory, memory, n, w.room, 0, false);
    carve_vectors(w.s, memory);
    w.P = {memory.take<T>(SymmetricTiles<T>::words(tiles(n)))};
    w.gram = {memory.take<T>(SymmetricTiles<T>::words(tiles(w.room)))};
    w.A = {memory.take<T>(Bands<T>::words(w.room, n)), band_columns(n)};
    memory.take_each(kSideBySide * w.apart(), w.u, w.r1, w.z, w.Pu, w.minus_At);
    memory.take_each(kSideBySide * w.rows_apart(), w.t, w.r2, w.w);
    w.reach = memory.take<T>(padded(n));
    w.zeros = memory.take<double>(n);
    if (self) *self = w;
    return memory.used;
  }

  // Factorises [P Aᵀ; A 0] for the rows row_at[lane][0 … count − 1] of each lane's A (−1: none). Returns the lanes
  // where that went well.
  unsigned factorise(const Instance* instances, int used, const index_t* row_at, index_t row_stride, index_t count) {
    const Alone g{};
    const double* src[W];
    rows = s.equalities = count;
    for (index_t i = 0; i < padded(n); i++) {
      for (int l = 0; l < W; l++) src[l] = instances[l < used ? l : 0].P + i * n;
      const index_t end = (i / kTile + 1) * kTile < n ? (i / kTile + 1) * kTile : n;
      if (i < n) interleave(src, end, &P.at(i, 0), index_t(kTile));
      for (index_t j = 0; i >= n && j <= i; j++) P.at(i, j) = i == j ? broadcast<T>(1) : T{};
    }
    for (index_t k = 0; k < padded(rows); k++) {
      for (int l = 0; l < W; l++) {
        const int from = l < used ? l : 0;
        const index_t row = k < rows ? row_at[from * row_stride + k] : -1;
        src[l] = row < 0 ? zeros : instances[from].A + row * n;
      }
      interleave(src, n, &A.at(k, 0), index_t(kTile));
      for (index_t j = n; j < padded(n); j++) A.at(k, j) = T{};
    }
    __builtin_memcpy(s.L.data, P.data, SymmetricTiles<T>::words(tiles(n)) * sizeof(T));
    __builtin_memcpy(s.M_zero.data, A.data, Bands<T>::words(rows, n) * sizeof(T));
    const unsigned good = lane_bits<T>(factorise_objective(g, s)) & ((1u << used) - 1u);
    for (index_t j = 0; j < n; j++) reach[j] = broadcast<T>(1) / s.column_size[j];
    transform_rows(g, s.L, n, no_reflectors<T>(), n, s.M_zero, tiles(rows), s.norm_zero);
    return good & lane_bits<T>(factorise_gram());
  }

  // Solves for R (u, t) with the right-hand sides (e1, e2), so many words apart, each in the lanes of its `good`, where
  // those remain in which that went well. Each has the operations that it has alone.
  template <int R>
  void solve(unsigned (&good)[R], const T* e1, index_t e1_apart, const T* e2, index_t e2_apart) {
    const Alone g{};
    const index_t u_apart = apart(), t_apart = rows_apart(), bands = tiles(rows);
    unsigned open[R];
    for (int r = 0; r < R; r++) {
      open[r] = good[r];
      for (index_t j = 0; j < padded(n); j++)
        u[r * u_apart + j] = T{}, r1[r * u_apart + j] = j < n ? e1[r * e1_apart + j] : T{};
      for (index_t k = 0; k < padded(rows); k++)
        t[r * t_apart + k] = T{}, r2[r * t_apart + k] = k < rows ? e2[r * e2_apart + k] : T{};
    }
    for (int round = 0; any_open(open); round++) {
      for (index_t j = 0; j < R * u_apart; j++) z[j] = r1[j];
      solve_lower<R>(g, s.L, n, z, u_apart);
      multiply_bands<R>(g, s.M_zero, bands, padded(n), z, w, u_apart, t_apart);
      for (int r = 0; r < R; r++)
        for (index_t k = 0; k < rows; k++) w[r * t_apart + k] -= r2[r * t_apart + k] * s.norm_zero[k];
      solve_lower<R>(g, gram, rows, w, t_apart);
      solve_lower_transposed<R>(g, gram, rows, w, t_apart);
      subtract_transposed<R>(g, s.M_zero, bands, padded(n), w, z, t_apart, u_apart);
      solve_lower_transposed<R>(g, s.L, n, z, u_apart);
      for (int r = 0; r < R; r++) {
        const Mask<T> moves = lane_mask<T>(open[r]);
        for (index_t j = r * u_apart; j < r * u_apart + n; j++) u[j] += select(moves, z[j], T{});
        for (index_t k = 0; k < rows; k++)
          t[r * t_apart + k] += select(moves, T(w[r * t_apart + k] * s.norm_zero[k]), T{});
      }
      multiply_symmetric<R>(g, P, tiles(n), u, u_apart, Pu, u_apart);
      multiply_bands<R>(g, A, bands, padded(n), u, r2, u_apart, t_apart);
      for (index_t j = 0; j < R * u_apart; j++) minus_At[j] = T{};
      subtract_transposed<R>(g, A, bands, padded(n), t, minus_At, t_apart, u_apart);
      for (int r = 0; r < R; r++) {
        const T error = residual(r * u_apart, r * t_apart, e1 + r * e1_apart, e2 + r * e2_apart);
        open[r] &= ~lane_bits<T>(error <= broadcast<T>(kSettled));
        if (round < kRounds) continue;
        good[r] &= ~(open[r] & ~lane_bits<T>(error <= broadcast<T>(kFailed)));
        open[r] = 0;
      }
    }
  }
  template <int R>
  static bool any_open(const unsigned (&open)[R]) {
    unsigned some = 0;
    for (int r = 0; r < R; r++) some |= open[r];
    return some != 0;
  }

  // The factor of M Mᵀ, whose rows have length one or, where there is none, zero. Returns the lanes where they are
  // independent enough for refinement to make up for the square.
  Mask<T> factorise_gram() {
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

  // r1 = e1 − P u − Aᵀt and r2 = e2 − A u, which r2 holds, of the right-hand side that begins at those places; their
  // size relative to the terms, in the metric of P.
  T residual(index_t at, index_t rows_at, const T* e1, const T* e2) {
    T *const r1 = this->r1 + at, *const r2 = this->r2 + rows_at;
    const T *const u = this->u + at, *const Pu = this->Pu + at, *const minus_At = this->minus_At + at;
    T size{}, error{}, extent{}, row_size{}, row_error{};
    for (index_t j = 0; j < n; j++) {
      const T r = e1[j] - Pu[j] + minus_At[j];
      r1[j] = r;
      const T terms = maximum(maximum(absolute(e1[j]), absolute(Pu[j])), absolute(minus_At[j]));
      size = maximum(T(terms * s.column_size[j]), size);
      error = maximum(T(absolute(r) * s.column_size[j]), error);
      extent = maximum(T(absolute(u[j]) * reach[j]), extent);
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
