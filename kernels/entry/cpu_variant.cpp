// The kernels compiled for one instruction set. Built several times, with GD_NAMESPACE and GD_VARIANT_NAME set by the
// build; includes no header of the standard library, so that nothing compiled here can be shared with another variant.
#include "active_set_chunk.hpp"
#include "projection_chunk.hpp"
#include "sensitivity_chunk.hpp"
#include "solve_chunk.hpp"

#define GD_STRINGIFY_(x) #x
#define GD_STRINGIFY(x) GD_STRINGIFY_(x)

namespace GD_NAMESPACE {

using gpudiff_entry::Variant;

// Packs as wide as the cache likes, by the size of the problem alone: the same problem takes the same path in any
// batch.
enum class Width { eight, four, one };
inline Width width_of(const Shape& s) {
  const index_t words = 2 * Panels<double>::words(s.m(), s.n) + SymmetricTiles<double>::words(tiles(s.n)) +
                        SymmetricTiles<double>::words(tiles(s.n) + tiles(s.rows.zero));
#if defined(__AVX512F__)
  // Cones of three rows wait for roots and logarithms, which do not fill the machine; those have it all to themselves.
  if (words <= (s.rows.triples() > 0 ? 6400 : 800)) return Width::eight;
#endif
  return words <= (index_t(16) << 20) / 32 ? Width::four : Width::one;
}
template <class Work>
inline auto with_width(const Shape& s, Work work) {
  switch (width_of(s)) {
#if defined(__AVX512F__)
    case Width::eight:
      return work(double8{}, float16{});
#endif
    case Width::one:
      return work(double{}, double{});
    default:
      return work(double4{}, float8{});
  }
}

static long largest_chunk(const gd_problem* p, const Rows& r) {
  const Shape s = shape_of(*p, r);
  return with_width(s, [&](auto t, auto f) { return long(ChunkSolver<decltype(t), decltype(f)>::chunk(s)); });
}

// Packs for the active-set method, and what P and A are made of: plain numbers where all problems share them. Four
// lanes, as wider packs wait longer for their slowest problem (measured: 15 % at n = 8, nothing gained above). A single
// problem is a pack, too: compilers vectorise plain loops, and its bits would not be those that it has in a batch.
template <class Work>
inline auto with_active_set(const gd_problem& p, Work work) {
  const bool shared = p.batch > 1 && p.P.batch == 0 && p.A.batch == 0;
  return shared ? work(double4{}, double{}) : work(double4{}, double4{});
}

static long solve_bytes(const gd_problem* p, const Rows& r, const gd_settings* settings, long chunk) {
  const Shape s = shape_of(*p, r);
  const long rest =
      with_width(s, [&](auto t, auto f) { return long(ChunkSolver<decltype(t), decltype(f)>::bytes(s, chunk)); });
  if (settings->method != GD_ACTIVE_SET) return rest;
  return rest + with_active_set(*p, [&](auto t, auto e) {
           return long(ChunkActiveSet<decltype(t), decltype(e)>::bytes(s, largest_chunk(p, r)));
         });
}
// A point of the active-set method first by that method's factors, and what they cannot do by the general system.
static bool by_working_set(const gd_problem& p, const Shape& s, int method) {
  return method == GD_ACTIVE_SET && p.P.data && s.n > 0 && s.rows.zero + s.rows.nonnegative == s.rows.total;
}
static long sensitivity_bytes(const gd_problem* p, const Rows& r, int method) {
  const Shape s = shape_of(*p, r);
  const long general =
      with_width(s, [&](auto t, auto) { return long(ChunkSensitivity<decltype(t)>::bytes(s, false)); });
  if (!by_working_set(*p, s, method)) return general;
  return general + long(ChunkSensitivity<double4>::bytes(s, true));
}

// `mode`: calls jvp or vjp of what it is given.
template <class Mode>
static void sensitivity(const Sensitivity& job, char* memory, long begin, long end, Counters& counters, Mode mode) {
  const gd_problem& p = *job.problem;
  const Shape s = shape_of(p, job.rows);
  for (index_t first = 0; first < job.directions; first += kDirectionsAtOnce) {
    LeftOver left[64];
    index_t count = end - begin;
    const LeftOver* todo = nullptr;
    char* rest = memory;
    if (by_working_set(p, s, job.what.method)) {
      using Chunk = ChunkSensitivity<double4>;
      Chunk chunk(job, first, memory, counters, true);
      count = mode(chunk, Chunk::Todo{nullptr, begin, count}, left);
      rest += Chunk::bytes(s, true);
      if (count == 0) continue;
      todo = left;
    }
    with_width(s, [&](auto t, auto) {
      using Chunk = ChunkSensitivity<decltype(t)>;
      Chunk chunk(job, first, rest, counters, false);
      mode(chunk, typename Chunk::Todo{todo, begin, count}, static_cast<LeftOver*>(nullptr));
    });
  }
}

static void solve(const Solve& job, char* memory, long begin, long end, Counters& counters) {
  const Shape s = shape_of(*job.problem, job.rows);
  const int* left = nullptr;
  index_t n_left = 0;
  if (job.settings->method == GD_ACTIVE_SET) {
    with_active_set(*job.problem, [&](auto t, auto e) {
      using Method = ChunkActiveSet<decltype(t), decltype(e)>;
      Method method(job, memory, begin, end, counters);
      n_left = method.run();
      left = method.left;
      // As far behind for the last, shorter chunk: what is never written must stay the zeros that it was at first.
      memory += Method::bytes(s, largest_chunk(job.problem, job.rows));
    });
    counters.fallbacks += n_left;
    if (n_left == 0) return;
  }
  with_width(s, [&](auto t, auto f) {
    ChunkSolver<decltype(t), decltype(f)> solver(job, memory, begin, end, counters);
    solver.run(left, n_left);
  });
}

static void jvp(const Sensitivity& job, char* memory, long begin, long end, Counters& counters) {
  sensitivity(job, memory, begin, end, counters,
              [](auto& chunk, auto todo, LeftOver* left) { return chunk.jvp(todo, left); });
}

static void vjp(const Sensitivity& job, char* memory, long begin, long end, Counters& counters) {
  sensitivity(job, memory, begin, end, counters,
              [](auto& chunk, auto todo, LeftOver* left) { return chunk.vjp(todo, left); });
}

// Multiply–adds on independent registers: what one core does at best, for fractions of peak. Named variables, as an
// array would live in memory.
template <class T>
static double fma_peak_of(double (*now)()) {
  const T x = broadcast<T>(1.0000001), y = broadcast<T>(1e-9);
  T a0 = x, a1 = x, a2 = x, a3 = x, a4 = x, a5 = x, a6 = x, a7 = x, a8 = x, a9 = x, a10 = x, a11 = x;
  double best = 0;
  for (int trial = 0; trial < 20; trial++) {
    const long rounds = 200000;
    const double start = now();
    for (long r = 0; r < rounds; r++) {
#define GD_MULTIPLY_ADD(a) \
  a = a * x + y;           \
  keep_in_register(a);
      GD_MULTIPLY_ADD(a0)
      GD_MULTIPLY_ADD(a1)
      GD_MULTIPLY_ADD(a2)
      GD_MULTIPLY_ADD(a3)
      GD_MULTIPLY_ADD(a4)
      GD_MULTIPLY_ADD(a5)
      GD_MULTIPLY_ADD(a6)
      GD_MULTIPLY_ADD(a7)
      GD_MULTIPLY_ADD(a8)
      GD_MULTIPLY_ADD(a9)
      GD_MULTIPLY_ADD(a10)
      GD_MULTIPLY_ADD(a11)
#undef GD_MULTIPLY_ADD
    }
    const double rate = 2.0 * 12 * Scalar<T>::lanes * double(rounds) / (now() - start) * 1e-9;
    best = rate > best ? rate : best;
  }
  volatile double sink = double(get_lane(T(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11), 0));
  (void)sink;
  return best;
}
static double fma_peak(int dtype, double (*now)()) {
#if defined(__AVX512F__)
  return dtype == GD_FLOAT64 ? fma_peak_of<double8>(now) : fma_peak_of<float16>(now);
#else
  return dtype == GD_FLOAT64 ? fma_peak_of<double4>(now) : fma_peak_of<float8>(now);
#endif
}

}  // namespace GD_NAMESPACE

extern "C" const gpudiff_entry::Variant GD_VARIANT_SYMBOL;
const gpudiff_entry::Variant GD_VARIANT_SYMBOL = {GD_STRINGIFY(GD_VARIANT_NAME),
                                                  GD_NAMESPACE::largest_chunk,
                                                  GD_NAMESPACE::solve_bytes,
                                                  GD_NAMESPACE::sensitivity_bytes,
                                                  GD_NAMESPACE::solve,
                                                  GD_NAMESPACE::jvp,
                                                  GD_NAMESPACE::vjp,
                                                  GD_NAMESPACE::projection_bytes,
                                                  GD_NAMESPACE::project,
                                                  GD_NAMESPACE::fma_peak};
