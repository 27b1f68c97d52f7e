// Projection onto the cone of positive semidefinite matrices, on rows in the layout of svec, and its derivative.
//
// With A = Σ λᵢ uᵢuᵢᵀ the projection is Σ λᵢ⁺ uᵢuᵢᵀ and its polar part Σ λᵢ⁻ uᵢuᵢᵀ. The derivative weighs the entries
// of a direction, seen from the eigenvectors, by divided differences (Malick & Sendov 2006):
//
//     DΠ(A)[H] = U (W ∘ UᵀH U) Uᵀ,    W_ij = (λᵢ⁺ + λⱼ⁺) / (|λᵢ| + |λⱼ|)
//
// in a form that holds for equal eigenvalues, too, and whose complement 1 − W_ij = (λᵢ⁻ + λⱼ⁻) / (|λᵢ| + |λⱼ|) loses no
// digits either. Where both eigenvalues are zero W_ij is 0, as the weight of a nonnegative row at zero is.
#pragma once
#include "../linalg/eigen.cuh"

namespace GD_NAMESPACE {

constexpr double kRootTwo = 1.41421356237309504880, kHalfRoot = 0.70710678118654752440;

// Row of the diagonal entry of column j: columns one behind the other, each from its diagonal entry on.
GD_HD index_t svec_column(index_t order, index_t j) { return j * order - j * (j - 1) / 2; }

// matrix[i·order + j], all entries, of rows in the layout of svec. Members share the columns; ends with a barrier.
template <class T, class G>
GD_HD void svec_to_matrix(const G& g, index_t order, const T* rows, T* matrix) {
  const T factor = broadcast<T>(kHalfRoot);
  GD_NO_UNROLL for (index_t j = g.rank(); j < order; j += g.size()) {
    const T* column = rows + svec_column(order, j) - j;
    matrix[j * order + j] = column[j];
    GD_NO_UNROLL for (index_t i = j + 1; i < order; i++) matrix[i * order + j] = matrix[j * order + i] =
        factor * column[i];
  }
  g.sync();
}

// rows = svec(Σ_e weight(e) uₑ xₑᵀ), of which only the lower triangle is computed, for rows u and x of `left` and
// `right`. Members share the columns; no barrier.
template <class T, class G, class Weight>
GD_HD void svec_of_products(const G& g, index_t order, const T* left, const T* right, Weight weight, T* rows) {
  const T factor = broadcast<T>(kRootTwo);
  GD_NO_UNROLL for (index_t j = g.rank(); j < order; j += g.size()) {
    T* column = rows + svec_column(order, j) - j;
    GD_NO_UNROLL for (index_t i = j; i < order; i += 4) {
      T sum[4] = {};
      const index_t last = order - 1;
      const index_t at[4] = {i, i + 1 < last ? i + 1 : last, i + 2 < last ? i + 2 : last, i + 3 < last ? i + 3 : last};
      GD_NO_UNROLL for (index_t e = 0; e < order; e++) {
        const T along = weight(e) * right[e * order + j];
        GD_UNROLL for (int r = 0; r < 4; r++) { sum[r] += left[e * order + at[r]] * along; }
      }
      GD_UNROLL for (int r = 0; r < 4; r++) {
        if (i + r < order) column[i + r] = i + r == j ? sum[r] : T(factor * sum[r]);
      }
    }
  }
}

// p = Π(v) and, unless null, its polar part y = p − v; vectors [order, order] and values [order] as symmetric_eigen
// leaves them. work [order²]. All members call; begins with no barrier and ends with one.
template <class T, class G>
GD_HD void project_psd(const G& g, index_t order, const T* v, T* p, T* y, T* vectors, T* values, T* work) {
  const T zero{};
  svec_to_matrix(g, order, v, work);
  symmetric_eigen(g, order, work, order, vectors, values, false);
  T smallest = values[0], largest = values[0];
  GD_NO_UNROLL for (index_t e = 1; e < order; e++) {
    smallest = minimum(values[e], smallest);
    largest = maximum(values[e], largest);
  }
  // In the cone or in its polar the result is exact.
  const Mask<T> inside = smallest >= zero, outside = largest <= zero;
  const auto positive = [values](index_t e) GD_LAMBDA { return maximum(T{}, values[e]); };
  const auto negative = [values](index_t e) GD_LAMBDA { return maximum(T{}, T(-values[e])); };
  svec_of_products(g, order, vectors, vectors, positive, p);
  if (y) svec_of_products(g, order, vectors, vectors, negative, y);
  g.sync();
  GD_NO_UNROLL for (index_t i = g.rank(); i < order * (order + 1) / 2; i += g.size()) {
    p[i] = select(inside, v[i], p[i]);
    if (y) y[i] = select(outside, T(-v[i]), y[i]);
  }
  g.sync();
}

// W_ij and 1 − W_ij.
template <class T>
GD_HD T psd_weight(T a, T b) {
  const T zero{};
  return safe_divide(T(maximum(zero, a) + maximum(zero, b)), T(absolute(a) + absolute(b)));
}
template <class T>
GD_HD T psd_complement(T a, T b) {
  const T zero{}, size = absolute(a) + absolute(b);
  const T share = safe_divide(T(maximum(zero, T(-a)) + maximum(zero, T(-b))), size);
  return select(size == zero, broadcast<T>(1), share);
}

// out = DΠ(v)[h], or with `complement` h − DΠ(v)[h], which is the derivative of the projection onto the polar cone,
// from the eigenvectors and eigenvalues of v. work [2 order²]; h may be out. All members call; ends with a barrier.
template <class T, class G>
GD_HD void differentiate_psd(const G& g, index_t order, const T* vectors, const T* values, bool complement, const T* h,
                             T* out, T* work) {
  T *matrix = work, *product = work + order * order;
  svec_to_matrix(g, order, h, matrix);
  // product = U H, matrix = W ∘ (product Uᵀ), product = matrix U, with the eigenvectors as rows of U.
  GD_NO_UNROLL for (index_t e = g.rank(); e < order; e += g.size()) {
    GD_NO_UNROLL for (index_t s = 0; s < order; s++) {
      T sum{};
      GD_NO_UNROLL for (index_t r = 0; r < order; r++) sum += vectors[e * order + r] * matrix[s * order + r];
      product[e * order + s] = sum;
    }
  }
  g.sync();
  GD_NO_UNROLL for (index_t e = g.rank(); e < order; e += g.size()) {
    GD_NO_UNROLL for (index_t f = 0; f <= e; f++) {
      T sum{};
      GD_NO_UNROLL for (index_t s = 0; s < order; s++) sum += product[e * order + s] * vectors[f * order + s];
      const T weight = complement ? psd_complement(values[e], values[f]) : psd_weight(values[e], values[f]);
      matrix[e * order + f] = matrix[f * order + e] = weight * sum;
    }
  }
  g.sync();
  GD_NO_UNROLL for (index_t e = g.rank(); e < order; e += g.size()) {
    GD_NO_UNROLL for (index_t s = 0; s < order; s++) {
      T sum{};
      GD_NO_UNROLL for (index_t f = 0; f < order; f++) sum += matrix[e * order + f] * vectors[f * order + s];
      product[e * order + s] = sum;
    }
  }
  g.sync();
  const auto one = [](index_t) GD_LAMBDA { return broadcast<T>(1); };
  svec_of_products(g, order, vectors, product, one, out);
  g.sync();
}

// Distance of v to the nearest matrix at which Π is not differentiable, for every member.
template <class T>
GD_HD T psd_margin(index_t order, const T* values) {
  T r = absolute(values[0]);
  GD_NO_UNROLL for (index_t e = 1; e < order; e++) r = minimum(absolute(values[e]), r);
  return r;
}

}  // namespace GD_NAMESPACE
