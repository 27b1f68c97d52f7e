// Runs the kernels with a cooperative group of real threads on one problem after another, and compares with one thread.
//
//     group_solve SIZE [FILE:LINE | all]      a group of SIZE; without the barrier at FILE:LINE, or without any
//     group_solve SIZE sites                  the same, and prints where the barriers are
//
// Exit code 0: equilibration, interior point, Newton and sensitivity did what they do alone. InteriorState and MapState
// hold their scalars by value: each member has copies of its own, and pointers into one memory that all members share.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "../../kernels/derivative/assess.cuh"
#include "../../kernels/derivative/newton.cuh"
#include "../../kernels/derivative/sensitivity.cuh"
#include "../../kernels/equilibrate.cuh"
#include "../../kernels/ipm/solve.cuh"
#include "planted.hpp"
#include "thread_group.hpp"

using namespace gpudiff;

struct Case {
  const char* name;
  int outcome;
  Planted problem;
};

struct Answer {
  int outcome = 0;
  double iterations = 0, factorisations = 0, residual = 0;
  std::vector<double> point, sensitivity;  // equilibrated (x, y, s), or the certificate; (u, t), twice
  bool central = false;                    // whether there is a central point
};

static Shape shape_of(const Planted& p, std::vector<long>& start) {
  long row = p.zero + p.nonnegative;
  for (long d : p.cones) {
    start.push_back(row);
    row += d;
  }
  Shape shape{};
  shape.n = p.n;
  shape.rows.zero = shape.rows.nonnegative_start = p.zero;
  shape.rows.nonnegative = p.nonnegative;
  shape.rows.second_order_count = long(p.cones.size());
  shape.rows.second_order_start = start.data();
  shape.rows.second_order_dimension = p.cones.data();
  shape.rows.total = p.m();
  return shape;
}

// Hands one problem to the interior point: s = z = e, x = 0, τ = κ = 1.
template <class G>
struct Feeder {
  const G& g;
  bool fed = false;
  int outcome = 0;

  bool exchange(InteriorState<double>& i, bool finished, double out) {
    if (!finished) return fed;
    g.sync();
    if (fed) {
      outcome = int(out);
      return false;
    }
    const Shape& shape = i.w.shape;
    for (index_t j = g.rank(); j < shape.n; j += g.size()) i.x[j] = 0;
    cone_start(g, shape.rows, i.w.b, i.s, i.z);
    i.tau = i.kappa = 1;
    i.iterations = i.since_best = 0;
    i.regularisation = 1e-10;
    i.best_merit = 1e30;
    compute_products(g, i);
    return fed = true;
  }
};

// The equilibrated problem, with what belongs into the padding.
template <class G>
static void load(const G& g, const Planted& p, const double* D, const double* E, double c, System<double>& w) {
  const index_t n = w.shape.n, zero = w.shape.rows.zero;
  const auto a = [&](index_t k, index_t j) { return p.A[k * n + j] * D[j] * E[k]; };
  for (index_t i = g.rank(); i < w.shape.columns(); i += g.size())
    for (index_t j = 0; j <= i; j++) {
      double entry = i < n ? (p.quadratic ? p.P[i * n + j] * D[i] * D[j] * c : 0) : double(i == j);
      const auto set = [&](const SymmetricTiles<double>& tiles) {
        tiles.at(i, j) = entry;
        if (i / kTile == j / kTile) tiles.at(j, i) = entry;  // diagonal tiles are stored whole
      };
      set(w.P);
      if (kCooperative<G>) continue;
      for (index_t k = 0; k < zero && i < n; k++) entry += a(k, i) * a(k, j);
      set(w.k.P);
    }
  for (index_t k = g.rank(); k < w.shape.m(); k += g.size()) {
    for (index_t j = 0; j < n; j++) w.A.at(k, j) = a(k, j);
    w.b[k] = p.b[k] * E[k];
  }
  for (index_t j = g.rank(); j < n; j += g.size()) w.q[j] = p.q[j] * D[j] * c;
}

