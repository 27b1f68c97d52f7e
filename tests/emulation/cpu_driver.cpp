// Calls the C interface of the CPU library in every way a caller may, to be built with sanitizers.
//
//     cpu_driver            all cases
//     cpu_driver threads    those with several threads
//
// Every array is allocated to the last element and no further, gaps between elements are filled with NaN and checked
// afterwards, so that AddressSanitizer and the checks here see whatever is read or written beside the views. Answers
// are compared with planted ones, optimality is evaluated anew, and jvp and vjp must be each other's adjoint.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

#include "../../kernels/entry/gpudiff.h"
#include "planted.hpp"

static int failures = 0;
static std::string current;
static void check(bool good, const char* what, double value = 0) {
  if (good) return;
  failures++;
  std::printf("FAIL %s: %s (%g)\n", current.c_str(), what, value);
}

enum Layout { contiguous, strided, reversed, transposed };

// A [batch, rows, columns] view into memory of its own; one problem shared by all if `shared`.
template <class Real>
class Array {
 public:
  Array(long batch, long rows, long columns, Layout layout, bool shared = false)
      : batch_(shared ? 1 : batch), rows_(rows), columns_(columns) {
    const long gap = layout == strided ? 2 : 1, sign = layout == reversed ? -1 : 1;
    column_ = sign * gap;
    row_ = column_ * (columns > 0 ? columns : 1) + (layout == strided ? 3 : 0);
    if (layout == transposed) {
      row_ = 1;
      column_ = rows > 0 ? rows : 1;
    }
    const long one = std::labs(row_) * std::max(rows - 1, 0L) + std::labs(column_) * std::max(columns - 1, 0L) + 1;
    item_ = sign * (one + (layout == strided ? 5 : 0));
    const bool empty = batch_ * rows * columns == 0;
    storage_.assign(empty ? 0 : std::labs(item_) * (batch_ - 1) + one, std::numeric_limits<Real>::quiet_NaN());
    first_ = sign < 0 && !empty ? long(storage_.size()) - 1 : 0;
    view = {storage_.data() + first_, shared ? 0 : item_, row_, column_, 0};
    if (empty) view.data = &nothing_;  // not absent, but of no element
  }
  Array(const Array&) = delete;

  Real& operator()(long i, long r, long c = 0) {
    return storage_[first_ + (batch_ == 1 ? 0 : i) * item_ + r * row_ + c * column_];
  }
  long batch() const { return batch_; }
  void fill(const std::vector<double>& values, long i) {
    for (long r = 0; r < rows_; r++)
      for (long c = 0; c < columns_; c++) (*this)(i, r, c) = Real(values[r * columns_ + c]);
  }
  // Sets the elements, and checks that nothing else has been written.
  void check_gaps() {
    for (long i = 0; i < batch_; i++)
      for (long r = 0; r < rows_; r++)
        for (long c = 0; c < columns_; c++) (*this)(i, r, c) = std::numeric_limits<Real>::quiet_NaN();
    for (Real a : storage_) check(a != a, "written between the elements", double(a));
  }

  gd_tensor view;

 private:
  long batch_, rows_, columns_, item_, row_, column_, first_;
  std::vector<Real> storage_;
  Real nothing_;
};

struct Case {
  const char* name;
  Planted shape;
  long batch = 5;
  int threads = 1;
  Layout layout = contiguous;
  bool shared_P = false, shared_A = false;
  bool mixed_order = false;
  bool faulty = false;  // problem 1 holds a NaN, 2 is infeasible, 3 has a row with b = +inf
  bool unique = true;
};

// A cone list, and the planted row behind each of the caller's rows.
struct ConeList {
  std::vector<int32_t> kind;
  std::vector<int64_t> rows;
  std::vector<long> planted;

  void add(gd_cone k, long count, long& next) {
    kind.push_back(k);
    rows.push_back(count);
    for (long i = 0; i < count; i++) planted.push_back(next++);
  }
  ConeList(const Planted& p, bool mixed) {
    long zero = 0, nonnegative = p.zero, second_order = p.zero + p.nonnegative;
    if (mixed) {
      add(GD_NONNEGATIVE, p.nonnegative / 2, nonnegative);
      add(GD_ZERO, 0, zero);
      for (std::size_t c = 0; c < p.cones.size(); c++) {
        add(GD_SECOND_ORDER, p.cones[c], second_order);
        if (c == 0) add(GD_ZERO, p.zero / 2, zero);
      }
    }
    add(GD_ZERO, p.zero - zero, zero);
    add(GD_NONNEGATIVE, p.zero + p.nonnegative - nonnegative, nonnegative);
    if (!mixed)
      for (long d : p.cones) add(GD_SECOND_ORDER, d, second_order);
  }
};

