// Part of cuda_host.hpp: a block of CUDA threads, each a fiber, on one thread of the operating system.
//
// A fiber runs until it has to wait for others: at __syncthreads, __syncwarp, a shuffle or a vote. Then the schedule
// picks another. Whoever comes last to a meeting completes it for all of its members. When none can go on and not all
// have ended, that is a fault, and the message lists who waits where.
#pragma once
#include <setjmp.h>
#include <signal.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "cuda_host_fiber.hpp"
#include "cuda_host_launch_state.hpp"

// CUDA's own variables. They change whenever another fiber runs.
inline thread_local uint3 threadIdx{}, blockIdx{};
inline thread_local dim3 blockDim{}, gridDim{};

namespace cuda_host {

constexpr int kWarp = 32, kMostThreads = 1024, kMostWarps = kMostThreads / kWarp;
constexpr size_t kStackBytes = kSanitized ? 512 << 10 : 128 << 10;
constexpr size_t kCanaryBytes = 256;  // before the dynamic shared memory; behind it, what rounds it up to so much

enum class Wait : unsigned char { kNothing, kBlock, kWarp, kShuffle, kVote, kEnded };

struct Fiber {
  Context context;
  uint3 index{};
  Wait wait = Wait::kNothing;
  unsigned mask = 0;             // who takes part in what it waits for
  unsigned source = 0;           // the lane whose value a shuffle brings
  Site site{};                   // where it waits
  unsigned long long value = 0;  // what it brings to a meeting, then what it takes away
  GuardedMemory stack;
};

class Block;
inline thread_local Block* running = nullptr;

class Block {
 public:
  // Runs one block of a launch; false if a fault ended it.
  bool run(LaunchState& launch, uint3 block) {
    launch_ = &launch;
    set_up(block);
    if constexpr (kSanitized) {
      run_fibers();
    } else {
      if (sigsetjmp(jump_, 1) == 0) run_fibers();
    }
    leave();
    if (fault_.empty()) check_canaries();
    for (int t = 0; t < threads_; t++) destroy_for_sanitizer(fibers_[t].context);
    global().merge(sites_);
    if (!fault_.empty()) launch.fail(fault_);
    return fault_.empty();
  }

  char* dynamic_shared() const { return shared_; }
  CUDA_HOST_UNSEEN unsigned lane() const { return unsigned(current_) % kWarp; }

  // Whether the barrier there has been taken out.
  CUDA_HOST_UNSEEN bool lacks(const char* file, int line) const { return launch_->removal.removes(file, line); }

  // The number of threads with value ≠ 0.
  CUDA_HOST_UNSEEN int meet_block(unsigned value, const char* file, int line) {
    Fiber& me = fibers_[current_];
    me.wait = Wait::kBlock;
    me.site = {file, line};
    me.value = value;
    if (++at_block_barrier_ == threads_) complete_block();
    go_on();
    return int(me.value);
  }

  // A barrier of lanes, a shuffle or a vote; returns the lane's result.
  CUDA_HOST_UNSEEN unsigned long long meet_warp(Wait what, unsigned mask, unsigned long long value, unsigned source,
                                                const char* file, int line) {
    Fiber& me = fibers_[current_];
    const unsigned lane = unsigned(current_) % kWarp, bit = 1u << lane;
    me.wait = what;
    me.mask = mask;
    me.source = source;
    me.site = {file, line};
    me.value = value;
    if (!(mask & bit)) fail(name(me) + " is called by lane " + std::to_string(lane) + ", which is not in its mask");
    if (what == Wait::kShuffle && !(mask >> source & 1))
      fail(name(me) + " of lane " + std::to_string(lane) + " reads lane " + std::to_string(source) +
           ", which is not in its mask");
    Fiber* lanes = &fibers_[current_ - int(lane)];
    unsigned& waiting = waiting_[current_ / kWarp];
    waiting |= bit;
    if ((waiting & mask) == mask && agree(lanes, me)) complete_warp(lanes, me, waiting);
    go_on();
    return me.value;
  }

