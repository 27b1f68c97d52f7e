// All cones of a problem at once: the product cone's operators are those of its parts, one after another.
//
// A cone is one file with the members that are called here, plus one line in `for_each_cone`. The zero cone has no
// file: its rows are the equality block of the condensed system (linalg/factor.cuh), its dual is free, Π the identity.
#pragma once
#include "exponential.cuh"
#include "nonnegative.cuh"
#include "power.cuh"
#include "second_order.cuh"
#include "semidefinite.cuh"

namespace GD_NAMESPACE {

// A GPU's kernel is compiled for the cones that it has (entry/gpu/structure.cuh): what it does not call takes no room.
#if defined(GD_N) && !defined(GD_PSD_COUNT)
constexpr bool kMayHaveMatrices = false;
#else
constexpr bool kMayHaveMatrices = true;
#endif
#if defined(GD_N) && !defined(GD_EXPONENTIAL_COUNT) && !defined(GD_DUAL_EXPONENTIAL_COUNT) && \
    !defined(GD_POWER_COUNT) && !defined(GD_DUAL_POWER_COUNT)
constexpr bool kMayHaveTriples = false;
#else
constexpr bool kMayHaveTriples = true;
#endif

// Single precision does not tell a cone of three rows from its surface well enough: such problems never come here in
// it.
template <class T>
constexpr bool kTriples = kMayHaveTriples && sizeof(Real<T>) == 8;

template <class T>
GD_HD bool has_triples(const ConeRows& rows) {
  return kTriples<T> && rows.triples() > 0;
}

// The cones of three rows. Those whose functions are calls (GD_CONE) are visited only where there are some.
template <class T, class Visitor>
GD_HD void for_each_triple(const ConeRows& rows, Visitor visit) {
  if constexpr (kTriples<T>) {
    const index_t exponentials = rows.exponential + rows.dual_exponential, powers = rows.power + rows.dual_power;
    if (exponentials > 0)
      visit(ExponentialCones{{exponentials, rows.exponential, rows.triple_start, rows.triple_words(), 0}});
    if (powers > 0)
      visit(PowerCones{{powers, rows.power, rows.triple_start + 3 * exponentials,
                        rows.triple_words() + kTripleWords * exponentials, exponentials},
                       rows.power_alpha});
  }
}
template <class T, class Visitor>
GD_HD void for_each_cone(const ConeRows& rows, Visitor visit) {
  visit(NonnegativeRows{rows.nonnegative_start, rows.nonnegative_start + rows.nonnegative});
  visit(SecondOrderCones{rows.second_order_count, rows.second_order_start, rows.second_order_dimension});
  if constexpr (kMayHaveMatrices) {
    if (rows.semidefinite_count > 0)
      visit(SemidefiniteCones{rows.semidefinite_count, rows.semidefinite_start, rows.semidefinite_order,
                              rows.semidefinite_words_begin()});
  }
  for_each_triple<T>(rows, visit);
}

// An interior point's first s and z; 0 in the rows of the zero cone.
template <class T, class G>
GD_HD void cone_start(const G& g, const ConeRows& rows, const T* b, T* s, T* z) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) s[k] = z[k] = T{};
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.start(g, b, s, z); });
}
template <class T, class G>
GD_HD void cone_scaling(const G& g, const ConeRows& rows, const T* s, const T* z, const Centring<T>& centring,
                        const Spectral<T>& F, T* lambda) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.scaling(g, s, z, centring, F, lambda); });
}
template <class T, class G>
GD_HD void cone_apply(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.apply(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_apply_transposed(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.apply_transposed(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_apply_inverse(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.apply_inverse(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_apply_complement(const G& g, const ConeRows& rows, const Spectral<T>& N, const T* v, T* out) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.apply_complement(g, N, v, out); });
}
template <class T, class G>
GD_HD void cone_scale_rows(const G& g, const ConeRows& rows, const Spectral<T>& F, const Panels<T>& A,
                           const Panels<T>& scaled, index_t panels) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.scale_rows(g, F, A, scaled, rows.zero, panels); });
}
// The same for the cones whose rows F mixes, which come behind the nonnegative rows.
template <class T, class G>
GD_HD void cone_scale_dense_rows(const G& g, const ConeRows& rows, const Spectral<T>& F, const Panels<T>& A,
                                 const Panels<T>& scaled, index_t panels) {
  const index_t offset = rows.zero + rows.nonnegative;
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.scale_dense_rows(g, F, A, scaled, offset, panels); });
}
template <class T, class G>
GD_HD void cone_correction(const G& g, const ConeRows& rows, const ScaledStep<T>& step, const Spectral<T>& F,
                           const Centring<T>& centring, T centre, T* out) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.correction(g, step, F, centring, centre, out); });
}
template <class T, class G>
GD_HD T cone_inverse_step(const G& g, const ConeRows& rows, const T* s, const T* ds, const Spectral<T>& F) {
  T worst{};
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { worst = maximum(cone.inverse_step(g, s, ds, F), worst); });
  return g.max(worst);
}
// Before `cone_search_step`; the caller synchronises in between.
template <class T, class G>
GD_HD void cone_prepare_reach(const G& g, const ConeRows& rows, const ScaledStep<T>& step, const Spectral<T>& F) {
  for_each_triple<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.prepare_reach(g, step, F); });
}
// Shortens the step until every cone of three rows takes it. Inside a cone are all shorter steps, too, so that each is
// asked once; near the central path they need not be: those before the one that has shortened last are asked again.
template <class T, class G>
GD_HD void cone_search_step(const G& g, const ConeRows& rows, const ScaledStep<T>& step, const Spectral<T>& F,
                            const PathProduct<T>& product, Mask<T> live, StepSearch<T>& search) {
  const bool centred = step.slack_step != nullptr;
  GD_NO_UNROLL for (int pass = 0; pass < StepSearch<T>::kMost; pass++) {
    const T before = search.alpha;
    search.until = pass == 0 || kCooperative<G> ? rows.triples() : search.last;
    for_each_triple<T>(
        rows, [&](const auto& cone) GD_LAMBDA { cone.search_step(g, step, F, product, centred, live, search); });
    search.alpha = g.min(search.alpha);
    search.back = g.max(search.back);
    if (!centred || !any(live & (search.alpha < before))) return;
  }
}
// y = Π_{K*}(v), s = y − v. What `cone_curvature` and `cone_margin` want to know beside v stays in `frame`. Cones of
// three rows start from what y and s hold, if that is anything like it, which makes the result another one by rounding:
// lanes that have no new v must not be in `update`, or their bits would depend on how often they are asked.
template <class T, class G>
GD_HD void cone_project(const G& g, const ConeRows& rows, const T* v, T delta, const Spectral<T>& frame, T* y, T* s,
                        Mask<T> update) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) {
    y[k] = v[k];
    s[k] = T{};
  }
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.project(g, v, delta, frame, y, s, update); });
}
template <class T, class G>
GD_HD void cone_curvature(const G& g, const ConeRows& rows, const T* v, const Spectral<T>& frame, T delta,
                          Mask<T> update, const Spectral<T>& F, const Spectral<T>& N) {
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.curvature(g, v, frame, delta, update, F, N); });
}
// The y and s in the interiors with y − s = v and y = −μ∇f(s), f the cone's barrier, and F with FᵀF = μ∇²f(s).
template <class T, class G>
GD_HD void cone_central(const G& g, const ConeRows& rows, const T* v, T mu, const Spectral<T>& F, T* y, T* s) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) {
    y[k] = v[k];
    s[k] = T{};
  }
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { cone.central(g, v, mu, F, y, s); });
}
template <class T, class G>
GD_HD T cone_margin(const G& g, const ConeRows& rows, const T* v, const Spectral<T>& frame) {
  T nearest = broadcast<T>(1e30);
  for_each_cone<T>(rows, [&](const auto& cone) GD_LAMBDA { nearest = minimum(cone.margin(g, v, frame), nearest); });
  return g.min(nearest);
}

}  // namespace GD_NAMESPACE
