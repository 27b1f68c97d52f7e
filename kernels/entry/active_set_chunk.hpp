// The active-set method on a run of problems of one batch, on one thread, W at a time (active_set/solve.cuh).
//
// Every problem is for itself: a lane computes what it would compute alone, and its result is held against the
// problem's own data (active_set/verify.cuh) before it is called solved. What does not pass goes on a list, which the
// interior point works off: a P that is not positive definite, dependent equalities, data so badly conditioned that
// rounding decides.
#pragma once
#include "../active_set/refine.cuh"
#include "results.hpp"

namespace GD_NAMESPACE {

// The data of up to W problems as they lie in memory, for the lanes of an active-set state. Where P and A are shared
// all pointers to them are the same.
template <class T, class E>
struct LaneData {
  static constexpr int W = Scalar<T>::lanes;
  static constexpr int kMatrices = Scalar<E>::lanes;  // 1 where they are shared
  const double *P[W], *A[W], *q[W], *b[W];

  void row_into(const double* const* base, index_t offset, index_t count, E* out) const {
    const double* src[W];
    for (int l = 0; l < kMatrices; l++) src[l] = base[l] + offset;
    interleave(src, count, out, index_t(kTile));
  }
  // Rows [first, first + kTile), zeros from row `end` on, as a band.
  void band_into(const double* const* base, index_t first, index_t end, index_t n, E* band) const {
    for (index_t r = 0; r < kTile; r++) {
      if (first + r < end) {
        row_into(base, (first + r) * n, n, band + r);
      } else {
        for (index_t j = 0; j < n; j++) band[j * kTile + r] = E{};
      }
    }
  }
  // P's lower triangle and A's rows.
  void matrices(const ActiveSet<T, E>& s) const {
    const index_t n = s.n, e = s.equalities;
    for (index_t i = 0; i < n; i++) row_into(P, i * n, i + 1, &s.L.at(i, 0));
    // The padding, too: where a P was not positive definite the last problem has left NaN there.
    for (index_t i = n; i < padded(n); i++) {
      for (index_t j = 0; j < i; j++) s.L.at(i, j) = E{};
      s.L.at(i, i) = broadcast<E>(1);
    }
    rows_of(s.M_zero, 0, e, n);
    rows_of(s.M, e, s.inequalities, n);
  }
  void rows_of(const Bands<E>& M, index_t first, index_t count, index_t n) const {
    for (index_t k = 0; k < padded(count); k++) {
      if (k < count) row_into(A, (first + k) * n, n, &M.at(k, 0));
      for (index_t j = k < count ? n : 0; j < padded(n); j++) M.at(k, j) = E{};
    }
  }
  void vectors(const ActiveSet<T, E>& s) const {
    const double* src[W];
    for (int l = 0; l < W; l++) src[l] = b[l] + s.equalities;
    interleave(q, s.n, s.q, index_t(1));
    interleave(b, s.equalities, s.b_zero, index_t(1));
    interleave(src, s.inequalities, s.b, index_t(1));
  }
};

// product = B x for a band B of kTile rows, and sum += Bᵀ weight unless `weight` is null.
template <class T, class E>
GD_HD void band_products(const E* band, index_t n, const T* x, T* product, const T* weight, T* sum) {
  T dot[kTile], f[kTile];
  GD_UNROLL for (int r = 0; r < kTile; r++) { dot[r] = f[r] = T{}; }
  if (weight) {
    GD_UNROLL for (int r = 0; r < kTile; r++) { f[r] = weight[r]; }
    GD_NO_UNROLL for (index_t j = 0; j < n; j++) {
      T v = x[j], w = sum[j];
      keep_in_register(v);
      GD_UNROLL for (int r = 0; r < kTile; r++) {
        dot[r] += band[j * kTile + r] * v;
        w += band[j * kTile + r] * f[r];
      }
      sum[j] = w;
    }
  } else {
    GD_NO_UNROLL for (index_t j = 0; j < n; j++) {
      T v = x[j];
      keep_in_register(v);
      GD_UNROLL for (int r = 0; r < kTile; r++) { dot[r] += band[j * kTile + r] * v; }
    }
  }
  GD_UNROLL for (int r = 0; r < kTile; r++) { product[r] = dot[r]; }
}

// P x, Aᵀy and A x with the data as they are, kTile rows at a time: nothing that the method has made of them takes
// part.
template <class T, class E>
struct DataProducts {
  const ActiveSet<T, E>& s;
  const LaneData<T, E>& data;
  E* band;               // [kTile rows of n]
  const E *P, *AE, *AI;  // P, and A's equality and inequality rows, in such bands already; null where they are not

