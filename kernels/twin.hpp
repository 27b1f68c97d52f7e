// Two packs as one scalar: for loops in which every operation waits for the one before.
//
// A step of a root search is a chain of quotients, roots, exponentials and logarithms that takes a processor three
// times as long as their number would; two packs side by side fill the gaps.
#pragma once
#include "elementary.cuh"

namespace GD_NAMESPACE {

template <class V>
struct Twin {
  V first, second;
};

#define GD_TWIN_OPERATOR(OP)                                 \
  template <class V>                                         \
  GD_HD Twin<V> operator OP(Twin<V> a, Twin<V> b) {          \
    return {V(a.first OP b.first), V(a.second OP b.second)}; \
  }
#define GD_TWIN_COMPARISON(OP)                                           \
  template <class V>                                                     \
  GD_HD Twin<Mask<V>> operator OP(Twin<V> a, Twin<V> b) {                \
    return {Mask<V>(a.first OP b.first), Mask<V>(a.second OP b.second)}; \
  }
#define GD_TWIN_FUNCTION(NAME)              \
  template <class V>                        \
  GD_HD Twin<V> NAME(Twin<V> a) {           \
    return {NAME(a.first), NAME(a.second)}; \
  }
#define GD_TWIN_FUNCTION_OF_TWO(NAME)                          \
  template <class V>                                           \
  GD_HD Twin<V> NAME(Twin<V> a, Twin<V> b) {                   \
    return {NAME(a.first, b.first), NAME(a.second, b.second)}; \
  }
GD_TWIN_OPERATOR(+)
GD_TWIN_OPERATOR(-)
GD_TWIN_OPERATOR(*)
GD_TWIN_OPERATOR(/)
GD_TWIN_OPERATOR(&)  // of masks
GD_TWIN_OPERATOR(|)
GD_TWIN_COMPARISON(<)
GD_TWIN_COMPARISON(>)
GD_TWIN_COMPARISON(<=)
GD_TWIN_COMPARISON(>=)
GD_TWIN_COMPARISON(==)
GD_TWIN_COMPARISON(!=)
GD_TWIN_FUNCTION(absolute)
GD_TWIN_FUNCTION(square_root)
GD_TWIN_FUNCTION(exponential)
GD_TWIN_FUNCTION(logarithm)
GD_TWIN_FUNCTION(inverse_magnitude)
GD_TWIN_FUNCTION(inverse_power_of_two)
GD_TWIN_FUNCTION(negate)
GD_TWIN_FUNCTION_OF_TWO(maximum)
GD_TWIN_FUNCTION_OF_TWO(minimum)
#undef GD_TWIN_OPERATOR
#undef GD_TWIN_COMPARISON
#undef GD_TWIN_FUNCTION
#undef GD_TWIN_FUNCTION_OF_TWO

template <class V>
GD_HD Twin<V> operator-(Twin<V> a) {
  return {V(-a.first), V(-a.second)};
}
template <class V>
GD_HD Twin<V>& operator+=(Twin<V>& a, Twin<V> b) {
  return a = a + b;
}
template <class M, class V>
GD_HD Twin<V> select(Twin<M> m, Twin<V> a, Twin<V> b) {
  return {select(m.first, a.first, b.first), select(m.second, a.second, b.second)};
}
template <class M>
GD_HD bool any(Twin<M> m) {
  return any(M(m.first | m.second));
}

template <class V>
struct Scalar<Twin<V>> {
  using Real = typename Scalar<V>::Real;
  using Mask = Twin<typename Scalar<V>::Mask>;
  static constexpr int lanes = 2 * Scalar<V>::lanes;
};
template <class V>
struct Broadcast<Twin<V>> {
  static GD_HD Twin<V> of(Real<V> a) { return {Broadcast<V>::of(a), Broadcast<V>::of(a)}; }
};
template <class V>
struct Compose<Twin<V>> {
  static GD_HD Twin<V> of(const Real<V>* const* from, index_t offset) {
    return {Compose<V>::of(from, offset), Compose<V>::of(from + Scalar<V>::lanes, offset)};
  }
};
template <class V>
GD_HD Real<V> get_lane(const Twin<V>& a, int lane) {
  return reinterpret_cast<const Real<V>*>(&a)[lane];
}
template <class V>
GD_HD void set_lane(Twin<V>& a, int lane, Real<V> value) {
  reinterpret_cast<Real<V>*>(&a)[lane] = value;
}

}  // namespace GD_NAMESPACE
