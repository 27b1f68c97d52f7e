// A problem's result on its way from a group's memory to the caller's arrays, in the problem's own units and row order.
#pragma once
#include "problem.cuh"

namespace GD_NAMESPACE {

struct Results {
  const gd_gpu_solve& call;
  long long index;

  GD_DEVICE static void put(void* data, long long offset, double value) {
    if (data) static_cast<Data*>(data)[offset] = Data(value);
  }
  GD_DEVICE double failed() const { return call.zero_on_failure ? 0.0 : not_a_number(); }

  GD_DEVICE void scalars(int status, int iterations, double objective, double primal, double dual, double gap,
                         double margin) const {
    const gd_solution& o = call.out;
    put(o.obj, index, objective);
    put(o.primal_residual, index, primal);
    put(o.dual_residual, index, dual);
    put(o.gap, index, gap);
    put(o.margin, index, margin);
    if (o.status) o.status[index] = int8_t(status);
    if (o.iterations) o.iterations[index] = iterations;
  }

  template <class G>
  GD_DEVICE void point(const G& g, const MapState<double>& map, const Kept<Quick>& kept, double c, int status,
                       int iterations, const Judged<double>& judged) const {
    const gd_solution& o = call.out;
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size())
        put(o.x, index * GD_N + j, map.x[j] * double(kept.D[j]));
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      const long long at = index * kTotalRows + caller_row(k);
      const double E = double(kept.E[k]);
      put(o.y, at, kept.absent[k] ? 0.0 : map.y[k] * E / c);
      put(o.s, at, kept.absent[k] ? infinity() : map.s[k] / E);
    }
    if (g.rank() == 0) {
      const Residuals<double>& r = judged.residuals;
      scalars(status, iterations, r.objective, r.primal, r.dual, r.gap, judged.margin);
    }
  }

  // y with Aᵀy = 0, bᵀy = −1, or x with Px = 0, −Ax ∈ K, qᵀx = −1.
  template <class T, class G>
  GD_DEVICE void certificate(const G& g, const InteriorState<T>& state, const Kept<Quick>& kept, double c, int outcome,
                             int iterations) const {
    const gd_solution& o = call.out;
    const double nothing = failed(), nan = not_a_number();
    const double unbounded = call.zero_on_failure ? 0.0 : infinity();
    const bool primal = outcome::is_primal(outcome), zeros = call.zero_on_failure != 0;
    double product = 0;
    if (primal) {
      GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
        product -= double(state.z[k]) * double(state.w.b[k]);
      }
    } else {
      GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
        product -= double(state.x[j]) * double(state.w.q[j]);
      }
    }
    // Equilibrated: bᵀz is what it is outside (z·E against b/E, the cost factor cancels in the direction); qᵀx is c
    // times it.
    const double scale = 1 / g.sum(product);
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size())
        put(o.x, index * GD_N + j, primal || zeros ? nothing : double(state.x[j]) * double(kept.D[j]) * scale * c);
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      const long long at = index * kTotalRows + caller_row(k);
      const double E = double(kept.E[k]);
      put(o.y, at, !primal || zeros ? nothing : kept.absent[k] ? 0.0 : double(state.z[k]) * E * scale);
      put(o.s, at, primal || zeros ? nothing : k < GD_ZERO_ROWS ? 0.0 : double(state.s[k]) / E * scale * c);
    }
    if (g.rank() == 0) scalars(outcome, iterations, primal ? unbounded : -unbounded, nan, nan, nan, nan);
  }

  template <class G>
  GD_DEVICE void failure(const G& g, int status, int iterations) const {
    const gd_solution& o = call.out;
    const double nothing = failed(), nan = not_a_number();
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) put(o.x, index * GD_N + j, nothing);
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      put(o.y, index * kTotalRows + k, nothing);
      put(o.s, index * kTotalRows + k, nothing);
    }
    if (g.rank() == 0) scalars(status, iterations, nothing, nan, nan, nan, nan);
  }
};

}  // namespace GD_NAMESPACE
