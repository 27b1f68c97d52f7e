// A cooperative group (kernels/group.cuh) whose members are real threads.
//
// ThreadSanitizer watches them: where one member reads what another wrote and no barrier of the kernels stands between,
// it reports a data race. A barrier is the group's only source of order. Reductions move values and order nothing else,
// as on a GPU, where a shuffle waits for the lanes of a warp but makes none of their stores visible.
#pragma once
#include <atomic>
#include <barrier>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#if defined(__SANITIZE_THREAD__)
constexpr std::memory_order kRelease = std::memory_order_relaxed, kAcquire = std::memory_order_relaxed;
#else
constexpr std::memory_order kRelease = std::memory_order_acq_rel, kAcquire = std::memory_order_acquire;
#endif

// One barrier to leave out, by where the kernels call it; no file: none. Line 0: all of them.
struct Mutation {
  std::string file;
  int line = 0;

  bool removes(const char* at_file, int at_line) const {
    return !file.empty() && (line == 0 || (line == at_line && std::strstr(at_file, file.c_str())));
  }
};

// What the members share.
struct Meeting {
  explicit Meeting(int size_, Mutation mutation_ = {})
      : size(size_), mutation(std::move(mutation_)), barrier(size_), slots(2 * size_) {}
  const int size;
  const Mutation mutation;
  std::barrier<> barrier;
  std::vector<std::atomic<double>> slots;  // [2][size]: values of this reduction, and of the one before it
  std::atomic<long> arrivals{0};
  std::map<std::string, long> sites;  // barriers met, by member 0
};

class ThreadGroup {
 public:
  ThreadGroup(Meeting& meeting, int rank) : meeting_(&meeting), rank_(rank) {}

  int rank() const { return rank_; }
  int size() const { return meeting_->size; }

  // The default arguments are evaluated where the kernel calls: they name the site.
  void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) const {
    if (meeting_->mutation.removes(file, line)) return;
    if (rank_ == 0) {
      const char* name = std::strrchr(file, '/');
      meeting_->sites[std::string(name ? name + 1 : file) + ":" + std::to_string(line)]++;
    }
    meeting_->barrier.arrive_and_wait();
  }

  double sum(double a) const {
    return reduce(a, [](double r, double b) { return r + b; });
  }
  double max(double a) const {
    return reduce(a, [](double r, double b) { return r > b ? r : b; });
  }
  double min(double a) const {
    return reduce(a, [](double r, double b) { return r < b ? r : b; });
  }

  template <int N>
  void sums(double (&a)[N]) const {
    for (double& value : a) value = sum(value);
  }
  template <int N>
  void maxima(double (&a)[N]) const {
    for (double& value : a) value = max(value);
  }

 private:
  // In the order of the ranks, so that every member gets the same bits.
  template <class Operation>
  double reduce(double a, Operation operation) const {
    const long turn = ++turn_, size = meeting_->size;
    std::atomic<double>* slot = &meeting_->slots[(turn % 2) * size];
    slot[rank_].store(a, std::memory_order_relaxed);
    // Under ThreadSanitizer relaxed, or it would take the counter for a barrier. (Its atomics are calls that no
    // compiler moves and that x86 executes in order, so the values still arrive.)
    meeting_->arrivals.fetch_add(1, kRelease);
    while (meeting_->arrivals.load(kAcquire) < turn * size) std::this_thread::yield();
    double r = slot[0].load(std::memory_order_relaxed);
    for (int i = 1; i < size; i++) r = operation(r, slot[i].load(std::memory_order_relaxed));
    return r;
  }

  Meeting* meeting_;
  int rank_;
  mutable long turn_ = 0;
};

// Runs member(group) on `meeting.size` threads.
template <class Member>
void run_group(Meeting& meeting, Member member) {
  std::vector<std::thread> members;
  for (int rank = 0; rank < meeting.size; rank++)
    members.emplace_back([&meeting, member, rank] { member(ThreadGroup(meeting, rank)); });
  for (std::thread& m : members) m.join();
}
