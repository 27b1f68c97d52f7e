// jvp and vjp of a run of problems on one thread, W at a time (derivative/sensitivity.cuh). A pack is loaded and
// factorised once for all directions, which are then solved for side by side: none depends on another.
//
// An inactive inequality takes no part in the linearised system: its multiplier stays zero and its slack follows x. So
// a lane holds the rows of the other cones and, behind them, its problem's active inequalities only. With smoothing all
// of them take part, absent ones as rows of zeros.
#pragma once
#include "../derivative/sensitivity.cuh"
#include "active_set_sensitivity.hpp"
#include "outer_products.hpp"
#include "solve_chunk.hpp"

namespace GD_NAMESPACE {

using gpudiff_entry::Sensitivity;

// Directions are worked off so many at a time; a problem that the working set leaves to the general system notes which
// of them in one word. Factorising anew for the next ones costs little then.
constexpr index_t kDirectionsAtOnce = 64;

struct LeftOver {
  index_t problem;
  uint64_t directions;  // bit d: the d-th of the `kDirectionsAtOnce`
};

template <class T>
struct ChunkSensitivity {
  static constexpr int W = Scalar<T>::lanes;
  using R = Real<T>;
  const Sensitivity& call;
  Sensitivity job;                   // the call as it looks in one direction, see `aim`
  gd_tensor aimed[8];                // the tensors of that
  index_t first, last;               // directions
  int side;                          // of that direction, among those that are solved for side by side
  double objective[kSideBySide][W];  // jvp: the objective's tangent
  const gd_problem& problem;
  const gd_point& point;
  Counters& counters;
  Shape shape;
  index_t n, m;
  int type;
  MapState<T> map;
  bool by_working_set;  // solve with the active-set method's own factors, in the problems' own units
  WorkingSetSystem<T> working_set;
  Instance instances[W];        // one per lane
  double *x, *y, *s;            // [W, n], [W, m], [m] the points, in their own units and the kernel's row order
  double *e1, *e2;              // [W, n], [W, m] right-hand sides, then solutions, by the lanes' rows
  double *column, *row_values;  // [n], [m] scratch
  double* gradient;             // [n or m, n] scratch
  index_t *slot, *row_at;       // [W, m] the lane's row that holds row k, and back; −1: none
  index_t* cone_start;          // [second-order cones, PSD cones] first row in the lane's order

  static index_t carve_packs(const Shape& s, ChunkSensitivity* self, T* base) {
    Carver<T> memory{base, 0};
    MapState<T> m;
    m.w.carve(s, memory, memory, false);
    m.carve(s, memory, true, kSideBySide);
    if (self) self->map = m;
    return memory.used;
  }
  static index_t carve_doubles(const Shape& s, ChunkSensitivity* self, double* base) {
    Carver<double> memory{base, 0};
    Instance instances[W];
    for (Instance& p : instances) {
      p.carve(s.n, s.m(), memory);
      p.order = s.n;
    }
    double *x = memory.take(W * s.n), *y = memory.take(W * s.m()), *slacks = memory.take(s.m());
    double *e1 = memory.take(W * s.n), *e2 = memory.take(W * s.m());
    double *column = memory.take(s.n), *row_values = memory.take(s.m());
    double* gradient = memory.take((s.n > s.m() ? s.n : s.m()) * s.n);
    index_t* slot = reinterpret_cast<index_t*>(memory.take(W * s.m()));
    index_t* row_at = reinterpret_cast<index_t*>(memory.take(W * s.m()));
    index_t* cone_start =
        reinterpret_cast<index_t*>(memory.take(s.rows.second_order_count + s.rows.semidefinite_count));
    if (self) {
      for (int i = 0; i < W; i++) self->instances[i] = instances[i];
      self->x = x, self->y = y, self->s = slacks;
      self->e1 = e1, self->e2 = e2;
      self->column = column, self->row_values = row_values, self->gradient = gradient;
      self->slot = slot;
      self->row_at = row_at;
      self->cone_start = cone_start;
    }
    return memory.used;
  }
  static index_t pack_bytes(const Shape& s) {
    return (carve_packs(s, nullptr, nullptr) * index_t(sizeof(T)) + 63) / 64 * 64;
  }
  static index_t double_bytes(const Shape& s) { return (8 * carve_doubles(s, nullptr, nullptr) + 63) / 64 * 64; }
  static index_t bytes(const Shape& s, bool by_working_set) {
    return pack_bytes(s) + double_bytes(s) +
           (by_working_set ? WorkingSetSystem<T>::carve(nullptr, s.n, s.m(), nullptr) : 0) + 64;
  }

