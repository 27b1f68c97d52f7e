// The C interface: chooses the instruction-set variant, orders the rows, and spreads chunks over threads.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#define GD_NAMESPACE gpudiff_layout
#define GD_GPU_LAYOUT
#include "gpu/active_set_layout.cuh"
#include "job.h"
#include "projection_call.hpp"
#include "scratch.hpp"

using gpudiff_entry::Counters;
using gpudiff_entry::Memory;
using gpudiff_entry::Rows;
using gpudiff_entry::Sensitivity;
using gpudiff_entry::Solve;
using gpudiff_entry::Variant;

extern "C" {
extern const Variant gd_variant_baseline;
#if defined(GD_HAVE_X86_VARIANTS)
extern const Variant gd_variant_avx2;
extern const Variant gd_variant_avx512;
#endif
}

namespace {

std::vector<const Variant*> runnable_variants() {
  std::vector<const Variant*> v;
#if defined(GD_HAVE_X86_VARIANTS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    v.push_back(&gd_variant_avx512);
  if (avx2) v.push_back(&gd_variant_avx2);
#endif
  v.push_back(&gd_variant_baseline);
  return v;
}

const Variant* find_variant(const char* name) {
  for (const Variant* v : runnable_variants())
    if (std::strcmp(v->name, name) == 0) return v;
  return nullptr;
}

// The best this machine runs, or the one GPUDIFF_ISA names.
const Variant* initial_variant() {
  if (const char* name = std::getenv("GPUDIFF_ISA"))
    if (const Variant* v = find_variant(name)) return v;
  return runnable_variants().front();
}

std::atomic<const Variant*>& current_variant() {
  static std::atomic<const Variant*> variant{initial_variant()};
  return variant;
}

// The order k of a PSD cone of k(k + 1)/2 rows, or −1.
long order_of(long rows) {
  long k = 0;
  while (k * (k + 1) / 2 < rows) k++;
  return k * (k + 1) / 2 == rows ? k : -1;
}

// Kind after kind in the order of gd_cone, each in the caller's order. A cone of a single row is a nonnegative row.
struct RowOrder {
  std::vector<long> row_of, start, dimension, semidefinite_start, order;
  std::vector<double> alpha;
  Rows rows{};
  bool valid = true;

  explicit RowOrder(const gd_problem& p) {
    row_of.reserve(p.m);
    long cones_of[GD_DUAL_POWER + 1] = {};
    for (int pass = GD_ZERO; pass <= GD_DUAL_POWER; pass++) {
      long row = 0;
      if (pass == GD_EXPONENTIAL) rows.triple_start = long(row_of.size());
      for (int c = 0; c < p.cone_count; c++) {
        const long d = p.cone_rows[c];
        const int kind = p.cone_kind[c];
        const bool half_line = d == 1 && (kind == GD_SECOND_ORDER || kind == GD_PSD);
        if (!well_formed(kind, d, p.cone_parameter ? p.cone_parameter[c] : 0)) valid = false;
        if ((half_line ? int(GD_NONNEGATIVE) : kind) == pass && d > 0 && valid) {
          if (pass == GD_SECOND_ORDER) {
            start.push_back(long(row_of.size()));
            dimension.push_back(d);
          }
          if (pass == GD_PSD) {
            semidefinite_start.push_back(long(row_of.size()));
            order.push_back(order_of(d));
          }
          if (pass >= GD_POWER) alpha.push_back(p.cone_parameter[c]);
          cones_of[pass] += pass >= GD_EXPONENTIAL ? d / 3 : 1;
          for (long i = 0; i < d; i++) row_of.push_back(row + i);
        }
        row += d;
      }
      if (pass == GD_ZERO) rows.zero = long(row_of.size());
      if (pass == GD_NONNEGATIVE) rows.nonnegative = long(row_of.size()) - rows.zero;
      if (row != p.m) valid = false;
    }
    rows.second_order_count = cones_of[GD_SECOND_ORDER];
    rows.semidefinite_count = cones_of[GD_PSD];
    rows.semidefinite_start = semidefinite_start.data();
    rows.semidefinite_order = order.data();
    rows.exponential = cones_of[GD_EXPONENTIAL];
    rows.dual_exponential = cones_of[GD_DUAL_EXPONENTIAL];
    rows.power = cones_of[GD_POWER];
    rows.dual_power = cones_of[GD_DUAL_POWER];
    rows.power_alpha = alpha.data();
    rows.total = long(row_of.size());
    rows.second_order_start = start.data();
    rows.second_order_dimension = dimension.data();
    rows.row_of = row_of.data();
    rows.in_order = std::is_sorted(row_of.begin(), row_of.end());
  }

