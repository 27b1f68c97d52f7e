// Reverse-mode derivatives of a batch on a GPU: cotangents of x, y, s and the objective in, cotangents of P, q, A, b
// out. The algebra is derivative/sensitivity.cuh's. A problem is loaded and factorised once for all directions.
//
// The cotangent of a shared argument is a sum over the batch, and must not depend on who computed what. So a work item
// is a segment of consecutive problems, whose sum one group adds up in order; sum_kernel.cuh adds up the segments.
#pragma once
#include "sensitivity.cuh"
#include "shared_sums.cuh"

namespace GD_NAMESPACE {

// Where one cotangent goes: into the caller's array, or onto the segment's sum.
struct Cotangent {
  Target target;
  double* sum;

  GD_DEVICE Cotangent(const gd_tensor& t, long long index, long long direction, double* sums, long long offset)
      : target(t, index, direction), sum(sums && is_summed(t) ? sums + offset : nullptr) {}
  GD_DEVICE explicit operator bool() const { return bool(target); }
  GD_DEVICE void put(index_t i, index_t j, index_t columns, double value) const {
    if (sum)
      sum[i * columns + j] += value;
    else
      target.set(i, j, value);
  }
};

// The cotangents of one problem's data in one direction.
struct Cotangents {
  Cotangent P, q, A, b;

  GD_DEVICE Cotangents(const gd_gpu_sensitivity& call, const SumOffsets& offsets, long long index, long long direction,
                       double* sums)
      : P(call.P_dir, index, direction, sums, offsets.P), q(call.q_dir, index, direction, sums, offsets.q),
        A(call.A_dir, index, direction, sums, offsets.A), b(call.b_dir, index, direction, sums, offsets.b) {}

  template <class G>
  GD_DEVICE void put_zeros(const G& g) const {
    GD_NO_UNROLL for (index_t e = g.rank(); P && e < GD_N * GD_N; e += g.size()) P.put(e / kPitch, e % kPitch, GD_N, 0);
    GD_NO_UNROLL for (index_t j = g.rank(); q && j < GD_N; j += g.size()) q.put(j, 0, 1, 0);
    GD_NO_UNROLL for (index_t e = g.rank(); A && e < kTotalRows * GD_N; e += g.size())
        A.put(e / kPitch, e % kPitch, GD_N, 0);
    GD_NO_UNROLL for (index_t k = g.rank(); b && k < kTotalRows; k += g.size()) b.put(k, 0, 1, 0);
  }
};

// One direction of a problem that `d` has loaded and factorised.
template <class G>
GD_DEVICE void vjp(const G& g, Differentiator& d, long long index, long long direction, const Cotangents& bar) {
  const gd_gpu_sensitivity& call = d.call;
  MapState<double>& map = d.map;
  const Kept<Quick>& kept = d.kept;
  const View x_bar(call.x_dir, index, direction), y_bar(call.y_dir, index, direction),
      s_bar(call.s_dir, index, direction);
  const double objective = call.obj_dir.data ? View(call.obj_dir, index, direction)[0] : 0.0;

  // e₁ = x̄ − Aᵀs̄, e₂ = ȳ; s̄ of the rows that have a slack, in the problem's own units, in map.s.
  GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
    const bool gone = kept.absent[k];
    const double E = double(kept.E[k]);
    map.s[k] = call.s_dir.data && !gone && k >= GD_ZERO_ROWS ? s_bar[caller_row(k)] : 0.0;
    map.e2[k] = call.y_dir.data && !gone ? y_bar[caller_row(k)] * E / d.c : 0.0;
    map.t[k] = map.s[k] / E;  // equilibrated, as map.w.A is
  }
  g.sync();
  if (call.s_dir.data) multiply_transposed<1>(g, map.w.A, 0, kTotalRows, GD_N, map.t, 0, map.Ay, 0);
  g.sync();
  GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
    double e1 = call.x_dir.data ? x_bar[j] * double(kept.D[j]) : 0.0;
    if constexpr (kSmoothed) e1 += objective * d.objective_slope(j) * double(kept.D[j]);
    map.e1[j] = call.s_dir.data ? e1 - map.Ay[j] : e1;
  }
  g.sync();
  if (!d.solve(g)) return bar.put_zeros(g);

  // a and c of sensitivity.cuh, in the problem's own units.
  const double of_rows = kSmoothed ? 0.0 : objective;
  const double *x = map.x, *y = map.y;
  double *a = map.u, *cv = map.t;
  g.sync();
  GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) a[j] *= double(kept.D[j]) * d.c;
  GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
    cv[k] = (kept.absent[k] ? 0.0 : cv[k] * double(kept.E[k])) + map.s[k];
  }
  g.sync();
  // Envelope: obj adds ½xxᵀ, x, yxᵀ and −y, the latter two not with smoothing.
  if (bar.P) GD_NO_UNROLL for (index_t e = g.rank(); e < GD_N * GD_N; e += g.size()) {
      const index_t r = e / kPitch, j = e % kPitch;
      const index_t i = r > j ? r : j, l = r > j ? j : r;  // rounding must not make it asymmetric
      bar.P.put(r, j, GD_N, 0.5 * objective * x[i] * x[l] - 0.5 * (a[i] * x[l] + x[i] * a[l]));
    }
  if (bar.q)
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) bar.q.put(j, 0, 1, objective * x[j] - a[j]);
  if (bar.A) GD_NO_UNROLL for (index_t e = g.rank(); e < kTotalRows * GD_N; e += g.size()) {
      const index_t k = e / kPitch, j = e % kPitch;
      bar.A.put(caller_row(k), j, GD_N, (of_rows * y[k] - cv[k]) * x[j] - y[k] * a[j]);
    }
  if (bar.b)
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size())
        bar.b.put(caller_row(k), 0, 1, cv[k] - of_rows * y[k]);
}

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_vjp_kernel(const gd_gpu_sensitivity call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  const Group g{};
  const Layout<Quick> layout(GD_GPU_VJP, structure(), GD_LEVEL, GD_GROUP);
  const Workspace memory(layout, shared, call.workspace);
  Differentiator d(call, layout, memory);
  const SumOffsets offsets(call.P_dir, call.q_dir, call.A_dir, call.b_dir);
  const long long items = (call.batch + call.segment - 1) / call.segment;
  for_each_item(g, items, &call.control->next, [&](const Group& group, long long item) GD_LAMBDA {
    const long long words = call.directions * offsets.words;
    double* sums = call.sums ? call.sums + item * words : nullptr;
    for (long long e = group.rank(); sums && e < words; e += group.size()) sums[e] = 0;
    const long long end = (item + 1) * call.segment < call.batch ? (item + 1) * call.segment : call.batch;
    for (long long index = item * call.segment; index < end; index++) {
      group.sync();
      const bool ready = d.solved(index) && d.factorise(group, index);
      GD_NO_UNROLL for (long long direction = 0; direction < call.directions; direction++) {
        const Cotangents bar(call, offsets, index, direction, sums ? sums + direction * offsets.words : nullptr);
        group.sync();
        if (ready)
          vjp(group, d, index, direction, bar);
        else
          bar.put_zeros(group);
      }
    }
  });
}
