// The linear systems of the active rows, by the factors that the method has anyway: refinement of a point, and jvp and
// vjp (where all active rows are equalities).
//
//     [ P   A_Eᵀ  A_Wᵀ ] [dx ]   [e  ]
//     [ A_E   0    0   ] [dyE] = [f_E]
//     [ A_W   0    0   ] [dyW]   [f_W]
//
// In the coordinates of state.cuh, with g = HᵀL⁻¹e: the last ones of du are R_E⁻ᵀ N f_E; for the others du + M_Wᵀ dλ =
// g and M_W du = N f_W give c = Q g − R⁻ᵀ N f_W, dλ = R⁻¹ c, du = g − Qᵀc. What is left of the first row, e − P dx −
// A_Wᵀ dyW, lies in the span of A_Eᵀ, and dyE are its coordinates there.
#pragma once
#include "solve.cuh"

namespace GD_NAMESPACE {

// The equalities' multipliers, into s.y_zero, that leave least of s.z = −(P x + q + A_Iᵀ y_I), which stays.
template <class T, class E, class G>
GD_HD void equality_multipliers(const G& g, const ActiveSet<T, E>& s) {
  const index_t n = s.columns();
  for (index_t j = g.rank(); j < n; j += g.size()) s.spare[j] = j < s.n ? s.z[j] : T{};
  g.sync();
  solve_lower(g, s.L, s.n, s.spare);
  g.sync();
  reflect(g, s.H, s.spare, s.block);
  for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.w_zero[k] = s.spare[s.n - 1 - k];
  g.sync();
  solve_R_zero(g, s, s.w_zero);
  g.sync();
  for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.y_zero[k] = s.w_zero[k] * s.norm_zero[k];
  g.sync();
}

// s.z: e, then dx; s.w_zero: N f_E by equality, zero behind the last; s.f: N f_W by place; then dλ in s.r.
template <class T, class E, class G, int W>
GD_HD void solve_kkt(const G& g, const ActiveSet<T, E>& s, const Places<W>& p) {
  const index_t width = s.width();
  g.sync();
  solve_lower(g, s.L, s.n, s.z);
  g.sync();
  if (s.equalities > 0) {
    solve_R_zero_transposed(g, s, s.w_zero);
    reflect(g, s.H, s.z, s.block);
    for (index_t k = g.rank(); k < s.equalities; k += g.size()) s.z[s.n - 1 - k] = s.w_zero[k];
    g.sync();
  }
  multiply_bands(g, s.Q, p.bands, width, s.z, s.h);
  solve_R_transposed(g, s, p.most, s.f);
  g.sync();
  for (index_t i = g.rank(); i < p.bands * kTile; i += g.size()) s.h[i] -= s.f[i];
  g.sync();
  subtract_transposed(g, s.Q, p.bands, width, s.h, s.z);
  solve_R(g, s, p.most, s.h, s.r);
  g.sync();
  if (s.equalities > 0) reflect_back(g, s.H, s.z, s.block);
  solve_lower_transposed(g, s.L, s.n, s.z);
  g.sync();
}

}  // namespace GD_NAMESPACE
