// Solves a run of problems of one batch on one thread, W at a time.
//
//   1. fast interior point, to the point where Newton's method takes over (ipm/solve.cuh)
//   2. Newton polish to rounding error (derivative/newton.cuh); what fails resumes 1, goes further and tries again
//   3. what failed both: a careful interior point to full accuracy, then polish, and an honest status
//
// Between the stages a problem is its equilibrated iterate and its scaling, kept for the chunk. Every lane computes
// what it would compute alone: results do not depend on the batch, the chunk, the position or the number of threads.
#pragma once
#include "results.hpp"
#include "scatter.hpp"
#include "stages.cuh"

namespace GD_NAMESPACE {

// fast: from the start, in F. resumed: from the saved iterate, or from the start if there is none. careful: from the
// start, to full accuracy, with refinement.
enum class Run { fast, resumed, careful };

// T: packs of doubles, for everything that must be exact. F: packs for the fast interior point alone, which only has to
// bring Newton's method into its basin: single precision does that at twice the speed.
template <class T, class F>
struct ChunkSolver {
  static constexpr int W = Scalar<T>::lanes;
  const Solve& job;
  const gd_problem& problem;
  Counters& counters;
  Shape shape;
  InteriorState<F> quick;
  InteriorState<T> interior;
  MapState<T> map;
  static constexpr int kInstances = Scalar<F>::lanes > W ? Scalar<F>::lanes : W;
  Instance instances[kInstances];  // one per lane
  Results results;
  Saved& saved;
  index_t begin, count;
  int *list, *failed;
  StageSettings stages;

  // How many problems a chunk holds, given its share of memory: bounded, and a multiple of the lanes.
  static index_t chunk(const Shape& s) {
    const index_t fit = (index_t(4) << 20) / (8 * Saved::words(s.n, s.m()));
    const index_t lanes = Scalar<F>::lanes;
    const index_t many = fit < 32 * lanes ? fit : 32 * lanes;
    return many < lanes ? lanes : many / lanes * lanes;
  }

  static index_t carve_packs(const Shape& s, ChunkSolver* self, T* base) {
    Carver<T> memory{base, 0};
    InteriorState<T> i;
    MapState<T> m;
    i.carve(s, memory, memory, true, false);
    m.w = i.w;  // never used at the same time: one system serves both
    m.carve(s, memory, true);
    if (self) {
      self->interior = i;
      self->map = m;
    }
    return memory.used;
  }
  static index_t carve_doubles(const Shape& s, index_t capacity, ChunkSolver* self, double* base) {
    Carver<double> memory{base, 0};
    const index_t n = s.n, m = s.m();
    Instance instances[kInstances];
    for (Instance& p : instances) {
      p.carve(n, m, memory);
      p.order = n;
    }
    Saved v;
    v.x = memory.take(capacity * n);
    v.D = memory.take(capacity * n);
    v.z = memory.take(capacity * m);
    v.s = memory.take(capacity * m);
    v.E = memory.take(capacity * m);
    v.c = memory.take(capacity);
    v.kappa = memory.take(capacity);
    v.iterations = memory.take(capacity);
    v.newton = memory.take(capacity);
    v.state = reinterpret_cast<int*>(memory.take(capacity));
    v.result = reinterpret_cast<int*>(memory.take(capacity));
    int* list = reinterpret_cast<int*>(memory.take(capacity));
    int* failed = reinterpret_cast<int*>(memory.take(capacity));
    if (self) {
      for (int i = 0; i < kInstances; i++) self->instances[i] = instances[i];
      self->saved = v;
      self->list = list;
      self->failed = failed;
    }
    return memory.used;
  }
  static index_t carve_quick(const Shape& s, ChunkSolver* self, F* base) {
    Carver<F> memory{base, 0};
    InteriorState<F> i;
    i.carve(s, memory, memory, false, false);
    if (self) self->quick = i;
    return memory.used;
  }
  static index_t whole_lines(index_t bytes) { return (bytes + 63) / 64 * 64; }
  static index_t pack_bytes(const Shape& s) {
    return whole_lines(carve_packs(s, nullptr, nullptr) * index_t(sizeof(T)));
  }
  static index_t quick_bytes(const Shape& s) {
    return whole_lines(carve_quick(s, nullptr, nullptr) * index_t(sizeof(F)));
  }
  static index_t bytes(const Shape& s, index_t capacity) {
    return pack_bytes(s) + quick_bytes(s) + 8 * carve_doubles(s, capacity, nullptr, nullptr) + 64;
  }