static double norm(const std::vector<double>& v) {
  double r = 0;
  for (double a : v) r = std::max(r, std::fabs(a));
  return r;
}

template <class Real>
struct Run {
  const Case& c;
  const long B, n, m;
  const ConeList cones;
  std::vector<Planted> items;
  Array<Real> P, q, A, b;
  std::vector<Real> x, y, s, scalars[5];
  std::vector<int8_t> status;
  std::vector<int32_t> iterations;
  gd_problem problem;
  gd_settings settings;
  const double tolerance = sizeof(Real) == 8 ? 1e-8 : 2e-3, adjoint = sizeof(Real) == 8 ? 1e-9 : 2e-3;

  explicit Run(const Case& case_)
      : c(case_), B(c.batch), n(c.shape.n), m(c.shape.m()), cones(c.shape, c.mixed_order),
        P(B, n, n, c.layout, c.shared_P), q(B, n, 1, c.layout), A(B, m, n, c.layout, c.shared_A), b(B, m, 1, c.layout),
        x(B * n), y(B * m), s(B * m), status(B), iterations(B) {
    for (auto& v : scalars) v.resize(B);
    Random random(7);
    for (long i = 0; i < B; i++) {
      Planted shape = c.shape;
      if (i > 0 && c.shared_A) shape.A = items[0].A;
      if (i > 0 && c.shared_P) shape.P = items[0].P;
      items.push_back(plant(random, shape));
    }
    if (c.faulty) spoil();
    for (long i = 0; i < B; i++) {
      const Planted& p = items[i];
      if (p.quadratic) P.fill(p.P, i);
      q.fill(p.q, i);
      for (long k = 0; k < m; k++) {
        for (long j = 0; j < n; j++) A(i, k, j) = Real(p.A[cones.planted[k] * n + j]);
        b(i, k) = Real(p.b[cones.planted[k]]);
      }
    }
    problem = {B,
               n,
               m,
               sizeof(Real) == 8 ? GD_FLOAT64 : GD_FLOAT32,
               int32_t(cones.kind.size()),
               cones.kind.data(),
               cones.rows.data(),
               nullptr,
               c.shape.quadratic ? P.view : gd_tensor{},
               q.view,
               A.view,
               b.view};
    settings = {1e-8, 1e-8, 1e-8, 1e-8, 1e-8, 0, 200, 1, 1, c.threads, GD_INTERIOR_POINT};
  }

  void spoil() {
    const long k = c.shape.zero;
    items[1].q[n - 1] = std::nan("");
    Planted& p = items[2];
    for (long j = 0; j < n; j++) p.A[(k + 1) * n + j] = -p.A[k * n + j];
    p.b[k + 1] = -p.b[k] - 1;
    items[3].b[k] = std::numeric_limits<double>::infinity();
  }
  gd_status expected(long i) const {
    return c.faulty && i == 1 ? GD_INVALID_DATA : c.faulty && i == 2 ? GD_PRIMAL_INFEASIBLE : GD_SOLVED;
  }

  void solve(const gd_tensor* wx = nullptr, const gd_tensor* wy = nullptr, const gd_tensor* ws = nullptr) {
    gd_solution out{x.data(),          y.data(),          s.data(),          scalars[0].data(), scalars[1].data(),
                    scalars[2].data(), scalars[3].data(), scalars[4].data(), status.data(),     iterations.data()};
    gd_report report;
    check(gd_solve(&problem, &settings, wx, wy, ws, &out, &report) == GD_OK, "gd_solve");
    for (long i = 0; i < B; i++) {
      check(status[i] == expected(i), "status", status[i]);
      if (status[i] == GD_SOLVED) check_optimal(i);
      if (status[i] == GD_PRIMAL_INFEASIBLE) check_certificate(i);
    }
  }