// What each member does. `memory` holds the packs' words, `scratch` the vectors of the equilibration.
template <class G>
static void solve_and_differentiate(const G& g, const Planted& p, const Shape& shape, double* memory, double* scratch,
                                    Answer& answer) {
  const index_t n = shape.n, m = shape.m(), zero = shape.rows.zero;
  Carver<double> interior_memory{memory, 0};
  InteriorState<double> interior;
  interior.carve(shape, interior_memory, interior_memory, true, kCooperative<G>);
  MapState<double> map;
  map.carve(shape, interior_memory, true);
  map.w = interior.w;

  Carver<double> vectors{scratch, 0};
  double *D = vectors.take(n), *E = vectors.take(m), *column = vectors.take(2 * n), *row = vectors.take(m);
  const double c = equilibrate(g, n, shape.rows, p.quadratic, p.P.data(), p.q.data(), p.A.data(), D, E, column, row);
  g.sync();
  load(g, p, D, E, c, interior.w);
  for (index_t j = g.rank(); j < n; j += g.size()) interior.unit_x[j] = map.unit_x[j] = 1 / (D[j] * c);
  for (index_t k = g.rank(); k < m; k += g.size()) interior.unit_z[k] = map.unit_z[k] = 1 / E[k];
  interior.cost_scale = map.cost_scale = c;
  g.sync();

  InteriorSettings settings{};  // loose, so that something is left for Newton's method
  settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-5;
  settings.tol_infeas_abs = settings.tol_infeas_rel = 1e-8;
  settings.max_iter = 60;
  settings.refinements = 1;
  settings.keep_best = true;
  Feeder<G> feeder{g};
  interior.since_best = interior.best_merit = 0;
  interior_point(g, interior, settings, feeder);

  const bool reached = feeder.outcome == outcome::reached;
  const double inverse = 1 / interior.tau;
  for (index_t j = g.rank(); j < n; j += g.size()) map.x[j] = interior.x[j] * inverse;
  for (index_t k = g.rank(); k < m; k += g.size()) map.v[k] = (interior.z[k] - interior.s[k]) * inverse;
  double factorisations = 0;
  Residuals<double> residuals{};
  if (reached) {
    factorisations = newton(g, map, true, NewtonSettings{8, 40, 1e-9});
    residuals = assess(g, map);
  }
  g.sync();
  if (g.rank() == 0) {
    answer.outcome = feeder.outcome;
    answer.iterations = interior.iterations;
    answer.factorisations = factorisations;
    answer.residual = reached ? optimality_merit(residuals, settings) : 0;
    for (index_t j = 0; j < n; j++) answer.point.push_back(reached ? map.x[j] * D[j] : interior.x[j]);
    for (index_t k = 0; k < m; k++) answer.point.push_back(reached ? map.y[k] * E[k] / c : interior.z[k]);
    for (index_t k = 0; k < m; k++) answer.point.push_back(reached ? map.s[k] / E[k] : interior.s[k]);
  }
  if (!reached) return;

  for (index_t j = g.rank(); j < n; j += g.size()) map.e1[j] = double((7 * j + 3) % 11) - 5;
  for (index_t k = g.rank(); k < m; k += g.size()) map.e2[k] = k < zero ? 1 : double((5 * k + 1) % 7) - 3;
  factorise_sensitivity(g, map);
  solve_sensitivity(g, map, &map.N, true);
  g.sync();
  if (g.rank() == 0) {
    for (index_t j = 0; j < n; j++) answer.sensitivity.push_back(map.u[j]);
    for (index_t k = 0; k < m; k++) answer.sensitivity.push_back(map.t[k]);
  }

  g.sync();
  const CentralPoint<double> central = find_central_point(g, map, 0.1, true);
  g.sync();
  for (index_t j = g.rank(); j < n; j += g.size()) map.e1[j] = double((5 * j + 3) % 11) - 5;
  for (index_t k = g.rank(); k < m; k += g.size()) map.e2[k] = k < zero ? 1 : double((3 * k + 1) % 7) - 3;
  factorise_central(g, map);
  const Spectral<double>* const exact = nullptr;
  solve_sensitivity(g, map, exact, true);
  const bool finite = finite_sensitivity(g, map, 0);
  g.sync();
  if (g.rank() == 0) {
    answer.central = central.found && finite;
    for (index_t j = 0; j < n; j++) answer.sensitivity.push_back(map.u[j] + map.x[j]);
    for (index_t k = 0; k < m; k++) answer.sensitivity.push_back(map.t[k] + map.y[k] - map.s[k]);
  }
}

struct Memory {
  Memory(const Shape& shape, bool cooperative) {
    InteriorState<double> interior;
    MapState<double> map;
    Carver<double> count{nullptr, 0}, vectors{nullptr, 0};
    interior.carve(shape, count, count, true, cooperative);
    map.carve(shape, count, true);
    words.assign(count.used, 0);
    for (long size : {shape.n, shape.m(), 2 * shape.n, shape.m()}) vectors.take(size);
    scratch.assign(vectors.used, 0);
  }
  std::vector<double> words, scratch;
};

