// What every kernel file stands on: function qualifiers, and the few operations that a scalar `T` must offer.
//
// Kernels are templates over T. On the GPU T is double or float and a mask is a bool; on the CPU T is a pack of several
// problems (pack.hpp) and a mask holds one truth value per problem. Code that branches on data therefore says
// select(mask, a, b), and asks any(mask) only to skip work that changes no lane's bits.
#pragma once

#if defined(__CUDACC__)
#define GD_HD __host__ __device__ __forceinline__
// Sizes are constants only where everything is inlined, lambdas included.
#define GD_DEVICE __device__ __forceinline__
#if !defined(GD_DYNAMIC_SHARED)  // the tests' emulation of CUDA on the host has its own
#define GD_DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) char NAME[]
#endif
#define GD_UNROLL _Pragma("unroll")
#define GD_UNROLL_FOUR _Pragma("unroll 4")
#define GD_UNROLL_EIGHT _Pragma("unroll 8")
#define GD_NO_UNROLL _Pragma("unroll 1")
#define GD_RESTRICT __restrict__
#else
#define GD_HD inline __attribute__((always_inline))
#define GD_UNROLL _Pragma("GCC unroll 16")
#define GD_UNROLL_FOUR _Pragma("GCC unroll 4")
#define GD_UNROLL_EIGHT _Pragma("GCC unroll 8")
#define GD_NO_UNROLL
#define GD_RESTRICT __restrict__
#endif

#define GD_LAMBDA __attribute__((always_inline))

// The CPU library compiles these headers once per instruction set; each variant lives in a namespace of its own so that
// the linker can never merge a function compiled for AVX-512 with one that must run everywhere.
#if !defined(GD_NAMESPACE)
#define GD_NAMESPACE gpudiff
#endif

namespace GD_NAMESPACE {

// Rows, columns and offsets inside one problem. 64-bit addresses cost a GPU registers that it has better uses for.
#if defined(__CUDACC__)
using index_t = int;
#else
using index_t = long;
#endif

// Real: the element type; Mask: the result of a comparison; lanes: problems side by side.
template <class T>
struct Scalar {
  using Real = T;
  using Mask = bool;
  static constexpr int lanes = 1;
};

template <class T>
using Real = typename Scalar<T>::Real;
template <class T>
using Mask = typename Scalar<T>::Mask;

#if defined(__CUDACC__)
GD_HD double square_root(double a) { return sqrt(a); }
GD_HD float square_root(float a) { return sqrtf(a); }
GD_HD double absolute(double a) { return fabs(a); }
GD_HD float absolute(float a) { return fabsf(a); }
GD_HD double inverse_square_root(double a) { return rsqrt(a); }
GD_HD float inverse_square_root(float a) { return rsqrtf(a); }
GD_HD double quick_inverse_square_root(double a) { return rsqrt(a); }
GD_HD float quick_inverse_square_root(float a) { return rsqrtf(a); }
#else  // builtins, so that no standard header is needed
GD_HD double square_root(double a) { return __builtin_sqrt(a); }
GD_HD float square_root(float a) { return __builtin_sqrtf(a); }
GD_HD double absolute(double a) { return __builtin_fabs(a); }
GD_HD float absolute(float a) { return __builtin_fabsf(a); }
GD_HD double inverse_square_root(double a) { return 1 / __builtin_sqrt(a); }
GD_HD float inverse_square_root(float a) { return 1 / __builtin_sqrtf(a); }
#endif
// From their bits: NVRTC knows no <limits>.
GD_HD double from_bits(unsigned long long bits) {
  union {
    unsigned long long bits;
    double value;
  } u{bits};
  return u.value;
}
GD_HD double infinity() { return from_bits(0x7ff0000000000000ull); }
GD_HD double not_a_number() { return from_bits(0x7ff8000000000000ull); }

// Returns b when either is NaN, as the machines' own instructions do.
GD_HD double maximum(double a, double b) { return a > b ? a : b; }
GD_HD float maximum(float a, float b) { return a > b ? a : b; }
GD_HD double minimum(double a, double b) { return a < b ? a : b; }
GD_HD float minimum(float a, float b) { return a < b ? a : b; }

GD_HD double select(bool m, double a, double b) { return m ? a : b; }
GD_HD float select(bool m, float a, float b) { return m ? a : b; }
GD_HD bool any(bool m) { return m; }
GD_HD bool all(bool m) { return m; }
GD_HD bool negate(bool m) { return !m; }

// A mask as bits, a lane each, and back: where lanes take different ways.
template <class T>
GD_HD unsigned lane_bits(bool m) {
  return m ? 1u : 0u;
}
template <class T>
struct LaneMask {
  static GD_HD bool of(unsigned bits) { return (bits & 1u) != 0; }
};
template <class T>
GD_HD Mask<T> lane_mask(unsigned bits) {
  return LaneMask<T>::of(bits);
}
template <class T>
constexpr unsigned kEveryLane = (1u << Scalar<T>::lanes) - 1u;

// (from[0][offset], from[1][offset], …): a number for each lane.
template <class T>
struct Compose {
  static GD_HD T of(const Real<T>* const* from, index_t offset) { return from[0][offset]; }
};

// As many numbers in single precision.
template <class T>
struct SingleOf {
  using type = float;
};
template <class T>
using Single = typename SingleOf<T>::type;
GD_HD float to_single(double a) { return float(a); }
GD_HD float to_single(float a) { return a; }
template <class T>
GD_HD T from_single(float a) {
  return T(a);
}

// Keeps a loaded operand in a register: otherwise GCC folds the load into every multiply-add that uses it, and a tile
// update is then limited by loads (68 % of peak instead of 96 %).
GD_HD void keep_in_register(double&) {}
GD_HD void keep_in_register(float&) {}

template <class T>
struct Broadcast {
  static GD_HD T of(Real<T> a) { return a; }
};
template <class T>
GD_HD T broadcast(double a) {
  return Broadcast<T>::of(static_cast<Real<T>>(a));
}

template <class T>
GD_HD Real<T> get_lane(const T& a, int) {
  return a;
}
template <class T>
GD_HD void set_lane(T& a, int, Real<T> value) {
  a = value;
}

}  // namespace GD_NAMESPACE