  void objective(bool magnitudes) const {
    const T* x = point(magnitudes);
    for (index_t i = 0; i < s.n; i += kTile) rows(data.P, P, i, i, s.n, magnitudes, x, s.Px + i, nullptr);
  }
  void inequalities(bool magnitudes) const {
    const index_t e = s.equalities, m = e + s.inequalities;
    const T* x = point(magnitudes);
    for (index_t j = 0; j < s.columns(); j++) s.Ay[j] = T{};
    for (index_t k = 0; k < s.inequalities; k += kTile)
      rows(data.A, AI, k, e + k, m, magnitudes, x, s.slack + k, s.y + k);
  }
  void equalities(bool magnitudes) const {
    const T* x = point(magnitudes);
    for (index_t k = 0; k < s.equalities; k += kTile)
      rows(data.A, AE, k, k, s.equalities, magnitudes, x, s.slack_zero + k, s.y_zero + k);
  }
  const T* point(bool magnitudes) const {
    if (!magnitudes) return s.x;
    for (index_t j = 0; j < s.columns(); j++) s.row[j] = absolute(s.x[j]);
    return s.row;
  }
  // Rows [first, first + kTile) of a matrix that ends at row `end`; they are the band of row `at` where it is in bands.
  void rows(const double* const* matrix, const E* bands, index_t at, index_t first, index_t end, bool magnitudes,
            const T* x, T* product, const T* y) const {
    const index_t n = s.n;
    const E* here = bands ? bands + at * n : band;
    if (!bands) data.band_into(matrix, first, end, n, band);
    if (magnitudes) {
      for (index_t i = 0; i < n * kTile; i++) band[i] = absolute(here[i]);
      here = band;
    }
    T weight[kTile];
    for (index_t r = 0; y && r < kTile; r++) {
      weight[r] = first + r < end ? y[r] : T{};
      if (magnitudes) weight[r] = absolute(weight[r]);
    }
    band_products(here, n, x, product, y ? weight : nullptr, s.Ay);
  }
};

template <class T, class E>
struct ChunkActiveSet {
  static constexpr int W = Scalar<T>::lanes;
  static constexpr bool kShared = Scalar<E>::lanes != W;
  static constexpr bool kSinglePricing = true;
  const Solve& job;
  const gd_problem& problem;
  Counters& counters;
  Shape shape;
  index_t n, m, e, begin, count;
  ActiveSet<T, E> s;
  Results results;
  Instance instances[W];
  LaneData<T, E> data;
  E* band;                // see DataProducts
  double *x, *y, *slack;  // results of each lane [W, n], [W, m] where they cannot be written in place
  int *guess, *left;
  double* shared_A;                  // [m, n] in kernel row order
  E *P_bands, *AE_bands, *AI_bands;  // shared matrices, see DataProducts
  unsigned long long* call;          // that the next three belong to
  bool* prepared;                    // shared matrices: kept between the chunks of a thread
  bool* sound;                       // whether they are any good
  bool* known;                       // see Instance::gather

  static index_t carve(const Shape& shape, index_t capacity, ChunkActiveSet* self, char* base) {
    ByteCarver memory{base, 0};
    ActiveSet<T, E> s;
    const index_t n = shape.n, m = shape.m(), e = shape.rows.zero;
    unsigned long long* call = memory.take<unsigned long long>(1);
    bool* flags = memory.take<bool>(3);
    carve_matrices(s, memory, memory, memory, n, e, shape.rows.nonnegative, kSinglePricing);
    carve_vectors(s, memory);
    Instance instances[W];
    for (Instance& p : instances) {
      Carver<double> doubles{nullptr, 0};
      p.carve(n, m, doubles);
      doubles = {memory.take<double>(doubles.used), 0};
      p.carve(n, m, doubles);
      p.order = n;
    }
    double *x = memory.take<double>(W * n), *y = memory.take<double>(W * m), *slack = memory.take<double>(W * m);
    E* band = memory.take<E>(kTile * n);
    double* shared_A = memory.take<double>(kShared ? m * n : 0);
    E* P_bands = kShared ? memory.take<E>(padded(n) * n) : nullptr;
    E* AE_bands = kShared ? memory.take<E>(padded(e) * n) : nullptr;
    E* AI_bands = kShared ? memory.take<E>(padded(m - e) * n) : nullptr;
    int *guess = memory.take<int>(W * (n + 1)), *left = memory.take<int>(capacity);
    if (self) {
      self->s = s;
      for (int l = 0; l < W; l++) self->instances[l] = instances[l];
      self->x = x, self->y = y, self->slack = slack, self->band = band, self->shared_A = shared_A;
      self->P_bands = P_bands, self->AE_bands = AE_bands, self->AI_bands = AI_bands;
      self->guess = guess, self->left = left;
      self->call = call, self->prepared = flags, self->sound = flags + 1, self->known = flags + 2;
    }
    return memory.used;
  }
  static index_t bytes(const Shape& shape, index_t capacity) { return carve(shape, capacity, nullptr, nullptr); }

