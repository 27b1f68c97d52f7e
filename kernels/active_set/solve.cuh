// The dual active-set method of Goldfarb & Idnani 1983: start reading here.
//
// The point u is always the projection of the origin onto the working set's affine hull, with multipliers that are not
// negative: optimal for the rows looked at so far. As long as a row is violated,
//
//   1. choose  the row that is violated most, all rows having length one
//   2. project it on the working set: M_p = r M_W + z
//   3. step    u ← u − t z, multipliers ← multipliers − t r, to the first of: the row holds with equality (it enters
//              the working set), or a multiplier becomes zero (its row leaves, and 2 again)
//
// A row that depends on the working set and meets no falling multiplier proves that there is no feasible point. Steps
// raise the dual objective, which is why this ends; rounding is undone by `settle`, which computes u and the
// multipliers anew from the working set, and what remains is found by the caller, who looks at the problem's own data.
#pragma once
#include "working_set.cuh"

namespace GD_NAMESPACE {

constexpr double kNegativeMultiplier = 1e-13;  // of the largest: what rounding may leave below zero
constexpr double kGuessDependent = 1e-12;      // more than a step asks for: a guess may hold rows nearly dependent

// How a lane's iteration stands.
template <int W>
struct Progress {
  unsigned infeasible, stuck;  // lanes
  int changes[W];
  int blocked[W];  // the row that proves infeasibility
};

GD_HD int change_limit(index_t n, index_t rows) { return int(4 * (n + rows) + 40); }

// Inequalities `ids` of M into the lanes of `row`; returns their d.
template <class T, class E, class G, int W>
GD_HD T fetch_rows(const G& g, const ActiveSet<T, E>& s, unsigned lanes, const int (&ids)[W]) {
  constexpr index_t kLanes = Scalar<E>::lanes;  // 1 where the matrix is shared
  const index_t n = s.width();
  const Mask<T> here = lane_mask<T>(lanes);
  const Real<T>*from[W], *d[W];
  for (int l = 0; l < W; l++) {
    const int id = lanes >> l & 1u ? ids[l] : 0;
    from[l] = reinterpret_cast<const Real<T>*>(&s.M.at(id, 0)) + (kLanes > 1 ? l : 0);
    d[l] = reinterpret_cast<const Real<T>*>(s.d + id) + l;
  }
  for (index_t k = g.rank(); k < n; k += g.size())
    s.row[k] = select(here, Compose<T>::of(from, k * kTile * kLanes), s.row[k]);
  return Compose<T>::of(d, 0);
}

// An empty working set.
template <int W>
GD_HD void clear(Places<W>& p) {
  p.bands = p.most = 0;
  for (int l = 0; l < W; l++) p.used[l] = 0;
}

// What `of_row` has for the inequalities at one place of the working sets; 0 in lanes that do not use it.
template <class T, class E, int W>
GD_HD T at_places(const ActiveSet<T, E>& s, const Places<W>& p, int place, const T* of_row) {
  const Real<T>* from[W];
  unsigned used = 0;
  for (int l = 0; l < W; l++) {
    used |= place < p.used[l] ? 1u << l : 0u;
    from[l] = reinterpret_cast<const Real<T>*>(of_row + (place < p.used[l] ? s.id(place, l) : 0)) + l;
  }
  if (!used) return T{};
  return select(lane_mask<T>(used), Compose<T>::of(from, 0), T{});
}

// u and the multipliers of the working set, from its rows alone.
template <class T, class E, class G, int W>
GD_HD void solve_working_set(const G& g, const ActiveSet<T, E>& s, const Places<W>& p) {
  const index_t n = s.width();
  g.sync();
  for (int i = g.rank(); i < p.bands * kTile; i += g.size()) s.w[i] = -at_places(s, p, i, s.d);
  for (index_t k = g.rank(); k < n; k += g.size()) s.u[k] = T{};
  g.sync();
  solve_R_transposed(g, s, p.most, s.w);
  g.sync();
  subtract_transposed(g, s.Q, p.bands, n, s.w, s.u);
  solve_R(g, s, p.most, s.w, s.multiplier);
  g.sync();
}

// The smallest multiplier below zero (0 if there is none) and where it is, and the largest one.
template <class T, class E>
GD_HD void extreme_multipliers(const Alone&, const ActiveSet<T, E>& s, int most, T& least, T& at, T& largest) {
  least = at = largest = T{};
  for (int i = 0; i < most; i++) {
    const T a = s.multiplier[i];
    const Mask<T> less = a < least;
    least = select(less, a, least);
    at = select(less, broadcast<T>(i), at);
    largest = maximum(a, largest);
  }
}

// Solves the working set, and in `lanes` takes rows with a negative multiplier out of it, the most negative first: what
// remains is dual feasible.
template <class T, class E, class G, int W>
GD_HD void settle(const G& g, const ActiveSet<T, E>& s, Places<W>& p, Progress<W>& progress, unsigned lanes) {
  for (;;) {
    solve_working_set(g, s, p);
    T least, at, most;
    extreme_multipliers(g, s, p.most, least, at, most);
    const unsigned leave = lane_bits<T>(least < -most * broadcast<T>(kNegativeMultiplier)) & lanes;
    if (!leave) break;
    drop(g, s, p, leave, at);
    for (int l = 0; l < W; l++) progress.changes[l] += int(leave >> l & 1u);
  }
  for (int i = g.rank(); i < p.most; i += g.size()) s.multiplier[i] = maximum(s.multiplier[i], T{});
  g.sync();
}

// The rows of a guess that go to `ids`, in the lanes that have one and room for it.
template <class T, class E, int W>
GD_HD unsigned next_of_guess(const ActiveSet<T, E>& s, const Places<W>& p, const int* guess, int i, int (&ids)[W]) {
  unsigned lanes = 0;
  for (int l = 0; l < W; l++) {
    ids[l] = guess[i * W + l];
    if (ids[l] >= 0 && p.used[l] < s.free) lanes |= 1u << l;
  }
  return lanes;
}

// Rows `guess` [most, W] (−1: none) into the working set where they are independent of it: a start from a guess.
template <class T, class E, class G, int W>
GD_HD void enter_rows(const G& g, const ActiveSet<T, E>& s, Places<W>& p, const int* guess, int most) {
  for (int i = 0; i < most; i++) {
    int ids[W];
    const unsigned lanes = next_of_guess(s, p, guess, i, ids);
    if (!lanes) continue;
    fetch_rows(g, s, lanes, ids);
    g.sync();
    T square;
    const T beyond = project(g, s, p, lanes, square);
    const unsigned independent = lane_bits<T>(beyond > square * broadcast<T>(kGuessDependent)) & lanes;
    if (independent) append(g, s, p, independent, beyond, T{}, ids);
  }
}
#if !defined(__CUDACC__) && !defined(GD_GPU_LAYOUT)
// The same for one thread, kTile rows at a time: they lose their part in the span of the rows before them together, and
// only then one by one. A row that lost digits to that begins anew by itself.
template <class T, class E, int W>
GD_HD void enter_rows(const Alone& g, const ActiveSet<T, E>& s, Places<W>& p, const int* guess, int most) {
  const index_t n = s.width();
  for (int first = 0; first < most; first += kTile) {
    const int count = most - first < kTile ? most - first : kTile;
    int ids[kTile][W];
    unsigned lanes[kTile] = {};
    for (int r = 0; r < kTile; r++) {
      if (r < count) lanes[r] = next_of_guess(s, p, guess, first + r, ids[r]);
      if (lanes[r]) fetch_rows(g, s, lanes[r], ids[r]);
      const Mask<T> here = lane_mask<T>(lanes[r]);
      for (index_t k = 0; k < n; k++) s.panel[k * kTile + r] = select(here, s.row[k], T{});
    }
    T square[kTile];
    band_squares(s.panel, n, square);
    const int bands = p.bands;
    for (int band = 0; band < bands; band++) {
      const T* q = s.Q.band(band);
      T c[kTile][kTile] = {};
      update_tile<1>(c, s.panel, q, n);
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        GD_UNROLL for (int b = 0; b < kTile; b++) { s.panel_h[(band * kTile + b) * kTile + r] = c[r][b]; }
      }
      subtract_tile(c, q, n, s.panel);
    }
    for (index_t i = bands * kTile; i < s.room; i++)
      for (int r = 0; r < kTile; r++) s.panel_h[i * kTile + r] = T{};
    for (int r = 0; r < count; r++) {
      if (!lanes[r]) continue;
      for (index_t k = 0; k < n; k++) s.z[k] = s.panel[k * kTile + r];
      T beyond = square_of(g, s.z, n);
      const Mask<T> again = (beyond < square[r] * broadcast<T>(kOrthogonalAgain)) & lane_mask<T>(lanes[r]);
      if (any(again)) {
        T ignored;
        fetch_rows(g, s, lanes[r], ids[r]);
        beyond = select(again, project(g, s, p, lane_bits<T>(again), ignored), beyond);
        for (index_t k = 0; k < n; k++) s.z[k] = select(again, s.z[k], s.panel[k * kTile + r]);
      }
      for (int i = 0; i < p.bands * kTile; i++) s.h[i] = select(again, s.h[i], s.panel_h[i * kTile + r]);
      unsigned enter = lane_bits<T>(beyond > square[r] * broadcast<T>(kGuessDependent)) & lanes[r];
      for (int l = 0; l < W; l++)
        if (p.used[l] >= s.free) enter &= ~(1u << l);
      if (!enter) continue;
      int places[W];
      for (int l = 0; l < W; l++) places[l] = p.used[l];
      append(g, s, p, enter, beyond, T{}, ids[r]);
      const Mask<T> entered = lane_mask<T>(enter);
      for (int later = r + 1; later < count; later++) {
        T even{}, odd{};
        for (index_t k = 0; k < n; k += 2) {
          even += s.panel[k * kTile + later] * s.z[k];
          odd += s.panel[(k + 1) * kTile + later] * s.z[k + 1];
        }
        const T c = select(entered, T(even + odd), T{});
        for (index_t k = 0; k < n; k++) s.panel[k * kTile + later] -= c * s.z[k];
        for_each_place(enter, places, [&](int place, unsigned here) GD_LAMBDA {
          T& h = s.panel_h[place * kTile + later];
          h = select(lane_mask<T>(here), c, h);
        });
      }
    }
  }
}
#endif

