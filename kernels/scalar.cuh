// Scalars for the kernels: the built-in types (base.cuh), packs of them where there is SIMD (pack.hpp), and what is
// written once for both. Packs must be known before any template that calls their operations: built-in vector types
// have no namespace of their own in which a later lookup could find them.
#pragma once
#include "base.cuh"
#if !defined(__CUDACC__)
#include "pack.hpp"
#endif

namespace GD_NAMESPACE {

// A quotient that is 0 where the denominator is 0.
template <class T>
GD_HD T safe_divide(T a, T b) {
  const Mask<T> zero = b == T{};
  return select(zero, T{}, T(a / select(zero, broadcast<T>(1), b)));
}

template <class T>
GD_HD T inverse_square_root(T a) {
  return broadcast<T>(1) / square_root(a);
}

template <class T>
GD_HD Mask<T> no_lane() {
  T zero{};
  return zero != zero;
}
template <class T>
GD_HD Mask<T> every_lane() {
  T zero{};
  return zero == zero;
}

// NaN and anything beyond 1e100 (1e30 in single precision) fail.
template <class T>
GD_HD Mask<T> is_tame(T a) {
  return absolute(a) < broadcast<T>(sizeof(Real<T>) == 8 ? 1e100 : 1e30);
}

}  // namespace GD_NAMESPACE
