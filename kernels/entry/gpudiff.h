/* The C interface of the CPU library: what gpudiff/backends/cpu.py calls through ctypes.
 *
 * One call handles a whole batch of problems of one shape and one cone list
 *
 *     minimise ½ xᵀP x + qᵀx   subject to   A x + s = b,  s ∈ K.
 *
 * No Python, no NumPy and no global state: every pointer is borrowed for the duration of the call, results are
 * written straight into the caller's arrays, and nothing is kept. Strides are in elements and may be anything; a
 * batch stride of 0 shares one array between all problems (its cotangent is then the sum over the batch).
 */
#ifndef GPUDIFF_H
#define GPUDIFF_H
#if defined(__CUDACC_RTC__) /* NVRTC knows no standard headers */
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define GD_ABI_VERSION 6

#if defined(__GNUC__)
#define GD_API __attribute__((visibility("default")))
#else
#define GD_API
#endif

/* A view [batch, row, col]; vectors use batch and row, scalars per problem use batch alone. data == NULL: absent.
 * Tangents and cotangents are views [direction, batch, row, col]; a stride of 0 is one for all directions. */
typedef struct gd_tensor {
  void* data;
  int64_t batch, row, col, direction;
} gd_tensor;

enum gd_dtype { GD_FLOAT64 = 0, GD_FLOAT32 = 1 };
enum gd_method { GD_INTERIOR_POINT = 0, GD_ACTIVE_SET = 1 };
enum gd_cone {
  GD_ZERO = 0,
  GD_NONNEGATIVE = 1,
  GD_SECOND_ORDER = 2,
  GD_PSD = 3,         /* k(k + 1)/2 rows: the lower triangle column by column, off-diagonal entries times √2 */
  GD_EXPONENTIAL = 4, /* any number of them, three rows each */
  GD_DUAL_EXPONENTIAL = 5,
  GD_POWER = 6, /* three rows */
  GD_DUAL_POWER = 7
};

/* Per problem; the numbers are gpudiff.Status's. */
enum gd_status {
  GD_UNFINISHED = 0, /* never returned */
  GD_SOLVED = 1,
  GD_ALMOST_SOLVED = 2,
  GD_PRIMAL_INFEASIBLE = 3,
  GD_DUAL_INFEASIBLE = 4,
  GD_ALMOST_PRIMAL_INFEASIBLE = 5,
  GD_ALMOST_DUAL_INFEASIBLE = 6,
  GD_MAX_ITERATIONS = 7,
  GD_TIME_LIMIT = 8,
  GD_NUMERICAL_ERROR = 9,
  GD_INVALID_DATA = 10
};

/* What a call returns. */
enum gd_result {
  GD_OK = 0,
  GD_OUT_OF_MEMORY = 1,
  GD_ASYMMETRIC_P = 2, /* gd_report.index says which problem; nothing in the outputs is to be used */
  GD_BAD_ARGUMENT = 3
};

typedef struct gd_problem {
  int64_t batch, n, m;
  int32_t dtype;            /* of P, q, A, b and of every floating-point output */
  int32_t cone_count;       /* cones in the caller's order; their rows add up to m */
  const int32_t* cone_kind; /* gd_cone */
  const int64_t* cone_rows;
  const double* cone_parameter; /* [cone_count] the exponent of a power cone; others' are not looked at */
  gd_tensor P;                  /* [B, n, n] symmetric, or absent */
  gd_tensor q;                  /* [B, n] */
  gd_tensor A;                  /* [B, m, n] */
  gd_tensor b;                  /* [B, m] */
} gd_problem;

typedef struct gd_settings {
  double tol_gap_abs, tol_gap_rel, tol_feas, tol_infeas_abs, tol_infeas_rel;
  double smoothing; /* jvp and vjp: those of the central point at this μ; 0: of the solution */
  int32_t max_iter;
  int32_t polish;       /* 0: interior point alone; 1: crossover and Newton polish */
  int32_t check_convex; /* 1: an indefinite P is GD_INVALID_DATA */
  int32_t threads;      /* at least 1 */
  int32_t method;       /* gd_method; GD_ACTIVE_SET wants zero and nonnegative cones alone */
} gd_settings;

/* Outputs of gd_solve, contiguous; any pointer may be NULL. */
typedef struct gd_solution {
  void *x, *y, *s;                             /* [B, n], [B, m], [B, m] */
  void* obj;                                   /* [B] */
  void *primal_residual, *dual_residual, *gap; /* [B], of the returned point, in the problem's own units */
  void* margin;        /* [B] relative distance of y − s to the nearest kink of the projection; 0: not differentiable */
  int8_t* status;      /* [B] gd_status */
  int32_t* iterations; /* [B] interior-point iterations plus Newton factorisations plus active-set changes */
} gd_solution;

