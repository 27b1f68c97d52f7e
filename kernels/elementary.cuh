// exp and log of the kernels' scalars, and powers of two.
//
// A GPU has its own; for the CPU's packs they are written here in plain vector arithmetic, the same for one number as
// for a lane of a pack. Errors stay below one unit in the last place; subnormal results and arguments, zeros,
// infinities and NaN are treated as in C. Argument reduction by Cody & Waite, "Software Manual for the Elementary
// Functions", 1980; the polynomials for log are those of fdlibm (Sun Microsystems, 1993).
#pragma once
#include "scalar.cuh"

namespace GD_NAMESPACE {

// The bits of a scalar as unsigned integers, lane by lane, and the numbers of IEEE 754 that describe them.
template <class T>
struct Bits;
template <>
struct Bits<double> {
  using type = unsigned long long;
};
template <>
struct Bits<float> {
  using type = unsigned int;
};
template <class R>
struct Format;
template <>
struct Format<double> {
  static constexpr int fraction = 52, bias = 1023;
  static constexpr double epsilon = 0x1p-52, smallest = 0x1p-1022, huge = 0x1p1022;
};
template <>
struct Format<float> {
  static constexpr int fraction = 23, bias = 127;
  static constexpr double epsilon = 0x1p-23, smallest = 0x1p-126, huge = 0x1p126;
};
#if !defined(__CUDACC__)
#define GD_BITS(NAME, INTEGER)                                       \
  template <>                                                        \
  struct Bits<NAME> {                                                \
    typedef INTEGER type __attribute__((vector_size(sizeof(NAME)))); \
  };
GD_BITS(double4, unsigned long)
GD_BITS(double8, unsigned long)
GD_BITS(float4, unsigned int)
GD_BITS(float8, unsigned int)
GD_BITS(float16, unsigned int)
#undef GD_BITS
#endif

template <class T>
GD_HD typename Bits<T>::type to_bits(T a) {
  union {
    T value;
    typename Bits<T>::type bits;
  } u{a};
  return u.bits;
}
template <class T>
GD_HD T from_bits_of(typename Bits<T>::type a) {
  union {
    typename Bits<T>::type bits;
    T value;
  } u{a};
  return u.value;
}

// The relative distance between neighbouring numbers.
template <class T>
constexpr double kEpsilon = Format<Real<T>>::epsilon;

// 2⁻ᵉ where a = 2ᵉ·m with 1 ≤ m < 2: what brings a ≥ 0 to between 1 and 2 without rounding. Exponents at the ends of
// the range, zeros and NaN get a power of two whose inverse is a normal number, too.
template <class T>
GD_HD T inverse_magnitude(T a) {
  using F = Format<Real<T>>;
  const T tame = maximum(minimum(a, broadcast<T>(F::huge)), broadcast<T>(F::smallest));
  const auto exponent = to_bits(tame) >> F::fraction;
  return from_bits_of<T>((2 * F::bias - exponent) << F::fraction);
}
// The inverse of such a power of two.
template <class T>
GD_HD T inverse_power_of_two(T a) {
  using F = Format<Real<T>>;
  return from_bits_of<T>((2 * F::bias - (to_bits(a) >> F::fraction)) << F::fraction);
}

// −0 made 0, by its bits, as compilers may take the two for the same.
template <class T>
GD_HD T positive_zero(T a) {
  using B = typename Bits<T>::type;
  const B bits = to_bits(a), magnitude = bits << 1;
  if constexpr (Scalar<T>::lanes == 1)
    return magnitude == 0 ? T{} : a;
  else
    return from_bits_of<T>(bits & (B)(magnitude != 0));
}

#if defined(__CUDACC__)

GD_HD double exponential(double a) { return exp(a); }
GD_HD float exponential(float a) { return expf(a); }
GD_HD double logarithm(double a) { return log(a); }
GD_HD float logarithm(float a) { return logf(a); }

#else

// Σ c[i] xⁱ by Horner's rule from the highest coefficient, which comes first.
template <class T, int N>
GD_HD T polynomial(const double (&c)[N], T x) {
  T r = broadcast<T>(c[0]);
  GD_UNROLL for (int i = 1; i < N; i++) { r = r * x + broadcast<T>(c[i]); }
  return r;
}
// The same for long ones, even and odd coefficients side by side: half as many operations wait for each other.
template <class T, int N>
GD_HD T split_polynomial(const double (&c)[N], T x) {
  static_assert(N % 2 == 0, "as many even as odd coefficients");
  const T square = x * x;
  T odd = broadcast<T>(c[0]), even = broadcast<T>(c[1]);
  GD_UNROLL for (int i = 2; i < N; i += 2) {
    odd = odd * square + broadcast<T>(c[i]);
    even = even * square + broadcast<T>(c[i + 1]);
  }
  return odd * x + even;
}

// exp(a) = 2ⁿ exp(r) with |r| ≤ ½ log 2.
template <class T>
GD_HD T exponential(T a) {
  using R = Real<T>;
  using F = Format<R>;
  constexpr bool wide = sizeof(R) == 8;
  const T x = minimum(broadcast<T>(wide ? 710. : 89.), maximum(broadcast<T>(wide ? -746. : -104.), a));  // NaN passes
  // Adding 1.5·2^fraction leaves the nearest integer in the lowest bits.
  const T shift = broadcast<T>(wide ? 0x1.8p52 : 0x1.8p23);
  const T shifted = x * broadcast<T>(1.4426950408889634074) + shift;
  const T n = shifted - shift;
  const T high = broadcast<T>(wide ? 0x1.62e42feep-1 : 0x1.62e4p-1);
  const T low = broadcast<T>(wide ? 0x1.a39ef35793c76p-33 : 0x1.7f7d1cp-20);
  const T first_part = x - n * high, second_part = n * low;
  const T r = first_part - second_part, lost = (first_part - r) - second_part;
  T tail;  // exp(r) = 1 + r + r² tail
  if constexpr (wide) {
    constexpr double c[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                            1. / 5040,       1. / 720,       1. / 120,      1. / 24,      1. / 6,      0.5};
    tail = split_polynomial(c, r);
  } else {
    constexpr double c[] = {1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 0.5};
    tail = split_polynomial(c, r);
  }
  const T value = broadcast<T>(1) + (r + (r * r * tail + lost));
  // 2ⁿ in two factors, so that subnormal results are reached; n is never below −2048.
  const auto integer = to_bits(shifted) - to_bits(shift);
  const auto half = ((integer + 2048) >> 1) - 1024;
  const T first = from_bits_of<T>((half + F::bias) << F::fraction);
  const T second = from_bits_of<T>((integer - half + F::bias) << F::fraction);
  return value * first * second;
}

// log(a) = e log 2 + log(m) with √½ ≤ m < √2, and log(m) = 2 artanh(f / (2 + f)) for f = m − 1.
template <class T>
GD_HD T logarithm(T a) {
  using R = Real<T>;
  using F = Format<R>;
  using B = typename Bits<T>::type;
  constexpr bool wide = sizeof(R) == 8;
  const T one = broadcast<T>(1), half = broadcast<T>(0.5);
  const Mask<T> tiny = a < broadcast<T>(F::smallest);
  const T x = select(tiny, T(a * broadcast<T>(wide ? 0x1p54 : 0x1p25)), a);
  // Bits of m where the exponent of x is taken off, counted from √½.
  const B root = to_bits(broadcast<T>(wide ? 0x1.6a09ep-1 : 0x1.6a09e6p-1));
  const B one_bits = to_bits(one);
  const B offset = to_bits(x) + (one_bits - root);
  const B exponent = offset >> F::fraction;
  const B fraction_mask = ((B{} + 1) << F::fraction) - 1;
  const T m = from_bits_of<T>((offset & fraction_mask) + root);
  // An integer below 2^fraction becomes a number by the exponent of 2^fraction.
  const T shift = broadcast<T>(wide ? 0x1p52 : 0x1p23);
  const T e = (from_bits_of<T>(exponent | to_bits(shift)) - shift) - broadcast<T>(F::bias) -
              select(tiny, broadcast<T>(wide ? 54 : 25), T{});
  const T f = m - one, s = f / (f + broadcast<T>(2)), z = s * s, square = half * f * f;
  T series;
  if constexpr (wide) {
    constexpr double c[] = {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                            2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                            6.666666666666735130e-01};
    series = z * polynomial(c, z);
  } else {
    constexpr double c[] = {0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693};
    series = z * polynomial(c, z);
  }
  const T high = broadcast<T>(wide ? 6.93147180369123816490e-01 : 6.9313812256e-01);
  const T low = broadcast<T>(wide ? 1.90821492927058770002e-10 : 9.0580006145e-06);
  T r = e * high - ((square - (s * (square + series) + e * low)) - f);
  const T largest = broadcast<T>(infinity());
  r = select(a < largest, r, a);                         // infinity and NaN are their own logarithms
  r = select(a < T{}, broadcast<T>(not_a_number()), r);  // not of what is negative
  return select(a == T{}, T(-largest), r);
}

#endif

}  // namespace GD_NAMESPACE
