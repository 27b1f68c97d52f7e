// Part of cuda_host.hpp: CUDA's functions, by their own names. What stands for a meeting of threads is told where it is
// called from by its default arguments.
#pragma once
#include <math.h>

#include <chrono>
#include <cstring>
#include <type_traits>

#include "cuda_host_block.hpp"

#define CUDA_HOST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace cuda_host {

CUDA_HOST_UNSEEN inline void syncwarp(unsigned mask, const char* file, int line) {
  if (!running->lacks(file, line)) running->meet_warp(Wait::kWarp, mask, 0, 0, file, line);
}
CUDA_HOST_UNSEEN inline void syncthreads(const char* file, int line) {
  if (!running->lacks(file, line)) running->meet_block(0, file, line);
}
CUDA_HOST_UNSEEN inline unsigned lane() { return running->lane(); }
inline char* dynamic_shared() { return running->dynamic_shared(); }

template <class To, class From>
inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T>
inline T shuffle(unsigned mask, T value, unsigned source, const char* file, int line) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "a type that CUDA shuffles");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = running->meet_warp(Wait::kShuffle, mask, bits, source, file, line);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
inline unsigned segment(int width, const char* file, int line) {  // the bits of a lane's number that name its segment
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0)
    running->fail("a shuffle in " + Site{file, line}.text() + " of width " + std::to_string(width));
  return unsigned(kWarp - 1) & ~unsigned(width - 1);
}

// One step of an atomic read-modify-write for what the processor has no instruction for.
template <class T, class Change>
inline T atomic_change(T* address, Change change) {
  using Bits = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;
  Bits* place = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(place, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(place, &before, same_bits<Bits>(T(change(same_bits<T>(before)))), false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return same_bits<T>(before);
}

}  // namespace cuda_host

// Barriers, votes, shuffles.
inline void __syncthreads(CUDA_HOST_SITE) { cuda_host::syncthreads(file, line); }
inline int __syncthreads_count(int predicate, CUDA_HOST_SITE) {
  return cuda_host::running->meet_block(predicate != 0, file, line);
}
inline int __syncthreads_or(int predicate, CUDA_HOST_SITE) {
  return cuda_host::running->meet_block(predicate != 0, file, line) > 0;
}
inline int __syncthreads_and(int predicate, CUDA_HOST_SITE) {
  return cuda_host::running->meet_block(predicate == 0, file, line) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_SITE) { cuda_host::syncwarp(mask, file, line); }
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_HOST_SITE) {
  return unsigned(cuda_host::running->meet_warp(cuda_host::Wait::kVote, mask, predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_HOST_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_HOST_SITE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_HOST_SITE) {
  const unsigned own = cuda_host::lane() & cuda_host::segment(width, file, line);
  return cuda_host::shuffle(mask, value, own | (unsigned(source) & unsigned(width - 1)), file, line);
}
// Where the other lane is outside of the segment, the lane's own value.
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_HOST_SITE) {
  const unsigned lane = cuda_host::lane(), place = lane & ~cuda_host::segment(width, file, line) & 31u;
  return cuda_host::shuffle(mask, value, delta <= place ? lane - delta : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_HOST_SITE) {
  const unsigned lane = cuda_host::lane(), place = lane & ~cuda_host::segment(width, file, line) & 31u;
  return cuda_host::shuffle(mask, value, delta < unsigned(width) - place ? lane + delta : lane, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CUDA_HOST_SITE) {
  const unsigned lane = cuda_host::lane(), segment = cuda_host::segment(width, file, line);
  const unsigned other = lane ^ unsigned(lanes), last = (lane & segment) | (unsigned(width) - 1u);
  return cuda_host::shuffle(mask, value, other <= last ? other : lane, file, line);
}

// Memory. Atomics are relaxed; a fence orders, and ThreadSanitizer, which does not know fences, sees no order.
template <class T>
std::enable_if_t<std::is_integral<T>::value, T> atomicAdd(T* address, T value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
inline float atomicAdd(float* address, float value) {
  return cuda_host::atomic_change(address, [value](float old) { return old + value; });
}
inline double atomicAdd(double* address, double value) {
  return cuda_host::atomic_change(address, [value](double old) { return old + value; });
}
template <class T>
T atomicMax(T* address, T value) {
  return cuda_host::atomic_change(address, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, T value) {
  return cuda_host::atomic_change(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicExch(T* address, T value) {
  return cuda_host::atomic_change(address, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  return cuda_host::atomic_change(address, [=](T old) { return old == expected ? value : old; });
}
template <class T>
std::enable_if_t<std::is_integral<T>::value, T> atomicOr(T* address, T value) {
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
#if defined(__SANITIZE_THREAD__)
inline void __threadfence() {}
inline void __threadfence_block() {}
#else
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif
inline long long clock64() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { cuda_host::running->fail("__trap()"); }

// Numbers. Square roots, exponentials and their like come from <math.h>.
inline double rsqrt(double a) { return 1 / sqrt(a); }
inline float rsqrtf(float a) { return float(1 / sqrt(double(a))); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline double __drcp_rn(double a) { return 1 / a; }
inline float __frcp_rn(float a) { return 1 / a; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __double2float_rn(double a) { return float(a); }
inline double __int2double_rn(int a) { return a; }
inline int __double2int_rn(double a) { return int(nearbyint(a)); }
inline int __double2int_rz(double a) { return int(a); }
inline float __int_as_float(int a) { return cuda_host::same_bits<float>(a); }
inline int __float_as_int(float a) { return cuda_host::same_bits<int>(a); }
inline float __uint_as_float(unsigned a) { return cuda_host::same_bits<float>(a); }
inline unsigned __float_as_uint(float a) { return cuda_host::same_bits<unsigned>(a); }
inline double __longlong_as_double(long long a) { return cuda_host::same_bits<double>(a); }
inline long long __double_as_longlong(double a) { return cuda_host::same_bits<long long>(a); }
inline int __double2hiint(double a) { return int(__double_as_longlong(a) >> 32); }
inline int __double2loint(double a) { return int(__double_as_longlong(a)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double((long long)((unsigned long long)(unsigned)high << 32 | (unsigned)low));
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a ? __builtin_clz(unsigned(a)) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll((unsigned long long)a) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
#define CUDA_HOST_EXTREMES(T)                      \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
CUDA_HOST_EXTREMES(int)
CUDA_HOST_EXTREMES(unsigned)
CUDA_HOST_EXTREMES(long)
CUDA_HOST_EXTREMES(unsigned long)
CUDA_HOST_EXTREMES(long long)
CUDA_HOST_EXTREMES(unsigned long long)
#undef CUDA_HOST_EXTREMES
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
