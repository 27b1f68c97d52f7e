// CUDA's execution model on the host: the source text that NVRTC gets also compiles with g++, and runs without a GPU.
//
//     g++ -std=c++17 -include cuda_host.hpp -x c++ kernel.cu
//     cuda_host::launch(grid, threads, shared_bytes, [&] { kernel(arguments); })   → 0, or 1 with last_error()
//
// Each thread of a block is a fiber that runs until it has to wait for others (cuda_host_block.hpp); the blocks run one
// after another, or several at a time on as many threads of the operating system. "Device memory" is host memory.
//
// It is stricter than a device. A fault ends the launch: a deadlock; barriers or shuffles that do not match; a barrier
// that a member has not reached when it ends; a shuffle that reads a lane outside its mask; touching what lies next to
// the dynamic shared memory; a stack that overflows. Dynamic shared memory starts as NaN.
//
// A missing barrier shows in two ways. Under another schedule (GD_EMULATED_SCHEDULE: ascending, descending,
// random:SEED) other members are ahead, and the result changes. And built with -fsanitize=thread each CUDA thread is a
// thread to ThreadSanitizer, ordered by nothing but CUDA's barriers (not by shuffles, atomics or the emulator's own
// switches), so that every access that no barrier orders is reported, also between blocks. GD_EMULATED_REMOVE=FILE:LINE
// takes a barrier out (`remove_barrier`), and `sites` says which there are, so that a test can prove both.
//
// What it does not do: loops without a barrier that never end (run it in a process with a time limit), the order of
// stores before a shuffle (ThreadSanitizer sees that), rounding of multiply-adds, and anything about speed.
#pragma once
#include "cuda_host_block.hpp"
#include "cuda_host_intrinsics.hpp"
#include "cuda_host_launch.hpp"

#define GD_EMULATED 1
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One block at a time runs on a thread of the operating system.
#define __shared__ static thread_local
#define GD_DYNAMIC_SHARED(NAME) char* NAME = cuda_host::dynamic_shared()
