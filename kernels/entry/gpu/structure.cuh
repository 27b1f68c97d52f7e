// What is compiled into a GPU kernel: the structure of the problems it solves, and who works on one. The macros come
// from gpudiff/jit/specification.py.
//
//     GD_N                          variables
//     GD_ZERO_ROWS                  rows in the kernel's order: of the zero cone,
//     GD_NONNEGATIVE_ROWS           of the nonnegative cone,
//     GD_SECOND_ORDER_COUNT         and second-order cones
//     GD_SECOND_ORDER_DIMENSIONS    of those
//     GD_PSD_COUNT, GD_PSD_ORDERS   PSD cones; absent: none
//     GD_EXPONENTIAL_COUNT, GD_DUAL_EXPONENTIAL_COUNT, GD_POWER_COUNT, GD_DUAL_POWER_COUNT   cones of three rows;
//     absent: none GD_POWER_ALPHA                exponents of the last two GD_ROW_OF                     kernel row →
//     caller's row; absent: the same GD_HAS_P                      1: quadratic objective GD_DATA element type GD_QUICK
//     scalar of the fast interior point GD_GROUP                      threads per problem GD_THREADS threads per block
//     GD_LEVEL                      memory layout (layout.cuh)
//     GD_MIN_BLOCKS                 blocks per multiprocessor
//     GD_SMOOTHED                   jvp and vjp of a central point; absent: of the solution
#pragma once
#include "../stages.cuh"
#include "arguments.h"
#include "layout.cuh"

namespace GD_NAMESPACE {

using Data = GD_DATA;
using Quick = GD_QUICK;

constexpr index_t kPitch = GD_N > 0 ? GD_N : 1;  // entries of a row, where one is divided by that

#if !defined(GD_PSD_COUNT)
#define GD_PSD_COUNT 0
#endif
#if !defined(GD_EXPONENTIAL_COUNT)
#define GD_EXPONENTIAL_COUNT 0
#endif
#if !defined(GD_DUAL_EXPONENTIAL_COUNT)
#define GD_DUAL_EXPONENTIAL_COUNT 0
#endif
#if !defined(GD_POWER_COUNT)
#define GD_POWER_COUNT 0
#endif
#if !defined(GD_DUAL_POWER_COUNT)
#define GD_DUAL_POWER_COUNT 0
#endif

// First rows of several cones behind each other.
template <int COUNT>
struct ConeTable {
  index_t size[COUNT], first[COUNT], end;