/* What a call did, for benchmarks and error messages. */
typedef struct gd_report {
  int64_t index;     /* the offending problem where the result code speaks of one */
  int64_t interior;  /* interior-point iterations, summed over the batch */
  int64_t newton;    /* Newton (polish) factorisations, summed over the batch */
  int64_t resumed;   /* problems that went through the careful second interior-point run */
  int64_t fallbacks; /* problems that the active-set method left to the interior point */
  int64_t changes;   /* rows that entered or left a working set, summed over the batch */
  double flops;      /* operations of factorisations, solves and products; single precision counts half */
} gd_report;

/* A solution as derivatives read it; status [B] contiguous. Problems neither SOLVED nor ALMOST_SOLVED get zeros. */
typedef struct gd_point {
  gd_tensor x, y, s;
  const int8_t* status;
} gd_point;

/* The kinds of GPU kernels that need memory of their own. */
enum gd_gpu_kernel { GD_GPU_SOLVE = 0, GD_GPU_CAREFUL = 1, GD_GPU_JVP = 2, GD_GPU_VJP = 3, GD_GPU_ACTIVE_SET = 4 };

#if !defined(__CUDACC_RTC__) /* the library itself */
/* warm_x, warm_y, warm_s: a previous solution ([B or shared, …], batch stride 0 to broadcast) or absent. */
GD_API int gd_solve(const gd_problem*, const gd_settings*, const gd_tensor* warm_x, const gd_tensor* warm_y,
                    const gd_tensor* warm_s, gd_solution*, gd_report*);

/* Forward mode: tangents of the data in (any may be absent), tangents of x, y, s, obj out (any may be absent), for so
 * many directions, at least one, of which each gets the bits that it gets alone. */
GD_API int gd_jvp(const gd_problem*, const gd_settings*, const gd_point*, int64_t directions, const gd_tensor* P_dot,
                  const gd_tensor* q_dot, const gd_tensor* A_dot, const gd_tensor* b_dot, gd_tensor* x_dot,
                  gd_tensor* y_dot, gd_tensor* s_dot, gd_tensor* obj_dot, gd_report*);

/* Reverse mode: cotangents of x, y, s, obj in (any may be absent), cotangents of the data out. An absent output is not
 * computed; an output with batch stride 0 receives the sum over the batch, added up in the order of the problems
 * whatever the number of threads. */
GD_API int gd_vjp(const gd_problem*, const gd_settings*, const gd_point*, int64_t directions, const gd_tensor* x_bar,
                  const gd_tensor* y_bar, const gd_tensor* s_bar, const gd_tensor* obj_bar, gd_tensor* P_bar,
                  gd_tensor* q_bar, gd_tensor* A_bar, gd_tensor* b_bar, gd_report*);

/* Π(v) onto the cones of `cones`, or with `dual` onto their duals, into `primal`, and DΠ(v) `direction` into
 * `derivative`; v [B, m], and so are the others, which may be absent. Looks at batch, m, dtype and the cones alone. */
GD_API int gd_project(const gd_problem* cones, int32_t dual, int32_t threads, const gd_tensor* v,
                      const gd_tensor* direction, gd_tensor* primal, gd_tensor* derivative);

/* How the kernels see the rows: kind after kind in the order of gd_cone, each in the caller's order. Kernel row k is
 * the caller's row row_of[k] [m]; counts [8]: zero rows, nonnegative rows, and cones of the other kinds (an exponential
 * one is three rows here); dimensions [cone_count]: rows of the second-order cones, then orders of the PSD cones;
 * exponents [cone_count]: of the power cones, then of their duals. Looks at m and the cones alone. */
GD_API int gd_row_order(const gd_problem*, int64_t* row_of, int64_t* counts, int64_t* dimensions, double* exponents);

/* Memory that a group of threads of a GPU kernel needs for the problem it works on (entry/gpu/layout.cuh). Looks at n,
 * m and the cones alone; GD_GPU_ACTIVE_SET at zero and nonnegative cones only. `quick_bytes`: of a scalar of the fast
 * interior point; `level`: 0 keeps everything in shared memory, 3 nothing. */
GD_API int gd_gpu_layout(const gd_problem*, int32_t kernel, int32_t quick_bytes, int32_t level, int32_t group,
                         int64_t* shared_bytes, int64_t* global_bytes);

GD_API int gd_abi_version(void);
GD_API const char* gd_isa(void);           /* the variant in use: "avx512", "avx2", "baseline" */
GD_API const char* gd_isa_available(void); /* those this machine could run, best first, comma separated */
GD_API void gd_release_memory(void);       /* that waits for later calls; safe at any time */
GD_API int gd_use_isa(const char* name);   /* for tests: 0 on success */
GD_API double gd_fma_peak(int32_t dtype);  /* measured GFLOP/s of one core in the variant in use */

#endif

#ifdef __cplusplus
}
#endif
#endif
