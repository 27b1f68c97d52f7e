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

// An interior point's first s and z; 0 in the rows of the zero cone.
template <class T, class G>
GD_HD void cone_start(const G& g, const ConeRows& rows, const T* b, T* s, T* z) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) s[k] = z[k] = T{};
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.start(g, b, s, z); });
}
template <class T, class G>
GD_HD void cone_scaling(const G& g, const ConeRows& rows, const T* s, const T* z, const Spectral<T>& F, T* lambda) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.scaling(g, s, z, F, lambda); });
}
template <class T, class G>
GD_HD void cone_apply(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.apply(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_apply_inverse(const G& g, const ConeRows& rows, const Spectral<T>& F, const T* v, T* out) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.apply_inverse(g, F, v, out); });
}
template <class T, class G>
GD_HD void cone_scale_rows(const G& g, const ConeRows& rows, const Spectral<T>& F, const Panels<T>& A,
                           const Panels<T>& scaled, index_t panels) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.scale_rows(g, F, A, scaled, rows.zero, panels); });
}
// The same for the cones whose rows F mixes, which come behind the nonnegative rows.
template <class T, class G>
GD_HD void cone_scale_dense_rows(const G& g, const ConeRows& rows, const Spectral<T>& F, const Panels<T>& A,
                                 const Panels<T>& scaled, index_t panels) {
  const index_t offset = rows.zero + rows.nonnegative;
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.scale_dense_rows(g, F, A, scaled, offset, panels); });
}
template <class T, class G>
GD_HD void cone_correction(const G& g, const ConeRows& rows, const T* lambda, const T* ds, const T* dz, T centre,
                           T* out) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.correction(g, lambda, ds, dz, centre, out); });
}
template <class T, class G>
GD_HD T cone_inverse_step(const G& g, const ConeRows& rows, const T* s, const T* ds) {
  T worst{};
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { worst = maximum(cone.inverse_step(g, s, ds), worst); });
  return g.max(worst);
}
template <class T, class G>
GD_HD void cone_project(const G& g, const ConeRows& rows, const T* v, T* y, T* s) {
  for (index_t k = g.rank(); k < rows.zero; k += g.size()) {
    y[k] = v[k];
    s[k] = T{};
  }
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.project(g, v, y, s); });
}
template <class T, class G>
GD_HD void cone_curvature(const G& g, const ConeRows& rows, const T* v, T delta, Mask<T> update, const Spectral<T>& F,
                          const Spectral<T>& N) {
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { cone.curvature(g, v, delta, update, F, N); });
}
template <class T, class G>
GD_HD T cone_margin(const G& g, const ConeRows& rows, const T* v) {
  T nearest = broadcast<T>(1e30);
  for_each_cone(rows, [&](const auto& cone) GD_LAMBDA { nearest = minimum(cone.margin(g, v), nearest); });
  return g.min(nearest);
}

}  // namespace GD_NAMESPACE