  GD_HD constexpr ConeTable place(index_t begin, bool matrices) const {
    ConeTable t = *this;
    t.end = begin;
    for (int c = 0; c < COUNT; c++) {
      t.first[c] = t.end;
      t.end += matrices ? t.size[c] * (t.size[c] + 1) / 2 : t.size[c];
    }
    return t;
  }
};

constexpr index_t kLinearRows = GD_ZERO_ROWS + GD_NONNEGATIVE_ROWS;
#if GD_SECOND_ORDER_COUNT > 0
__constant__ constexpr auto kSecondOrderCones =
    ConeTable<GD_SECOND_ORDER_COUNT>{{GD_SECOND_ORDER_DIMENSIONS}, {}, 0}.place(kLinearRows, false);
constexpr index_t kSecondOrderEnd =
    ConeTable<GD_SECOND_ORDER_COUNT>{{GD_SECOND_ORDER_DIMENSIONS}, {}, 0}.place(kLinearRows, false).end;
GD_DEVICE const index_t* cone_starts() { return kSecondOrderCones.first; }
GD_DEVICE const index_t* cone_dimensions() { return kSecondOrderCones.size; }
#else
constexpr index_t kSecondOrderEnd = kLinearRows;
GD_DEVICE const index_t* cone_starts() { return nullptr; }
GD_DEVICE const index_t* cone_dimensions() { return nullptr; }
#endif
#if GD_PSD_COUNT > 0
__constant__ constexpr auto kMatrixCones = ConeTable<GD_PSD_COUNT>{{GD_PSD_ORDERS}, {}, 0}.place(kSecondOrderEnd, true);
constexpr index_t kMatrixEnd = ConeTable<GD_PSD_COUNT>{{GD_PSD_ORDERS}, {}, 0}.place(kSecondOrderEnd, true).end;
GD_DEVICE const index_t* matrix_starts() { return kMatrixCones.first; }
GD_DEVICE const index_t* matrix_orders() { return kMatrixCones.size; }
#else
constexpr index_t kMatrixEnd = kSecondOrderEnd;
GD_DEVICE const index_t* matrix_starts() { return nullptr; }
GD_DEVICE const index_t* matrix_orders() { return nullptr; }
#endif
#if GD_POWER_COUNT + GD_DUAL_POWER_COUNT > 0
__constant__ constexpr double kPowerAlpha[] = {GD_POWER_ALPHA};
GD_DEVICE const double* power_alpha() { return kPowerAlpha; }
#else
GD_DEVICE const double* power_alpha() { return nullptr; }
#endif
constexpr index_t kTotalRows =
    kMatrixEnd + 3 * (GD_EXPONENTIAL_COUNT + GD_DUAL_EXPONENTIAL_COUNT + GD_POWER_COUNT + GD_DUAL_POWER_COUNT);

GD_DEVICE Shape structure() {
  return {GD_N,
          {GD_ZERO_ROWS, GD_NONNEGATIVE_ROWS, GD_ZERO_ROWS, GD_SECOND_ORDER_COUNT, cone_starts(), cone_dimensions(),
           GD_PSD_COUNT, matrix_starts(), matrix_orders(), kMatrixEnd, GD_EXPONENTIAL_COUNT, GD_DUAL_EXPONENTIAL_COUNT,
           GD_POWER_COUNT, GD_DUAL_POWER_COUNT, power_alpha(), kTotalRows}};
}

#if defined(GD_ROW_OF)
__constant__ constexpr index_t kRowOf[] = {GD_ROW_OF};
GD_HD index_t caller_row(index_t k) { return kRowOf[k]; }
#else
GD_HD index_t caller_row(index_t k) { return k; }
#endif

template <int SIZE, bool IN_A_WARP = (SIZE <= 32)>
struct GroupOf {
  using type = Tile<SIZE>;
};
template <int SIZE>
struct GroupOf<SIZE, false> {
  using type = Block<SIZE>;
};
using Group = GroupOf<GD_GROUP>::type;

constexpr int kGroupsPerBlock = GD_THREADS / GD_GROUP;
static_assert(GD_THREADS % 32 == 0 && GD_THREADS % GD_GROUP == 0, "whole warps of whole groups");
static_assert(GD_GROUP <= 32 || GD_GROUP == GD_THREADS, "one group of several warps is a block");

// This group's number in the grid, and how many there are.
GD_DEVICE unsigned long long group_number() {
  return (unsigned long long)(blockIdx.x) * kGroupsPerBlock + threadIdx.x / GD_GROUP;
}
GD_DEVICE unsigned long long group_count() { return (unsigned long long)(gridDim.x) * kGroupsPerBlock; }

// Calls work(g, item) for every item below `count`: each group begins with its own number, and takes the next one from
// a counter as it finishes, so that slow problems leave no tail. The tiles of a warp take their next items together, so
// that they run side by side rather than one after another.
template <class Work>
GD_DEVICE void for_each_item(const Group& g, unsigned long long count, uint64_t* next, Work work) {
  unsigned long long item = group_number();
  GD_NO_UNROLL for (;;) {
    const bool some = item < count;
    if (GD_GROUP < 32 ? !__any_sync(~0u, some) : !some) break;
    if (some) work(g, (long long)(item));
    unsigned long long taken = 0;
    if (g.rank() == 0) taken = atomicAdd(reinterpret_cast<unsigned long long*>(next), 1ull);
    item = group_count() + g.from_first(taken);
  }
}

// A group's memory.
struct Workspace {
  char *near, *far;

  template <class L>
  GD_DEVICE Workspace(const L& layout, char* shared, char* workspace) {
    near = shared + (threadIdx.x / GD_GROUP) * layout.near;
    far = workspace + group_number() * layout.far;
  }
};

}  // namespace GD_NAMESPACE
