// What the active-set method keeps of the problems it works on.
//
// With P = L Lᵀ and u = Lᵀx + v, v = L⁻¹q, the QP is the projection of the origin onto a polyhedron,
//
//     minimise ½ ‖u‖²   subject to   M_E u = d_E,  M_I u ≤ d_I,    M = N A L⁻ᵀ,   d = N b + M v,
//
// N scaling rows to length one. The equalities are solved first: with an orthogonal H (linalg/reflectors.cuh) that
// takes their rows to the last coordinates, M_E H = [0 R_Eᵀ], those coordinates of Hᵀu are R_E⁻ᵀ d_E, and what is left
// is the same problem in the others, n minus the number of equalities, with the first columns of M_I H for rows (scaled
// after that) and d from the slacks where they are zero. From here on u, and all that has to do with the working set,
// has those coordinates alone.
//
// The inequalities that hold with equality, the working set, are kept as an orthonormal basis Q of the span of their
// rows with triangular coordinates, M_Wᵀ = Qᵀ R (one row of Q per member of W, R upper triangular), in the order in
// which they entered. Goldfarb & Idnani 1983 is the method; they keep the inverse factor, which is faster by a
// tenth and loses digits when rows are nearly dependent.
#pragma once
#include "../linalg/reflectors.cuh"
#include "../system.cuh"
#include "pricing.cuh"

namespace GD_NAMESPACE {

// T: a pack with one problem in each lane. E: the elements of what P and A alone decide, T, or a plain number where all
// problems share P and A.
template <class T, class E>
struct ActiveSet {
  static constexpr int W = Scalar<T>::lanes;
  index_t n, equalities, inequalities;
  index_t free, room;           // n − equalities; rows that Q can hold
  index_t pitch;                // of R
  SymmetricTiles<E> L;          // P's lower triangle, then its factor with reciprocals on the diagonal
  Bands<E> M_zero, M;           // A's equality and inequality rows, then H's and M's
  Reflectors<E> H;              // in the place of M_zero
  SinglePricing<T, E> pricing;  // M again, of the inequalities
  E *norm_zero, *norm;          // N
  E *R_zero, *R_zero_inverse;   // R_E by rows of padded(equalities); reciprocals of its diagonal
  E *diagonal, *column_size;    // of P; 1/√ of it
  Bands<T> Q;
  T *R, *R_inverse;            // [room, room] by rows `pitch` apart; reciprocals of the diagonal
  T *q, *base;                 // [n] base: Hᵀv, with −R_E⁻ᵀN_E b_E, in reverse, for its last coordinates
  T *u, *z, *row, *spare;      // [n] row: the candidate; z: what it has beyond Q's span
  T* block;                    // [kTile] scratch of `reflect`
  T *b_zero, *b, *d;           // [rows]
  T* w_zero;                   // [equalities] scratch
  T *x, *Px, *Ay;              // [n] the point in the problem's own units, and products with its own data
  T *y_zero, *y, *tight;       // [rows] tight: 1 for inequalities of the working set
  T *slack_zero, *slack;       // [rows] b − A x
  T *spare_zero, *spare_rows;  // [rows] scratch
  T *h, *r, *w, *multiplier;   // [room] coordinates in Q; M_W's combination; scratch
  T *f, *certificate;          // [room] right-hand sides, see kkt.cuh; why there is no feasible point
  T *panel, *panel_h;          // rows that enter together, [columns, kTile], and what they have in Q's span, by places
  int* ids;                    // [room, W] which inequality a place of the working set holds

  GD_HD index_t columns() const { return padded(n); }
  GD_HD index_t width() const { return padded(free); }
  GD_HD T& r_at(index_t i, index_t j) const { return R[i * pitch + j]; }
  GD_HD int& id(index_t place, int lane) const { return ids[place * W + lane]; }
};

// An element of a matrix as lane `lane` sees it.
template <class E>
GD_HD double lane_or_shared(const E& a, int lane) {
  return double(get_lane(a, Scalar<E>::lanes == 1 ? 0 : lane));
}

// How many places each lane uses; the members of a group all have the same.
template <int W>
struct Places {
  int used[W];
  int bands;  // of Q that are in use, so far
  int most;   // the largest of `used`
};

constexpr double kNever = 1e300;           // a slack, or a step, without end
constexpr double kAbsent = 1e299;          // bounds from here on are none
constexpr double kViolation = 2e-13;       // of the size of the point: what rounding may leave in a slack
constexpr double kViolationSingle = 1e-6;  // the same where slacks are computed in single precision
constexpr double kFallingMultiplier = 1e-12;

// A row whose part outside Q's span is shorter than this lost its digits to cancellation and is orthogonalised again.
constexpr double kOrthogonalAgain = 1e-2;  // of the squares
constexpr double kDependent = 1e-20;       // of the squares: no part outside the span

// Hands out the memory of a state; `base` null: counts bytes instead. `single`: with what pricing in single precision
// needs. Every piece begins at a multiple of 64 bytes.
struct ByteCarver {
  char* base;
  index_t used;

