// From the working set to an answer: the point is verified, refined where that helps, or proved not to exist.
#pragma once
#include "verify.cuh"

namespace GD_NAMESPACE {

constexpr int kPointRefinements = 3;

// Verifies the point of `take_point`, and refines it where its residuals are larger than rounding alone explains.
// Returns the lanes that may be called solved.
template <class T, class E, class G, int W, class Products>
GD_HD unsigned refine_point(const G& g, const ActiveSet<T, E>& s, const Places<W>& p, unsigned lanes, Products products,
                            Verdict<T>& verdict) {
  for (int round = 0;; round++) {
    const Verdict<T> now = verify_point<T>(g, s, products);
    T error = now.error;
    const Mask<T> finite = error < broadcast<T>(1e29);
    if (lane_bits<T>(error > broadcast<T>(kRefine)) & lanes)
      error = select(finite, minimum(error_by_terms<T>(g, s, products), error), error);
    const Mask<T> here = lane_mask<T>(lanes);
    verdict.primal = select(here, now.primal, verdict.primal);
    verdict.dual = select(here, now.dual, verdict.dual);
    verdict.gap = select(here, now.gap, verdict.gap);
    verdict.objective = select(here, now.objective, verdict.objective);
    verdict.margin = select(here, now.margin, verdict.margin);
    verdict.error = select(here, error, verdict.error);
    lanes &= ~lane_bits<T>(error <= broadcast<T>(kRefine));
    if (!lanes || round >= kPointRefinements) break;
    // One step of iterative refinement, in the lanes that need it.
    const Mask<T> moves = lane_mask<T>(lanes);
    g.sync();
    for (int i = g.rank(); i < p.bands * kTile; i += g.size()) {
      T r = at_places(s, p, i, s.slack);
      for (int l = 0; l < W; l++)
        if (i < p.used[l]) set_lane(r, l, Real<T>(get_lane(r, l) * lane_or_shared(s.norm[s.id(i, l)], l)));
      s.f[i] = r;
    }
    for (index_t k = g.rank(); k < padded(s.equalities); k += g.size())
      s.w_zero[k] = k < s.equalities ? T(s.slack_zero[k] * s.norm_zero[k]) : T{};
    for (index_t j = s.n + g.rank(); j < s.columns(); j += g.size()) s.z[j] = T{};
    solve_kkt(g, s, p);
    for (index_t j = g.rank(); j < s.n; j += g.size()) s.x[j] += select(moves, s.z[j], T{});
    for (int i = g.rank(); i < p.most; i += g.size())
      for (int l = 0; l < W; l++) {
        if (!(lanes >> l & 1u) || i >= p.used[l]) continue;
        const int k = s.id(i, l);
        // Whether what goes below zero was rounding is for the next look at the residuals to say.
        const double y = get_lane(s.y[k], l) + get_lane(s.r[i], l) * lane_or_shared(s.norm[k], l);
        set_lane(s.y[k], l, Real<T>(maximum(y, 0.0)));
      }
    g.sync();
  }
  return lane_bits<T>(verdict.error <= broadcast<T>(kVerified));
}

// y of a proof that there is no feasible point, from what the loop kept: the row that could not be met, less its
// combination of the working set.
template <class T, class E, class G, int W>
GD_HD void take_certificate(const G& g, const ActiveSet<T, E>& s, const Places<W>& p, const Progress<W>& progress,
                            unsigned lanes) {
  for (index_t k = g.rank(); k < s.columns(); k += g.size()) s.x[k] = T{};
  for (index_t k = g.rank(); k < s.inequalities; k += g.size()) s.y[k] = T{};
  g.sync();
  for (int l = 0; l < W; l++) {
    if (!(lanes >> l & 1u)) continue;
    for (int i = g.rank(); i < p.used[l]; i += g.size()) {
      const int k = s.id(i, l);
      const double y = get_lane(s.certificate[i], l) * lane_or_shared(s.norm[k], l);
      set_lane(s.y[k], l, Real<T>(maximum(y, 0.0)));
    }
    const int last = progress.blocked[l];
    if (g.rank() == 0) set_lane(s.y[last], l, Real<T>(lane_or_shared(s.norm[last], l)));
  }
  g.sync();
}

}  // namespace GD_NAMESPACE
