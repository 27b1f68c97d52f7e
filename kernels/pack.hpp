// Packs: W problems side by side in one SIMD register, so that the kernels run W problems at the price of one.
//
// Built on the vector extensions that GCC and Clang share (x86-64, aarch64 and others alike); only square roots,
// minima, maxima and mask tests, which those extensions lack or compile badly, name x86 instructions, each with a
// portable twin.
#pragma once
#include "base.cuh"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace GD_NAMESPACE {

#define GD_PACK(NAME, REAL, WIDTH)                                                                 \
  typedef REAL NAME __attribute__((vector_size(sizeof(REAL) * WIDTH)));                            \
  typedef decltype(NAME{} < NAME{}) NAME##_mask;                                                   \
  template <>                                                                                      \
  struct Scalar<NAME> {                                                                            \
    using Real = REAL;                                                                             \
    using Mask = NAME##_mask;                                                                      \
    static constexpr int lanes = WIDTH;                                                            \
  };                                                                                               \
  GD_HD NAME select(NAME##_mask m, NAME a, NAME b) { return m ? a : b; }                           \
  GD_HD NAME##_mask negate(NAME##_mask m) { return ~m; }                                           \
  GD_HD REAL get_lane(const NAME& a, int lane) { return reinterpret_cast<const REAL*>(&a)[lane]; } \
  GD_HD void set_lane(NAME& a, int lane, REAL value) { reinterpret_cast<REAL*>(&a)[lane] = value; }

GD_PACK(double4, double, 4)
GD_PACK(double8, double, 8)
GD_PACK(float8, float, 8)
GD_PACK(float16, float, 16)
#undef GD_PACK

template <>
struct Broadcast<double4> {
  static GD_HD double4 of(double a) { return double4{a, a, a, a}; }
};
template <>
struct Broadcast<double8> {
  static GD_HD double8 of(double a) { return double8{a, a, a, a, a, a, a, a}; }
};
template <>
struct Broadcast<float8> {
  static GD_HD float8 of(float a) { return float8{a, a, a, a, a, a, a, a}; }
};
template <>
struct Broadcast<float16> {
  static GD_HD float16 of(float a) { return float16{a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
};

template <class V>
GD_HD V lanewise_square_root(V a) {
  V r;
  for (int l = 0; l < Scalar<V>::lanes; l++) r[l] = square_root(a[l]);
  return r;
}
template <class V, class M>
GD_HD bool lanewise_any(M m) {
  bool r = false;
  for (int l = 0; l < Scalar<V>::lanes; l++) r |= m[l] != 0;
  return r;
}

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
GD_HD double8 square_root(double8 a) { return (double8)_mm512_sqrt_pd((__m512d)a); }
GD_HD float16 square_root(float16 a) { return (float16)_mm512_sqrt_ps((__m512)a); }
GD_HD double8 maximum(double8 a, double8 b) { return (double8)_mm512_max_pd((__m512d)a, (__m512d)b); }
GD_HD float16 maximum(float16 a, float16 b) { return (float16)_mm512_max_ps((__m512)a, (__m512)b); }
GD_HD double8 minimum(double8 a, double8 b) { return (double8)_mm512_min_pd((__m512d)a, (__m512d)b); }
GD_HD float16 minimum(float16 a, float16 b) { return (float16)_mm512_min_ps((__m512)a, (__m512)b); }
GD_HD double8 absolute(double8 a) { return (double8)_mm512_abs_pd((__m512d)a); }
GD_HD float16 absolute(float16 a) { return (float16)_mm512_abs_ps((__m512)a); }
GD_HD bool any(double8_mask m) { return _mm512_movepi64_mask((__m512i)m) != 0; }
GD_HD bool any(float16_mask m) { return _mm512_movepi32_mask((__m512i)m) != 0; }
#else
GD_HD double8 square_root(double8 a) { return lanewise_square_root(a); }
GD_HD float16 square_root(float16 a) { return lanewise_square_root(a); }
GD_HD double8 maximum(double8 a, double8 b) { return a > b ? a : b; }
GD_HD float16 maximum(float16 a, float16 b) { return a > b ? a : b; }
GD_HD double8 minimum(double8 a, double8 b) { return a < b ? a : b; }
GD_HD float16 minimum(float16 a, float16 b) { return a < b ? a : b; }
GD_HD double8 absolute(double8 a) { return a < double8{} ? -a : a; }
GD_HD float16 absolute(float16 a) { return a < float16{} ? -a : a; }
GD_HD bool any(double8_mask m) { return lanewise_any<double8>(m); }
GD_HD bool any(float16_mask m) { return lanewise_any<float16>(m); }
#endif

#if defined(__AVX__)
GD_HD double4 square_root(double4 a) { return (double4)_mm256_sqrt_pd((__m256d)a); }
GD_HD float8 square_root(float8 a) { return (float8)_mm256_sqrt_ps((__m256)a); }
GD_HD double4 maximum(double4 a, double4 b) { return (double4)_mm256_max_pd((__m256d)a, (__m256d)b); }
GD_HD float8 maximum(float8 a, float8 b) { return (float8)_mm256_max_ps((__m256)a, (__m256)b); }
GD_HD double4 minimum(double4 a, double4 b) { return (double4)_mm256_min_pd((__m256d)a, (__m256d)b); }
GD_HD float8 minimum(float8 a, float8 b) { return (float8)_mm256_min_ps((__m256)a, (__m256)b); }
GD_HD double4 absolute(double4 a) { return (double4)_mm256_andnot_pd(_mm256_set1_pd(-0.0), (__m256d)a); }
GD_HD float8 absolute(float8 a) { return (float8)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)a); }
GD_HD bool any(double4_mask m) { return _mm256_movemask_pd((__m256d)m) != 0; }
GD_HD bool any(float8_mask m) { return _mm256_movemask_ps((__m256)m) != 0; }
#else
GD_HD double4 square_root(double4 a) { return lanewise_square_root(a); }
GD_HD float8 square_root(float8 a) { return lanewise_square_root(a); }
GD_HD double4 maximum(double4 a, double4 b) { return a > b ? a : b; }
GD_HD float8 maximum(float8 a, float8 b) { return a > b ? a : b; }
GD_HD double4 minimum(double4 a, double4 b) { return a < b ? a : b; }
GD_HD float8 minimum(float8 a, float8 b) { return a < b ? a : b; }
GD_HD double4 absolute(double4 a) { return a < double4{} ? -a : a; }
GD_HD float8 absolute(float8 a) { return a < float8{} ? -a : a; }
GD_HD bool any(double4_mask m) { return lanewise_any<double4>(m); }
GD_HD bool any(float8_mask m) { return lanewise_any<float8>(m); }
#endif

GD_HD bool all(double4_mask m) { return !any(~m); }
GD_HD bool all(double8_mask m) { return !any(~m); }
GD_HD bool all(float8_mask m) { return !any(~m); }
GD_HD bool all(float16_mask m) { return !any(~m); }

#if defined(__AVX512F__)
#define GD_REGISTER "+v"
#elif defined(__AVX__)
#define GD_REGISTER "+x"
#endif
#if defined(__AVX__)
GD_HD void keep_in_register(double4& a) { asm("" : GD_REGISTER(a)); }
GD_HD void keep_in_register(float8& a) { asm("" : GD_REGISTER(a)); }
#else
GD_HD void keep_in_register(double4&) {}
GD_HD void keep_in_register(float8&) {}
#endif
#if defined(__AVX512F__)
GD_HD void keep_in_register(double8& a) { asm("" : GD_REGISTER(a)); }
GD_HD void keep_in_register(float16& a) { asm("" : GD_REGISTER(a)); }
#else
GD_HD void keep_in_register(double8&) {}
GD_HD void keep_in_register(float16&) {}
#endif

}  // namespace GD_NAMESPACE