  // Evaluated from the very data that were handed over.
  void check_optimal(long i) {
    std::vector<double> dual(n), primal(m);
    double size = 1, complementarity = 0;
    for (long j = 0; j < n; j++) {
      dual[j] = double(q(i, j));
      for (long l = 0; c.shape.quadratic && l < n; l++) dual[j] += double(P(i, j, l)) * double(x[i * n + l]);
    }
    for (long k = 0; k < m; k++) {
      const double yk = double(y[i * m + k]), sk = double(s[i * m + k]);
      if (std::isinf(b(i, k))) {
        check(yk == 0 && std::isinf(sk), "an absent row", sk);
        continue;
      }
      primal[k] = sk - double(b(i, k));
      complementarity += sk * yk;
      for (long j = 0; j < n; j++) {
        primal[k] += double(A(i, k, j)) * double(x[i * n + j]);
        dual[j] += double(A(i, k, j)) * yk;
      }
      size = std::max({size, std::fabs(yk), std::fabs(sk), std::fabs(double(b(i, k)))});
    }
    const double residual = (norm(primal) + norm(dual) + std::fabs(complementarity)) / size;
    check(residual <= (sizeof(Real) == 8 ? 1e-9 : 1e-3), "optimality", residual);
    if (!c.unique || (c.faulty && i == 3)) return;
    double error = 0;
    for (long j = 0; j < n; j++) error = std::max(error, std::fabs(double(x[i * n + j]) - items[i].x[j]));
    for (long k = 0; k < m; k++) {
      error = std::max(error, std::fabs(double(s[i * m + k]) - items[i].s[cones.planted[k]]));
      error = std::max(error, std::fabs(double(y[i * m + k]) - items[i].y[cones.planted[k]]));
    }
    check(error <= tolerance, "distance to the planted solution", error);
  }
  void check_certificate(long i) {
    std::vector<double> Ay(n);
    double by = 0;
    for (long k = 0; k < m; k++) {
      by += double(b(i, k)) * double(y[i * m + k]);
      for (long j = 0; j < n; j++) Ay[j] += double(A(i, k, j)) * double(y[i * m + k]);
    }
    check(std::fabs(by + 1) < 1e-5 && norm(Ay) < 1e-5, "certificate", norm(Ay));
  }

