// The residual map whose roots are solutions, and its linearisation.
//
// With v = y − s, y = Π_{K*}(v) and s = y − v, a solution is a root of
//
//     R(x, v) = (P x + q + Aᵀ y,  A x + s − b)                         (Busseti, Moursi & Boyd 2019)
//
// and J = DR. With D = DΠ_{K*}(v), symmetric with eigenvalues 0 ≤ l ≤ 1, J(dx, dv) = (r₁, r₂) reads
//
//     P dx + Aᵀ D dv = r₁,   A dx − (I − D) dv = r₂.
//
// Put w = D dv: where l < 1, w = l/(1−l) (A dx − r₂). So (dx, w) solve the system of system.cuh with FᵀF = D (I − D +
// δ)⁻¹, e₁ = r₁, e₂ = r₂; a small δ stands in for the rows where l = 1, and refinement takes its error out again.
// Newton steps, jvp and vjp differ in their right-hand sides only (newton.cuh, sensitivity.cuh).
#pragma once
#include "../system.cuh"

namespace GD_NAMESPACE {

// δ caps the weight of an active row at 1e7: enough for 1e-7 before any refinement, little enough to keep digits in K.
constexpr double kCurvatureRegularisation = 1e-7;
constexpr double kNewtonRegularisation = 1e-9;

template <class T>
struct MapState {
  System<T> w;
  Refinement<T> refinement;
  Spectral<T> N;      // (I − D)/(I − D + δ), in the frame where the rows of F end
  Spectral<T> frame;  // of the projection at v, for those cones whose projection is dear
  T *x, *v, *y, *s;   // equilibrated
  T *Px, *Ay, *Ax;
  T *e1, *e2, *u, *t;  // right-hand sides and solutions of the system
  T *best_x, *best_v;
  T *unit_x, *unit_z;  // to the problem's own units: 1/(cD), 1/E
  T cost_scale;

  // The system `w` is the caller's to set: another stage may share it. `refined`: with what refinement needs. `sides`:
  // for how many right-hand sides there is room, at least one.
  GD_HD void carve(const Shape& shape, Carver<T>& memory, bool refined, index_t sides = 1) {
    if (refined) refinement.carve(shape, memory, sides);
    const index_t columns = shape.columns(), rows = shape.row_words();
    const ConeRows& cones = shape.rows;
    const index_t framed = cones.semidefinite_count + cones.triples();
    N = {memory.take(rows), memory.take(cones.triple_words()), nullptr};
    frame = {nullptr, nullptr, nullptr};
    if (framed > 0) frame = {memory.take(rows), memory.take(cones.operator_words()), nullptr};
    T** const over_columns[] = {&x, &Px, &Ay, &unit_x};
    T** const over_rows[] = {&v, &y, &s, &Ax, &unit_z};
    T** const side_columns[] = {&e1, &u, &best_x};
    T** const side_rows[] = {&e2, &t, &best_v};
    for (T** p : over_columns) *p = memory.take(columns);
    for (T** p : side_columns) *p = memory.take(sides * columns);
    for (T** p : over_rows) *p = memory.take(rows);
    for (T** p : side_rows) *p = memory.take(sides * rows);
  }
};

// Π_{K*}(v) and Π_K(−v), and the frame that the cones' curvature is read from.
template <class T, class G>
GD_HD void project_map(const G& g, const MapState<T>& i, T* y, T* s, Mask<T> update) {
  Spectral<T> frame = i.frame;
  frame.scratch = i.w.F.scratch;
  cone_project(g, i.w.shape.rows, i.v, broadcast<T>(kCurvatureRegularisation), frame, y, s, update);
}

// y, s and the products at (x, v), for lanes whose v is new (`cone_project`); A x only if it is not there yet.
template <class T, class G>
GD_HD void evaluate_map(const G& g, const MapState<T>& i, bool with_Ax, Mask<T> update) {
  const Shape& shape = i.w.shape;
  g.sync();
  project_map(g, i, i.y, i.s, update);
  multiply_symmetric(g, i.w.P, tiles(shape.n), i.x, i.Px);
  if (with_Ax) multiply<1>(g, i.w.A, shape.m(), shape.n, i.x, 0, i.Ax, 0);
  g.sync();
  multiply_transposed<1>(g, i.w.A, 0, shape.m(), shape.n, i.y, 0, i.Ay, 0);
  g.sync();
}

// The factor of the linearisation at v, which has been projected, for the lanes of `update`; the others keep the
// one they had, bit for bit.
template <class T, class G>
GD_HD void factorise_map(const G& g, const MapState<T>& i, Mask<T> update) {
  g.sync();
  cone_curvature(g, i.w.shape.rows, i.v, i.frame, broadcast<T>(kCurvatureRegularisation), update, i.w.F, i.N);
  factorise_system(g, i.w, broadcast<T>(kNewtonRegularisation));
}

}  // namespace GD_NAMESPACE
