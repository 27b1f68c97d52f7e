// Who works together on one problem.
//
// A group has a rank, a size, a barrier and reductions whose result every member receives, all with the same bits. The
// kernels are written for any group: loops run `for (i = g.rank(); i < n; i += g.size())` and a barrier stands wherever
// one member reads what another wrote. On the CPU a group is a single thread whose scalars are packs; on a GPU it is a
// tile of a warp, a warp or a block; the tests run groups of real threads.
//
// A reduction orders nothing but its own values. `sums` and `maxima` take several values at once: on a GPU their steps
// overlap, and a reduction is nearly all waiting. Those loops are not unrolled: there are many of them, and a kernel
// should fit into an instruction cache.
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
  template <class T, int N>
  GD_HD void sums(T (&)[N]) const {}
  template <class T, int N>
  GD_HD void maxima(T (&)[N]) const {}
};

// Groups of several members share the work inside one problem, and keep less in memory: see linalg/cooperative.cuh.
template <class G>
struct GroupTraits {
  static constexpr bool cooperative = true;
};
template <>
struct GroupTraits<Alone> {
  static constexpr bool cooperative = false;
};
template <class G>
constexpr bool kCooperative = GroupTraits<G>::cooperative;

#if defined(__CUDACC__)

// Where a barrier is called from: the tests' emulation takes them out one by one.
#if defined(GD_EMULATED)
#define GD_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define GD_SYNC_WARP(MASK) cuda_host::syncwarp(MASK, file, line)
#define GD_SYNC_BLOCK() cuda_host::syncthreads(file, line)
#else
#define GD_SITE
#define GD_SYNC_WARP(MASK) __syncwarp(MASK)
#define GD_SYNC_BLOCK() __syncthreads()
#endif

// Drops a NaN, whichever side it is on: members see the two values in different order and must agree on the result.
GD_HD double larger(double a, double b) { return fmax(a, b); }
GD_HD float larger(float a, float b) { return fmaxf(a, b); }

// The reductions of one value, from those of several.
template <class Self>
struct SingleReductions {
  template <class T>
  GD_DEVICE T sum(T a) const {
    T all[1] = {a};
    self().sums(all);
    return all[0];
  }
  template <class T>
  GD_DEVICE T max(T a) const {
    T all[1] = {a};
    self().maxima(all);
    return all[0];
  }
  template <class T>
  GD_DEVICE T min(T a) const {
    return -max(-a);
  }

 private:
  GD_DEVICE const Self& self() const { return static_cast<const Self&>(*this); }
};

// SIZE neighbouring lanes of one warp; SIZE a power of two up to 32.
template <int SIZE>
struct Tile : SingleReductions<Tile<SIZE>> {
  GD_DEVICE unsigned members() const {
    return SIZE == 32 ? ~0u : ((1u << (SIZE & 31)) - 1u) << (threadIdx.x & 31u & ~(SIZE - 1u));
  }
  GD_DEVICE int rank() const { return int(threadIdx.x & (SIZE - 1u)); }
  GD_DEVICE constexpr int size() const { return SIZE; }
  GD_DEVICE void sync(GD_SITE) const { GD_SYNC_WARP(members()); }
  template <class T, int N>
  GD_DEVICE void sums(T (&a)[N]) const {
    GD_NO_UNROLL for (int o = SIZE / 2; o > 0; o >>= 1) {
      T other[N];
      GD_UNROLL for (int i = 0; i < N; i++) { other[i] = __shfl_xor_sync(members(), a[i], o); }
      GD_UNROLL for (int i = 0; i < N; i++) { a[i] += other[i]; }
    }
  }
  template <class T, int N>
  GD_DEVICE void maxima(T (&a)[N]) const {
    GD_NO_UNROLL for (int o = SIZE / 2; o > 0; o >>= 1) {
      T other[N];
      GD_UNROLL for (int i = 0; i < N; i++) { other[i] = __shfl_xor_sync(members(), a[i], o); }
      GD_UNROLL for (int i = 0; i < N; i++) { a[i] = larger(a[i], other[i]); }
    }
  }
  // The first member's value.
  GD_DEVICE unsigned long long from_first(unsigned long long a) const { return __shfl_sync(members(), a, 0, SIZE); }
  // That of the first member of which `holds` is true; there must be one.
  template <class T>
  GD_DEVICE T from_first_that(bool holds, T a) const {
    return __shfl_sync(members(), a, __ffs(int(__ballot_sync(members(), holds))) - 1);
  }
};

// All THREADS of a block, a multiple of 32.
template <int THREADS>
struct Block : SingleReductions<Block<THREADS>> {
  static constexpr int kWarps = THREADS / 32, kValues = 16;

  GD_DEVICE int rank() const { return int(threadIdx.x); }
  GD_DEVICE constexpr int size() const { return THREADS; }
  GD_DEVICE void sync(GD_SITE) const { GD_SYNC_BLOCK(); }
  template <class T, int N>
  GD_DEVICE void sums(T (&a)[N]) const {
    Tile<32>{}.sums(a);
    across_warps(a, [](T x, T y) GD_LAMBDA { return x + y; });
  }
  template <class T, int N>
  GD_DEVICE void maxima(T (&a)[N]) const {
    Tile<32>{}.maxima(a);
    across_warps(a, [](T x, T y) GD_LAMBDA { return larger(x, y); });
  }
  GD_DEVICE unsigned long long from_first(unsigned long long a) const {
    unsigned long long* value = reinterpret_cast<unsigned long long*>(scratch());
    sync();
    if (rank() == 0) *value = a;
    sync();
    return *value;
  }
  template <class T>
  GD_DEVICE T from_first_that(bool holds, T a) const {
    const unsigned who = __ballot_sync(~0u, holds);
    int* some = reinterpret_cast<int*>(scratch());  // by warp
    T* value = reinterpret_cast<T*>(scratch() + kWarps);
    sync();
    if (who ? int(threadIdx.x & 31u) == __ffs(int(who)) - 1 : (threadIdx.x & 31u) == 0) {
      some[threadIdx.x / 32u] = who != 0;
      value[threadIdx.x / 32u] = a;
    }
    sync();
    T found = value[0];
    GD_UNROLL for (int w = kWarps - 1; w >= 0; w--) { found = some[w] ? value[w] : found; }
    return found;
  }

 private:
  GD_DEVICE static double* scratch() {
    __shared__ double values[kValues * kWarps];
    return values;
  }
  template <class T, int N, class Operation>
  GD_DEVICE void across_warps(T (&a)[N], Operation operation) const {
    static_assert(N <= kValues, "room for the values of one reduction");
    T* partial = reinterpret_cast<T*>(scratch());
    sync();  // the last reduction's values have been read
    if ((threadIdx.x & 31u) == 0) {
      GD_UNROLL for (int i = 0; i < N; i++) { partial[i * kWarps + threadIdx.x / 32u] = a[i]; }
    }
    sync();
    GD_UNROLL for (int i = 0; i < N; i++) {
      T r = partial[i * kWarps];
      GD_UNROLL for (int w = 1; w < kWarps; w++) { r = operation(r, partial[i * kWarps + w]); }
      a[i] = r;
    }
  }
};
#endif

}  // namespace GD_NAMESPACE
