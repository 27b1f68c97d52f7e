// Part of cuda_host.hpp: fibers. A fiber is a flow of control with a stack of its own that runs until it hands over.
//
// On x86-64 a switch is a dozen instructions; elsewhere, or with CUDA_HOST_PORTABLE, it is ucontext's. Under
// ThreadSanitizer every fiber is a thread to the sanitizer, and a switch orders nothing: what orders accesses of
// different fibers is said with `SanitizerOrder` alone.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__) && !defined(CUDA_HOST_PORTABLE)
#define CUDA_HOST_PORTABLE
#endif
#if defined(CUDA_HOST_PORTABLE)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
// The emulator's own accesses are the machine's, not the program's.
#define CUDA_HOST_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define CUDA_HOST_UNSEEN
#endif

namespace cuda_host {

#if defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Memory of whole pages between two pages that must not be touched.
class GuardedMemory {
 public:
  GuardedMemory() = default;
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() { release(); }

  // What it held is lost if it has to grow.
  void reserve(size_t bytes) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), wanted = (bytes + page - 1) / page * page;
    if (wanted <= size_) return;
    release();
    void* all = mmap(nullptr, wanted + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED || mprotect(static_cast<char*>(all) + page, wanted, PROT_READ | PROT_WRITE) != 0) {
      std::perror("cuda_host: out of memory");
      std::abort();
    }
    begin_ = static_cast<char*>(all) + page;
    size_ = wanted;
    page_ = page;
  }
  char* begin() const { return begin_; }
  char* end() const { return begin_ + size_; }
  bool guards(const void* address) const {
    const char* a = static_cast<const char*>(address);
    return begin_ && ((a < begin_ && a >= begin_ - page_) || (a >= end() && a < end() + page_));
  }

 private:
  void release() {
    if (begin_) munmap(begin_ - page_, size_ + 2 * page_);
    begin_ = nullptr;
    size_ = 0;
  }
  char* begin_ = nullptr;
  size_t size_ = 0, page_ = 0;
};

#if defined(CUDA_HOST_PORTABLE)
struct Context {
  ucontext_t saved;
  void* sanitizer = nullptr;
};

inline void prepare(Context& context, char* stack, char* stack_end, void (*start)()) {
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = stack;
  context.saved.uc_stack.ss_size = size_t(stack_end - stack);
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, start, 0);
}
CUDA_HOST_UNSEEN inline void exchange(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }
#else
struct Context {
  void* top = nullptr;  // of its stack, where its registers lie
  void* sanitizer = nullptr;
};

// Pushes the registers that a called function must preserve, exchanges the stacks, pops those of the other side.
__attribute__((naked, noinline)) CUDA_HOST_UNSEEN inline void exchange_stacks(void** /*save*/, void* /*load*/) {
  asm volatile(
      "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
      "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
      "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}

inline void prepare(Context& context, char* /*stack*/, char* stack_end, void (*start)()) {
  void** top = reinterpret_cast<void**>(stack_end);
  *--top = nullptr;  // `start` has nowhere to return to, and finds the stack aligned as after a call
  *--top = reinterpret_cast<void*>(start);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  context.top = top;
}
CUDA_HOST_UNSEEN inline void exchange(Context& from, Context& to) { exchange_stacks(&from.top, to.top); }
#endif

// From here on ThreadSanitizer takes what happens for this fiber's doing.
CUDA_HOST_UNSEEN inline void become_for_sanitizer([[maybe_unused]] Context& context) {
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(context.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
}

// Leaves `from` and goes on in `to`; returns when somebody switches back.
CUDA_HOST_UNSEEN inline void switch_context(Context& from, Context& to) {
  become_for_sanitizer(to);
  exchange(from, to);
}

inline void create_for_sanitizer([[maybe_unused]] Context& context) {
#if defined(__SANITIZE_THREAD__)
  context.sanitizer = __tsan_create_fiber(0);
#endif
}
inline void destroy_for_sanitizer([[maybe_unused]] Context& context) {
#if defined(__SANITIZE_THREAD__)
  if (context.sanitizer) __tsan_destroy_fiber(context.sanitizer);
  context.sanitizer = nullptr;
#endif
}
CUDA_HOST_UNSEEN inline void name_running_for_sanitizer([[maybe_unused]] Context& context) {
#if defined(__SANITIZE_THREAD__)
  context.sanitizer = __tsan_get_current_fiber();
#endif
}

// Everything before a release comes before everything after a later acquire: the only order ThreadSanitizer is told of.
class SanitizerOrder {
 public:
  CUDA_HOST_UNSEEN void release() {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(this);
#endif
  }
  CUDA_HOST_UNSEEN void acquire() {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(this);
#endif
  }

 private:
  [[maybe_unused]] long address_ = 0;
};

}  // namespace cuda_host
