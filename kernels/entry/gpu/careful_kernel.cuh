// Solves what gd_solve_kernel or gd_active_set_kernel left: a careful interior point in double precision, with
// refinement and the best iterate, then the polish and an honest status. Without polish it solves all problems, unless
// the active set has seen them. Launched behind the other kernel in any case, it looks for itself whether there is
// anything to do.
#pragma once
#include "interior.cuh"

namespace GD_NAMESPACE {

struct CarefulSolver : ProblemSolver {
  GD_DEVICE CarefulSolver(const gd_gpu_solve& call_, const Layout<Quick>& layout_, const Workspace& memory_)
      : ProblemSolver(call_, layout_, memory_, false) {}

  // Whether another kernel has seen all problems, and has made a list of those that are left.
  GD_DEVICE bool listed() const { return call.settings.polish != 0 || call.settings.method == GD_ACTIVE_SET; }

  // `before`: what the problem has cost so far.
  template <class G>
  GD_DEVICE void solve(const G& g, const gd_unfinished& before) {
    const long long index = before.index;
    const bool polish = call.settings.polish != 0;
    const Problem problem(call.P, call.q, call.A, call.b, index);
    const Results results{call, index};
    const double c = prepare(g, problem, results, !listed());  // on a list are problems whose data have passed
    if (c == 0) return;

    InteriorState<double> state;
    MapState<double> map;
    carve_careful(shape, state, map, core(), layout.bulk_at(memory.near, memory.far, layout.exact, 0));
    clear(g, core(), layout.exact.core);
    problem.load(g, kept, c, state.w, state.unit_x, state.unit_z);
    g.sync();
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.unit_x[j] = state.unit_x[j];
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) map.unit_z[k] = state.unit_z[k];
    map.cost_scale = c;
    // Iterations spent before count, unless they are all there were: the fast run's point is not kept.
    const int spent = before.interior < stages.strict.max_iter ? before.interior : 0;
    start_interior_point(g, state, c, spent, true);
    InteriorSettings settings = stages.strict;
    settings.refinements = 1;  // said again where the compiler sees it
    settings.keep_best = true;
    OneProblem feeder;
    interior_point(g, state, settings, feeder);
    const int iterations = int(state.iterations);
    interior += iterations - spent;
    if (outcome::is_certificate(feeder.ended))
      return results.certificate(g, state, kept, c, feeder.ended, iterations + before.newton);

    // Its point: the last iterate, or the best one where it did not arrive.
    const bool best = feeder.ended != outcome::reached && state.best_merit < 1e29;
    const double inverse = 1 / (best ? state.best_tau : state.tau);
    const double *x = best ? state.best_x : state.x, *z = best ? state.best_z : state.z,
                 *s = best ? state.best_s : state.s;
    g.sync();
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.x[j] = x[j] * inverse;
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      map.y[k] = z[k] * inverse;  // for `cone_project`, as is s
      map.s[k] = s[k] * inverse;
      map.v[k] = (z[k] - s[k]) * inverse;
    }
    g.sync();
    Judged<double> judged = polish_point(g, map, true, polish, newton_after_careful(), stages);
    newton += int(judged.factorisations);
    if (!(judged.merit <= 1))
      keep_better_point(g, map, judged, stages, [&]() GD_LAMBDA {
        GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) map.x[j] = x[j] * inverse;
        GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
          map.y[k] = z[k] * inverse;
          map.s[k] = k < GD_ZERO_ROWS ? 0.0 : s[k] * inverse;
        }
      });
    const int status = final_status(judged.merit, judged.almost_merit, feeder.ended);
    const int total = iterations + before.newton + int(judged.factorisations);
    if (status <= GD_ALMOST_SOLVED)
      results.point(g, map, kept, c, status, total, judged);
    else
      results.failure(g, status, total);
  }
};

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_careful_kernel(const gd_gpu_solve call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  const Group g{};
  const Layout<Quick> layout(GD_GPU_CAREFUL, structure(), GD_LEVEL, GD_GROUP);
  const Workspace memory(layout, shared, call.workspace);
  CarefulSolver solver(call, layout, memory);
  const bool listed = solver.listed();
  for_each_item(g, listed ? call.control->unfinished : uint64_t(call.batch), &call.control->next_unfinished,
                [&](const Group& group, long long item) GD_LAMBDA {
                  solver.solve(group, listed ? call.unfinished[item] : gd_unfinished{int32_t(item), 0, 0});
                });
  solver.report_work(g);
}