  // For the directions from `first` on that are worked off together.
  ChunkSensitivity(const Sensitivity& call_, index_t first_, char* memory, Counters& counters_, bool by_working_set_)
      : call(call_), job(call_), first(first_),
        last(call_.directions - first_ < kDirectionsAtOnce ? call_.directions : first_ + kDirectionsAtOnce),
        problem(*call_.problem), point(*call_.point), counters(counters_), shape(shape_of(*call_.problem, call_.rows)),
        n(shape.n), m(shape.m()), type(call_.problem->dtype), by_working_set(by_working_set_) {
    carve_packs(shape, this, reinterpret_cast<T*>(memory));
    carve_doubles(shape, this, reinterpret_cast<double*>(memory + pack_bytes(shape)));
    if (by_working_set)
      WorkingSetSystem<T>::carve(&working_set, n, m, memory + pack_bytes(shape) + double_bytes(shape));
    else
      prepare_padding(map.w);
    ConeRows& rows = map.w.shape.rows;
    for (index_t cone = 0; cone < rows.second_order_count; cone++)
      cone_start[cone] = job.rows.second_order_start[cone] - rows.nonnegative;
    rows.second_order_start = cone_start;
    index_t* const semidefinite_start = cone_start + rows.second_order_count;
    for (index_t cone = 0; cone < rows.semidefinite_count; cone++)
      semidefinite_start[cone] = job.rows.semidefinite_start[cone] - rows.nonnegative;
    rows.semidefinite_start = semidefinite_start;
    rows.triple_start -= rows.nonnegative;
    rows.nonnegative_start = m - rows.nonnegative;
  }

  // Makes `job` and `side` those of direction d.
  void aim(index_t d) {
    static constexpr const gd_tensor* Sensitivity::* kTensors[] = {&Sensitivity::P, &Sensitivity::q,  &Sensitivity::A,
                                                                   &Sensitivity::b, &Sensitivity::x,  &Sensitivity::y,
                                                                   &Sensitivity::s, &Sensitivity::obj};
    static constexpr double* Sensitivity::* kSums[] = {&Sensitivity::P_sum, &Sensitivity::q_sum, &Sensitivity::A_sum,
                                                       &Sensitivity::b_sum};
    side = int((d - first) % kSideBySide);
    gd_tensor* to = aimed;
    for (const auto tensor : kTensors) {
      if (!(call.*tensor)) continue;
      *to = *(call.*tensor);
      to->data = static_cast<char*>(to->data) + d * to->direction * (type == GD_FLOAT64 ? 8 : 4);
      job.*tensor = to++;
    }
    for (const auto sum : kSums)
      if (call.*sum) job.*sum = call.*sum + d * call.sum_words;
  }

  // The rows of a pack: as many active inequalities as the lane with the most has.
  void set_active(index_t count) {
    ConeRows& rows = map.w.shape.rows;
    rows.nonnegative = count;
    rows.total = rows.nonnegative_start + count;
    map.w.k.scaled_rows = rows.conic();
  }

  bool smoothed() const { return job.what.smoothing > 0; }
  double vector(const gd_tensor& t, index_t i, index_t k) const { return read(t, type, i * t.batch + k * t.row); }
  index_t row(index_t k) const { return job.rows.row_of[k]; }
  bool solved(index_t i) const { return point.status[i] == GD_SOLVED || point.status[i] == GD_ALMOST_SOLVED; }

