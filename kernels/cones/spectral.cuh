// The symmetric operators that scale a cone's rows.
//
// Both the Nesterov–Todd scaling of the interior point and the curvature of a projection act on each cone as a
// symmetric operator with very few distinct eigenvalues, so one representation serves both, and one condensed system K
// = P + (F A)ᵀ(F A) serves the interior point, the polish and the derivatives.
#pragma once
#include "../linalg/layout.cuh"

namespace GD_NAMESPACE {

// Rows [0, m) in the kernel's order. Nonnegative rows: `vector` holds the weight. A second-order cone: its rows after
// the first hold a unit vector u, and `eigenvalue` its three eigenvalues, on (1, u)/√2, on (1, −u)/√2 and on what is
// orthogonal to both.
template <class T>
struct Spectral {
  T* vector;
  T* eigenvalue;  // 3 per second-order cone
};

// Which rows belong to which cone. The zero cone's come first; the others may lie in any order behind them.
struct ConeRows {
  index_t zero, nonnegative;  // rows
  index_t nonnegative_start;
  index_t second_order_count;         // cones
  const index_t* second_order_start;  // [count] first row
  const index_t* second_order_dimension;
  index_t total;

  GD_HD index_t conic() const { return total - zero; }
  // ν, the barrier's degree: 1 per nonnegative row and per second-order cone.
  GD_HD index_t degree() const { return nonnegative + second_order_count; }
};

}  // namespace GD_NAMESPACE
