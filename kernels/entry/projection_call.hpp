// gd_project on the library's side: the cones as runs of equal ones, and their work in pieces for threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "job.h"

namespace gpudiff_entry {

// Cones of one kind and size that lie one behind the other are one run; rows of zero and nonnegative cones are one cone
// of a run of their own.
class ConeRuns {
 public:
  explicit ConeRuns(const gd_problem& p) {
    long row = 0;
    alpha_.reserve(p.cone_count);  // runs point into it
    for (int c = 0; c < p.cone_count; c++) {
      const int kind = p.cone_kind[c];
      const bool linear = kind <= GD_NONNEGATIVE, triple = kind >= GD_EXPONENTIAL;
      const long rows = triple ? 3 : long(p.cone_rows[c]), count = rows == 0 ? 0 : p.cone_rows[c] / rows;
      if (count > 0) {
        alpha_.push_back(kind >= GD_POWER ? p.cone_parameter[c] : 0);
        if (!linear && !runs_.empty() && runs_.back().kind == kind && runs_.back().rows == rows)
          runs_.back().count += count;
        else
          runs_.push_back({kind, rows, count, row, alpha_.data() + alpha_.size() - 1});
      }
      row += p.cone_rows[c];
    }
  }
  const std::vector<ConeRun>& runs() const { return runs_; }

 private:
  std::vector<ConeRun> runs_;
  std::vector<double> alpha_;  // by cone that has rows; those of a run are neighbours
};

// Pieces of the runs' work, none so large that threads would wait for the last one, none so small that handing it out
// would show.
class ProjectionPieces {
 public:
  ProjectionPieces(const std::vector<ConeRun>& runs, long batch) : runs_(runs) {
    for (const ConeRun& run : runs) {
      const bool linear = run.kind <= GD_NONNEGATIVE;
      const long items = linear ? batch : batch * run.count;
      const double cost = linear ? double(run.rows) : run.kind == GD_SECOND_ORDER ? 4.0 * run.rows : 600.0;
      const double semidefinite = run.kind == GD_PSD ? 20.0 * run.rows * run.rows : 0;
      const long size = std::max(64L, long(kPiece / (cost + semidefinite)) / 64 * 64);
      size_.push_back(run.kind == GD_PSD && semidefinite > kPiece ? 8 : size);
      items_.push_back(items);
      first_.push_back(count_);
      count_ += (items + size_.back() - 1) / size_.back();
    }
  }
  long count() const { return count_; }
  // Calls work(run, begin, end) for a piece.
  template <class Work>
  void run(long piece, Work work) const {
    const std::size_t r = std::upper_bound(first_.begin(), first_.end(), piece) - first_.begin() - 1;
    const long begin = (piece - first_[r]) * size_[r];
    work(runs_[r], begin, std::min(begin + size_[r], items_[r]));
  }

 private:
  static constexpr double kPiece = 4e5;  // operations, some tens of microseconds
  const std::vector<ConeRun>& runs_;
  std::vector<long> size_, items_, first_;
  long count_ = 0;
};

// Runs work(memory, piece) for every piece on up to `threads` threads; `Memory` is made once for each. False if there
// is too little of it.
template <class Memory, class Work>
bool spread(long pieces, int threads, long bytes, Work work) {
  std::atomic<long> next{0};
  std::atomic<bool> failed{false};
  const auto worker = [&] {
    const Memory memory(bytes);
    if (!memory.data) failed = true;
    for (long piece = next.fetch_add(1); piece < pieces && !failed; piece = next.fetch_add(1)) work(memory.data, piece);
  };
  std::vector<std::thread> pool;
  try {
    for (long t = 1; t < std::min<long>(threads, pieces); t++) pool.emplace_back(worker);
  } catch (...) {  // fewer threads than asked for: those there are do the work
  }
  worker();
  for (std::thread& t : pool) t.join();
  return !failed;
}

}  // namespace gpudiff_entry
