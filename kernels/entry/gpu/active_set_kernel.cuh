// Solves a batch on a GPU by the active-set method (active_set/solve.cuh): each group takes one problem after another.
// What the method does not solve goes to a list, which gd_careful_kernel (careful_kernel.cuh) works off behind it: a P
// that is not positive definite, dependent equalities, data so badly conditioned that rounding decides. Every result is
// held against the problem's own data (active_set/verify.cuh) before it is called solved or infeasible.
#pragma once
#include "../../active_set/refine.cuh"
#include "active_set_layout.cuh"
#include "results.cuh"

namespace GD_NAMESPACE {

static_assert(GD_HAS_P && GD_SECOND_ORDER_COUNT == 0, "the active-set method needs a P, and takes linear cones alone");

// The products of verify_point with the problem's data as they are, in global memory: nothing that the method has made
// of them takes part.
template <class G>
struct GlobalProducts {
  const G& g;
  const Problem& problem;
  const ActiveSet<double, double>& s;
  bool symmetric;  // P is, to the last bit: its columns, which neighbours read side by side, are its rows

  GD_DEVICE void objective(bool magnitudes) const {
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
      double sum[2] = {0, 0};
      GD_UNROLL_FOUR for (index_t i = 0; i < GD_N; i++) {
        const double mirrored = problem.P(i, j);
        const double p = symmetric ? mirrored : 0.5 * problem.P(j, i) + 0.5 * mirrored;
        sum[i % 2] += size(p, magnitudes) * size(s.x[i], magnitudes);
      }
      s.Px[j] = sum[0] + sum[1];
    }
  }
  GD_DEVICE void inequalities(bool magnitudes) const {
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) s.Ay[j] = 0;
    rows(GD_ZERO_ROWS, GD_NONNEGATIVE_ROWS, magnitudes, s.y, s.slack);
  }
  GD_DEVICE void equalities(bool magnitudes) const { rows(0, GD_ZERO_ROWS, magnitudes, s.y_zero, s.slack_zero); }

 private:
  static constexpr int kAtOnce = 8;

  static GD_DEVICE double size(double a, bool magnitude) { return magnitude ? absolute(a) : a; }

  // Some rows at a time, a column for each member: what is read from A serves both products.
  GD_DEVICE void rows(index_t first, index_t count, bool magnitudes, const double* y, double* Ax) const {
    GD_NO_UNROLL for (index_t begin = 0; begin < count; begin += kAtOnce) {
      double sum[kAtOnce];
      GD_UNROLL for (int r = 0; r < kAtOnce; r++) { sum[r] = 0; }
      GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) {
        const double x = size(s.x[j], magnitudes);
        double Ay = s.Ay[j];
        GD_UNROLL for (int r = 0; r < kAtOnce; r++) {
          if (begin + r >= count) continue;
          const double a = size(problem.A(caller_row(first + begin + r), j), magnitudes);
          sum[r] += a * x;
          Ay += a * size(y[begin + r], magnitudes);
        }
        s.Ay[j] = Ay;
      }
      g.sums(sum);
      GD_UNROLL for (int r = 0; r < kAtOnce; r++) {
        if (begin + r < count && g.rank() == r % g.size()) Ax[begin + r] = sum[r];
      }
    }
  }
};

struct ActiveSetSolver {
  const gd_gpu_solve& call;
  const ActiveSetMemory& memory;
  const ActiveSet<double, double>& s;
  unsigned long long changes = 0;  // work
  // P and A of all problems are the same, and their factor and rows are there: from the first problem that was good.
  bool prepared = false, sound = false, symmetric = false;

  GD_DEVICE ActiveSetSolver(const gd_gpu_solve& call_, const ActiveSetMemory& memory_)
      : call(call_), memory(memory_), s(memory_.state) {}

