// Where a group's data lie while it works on a problem by the active-set method: what in shared memory, what in global
// memory. The state is that of active_set/state.cuh; `far` is what each step reads least:
//
//     level    factor of P, equality rows    inequality rows    bases, vectors
//     0        near                          near               near
//     1        far                           near               near
//     2        far                           far                near
//     3        far                           far                far
//
// As with the other kernels (layout.cuh) the CPU library answers from here how large a layout is, and the kernel carves
// by it.
#pragma once
#include "../../active_set/state.cuh"
#include "layout.cuh"

namespace GD_NAMESPACE {

// Whether rows are chosen by slacks in single precision: half the memory to read in each step, and a second pass.
constexpr bool kActiveSetSinglePricing = false;

struct ActiveSetMemory {
  ActiveSet<double, double> state;
  unsigned char* absent;  // [m] rows with b = +inf
  int* guess;             // [n + 1] rows to begin with
  char* cleared;          // what must be zero when a problem begins: the state's vectors,
  index_t cleared_bytes;  // so many bytes
};

struct ActiveSetLayout {
  int level;
  index_t near, far;  // bytes of a group's pieces

  GD_HD ActiveSetLayout(const Shape& shape, int level_, int group) : level(level_), near(0), far(0) {
    ByteCarver near_memory{nullptr, 0}, far_memory{nullptr, 0};
    ActiveSetMemory memory;
    carve(shape, near_memory, far_memory, memory);
    near = near_bytes(near_memory.used, group);
    far = far_bytes(far_memory.used);
  }

  GD_HD void carve(const Shape& shape, char* near_base, char* far_base, ActiveSetMemory& memory) const {
    ByteCarver near_memory{near_base, 0}, far_memory{far_base, 0};
    carve(shape, near_memory, far_memory, memory);
  }

 private:
  GD_HD void carve(const Shape& shape, ByteCarver& near_memory, ByteCarver& far_memory, ActiveSetMemory& m) const {
    ByteCarver& core = level < 3 ? near_memory : far_memory;
    ByteCarver& rows = level < 2 ? near_memory : far_memory;
    ByteCarver& factor = level < 1 ? near_memory : far_memory;
    const auto& r = shape.rows;
    carve_matrices(m.state, core, rows, factor, shape.n, r.zero, r.nonnegative, kActiveSetSinglePricing);
    m.absent = core.take<unsigned char>(r.zero + r.nonnegative);
    m.guess = core.take<int>(shape.n + 1);
    m.cleared = core.base ? core.base + core.used : nullptr;
    const index_t before = core.used;
    carve_vectors(m.state, core);
    m.cleared_bytes = core.used - before;
  }
};

}  // namespace GD_NAMESPACE