  [[noreturn]] void fail(const std::string& message) {
    fault_ = place(fibers_[current_].index) + ": " + message;
    for (int w = 0; kSanitized && w < threads_; w += kWarp) release_all(launch_->ended, w, lanes_from(w));
    faulted_.release();
    switch_context(fibers_[current_].context, main_);
    std::abort();
  }

  // From the handler of SIGSEGV: what a touch of this address was.
  [[noreturn]] void fail_at(const char* address) {
    char text[64];
    std::snprintf(text, sizeof(text), "touched %p", static_cast<const void*>(address));
    fault_ = place(fibers_[current_].index) + " " + text;
    if (fibers_[current_].stack.guards(address)) fault_ += ": its stack has overflowed";
    if (shared_memory_.guards(address))
      fault_ += ", " + std::to_string(address - shared_) + " bytes from the start of the " +
                std::to_string(launch_->shared_bytes) + " bytes of dynamic shared memory";
    siglongjmp(jump_, 1);
  }

 private:
  void set_up(uint3 block) {
    const dim3 size = launch_->threads;
    threads_ = int(size.x * size.y * size.z);
    ended_ = at_block_barrier_ = 0;
    steps_ = 0;
    fault_.clear();
    random_ = launch_->options.schedule.seed ^ uint64_t(block.x) << 32;
    for (unsigned& lanes : waiting_) lanes = 0;
    blockIdx = block;
    blockDim = size;
    gridDim = launch_->grid;
    const size_t padded = (launch_->shared_bytes + kCanaryBytes - 1) / kCanaryBytes * kCanaryBytes;
    shared_memory_.reserve(padded + kCanaryBytes);
    shared_ = shared_memory_.end() - padded;
    std::memset(shared_ - kCanaryBytes, 0xff, padded + kCanaryBytes);  // reads as NaN
    for (int t = 0; t < threads_; t++) {
      Fiber& f = fibers_[t];
      f.stack.reserve(kStackBytes);
      prepare(f.context, f.stack.begin(), f.stack.end(), &Block::start);
      create_for_sanitizer(f.context);
      f.index = {unsigned(t) % size.x, unsigned(t) / size.x % size.y, unsigned(t) / (size.x * size.y)};
      set_ready(t);
    }
    name_running_for_sanitizer(main_);
    current_ = launch_->options.schedule.kind == Schedule::kDescending ? 0 : threads_ - 1;
    current_ = choose();
    begun_.release();
  }

  // Comes back when the last fiber has ended, or at a fault.
  CUDA_HOST_UNSEEN void run_fibers() {
    running = this;
    threadIdx = fibers_[current_].index;
    switch_context(main_, fibers_[current_].context);
  }

  CUDA_HOST_UNSEEN void leave() {
    running = nullptr;
    faulted_.acquire();
  }

  // Where every fiber begins and ends.
  CUDA_HOST_UNSEEN static void start() {
    Block& block = *running;
    block.begun_.acquire();
    block.launch_->begun.acquire();
    block.launch_->body(block.launch_->closure);
    block.launch_->ended.release();
    Fiber& me = block.fibers_[block.current_];
    me.wait = Wait::kEnded;
    if (++block.ended_ == block.threads_) switch_context(me.context, block.main_);
    block.go_on();
    std::abort();
  }

  CUDA_HOST_UNSEEN void set_ready(int t) {
    fibers_[t].wait = Wait::kNothing;
    ready_[t / 64] |= uint64_t(1) << t % 64;
  }

  // Lets others run until the schedule comes back to this fiber. Its state says whether it can go on.
  CUDA_HOST_UNSEEN void go_on() {
    const int me = current_;
    if (fibers_[me].wait != Wait::kNothing) ready_[me / 64] &= ~(uint64_t(1) << me % 64);
    const int next = choose();
    if (next < 0) fail(describe_deadlock());
    if (++steps_ > launch_->options.limit)
      fail("the block has switched threads " + std::to_string(steps_) + " times; an endless loop?");
    if (next == me) return;
    current_ = next;
    threadIdx = fibers_[next].index;
    switch_context(fibers_[me].context, fibers_[next].context);
  }