  // A vector of problem i, over the rows of A in the kernel's order.
  void over_rows(const gd_tensor& t, index_t i, double* out) const {
    if (job.rows.in_order) {
      copy_row(t, type, i * t.batch, t.row, m, out);
    } else {
      for (index_t k = 0; k < m; k++) out[k] = vector(t, i, row(k));
    }
  }

  // Problem i and its solution, equilibrated, for `lane`. Returns the number of active inequalities, or −1.
  index_t load(index_t i, int lane) {
    Instance& instance = instances[lane];
    // Data that have changed since the solve would be found out by their residual.
    const Known known = by_working_set ? Known::finite : Known::nothing;
    if (!solved(i) || instance.gather(problem, job.rows, i, known) != Gathered::good) return -1;
    if (by_working_set)
      instance.unscaled(shape.rows);
    else
      instance.scale(shape.rows);
    double* const y_here = y + lane * m;
    copy_row(point.x, type, i * point.x.batch, point.x.row, n, x + lane * n);
    over_rows(point.y, i, y_here);
    over_rows(point.s, i, s);
    const index_t zero = job.rows.zero, cones = zero + job.rows.nonnegative, first = map.w.shape.rows.nonnegative_start;
    index_t next = first, *const slots = slot + lane * m, *const rows = row_at + lane * m;
    for (index_t k = 0; k < m; k++) {
      const bool inequality = k >= zero && k < cones, gone = instance.absent[k];
      if (gone) y_here[k] = 0;
      const double slack = gone ? 1 : k < zero ? 0.0 : s[k] * instance.E[k];
      const double v = y_here[k] * instance.c / instance.E[k] - slack;
      index_t at = k < zero ? k : k - job.rows.nonnegative;
      if (inequality) at = v > 0 || smoothed() ? next++ : -1;
      slots[k] = at;
      if (at < 0) continue;
      rows[at] = k;
      if (by_working_set) continue;
      set_lane(map.v[at], lane, R(v));
      set_lane(map.t[at], lane, R(v + slack));  // for `cone_project`, as is the next one
      set_lane(map.best_v[at], lane, R(slack));
      set_lane(map.unit_z[at], lane, R(1 / instance.E[k]));
      if (smoothed()) set_lane(map.w.b[at], lane, R(instance.b[k] * instance.E[k]));
    }
    if (!by_working_set) {
      for (index_t j = 0; j < n; j++) set_lane(map.unit_x[j], lane, R(1 / (instance.D[j] * instance.c)));
      set_lane(map.cost_scale, lane, R(instance.c));
    }
    for (index_t j = 0; smoothed() && j < n; j++) {
      set_lane(map.w.q[j], lane, R(instance.q[j] * instance.D[j] * instance.c));
      set_lane(map.x[j], lane, R(x[lane * n + j] / instance.D[j]));
    }
    return next - first;
  }

