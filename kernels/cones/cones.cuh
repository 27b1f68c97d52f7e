// All cones of a problem at once: the product cone's operators are those of its parts, one after another.
//
// A cone is one file with the members that are called here, plus one line in `for_each_cone`. The zero cone has no
// file: its rows are the equality block of the condensed system (linalg/factor.cuh), its dual is free, Π the identity.
#pragma once
#include "nonnegative.cuh"
#include "second_order.cuh"

namespace GD_NAMESPACE {

template <class Visitor>
GD_HD void for_each_cone(const ConeRows& rows, Visitor visit) {
  visit(NonnegativeRows{rows.nonnegative_start, rows.nonnegative_start + rows.nonnegative});
  visit(SecondOrderCones{rows.second_order_count, rows.second_order_start, rows.second_order_dimension});
}

template <class T, class G>
GD_HD void cone_identity(const G& g, const ConeRows& rows, T* e) {
  for_each_cone(rows, [&](const auto& cone) { cone.identity(g, e); });
}
template <class T, class G>
GD_HD void cone_scaling(const G& g, const ConeRows& rows, const T* s, const T* z, const Spectral<T>& F, T* lambda) {
  for_each_cone(rows, [&](const auto& cone) { cone.scaling(g, s, z, F, lambda); });
}
template <class T, class G>
GD_HD void cone_apply(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone(rows, [&](const auto& cone) { cone.apply(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_apply_inverse(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone(rows, [&](const auto& cone) { cone.apply_inverse(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_scale_rows(const G& g, const ConeRows& rows, const Spectral<T>& F, const Panels<T>& A,
                           const Panels<T>& scaled, index_t panels) {
  for_each_cone(rows, [&](const auto& cone) { cone.scale_rows(g, F, A, scaled, rows.zero, panels); });
}
template <class T, class G>
GD_HD void cone_correction(const G& g, const ConeRows& rows, const T* lambda, const T* ds, const T* dz, T centre,
                           T* out) {
  for_each_cone(rows, [&](const auto& cone) { cone.correction(g, lambda, ds, dz, centre, out); });
}
template <class T, class G>
GD_HD T cone_inverse_step(const G& g, const ConeRows& rows, const T* s, const T* ds) {
  T worst{};
  for_each_cone(rows, [&](const auto& cone) { worst = maximum(cone.inverse_step(g, s, ds), worst); });
  return g.max(worst);
}
template <class T, class G>
GD_HD void cone_project(const G& g, const ConeRows& rows, const T* v, T* y, T* s) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) {
    y[k] = v[k];
    s[k] = T{};
  }
  for_each_cone(rows, [&](const auto& cone) { cone.project(g, v, y, s); });
}
template <class T, class G>
GD_HD void cone_curvature(const G& g, const ConeRows& rows, const T* v, T delta, Mask<T> update, const Spectral<T>& F,
                          const Spectral<T>& N) {
  for_each_cone(rows, [&](const auto& cone) { cone.curvature(g, v, delta, update, F, N); });
}
template <class T, class G>
GD_HD T cone_margin(const G& g, const ConeRows& rows, const T* v) {
  T nearest = broadcast<T>(1e30);
  for_each_cone(rows, [&](const auto& cone) { nearest = minimum(cone.margin(g, v), nearest); });
  return g.min(nearest);
}

}  // namespace GD_NAMESPACE
