// Part of cuda_host.hpp: running the blocks of a grid.
#pragma once
#include <signal.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cuda_host_block.hpp"

namespace cuda_host {

constexpr size_t kMostSharedBytes = 227 << 10;

// Turns segmentation faults of fibers into faults of the launch. All others go where they went before.
class SegmentationFaults {
 public:
  SegmentationFaults() : memory_(new char[kBytes]) {
    stack_t own{};
    own.ss_sp = memory_.get();
    own.ss_size = kBytes;
    sigaltstack(&own, &stack_before_);
    const std::lock_guard<std::mutex> lock(mutex());
    if (users()++ == 0) {
      struct sigaction action{};
      action.sa_sigaction = handle;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      sigaction(SIGSEGV, &action, &before());
    }
  }
  ~SegmentationFaults() {
    const std::lock_guard<std::mutex> lock(mutex());
    if (--users() == 0) sigaction(SIGSEGV, &before(), nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr size_t kBytes = 64 << 10;
  static void handle(int, siginfo_t* info, void*) {
    if (running) running->fail_at(static_cast<const char*>(info->si_addr));
    sigaction(SIGSEGV, &before(), nullptr);  // the instruction faults once more
  }
  static std::mutex& mutex() {
    static std::mutex the_one;
    return the_one;
  }
  static int& users() {
    static int count = 0;
    return count;
  }
  static struct sigaction& before() {
    static struct sigaction action;
    return action;
  }
  std::unique_ptr<char[]> memory_;
  stack_t stack_before_{};
};

// Blocks with their stacks, kept from launch to launch.
class BlockPool {
 public:
  std::unique_ptr<Block> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> block = std::move(idle_.back());
    idle_.pop_back();
    return block;
  }
  void give(std::unique_ptr<Block> block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(block));
  }
  static BlockPool& shared() {
    static BlockPool the_one;
    return the_one;
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Block>> idle_;
};

inline uint3 block_index(unsigned long long b, dim3 grid) {
  return {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
}

// ThreadSanitizer: every block on a thread of its own with stacks of its own. Then no block knows of another's accesses
// before the launch ends, and static shared memory, which is the thread's, is new to it.
inline void run_blocks_sanitized(LaunchState& launch, unsigned long long count) {
  for (unsigned long long b = 0; b < count && launch.error().empty(); b++)
    std::thread([&launch, b] { Block().run(launch, block_index(b, launch.grid)); }).join();
}

inline void run_blocks(LaunchState& launch, unsigned long long count) {
  std::atomic<unsigned long long> next{0};
  std::atomic<bool> good{true};
  const auto work = [&] {
    const SegmentationFaults trap;
    std::unique_ptr<Block> block = BlockPool::shared().take();
    for (unsigned long long b; good && (b = next++) < count;)
      if (!block->run(launch, block_index(b, launch.grid))) good = false;
    BlockPool::shared().give(std::move(block));
  };
  std::vector<std::thread> others;
  for (int w = 1; w < launch.options.workers; w++) others.emplace_back(work);
  work();
  for (std::thread& t : others) t.join();
}

inline std::string& last_error_of_thread() {
  static thread_local std::string text;
  return text;
}
// Why this thread's last launch returned 1.
inline const char* last_error() { return last_error_of_thread().c_str(); }

// Runs kernel() on every thread of the grid, and waits.
template <class Kernel>
int launch(dim3 grid, dim3 threads, size_t shared_bytes, const Kernel& kernel, const Options& options = Options()) {
  LaunchState state;
  state.grid = grid;
  state.threads = threads;
  state.shared_bytes = shared_bytes;
  state.options = options;
  state.closure = &kernel;
  state.body = [](const void* closure) { (*static_cast<const Kernel*>(closure))(); };
  const unsigned long long blocks = 1ull * grid.x * grid.y * grid.z, size = 1ull * threads.x * threads.y * threads.z;
  if (blocks < 1 || size < 1 || size > kMostThreads || shared_bytes > kMostSharedBytes) {
    state.fail("no device launches a grid of " + std::to_string(blocks) + " blocks of " + std::to_string(size) +
               " threads with " + std::to_string(shared_bytes) + " bytes of shared memory");
  } else {
    state.begun.release();
    kSanitized ? run_blocks_sanitized(state, blocks) : run_blocks(state, blocks);
    state.ended.acquire();
  }
  last_error_of_thread() = state.error();
  return last_error_of_thread().empty() ? 0 : 1;
}

// The same for callers from other languages: `schedule` null or empty and `workers` 0 leave it to the environment.
template <class Arguments>
int launch_entry(void (*kernel)(Arguments), const void* arguments, unsigned grid, unsigned threads, size_t shared_bytes,
                 const char* schedule, int workers) {
  try {
    Options options;
    if (schedule && *schedule) options.schedule = Schedule::parse(schedule);
    if (workers > 0) options.workers = workers;
    Arguments copy;
    std::memcpy(&copy, arguments, sizeof(copy));
    return launch(grid, threads, shared_bytes, [kernel, &copy] { kernel(copy); }, options);
  } catch (const std::exception& error) {
    last_error_of_thread() = error.what();
    return 1;
  }
}

// Later launches leave out the barrier at "FILE:LINE", or "all"; "" for none.
inline void remove_barrier(const std::string& which) {
  Removal removal;
  removal.parse(which);
  global().set_removal(removal);
}

inline std::vector<std::string> sites() { return global().sites(); }

}  // namespace cuda_host