  // Replaces the points of the pack by those of the central path, and factorises there. Returns the lanes that have
  // one. Once for jvp and vjp together, as it is much code.
  __attribute__((noinline)) unsigned move_to_central_path(int used, Mask<T> live) {
    T mu = broadcast<T>(1);
    for (int lane = 0; lane < used; lane++) set_lane(mu, lane, R(job.what.smoothing * instances[lane].c));
    const CentralPoint<T> central = find_central_point(Alone{}, map, mu, live);
    double *points_x[W], *points_y[W];
    for (int lane = 0; lane < W; lane++) {
      points_x[lane] = x + (lane < used ? lane : 0) * n;
      points_y[lane] = e2 + (lane < used ? lane : 0) * m;
    }
    deinterleave(map.x, n, points_x, used);
    deinterleave(map.y, m, points_y, used);
    for (int lane = 0; lane < used; lane++) {
      const Instance& p = instances[lane];
      for (index_t j = 0; j < n; j++) x[lane * n + j] *= p.D[j];
      for (index_t k = 0; k < m; k++)
        y[lane * m + k] = p.absent[k] ? 0.0 : points_y[lane][slot[lane * m + k]] * p.E[k] / p.c;
      const double count = double(get_lane(central.factorisations, lane));
      counters.newton += long(count);
      counters.flops += count * (factor_flops(shape) + 2 * solve_flops(shape) + 3 * product_flops(shape));
    }
    factorise_central(Alone{}, map);
    return lane_bits<T>(central.found);
  }
  // ∇(½xᵀPx + qᵀx), entry j.
  double objective_slope(const Instance& instance, const double* x, index_t j) const {
    double sum = instance.q[j];
    for (index_t l = 0; instance.has_P && l < n; l++) sum += instance.P[j * n + l] * x[l];
    return sum;
  }

  // Lane `lane` has no rows from `first` on, where others of the pack have some: inactive here.
  void pad(int lane, index_t first, index_t end) {
    for (index_t at = first; at < end; at++) {
      row_at[lane * m + at] = -1;
      if (!by_working_set) set_lane(map.v[at], lane, R(-1));
    }
  }

  // Asks for what a later pack will read.
  void prefetch(index_t i) const {
    if (!by_working_set) return prefetch_problem(problem, i);
    prefetch_rows(problem, problem.P, i, 0, n);
    for (index_t k = 0; k < m; k++)
      if (k < job.rows.zero || vector(point.y, i, row(k)) > 0) prefetch_rows(problem, problem.A, i, row(k), 1);
  }

  // Problems of a chunk: those at `todo`, or all from `begin` on, in all directions, if that is null.
  struct Todo {
    const LeftOver* todo;
    index_t begin, count;
    LeftOver operator[](index_t k) const { return todo ? todo[k] : LeftOver{begin + k, ~uint64_t(0)}; }
  };

  // Returns how many problems are left to the general system, which is said in `left`.
  template <class Load, class Unload, class Skip>
  index_t run(Todo todo, LeftOver* left, Load load_right, Unload unload, Skip skip) {
    LeftOver of[W];
    index_t rows[W], n_left = 0;
    const index_t fixed = map.w.shape.rows.nonnegative_start;
    for (index_t next = 0; next < todo.count;) {
      T flags{};
      int used = 0;
      index_t most = 0;
      Scatter<T> scatter;
      for (; used < W && next < todo.count; next++) {
        const LeftOver item = todo[next];
        const index_t active = load(item.problem, used);
        if (active < 0) {
          for (index_t d = first; d < last; d++) {
            aim(d);
            skip(item.problem);
          }
          continue;
        }
        if (by_working_set && fixed + active > working_set.room) {
          left[n_left++] = item;
          continue;
        }
        most = active > most ? active : most;
        scatter.add(used, &instances[used], row_at + used * m);
        set_lane(flags, used, R(1));
        rows[used] = fixed + active;
        of[used++] = item;
      }
      if (!used) break;
      for (index_t k = next; k < todo.count && k < next + W; k++) prefetch(todo[k].problem);
      set_active(most);
      const index_t all = fixed + most;
      for (int lane = 0; lane < used; lane++) pad(lane, rows[lane], all);
      unsigned good = (1u << used) - 1u;
      if (by_working_set) {
        good = working_set.factorise(instances, used, row_at, m, all);
      } else {
        scatter.matrix(map.w.A, map.w.shape.m(), n);
        scatter.objective(map.w);
        if (smoothed())
          good &= move_to_central_path(used, flags != T{});
        else
          factorise_sensitivity(Alone{}, map);
      }
      counters.newton += used;
      counters.flops += used * factor_flops(map.w.shape);
      uint64_t failed[W] = {};
      for (index_t d = first; d < last;) {
        const auto solve_some = [&](auto sides) {
          constexpr int S = decltype(sides)::value;
          index_t direction[S];
          unsigned asked[S], done[S];
          for (int side = 0; side < S; side++) {
            direction[side] = d++;
            asked[side] = 0;
            for (int lane = 0; lane < used; lane++)
              asked[side] |= of[lane].directions & bit_of(direction[side]) ? 1u << lane : 0u;
            done[side] = asked[side] & good;
            aim(direction[side]);
            for (int lane = 0; lane < used; lane++)
              load_side(of[lane].problem, lane, all, asked[side] >> lane & 1u, load_right);
            put_sides(side, used, all);
          }
          solve(done, flags != T{});
          counters.flops += S * 3 * used * (solve_flops(map.w.shape) + product_flops(map.w.shape));
          for (int side = 0; side < S; side++) {
            aim(direction[side]);
            take_sides(side, used, all);
            // In the problems' order, so that sums over a shared argument are deterministic.
            for (int lane = 0; lane < used; lane++) {
              if (done[side] >> lane & 1u)
                unload(of[lane].problem, lane);
              else if (smoothed())
                skip(of[lane].problem);
              else if (asked[side] >> lane & 1u)
                failed[lane] |= bit_of(direction[side]);
            }
          }
        };
        if (last - d >= kSideBySide)
          solve_some(Sides<kSideBySide>{});
        else
          solve_some(Sides<1>{});
      }
      for (int lane = 0; lane < used; lane++)
        if (failed[lane]) left[n_left++] = {of[lane].problem, failed[lane]};
    }
    return n_left;
  }