  ChunkActiveSet(const Solve& job_, char* memory, index_t begin_, index_t end, Counters& counters_)
      : job(job_), problem(*job_.problem), counters(counters_), shape(shape_of(*job_.problem, job_.rows)), n(shape.n),
        m(shape.m()), e(shape.rows.zero), begin(begin_), count(end - begin_),
        results{job_, *job_.problem, shape, begin_, {}} {
    carve(shape, count, this, memory);
    if (*call == job.number) return;
    *call = job.number;
    *prepared = *sound = *known = false;
  }

  // Solves what it can; returns how many are left, their positions in the chunk in `left`.
  index_t run() {
    index_t n_left = 0;
    if (!problem.P.data || n == 0 || e > n) {
      for (index_t i = 0; i < count; i++) left[n_left++] = int(i);
      return n_left;
    }
    for (index_t next = 0; next < count;) {
      int of[W], used = 0;
      for (; used < W && next < count; next++)
        if (gather(instances[used], next)) of[used++] = int(next);
      for (index_t i = next; i < count && i < next + W; i++) prefetch_problem(problem, begin + i);
      if (used) n_left = solve_pack(of, used, n_left);
    }
    return n_left;
  }

  bool gather(Instance& instance, index_t i) {
    const Gathered g =
        instance.gather(problem, job.rows, begin + i, kShared && *known ? Known::matrices : Known::nothing);
    if (g == Gathered::asymmetric && (counters.asymmetric < 0 || counters.asymmetric > begin + i))
      counters.asymmetric = begin + i;
    if (g == Gathered::good) {
      *known = instance.P != instance.P_copy;
      return true;
    }
    results.write_failure(i, GD_INVALID_DATA, 0);
    return false;
  }

  // The problems of lanes 0 … used − 1, the first one's in the lanes behind; returns the lanes that are good.
  unsigned load(int used) {
    for (int l = 0; l < W; l++) {
      const Instance& p = instances[l < used ? l : 0];
      data.P[l] = p.P, data.A[l] = p.A, data.q[l] = p.q, data.b[l] = p.b;
    }
    unsigned good;
    if constexpr (kShared) {
      // Rows that are absent from one problem may be present in another: A as it is.
      if (!*prepared)
        for (index_t k = 0; k < m; k++)
          copy_row(problem.A, problem.dtype, job.rows.row_of[k] * problem.A.row, problem.A.col, n, shared_A + k * n);
      data.A[0] = shared_A;
      if (!*prepared) {
        data.matrices(s);
        for (index_t i = 0; i < n; i += kTile) data.band_into(data.P, i, n, n, P_bands + i * n);
        for (index_t k = 0; k < e; k += kTile) data.band_into(data.A, k, e, n, AE_bands + k * n);
        for (index_t k = 0; k < m - e; k += kTile) data.band_into(data.A, e + k, m, n, AI_bands + k * n);
        *sound = prepare_matrices(Alone{}, s, kSinglePricing);
        *prepared = true;
      }
      good = *sound ? kEveryLane<T> : 0u;
    } else {
      data.matrices(s);
      good = lane_bits<E>(prepare_matrices(Alone{}, s, kSinglePricing));
    }
    data.vectors(s);
    for (int l = 0; l < used; l++) {
      if (!instances[l].some_absent) continue;
      for (index_t k = e; k < m; k++)
        if (instances[l].absent[k]) set_lane(s.b[k - e], l, Real<T>(kNever));
    }
    prepare_vectors(Alone{}, s, kSinglePricing, products());
    return good;
  }

  DataProducts<T, E> products() const { return {s, data, band, P_bands, AE_bands, AI_bands}; }

  index_t solve_pack(const int* of, int used, index_t n_left) {
    const Alone g{};
    const unsigned live = load(used) & ((1u << used) - 1u);
    Places<W> places;
    Progress<W> progress{};
    unsigned open = 0, solved = 0, proved = 0;
    Verdict<T> verdict{};
    verdict.error = broadcast<T>(1e30);
    if (live) {
      clear(places);
      open = live;
      if (job.warm_y) enter_rows(g, s, places, guess, load_guess(of, used));
      optimise(g, s, places, progress, open, kSinglePricing && !job.warm_y);  // a good guess needs one look
      open &= ~(progress.stuck | progress.infeasible);
    }
    const DataProducts<T, E> products = this->products();
    if (open) {
      take_point(g, s, places);
      solved = refine_point(g, s, places, open, products, verdict);
    }
    write_solved(of, used, solved, progress, verdict);
    if (const unsigned claims = live & progress.infeasible) {
      take_certificate(g, s, places, progress, claims);
      const T bound = verify_infeasible(g, s, job.settings->tol_infeas_rel, products);
      proved = claims & lane_bits<T>(bound > T{});
      for (int l = 0; l < used; l++)
        if (proved >> l & 1u) write_certificate(of[l], l, get_lane(bound, l), progress.changes[l]);
    }
    for (int l = 0; l < used; l++) {
      if ((solved | proved) >> l & 1u)
        counters.changes += progress.changes[l];
      else
        left[n_left++] = of[l];
    }
    counters.flops += flops(used, places, progress);
    return n_left;
  }