  template <class G>
  GD_DEVICE void solve(const G& g, long long index) {
    const Problem problem(call.P, call.q, call.A, call.b, index);
    const Results results{call, index};
    clear(g, memory.cleared, memory.cleared_bytes);
    problem.find_absent(g, memory.absent);
    g.sync();
    const Problem::Looks looks = problem.look(g, memory.absent, !prepared);
    if (!looks.good) return results.failure(g, GD_INVALID_DATA, 0);
    if (!prepared) {
      symmetric = looks.symmetric;
      load_matrices(g, problem);
      sound = prepare_matrices(g, s, kActiveSetSinglePricing);
      if (call.settings.check_convex && !sound && !is_convex(g, problem)) return results.failure(g, GD_INVALID_DATA, 0);
      // A P that is not sound has been overwritten by the look at its convexity.
      prepared = sound && call.P.batch == 0 && call.A.batch == 0;
    }
    if (sound && attempt(g, problem, results, index)) return;
    if (g.rank() == 0) {
      const unsigned long long place =
          atomicAdd(reinterpret_cast<unsigned long long*>(&call.control->unfinished), 1ull);
      call.unfinished[place] = {int32_t(index), 0, 0};
    }
  }

  GD_DEVICE void report_work(const Group& g) const {
    if (g.rank() == 0) atomicAdd(reinterpret_cast<unsigned long long*>(&call.control->changes), changes);
  }

 private:
  // The method on a problem whose P and A are loaded; whether it gave a result, which has been written then.
  template <class G>
  GD_DEVICE bool attempt(const G& g, const Problem& problem, const Results& results, long long index) {
    load_vectors(g, problem);
    const GlobalProducts<G> products{g, problem, s, symmetric};
    prepare_vectors(g, s, kActiveSetSinglePricing, products);
    Places<1> places;
    Progress<1> progress{};
    unsigned open = 1;
    clear(places);
    if (call.warm_y.data) enter_rows(g, s, places, memory.guess, load_guess(g, index));
    optimise(g, s, places, progress, open, kActiveSetSinglePricing);
    open &= ~(progress.stuck | progress.infeasible);
    if (open) {
      Verdict<double> verdict{};
      verdict.error = 1e30;
      take_point(g, s, places);
      if (!refine_point(g, s, places, open, products, verdict)) return false;
      write_solved(g, results, verdict, progress.changes[0]);
    } else {
      if (!progress.infeasible) return false;
      take_certificate(g, s, places, progress, 1u);
      const double bound = verify_infeasible(g, s, call.settings.tol_infeas_rel, products);
      if (!(bound > 0)) return false;
      write_infeasible(g, results, bound, progress.changes[0]);
    }
    changes += progress.changes[0];
    return true;
  }

  // P's lower triangle and A's rows, with what belongs into the padding. Rows that are absent stay: their bound is
  // beyond reach, and another problem that shares A may have them.
  template <class G>
  GD_DEVICE void load_matrices(const G& g, const Problem& problem) const {
    const index_t columns = s.columns(), pitch = columns > 0 ? columns : 1;
    GD_UNROLL_FOUR for (index_t e = g.rank(); e < columns * columns; e += g.size()) {
      const index_t i = e / pitch, j = e % pitch;
      if (j / kTile > i / kTile) continue;
      double p = i == j && i >= GD_N ? 1 : 0;
      if (i < GD_N && j < GD_N)  // halves first: exact where equal
        p = symmetric ? problem.P(i, j) : 0.5 * problem.P(i, j) + 0.5 * problem.P(j, i);
      s.L.at(i, j) = p;
    }
    const auto load = [&](index_t first, index_t rows, index_t stored, const Bands<double>& M) GD_LAMBDA {
      GD_UNROLL_FOUR for (index_t e = g.rank(); e < stored * columns; e += g.size()) {
        const index_t k = e / pitch, j = e % pitch;
        M.at(k, j) = k < rows && j < GD_N ? problem.A(caller_row(first + k), j) : 0.0;
      }
    };
    load(0, GD_ZERO_ROWS, padded(GD_ZERO_ROWS), s.M_zero);
    load(GD_ZERO_ROWS, GD_NONNEGATIVE_ROWS, padded_to_pairs(GD_NONNEGATIVE_ROWS), s.M);
    g.sync();
  }