  template <int S>
  struct Sides {
    static constexpr int value = S;
  };
  uint64_t bit_of(index_t direction) const { return uint64_t(1) << (direction - first); }

  // A lane's right-hand side; zeros where it is not asked for, and in rows that only others have.
  template <class Load>
  void load_side(index_t i, int lane, index_t all, bool asked, Load load_right) {
    for (index_t at = 0; at < all; at++) e2[lane * m + at] = 0;
    if (asked) return load_right(instances[lane], i, lane);
    for (index_t j = 0; j < n; j++) e1[lane * n + j] = 0;
  }

  // From e1 and e2 to the right-hand side of that number.
  void put_sides(int side, int used, index_t all) {
    double *right_x[W], *right_y[W];
    sides(used, right_x, right_y);
    for (int lane = used; lane < W; lane++) right_x[lane] = e1, right_y[lane] = e2;
    T* const rows = map.e2 + side * map.w.shape.row_words();
    interleave(right_x, n, map.e1 + side * shape.columns(), index_t(1));
    interleave(right_y, all, rows, index_t(1));
    for (index_t k = all; k < padded(all); k++) rows[k] = T{};
  }
  // And the solution from there to e1 and e2.
  void take_sides(int side, int used, index_t all) {
    double *right_x[W], *right_y[W];
    sides(used, right_x, right_y);
    const T* const u = by_working_set ? working_set.u + side * working_set.apart() : map.u + side * shape.columns();
    const T* const t =
        by_working_set ? working_set.t + side * working_set.rows_apart() : map.t + side * map.w.shape.row_words();
    deinterleave(u, n, right_x, used);
    deinterleave(t, all, right_y, used);
  }
  // Where those of each lane begin.
  void sides(int lanes, double** right_x, double** right_y) const {
    for (int lane = 0; lane < lanes; lane++) {
      right_x[lane] = e1 + lane * n;
      right_y[lane] = e2 + lane * m;
    }
  }
  // Solves for S right-hand sides in the lanes of `good`, where those remain in which that went well.
  template <int S>
  void solve(unsigned (&good)[S], Mask<T> live) {
    if (by_working_set) return working_set.solve(good, map.e1, shape.columns(), map.e2, map.w.shape.row_words());
    solve_sensitivity<S>(Alone{}, map, smoothed() ? nullptr : &map.N, live);
    for (int side = 0; smoothed() && side < S; side++)
      good[side] &= lane_bits<T>(finite_sensitivity(Alone{}, map, side));
  }

