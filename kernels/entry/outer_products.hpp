// The outer products that gradients of matrices consist of, written straight to where they belong: at small sizes most
// of what a backward pass does is to write them.
#pragma once
#include "../equilibrate.cuh"

namespace GD_NAMESPACE {

// A product that is rounded before it is added to anything.
GD_HD Strip rounded_product(Strip a, Strip b) {
  Strip product = a * b;
#if defined(__AVX512F__)
  keep_in_register(product);
#elif defined(__AVX__)
  double4 half[2];
  __builtin_memcpy(half, &product, sizeof product);
  keep_in_register(half[0]);
  keep_in_register(half[1]);
  __builtin_memcpy(&product, half, sizeof product);
#elif !defined(__x86_64__)  // which can not fuse the two
  asm("" : "+m"(product));
#endif
  return product;
}

// row(r)[j] = x_r w_j + w_r x_j for r, j < n, symmetric to the last bit: both products are rounded, and a sum does not
// depend on the order of its two terms.
template <class Row>
GD_HD void symmetric_outer_product(const double* x, const double* w, index_t n, Row row) {
  Strip short_x{}, short_w{};  // less than a strip
  for (index_t j = 0; n < kStrip && j < n; j++) {
    set_lane(short_x, int(j), x[j]);
    set_lane(short_w, int(j), w[j]);
  }
  for (index_t r = 0; r < n; r++) {
    const Strip xr = broadcast<Strip>(x[r]), wr = broadcast<Strip>(w[r]);
    double* const out = row(r);
    const auto strip = [&](index_t j) {
      store_strip(out + j, rounded_product(xr, load_strip(w + j)) + rounded_product(wr, load_strip(x + j)));
    };
    if (n < kStrip) {
      const Strip sum = rounded_product(xr, short_w) + rounded_product(wr, short_x);
      for (index_t j = 0; j < n; j++) out[j] = get_lane(sum, int(j));
      continue;
    }
    for (index_t j = 0; j + kStrip <= n; j += kStrip) strip(j);
    if (n % kStrip) strip(n - kStrip);  // some of it for the second time
  }
}

// A copy past the caches.
GD_HD void stream_out(const double* from, index_t count, double* to) {
  index_t i = 0;
  for (; i < count && (reinterpret_cast<unsigned long long>(to + i) & 63) != 0; i++) to[i] = from[i];
  for (; i + 8 <= count; i += 8) {
    double8 a;
    __builtin_memcpy(&a, from + i, sizeof a);
    stream(to + i, a);
  }
  for (; i < count; i++) to[i] = from[i];
}

// out = c x − y a; rows that are zero, as those of inactive inequalities mostly are, without arithmetic.
GD_HD void combine_row(double c, const double* GD_RESTRICT x, double y, const double* GD_RESTRICT a, index_t n,
                       double* GD_RESTRICT out) {
  if (c == 0 && y == 0) {
    __builtin_memset(out, 0, n * sizeof(double));
    return;
  }
  for (index_t j = 0; j < n; j++) out[j] = c * x[j] - y * a[j];
}

}  // namespace GD_NAMESPACE