  static bool well_formed(int kind, long d, double parameter) {
    if (kind < GD_ZERO || kind > GD_DUAL_POWER || d < 0) return false;
    if (kind == GD_PSD) return order_of(d) > 0;
    if (kind == GD_EXPONENTIAL || kind == GD_DUAL_EXPONENTIAL) return d % 3 == 0;
    if (kind >= GD_POWER) return d == 3 && parameter > 0 && parameter < 1;
    return true;
  }
  bool linear() const { return rows.zero + rows.nonnegative == rows.total; }
};

// What decides how the memory of one thread's work on `p` is laid out; `work`: which function's.
std::string layout_key(const gd_problem& p, const Variant& v, int work, int method, long chunk) {
  gpudiff_entry::LayoutKey key;
  const auto shared = [&](const gd_tensor& t) { return t.data ? p.batch > 1 && t.batch == 0 ? 2 : 1 : 0; };
  key.add(&v).add(work).add(method).add(chunk).add(p.n).add(p.m).add(p.dtype).add(shared(p.P)).add(shared(p.A));
  key.add(p.cone_kind, p.cone_count).add(p.cone_rows, p.cone_count);
  return key.bytes;
}

// Fixed, as the order of summation over a shared argument follows it.
constexpr long kSensitivityChunk = 32;

// Runs work(memory, begin, end, counters, chunk number) for every chunk, on up to `threads` threads.
template <class Work>
int for_each_chunk(const gd_problem& p, int threads, long chunk, long bytes, const std::string& key, gd_report* report,
                   Work work) {
  const long count = (p.batch + chunk - 1) / chunk;
  const long workers = std::max(1L, std::min<long>(threads, count));
  std::atomic<long> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  Counters total{0, 0, 0, 0, 0, 0.0, -1};
  auto worker = [&] {
    const Memory memory(bytes, key);
    if (!memory.data) failed = true;
    Counters mine{0, 0, 0, 0, 0, 0.0, -1};
    for (;;) {
      const long c = next.fetch_add(1);
      if (c >= count) break;
      // Even after a failure every chunk takes its turn: others may be waiting for it.
      work(failed ? nullptr : memory.data, c * chunk, std::min(p.batch, (c + 1) * chunk), mine, c);
      if (mine.asymmetric >= 0) break;
    }
    std::lock_guard<std::mutex> lock(mutex);
    total.interior += mine.interior;
    total.newton += mine.newton;
    total.resumed += mine.resumed;
    total.fallbacks += mine.fallbacks;
    total.changes += mine.changes;
    total.flops += mine.flops;
    if (mine.asymmetric >= 0 && (total.asymmetric < 0 || mine.asymmetric < total.asymmetric)) {
      total.asymmetric = mine.asymmetric;
      next = count;
    }
  };
  std::vector<std::thread> pool;
  try {
    for (long t = 1; t < workers; t++) pool.emplace_back(worker);
  } catch (...) {  // fewer threads than asked for: those there are do the work
  }
  worker();
  for (std::thread& t : pool) t.join();
  if (report)
    *report = {total.asymmetric, total.interior, total.newton, total.resumed,
               total.fallbacks,  total.changes,  total.flops};
  if (failed) return GD_OUT_OF_MEMORY;
  return total.asymmetric >= 0 ? GD_ASYMMETRIC_P : GD_OK;
}

// Sums over a shared argument, chunk after chunk in order, whatever thread computed them.
struct OrderedSum {
  std::mutex mutex;
  std::condition_variable turn;
  long next = 0;
};

bool shared(const gd_tensor* t) { return t && t->data && t->batch == 0; }

const gd_tensor* present(const gd_tensor* t) { return t && t->data ? t : nullptr; }

void store(const gd_tensor& t, int dtype, long offset, double value) {
  if (dtype == GD_FLOAT64)
    static_cast<double*>(t.data)[offset] = value;
  else
    static_cast<float*>(t.data)[offset] = static_cast<float>(value);
}

}  // namespace