  // ------------------------------------------------------------------------------------------ forward

  index_t jvp(Todo todo, LeftOver* left) {
    return run(
        todo, left, [&](Instance& p, index_t i, int lane) { load_tangent(p, i, lane); },
        [&](index_t i, int lane) { write_tangent(i, lane); },
        [&](index_t i) {
          for (index_t j = 0; job.x && j < n; j++) write(*job.x, type, i * job.x->batch + j * job.x->row, 0);
          for (index_t k = 0; k < m; k++) {
            if (job.y) write(*job.y, type, i * job.y->batch + k * job.y->row, 0);
            if (job.s) write(*job.s, type, i * job.s->batch + k * job.s->row, 0);
          }
          if (job.obj) write(*job.obj, type, i * job.obj->batch, 0);
        });
  }

  void load_tangent(Instance& instance, index_t i, int lane) {
    // r₁ = −(dP x + dq + dAᵀy), r₂ = −(dA x − db); the objective's tangent by the envelope theorem on the way.
    double objective = 0;
    double *r1 = e1 + lane * n, *r2 = row_values, *buffer = instance.column;
    const double *x = this->x + lane * n, *y = this->y + lane * m;
    for (index_t j = 0; j < n; j++) r1[j] = 0;
    if (job.P) {
      for (index_t a = 0; a < n; a++) {  // the symmetric part, as P is symmetric
        copy_row(*job.P, type, i * job.P->batch + a * job.P->row, job.P->col, n, buffer);
        double sum = 0;
        for (index_t j = 0; j < n; j++) {
          sum += buffer[j] * x[j];
          r1[j] -= 0.5 * buffer[j] * x[a];
        }
        r1[a] -= 0.5 * sum;
        objective += 0.5 * sum * x[a];
      }
    }
    if (job.q) {
      for (index_t j = 0; j < n; j++) {
        const double dq = vector(*job.q, i, j);
        r1[j] -= dq;
        objective += dq * x[j];
      }
    }
    for (index_t k = 0; k < m; k++) {
      double r = 0;
      if (!instance.absent[k]) {
        if (job.b) r += vector(*job.b, i, row(k));
        if (job.A) {
          copy_row(*job.A, type, i * job.A->batch + row(k) * job.A->row, job.A->col, n, buffer);
          for (index_t j = 0; j < n; j++) {
            r -= buffer[j] * x[j];
            r1[j] -= buffer[j] * y[k];
          }
        }
      }
      r2[k] = r;
      if (!smoothed()) objective -= y[k] * r;
    }
    for (index_t j = 0; j < n; j++) r1[j] *= instance.D[j] * instance.c;
    for (index_t k = 0; k < m; k++) {
      const index_t at = slot[lane * m + k];
      if (at >= 0) e2[lane * m + at] = r2[k] * instance.E[k];
      // ds = r₂ − A dx, once dx is known: an absent row has none.
      if (job.s) write(*job.s, type, i * job.s->batch + row(k) * job.s->row, r2[k]);
    }
    this->objective[side][lane] = objective;
  }

