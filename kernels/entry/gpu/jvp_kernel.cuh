// Forward-mode derivatives of a batch on a GPU: tangents of P, q, A, b in, tangents of x, y, s and the objective out.
// The algebra is derivative/sensitivity.cuh's. A problem is loaded and factorised once for all directions.
#pragma once
#include "sensitivity.cuh"

namespace GD_NAMESPACE {

template <class G>
GD_DEVICE void jvp(const G& g, Differentiator& d, long long index, long long direction, bool ready) {
  const gd_gpu_sensitivity& call = d.call;
  const Target x_dot(call.x_dir, index, direction), y_dot(call.y_dir, index, direction),
      s_dot(call.s_dir, index, direction), obj_dot(call.obj_dir, index, direction);
  const auto no_derivative = [&]() GD_LAMBDA {
    GD_NO_UNROLL for (index_t j = g.rank(); x_dot && j < GD_N; j += g.size()) x_dot.set(j, 0);
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      if (y_dot) y_dot.set(k, 0);
      if (s_dot) s_dot.set(k, 0);
    }
    if (obj_dot && g.rank() == 0) obj_dot.set(0, 0);
  };
  if (!ready) return no_derivative();
  MapState<double>& map = d.map;
  const Kept<Quick>& kept = d.kept;
  const double *x = map.x, *y = map.y;

  // r₁ = −(dP x + dq + dAᵀy), r₂ = −(dA x − db); the objective's tangent by the envelope theorem on the way.
  const View P(call.P_dir, index, direction), q(call.q_dir, index, direction), A(call.A_dir, index, direction),
      b(call.b_dir, index, direction);
  double objective = 0;
  GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
    double r1 = 0;
#if GD_HAS_P
    if (call.P_dir.data) {  // the symmetric part, as P is symmetric
      for (index_t i = 0; i < GD_N; i++) r1 -= 0.5 * (P(j, i) + P(i, j)) * x[i];
      objective -= 0.5 * r1 * x[j];
    }
#endif
    if (call.q_dir.data) {
      r1 -= q[j];
      objective += q[j] * x[j];
    }
    if (call.A_dir.data)
      for (index_t k = 0; k < kTotalRows; k++)
        if (!kept.absent[k]) r1 -= A(caller_row(k), j) * y[k];
    map.e1[j] = r1 * double(kept.D[j]) * d.c;
  }
  GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
    double r2 = 0;
    if (!kept.absent[k]) {
      if (call.b_dir.data) r2 += b[caller_row(k)];
      if (call.A_dir.data)
        for (index_t j = 0; j < GD_N; j++) r2 -= A(caller_row(k), j) * x[j];
    }
    if (!kSmoothed) objective -= y[k] * r2;
    map.e2[k] = r2 * double(kept.E[k]);
    map.s[k] = map.e2[k];  // ds = r₂ − A dx, once dx is known
  }
  g.sync();
  if (!d.solve(g)) return no_derivative();
  GD_NO_UNROLL for (index_t j = g.rank(); kSmoothed && j < GD_N; j += g.size()) objective +=
      d.objective_slope(j) * (map.u[j] * double(kept.D[j]));
  objective = g.sum(objective);
  multiply<1>(g, map.w.A, kTotalRows, GD_N, map.u, 0, map.Ax, 0);
  g.sync();
  GD_NO_UNROLL for (index_t j = g.rank(); x_dot && j < GD_N; j += g.size()) x_dot.set(j, map.u[j] * double(kept.D[j]));
  GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
    const double E = double(kept.E[k]);
    if (y_dot) y_dot.set(caller_row(k), kept.absent[k] ? 0.0 : map.t[k] * E / d.c);
    if (s_dot) s_dot.set(caller_row(k), k < GD_ZERO_ROWS || kept.absent[k] ? 0.0 : (map.s[k] - map.Ax[k]) / E);
  }
  if (obj_dot && g.rank() == 0) obj_dot.set(0, objective);
}

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_jvp_kernel(const gd_gpu_sensitivity call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  const Group g{};
  const Layout<Quick> layout(GD_GPU_JVP, structure(), GD_LEVEL, GD_GROUP);
  const Workspace memory(layout, shared, call.workspace);
  Differentiator d(call, layout, memory);
  for_each_item(g, call.batch, &call.control->next, [&](const Group& group, long long index) GD_LAMBDA {
    const bool ready = d.solved(index) && d.factorise(group, index);
    GD_NO_UNROLL for (long long direction = 0; direction < call.directions; direction++) {
      group.sync();
      jvp(group, d, index, direction, ready);
    }
  });
}