extern "C" {

int gd_solve(const gd_problem* problem, const gd_settings* settings, const gd_tensor* warm_x, const gd_tensor* warm_y,
             const gd_tensor* warm_s, gd_solution* out, gd_report* report) try {
  const RowOrder order(*problem);
  if (report) *report = {-1, 0, 0, 0, 0, 0, 0.0};
  if (!order.valid) return GD_BAD_ARGUMENT;
  if (problem->batch == 0) return GD_OK;
  const Variant& v = *current_variant().load();
  static std::atomic<unsigned long long> calls{0};
  Solve job{problem, settings, order.rows, present(warm_x), present(warm_y), present(warm_s), out, ++calls};
  if (!job.warm_y || !job.warm_s) job.warm_x = nullptr;
  if (settings->method == GD_ACTIVE_SET && !order.linear()) return GD_BAD_ARGUMENT;
  // Enough chunks to keep all threads busy, no larger than one thread's memory allows.
  const long largest = v.chunk(problem, order.rows), threads = std::max(1, settings->threads);
  const long even = (problem->batch + 4 * threads - 1) / (4 * threads);
  const long chunk = std::max(16L, std::min(largest, threads == 1 ? largest : even));
  const long size = std::min({chunk, largest, long(problem->batch)});
  return for_each_chunk(*problem, threads, size, v.solve_bytes(problem, order.rows, settings, size),
                        layout_key(*problem, v, 0, settings->method, size), report,
                        [&](char* memory, long begin, long end, Counters& counters, long) {
                          if (memory) v.solve(job, memory, begin, end, counters);
                        });
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

static gpudiff_entry::Differentiated differentiated(const gd_settings& settings) {
  const bool smoothed = settings.smoothing > 0;
  return {smoothed ? int(GD_INTERIOR_POINT) : settings.method, smoothed ? settings.smoothing : 0.0};
}

int gd_jvp(const gd_problem* problem, const gd_settings* settings, const gd_point* point, int64_t directions,
           const gd_tensor* P_dot, const gd_tensor* q_dot, const gd_tensor* A_dot, const gd_tensor* b_dot,
           gd_tensor* x_dot, gd_tensor* y_dot, gd_tensor* s_dot, gd_tensor* obj_dot, gd_report* report) try {
  const RowOrder order(*problem);
  if (report) *report = {-1, 0, 0, 0, 0, 0, 0.0};
  if (!order.valid || directions < 1) return GD_BAD_ARGUMENT;
  if (problem->batch == 0) return GD_OK;
  const Variant& v = *current_variant().load();
  const Sensitivity job{problem,
                        order.rows,
                        point,
                        present(P_dot),
                        present(q_dot),
                        present(A_dot),
                        present(b_dot),
                        present(x_dot),
                        present(y_dot),
                        present(s_dot),
                        present(obj_dot),
                        nullptr,
                        nullptr,
                        nullptr,
                        nullptr,
                        differentiated(*settings),
                        directions,
                        0};
  return for_each_chunk(*problem, std::max(1, settings->threads), kSensitivityChunk,
                        v.sensitivity_bytes(problem, order.rows, job.what.method),
                        layout_key(*problem, v, 1, job.what.method, kSensitivityChunk), report,
                        [&](char* memory, long begin, long end, Counters& counters, long) {
                          if (memory) v.jvp(job, memory, begin, end, counters);
                        });
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

int gd_vjp(const gd_problem* problem, const gd_settings* settings, const gd_point* point, int64_t directions,
           const gd_tensor* x_bar, const gd_tensor* y_bar, const gd_tensor* s_bar, const gd_tensor* obj_bar,
           gd_tensor* P_bar, gd_tensor* q_bar, gd_tensor* A_bar, gd_tensor* b_bar, gd_report* report) try {
  const RowOrder order(*problem);
  if (report) *report = {-1, 0, 0, 0, 0, 0, 0.0};
  if (!order.valid || directions < 1) return GD_BAD_ARGUMENT;
  const Variant& v = *current_variant().load();
  const long n = problem->n, m = problem->m;
  const gd_tensor* outputs[4] = {P_bar, q_bar, A_bar, b_bar};
  const long sizes[4] = {n * n, n, m * n, m}, columns[4] = {n, 1, n, 1};
  long offset[5] = {0, 0, 0, 0, 0};
  for (int i = 0; i < 4; i++) offset[i + 1] = offset[i] + (shared(outputs[i]) ? sizes[i] : 0);
  const Sensitivity job{problem,
                        order.rows,
                        point,
                        present(P_bar),
                        present(q_bar),
                        present(A_bar),
                        present(b_bar),
                        present(x_bar),
                        present(y_bar),
                        present(s_bar),
                        present(obj_bar),
                        nullptr,
                        nullptr,
                        nullptr,
                        nullptr,
                        differentiated(*settings),
                        directions,
                        offset[4]};
  std::vector<double> total(directions * offset[4], 0.0);
  OrderedSum ordered;
  std::atomic<bool> short_of_memory{false};
  int result = GD_OK;
  if (problem->batch > 0) {
    result = for_each_chunk(*problem, std::max(1, settings->threads), kSensitivityChunk,
                            v.sensitivity_bytes(problem, order.rows, job.what.method),
                            layout_key(*problem, v, 1, job.what.method, kSensitivityChunk), report,
                            [&](char* memory, long begin, long end, Counters& counters, long number) {
                              if (total.empty()) {
                                if (memory) v.vjp(job, memory, begin, end, counters);
                                return;
                              }
                              const Memory partial(8 * long(total.size()));
                              double* sum = reinterpret_cast<double*>(partial.data);
                              if (!sum) short_of_memory = true;
                              Sensitivity mine = job;
                              double** sums[4] = {&mine.P_sum, &mine.q_sum, &mine.A_sum, &mine.b_sum};
                              for (int i = 0; i < 4; i++)
                                if (offset[i + 1] > offset[i]) *sums[i] = sum + offset[i];
                              if (memory && sum) v.vjp(mine, memory, begin, end, counters);
                              std::unique_lock<std::mutex> lock(ordered.mutex);
                              ordered.turn.wait(lock, [&] { return ordered.next == number; });
                              for (std::size_t i = 0; sum && i < total.size(); i++) total[i] += sum[i];
                              ordered.next++;
                              ordered.turn.notify_all();
                            });
    if (short_of_memory) return GD_OUT_OF_MEMORY;
  }
  for (int i = 0; i < 4; i++) {
    for (long d = 0; d < directions; d++) {
      for (long k = 0; k < offset[i + 1] - offset[i]; k++) {
        const gd_tensor& t = *outputs[i];
        const long place = d * t.direction + k / columns[i] * t.row + k % columns[i] * t.col;
        store(t, problem->dtype, place, total[d * offset[4] + offset[i] + k]);
      }
    }
  }
  return result;
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

int gd_project(const gd_problem* cones, int32_t dual, int32_t threads, const gd_tensor* v, const gd_tensor* direction,
               gd_tensor* primal, gd_tensor* derivative) try {
  using namespace gpudiff_entry;
  long rows = 0;
  for (int c = 0; c < cones->cone_count; c++) {
    const double parameter = cones->cone_parameter ? cones->cone_parameter[c] : 0;
    if (!RowOrder::well_formed(cones->cone_kind[c], cones->cone_rows[c], parameter)) return GD_BAD_ARGUMENT;
    rows += cones->cone_rows[c];
  }
  const Projection job{cones->dtype, dual != 0, v, present(direction), present(primal), present(derivative)};
  if (rows != cones->m || !v->data || !job.direction != !job.derivative) return GD_BAD_ARGUMENT;
  const Variant& variant = *current_variant().load();
  const ConeRuns list(*cones);
  const ProjectionPieces pieces(list.runs(), cones->batch);
  long bytes = 0;
  for (const ConeRun& run : list.runs()) bytes = std::max(bytes, variant.projection_bytes(run));
  const bool done = spread<Memory>(pieces.count(), std::max(1, threads), bytes, [&](char* memory, long piece) {
    pieces.run(piece, [&](const ConeRun& run, long begin, long end) { variant.project(job, run, memory, begin, end); });
  });
  return done ? GD_OK : GD_OUT_OF_MEMORY;
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

int gd_row_order(const gd_problem* problem, int64_t* row_of, int64_t* counts, int64_t* dimensions,
                 double* exponents) try {
  const RowOrder order(*problem);
  if (!order.valid) return GD_BAD_ARGUMENT;
  std::copy(order.row_of.begin(), order.row_of.end(), row_of);
  std::copy(order.order.begin(), order.order.end(),
            std::copy(order.dimension.begin(), order.dimension.end(), dimensions));
  std::copy(order.alpha.begin(), order.alpha.end(), exponents);
  const Rows& r = order.rows;
  const long all[] = {
      r.zero,  r.nonnegative, r.second_order_count, r.semidefinite_count, r.exponential, r.dual_exponential,
      r.power, r.dual_power};
  std::copy(std::begin(all), std::end(all), counts);
  return GD_OK;
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

int gd_gpu_layout(const gd_problem* problem, int32_t kernel, int32_t quick_bytes, int32_t level, int32_t group,
                  int64_t* shared_bytes, int64_t* global_bytes) try {
  using namespace gpudiff_layout;
  const RowOrder order(*problem);
  if (!order.valid || kernel < GD_GPU_SOLVE || kernel > GD_GPU_ACTIVE_SET || level < 0 || level >= kLevels)
    return GD_BAD_ARGUMENT;
  const Rows& r = order.rows;
  const std::vector<index_t> orders(order.order.begin(), order.order.end());
  const Shape shape{
      problem->n,
      {r.zero, r.nonnegative, r.zero, r.second_order_count, nullptr, nullptr, r.semidefinite_count, nullptr,
       orders.data(), r.triple_start, r.exponential, r.dual_exponential, r.power, r.dual_power, nullptr, r.total}};
  const auto answer = [&](const auto& layout) {
    *shared_bytes = layout.near;
    *global_bytes = layout.far;
  };
  if (kernel == GD_GPU_ACTIVE_SET)
    answer(ActiveSetLayout(shape, level, group));
  else if (quick_bytes == 4)
    answer(Layout<float>(gd_gpu_kernel(kernel), shape, level, group));
  else
    answer(Layout<double>(gd_gpu_kernel(kernel), shape, level, group));
  return GD_OK;
} catch (const std::bad_alloc&) {
  return GD_OUT_OF_MEMORY;
}

void gd_release_memory(void) { gpudiff_entry::IdleMemory::instance().release(); }

int gd_abi_version(void) { return GD_ABI_VERSION; }

const char* gd_isa(void) { return current_variant().load()->name; }

const char* gd_isa_available(void) {
  static const std::string names = [] {
    std::string s;
    for (const Variant* v : runnable_variants()) s += (s.empty() ? "" : ",") + std::string(v->name);
    return s;
  }();
  return names.c_str();
}

int gd_use_isa(const char* name) {
  const Variant* v = find_variant(name);
  if (!v) return 1;
  current_variant() = v;
  return 0;
}

double gd_fma_peak(int32_t dtype) {
  return current_variant().load()->fma_peak(
      dtype, [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); });
}

}  // extern "C"
