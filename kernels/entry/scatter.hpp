// From instances into the lanes of a pack, several lanes in one go: a lane's entries lie a whole register apart, so
// that writing one lane touches every cache line of the workspace, and writing all of them touches them no more often.
#pragma once
#include "instance.hpp"

namespace GD_NAMESPACE {

// Lanes to be written and the instance for each. `row_at`, where it is set, says which row of the instance goes to each
// row of the lane (−1: none); otherwise rows keep their places.
template <class T>
struct Scatter {
  static constexpr int W = Scalar<T>::lanes;
  using R = Real<T>;
  int count = 0;
  int lane[W];
  Instance* of[W];
  const index_t* row_at[W];

  void add(int into, Instance* instance, const index_t* rows = nullptr) {
    lane[count] = into;
    of[count] = instance;
    row_at[count++] = rows;
  }

  // Rows [0, rows) of the equilibrated A.
  void matrix(const Panels<T>& panels, index_t rows, index_t n) const {
    for (index_t at = 0; at < rows; at++) {
      const double *source[W], *D[W];
      double E[W];
      int to[W], used = 0;
      for (int l = 0; l < count; l++) {
        const index_t k = row_at[l] ? row_at[l][at] : at;
        if (k < 0) continue;
        source[used] = of[l]->A + k * n;
        D[used] = of[l]->D;
        E[used] = of[l]->E[k];
        to[used++] = lane[l];
      }
      R* out = reinterpret_cast<R*>(panels.data + at * kTile);
      for (index_t j = 0; j < n; j += kTile, out += panels.rows * kTile * W) {
        if (n - j >= kTile) {
          for (int l = 0; l < used; l++) {
            const double *a = source[l] + j, *d = D[l] + j;
            GD_UNROLL for (int c = 0; c < kTile; c++) { out[c * W + to[l]] = R(a[c] * d[c] * E[l]); }
          }
        } else {
          for (int l = 0; l < used; l++)
            for (index_t c = 0; c < n - j; c++) out[c * W + to[l]] = R(source[l][j + c] * D[l][j + c] * E[l]);
        }
      }
    }
  }

  // P, and P + EᵀE where there are equality rows. Both are lower triangles, with diagonal tiles stored whole.
  void objective(const System<T>& w) const {
    const index_t n = w.shape.n, zero = w.shape.rows.zero;
    for (index_t i = 0; i < n; i++) {
      const index_t end = (i / kTile + 1) * kTile < n ? (i / kTile + 1) * kTile : n;
      for (int l = 0; l < count; l++) {
        Instance& p = *of[l];
        double* row = p.row_sum;
        const double d = p.D[i] * p.c;
        if (p.has_P)
          for (index_t j = 0; j < end; j++) row[j] = p.P[i * n + j] * p.D[j] * d;
        else
          for (index_t j = 0; j < end; j++) row[j] = 0;
      }
      if (of[0]->has_P) write_row(w.P, i, end);
      if (zero == 0) continue;
      for (int l = 0; l < count; l++) {
        Instance& p = *of[l];
        double *row = p.row_sum, *sum = p.column, *weight = p.row;
        for (index_t k = 0; k < zero; k++) weight[k] = p.A[k * n + i] * p.D[i] * p.E[k] * p.E[k];
        weighted_rows(p.A, zero, n, end, weight, sum);
        for (index_t j = 0; j < end; j++) row[j] += sum[j] * p.D[j];
      }
      write_row(w.k.P, i, end);
    }
  }
  void write_row(const SymmetricTiles<T>& tiles, index_t i, index_t end) const {
    R* out = reinterpret_cast<R*>(tiles.tile(i / kTile, 0)) + (i % kTile) * W;
    for (index_t j = 0; j < end; j++, out += kTile * W)
      for (int l = 0; l < count; l++) out[lane[l]] = R(of[l]->row_sum[j]);
  }

  // The whole problem, with the way back to its own units.
  void problem(const System<T>& w, T* unit_x, T* unit_z, T& cost_scale) const {
    if (count == 0) return;
    matrix(w.A, w.shape.m(), w.shape.n);
    objective(w);
    for (int l = 0; l < count; l++) {
      const Instance& p = *of[l];
      const int to = lane[l];
      for (index_t j = 0; j < w.shape.n; j++) {
        set_lane(w.q[j], to, R(p.q[j] * p.D[j] * p.c));
        set_lane(unit_x[j], to, R(1 / (p.D[j] * p.c)));
      }
      for (index_t k = 0; k < w.shape.m(); k++) {
        set_lane(w.b[k], to, R(p.b[k] * p.E[k]));
        set_lane(unit_z[k], to, R(1 / p.E[k]));
      }
      set_lane(cost_scale, to, R(p.c));
    }
  }
};

// What no lane ever writes: ones on the padded diagonal of P, zeros everywhere else.
template <class T>
void prepare_padding(System<T>& w) {
  for (index_t i = 0; i < SymmetricTiles<T>::words(tiles(w.shape.n)); i++) w.P.data[i] = w.k.P.data[i] = T{};
  for (index_t i = w.shape.n; i < w.shape.columns(); i++) w.P.at(i, i) = w.k.P.at(i, i) = broadcast<T>(1);
}

}  // namespace GD_NAMESPACE