// The rows that are violated most, in `lanes`, into s.row: their numbers in `chosen` and their slacks in `exact`.
// Returns the lanes where one is violated by more than rounding explains.
template <class T, class E, int W>
GD_HD unsigned choose_rows(const Alone& g, const ActiveSet<T, E>& s, const Places<W>& p, unsigned lanes, T size_base,
                           bool single, int (&chosen)[W], T& exact) {
  const index_t n = s.width(), rows = padded_to_pairs(s.inequalities);
  T least, which;
  const T size = square_root(square_of(g, s.u, n)) + size_base;
  const T allowed = -size * broadcast<T>(kViolation);
  exact = T{};
  if (single) {
    least_slack_single(g, s.pricing, s.inequalities, n, s.u, least, which);
  } else {
    least_slack(g, s.M, rows, n, s.u, s.d, least, which);
  }
  unsigned found = lane_bits<T>(least < (single ? T(-size * broadcast<T>(kViolationSingle)) : allowed)) & lanes;
  for (int l = 0; l < W; l++) {
    if (!(found >> l & 1u)) continue;
    const int id = int(get_lane(which, l));
    for (int i = 0; i < p.used[l]; i++)  // rounding alone violates a row of the working set
      if (s.id(i, l) == id) found &= ~(1u << l);
    if (found >> l & 1u) chosen[l] = id;
  }
  if (!found) return 0;
  const T d = fetch_rows(g, s, found, chosen);
  T even{}, odd{};
  for (index_t k = 0; k < n; k += 2) {
    even += s.row[k] * s.u[k];
    odd += s.row[k + 1] * s.u[k + 1];
  }
  exact = d - (even + odd);
  return found & lane_bits<T>(exact < allowed);
}

