// Solves a batch on a GPU: each group takes one problem after another through the fast interior point and the polish.
// What that does not solve goes to a list, which gd_careful_kernel (careful_kernel.cuh) works off behind it.
#pragma once
#include "interior.cuh"

namespace GD_NAMESPACE {

struct FastSolver : ProblemSolver {
  GD_DEVICE FastSolver(const gd_gpu_solve& call_, const Layout<Quick>& layout_, const Workspace& memory_)
      : ProblemSolver(call_, layout_, memory_, true) {}

  template <class G>
  GD_DEVICE void solve(const G& g, long long index) {
    const Problem problem(call.P, call.q, call.A, call.b, index);
    const Results results{call, index};
    const double c = prepare(g, problem, results, true);
    if (c == 0) return;
    int iterations = 0, factorisations = 0;
    bool warm = call.warm_x.data != nullptr, last_chance = !warm;
    GD_NO_UNROLL for (;; warm = false,
                         last_chance = true) {  // from the warm start, if there is one; then from the interior point
      if (!warm) {
        InteriorState<Quick> state;
        const int ended = fast_interior_point(g, problem, c, state);
        iterations = int(state.iterations);
        interior += iterations;
        if (sizeof(Quick) == 8 && (ended == outcome::primal_infeasible || ended == outcome::dual_infeasible))
          return results.certificate(g, state, kept, c, ended, iterations + factorisations);
        if (ended != outcome::reached) break;
        hand_over(g, state);
      }
      MapState<double> map;
      if (load_map(g, problem, c, warm, index, map)) {
        const Judged<double> judged =
            polish_point(g, map, true, true, warm ? newton_from_warm_start() : newton_after_fast(), stages);
        factorisations += int(judged.factorisations);
        newton += int(judged.factorisations);
        if (judged.merit <= 1) return results.point(g, map, kept, c, GD_SOLVED, iterations + factorisations, judged);
      }
      if (last_chance) break;
    }
    if (g.rank() == 0) {
      const unsigned long long place =
          atomicAdd(reinterpret_cast<unsigned long long*>(&call.control->unfinished), 1ull);
      call.unfinished[place] = {int32_t(index), int16_t(iterations), int16_t(factorisations)};
    }
  }

  template <class G>
  GD_DEVICE int fast_interior_point(const G& g, const Problem& problem, double c, InteriorState<Quick>& state) const {
    char* bulk = layout.bulk_at(memory.near, memory.far, layout.fast, 1);
    carve_fast(shape, state, core(), bulk);
    clear(g, core(), layout.fast.core);
    problem.load(g, kept, c, state.w, state.unit_x, state.unit_z);
    start_interior_point(g, state, c, 0, false);
    InteriorSettings settings = stages.fast;
    settings.refinements = 0;  // said again where the compiler sees it: the state has no room for these
    settings.keep_best = false;
    OneProblem feeder;
    interior_point(g, state, settings, feeder);
    return feeder.ended;
  }

  // The point in terms of the problem, where the next stage finds it.
  template <class G>
  GD_DEVICE void hand_over(const G& g, const InteriorState<Quick>& state) const {
    const Quick inverse = Quick(1) / state.tau;
    g.sync();
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) kept.x[j] = state.x[j] * inverse;
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) kept.v[k] =
        (state.z[k] - state.s[k]) * inverse;
  }

  // The problem in double precision and the point to start from; false if that is not finite.
  template <class G>
  GD_DEVICE bool load_map(const G& g, const Problem& problem, double c, bool warm, long long index,
                          MapState<double>& map) const {
    carve_map(shape, false, map, core(), layout.bulk_at(memory.near, memory.far, layout.exact, 0));
    clear(g, core(), layout.exact.core);
    problem.load(g, kept, c, map.w, map.unit_x, map.unit_z);
    map.cost_scale = c;
    double sum = 0;
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
      map.x[j] = warm ? View(call.warm_x, index)[j] / double(kept.D[j]) : double(kept.x[j]);
      sum += absolute(map.x[j]);
    }
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      double v = double(kept.v[k]);
      if (warm) {
        const double E = double(kept.E[k]), y = View(call.warm_y, index)[caller_row(k)];
        v = kept.absent[k] ? -1.0 : y * c / E - View(call.warm_s, index)[caller_row(k)] * E;
      }
      map.v[k] = v;
      sum += absolute(v);
    }
    sum = g.sum(sum);
    g.sync();
    return sum < 1e100;
  }
};

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_solve_kernel(const gd_gpu_solve call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  const Group g{};
  const Layout<Quick> layout(GD_GPU_SOLVE, structure(), GD_LEVEL, GD_GROUP);
  const Workspace memory(layout, shared, call.workspace);
  FastSolver solver(call, layout, memory);
  for_each_item(g, call.batch, &call.control->next,
                [&](const Group& group, long long index) GD_LAMBDA { solver.solve(group, index); });
  solver.report_work(g);
}