static double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return 1e300;
  double largest = 0, size = 1;
  for (std::size_t i = 0; i < a.size(); i++) {
    largest = std::max(largest, a[i] == b[i] ? 0 : std::fabs(a[i] - b[i]));
    size = std::max(size, std::fabs(b[i]));
    if (a[i] != a[i]) return 1e300;
  }
  return largest / size;
}

static std::vector<Case> cases() {
  Random random(20);
  std::vector<Case> all;
  const auto add = [&](const char* name, int outcome, Planted shape) -> Planted& {
    all.push_back({name, outcome, plant(random, std::move(shape))});
    return all.back().problem;
  };
  add("QP with equalities", outcome::reached, {14, 5, 21, {}, true});
  add("LP", outcome::reached, {9, 2, 24, {}, false});
  add("SOCP", outcome::reached, {11, 0, 0, {4, 3, 3, 5, 2, 4, 2}, true});
  add("mixed", outcome::reached, {14, 5, 11, {5, 3, 8}, true});
  Planted& scaled = add("mixed, badly scaled", outcome::reached, {9, 3, 7, {4, 3}, true});
  for (long k = 0; k < scaled.zero + scaled.nonnegative; k++) {  // the solution's y and s move along
    const double factor = std::pow(10.0, double(k % 7) - 3);
    for (long j = 0; j < scaled.n; j++) scaled.A[k * scaled.n + j] *= factor;
    scaled.b[k] *= factor;
    scaled.s[k] *= factor;
    scaled.y[k] /= factor;
  }
  Planted& infeasible = add("infeasible", outcome::primal_infeasible, {5, 1, 8, {3}, true});
  for (long j = 0; j < infeasible.n; j++) infeasible.A[2 * infeasible.n + j] = -infeasible.A[1 * infeasible.n + j];
  infeasible.b[2] = -infeasible.b[1] - 1;  // aᵀx ≤ β and aᵀx ≥ β + 1
  Planted& unbounded = add("unbounded", outcome::dual_infeasible, {6, 0, 5, {3}, false});
  for (long k = 0; k < unbounded.m(); k++) unbounded.A[k * 6 + 2] = 0;  // x₂ is free and costs something
  unbounded.q[2] = 1;
  return all;
}

int main(int argc, char** argv) {
  const int size = argc > 1 ? std::atoi(argv[1]) : 2;
  const std::string request = argc > 2 ? argv[2] : "";
  Mutation mutation;
  const std::size_t colon = request.find(':');
  if (request == "all") mutation = {"any", 0};
  if (colon != std::string::npos) mutation = {"/" + request.substr(0, colon), std::atoi(request.c_str() + colon + 1)};
  std::map<std::string, long> sites;
  int failures = 0;
  for (const Case& c : cases()) {
    std::vector<long> start;
    const Shape shape = shape_of(c.problem, start);
    Answer alone, together;
    Memory first(shape, false), second(shape, true);
    solve_and_differentiate(Alone{}, c.problem, shape, first.words.data(), first.scratch.data(), alone);
    Meeting meeting(size, mutation);
    run_group(meeting, [&](const ThreadGroup& g) {
      solve_and_differentiate(g, c.problem, shape, second.words.data(), second.scratch.data(), together);
    });
    for (const auto& [site, count] : meeting.sites) sites[site] += count;

    const bool reached = c.outcome == outcome::reached;
    std::vector<double> planted = c.problem.x;
    planted.insert(planted.end(), c.problem.y.begin(), c.problem.y.end());
    planted.insert(planted.end(), c.problem.s.begin(), c.problem.s.end());
    const double apart = distance(together.point, alone.point);
    const double error = reached ? distance(together.point, planted) : 0;
    const double moved = distance(together.sensitivity, alone.sensitivity);
    const bool good = alone.outcome == c.outcome && together.outcome == c.outcome &&
                      std::fabs(together.iterations - alone.iterations) <= 1 && together.residual <= 1 &&
                      error <= 1e-9 && moved <= 1e-9 && together.central == reached && apart <= (reached ? 1e-9 : 1e-6);
    failures += !good;
    std::printf(
        "%s %-20s outcome %d %d, iterations %g %g, Newton %g %g, |x - alone| %.1e, |x - x*| %.1e, sensitivity %.1e\n",
        good ? "ok  " : "FAIL", c.name, alone.outcome, together.outcome, alone.iterations, together.iterations,
        alone.factorisations, together.factorisations, apart, error, moved);
  }
  if (request == "sites")
    for (const auto& [site, count] : sites) std::printf("site %s %ld\n", site.c_str(), count);
  return failures ? 1 : 0;
}
