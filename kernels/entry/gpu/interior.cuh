// The interior point of ipm/solve.cuh on a GPU: one problem for each group.
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
  compute_products(g, state);
}

}  // namespace GD_NAMESPACE
