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
GD_PACK(float4, float, 4)
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

template <>
struct Broadcast<float4> {
  static GD_HD float4 of(float a) { return float4{a, a, a, a}; }
};

template <>
struct SingleOf<double4> {
  using type = float4;
};
template <>
struct SingleOf<double8> {
  using type = float8;
};
GD_HD float4 to_single(double4 a) { return __builtin_convertvector(a, float4); }
GD_HD float8 to_single(double8 a) { return __builtin_convertvector(a, float8); }
template <class T>
GD_HD T from_single(float4 a) {
  return __builtin_convertvector(a, T);
}
template <class T>
GD_HD T from_single(float8 a) {
  return __builtin_convertvector(a, T);
}

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

// 1/√a to two units in the last place for normal a > 0, in a fraction of the time of a root and a quotient where the
// machine has a first guess to fourteen bits.
template <class V>
GD_HD V quick_inverse_square_root(V a) {
#if defined(__AVX512F__) && defined(__AVX512VL__)
  if constexpr (sizeof(Real<V>) == 8 && Scalar<V>::lanes > 1) {
    V r;
    if constexpr (sizeof(V) == 64)
      r = (V)_mm512_rsqrt14_pd((__m512d)a);
    else
      r = (V)_mm256_rsqrt14_pd((__m256d)a);
    const V one = broadcast<V>(1), half = broadcast<V>(0.5);
    V e = one - a * r * r;
    r = r + r * e * (half + broadcast<V>(0.375) * e);
    e = one - a * r * r;
    return r + half * r * e;
  }
#endif
  return broadcast<V>(1) / square_root(a);
}

GD_HD float4 maximum(float4 a, float4 b) { return a > b ? a : b; }

// A mask as bits and back.
template <class T, class M>
GD_HD unsigned lane_bits(M m) {
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  if constexpr (sizeof(T) == 64 && sizeof(Real<T>) == 8) return unsigned(_mm512_movepi64_mask((__m512i)m));
#endif
#if defined(__AVX__)
  if constexpr (sizeof(T) == 32 && sizeof(Real<T>) == 8) return unsigned(_mm256_movemask_pd((__m256d)m));
#endif
  const T set = select(m, broadcast<T>(1), T{});
  unsigned bits = 0;
  for (int l = 0; l < Scalar<T>::lanes; l++) bits |= get_lane(set, l) != 0 ? 1u << l : 0u;
  return bits;
}
template <>
struct LaneMask<double4> {
  static GD_HD double4_mask of(unsigned bits) {
    const double4_mask lane = {1, 2, 4, 8}, all = {long(bits), long(bits), long(bits), long(bits)};
    return (all & lane) != double4_mask{};
  }
};
template <>
struct LaneMask<double8> {
  static GD_HD double8_mask of(unsigned bits) {
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    return (double8_mask)_mm512_movm_epi64(__mmask8(bits));
#else
    const long b = long(bits);
    const double8_mask lane = {1, 2, 4, 8, 16, 32, 64, 128}, all = {b, b, b, b, b, b, b, b};
    return (all & lane) != double8_mask{};
#endif
  }
};

template <>
struct Compose<double4> {
  static GD_HD double4 of(const double* const* f, index_t o) { return double4{f[0][o], f[1][o], f[2][o], f[3][o]}; }
};
template <>
struct Compose<double8> {
  static GD_HD double8 of(const double* const* f, index_t o) {
    return double8{f[0][o], f[1][o], f[2][o], f[3][o], f[4][o], f[5][o], f[6][o], f[7][o]};
  }
};