  void write_solved(const int* of, int used, unsigned solved, const Progress<W>& progress, const Verdict<T>& v) {
    if (!solved) return;
    // Slacks as results: none below zero, none in tight rows.
    for (index_t k = 0; k < s.inequalities; k++) s.slack[k] = select(s.tight[k] > T{}, T{}, maximum(s.slack[k], T{}));
    gd_solution& o = *job.out;
    const bool in_place = problem.dtype == GD_FLOAT64 && job.rows.in_order;
    double *to_x[W], *to_y[W], *to_s[W];
    bool every = in_place && o.x && o.y && o.s && solved == kEveryLane<T>;
    for (int l = 0; l < W; l++) {
      const index_t at = begin + of[l < used ? l : 0];
      to_x[l] = every ? static_cast<double*>(o.x) + at * n : x + l * n;
      to_y[l] = every ? static_cast<double*>(o.y) + at * m : y + l * m;
      to_s[l] = every ? static_cast<double*>(o.s) + at * m : slack + l * m;
    }
    deinterleave(s.x, n, to_x, used);
    deinterleave(s.y_zero, e, to_y, used);
    for (int l = 0; l < used; l++)
      for (index_t k = 0; k < e; k++) to_s[l][k] = 0;
    for (int l = 0; l < W; l++) to_y[l] += e, to_s[l] += e;
    deinterleave(s.y, s.inequalities, to_y, used);
    deinterleave(s.slack, s.inequalities, to_s, used);
    for (int l = 0; l < used; l++) {
      if (!(solved >> l & 1u)) continue;
      if (instances[l].some_absent)
        for (index_t k = e; k < m; k++)
          if (instances[l].absent[k]) to_s[l][k - e] = __builtin_inf();
      if (!every) results.write_values(of[l], x + l * n, y + l * m, slack + l * m);
      results.write_scalars(of[l], GD_SOLVED, get_lane(v.objective, l), get_lane(v.primal, l), get_lane(v.dual, l),
                            get_lane(v.gap, l), get_lane(v.margin, l), progress.changes[l]);
    }
  }

  void write_certificate(int i, int l, double bound, int changes) {
    for (index_t k = 0; k < m; k++) y[k] = get_lane(k < e ? s.y_zero[k] : s.y[k - e], l) / bound;
    results.write_infeasible(i, y, changes);
  }

  // The rows that a warm start holds for active, for each lane.
  int load_guess(const int* of, int used) {
    const gd_tensor& wy = *job.warm_y;
    int most = 0;
    for (index_t i = 0; i < W * (n + 1); i++) guess[i] = -1;
    for (int l = 0; l < used; l++) {
      int found = 0;
      const index_t first = (begin + of[l]) * wy.batch;
      const bool plain = problem.dtype == GD_FLOAT64 && job.rows.in_order && wy.row == 1;
      const double* const there = static_cast<const double*>(wy.data) + first;
      for (index_t k = e; k < m && found < n - e; k++) {
        const double v = plain ? there[k] : read(wy, problem.dtype, first + job.rows.row_of[k] * wy.row);
        if (v > 0 && !instances[l].absent[k]) guess[(found++) * W + l] = int(k - e);
      }
      most = found > most ? found : most;
    }
    return most;
  }

  // Multiply–adds, two operations each: what the problems needed, not what idle lanes computed.
  double flops(int used, const Places<W>& p, const Progress<W>& progress) const {
    const double N = double(n), F = double(n - e), rows = double(m);
    double sum = 0;
    for (int l = 0; l < used; l++) {
      const double k = p.used[l], steps = progress.changes[l];
      if (!kShared) sum += N * N * N / 3 + rows * N * N + 2 * rows * double(e) * (N + F);
      sum += 2 * N * N + 4 * rows * N + steps * ((rows - double(e)) * F + 2 * F * k + k * k) + 4 * N * (N + rows);
    }
    return sum;
  }
};

}  // namespace GD_NAMESPACE
