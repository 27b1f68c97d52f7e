// The cotangents of shared arguments from the sums of vjp_kernel.cuh's segments: one thread for each word, segment
// after segment, so that the result has the same bits whoever computed the segments.
#pragma once
#include "problem.cuh"
#include "shared_sums.cuh"

extern "C" __global__ void __launch_bounds__(GD_THREADS) gd_sum_kernel(const gd_gpu_sum call) {
  using namespace GD_NAMESPACE;
  const SumOffsets offsets(call.P_dir, call.q_dir, call.A_dir, call.b_dir);
  const long long place = (long long)(blockIdx.x) * GD_THREADS + threadIdx.x, all = call.directions * call.words;
  if (place >= all) return;
  const long long direction = place / call.words, word = place % call.words;
  double sum = 0;
  for (long long segment = 0; segment < call.segments; segment++) sum += call.sums[segment * all + place];
  const auto put = [&](const gd_tensor& t, long long e, int columns)
                       GD_LAMBDA { Target(t, 0, direction).set(index_t(e / columns), index_t(e % columns), sum); };
  if (word < offsets.q)
    put(call.P_dir, word - offsets.P, GD_N);
  else if (word < offsets.A)
    put(call.q_dir, word - offsets.q, 1);
  else if (word < offsets.b)
    put(call.A_dir, word - offsets.A, GD_N);
  else
    put(call.b_dir, word - offsets.b, 1);
}