  // The fiber to run next; -1 if none can.
  CUDA_HOST_UNSEEN int choose() {
    const int words = (threads_ + 63) / 64;
    switch (launch_->options.schedule.kind) {
      case Schedule::kAscending: {  // the first above this one, or else the first of all
        int w = current_ / 64;
        const uint64_t above = ready_[w] & (~uint64_t(1) << current_ % 64);
        if (above) return w * 64 + __builtin_ctzll(above);
        for (int i = 0; i < words; i++) {
          w = w + 1 == words ? 0 : w + 1;
          if (ready_[w]) return w * 64 + __builtin_ctzll(ready_[w]);
        }
        return -1;
      }
      case Schedule::kDescending: {
        int w = current_ / 64;
        const uint64_t below = ready_[w] & ((uint64_t(1) << current_ % 64) - 1);
        if (below) return w * 64 + 63 - __builtin_clzll(below);
        for (int i = 0; i < words; i++) {
          w = w == 0 ? words - 1 : w - 1;
          if (ready_[w]) return w * 64 + 63 - __builtin_clzll(ready_[w]);
        }
        return -1;
      }
      case Schedule::kRandom:
        break;
    }
    int count = 0;
    for (int w = 0; w < words; w++) count += __builtin_popcountll(ready_[w]);
    if (count == 0) return -1;
    uint64_t z = random_ += 0x9e3779b97f4a7c15u;  // SplitMix64
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    int skip = int((z >> 32) * uint64_t(count) >> 32), w = 0;
    for (; skip >= __builtin_popcountll(ready_[w]); w++) skip -= __builtin_popcountll(ready_[w]);
    uint64_t bits = ready_[w];
    for (; skip > 0; skip--) bits &= bits - 1;
    return w * 64 + __builtin_ctzll(bits);
  }

  CUDA_HOST_UNSEEN void complete_block() {
    unsigned long long count = 0;
    for (int t = 0; t < threads_; t++) {
      if (!(fibers_[t].site == fibers_[current_].site)) fail("divergent __syncthreads(): " + describe_waiting());
      count += fibers_[t].value != 0;
    }
    for (int w = 0; kSanitized && w < threads_; w += kWarp) release_all(block_order_, w, lanes_from(w));
    for (int w = 0; kSanitized && w < threads_; w += kWarp) acquire_all(block_order_, w, lanes_from(w));
    at_block_barrier_ = 0;
    sites_.add(fibers_[current_].site);
    for (int t = 0; t < threads_; t++) {
      fibers_[t].value = count;
      set_ready(t);
    }
  }

  // Whether all lanes that the mask of `me` names wait for the same.
  CUDA_HOST_UNSEEN bool agree(const Fiber* lanes, const Fiber& me) const {
    for (unsigned left = me.mask; left; left &= left - 1) {
      const Fiber& f = lanes[__builtin_ctz(left)];
      if (f.wait != me.wait || f.mask != me.mask || !(f.site == me.site)) return false;
    }
    return true;
  }

  CUDA_HOST_UNSEEN void complete_warp(Fiber* lanes, const Fiber& me, unsigned& waiting) {
    const unsigned mask = me.mask;
    const int first = int(lanes - fibers_);
    if (me.wait == Wait::kShuffle) {
      unsigned long long values[kWarp];
      for (unsigned left = mask; left; left &= left - 1) values[__builtin_ctz(left)] = lanes[__builtin_ctz(left)].value;
      for (unsigned left = mask; left; left &= left - 1) {
        Fiber& f = lanes[__builtin_ctz(left)];
        f.value = values[f.source];
      }
    } else if (me.wait == Wait::kVote) {
      unsigned ballot = 0;
      for (unsigned left = mask; left; left &= left - 1)
        ballot |= unsigned(lanes[__builtin_ctz(left)].value != 0) << __builtin_ctz(left);
      for (unsigned left = mask; left; left &= left - 1) lanes[__builtin_ctz(left)].value = ballot;
    } else {
      sites_.add(me.site);
      if (kSanitized) {  // shuffles and votes order nothing
        release_all(warp_order_[first + __builtin_ctz(mask)], first, mask);
        acquire_all(warp_order_[first + __builtin_ctz(mask)], first, mask);
      }
    }
    waiting &= ~mask;
    for (unsigned left = mask; left; left &= left - 1) set_ready(first + __builtin_ctz(left));
  }