// dst[i · stride] = (src[0][i], src[1][i], …) for i < count: rows of several problems into the lanes of packs.
template <class T>
GD_HD void interleave(const double* const* src, index_t count, T* dst, index_t stride) {
  constexpr int W = Scalar<T>::lanes;
  index_t i = 0;
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  if constexpr (W == 8) {
    for (; i + 8 <= count; i += 8) {
      __m512d r[8], t[8], u[8];
      GD_UNROLL for (int l = 0; l < 8; l++) { r[l] = _mm512_loadu_pd(src[l] + i); }
      GD_UNROLL for (int l = 0; l < 8; l += 2) {
        t[l] = _mm512_unpacklo_pd(r[l], r[l + 1]);
        t[l + 1] = _mm512_unpackhi_pd(r[l], r[l + 1]);
      }
      GD_UNROLL for (int l = 0; l < 8; l += 4) {
        u[l] = _mm512_shuffle_f64x2(t[l], t[l + 2], 0x88);
        u[l + 1] = _mm512_shuffle_f64x2(t[l + 1], t[l + 3], 0x88);
        u[l + 2] = _mm512_shuffle_f64x2(t[l], t[l + 2], 0xdd);
        u[l + 3] = _mm512_shuffle_f64x2(t[l + 1], t[l + 3], 0xdd);
      }
      GD_UNROLL for (int k = 0; k < 4; k++) {
        const int a = (k & 1) + 2 * (k >> 1);
        dst[(i + k) * stride] = (T)_mm512_shuffle_f64x2(u[a], u[4 + a], 0x88);
        dst[(i + 4 + k) * stride] = (T)_mm512_shuffle_f64x2(u[a], u[4 + a], 0xdd);
      }
    }
  }
#endif
#if defined(__AVX__)
  if constexpr (W == 4) {
    for (; i + 4 <= count; i += 4) {
      const __m256d r0 = _mm256_loadu_pd(src[0] + i), r1 = _mm256_loadu_pd(src[1] + i);
      const __m256d r2 = _mm256_loadu_pd(src[2] + i), r3 = _mm256_loadu_pd(src[3] + i);
      const __m256d a = _mm256_unpacklo_pd(r0, r1), b = _mm256_unpackhi_pd(r0, r1);
      const __m256d c = _mm256_unpacklo_pd(r2, r3), d = _mm256_unpackhi_pd(r2, r3);
      dst[i * stride] = (T)_mm256_permute2f128_pd(a, c, 0x20);
      dst[(i + 1) * stride] = (T)_mm256_permute2f128_pd(b, d, 0x20);
      dst[(i + 2) * stride] = (T)_mm256_permute2f128_pd(a, c, 0x31);
      dst[(i + 3) * stride] = (T)_mm256_permute2f128_pd(b, d, 0x31);
    }
  }
#endif
  for (; i < count; i++)
    for (int l = 0; l < W; l++) reinterpret_cast<double*>(dst + i * stride)[l] = src[l][i];
}

// The way back: dst[l][i] = lane l of src[i], for the first `lanes` lanes.
template <class T>
GD_HD void deinterleave(const T* src, index_t count, double* const* dst, int lanes) {
  constexpr int W = Scalar<T>::lanes;
  index_t i = 0;
  if constexpr (W > 1) {
    for (; i + W <= count; i += W) {
      // A block transposed is a block interleaved: the rows of the block are the sources.
      const double* rows[W];
      T block[W];
      for (int l = 0; l < W; l++) rows[l] = reinterpret_cast<const double*>(src + i + l);
      interleave(rows, index_t(W), block, index_t(1));
      for (int l = 0; l < lanes; l++) __builtin_memcpy(dst[l] + i, block + l, sizeof(T));
    }
  }
  for (; i < count; i++)
    for (int l = 0; l < lanes; l++) dst[l][i] = get_lane(src[i], l);
}

// To memory that is not read soon, a whole cache line at a time and past the caches: `to` is a multiple of 64. What
// other threads may see of it is what `finish_streams` has been called for.
GD_HD void stream(double* to, double8 a) {
#if defined(__AVX512F__)
  _mm512_stream_pd(to, (__m512d)a);
#elif defined(__AVX__)
  double4 half[2];
  __builtin_memcpy(half, &a, sizeof a);
  _mm256_stream_pd(to, (__m256d)half[0]);
  _mm256_stream_pd(to + 4, (__m256d)half[1]);
#else
  __builtin_memcpy(to, &a, sizeof a);
#endif
}
GD_HD void finish_streams() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

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
GD_HD void keep_in_register(float4& a) { asm("" : GD_REGISTER(a)); }
#else
GD_HD void keep_in_register(double4&) {}
GD_HD void keep_in_register(float8&) {}
GD_HD void keep_in_register(float4&) {}
#endif
#if defined(__AVX512F__)
GD_HD void keep_in_register(double8& a) { asm("" : GD_REGISTER(a)); }
GD_HD void keep_in_register(float16& a) { asm("" : GD_REGISTER(a)); }
#else
GD_HD void keep_in_register(double8&) {}
GD_HD void keep_in_register(float16&) {}
#endif

}  // namespace GD_NAMESPACE
