// Where a group's data lie while it works on a problem: what in shared memory, what in global memory.
//
// A group owns one piece of each. What its stages need never at the same time lies in the same place: the fast interior
// point's state, and that of the stages in double precision. Of each stage the problem's own matrices (`bulk`: A, P and
// the scaled rows) can lie apart from the vectors and the factor (`core`), which are read far more often:
//
//     level    fast stage: core  bulk      double precision: core  bulk
//     0                    near  near                        near  near
//     1                    near  near                        near  far
//     2                    near  far                         near  far
//     3                    far   far                         far   far
//
// The CPU library answers from here how large a layout is (gd_gpu_layout); the kernels carve by it.
#pragma once
#include "../../derivative/residual_map.cuh"
#include "../../ipm/state.cuh"
#include "../gpudiff.h"

namespace GD_NAMESPACE {

constexpr int kLevels = 4;

// What is kept of a problem from stage to stage. Powers of two below 2¹⁷: exact in single precision.
template <class Quick>
struct Kept {
  float *D, *E;           // [n], [m] the equilibration
  Quick *x, *v;           // [n], [m] the point on its way from the fast interior point to the polish
  unsigned char* absent;  // [m] rows with b = +inf

  // Returns the bytes.
  GD_HD index_t carve(const Shape& shape, bool point, char* base) {
    Carver<float> floats{reinterpret_cast<float*>(base), 0};
    D = floats.take(shape.n);
    E = floats.take(shape.m());
    const index_t scaling = floats.used * index_t(sizeof(float));
    Carver<Quick> quick{base ? reinterpret_cast<Quick*>(base + scaling) : nullptr, 0};
    x = quick.take(point ? shape.n : 0);
    v = quick.take(point ? shape.m() : 0);
    const index_t so_far = scaling + quick.used * index_t(sizeof(Quick));
    absent = base ? reinterpret_cast<unsigned char*>(base + so_far) : nullptr;
    return so_far + (shape.m() + 15) / 16 * 16;
  }
};

struct StageBytes {
  index_t core, bulk;
};

template <class T>
GD_HD StageBytes stage_bytes(const Carver<T>& core, const Carver<T>& bulk) {
  return {core.used * index_t(sizeof(T)), bulk.used * index_t(sizeof(T))};
}

// The fast interior point.
template <class T>
GD_HD StageBytes carve_fast(const Shape& shape, InteriorState<T>& state, char* core_base, char* bulk_base) {
  Carver<T> core{reinterpret_cast<T*>(core_base), 0}, bulk{reinterpret_cast<T*>(bulk_base), 0};
  state.carve(shape, core, bulk, false, true);
  return stage_bytes(core, bulk);
}
// Polish, jvp and vjp; the latter two with refinement.
GD_HD StageBytes carve_map(const Shape& shape, bool refined, MapState<double>& map, char* core_base, char* bulk_base) {
  Carver<double> core{reinterpret_cast<double*>(core_base), 0}, bulk{reinterpret_cast<double*>(bulk_base), 0};
  map.w.carve(shape, core, bulk, true);
  map.carve(shape, core, refined);
  return stage_bytes(core, bulk);
}
// The careful interior point and its polish, which share the system.
GD_HD StageBytes carve_careful(const Shape& shape, InteriorState<double>& state, MapState<double>& map, char* core_base,
                               char* bulk_base) {
  Carver<double> core{reinterpret_cast<double*>(core_base), 0}, bulk{reinterpret_cast<double*>(bulk_base), 0};
  state.carve(shape, core, bulk, true, true);
  map.w = state.w;
  map.carve(shape, core, false);
  return stage_bytes(core, bulk);
}
// The equilibration's scratch space: at the start of the double-precision core.
struct EquilibrationScratch {
  double *D, *E, *column, *row;

  GD_HD index_t carve(const Shape& shape, char* base) {
    Carver<double> memory{reinterpret_cast<double*>(base), 0};
    D = memory.take(shape.n);
    E = memory.take(shape.m());
    column = memory.take(2 * shape.n);
    row = memory.take(shape.m());
    return memory.used * index_t(sizeof(double));
  }
};

// The bytes that a group has of each, so that its own and its neighbours' begin where they should.
GD_HD index_t far_bytes(index_t used) { return (used + 255) / 256 * 256; }
GD_HD index_t near_bytes(index_t used, int group) {
  // The tiles of a warp read the same place of their problems at once: let those be in different banks.
  const index_t apart = group < 32 && used > 0 ? 4 * (group < 4 ? 4 : group) : 0;
  // Room for a block's reductions (group.cuh), which the compiler lays out by itself.
  const index_t reductions = group > 32 ? group / 32 * 128 : 0;
  return (used + 127) / 128 * 128 + apart + reductions;
}

template <class Quick>
struct Layout {
  int level;
  index_t kept;            // bytes
  StageBytes fast, exact;  // bytes; no fast stage: 0
  index_t near, far;       // bytes of a group's pieces

  GD_HD Layout(gd_gpu_kernel kernel, const Shape& shape, int level_, int group) : level(level_) {
    Kept<Quick> k;
    kept = k.carve(shape, kernel == GD_GPU_SOLVE, nullptr);
    fast = exact = {0, 0};
    InteriorState<Quick> quick;
    InteriorState<double> careful;
    MapState<double> map;
    if (kernel == GD_GPU_SOLVE) fast = carve_fast(shape, quick, nullptr, nullptr);
    if (kernel == GD_GPU_CAREFUL)
      exact = carve_careful(shape, careful, map, nullptr, nullptr);
    else
      exact = carve_map(shape, kernel != GD_GPU_SOLVE, map, nullptr, nullptr);
    EquilibrationScratch scratch;
    const index_t least = scratch.carve(shape, nullptr);
    exact.core = exact.core > least ? exact.core : least;
    const bool core_near = level < 3;
    const index_t near_fast = fast.core + (level <= 1 ? fast.bulk : 0), far_fast = level <= 1 ? 0 : fast.bulk;
    const index_t near_exact = exact.core + (level == 0 ? exact.bulk : 0), far_exact = level == 0 ? 0 : exact.bulk;
    const index_t most_near = near_fast > near_exact ? near_fast : near_exact;
    const index_t most_far = far_fast > far_exact ? far_fast : far_exact;
    const index_t whole =
        fast.core + fast.bulk > exact.core + exact.bulk ? fast.core + fast.bulk : exact.core + exact.bulk;
    near = core_near ? kept + most_near : 0;
    far = core_near ? most_far : kept + whole;
    far = far_bytes(far);
    near = near_bytes(near, group);
  }

  GD_HD char* kept_at(char* near_base, char* far_base) const { return level < 3 ? near_base : far_base; }
  GD_HD char* core_at(char* near_base, char* far_base) const { return kept_at(near_base, far_base) + kept; }
  // `near_level`: the highest level at which the stage's bulk is near.
  GD_HD char* bulk_at(char* near_base, char* far_base, const StageBytes& stage, int near_level) const {
    if (level == 3 || level <= near_level) return core_at(near_base, far_base) + stage.core;
    return far_base;
  }
};

}  // namespace GD_NAMESPACE
