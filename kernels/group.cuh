// Who works together on one problem.
//
// A group has a rank, a size, a barrier and reductions whose result every member receives. The kernels are written for
// any group: loops run `for (i = g.rank(); i < n; i += g.size())` and a barrier stands wherever one member reads what
// another wrote. On the CPU a group is a single thread whose scalars are packs; the tests run groups of real threads.
#pragma once
#include "scalar.cuh"

namespace GD_NAMESPACE {

struct Alone {
  GD_HD int rank() const { return 0; }
  GD_HD constexpr int size() const { return 1; }
  GD_HD void sync() const {}
  template <class T>
  GD_HD T sum(T a) const {
    return a;
  }
  template <class T>
  GD_HD T max(T a) const {
    return a;
  }
  template <class T>
  GD_HD T min(T a) const {
    return a;
  }
};

#if defined(__CUDACC__)
// SIZE neighbouring lanes of one warp; SIZE a power of two up to 32.
template <int SIZE>
struct Tile {
  __device__ unsigned members() const {
    return SIZE == 32 ? ~0u : ((1u << SIZE) - 1u) << (threadIdx.x & 31u & ~(SIZE - 1u));
  }
  __device__ int rank() const { return threadIdx.x & (SIZE - 1); }
  __device__ constexpr int size() const { return SIZE; }
  __device__ void sync() const { __syncwarp(members()); }
  template <class T>
  __device__ T sum(T a) const {
    for (int o = SIZE / 2; o; o >>= 1) a += __shfl_xor_sync(members(), a, o);
    return a;
  }
  template <class T>
  __device__ T max(T a) const {
    for (int o = SIZE / 2; o; o >>= 1) a = maximum(a, __shfl_xor_sync(members(), a, o));
    return a;
  }
  template <class T>
  __device__ T min(T a) const {
    for (int o = SIZE / 2; o; o >>= 1) a = minimum(a, __shfl_xor_sync(members(), a, o));
    return a;
  }
};
#endif

}  // namespace GD_NAMESPACE