  ChunkSolver(const Solve& job_, char* memory, index_t begin_, index_t end, Counters& counters_)
      : job(job_), problem(*job_.problem), counters(counters_), shape(shape_of(*job_.problem, job_.rows)),
        results{job_, *job_.problem, shape, begin_}, saved(results.saved), begin(begin_), count(end - begin_) {
    carve_packs(shape, this, reinterpret_cast<T*>(memory));
    carve_quick(shape, this, reinterpret_cast<F*>(memory + pack_bytes(shape)));
    carve_doubles(shape, count, this, reinterpret_cast<double*>(memory + pack_bytes(shape) + quick_bytes(shape)));
    prepare_padding(interior.w);
    prepare_padding(quick.w);
    stages = stage_settings(*job.settings, shape.rows, problem.dtype == GD_FLOAT32,
                            sizeof(Real<F>) == 4 && shape.rows.triples() == 0);
  }

  // Solves the problems at the positions `todo` of the chunk; all of them if null.
  void run(const int* todo, index_t n_todo) {
    index_t n_list = 0, n_failed = 0;
    double quick_iterations = 0;
    for (index_t i = 0; i < count; i++) {
      saved.iterations[i] = saved.newton[i] = 0;
      saved.state[i] = todo ? outcome::going : -1;
    }
    for (index_t i = 0; i < (todo ? n_todo : count); i++) {
      list[n_list++] = todo ? todo[i] : int(i);
      saved.state[list[i]] = -1;
    }
    if (job.warm_x && job.settings->polish) {
      n_failed = polish(list, n_list, false, newton_from_warm_start(), true);
      swap_lists(n_list, n_failed);
    }
    if (job.settings->polish) {
      if (kTriples<F> || shape.rows.triples() == 0) {
        n_list = interior_stage(quick, list, n_list, stages.fast, Run::fast);
        for (index_t i = 0; i < count; i++) quick_iterations += saved.iterations[i];
      } else {
        n_list = interior_stage(interior, list, n_list, stages.fast, Run::fast);
      }
      n_failed = polish(list, n_list, false, newton_after_fast());
      n_failed = add_unreached(n_failed);
      swap_lists(n_list, n_failed);
      n_list = interior_stage(interior, list, n_list, stages.later, Run::resumed);
      n_failed = polish(list, n_list, false, newton_after_careful());
      n_failed = add_unreached(n_failed);
      counters.resumed += n_failed;
      swap_lists(n_list, n_failed);
    }
    // Where the iterations are spent, what the earlier stages left is judged as it is.
    index_t n_spent = 0, n_left = 0;
    for (index_t i = 0; i < n_list; i++) {
      if (saved.iterations[list[i]] >= stages.strict.max_iter)
        failed[n_spent++] = list[i];
      else
        list[n_left++] = list[i];
    }
    n_list = interior_stage(interior, list, n_left, stages.strict, Run::careful);
    for (index_t i = 0; i < n_spent; i++) {
      saved.state[failed[i]] = outcome::iteration_limit;
      list[n_list++] = failed[i];
    }
    sort(list, n_list);
    polish(list, n_list, true, newton_after_careful());
    double interior_iterations = 0, newton_steps = 0;
    for (index_t i = 0; i < count; i++) {
      interior_iterations += saved.iterations[i];
      newton_steps += saved.newton[i];
    }
    counters.interior += long(interior_iterations);
    counters.newton += long(newton_steps);
    // An operation in single precision is half of one in double precision.
    const double doubles = interior_iterations - quick_iterations * (1 - double(sizeof(Real<F>)) / 8);
    counters.flops += doubles * (factor_flops(shape) + 3 * solve_flops(shape) + product_flops(shape)) +
                      newton_steps * (factor_flops(shape) + 2 * (solve_flops(shape) + product_flops(shape)));
  }

  // Adds what the interior point gave up on to the problems on which Newton's method failed.
  index_t add_unreached(index_t n_failed) {
    for (index_t i = 0; i < count; i++)
      if (saved.state[i] == outcome::stalled || saved.state[i] == outcome::iteration_limit) failed[n_failed++] = int(i);
    sort(failed, n_failed);
    return n_failed;
  }
  void swap_lists(index_t& n_list, index_t n_failed) {
    int* t = list;
    list = failed;
    failed = t;
    n_list = n_failed;
  }
  static void sort(int* a, index_t n) {  // insertion sort: short and nearly sorted
    for (index_t i = 1; i < n; i++) {
      const int v = a[i];
      index_t j = i;
      for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
      a[j] = v;
    }
  }

