// What data are accepted: the tolerances that the CPU library and the GPU kernels share.
#pragma once
#include "../base.cuh"

namespace GD_NAMESPACE {

// The triangles of P may differ by rounding, relative to its largest entry; more is a mistake of the caller's.
GD_HD double symmetry_tolerance(bool single_data) { return single_data ? 1e-5 : 1e-10; }

// How negative a pivot of P may be, relative to its largest diagonal entry, for P to count as positive semidefinite.
constexpr double kConvexTolerance = 1e-9;

}  // namespace GD_NAMESPACE
