// Random problems with a planted solution: x at random, s and y complementary with a margin, b = A x + s and
// q = −P x − Aᵀy, so that the answer is known to rounding. Rows in the kernel's order: zero, nonnegative, second-order.
#pragma once
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

struct Planted {
  long n = 0, zero = 0, nonnegative = 0;
  std::vector<long> cones = {};  // dimensions of the second-order cones
  bool quadratic = true;
  std::vector<double> P = {}, q = {}, A = {}, b = {};  // [n, n] (empty: linear), [n], [m, n], [m]
  std::vector<double> x = {}, y = {}, s = {};

  long m() const {
    long rows = zero + nonnegative;
    for (long d : cones) rows += d;
    return rows;
  }
};

using Random = std::mt19937_64;

inline double normal(Random& random) { return std::normal_distribution<double>()(random); }
inline double between(Random& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}
inline std::vector<double> normals(Random& random, long count) {
  std::vector<double> v(count);
  for (double& a : v) a = normal(random);
  return v;
}

// A second-order cone's (s, y): complementary on the boundary, or one inside and the other 0.
inline void plant_second_order(Random& random, long d, int state, double* s, double* y) {
  std::vector<double> u = normals(random, d);
  double norm = 0;
  for (long i = 1; i < d; i++) norm += u[i] * u[i];
  norm = std::sqrt(norm);
  const double a = between(random, 0.5, 2), c = between(random, 0.5, 2);
  const bool boundary = state == 0 && d > 1;
  const double tilt = boundary ? 1 : 0.5;
  s[0] = boundary || state != 1 ? a : 0;
  y[0] = boundary || state == 1 ? c : 0;
  for (long i = 1; i < d; i++) {
    s[i] = s[0] * tilt * u[i] / norm;
    y[i] = -y[0] * tilt * u[i] / norm;
  }
}

// A problem of this shape; keeps A and P where they are given. A linear problem needs n active rows for its solution to
// be unique: let it have them.
inline Planted plant(Random& random, Planted p) {
  const long n = p.n, m = p.m();
  p.x = normals(random, n);
  if (p.A.empty()) p.A = normals(random, m * n);
  p.s.assign(m, 0);
  p.y.assign(m, 0);
  long k = 0;
  for (; k < p.zero; k++) p.y[k] = normal(random);
  const long most = std::max(0L, n - p.zero), active = p.quadratic ? std::min(p.nonnegative / 3, most) : most;
  for (long i = 0; i < p.nonnegative; i++, k++) (i < active ? p.y : p.s)[k] = between(random, 0.5, 2);
  for (std::size_t c = 0; c < p.cones.size(); k += p.cones[c++])
    plant_second_order(random, p.cones[c], int(c % 3), &p.s[k], &p.y[k]);
  if (p.quadratic && p.P.empty()) {
    const std::vector<double> root = normals(random, n * n);
    p.P.assign(n * n, 0);
    for (long i = 0; i < n; i++)
      for (long j = 0; j <= i; j++) {
        double t = i == j ? 0.5 : 0;
        for (long l = 0; l < n; l++) t += root[i * n + l] * root[j * n + l] / double(n);
        p.P[i * n + j] = p.P[j * n + i] = t;
      }
  }
  p.q.assign(n, 0);
  p.b = p.s;
  for (long i = 0; p.quadratic && i < n; i++)
    for (long j = 0; j < n; j++) p.q[i] -= p.P[i * n + j] * p.x[j];
  for (long r = 0; r < m; r++)
    for (long j = 0; j < n; j++) {
      p.b[r] += p.A[r * n + j] * p.x[j];
      p.q[j] -= p.A[r * n + j] * p.y[r];
    }
  return p;
}
