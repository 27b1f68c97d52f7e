// Eigenvalues and eigenvectors of small symmetric matrices: two-sided Jacobi rotations in parallel order.
//
// Slower than a reduction to tridiagonal form for large matrices, but accurate to rounding also for equal eigenvalues
// and, as rotations stop only where an off-diagonal entry is small beside *its own* two diagonal entries, for graded
// positive definite matrices (Demmel & Veselić 1992). A round of the tournament (Brent & Luk 1985) rotates disjoint
// pairs of rows: their angles are independent of each other, and so is each 2 × 2 block of two pairs, so that packs
// overlap the long latencies of roots and quotients, and a group has work for every member.
#pragma once
#include "../elementary.cuh"
#include "../group.cuh"

namespace GD_NAMESPACE {

struct RowPair {
  index_t low, high;
};

// Pair i of a round of the tournament of k rows: in k (odd) or k − 1 (even) rounds everybody meets everybody once.
GD_HD RowPair tournament_pair(index_t k, index_t round, index_t i) {
  const index_t circle = k % 2 == 0 ? k - 1 : k;
  const index_t place = k % 2 == 0 ? i : i + 1;  // an odd one sits out, in place 0
  if (place == 0) return {round, circle};
  index_t a = round + place, b = round - place;
  a = a >= circle ? a - circle : a;
  b = b < 0 ? b + circle : b;
  return a < b ? RowPair{a, b} : RowPair{b, a};
}

template <class T>
GD_HD void rotate(T c, T s, T& x, T& y) {
  const T a = c * x - s * y;
  y = s * x + c * y;
  x = a;
}

// a[i·stride + j], i ≥ j: the lower triangle of a symmetric matrix of order k, destroyed (above the diagonal nothing is
// read or written). values [k]; vectors[i·stride + r]: entry r of the eigenvector of values[i]; in no particular order.
// All members call, behind a barrier of theirs for what they wrote into a; it ends with one.
// `graded`: small eigenvalues of a positive definite matrix have digits of their own; otherwise errors are small beside
// the largest entry alone, which for a matrix that is nearly singular saves half of the sweeps.
// Not finite: NaN in that lane, which takes no longer than others.
template <class T, class G>
GD_HD void symmetric_eigen(const G& g, index_t k, T* a, index_t stride, T* vectors, T* values, bool graded = true) {
  constexpr double epsilon = 0.5 * kEpsilon<T>;
  constexpr int kSweeps = 40;  // five to nine are usual
  const T one = broadcast<T>(1), zero{};
  const T relative = broadcast<T>(epsilon * epsilon);
  const T negligible = broadcast<T>(graded ? epsilon * epsilon : 0.125 * epsilon);
  const auto at = [a, stride](index_t i, index_t j)
                      GD_LAMBDA -> T& { return i > j ? a[i * stride + j] : a[j * stride + i]; };

  T largest{}, nothing{};  // the latter is NaN where something is not finite
  GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) {
    GD_NO_UNROLL for (index_t j = 0; j <= i; j++) {
      const T entry = a[i * stride + j];
      largest = maximum(absolute(entry), largest);
      nothing += entry - entry;
    }
  }
  largest = g.max(largest);
  nothing = g.sum(nothing);
  const T scale = inverse_magnitude(largest);
  g.sync();
  GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) {
    GD_NO_UNROLL for (index_t j = 0; j <= i; j++) a[i * stride + j] = a[i * stride + j] * scale;
    GD_NO_UNROLL for (index_t j = 0; j < k; j++) vectors[i * stride + j] = i == j ? one : zero;
  }
  g.sync();

  const index_t pairs = k / 2, rounds = k % 2 == 0 ? k - 1 : k;
  GD_NO_UNROLL for (int sweep = 0; sweep < kSweeps; sweep++) {
    T moved{};
    GD_NO_UNROLL for (index_t round = 0; round < rounds; round++) {
      // The angles, kept in `values`: cosine and sine of each pair.
      GD_NO_UNROLL for (index_t i = g.rank(); i < pairs; i += g.size()) {
        const RowPair p = tournament_pair(k, round, i);
        T &low = a[p.low * stride + p.low], &high = a[p.high * stride + p.high], &off = a[p.high * stride + p.low];
        const T coupling = off * off;
        const Mask<T> turns = (coupling > relative * absolute(T(low * high))) & (absolute(off) > negligible);
        T c = one, s = zero;
        if (any(turns)) {
          // The tangent of the smaller of the two angles; a cosine of 1 for tiny ones, or the vectors' lengths would
          // drift.
          const T difference = high - low, twice = off + off;
          const T square = select(turns, T(difference * difference + twice * twice), one);
          const T down = absolute(difference) + square * quick_inverse_square_root(square);
          const T tangent = select(difference < zero, T(-twice), twice) / down;
          const T cosine = quick_inverse_square_root(T(one + tangent * tangent));
          c = select(turns, cosine, one);
          s = select(turns, T(tangent * cosine), zero);
          low = select(turns, T(low - tangent * off), low);
          high = select(turns, T(high + tangent * off), high);
          off = select(turns, zero, off);
          moved = select(turns, one, moved);
        }
        values[2 * i] = c;
        values[2 * i + 1] = s;
      }
      g.sync();
      GD_NO_UNROLL for (index_t i = 0; i < pairs; i++) {
        const T c = values[2 * i], s = values[2 * i + 1];
        const bool turns = any(s != zero);
        const RowPair p = tournament_pair(k, round, i);
        GD_NO_UNROLL for (index_t j = g.rank(); j < i; j += g.size()) {
          const T other_c = values[2 * j], other_s = values[2 * j + 1];
          const bool other_turns = any(other_s != zero);
          if (!turns && !other_turns) continue;
          const RowPair q = tournament_pair(k, round, j);
          T &a00 = at(p.low, q.low), &a01 = at(p.low, q.high), &a10 = at(p.high, q.low), &a11 = at(p.high, q.high);
          T x00 = a00, x01 = a01, x10 = a10, x11 = a11;
          rotate(c, s, x00, x10);
          rotate(c, s, x01, x11);
          rotate(other_c, other_s, x00, x01);
          rotate(other_c, other_s, x10, x11);
          a00 = x00;
          a01 = x01;
          a10 = x10;
          a11 = x11;
        }
        if (!turns) continue;
        T *x = vectors + p.low * stride, *y = vectors + p.high * stride;
        GD_UNROLL_FOUR for (index_t r = g.rank(); r < k; r += g.size()) { rotate(c, s, x[r], y[r]); }
      }
      // An odd row that sits out meets every pair, one entry with two.
      if (k % 2 == 1) {
        GD_NO_UNROLL for (index_t i = g.rank(); i < pairs; i += g.size()) {
          const T c = values[2 * i], s = values[2 * i + 1];
          const RowPair p = tournament_pair(k, round, i);
          rotate(c, s, at(p.low, round), at(p.high, round));
        }
      }
      g.sync();
    }
    if (!any(g.max(moved) > zero)) break;
  }
  // A lane that is done is turned by an angle of zero as long as its neighbours go on, which can change the sign of a
  // zero and nothing else.
  const T back = inverse_power_of_two(scale);
  GD_NO_UNROLL for (index_t i = g.rank(); i < k; i += g.size()) {
    values[i] = positive_zero(T(a[i * stride + i] * back + nothing));
    GD_NO_UNROLL for (index_t j = 0; j < k; j++) {
      vectors[i * stride + j] = positive_zero(T(vectors[i * stride + j] + nothing));
    }
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
