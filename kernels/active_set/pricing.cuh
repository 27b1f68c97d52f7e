// Choosing the row to enter by slacks in single precision: half the bytes and, in registers that hold eight numbers of
// it, half the instructions or fewer. Whatever is chosen is looked at again in double precision, and so are all slacks
// at the end (solve.cuh); what this overlooks or mistakes costs time at most.
//
// Where each problem of a pack has a matrix of its own a register holds a row of all of them; where they share one,
// eight of its rows. Of equal slacks the first row's is taken.
#pragma once
#include "../linalg/bands.cuh"

namespace GD_NAMESPACE {

// The row of M with the smallest slack d − M u: its slack and its number, as numbers of T; of equal slacks the first.
template <class Element, class V, class T>
GD_HD void least_slack(const Alone&, const Bands<Element>& M, index_t rows, index_t columns, const V* u, const V* d,
                       T& least, T& which) {
  constexpr int kRows = 2 * kTile;
  V value[kRows], base[kRows];
  GD_UNROLL for (int r = 0; r < kRows; r++) {
    value[r] = broadcast<V>(1e30);
    base[r] = broadcast<V>(0);
  }
  GD_NO_UNROLL for (index_t i = 0; i < rows; i += kRows) {
    V sum[1][kRows];
    multiply_some<2>(M.band(i / kTile), M.columns * kTile, columns, u, 0, sum);
    const V first = broadcast<V>(double(i));
    GD_UNROLL for (int r = 0; r < kRows; r++) {
      const V slack = d[i + r] - sum[0][r];
      const Mask<V> less = slack < value[r];
      value[r] = select(less, slack, value[r]);
      base[r] = select(less, first, base[r]);
    }
  }
  V best = value[0], at = base[0];
  GD_UNROLL for (int r = 1; r < kRows; r++) {
    const V row = base[r] + broadcast<V>(r);
    const Mask<V> sooner = (value[r] < best) | ((value[r] == best) & (row < at));
    best = select(sooner, value[r], best);
    at = select(sooner, row, at);
  }
  if constexpr (sizeof(Real<V>) == sizeof(Real<T>)) {
    least = best;
    which = at;
  } else {
    least = from_single<T>(best);
    which = from_single<T>(at);
  }
}

#if defined(__CUDACC__) || defined(GD_GPU_LAYOUT)
template <class E>
constexpr bool kPricesByRows = false;
#else
template <class E>
constexpr bool kPricesByRows = Scalar<E>::lanes == 1;
#endif

// `carve` takes the matrix from the one memory and the rest from the other; nothing unless `wanted`.
template <class T, class E, bool kByRows = kPricesByRows<E>>
struct SinglePricing {
  Bands<Single<E>> M;
  Single<T>*d, *u;

  template <class Memory>
  GD_HD void carve(Memory& matrices, Memory& vectors, index_t rows, index_t n, bool wanted) {
    const index_t even = wanted ? padded_to_pairs(rows) : 0;
    M = {matrices.template take<Single<E>>(Bands<E>::words(even, n)), band_columns(n)};
    d = vectors.template take<Single<T>>(even);
    u = vectors.template take<Single<T>>(wanted ? padded(n) : 0);
  }
};

#if !defined(__CUDACC__) && !defined(GD_GPU_LAYOUT)
template <class T, class E>
GD_HD void round_matrix(const Alone&, const SinglePricing<T, E, false>& s, const Bands<E>& M, index_t rows,
                        index_t columns) {
  GD_NO_UNROLL for (index_t band = 0; band < (tiles(rows) + 1) / 2 * 2; band++) {
    const E* from = M.band(band);
    auto* to = s.M.band(band);
    GD_NO_UNROLL for (index_t k = 0; k < columns * kTile; k++) to[k] = to_single(from[k]);
  }
}
template <class T, class E>
GD_HD void round_slacks(const Alone&, const SinglePricing<T, E, false>& s, const T* d, index_t rows) {
  const index_t even = padded_to_pairs(rows);
  const T largest = broadcast<T>(1e30);
  GD_NO_UNROLL for (index_t k = 0; k < even; k++) s.d[k] = to_single(k < rows ? minimum(d[k], largest) : largest);
}

template <class T, class E>
struct SinglePricing<T, E, true> {
  static constexpr int W = Scalar<T>::lanes;
  static constexpr int kVectors = 2;  // registers of eight rows that are summed up together
  static constexpr int kGroupRows = 8 * kVectors;
  float8 *M, *d;  // [groups, columns, kVectors], [groups, kVectors, W]
  float* u;       // [columns, W]