  template <class G>
  GD_DEVICE void load_vectors(const G& g, const Problem& problem) const {
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) s.q[j] = problem.q[j];
    GD_NO_UNROLL for (index_t k = g.rank(); k < GD_ZERO_ROWS; k += g.size()) s.b_zero[k] = problem.b[caller_row(k)];
    GD_NO_UNROLL for (index_t k = g.rank(); k < GD_NONNEGATIVE_ROWS; k += g.size()) s.b[k] =
        absent(k) ? kNever : problem.b[caller_row(GD_ZERO_ROWS + k)];
    g.sync();
  }

  // Whether an inequality is absent.
  GD_DEVICE bool absent(index_t k) const { return memory.absent[GD_ZERO_ROWS + k] != 0; }

  template <class G>
  GD_DEVICE bool is_convex(const G& g, const Problem& problem) const {
    g.sync();
    return problem.convex(g, s.L.data);
  }

  // The rows that a warm start holds for active, as many as there are degrees of freedom; returns how many.
  template <class G>
  GD_DEVICE int load_guess(const G& g, long long index) const {
    const View y(call.warm_y, index);
    GD_NO_UNROLL for (index_t k = g.rank(); k < GD_NONNEGATIVE_ROWS; k += g.size()) s.tight[k] =
        y[caller_row(GD_ZERO_ROWS + k)] > 0 && !absent(k) ? 1 : 0;
    g.sync();
    int found = 0;
    for (index_t k = 0; k < GD_NONNEGATIVE_ROWS && found < GD_N - GD_ZERO_ROWS; k++) {
      if (s.tight[k] == 0) continue;
      if (g.rank() == 0) memory.guess[found] = int(k);
      found++;
    }
    g.sync();
    return found;
  }

  template <class G>
  GD_DEVICE void write_solved(const G& g, const Results& results, const Verdict<double>& v, int count) const {
    const gd_solution& o = call.out;
    const long long x = results.index * GD_N, rows = results.index * kTotalRows;
    GD_NO_UNROLL for (index_t j = g.rank(); j < GD_N; j += g.size()) Results::put(o.x, x + j, s.x[j]);
    GD_NO_UNROLL for (index_t k = g.rank(); k < GD_ZERO_ROWS; k += g.size()) {
      Results::put(o.y, rows + caller_row(k), s.y_zero[k]);
      Results::put(o.s, rows + caller_row(k), 0);
    }
    GD_NO_UNROLL for (index_t k = g.rank(); k < GD_NONNEGATIVE_ROWS; k += g.size()) {
      const long long at = rows + caller_row(GD_ZERO_ROWS + k);
      const double slack = s.tight[k] > 0 ? 0.0 : maximum(s.slack[k], 0.0);
      Results::put(o.y, at, s.y[k]);
      Results::put(o.s, at, absent(k) ? infinity() : slack);
    }
    if (g.rank() == 0) results.scalars(GD_SOLVED, count, v.objective, v.primal, v.dual, v.gap, v.margin);
  }

  // y with Aᵀy = 0, bᵀy = −1, from one with bᵀy = −bound.
  template <class G>
  GD_DEVICE void write_infeasible(const G& g, const Results& results, double bound, int count) const {
    results.failure(g, GD_PRIMAL_INFEASIBLE, count);
    g.sync();
    if (call.zero_on_failure) return;
    const long long rows = results.index * kTotalRows;
    GD_NO_UNROLL for (index_t k = g.rank(); k < kTotalRows; k += g.size()) {
      const double y = k < GD_ZERO_ROWS ? s.y_zero[k] : s.y[k - GD_ZERO_ROWS];
      Results::put(call.out.y, rows + caller_row(k), y / bound);
    }
    if (g.rank() == 0) Results::put(call.out.obj, results.index, infinity());
  }
};

}  // namespace GD_NAMESPACE

extern "C" __global__ void __launch_bounds__(GD_THREADS, GD_MIN_BLOCKS) gd_active_set_kernel(const gd_gpu_solve call) {
  using namespace GD_NAMESPACE;
  GD_DYNAMIC_SHARED(shared);
  const Group g{};
  const ActiveSetLayout layout(structure(), GD_LEVEL, GD_GROUP);
  const Workspace workspace(layout, shared, call.workspace);
  ActiveSetMemory memory;
  layout.carve(structure(), workspace.near, workspace.far, memory);
  ActiveSetSolver solver(call, memory);
  for_each_item(g, call.batch, &call.control->next,
                [&](const Group& group, long long index) GD_LAMBDA { solver.solve(group, index); });
  solver.report_work(g);
}
