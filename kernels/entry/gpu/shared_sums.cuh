// Which cotangents are sums over the batch, and where each lies among the words of a segment's sum.
#pragma once
#include "structure.cuh"

namespace GD_NAMESPACE {

GD_DEVICE bool is_summed(const gd_tensor& t) { return t.data != nullptr && t.batch == 0; }

struct SumOffsets {
  long long P, q, A, b, words;

  GD_DEVICE SumOffsets(const gd_tensor& P_bar, const gd_tensor& q_bar, const gd_tensor& A_bar, const gd_tensor& b_bar) {
    P = 0;
    q = P + (is_summed(P_bar) ? GD_N * GD_N : 0);
    A = q + (is_summed(q_bar) ? GD_N : 0);
    b = A + (is_summed(A_bar) ? kTotalRows * GD_N : 0);
    words = b + (is_summed(b_bar) ? kTotalRows : 0);
  }
};

}  // namespace GD_NAMESPACE
