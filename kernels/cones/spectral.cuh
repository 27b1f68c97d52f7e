// The linear operators that scale a cone's rows, and which rows belong to which cone.
//
// The scaling of the interior point and the curvature of a projection are both an operator F for each cone, of which
// the linear system sees nothing but (F A)ᵀ(F A). So one representation serves both, and one condensed system K = P +
// (F A)ᵀ(F A) serves the interior point, the polish and the derivatives.
#pragma once
#include "../group.cuh"
#include "../linalg/layout.cuh"

namespace GD_NAMESPACE {

// An operator over rows [0, m) in the kernel's order: a number for each row, and `matrix`, words that belong to whole
// cones (ConeRows::operator_words).
//
//     nonnegative rows    vector: the weight
//     second-order cone   vector: from its second row on a unit vector u; matrix: three eigenvalues, on (1, u)/√2, on
//                         (1, −u)/√2 and on what is orthogonal to both
//     cone of three rows  matrix: F [3, 3], row by row, and for an interior point F⁻¹
//     PSD cone            F(X) = w ∘ (MᵀX M); vector: the weights w; matrix: M [k, k], and for an interior point M⁻ᵀ
//
// The latter two are not symmetric: rows of F end in a frame that the cone likes best.
template <class T>
struct Spectral {
  T* vector;
  T* matrix;
  T* scratch;  // ConeRows::scratch_words, for whoever needs it for the length of one call
};

// An iterate of the interior point in its own frame, λ = F s, and a step in it: ds = F Δs, dz = F⁻ᵀΔz. s and z are as
// they are, and so is Δs where it is known better than as F⁻¹ds; else null.
template <class T>
struct ScaledStep {
  const T *s, *z, *lambda, *ds, *dz, *slack_step;
};

// Lanes whose last step was too short, and what is done about it where a cone has a choice.
template <class T>
struct Centring {
  Mask<T> dual;  // the dual barrier's scaling
  Mask<T> only;  // and nothing but a step to the centre, as that was no better
};

// sᵀz + τκ along a step of length α, shared out among the cones: μ(α) = c₀ + c₁ α + c₂ α².
template <class T>
struct PathProduct {
  T c[3];

  GD_HD T at(T alpha) const { return c[0] + alpha * (c[1] + alpha * c[2]); }
};

// A step that is shortened until it is accepted, by ever more.
template <class T>
struct StepSearch {
  static constexpr int kMost = 40;  // what is left of a step then, 3e-4, is too short to be made
  T alpha, back;
  index_t until, last;  // cones that are asked, and the one that has shortened last

  GD_HD void shorten(Mask<T> lanes) {
    alpha = select(lanes, T(alpha - alpha * back), alpha);
    back = select(lanes, minimum(T(back + back), broadcast<T>(0.2)), back);
  }
};

// The numbers y, s > 0 with y − s = v and s y = μ: the smaller of them never by subtraction.
template <class T>
struct CentralPair {
  T y, s;
};
template <class T>
GD_HD CentralPair<T> central_pair(T v, T mu) {
  const T root = square_root(T(v * v + broadcast<T>(4) * mu));
  const T large = broadcast<T>(0.5) * (absolute(v) + root), small = mu / large;
  const Mask<T> up = v > T{};
  return {select(up, large, small), select(up, small, large)};
}

// Functions that are large and rarely called stand once: inlined wherever they are called, they would be most of a
// kernel's code, and take minutes to compile.
#if defined(__CUDACC__)
#define GD_CONE __host__ __device__ __attribute__((noinline))
#else
#define GD_CONE __attribute__((noinline))
#endif

// Words of `Spectral::matrix` for one cone.
constexpr index_t kSecondOrderWords = 3, kTripleWords = 18;
constexpr index_t kTripleInverse = 9;  // where the inverse of F begins
constexpr index_t kReachWords = 6;     // Δs and Δz of a cone of three rows
constexpr index_t kMarginWord = 9;     // of a cone of three rows, in what a projection leaves behind
GD_HD index_t semidefinite_words(index_t order) { return 2 * order * order; }
GD_HD index_t semidefinite_rows(index_t order) { return order * (order + 1) / 2; }

// Which rows belong to which cone. The zero cone's come first; the others may lie in any order behind them.
struct ConeRows {
  index_t zero, nonnegative;  // rows
  index_t nonnegative_start;
  index_t second_order_count;         // cones
  const index_t* second_order_start;  // [count] first row
  const index_t* second_order_dimension;
  index_t semidefinite_count;
  const index_t* semidefinite_start;
  const index_t* semidefinite_order;
  // Cones of three rows, one behind the other in this order.
  index_t triple_start;
  index_t exponential, dual_exponential, power, dual_power;
  const double* power_alpha;  // [power + dual_power]
  index_t total;

  GD_HD index_t conic() const { return total - zero; }
  GD_HD index_t triples() const { return exponential + dual_exponential + power + dual_power; }
  // ν, the barrier's degree: 1 per nonnegative row and per second-order cone, 3 per cone of three rows, the order of a
  // PSD cone.
  GD_HD index_t degree() const {
    index_t orders = 0;
    for (index_t c = 0; c < semidefinite_count; c++) orders += semidefinite_order[c];
    return nonnegative + second_order_count + 3 * triples() + orders;
  }
  // Words of `Spectral::matrix`, and where each kind's begin.
  GD_HD index_t triple_words() const { return kSecondOrderWords * second_order_count; }
  GD_HD index_t semidefinite_words_begin() const { return triple_words() + kTripleWords * triples(); }
  GD_HD index_t operator_words() const {
    index_t words = semidefinite_words_begin();
    for (index_t c = 0; c < semidefinite_count; c++) words += semidefinite_words(semidefinite_order[c]);
    return words;
  }
  GD_HD index_t scratch_words() const {
    index_t largest = 0;
    for (index_t c = 0; c < semidefinite_count; c++)
      largest = semidefinite_order[c] > largest ? semidefinite_order[c] : largest;
    const index_t for_semidefinite = 2 * kTile * largest * largest + 2 * largest, for_triples = kReachWords * triples();
    return for_semidefinite > for_triples ? for_semidefinite : for_triples;
  }
};

}  // namespace GD_NAMESPACE
