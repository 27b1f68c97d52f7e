// Projections of many points: cones of one kind and size, from any points of a batch, side by side in the lanes of
// packs.
#pragma once
#include "../twin.hpp"
#include "instance.hpp"
#include "projection_cone.cuh"

namespace GD_NAMESPACE {

using gpudiff_entry::ConeRun;
using gpudiff_entry::Projection;

// Largest order of semidefinite cones for the widest packs: beyond, two thirds of a level-two cache are full.
constexpr index_t kLargestWideOrder = 48;

// Cones of three rows come in twins, all others in packs.
template <class T>
constexpr bool kTwins = false;
template <class V>
constexpr bool kTwins<Twin<V>> = true;

GD_HD index_t order_of_rows(index_t rows) {
  index_t order = 0;
  while (order * (order + 1) / 2 < rows) order++;
  return order;
}

// Cone `item` of a run is cone item % count of point item / count.
template <class T>
struct ChunkProjection {
  static constexpr int W = Scalar<T>::lanes;
  const Projection& job;
  const ConeRun& run;
  index_t rows, order;
  T *v, *h, *primal, *derivative, *work;
  double* plain;  // [W, rows] numbers of arrays that are not contiguous or of single precision

  static index_t bytes(const ConeRun& run) {
    const index_t order = run.kind == GD_PSD ? order_of_rows(run.rows) : 0;
    const index_t packs = 4 * run.rows + (order ? semidefinite_work(order) : 0);
    return packs * index_t(sizeof(T)) + 8 * (W + 1) * run.rows;
  }

  ChunkProjection(const Projection& job_, const ConeRun& run_, char* memory)
      : job(job_), run(run_), rows(run_.rows), order(run_.kind == GD_PSD ? order_of_rows(run_.rows) : 0) {
    T* base = reinterpret_cast<T*>(memory);
    v = base;
    h = v + rows;
    primal = h + rows;
    derivative = primal + rows;
    work = derivative + rows;
    plain = reinterpret_cast<double*>(work + (order ? semidefinite_work(order) : 0));
  }

  index_t offset(const gd_tensor& t, index_t item) const {
    return item / run.count * t.batch + (run.first + item % run.count * rows) * t.row;
  }

  void load(const gd_tensor& t, const index_t (&items)[W], T* out) const {
    const double* from[W];
    const bool in_place = job.dtype == GD_FLOAT64 && t.row == 1;
    for (int l = 0; l < W; l++) {
      const index_t at = offset(t, items[l]);
      from[l] = in_place ? static_cast<const double*>(t.data) + at : plain + l * rows;
      if (!in_place) copy_row(t, job.dtype, at, t.row, rows, plain + l * rows);
    }
    if constexpr (!kTwins<T>)
      if (rows >= W) return interleave(from, rows, out, index_t(1));
    for (index_t i = 0; i < rows; i++) out[i] = Compose<T>::of(from, i);
  }

  void store(const gd_tensor& t, const index_t (&items)[W], int used, const T* from) const {
    double* to[W];
    const bool in_place = job.dtype == GD_FLOAT64 && t.row == 1;
    for (int l = 0; l < W; l++)
      to[l] = in_place ? static_cast<double*>(t.data) + offset(t, items[l]) : plain + l * rows;
    if constexpr (kTwins<T>) {
      for (int l = 0; l < used; l++)
        for (index_t i = 0; i < 3; i++) to[l][i] = get_lane(from[i], l);
    } else {
      deinterleave(from, rows, to, used);
    }
    if (in_place) return;
    for (int l = 0; l < used; l++)
      for (index_t i = 0; i < rows; i++) write(t, job.dtype, offset(t, items[l]) + i * t.row, to[l][i]);
  }

  T exponent(const index_t (&items)[W], bool rest) const {
    T out{};
    for (int l = 0; l < W; l++) {
      const double a = run.alpha[items[l] % run.count];
      set_lane(out, l, rest ? 1 - a : a);
    }
    return out;
  }

  void project(index_t begin, index_t end) const {
    for (index_t next = begin; next < end; next += W) {
      const int used = end - next < W ? int(end - next) : W;
      index_t items[W];
      for (int l = 0; l < W; l++) items[l] = next + (l < used ? l : 0);
      load(*job.v, items, v);
      if (job.direction) load(*job.direction, items, h);
      const RowsOf<T> in{v}, along{h}, out{primal}, change{derivative};
      const RowsOf<T>*to = job.primal ? &out : nullptr, *direction = job.direction ? &along : nullptr;
      if constexpr (kTwins<T>) {
        const bool exponential = run.kind == GD_EXPONENTIAL || run.kind == GD_DUAL_EXPONENTIAL;
        project_triple<T>(exponential, by_polar_part(run.kind, job.dual), exponent(items, false), exponent(items, true),
                          in, to, direction, &change);
      } else if (run.kind == GD_PSD) {
        project_semidefinite(Alone{}, order, in, to, direction, &change, work);
      } else {
        project_second_order<T>(rows, in, to, direction, &change);
      }
      if (job.primal) store(*job.primal, items, used, primal);
      if (job.direction) store(*job.derivative, items, used, derivative);
    }
  }
};

// Rows that are cones of their own: of a point one after another.
template <class Data>
void project_rows(const Projection& job, const ConeRun& run, index_t begin, index_t end) {
  const bool nonnegative = run.kind == GD_NONNEGATIVE, zero = run.kind == GD_ZERO && !job.dual;
  const auto at = [&](const gd_tensor* t, index_t item) {
    return t ? static_cast<Data*>(t->data) + item * t->batch + run.first * t->row : nullptr;
  };
  for (index_t item = begin; item < end; item++) {
    const Data *v = at(job.v, item), *h = at(job.direction, item);
    Data *primal = at(job.primal, item), *derivative = at(job.derivative, item);
    const index_t step = job.v->row;
    if (primal && step == 1 && job.primal->row == 1)
      for (index_t i = 0; i < run.rows; i++) primal[i] = project_row(zero, nonnegative, v[i]);
    else if (primal)
      for (index_t i = 0; i < run.rows; i++) primal[i * job.primal->row] = project_row(zero, nonnegative, v[i * step]);
    for (index_t i = 0; h && i < run.rows; i++)
      derivative[i * job.derivative->row] =
          differentiate_row(zero, nonnegative, v[i * step], h[i * job.direction->row]);
  }
}

template <class Work>
inline auto with_projection_width(const ConeRun& run, Work work) {
#if defined(__AVX512F__)
  if (run.kind >= GD_EXPONENTIAL) return work(Twin<double8>{});
  if (run.kind != GD_PSD || order_of_rows(run.rows) <= kLargestWideOrder) return work(double8{});
#endif
  if (run.kind >= GD_EXPONENTIAL) return work(Twin<double4>{});
  return work(double4{});
}

static long projection_bytes(const ConeRun& run) {
  return with_projection_width(run, [&](auto t) { return long(ChunkProjection<decltype(t)>::bytes(run)); });
}

static void project(const Projection& job, const ConeRun& run, char* memory, long begin, long end) {
  if (run.kind <= GD_NONNEGATIVE)
    return job.dtype == GD_FLOAT64 ? project_rows<double>(job, run, begin, end)
                                   : project_rows<float>(job, run, begin, end);
  with_projection_width(run, [&](auto t) { ChunkProjection<decltype(t)>(job, run, memory).project(begin, end); });
}

}  // namespace GD_NAMESPACE