  // ⟨x̄, ẋ⟩ + ⟨ȳ, ẏ⟩ + ⟨s̄, ṡ⟩ + ⟨obj̄, obj̊⟩ = ⟨P̄, Ṗ⟩ + ⟨q̄, q̇⟩ + ⟨Ā, Ȧ⟩ + ⟨b̄, ḃ⟩, over the batch.
  void differentiate() {
    Random random(11);
    const auto randomise = [&](Array<Real>& a, long rows, long columns) {
      for (long i = 0; i < a.batch(); i++)
        for (long r = 0; r < rows; r++)
          for (long j = 0; j < columns; j++) a(i, r, j) = Real(normal(random));
    };
    Array<Real> Pd(B, n, n, c.layout, c.shared_P), qd(B, n, 1, c.layout), Ad(B, m, n, c.layout, c.shared_A),
        bd(B, m, 1, c.layout);
    Array<Real> xb(B, n, 1, c.layout), yb(B, m, 1, c.layout), sb(B, m, 1, c.layout), ob(B, 1, 1, c.layout);
    randomise(Pd, n, n), randomise(qd, n, 1), randomise(Ad, m, n), randomise(bd, m, 1);
    randomise(xb, n, 1), randomise(yb, m, 1), randomise(sb, m, 1), randomise(ob, 1, 1);
    for (long i = 0; i < Pd.batch(); i++)
      for (long r = 0; r < n; r++)
        for (long j = 0; j < r; j++) Pd(i, r, j) = Pd(i, j, r);
    Array<Real> Pb(B, n, n, c.layout, c.shared_P), qb(B, n, 1, c.layout), Ab(B, m, n, c.layout, c.shared_A),
        bb(B, m, 1, c.layout);
    Array<Real> xd(B, n, 1, c.layout), yd(B, m, 1, c.layout), sd(B, m, 1, c.layout), od(B, 1, 1, c.layout);

    const gd_point point{{x.data(), n, 1, 1, 0}, {y.data(), m, 1, 1, 0}, {s.data(), m, 1, 1, 0}, status.data()};
    gd_tensor *P_in = c.shape.quadratic ? &Pd.view : nullptr, *P_out = c.shape.quadratic ? &Pb.view : nullptr;
    gd_report report;
    check(gd_jvp(&problem, &settings, &point, 1, P_in, &qd.view, &Ad.view, &bd.view, &xd.view, &yd.view, &sd.view,
                 &od.view, &report) == GD_OK,
          "gd_jvp");
    check(gd_vjp(&problem, &settings, &point, 1, &xb.view, &yb.view, &sb.view, &ob.view, P_out, &qb.view, &Ab.view,
                 &bb.view, &report) == GD_OK,
          "gd_vjp");
    double forward = 0, reverse = 0, size = 1;
    const auto inner = [&](double& total, Array<Real>& u, Array<Real>& v, long rows, long columns) {
      for (long i = 0; i < u.batch(); i++)
        for (long r = 0; r < rows; r++)
          for (long j = 0; j < columns; j++) {
            const double term = double(u(i, r, j)) * double(v(i, r, j));
            total += term;
            size += std::fabs(term);
          }
    };
    if (B > 0) {
      inner(forward, xb, xd, n, 1), inner(forward, yb, yd, m, 1), inner(forward, sb, sd, m, 1);
      inner(forward, ob, od, 1, 1);
      if (c.shape.quadratic) inner(reverse, Pb, Pd, n, n);
      inner(reverse, qb, qd, n, 1), inner(reverse, Ab, Ad, m, n), inner(reverse, bb, bd, m, 1);
      check(std::fabs(forward - reverse) <= adjoint * size, "adjoint identity", (forward - reverse) / size);
    }
    for (long i = 0; i < B; i++)
      for (long j = 0; j < n; j++) {
        if (expected(i) != GD_SOLVED)
          check(xd(i, j) == 0 && qb(i, j) == 0, "zero derivatives of a failure", double(xd(i, j)));
      }
    for (Array<Real>* a : {&Ab, &qb, &bb, &xd, &yd, &sd, &od}) a->check_gaps();
    if (c.shape.quadratic) Pb.check_gaps();
    // Two directions at once, the same twice: neither gets what the other gets, and each what it gets alone.
    Array<Real> one(B, n, 1, contiguous);
    std::vector<Real> two(2 * B * n + 1);
    gd_tensor both{two.data(), n, 1, 0, B * n};
    check(gd_vjp(&problem, &settings, &point, 1, &xb.view, nullptr, nullptr, nullptr, nullptr, &one.view, nullptr,
                 nullptr, nullptr) == GD_OK &&
              gd_vjp(&problem, &settings, &point, 2, &xb.view, nullptr, nullptr, nullptr, nullptr, &both, nullptr,
                     nullptr, nullptr) == GD_OK,
          "gd_vjp of two directions");
    for (long i = 0; i < B; i++)
      for (long j = 0; j < n; j++) {
        const Real a = two[i * n + j], b = two[(B + i) * n + j];
        check(a == one(i, j) && b == one(i, j), "the bits of a direction alone", double(a - b));
      }
    // The same of central points, where the checks of the library's memory are what matters.
    settings.smoothing = 0.1;
    check(gd_jvp(&problem, &settings, &point, 1, P_in, &qd.view, &Ad.view, &bd.view, &xd.view, &yd.view, &sd.view,
                 &od.view, &report) == GD_OK,
          "gd_jvp with smoothing");
    check(gd_vjp(&problem, &settings, &point, 1, &xb.view, &yb.view, &sb.view, &ob.view, P_out, &qb.view, &Ab.view,
                 &bb.view, &report) == GD_OK,
          "gd_vjp with smoothing");
    for (Array<Real>* a : {&Ab, &qb, &bb, &xd, &yd, &sd, &od}) a->check_gaps();
    settings.smoothing = 0;
    // Every argument may be absent.
    Array<Real> alone(B, n, 1, contiguous);
    check(gd_vjp(&problem, &settings, &point, 1, nullptr, &yb.view, nullptr, nullptr, nullptr, &alone.view, nullptr,
                 nullptr, nullptr) == GD_OK,
          "gd_vjp of one argument");
    check(gd_jvp(&problem, &settings, &point, 1, nullptr, nullptr, nullptr, &bd.view, &alone.view, nullptr, nullptr,
                 nullptr, nullptr) == GD_OK,
          "gd_jvp of one argument");
  }