  void write_tangent(index_t i, int lane) {
    Instance& instance = instances[lane];
    double* dx = e1 + lane * n;
    for (index_t j = 0; j < n; j++) dx[j] *= instance.D[j];
    double obj = objective[side][lane];
    for (index_t j = 0; smoothed() && job.obj && j < n; j++) obj += objective_slope(instance, x + lane * n, j) * dx[j];
    if (job.obj) write(*job.obj, type, i * job.obj->batch, obj);
    for (index_t j = 0; job.x && j < n; j++) write(*job.x, type, i * job.x->batch + j * job.x->row, dx[j]);
    for (index_t k = 0; job.y && k < m; k++) {
      const index_t at = slot[lane * m + k];
      write(*job.y, type, i * job.y->batch + row(k) * job.y->row,
            at < 0 ? 0.0 : e2[lane * m + at] * instance.E[k] / instance.c);
    }
    for (index_t k = 0; job.s && k < m; k++) {
      const index_t offset = i * job.s->batch + row(k) * job.s->row;
      double ds = k < job.rows.zero || absent(i, k) ? 0.0 : read(*job.s, type, offset);
      if (k >= job.rows.zero && !absent(i, k)) {
        copy_row(problem.A, type, i * problem.A.batch + row(k) * problem.A.row, problem.A.col, n, instance.column);
        for (index_t j = 0; j < n; j++) ds -= instance.column[j] * dx[j];
      }
      write(*job.s, type, offset, ds);
    }
  }
  bool absent(index_t i, index_t k) const {
    return k >= job.rows.zero && k < job.rows.zero + job.rows.nonnegative &&
           vector(problem.b, i, row(k)) == __builtin_inf();
  }

  // ------------------------------------------------------------------------------------------ reverse

  index_t vjp(Todo todo, LeftOver* left) {
    const index_t n_left = run(
        todo, left, [&](Instance& p, index_t i, int lane) { load_cotangent(p, i, lane); },
        [&](index_t i, int lane) { write_cotangent(i, lane); }, [&](index_t i) { write_zeros(i); });
    finish_streams();
    return n_left;
  }

  void load_cotangent(Instance& instance, index_t i, int lane) {
    // e₁ = x̄ − Aᵀs̄, e₂ = ȳ
    double *right = e1 + lane * n, *right_rows = e2 + lane * m;
    if (job.x)
      copy_row(*job.x, type, i * job.x->batch, job.x->row, n, right);
    else
      for (index_t j = 0; j < n; j++) right[j] = 0;
    for (index_t k = job.rows.zero; job.s && k < m; k++) {
      const double s_bar = instance.absent[k] ? 0.0 : vector(*job.s, i, row(k));
      if (s_bar != 0)
        for (index_t j = 0; j < n; j++) right[j] -= instance.A[k * n + j] * s_bar;
    }
    const double o_bar = smoothed() && job.obj ? vector(*job.obj, i, 0) : 0.0;
    for (index_t j = 0; o_bar != 0 && j < n; j++) right[j] += o_bar * objective_slope(instance, x + lane * n, j);
    for (index_t k = 0; job.y && k < m; k++) {
      const index_t at = slot[lane * m + k];
      if (at >= 0 && !instance.absent[k]) right_rows[at] = vector(*job.y, i, row(k)) * instance.E[k] / instance.c;
    }
    const double* const D = instance.D;
    for (index_t j = 0; j < n; j++) right[j] *= D[j];
  }

  void write_cotangent(index_t i, int lane) {
    Instance& instance = instances[lane];
    const double *x = this->x + lane * n, *y = this->y + lane * m;
    // Local, so that the loops over them are SIMD.
    double *const a = e1 + lane * n, *const cv = row_values, *const b = instance.row;
    const double *const D = instance.D, *const E = instance.E, *const w_rows = e2 + lane * m, c = instance.c;
    const index_t* const slots = slot + lane * m;
    const double objective = job.obj ? vector(*job.obj, i, 0) : 0.0;
    for (index_t j = 0; j < n; j++) a[j] *= D[j] * c;
    for (index_t k = 0; k < m; k++) cv[k] = slots[k] < 0 ? 0.0 : w_rows[slots[k]] * E[k];
    if (job.s)
      for (index_t k = job.rows.zero; k < m; k++)
        if (!absent(i, k)) cv[k] += vector(*job.s, i, row(k));
    // Envelope: obj adds ½xxᵀ, x, yxᵀ and −y, the latter two not with smoothing.
    const double of_rows = smoothed() ? 0.0 : objective;
    if (job.P) {
      double* const w = column;
      for (index_t j = 0; j < n; j++) w[j] = 0.25 * objective * x[j] - 0.5 * a[j];
      const Gradient out(*this, *job.P, job.P_sum, i, n);
      symmetric_outer_product(x, w, n, [&](index_t r) { return out.row(r); });
      out.finish();
    }
    if (job.q) {
      double* const w = column;
      for (index_t j = 0; j < n; j++) w[j] = objective * x[j] - a[j];
      emit_vector(*job.q, job.q_sum, i, n, w);
    }
    if (job.A) {
      const Gradient out(*this, *job.A, job.A_sum, i, m);
      for (index_t k = 0; k < m; k++) combine_row(of_rows * y[k] - cv[k], x, y[k], a, n, out.row(row(k)));
      out.finish();
    }
    if (job.b) {
      if (job.rows.in_order)
        for (index_t k = 0; k < m; k++) b[k] = cv[k] - of_rows * y[k];
      else
        for (index_t k = 0; k < m; k++) b[row(k)] = cv[k] - of_rows * y[k];
      emit_vector(*job.b, job.b_sum, i, m, b);
    }
  }