  // Gathers problem i of the chunk and its scaling; false if its data are bad (then it is finished).
  bool load_instance(Instance& instance, index_t i) {
    const Gathered g = instance.gather(problem, job.rows, begin + i);
    const bool first = saved.state[i] < 0;
    if (g == Gathered::asymmetric && (counters.asymmetric < 0 || counters.asymmetric > begin + i))
      counters.asymmetric = begin + i;
    if (g != Gathered::good || (first && job.settings->check_convex && instance.has_P &&
                                !instance.convex(reinterpret_cast<double*>(interior.w.k.L.data)))) {
      saved.state[i] = GD_INVALID_DATA;
      results.write_failure(i, GD_INVALID_DATA);
      return false;
    }
    const index_t n = shape.n, m = shape.m();
    if (first) {
      instance.scale(shape.rows);
      for (index_t j = 0; j < n; j++) saved.D[i * n + j] = instance.D[j];
      for (index_t k = 0; k < m; k++) saved.E[i * m + k] = instance.E[k];
      saved.c[i] = instance.c;
      saved.state[i] = 0;
    } else {
      for (index_t j = 0; j < n; j++) instance.D[j] = saved.D[i * n + j];
      for (index_t k = 0; k < m; k++) instance.E[k] = saved.E[i * m + k];
      instance.c = saved.c[i];
    }
    return true;
  }

  // ------------------------------------------------------------------------------------------ interior point

  // Feeds the interior point with the problems of a list and takes their iterates back. Q: its packs.
  template <class Q>
  struct Feeder {
    ChunkSolver& c;
    const int* todo;
    index_t n_todo, next;
    Run run;
    int* reached;
    index_t n_reached;
    int problem_of[Scalar<Q>::lanes];

    Mask<Q> exchange(InteriorState<Q>& s, Mask<Q> finished, Q out) {
      Q done = select(finished, broadcast<Q>(1), Q{}), live{};
      for (int lane = 0; lane < Scalar<Q>::lanes; lane++) {
        if (get_lane(done, lane) != 0 && problem_of[lane] >= 0) {
          store(s, lane, int(get_lane(out, lane)));
          problem_of[lane] = -1;
        }
      }
      refill(s);
      for (int lane = 0; lane < Scalar<Q>::lanes; lane++) set_lane(live, lane, Real<Q>(problem_of[lane] >= 0 ? 1 : 0));
      return live != Q{};
    }
    // New problems for the empty lanes. Waiting until several are empty was measured and gains nothing.
    void refill(InteriorState<Q>& s) {
      Scatter<Q> scatter;
      for (int lane = 0; lane < Scalar<Q>::lanes; lane++) {
        if (problem_of[lane] >= 0) continue;
        while (next < n_todo && problem_of[lane] < 0) {
          const int i = todo[next++];
          if (c.load_instance(c.instances[lane], i)) problem_of[lane] = i;
        }
        if (problem_of[lane] >= 0) scatter.add(lane, &c.instances[lane]);
      }
      scatter.problem(s.w, s.unit_x, s.unit_z, s.cost_scale);
      for (int l = 0; l < scatter.count && next + l < n_todo; l++)
        prefetch_problem(c.problem, c.begin + todo[next + l]);
      for (int l = 0; l < scatter.count; l++)
        c.load_interior(s, *scatter.of[l], problem_of[scatter.lane[l]], scatter.lane[l], run);
    }
    void store(InteriorState<Q>& s, int lane, int out) {
      const int i = problem_of[lane];
      c.saved.iterations[i] = double(get_lane(s.iterations, lane));
      c.saved.state[i] = out;
      if (outcome::is_certificate(out)) {
        const bool almost = out != outcome::primal_infeasible && out != outcome::dual_infeasible;
        if (sizeof(Real<Q>) == 8 && (run == Run::careful || !almost))
          c.results.write_certificate(s, i, lane, out);
        else  // single precision can suspect, not prove; what is almost one may become a whole one
          c.saved.state[i] = outcome::stalled;
        return;
      }
      const bool kept = c.save_interior(i, lane, s.x, s.z, s.s, s.tau, s.kappa);
      if (kept && out == outcome::reached) {
        reached[n_reached++] = i;
      } else if (run == Run::careful) {
        if (get_lane(s.best_merit, lane) < Real<Q>(1e29))
          c.save_interior(i, lane, s.best_x, s.best_z, s.best_s, s.best_tau, s.best_kappa);
        reached[n_reached++] = i;
      } else if (out == outcome::reached) {
        c.saved.state[i] = outcome::stalled;
      }
    }
  };

