// Functions of kernels/elementary.cuh and kernels/linalg/eigen.cuh as a library for tests/test_numerics.py: arrays are
// taken lane by lane, for packs of the width that a macro names.
#include "elementary.cuh"
#include "linalg/eigen.cuh"
#include "twin.hpp"

using namespace GD_NAMESPACE;

namespace {

using Pack = GD_PACK_TYPE;
constexpr int kLanes = Scalar<Pack>::lanes;

template <class Function>
void each(const Real<Pack>* in, Real<Pack>* out, long count, Function function) {
  for (long i = 0; i + kLanes <= count; i += kLanes) {
    Pack x{};
    for (int l = 0; l < kLanes; l++) set_lane(x, l, in[i + l]);
    const Pack y = function(x);
    for (int l = 0; l < kLanes; l++) out[i + l] = get_lane(y, l);
  }
}

}  // namespace

extern "C" {

int lanes() { return kLanes; }

void apply(int which, const Real<Pack>* in, Real<Pack>* out, long count) {
  each(in, out, count, [=](Pack x) {
    switch (which) {
      case 0:
        return exponential(x);
      case 1:
        return logarithm(x);
      case 2:
        return inverse_magnitude(x);
      default:
        return inverse_power_of_two(inverse_magnitude(x));
    }
  });
}

#if !defined(GD_TWIN)
// a [count, k, k], vectors [count, k, k], values [count, k]; `count` a multiple of the lanes.
void eigen(long count, long k, const Real<Pack>* a, Real<Pack>* vectors, Real<Pack>* values, int graded) {
  static Pack matrix[4096], basis[4096], found[64];
  for (long i = 0; i < count; i += kLanes) {
    for (int l = 0; l < kLanes; l++)
      for (long e = 0; e < k * k; e++) set_lane(matrix[e], l, a[(i + l) * k * k + e]);
    symmetric_eigen(Alone{}, index_t(k), matrix, index_t(k), basis, found, graded != 0);
    for (int l = 0; l < kLanes; l++) {
      for (long e = 0; e < k * k; e++) vectors[(i + l) * k * k + e] = get_lane(basis[e], l);
      for (long e = 0; e < k; e++) values[(i + l) * k + e] = get_lane(found[e], l);
    }
  }
}
#endif
}
