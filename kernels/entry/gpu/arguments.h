/* What the GPU kernels are launched with: plain structs, passed by value.
 *
 * gpudiff/jit/arguments.py declares the same structs for ctypes; a test compares the two. Every pointer is to device
 * memory. Strides are those of gpudiff.h: in elements, a batch stride of 0 shares one array between all problems. The
 * element type (GD_DATA) and all sizes are compiled in.
 */
#ifndef GPUDIFF_GPU_ARGUMENTS_H
#define GPUDIFF_GPU_ARGUMENTS_H
#include "../gpudiff.h"

/* A call's counters; the caller sets them to zero before each launch sequence. */
typedef struct gd_control {
  uint64_t next;            /* work items handed out by the first kernel */
  uint64_t unfinished;      /* problems that the first kernel left to gd_careful_kernel */
  uint64_t next_unfinished; /* of those, handed out */
  uint64_t interior;        /* interior-point iterations */
  uint64_t newton;          /* Newton factorisations */
  uint64_t changes;         /* rows that entered or left a working set */
} gd_control;

/* A problem that the fast run left, and what it has cost so far. */
typedef struct gd_unfinished {
  int32_t index;
  int16_t interior, newton;
} gd_unfinished;

/* gd_solve_kernel or gd_active_set_kernel, whichever settings.method asks for, and, behind it on the same stream,
 * gd_careful_kernel. Without polish (settings.polish = 0) the first of them has nothing to do and need not be launched.
 */
typedef struct gd_gpu_solve {
  int64_t batch; /* below 2³¹ */
  gd_tensor P, q, A, b;
  gd_tensor warm_x, warm_y, warm_s; /* data NULL: a cold start; the active set looks at warm_y alone */
  gd_settings settings;             /* `threads` is not used */
  gd_solution out;                  /* contiguous; any pointer may be NULL */
  gd_control* control;
  gd_unfinished* unfinished; /* [batch] */
  char* workspace;           /* [groups of the grid, global bytes of the layout], 256-byte aligned, or NULL */
  int32_t zero_on_failure;   /* 1: failed problems get 0 rather than NaN in x, y, s and obj */
  int32_t unused;
} gd_gpu_solve;

/* gd_jvp_kernel: tangents of P, q, A, b in, those of x, y, s, obj out. gd_vjp_kernel: cotangents of x, y, s, obj in,
 * those of P, q, A, b out. Any of them may be absent; each is [directions, …]. */
typedef struct gd_gpu_sensitivity {
  int64_t batch;
  gd_tensor P, q, A, b;
  gd_point point;
  gd_tensor P_dir, q_dir, A_dir, b_dir;
  gd_tensor x_dir, y_dir, s_dir, obj_dir;
  gd_control* control;
  char* workspace;
  /* vjp: cotangents of shared arguments (batch stride 0) are summed over `segment` consecutive problems at a time, into
   * sums [ceil(batch / segment), directions, words]; words = the sizes of the shared ones among P, q, A, b, one after
   * another. gd_sum_kernel adds the segments up in order. NULL: nothing is shared, and `segment` is 1. */
  double* sums;
  int64_t segment;
  int64_t directions;
  double smoothing; /* kernels compiled with GD_SMOOTHED: μ of the central point that is differentiated */
} gd_gpu_sensitivity;

/* gd_sum_kernel, one thread for each word of each direction: the shared cotangents from the sums of their segments. */
typedef struct gd_gpu_sum {
  const double* sums;
  int64_t segments, words, directions;
  gd_tensor P_dir, q_dir, A_dir, b_dir; /* those that are not shared: data NULL */
} gd_gpu_sum;

/* gd_project_kernel: Π(v), or that of the dual cones, into `primal` and DΠ(v) `direction` into `derivative`; an array
 * that is absent has data NULL. */
typedef struct gd_gpu_project {
  int64_t batch;
  gd_tensor v, direction, primal, derivative; /* [B, m] */
  char* workspace;                            /* [groups of the grid, GD_WORK_WORDS doubles], or NULL */
  int32_t dual, unused;
} gd_gpu_project;

#endif