  // Runs a list through the interior point. Returns how many of it are to be polished, in order, in `list`.
  template <class Q>
  index_t interior_stage(InteriorState<Q>& state, const int* todo, index_t n_todo, const InteriorSettings& o, Run run) {
    if (n_todo == 0) return 0;
    Feeder<Q> feeder{*this, todo, n_todo, 0, run, list, 0, {}};
    for (int lane = 0; lane < Scalar<Q>::lanes; lane++) feeder.problem_of[lane] = -1;
    state.since_best = state.best_merit = state.short_steps = Q{};
    interior_point(Alone{}, state, o, feeder);
    sort(list, feeder.n_reached);
    return feeder.n_reached;
  }

  // A fresh start has x = 0, τ = κ = 1 and, cone by cone, what `cone_start` says. A resumed problem starts from its
  // saved iterate.
  template <class Q>
  void load_interior(InteriorState<Q>& s, Instance& instance, index_t i, int lane, Run run) {
    using R = Real<Q>;
    const index_t n = shape.n, m = shape.m();
    double *x = saved.x + i * n, *z = saved.z + i * m, *slack = saved.s + i * m, kappa = saved.kappa[i];
    // What has no iterations left keeps its iterate, too.
    const bool spent = saved.state[i] == outcome::iteration_limit && saved.iterations[i] >= stages.strict.max_iter;
    const bool resume = run == Run::resumed && (saved.state[i] == outcome::reached || spent);
    if (!resume) {
      double* b = instance.row;
      kappa = 1;
      for (index_t j = 0; j < n; j++) x[j] = 0;
      for (index_t k = 0; k < m; k++) b[k] = instance.b[k] * instance.E[k];
      cone_start(Alone{}, shape.rows, b, slack, z);
    }
    // Px, Aᵀz and Ax, for this lane alone.
    double *Az = instance.column, *Px = instance.column + n, *weight = instance.row;
    for (index_t k = 0; k < m; k++) weight[k] = z[k] * instance.E[k];
    weighted_rows(instance.A, m, n, n, weight, Az);
    for (index_t j = 0; j < n; j++) Px[j] = 0;
    for (index_t k = 0; k < m; k++) {
      const double* a = instance.A + k * n;
      double Ax = 0;
      if (resume)
        for (index_t j = 0; j < n; j++) Ax += a[j] * instance.D[j] * x[j];
      set_lane(s.Ax[k], lane, R(Ax * instance.E[k]));
      set_lane(s.z[k], lane, R(z[k]));
      set_lane(s.s[k], lane, R(slack[k]));
    }
    if (resume && instance.has_P)
      for (index_t r = 0; r < n; r++) {
        const double f = x[r] * instance.D[r] * instance.c;
        for (index_t j = 0; j < n; j++) Px[j] += f * instance.P[r * n + j];
      }
    for (index_t j = 0; j < n; j++) {
      set_lane(s.x[j], lane, R(x[j]));
      set_lane(s.Az[j], lane, R(Az[j] * instance.D[j]));
      set_lane(s.Px[j], lane, R(Px[j] * instance.D[j]));
    }
    set_lane(s.tau, lane, R(1));
    set_lane(s.kappa, lane, R(kappa));
    set_lane(s.iterations, lane, R(saved.iterations[i]));
    set_lane(s.regularisation, lane, R(first_regularisation(sizeof(R) == 4, run == Run::careful)));
    set_lane(s.best_merit, lane, R(1e30));
    set_lane(s.since_best, lane, R(0));
    set_lane(s.short_steps, lane, R(0));
  }

  template <class Q>
  bool save_interior(index_t i, int lane, const Q* x, const Q* z, const Q* s, const Q& tau, const Q& kappa) {
    const index_t n = shape.n, m = shape.m();
    const double inverse = 1 / double(get_lane(tau, lane));
    double sum = 0;
    for (index_t j = 0; j < n; j++) sum += absolute(saved.x[i * n + j] = double(get_lane(x[j], lane)) * inverse);
    for (index_t k = 0; k < m; k++) {
      sum += absolute(saved.z[i * m + k] = double(get_lane(z[k], lane)) * inverse);
      sum += absolute(saved.s[i * m + k] = double(get_lane(s[k], lane)) * inverse);
    }
    saved.kappa[i] = double(get_lane(kappa, lane)) * inverse;
    return sum < 1e100;
  }

  // ------------------------------------------------------------------------------------------ polish