  unsigned lanes_from(int first) const { return threads_ - first >= kWarp ? ~0u : (1u << (threads_ - first)) - 1u; }

  // In the name of each of these lanes, as ThreadSanitizer sees it. What a barrier orders is said all at once when it
  // completes: whoever is late to leave it must not learn of what others have done since.
  CUDA_HOST_UNSEEN void release_all(SanitizerOrder& order, int first, unsigned lanes) {
    for (; lanes; lanes &= lanes - 1) {
      become_for_sanitizer(fibers_[first + __builtin_ctz(lanes)].context);
      order.release();
    }
    become_for_sanitizer(fibers_[current_].context);
  }
  CUDA_HOST_UNSEEN void acquire_all(SanitizerOrder& order, int first, unsigned lanes) {
    for (; lanes; lanes &= lanes - 1) {
      become_for_sanitizer(fibers_[first + __builtin_ctz(lanes)].context);
      order.acquire();
    }
    become_for_sanitizer(fibers_[current_].context);
  }

  void check_canaries() {
    const char* end = shared_ + launch_->shared_bytes;
    for (const char* p = shared_ - kCanaryBytes; p < shared_memory_.end(); p++) {
      if (p == shared_) p = end;
      if (p < shared_memory_.end() && *p != char(0xff)) {
        fault_ = place_of_block() + ": a write " + std::to_string(p - shared_) + " bytes from the start of the " +
                 std::to_string(launch_->shared_bytes) + " bytes of dynamic shared memory";
        return;
      }
    }
  }

  static std::string triple(unsigned x, unsigned y, unsigned z) {
    return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
  }
  std::string place_of_block() const { return "block " + triple(blockIdx.x, blockIdx.y, blockIdx.z); }
  std::string place(uint3 t) const { return place_of_block() + ", thread " + triple(t.x, t.y, t.z); }

  std::string name(const Fiber& f) const {
    char mask[16];
    std::snprintf(mask, sizeof(mask), "0x%08x", f.mask);
    const std::string at = " in " + f.site.text();
    switch (f.wait) {
      case Wait::kBlock:
        return "__syncthreads()" + at;
      case Wait::kWarp:
        return std::string("__syncwarp(") + mask + ")" + at;
      case Wait::kShuffle:
        return std::string("a shuffle of lanes ") + mask + at;
      case Wait::kVote:
        return std::string("a vote of lanes ") + mask + at;
      case Wait::kEnded:
        return "its end";
      case Wait::kNothing:
        break;
    }
    return "nothing";
  }

  // Such as "threads 0-3,5 are at __syncthreads() in a.cuh:12; threads 4 are at its end".
  std::string describe_waiting() const {
    std::map<std::string, std::string> who;
    for (int t = 0; t < threads_;) {
      const std::string at = name(fibers_[t]);
      int last = t;
      while (last + 1 < threads_ && name(fibers_[last + 1]) == at) last++;
      std::string& list = who[at];
      list += (list.empty() ? "" : ",") + std::to_string(t) + (last > t ? "-" + std::to_string(last) : "");
      t = last + 1;
    }
    std::string all;
    for (const auto& [at, list] : who) all += (all.empty() ? "threads " : "; threads ") + list + " at " + at;
    return all;
  }
  std::string describe_deadlock() const { return "deadlock, no thread can go on: " + describe_waiting(); }

  LaunchState* launch_ = nullptr;
  Context main_;
  sigjmp_buf jump_;
  int threads_ = 0, current_ = 0, ended_ = 0, at_block_barrier_ = 0;
  uint64_t ready_[kMostThreads / 64] = {};
  uint64_t random_ = 0;
  unsigned long long steps_ = 0;
  unsigned waiting_[kMostWarps] = {};  // lanes at a meeting of their warp
  GuardedMemory shared_memory_;
  char* shared_ = nullptr;
  SiteTable sites_;
  std::string fault_;
  SanitizerOrder begun_, faulted_, block_order_, warp_order_[kMostThreads];  // by the lowest lane of a mask
  Fiber fibers_[kMostThreads];
};

}  // namespace cuda_host
