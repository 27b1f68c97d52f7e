// What the kernels of a solve have in common: a problem made ready, and the interior point of ipm/solve.cuh for one
// problem of each group.
#pragma once
#include "results.cuh"

namespace GD_NAMESPACE {

// The interior point's feeder (ipm/solve.cuh) for one problem that is loaded already.
struct OneProblem {
  int ended = 0;
  bool fed = false;

  template <class T>
  GD_DEVICE bool exchange(const InteriorState<T>&, bool finished, T out) {
    if (!finished) return fed;
    ended = int(out);
    fed = !fed;
    return fed;
  }
};

// x = 0, τ = κ = 1 and, cone by cone, what `cone_start` says.
template <class T, class G>
GD_DEVICE void start_interior_point(const G& g, InteriorState<T>& state, double c, int iterations, bool careful) {
  g.sync();
  cone_start(g, state.w.shape.rows, state.w.b, state.s, state.z);
  state.tau = state.kappa = T(1);
  state.cost_scale = T(c);
  state.iterations = T(iterations);
  state.regularisation = T(first_regularisation(sizeof(T) == 4, careful));
  state.best_merit = T(1e30);
  state.since_best = T(0);
  state.short_steps = T(0);
  compute_products(g, state);
}

struct ProblemSolver {
  const gd_gpu_solve& call;
  const Layout<Quick>& layout;
  const Workspace& memory;
  const Shape shape;
  const StageSettings stages;
  Kept<Quick> kept;
  unsigned long long interior = 0, newton = 0;  // work

  // `hands_over`: a point goes from stage to stage.
  GD_DEVICE ProblemSolver(const gd_gpu_solve& call_, const Layout<Quick>& layout_, const Workspace& memory_,
                          bool hands_over)
      : call(call_), layout(layout_), memory(memory_), shape(structure()),
        stages(stage_settings(call_.settings, shape.rows, sizeof(Data) == 4, sizeof(Quick) == 4)) {
    kept.carve(shape, hands_over, layout.kept_at(memory.near, memory.far));
  }

  GD_DEVICE char* core() const { return layout.core_at(memory.near, memory.far); }

  // Equilibrates a problem, having looked at its data if `look`. Returns the cost factor, or 0 where the data are bad:
  // then that has been written.
  template <class G>
  GD_DEVICE double prepare(const G& g, const Problem& problem, const Results& results, bool look) const {
    g.sync();
    problem.find_absent(g, kept.absent);
    g.sync();
    if (look) {
      bool good = problem.acceptable(g, kept.absent);
#if GD_HAS_P
      if (good && call.settings.check_convex) good = problem.convex(g, reinterpret_cast<double*>(core()));
#endif
      if (!good) {
        results.failure(g, GD_INVALID_DATA, 0);
        return 0;
      }
      g.sync();
    }
    return problem.equilibrate(g, shape, kept, core());
  }

  GD_DEVICE void report_work(const Group& g) const {
    if (g.rank() != 0) return;
    atomicAdd(reinterpret_cast<unsigned long long*>(&call.control->interior), interior);
    atomicAdd(reinterpret_cast<unsigned long long*>(&call.control->newton), newton);
  }
};

}  // namespace GD_NAMESPACE
