/* A batch call as the instruction-set variants see it: plain data, shared by cpu_library.cpp (threads, dispatch) and
 * cpu_variant.cpp (compiled once per instruction set). */
#pragma once
#include "gpudiff.h"

namespace gpudiff_entry {

/* Kernel row k is the caller's row row_of[k]: zero rows first, then nonnegative, then second-order cones, PSD cones,
 * and cones of three rows (exponential, their duals, power, their duals). */
struct Rows {
  long zero, nonnegative, second_order_count, total;
  const long* second_order_start;
  const long* second_order_dimension;
  long semidefinite_count, exponential, dual_exponential, power, dual_power; /* cones */
  const long* semidefinite_start;
  const long* semidefinite_order;
  long triple_start;         /* the first row of the cones of three rows */
  const double* power_alpha; /* [power + dual_power] */
  const long* row_of;
  bool in_order; /* row_of is the identity */
};

struct Counters {
  long interior, newton, resumed, fallbacks, changes;
  double flops;
  long asymmetric; /* index of the first problem found with an asymmetric P, or −1 */
};

struct Solve {
  const gd_problem* problem;
  const gd_settings* settings;
  Rows rows;
  const gd_tensor *warm_x, *warm_y, *warm_s; /* absent: NULL */
  gd_solution* out;
  unsigned long long number; /* of the call: a thread's memory may have served earlier ones */
};

/* Which point is differentiated. */
struct Differentiated {
  int method;       /* gd_method that it comes from; GD_INTERIOR_POINT with smoothing, where no set is active */
  double smoothing; /* μ of the central point that takes its place, or 0 */
};

struct Sensitivity {
  const gd_problem* problem;
  Rows rows;
  const gd_point* point;
  const gd_tensor *P, *q, *A, *b, *x, *y, *s, *obj; /* tangents or cotangents; which are inputs depends on the mode */
  double *P_sum, *q_sum, *A_sum, *b_sum;            /* vjp: this chunk's sums for shared arguments, or NULL */
  Differentiated what;
  long directions;
  long sum_words; /* from the sums of one direction to those of the next */
};

/* gd_project. */
struct Projection {
  int dtype;
  bool dual;
  const gd_tensor *v, *direction, *primal, *derivative; /* absent: NULL; a direction has a derivative */
};

/* Cones of one kind and size, one behind the other: `rows` each, the first of them at row `first` of a point. Rows of a
 * zero or nonnegative cone are one cone of a run of their own. */
struct ConeRun {
  int kind; /* gd_cone */
  long rows, count, first;
  const double* alpha; /* [count] */
};

/* One instruction set's functions. A thread's `memory` is 64-byte aligned, zeroed once, and as large as the *_bytes say
 * for chunks of so many problems. */
struct Variant {
  const char* name;
  long (*chunk)(const gd_problem*, const Rows&); /* the largest sensible number of problems in a chunk */
  long (*solve_bytes)(const gd_problem*, const Rows&, const gd_settings*, long chunk);
  long (*sensitivity_bytes)(const gd_problem*, const Rows&, int method);
  void (*solve)(const Solve&, char* memory, long begin, long end, Counters&);
  void (*jvp)(const Sensitivity&, char* memory, long begin, long end, Counters&);
  void (*vjp)(const Sensitivity&, char* memory, long begin, long end, Counters&);
  long (*projection_bytes)(const ConeRun&);
  void (*project)(const Projection&, const ConeRun&, char* memory, long begin, long end); /* cones of all points */
  double (*fma_peak)(int dtype, double (*now)()); /* GFLOP/s, by a clock in seconds */
};

}  // namespace gpudiff_entry
