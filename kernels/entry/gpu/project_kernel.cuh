// Projections of a batch of points onto a product of cones on a GPU, and their derivatives. What is compiled in comes
// from gpudiff/jit/projection.py:
//
//     GD_RUNS                    runs of equal cones, one behind the other (rows of a linear cone: one cone):
//     GD_RUN_KINDS               gd_cone
//     GD_RUN_ROWS                rows of each cone
//     GD_RUN_COUNTS              cones
//     GD_RUN_FIRST               the first row
//     GD_ALPHAS                  exponents, a run's beginning at
//     GD_RUN_ALPHAS              these
//     GD_WORK_WORDS              doubles that a group needs for a semidefinite cone
//     GD_DATA                    element type
//     GD_GROUP                   threads that share a semidefinite cone; every other cone has a thread of its own
//     GD_THREADS                 threads per block
//     GD_LEVEL                   0: a group's memory is shared memory, otherwise global memory
//     GD_MIN_BLOCKS              blocks per multiprocessor
#pragma once
#include "../projection_cone.cuh"
#include "arguments.h"

namespace GD_NAMESPACE {

using Data = GD_DATA;

struct RunTable {
  int kind[GD_RUNS], rows[GD_RUNS], count[GD_RUNS], first[GD_RUNS], alpha[GD_RUNS];
};
constexpr RunTable kRuns = {{GD_RUN_KINDS}, {GD_RUN_ROWS}, {GD_RUN_COUNTS}, {GD_RUN_FIRST}, {GD_RUN_ALPHAS}};
__constant__ constexpr double kAlphas[] = {GD_ALPHAS};

// The rows of one cone in the caller's arrays.
struct RowsIn {
  const Data* data;
  long long step;

  GD_DEVICE double operator[](index_t i) const { return double(data[i * step]); }
};
struct RowsOut {
  Data* data;
  long long step;

  GD_DEVICE void set(index_t i, double value) const { data[i * step] = Data(value); }
};

GD_HD constexpr int triangle_order(int rows) {
  int order = 0;
  while (order * (order + 1) / 2 < rows) order++;
  return order;
}

// Cone `item` of run R: cone item % count of point item / count.
template <int R, class G>
GD_DEVICE void project_item(const G& g, const gd_gpu_project& call, long long item, double* work) {
  constexpr int kind = kRuns.kind[R], rows = kRuns.rows[R], count = kRuns.count[R];
  const long long point = item / count;
  const int cone = int(item - point * count);
  const auto at = [&](const gd_tensor& t) GD_LAMBDA {
    return static_cast<Data*>(t.data) + point * t.batch + (kRuns.first[R] + cone * rows) * t.row;
  };
  const RowsIn v{at(call.v), call.v.row}, h{at(call.direction), call.direction.row};
  const RowsOut p{at(call.primal), call.primal.row}, change{at(call.derivative), call.derivative.row};
  const RowsIn* direction = call.direction.data ? &h : nullptr;
  const RowsOut* primal = call.primal.data ? &p : nullptr;
  if constexpr (kind <= GD_NONNEGATIVE) {
    const bool zero = kind == GD_ZERO && !call.dual, nonnegative = kind == GD_NONNEGATIVE;
    if (primal) p.set(0, project_row(zero, nonnegative, v[0]));
    if (direction) change.set(0, differentiate_row(zero, nonnegative, v[0], h[0]));
  } else if constexpr (kind == GD_SECOND_ORDER) {
    project_second_order<double>(rows, v, primal, direction, &change);
  } else if constexpr (kind == GD_PSD) {
    static_assert(semidefinite_work(triangle_order(rows)) <= GD_WORK_WORDS, "gpudiff/jit/projection.py knows better");
    project_semidefinite(g, index_t(triangle_order(rows)), v, primal, direction, &change, work);
  } else {
    constexpr bool exponential = kind == GD_EXPONENTIAL || kind == GD_DUAL_EXPONENTIAL;
    const double a = exponential ? 0.5 : kAlphas[kRuns.alpha[R] + cone];
    project_triple<double>(exponential, by_polar_part(kind, call.dual != 0), a, 1 - a, v, primal, direction, &change);
  }
}

template <int R>
GD_DEVICE void project_runs(const gd_gpu_project& call, double* work) {
  if constexpr (R < GD_RUNS) {
    const long long items = call.batch * kRuns.count[R];
    if constexpr (kRuns.kind[R] == GD_PSD) {
      constexpr int groups = GD_THREADS / GD_GROUP;
      GD_NO_UNROLL for (long long i = (long long)(blockIdx.x) * groups + threadIdx.x / GD_GROUP; i < items;
                        i += (long long)(gridDim.x) * groups) {
        project_item<R>(Tile<GD_GROUP>{}, call, i, work);
      }
    } else {
      GD_NO_UNROLL for (long long i = (long long)(blockIdx.x) * GD_THREADS + threadIdx.x; i < items;
                        i += (long long)(gridDim.x) * GD_THREADS) {
        project_item<R>(Alone{}, call, i, nullptr);
      }
    }
    project_runs<R + 1>(call, work);
  }
}

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_project_kernel(const gd_gpu_project call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  constexpr int groups = GD_THREADS / GD_GROUP;
  double* const near = reinterpret_cast<double*>(shared) + (threadIdx.x / GD_GROUP) * (long long)(GD_WORK_WORDS);
  double* const far = reinterpret_cast<double*>(call.workspace) +
                      ((long long)(blockIdx.x) * groups + threadIdx.x / GD_GROUP) * GD_WORK_WORDS;
  project_runs<0>(call, GD_LEVEL == 0 ? near : far);
}
