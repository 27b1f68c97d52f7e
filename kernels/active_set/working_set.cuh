// The working set's orthonormal basis: projections on it, rows that enter, rows that leave.
//
// Lanes of a pack have working sets of their own sizes. What lies behind the last place of a lane is zero, so that it
// adds nothing to the lane's sums; nothing here lets one lane's bits depend on another's.
#pragma once
#include "setup.cuh"

namespace GD_NAMESPACE {

template <int W>
GD_HD void count_most(Places<W>& p) {
  p.most = 0;
  for (int l = 0; l < W; l++) p.most = p.used[l] > p.most ? p.used[l] : p.most;
}

// work(place, lanes) for each place that some of the lanes have: whole registers at a time. Entries written lane by
// lane could not be read as registers until they have reached the cache.
template <int W, class Work>
GD_HD void for_each_place(unsigned lanes, const int (&places)[W], Work work) {
  if constexpr (W == 1) {  // a GPU's registers cannot be indexed
    if (lanes) work(places[0], lanes);
    return;
  }
  while (lanes) {
    int first = 0;
    while (!(lanes >> first & 1u)) first++;
    unsigned here = 0;
    for (int l = first; l < W; l++) here |= (lanes >> l & 1u) && places[l] == places[first] ? 1u << l : 0u;
    work(places[first], here);
    lanes &= ~here;
  }
}

template <class T, int W>
GD_HD T used_places(const Places<W>& p) {
  T k{};
  for (int l = 0; l < W; l++) set_lane(k, l, Real<T>(p.used[l]));
  return k;
}

// Zeroes the bands that come into use.
template <class T, class E, class G, int W>
GD_HD void grow(const G& g, const ActiveSet<T, E>& s, Places<W>& p, int places) {
  const index_t needed = tiles(places), n = s.Q.columns * kTile, first = p.bands * kTile, end = needed * kTile;
  if (needed <= p.bands) return;
  for (index_t i = p.bands * n + g.rank(); i < needed * n; i += g.size()) s.Q.data[i] = T{};
  for (index_t i = g.rank(); i < end; i += g.size()) {
    for (index_t j = i < first ? first : 0; j < end; j++) s.r_at(i, j) = T{};
    if (i < first) continue;
    s.R_inverse[i] = s.h[i] = s.r[i] = s.w[i] = s.multiplier[i] = s.f[i] = s.certificate[i] = T{};
  }
  p.bands = int(needed);
  g.sync();
}

template <class T>
GD_HD void squares_of(const Alone& g, const T* a, const T* b, index_t n, T& square_a, T& square_b) {
  square_a = square_of(g, a, n);
  square_b = square_of(g, b, n);
}

// h = Q row, z = row − Qᵀh; returns |z|², and |row|² in `square`. Orthogonalised twice in the lanes that need it.
template <class T, class E, class G, int W>
GD_HD T project(const G& g, const ActiveSet<T, E>& s, const Places<W>& p, unsigned lanes, T& square) {
  const index_t n = s.width();
  for (index_t k = g.rank(); k < n; k += g.size()) s.z[k] = s.row[k];
  g.sync();
  remove_projection(g, s.Q, p.bands, n, s.h, s.z);
  g.sync();
  T beyond;
  squares_of(g, s.row, s.z, n, square, beyond);
  const Mask<T> again = (beyond < square * broadcast<T>(kOrthogonalAgain)) & lane_mask<T>(lanes);
  if (p.bands > 0 && any(again)) {
    for (index_t k = g.rank(); k < n; k += g.size()) s.spare[k] = s.z[k];
    g.sync();
    remove_projection(g, s.Q, p.bands, n, s.w, s.z);
    g.sync();
    for (index_t i = g.rank(); i < p.bands * kTile; i += g.size()) s.h[i] += select(again, s.w[i], T{});
    for (index_t k = g.rank(); k < n; k += g.size()) s.z[k] = select(again, s.z[k], s.spare[k]);
    g.sync();
    beyond = select(again, square_of(g, s.z, n), beyond);
  }
  return beyond;
}

// r = R⁻¹ c. Even and odd terms are summed apart by their place, whatever the others.
template <class T, class E>
GD_HD void solve_R(const Alone&, const ActiveSet<T, E>& s, int most, const T* c, T* r) {
  GD_NO_UNROLL for (index_t i = most - 1; i >= 0; i--) {
    const T* a = s.R + i * s.pitch;
    T sum[2] = {c[i], T{}};
    index_t j = i + 1;
    if (j < most && j % 2 == 1) {
      sum[1] -= a[j] * r[j];
      j++;
    }
    GD_NO_UNROLL for (; j + 1 < most; j += 2) {
      sum[0] -= a[j] * r[j];
      sum[1] -= a[j + 1] * r[j + 1];
    }
    if (j < most) sum[0] -= a[j] * r[j];
    r[i] = (sum[0] + sum[1]) * s.R_inverse[i];
  }
}

// w = R⁻ᵀ c, in place.
template <class T, class E>
GD_HD void solve_R_transposed(const Alone&, const ActiveSet<T, E>& s, int most, T* w) {
  GD_NO_UNROLL for (index_t i = 0; i < most; i++) {
    const T* a = s.R + i * s.pitch;
    T t = w[i] * s.R_inverse[i];
    keep_in_register(t);
    w[i] = t;
    GD_NO_UNROLL for (index_t j = i + 1; j < most; j++) w[j] -= a[j] * t;
  }
}

// z/|z| and h become the last place of the lanes; `multiplier` and `ids` are theirs.
template <class T, class E, class G, int W>
GD_HD void append(const G& g, const ActiveSet<T, E>& s, Places<W>& p, unsigned lanes, T square, T multiplier,
                  const int (&ids)[W]) {
  int places = 0;
  for (int l = 0; l < W; l++)
    if (lanes >> l & 1u) places = p.used[l] + 1 > places ? p.used[l] + 1 : places;
  grow(g, s, p, places);
  const T length_inverse = inverse_square_root(maximum(square, broadcast<T>(1e-300))), length = square * length_inverse;
  const index_t n = s.width();
  for (index_t k = g.rank(); k < n; k += g.size()) s.z[k] = s.z[k] * length_inverse;
  for_each_place(lanes, p.used, [&](int place, unsigned here) GD_LAMBDA {
    const Mask<T> m = lane_mask<T>(here);
    T* q = &s.Q.at(place, 0);
    for (index_t k = g.rank(); k < n; k += g.size()) q[k * kTile] = select(m, s.z[k], q[k * kTile]);
    for (index_t i = g.rank(); i < place; i += g.size()) s.r_at(i, place) = select(m, s.h[i], s.r_at(i, place));
    if (g.rank() != 0) return;
    s.r_at(place, place) = select(m, length, s.r_at(place, place));
    s.R_inverse[place] = select(m, length_inverse, s.R_inverse[place]);
    s.multiplier[place] = select(m, multiplier, s.multiplier[place]);
    for (int l = 0; l < W; l++)
      if (here >> l & 1u) s.id(place, l) = ids[l];
  });
  for (int l = 0; l < W; l++) p.used[l] += int(lanes >> l & 1u);
  g.sync();
  count_most(p);
}

// The rows' numbers and the multipliers of the lanes whose places from `leaving` on move up by one.
template <class T, class E, int W>
GD_HD void move_up(const Alone&, const ActiveSet<T, E>& s, const Places<W>& p, unsigned lanes, T leaving,
                   index_t first) {
  for (int l = 0; l < W; l++)
    if (lanes >> l & 1u)
      for (int i = int(get_lane(leaving, l)); i + 1 < p.used[l]; i++) s.id(i, l) = s.id(i + 1, l);
  for (index_t j = first; j < p.most; j++) {
    const T next = j + 1 < p.most ? s.multiplier[j + 1] : T{};
    s.multiplier[j] = select(broadcast<T>(double(j)) >= leaving, next, s.multiplier[j]);
  }
}

// Takes the place `leaving` out of the working sets of the lanes: later places move up, and rotations make R triangular
// again.
template <class T, class E, class G, int W>
GD_HD void drop(const G& g, const ActiveSet<T, E>& s, Places<W>& p, unsigned lanes, T leaving) {
  const index_t n = s.width(), most = p.most;
  leaving = select(lane_mask<T>(lanes), leaving, broadcast<T>(1e9));
  index_t first = most;
  for (int l = 0; l < W; l++) {
    if (!(lanes >> l & 1u)) continue;
    const int place = int(get_lane(leaving, l));
    first = place < first ? place : first;
  }
  g.sync();
  move_up(g, s, p, lanes, leaving, first);
  for (index_t i = g.rank(); i < most; i += g.size()) {
    T* r = s.R + i * s.pitch;
    GD_NO_UNROLL for (index_t j = first; j < most; j++) {
      const T next = j + 1 < most ? r[j + 1] : T{};
      r[j] = select(broadcast<T>(double(j)) >= leaving, next, r[j]);
    }
  }
  const T used = used_places<T>(p);
  GD_NO_UNROLL for (index_t i = first; i + 1 < most; i++) {
    g.sync();
    T *upper = s.R + i * s.pitch, *lower = upper + s.pitch;
    const Mask<T> turns = (broadcast<T>(double(i)) >= leaving) & (broadcast<T>(double(i + 1)) < used);
    const T a = upper[i], b = lower[i];
    const T inverse = inverse_square_root(maximum(T(a * a + b * b), broadcast<T>(1e-300)));
    const T c = select(turns, T(a * inverse), broadcast<T>(1)), e = select(turns, T(b * inverse), T{});
    g.sync();  // everybody has read what the first column becomes
    for (index_t j = i + g.rank(); j < most; j += g.size()) {
      const T t = upper[j], y = lower[j];
      upper[j] = c * t + e * y;
      lower[j] = c * y - e * t;
    }
    T *q = &s.Q.at(i, 0), *next = &s.Q.at(i + 1, 0);
    for (index_t k = g.rank(); k < n; k += g.size()) {
      const T t = q[k * kTile], y = next[k * kTile];
      q[k * kTile] = c * t + e * y;
      next[k * kTile] = c * y - e * t;
    }
    if (g.rank() == 0) s.R_inverse[i] = select(turns, inverse, s.R_inverse[i]);
  }
  g.sync();
  for (int l = 0; l < W; l++) p.used[l] -= int(lanes >> l & 1u);
  for_each_place(lanes, p.used, [&](int place, unsigned here) GD_LAMBDA {
    const Mask<T> m = lane_mask<T>(here);
    T* q = &s.Q.at(place, 0);
    for (index_t k = g.rank(); k < n; k += g.size()) q[k * kTile] = select(m, T{}, q[k * kTile]);
    for (index_t j = g.rank(); j < most; j += g.size()) s.r_at(place, j) = select(m, T{}, s.r_at(place, j));
    if (g.rank() == 0) s.R_inverse[place] = select(m, T{}, s.R_inverse[place]);
  });
  g.sync();
  count_most(p);
}

}  // namespace GD_NAMESPACE