  // A problem's gradient of a matrix of `count` rows of n: written where it belongs, or to a buffer first, if there are
  // sums to be formed, numbers to be rounded, or more to be written in all than a cache holds.
  struct Gradient {
    static constexpr index_t kStreamed = index_t(1) << 21;  // numbers in the whole call
    ChunkSensitivity& chunk;
    const gd_tensor& t;
    double *sum, *place, *buffer;
    index_t i, count, n;
    bool streamed;

    Gradient(ChunkSensitivity& chunk_, const gd_tensor& t_, double* sum_, index_t i_, index_t count_)
        : chunk(chunk_), t(t_), sum(sum_), place(nullptr), buffer(chunk_.gradient), i(i_), count(count_), n(chunk_.n) {
      if (!sum && chunk.type == GD_FLOAT64 && t.col == 1) place = static_cast<double*>(t.data) + i * t.batch;
      streamed = place && t.row == n && chunk.call.directions * chunk.problem.batch * count * n >= kStreamed;
    }
    double* row(index_t r) const { return place && !streamed ? place + r * t.row : buffer + r * n; }
    void finish() const {
      if (streamed) stream_out(buffer, count * n, place);
      for (index_t r = 0; !place && r < count; r++) chunk.emit(t, sum, i, r, n, buffer + r * n);
    }
  };

  void emit(const gd_tensor& t, double* sum, index_t i, index_t r, index_t count, const double* values) {
    if (sum) {
      for (index_t j = 0; j < count; j++) sum[r * count + j] += values[j];
    } else {
      for (index_t j = 0; j < count; j++) write(t, type, i * t.batch + r * t.row + j * t.col, values[j]);
    }
  }
  void emit_vector(const gd_tensor& t, double* sum, index_t i, index_t count, const double* values) {
    if (sum) {
      for (index_t j = 0; j < count; j++) sum[j] += values[j];
    } else if (type == GD_FLOAT64 && t.row == 1) {
      __builtin_memcpy(static_cast<double*>(t.data) + i * t.batch, values, count * sizeof(double));
    } else {
      for (index_t j = 0; j < count; j++) write(t, type, i * t.batch + j * t.row, values[j]);
    }
  }

  void write_zeros(index_t i) {
    Instance& instance = instances[0];
    for (index_t j = 0; j < n; j++) instance.column[j] = 0;
    for (index_t k = 0; k < m; k++) instance.row[k] = 0;
    for (index_t r = 0; job.P && r < n; r++) emit(*job.P, job.P_sum, i, r, n, instance.column);
    for (index_t k = 0; job.A && k < m; k++) emit(*job.A, job.A_sum, i, k, n, instance.column);
    if (job.q) emit_vector(*job.q, job.q_sum, i, n, instance.column);
    if (job.b) emit_vector(*job.b, job.b_sum, i, m, instance.row);
  }
};

}  // namespace GD_NAMESPACE