// When the first multiplier becomes zero, and at which place: the smallest quotient, compared without dividing.
template <class T, class E>
GD_HD T first_to_leave(const Alone&, const ActiveSet<T, E>& s, int most, T& leaving) {
  T number = broadcast<T>(1), divisor{};
  leaving = T{};
  for (int i = 0; i < most; i++) {
    const T a = s.multiplier[i], r = s.r[i];
    const Mask<T> sooner = (r > broadcast<T>(kFallingMultiplier)) & (a * divisor < number * r);
    number = select(sooner, a, number);
    divisor = select(sooner, r, divisor);
    leaving = select(sooner, broadcast<T>(i), leaving);
  }
  return select(divisor > T{}, T(number / maximum(divisor, broadcast<T>(1e-300))), broadcast<T>(kNever));
}

// The loop, for `lanes`, whose point is settled. With `single`, rows are chosen by slacks in single precision, which
// overlooks violations near its rounding error.
template <class T, class E, class G, int W>
GD_HD void pivot(const G& g, const ActiveSet<T, E>& s, Places<W>& p, Progress<W>& progress, unsigned lanes,
                 bool single) {
  const index_t n = s.width();
  const int limit = change_limit(s.n, s.equalities + s.inequalities);
  const T never = broadcast<T>(kNever);
  const T size_base = square_root(square_of(g, s.base, n));
  unsigned choosing = s.inequalities > 0 ? lanes : 0, stepping = 0;
  T slack{}, entering{};  // of the chosen row: its slack and its multiplier
  int chosen[W];
  for (int l = 0; l < W; l++) chosen[l] = -1;
  for (int step = 0; choosing | stepping; step++) {
    if (step >= limit) {
      progress.stuck |= choosing | stepping;
      return;
    }
    if (choosing) {
      T exact;
      const unsigned found = choose_rows(g, s, p, choosing, size_base, single, chosen, exact);
      const Mask<T> fresh = lane_mask<T>(found);
      slack = select(fresh, exact, slack);
      entering = select(fresh, T{}, entering);
      stepping |= found;
      choosing = 0;
      if (!stepping) return;
    }
    T square;
    const T beyond = project(g, s, p, stepping, square);
    solve_R(g, s, p.most, s.h, s.r);
    g.sync();
    T leaving;
    const T until_leaves = first_to_leave(g, s, p.most, leaving);
    T room{};
    for (int l = 0; l < W; l++) set_lane(room, l, Real<T>(p.used[l] < s.free ? 1 : 0));
    const Mask<T> independent = (beyond > square * broadcast<T>(kDependent)) & (room > T{});
    const T until_holds = select(independent, T(-slack / maximum(beyond, broadcast<T>(1e-300))), never);
    const unsigned blocked = lane_bits<T>((until_holds >= never) & (until_leaves >= never)) & stepping;
    if (blocked) {  // kept as a certificate: the combination that gives the row, and the row
      for (int l = 0; l < W; l++)
        if (blocked >> l & 1u) progress.blocked[l] = chosen[l];
      const Mask<T> here = lane_mask<T>(blocked);
      for (int i = g.rank(); i < p.most; i += g.size()) s.certificate[i] = select(here, T(-s.r[i]), s.certificate[i]);
      progress.infeasible |= blocked;
      stepping &= ~blocked;
      g.sync();
    }
    const Mask<T> moving = lane_mask<T>(stepping);
    const Mask<T> holds = until_holds <= until_leaves;
    const T t = select(moving, select(holds, until_holds, until_leaves), T{});
    for (index_t k = g.rank(); k < n; k += g.size()) s.u[k] -= t * s.z[k];
    for (int i = g.rank(); i < p.most; i += g.size()) s.multiplier[i] -= t * s.r[i];
    entering += t;
    slack += select(independent, T(t * beyond), T{});
    const unsigned enter = lane_bits<T>(holds) & stepping, leave = stepping & ~enter;
    for (int l = 0; l < W; l++) progress.changes[l] += int(stepping >> l & 1u);
    g.sync();
    if (enter) append(g, s, p, enter, beyond, entering, chosen);
    if (leave) drop(g, s, p, leave, leaving);
    stepping = leave;
    choosing |= enter;
  }
}

// From the working set that is there to the optimum, for `lanes`; u and the multipliers are exact for the working set
// at the end. With `single`, slacks in double precision have the last word.
template <class T, class E, class G, int W>
GD_HD void optimise(const G& g, const ActiveSet<T, E>& s, Places<W>& p, Progress<W>& progress, unsigned lanes,
                    bool single) {
  const auto steps = [&] {
    int sum = 0;
    for (int l = 0; l < W; l++) sum += progress.changes[l];
    return sum;
  };
  int settled = -1;
  GD_NO_UNROLL for (int pass = single ? 0 : 1; pass < 3; pass++) {
    // Where nothing has changed since, settling would give the same numbers again.
    if (steps() != settled) settle(g, s, p, progress, lanes & ~(progress.stuck | progress.infeasible));
    settled = steps();
    if (pass < 2) pivot(g, s, p, progress, lanes & ~(progress.stuck | progress.infeasible), pass == 0);
  }
}

}  // namespace GD_NAMESPACE