  static index_t groups(index_t rows) { return (rows + kGroupRows - 1) / kGroupRows; }
  template <class Memory>
  void carve(Memory& matrices, Memory& vectors, index_t rows, index_t n, bool wanted) {
    const index_t registers = wanted ? groups(rows) * kVectors : 0;
    M = matrices.template take<float8>(registers * padded(n));
    d = vectors.template take<float8>(registers * W);
    u = vectors.template take<float>(wanted ? padded(n) * W : 0);
  }
};

// The matrix, rounded. Rows behind the last are zero.
template <class T, class E>
GD_HD void round_matrix(const Alone&, const SinglePricing<T, E, true>& s, const Bands<E>& M, index_t rows,
                        index_t columns) {
  using Pricing = SinglePricing<T, E, true>;
  const index_t bands = tiles(rows);
  float* const out = reinterpret_cast<float*>(s.M);
  for (index_t band = 0; band < Pricing::groups(rows) * Pricing::kGroupRows / kTile; band++) {
    const index_t group = band * kTile / Pricing::kGroupRows, place = band * kTile % Pricing::kGroupRows;
    for (index_t k = 0; k < columns; k++)
      for (int r = 0; r < kTile; r++)
        out[(group * columns + k) * Pricing::kGroupRows + place + r] =
            band < bands ? float(M.band(band)[k * kTile + r]) : 0.0f;
  }
}

// d, rounded; rows behind the last never enter.
template <class T, class E>
GD_HD void round_slacks(const Alone&, const SinglePricing<T, E, true>& s, const T* d, index_t rows) {
  using Pricing = SinglePricing<T, E, true>;
  const T largest = broadcast<T>(1e30);
  float* const out = reinterpret_cast<float*>(s.d);
  for (index_t row = 0; row < Pricing::groups(rows) * Pricing::kGroupRows; row++) {
    const T value = row < rows ? minimum(d[row], largest) : largest;
    for (int l = 0; l < Pricing::W; l++) out[(row / 8 * Pricing::W + l) * 8 + row % 8] = float(get_lane(value, l));
  }
}

// The row with the smallest slack, for each lane: its slack and its number.
template <class T, class E>
GD_HD void least_slack_single(const Alone& g, const SinglePricing<T, E, false>& s, index_t rows, index_t columns,
                              const T* u, T& least, T& which) {
  GD_NO_UNROLL for (index_t k = 0; k < columns; k++) s.u[k] = to_single(u[k]);
  const index_t even = padded_to_pairs(rows);
  least_slack(g, s.M, even, columns, s.u, s.d, least, which);
}
template <class T, class E>
GD_HD void least_slack_single(const Alone&, const SinglePricing<T, E, true>& s, index_t rows, index_t columns,
                              const T* u, T& least, T& which) {
  using Pricing = SinglePricing<T, E, true>;
  constexpr int kVectors = Pricing::kVectors, W = Pricing::W;
  float8 value[kVectors][W], base[kVectors][W];
  GD_UNROLL for (int v = 0; v < kVectors; v++) {
    GD_UNROLL for (int l = 0; l < W; l++) {
      value[v][l] = broadcast<float8>(1e30);
      base[v][l] = float8{};
    }
  }
  for (index_t k = 0; k < columns; k++)
    for (int l = 0; l < W; l++) s.u[k * W + l] = float(get_lane(u[k], l));
  for (index_t group = 0; group < Pricing::groups(rows); group++) {
    const float8* m = s.M + group * columns * kVectors;
    const float8* d = s.d + group * kVectors * W;
    float8 sum[kVectors][W] = {};
    GD_NO_UNROLL for (index_t k = 0; k < columns; k++, m += kVectors) {
      float8 a[kVectors];
      GD_UNROLL for (int v = 0; v < kVectors; v++) {
        a[v] = m[v];
        keep_in_register(a[v]);
      }
      GD_UNROLL for (int l = 0; l < W; l++) {
        const float x = s.u[k * W + l];
        GD_UNROLL for (int v = 0; v < kVectors; v++) { sum[v][l] += a[v] * x; }
      }
    }
    const float8 first = broadcast<float8>(double(group * Pricing::kGroupRows));
    GD_UNROLL for (int v = 0; v < kVectors; v++) {
      GD_UNROLL for (int l = 0; l < W; l++) {
        const float8 slack = d[v * W + l] - sum[v][l];
        const auto less = slack < value[v][l];
        value[v][l] = select(less, slack, value[v][l]);
        base[v][l] = select(less, first, base[v][l]);
      }
    }
  }
  for (int l = 0; l < W; l++) {
    float smallest = 1e30f, row = 0;
    for (int v = 0; v < kVectors; v++)
      for (int r = 0; r < 8; r++) {
        const float a = value[v][l][r], at = base[v][l][r] + float(v * 8 + r);
        if (!(a < smallest || (a == smallest && at < row))) continue;
        smallest = a;
        row = at;
      }
    set_lane(least, l, Real<T>(smallest));
    set_lane(which, l, Real<T>(row));
  }
}
#endif

}  // namespace GD_NAMESPACE