  // Newton from the saved iterates (or the warm start). Problems that converge are written out; the others are too if
  // `last`, with the better of what Newton and the interior point found, else they go to `failed`. Returns their
  // number.
  index_t polish(const int* todo, index_t n_todo, bool last, const NewtonSettings& o, bool warm = false) {
    index_t n_failed = 0;
    int lane_problem[W];
    for (index_t first = 0; first < n_todo;) {
      int used = 0;
      Scatter<T> scatter;
      for (; used < W && first < n_todo; first++) {
        const int i = todo[first];
        Instance& instance = instances[used];
        if (!load_instance(instance, i)) continue;
        if (!load_map(instance, i, used, warm)) {
          failed[n_failed++] = i;
          continue;
        }
        scatter.add(used, &instance);
        lane_problem[used++] = i;
      }
      scatter.problem(map.w, map.unit_x, map.unit_z, map.cost_scale);
      for (index_t i = first; i < n_todo && i < first + W; i++) prefetch_problem(problem, begin + todo[i]);
      if (used) n_failed = polish_pack(lane_problem, used, last, o, n_failed);
    }
    return n_failed;
  }

  bool load_map(Instance& instance, index_t i, int lane, bool warm) {
    using R = Real<T>;
    const index_t n = shape.n, m = shape.m();
    if (warm) {
      const gd_tensor &wx = *job.warm_x, &wy = *job.warm_y, &ws = *job.warm_s;
      double sum = 0;
      for (index_t j = 0; j < n; j++)
        sum +=
            absolute(saved.x[i * n + j] = read(wx, problem.dtype, (begin + i) * wx.batch + j * wx.row) / instance.D[j]);
      for (index_t k = 0; k < m; k++) {
        const index_t r = job.rows.row_of[k];
        const double y = read(wy, problem.dtype, (begin + i) * wy.batch + r * wy.row);
        const double s = read(ws, problem.dtype, (begin + i) * ws.batch + r * ws.row);
        saved.z[i * m + k] = instance.absent[k] ? 0 : y * instance.c / instance.E[k];
        saved.s[i * m + k] = instance.absent[k] ? 1 : s * instance.E[k];
        sum += absolute(saved.z[i * m + k]) + absolute(saved.s[i * m + k]);
      }
      if (!(sum < 1e100)) return false;
    }
    for (index_t j = 0; j < n; j++) set_lane(map.x[j], lane, R(saved.x[i * n + j]));
    for (index_t k = 0; k < m; k++) set_lane(map.v[k], lane, R(saved.z[i * m + k] - saved.s[i * m + k]));
    for (index_t k = shape.rows.triple_start, end = k + 3 * shape.rows.triples(); k < end; k++) {  // for `cone_project`
      set_lane(map.y[k], lane, R(saved.z[i * m + k]));
      set_lane(map.s[k], lane, R(saved.s[i * m + k]));
    }
    return true;
  }

  index_t polish_pack(const int* lane_problem, int used, bool last, const NewtonSettings& o, index_t n_failed) {
    T flags{};
    for (int lane = 0; lane < used; lane++) set_lane(flags, lane, Real<T>(1));
    const Mask<T> live = flags != T{};
    Judged<T> judged = polish_point(Alone{}, map, live, job.settings->polish != 0, o, stages);
    if (last && !all((judged.merit <= broadcast<T>(1)) | negate(live)))
      keep_better_point(Alone{}, map, judged, stages, [&] {
        for (int lane = 0; lane < used; lane++) {
          const index_t i = lane_problem[lane];
          for (index_t j = 0; j < shape.n; j++) set_lane(map.x[j], lane, Real<T>(saved.x[i * shape.n + j]));
          for (index_t k = 0; k < shape.m(); k++) {
            set_lane(map.y[k], lane, Real<T>(saved.z[i * shape.m() + k]));
            set_lane(map.s[k], lane, Real<T>(k < shape.rows.zero ? 0 : saved.s[i * shape.m() + k]));
          }
        }
      });
    for (int lane = 0; lane < used; lane++) {
      const int i = lane_problem[lane];
      saved.newton[i] += double(get_lane(judged.factorisations, lane));
      const double merit = double(get_lane(judged.merit, lane));
      if (!last && !(merit <= 1)) {
        failed[n_failed++] = i;
        continue;
      }
      const int status = final_status(merit, double(get_lane(judged.almost_merit, lane)), saved.state[i]);
      saved.state[i] = status;
      if (status <= GD_ALMOST_SOLVED)
        results.write_point(map, i, lane, status, judged.residuals, judged.margin);
      else
        results.write_failure(i, status);
    }
    return n_failed;
  }
};

}  // namespace GD_NAMESPACE
