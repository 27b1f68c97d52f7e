// What jvp and vjp have in common on a GPU: a problem and its solution, loaded for derivative/sensitivity.cuh.
#pragma once
#include "../../derivative/sensitivity.cuh"
#include "problem.cuh"

namespace GD_NAMESPACE {

#if defined(GD_SMOOTHED)
constexpr bool kSmoothed = true;
#else
constexpr bool kSmoothed = false;
#endif

struct Differentiator {
  const gd_gpu_sensitivity& call;
  const Layout<Quick>& layout;
  const Workspace& memory;
  const Shape shape;
  Kept<Quick> kept;
  MapState<double> map;  // x and y hold the solution in the problem's own units
  double c;

  GD_DEVICE Differentiator(const gd_gpu_sensitivity& call_, const Layout<Quick>& layout_, const Workspace& memory_)
      : call(call_), layout(layout_), memory(memory_), shape(structure()), c(1) {
    kept.carve(shape, false, layout.kept_at(memory.near, memory.far));
  }

  GD_DEVICE bool solved(long long index) const {
    return call.point.status[index] == GD_SOLVED || call.point.status[index] == GD_ALMOST_SOLVED;
  }

  // Loads problem `index` and its solution, or with smoothing the central point, and factorises: `map` is then ready
  // for any number of directions. False if there is no central point.
  template <class G>
  GD_DEVICE bool factorise(const G& g, long long index) {
    const Problem problem(call.P, call.q, call.A, call.b, index);
    char* const core = layout.core_at(memory.near, memory.far);
    g.sync();
    problem.find_absent(g, kept.absent);
    g.sync();
    c = problem.equilibrate(g, shape, kept, core);
    carve_map(shape, true, map, core, layout.bulk_at(memory.near, memory.far, layout.exact, 0));
    clear(g, core, layout.exact.core);
    problem.load(g, kept, c, map.w, map.unit_x, map.unit_z);
    map.cost_scale = c;
    const View x(call.point.x, index), y(call.point.y, index), s(call.point.s, index);
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.x[j] = x[j];
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      const bool absent = kept.absent[k];
      const double E = double(kept.E[k]);
      map.y[k] = absent ? 0.0 : y[caller_row(k)];
      const double slack = absent ? 1.0 : k < GD_ZERO_ROWS ? 0.0 : s[caller_row(k)] * E;
      map.t[k] = map.y[k] * c / E;  // for `cone_project`, as is best_v
      map.best_v[k] = slack;
      map.v[k] = map.t[k] - slack;
    }
    g.sync();
    if constexpr (kSmoothed) {
      if (!move_to_central_path(g)) return false;
      factorise_central(g, map);
      return true;
    } else {
      factorise_sensitivity(g, map);
      return true;
    }
  }

  template <class G>
  GD_DEVICE bool move_to_central_path(const G& g) {
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.x[j] /= double(kept.D[j]);
    const CentralPoint<double> central = find_central_point(g, map, call.smoothing * c, true);
    g.sync();
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.x[j] *= double(kept.D[j]);
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) map.y[k] =
        kept.absent[k] ? 0.0 : map.y[k] * double(kept.E[k]) / c;
    g.sync();
    return central.found;
  }
  // ∇(½xᵀPx + qᵀx) at the central point, entry j.
  GD_DEVICE double objective_slope(index_t j) const { return (map.Px[j] + map.w.q[j]) * map.unit_x[j]; }

  // Solves for the right-hand side in e1 and e2; false if the result is not finite.
  template <class G>
  GD_DEVICE bool solve(const G& g) {
    solve_sensitivity(g, map, kSmoothed ? nullptr : &map.N, true);
    return !kSmoothed || finite_sensitivity(g, map, 0);
  }
};

}  // namespace GD_NAMESPACE