  template <class E>
  GD_HD E* take(index_t count) {
    E* p = base ? reinterpret_cast<E*>(base + used) : nullptr;
    used += (count * index_t(sizeof(E)) + 63) / 64 * 64;
    return p;
  }
  template <class... E>
  GD_HD void take_each(index_t count, E*&... pieces) {
    ((pieces = take<E>(count)), ...);
  }
};

// Whether rows of a guess enter several at a time: a group of several members gains nothing by it.
#if defined(__CUDACC__) || defined(GD_GPU_LAYOUT)
constexpr int kEntersByPanels = 0;
#else
constexpr int kEntersByPanels = 1;
#endif

// Places of a row of R in memory. Neighbouring threads of a GPU read neighbouring rows, a few places at once: those
// must not begin at one bank.
#if defined(__CUDACC__) || defined(GD_GPU_LAYOUT)
GD_HD index_t row_pitch(index_t room) { return room + 2; }
#else
GD_HD index_t row_pitch(index_t room) { return room; }
#endif

// What P and A alone decide, and what each problem has of its own. The rows of A, and what is read once for each
// problem, may lie apart from the rest: a GPU has little of its fastest memory.
template <class T, class E>
GD_HD void carve_matrices(ActiveSet<T, E>& s, ByteCarver& memory, ByteCarver& rows_memory, ByteCarver& factor_memory,
                          index_t n, index_t equalities, index_t inequalities, bool single) {
  const index_t even = padded_to_pairs(inequalities);
  s.n = n;
  s.equalities = equalities;
  s.inequalities = inequalities;
  s.free = n > equalities ? n - equalities : 0;
  s.room = padded(s.free);
  s.pitch = row_pitch(s.room);
  s.L = {factor_memory.template take<E>(SymmetricTiles<E>::words(tiles(n)))};
  s.M_zero = {factor_memory.template take<E>(Bands<E>::words(equalities, n)), band_columns(n)};
  s.H = {s.M_zero, factor_memory.template take<E>(padded(equalities) * kTile), n, equalities};
  s.M = {rows_memory.template take<E>(Bands<E>::words(even, n)), band_columns(n)};
  s.pricing.carve(rows_memory, memory, inequalities, s.free, single);
  s.norm_zero = memory.template take<E>(padded(equalities));
  s.norm = memory.template take<E>(even);
  s.R_zero = factor_memory.template take<E>(padded(equalities) * padded(equalities));
  s.R_zero_inverse = memory.template take<E>(padded(equalities));
  s.diagonal = memory.template take<E>(padded(n));
  s.column_size = memory.template take<E>(padded(n));
}
template <class T, class E>
GD_HD void carve_vectors(ActiveSet<T, E>& s, ByteCarver& memory) {
  const index_t n = s.columns(), even = padded_to_pairs(s.inequalities);
  s.Q = {memory.template take<T>(Bands<T>::words(s.room, s.free)), band_columns(s.free)};
  s.R = memory.template take<T>(s.room * s.pitch);
  memory.take_each(n, s.q, s.base, s.u, s.z, s.row, s.spare, s.x, s.Px, s.Ay);
  memory.take_each(s.room + 2 * kTile, s.R_inverse, s.h, s.r, s.w, s.multiplier, s.f, s.certificate);
  memory.take_each(kTile, s.block);
  memory.take_each(padded(s.equalities), s.b_zero, s.w_zero, s.y_zero, s.slack_zero, s.spare_zero);
  memory.take_each(even, s.b, s.d, s.y, s.tight, s.slack, s.spare_rows);
  s.panel = memory.template take<T>(kEntersByPanels * n * kTile);
  s.panel_h = memory.template take<T>(kEntersByPanels * s.room * kTile);
  s.ids = memory.template take<int>(s.room * ActiveSet<T, E>::W);
}

}  // namespace GD_NAMESPACE