  void refuse() {
    gd_solution out{};
    gd_report report;
    if (n > 1 && c.shape.quadratic && B > 1 && !c.shared_P) {
      const Real kept = P(B - 1, 1, 0);
      P(B - 1, 1, 0) = kept + 1;
      check(gd_solve(&problem, &settings, nullptr, nullptr, nullptr, &out, &report) == GD_ASYMMETRIC_P, "asymmetric P");
      check(report.index == B - 1, "index of the asymmetric P", double(report.index));
      P(B - 1, 1, 0) = kept;
    }
    problem.m++;
    check(gd_solve(&problem, &settings, nullptr, nullptr, nullptr, &out, &report) == GD_BAD_ARGUMENT,
          "rows of the cones");
    problem.m--;
  }

  void all() {
    solve();
    differentiate();
    Array<Real> wx(B, n, 1, c.layout), wy(B, m, 1, c.layout), ws(B, m, 1, c.layout);
    for (long i = 0; i < B; i++) {
      for (long j = 0; j < n; j++) wx(i, j) = x[i * n + j];
      for (long k = 0; k < m; k++) wy(i, k) = y[i * m + k], ws(i, k) = s[i * m + k];
    }
    solve(&wx.view, &wy.view, &ws.view);
    settings.check_convex = 1;
    settings.polish = 0;
    if (sizeof(Real) == 8 && !c.faulty) {  // interior point alone: optimal, but not to rounding
      gd_solution out{x.data(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, status.data(), nullptr};
      check(gd_solve(&problem, &settings, nullptr, nullptr, nullptr, &out, nullptr) == GD_OK,
            "gd_solve without polish");
      for (int8_t a : status) check(a == GD_SOLVED, "status without polish", a);
    }
    refuse();
  }
};

static std::vector<Case> cases() {
  const Planted qp{5, 2, 7}, mixed{9, 3, 5, {4, 1, 3, 6}}, lp{7, 2, 17, {}, false};
  std::vector<Case> all{
      {"QP", qp},
      {"QP, one problem", qp, 1},
      {"QP, empty batch", qp, 0},
      {"QP, strided", qp, 5, 1, strided},
      {"QP, reversed", qp, 5, 1, reversed},
      {"QP, transposed", qp, 5, 1, transposed},
      {"QP, shared", qp, 5, 1, contiguous, true, true},
      {"QP, faults", {4, 0, 9}, 6, 1, contiguous, false, false, false, true},
      {"LP", lp, 5},
      {"LP, shared A, strided", lp, 5, 1, strided, false, true},
      {"mixed", mixed, 5, 1, contiguous, false, false, true},
      {"mixed, reversed, shared", mixed, 5, 1, reversed, true, true, true},
      {"mixed, faults, strided", {6, 1, 6, {3}}, 5, 1, strided, false, false, true, true},
      {"second-order cones", {8, 0, 0, {2, 3, 4, 5}}, 3},
      {"one large cone", {13, 0, 0, {33}}, 2},
      {"one variable", {1, 0, 3}, 5},
      {"no variables", {0, 0, 3, {1, 3, 3}}, 3, 1, contiguous, false, false, false, false, false},
      {"no constraints", {3, 0, 0}, 5},
      {"neither", {0, 0, 0}, 2},
      {"equalities alone", {6, 4, 0}, 5},
      {"tall", {2, 0, 4099}, 2},
      {"too tall for packs", {4, 0, 70001}, 1},
      {"three threads", mixed, 100, 3, contiguous, false, false, true},
      {"three threads, shared", qp, 100, 3, contiguous, true, true},
      {"three threads, faults", {4, 0, 9}, 37, 3, strided, false, false, false, true},
  };
  return all;
}

int main(int argc, char** argv) {
  const bool threads_only = argc > 1 && std::strcmp(argv[1], "threads") == 0;
  for (const Case& c : cases()) {
    if (threads_only && c.threads == 1) continue;
    current = std::string(c.name) + ", float64";
    Run<double>(c).all();
    if (c.shape.quadratic) {
      current = std::string(c.name) + ", float32";
      Run<float>(c).all();
    }
    std::printf("%s: %d failures so far\n", c.name, failures);
  }
  return failures ? 1 : 0;
}
