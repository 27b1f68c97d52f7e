// Part of cuda_host.hpp, for kernels that are built into a shared library: what tests/emulated_driver.py calls.
#pragma once
#include "cuda_host_launch.hpp"

#define CUDA_HOST_EXPORT extern "C" __attribute__((visibility("default")))

// Exports a kernel whose one argument is a struct.
#define CUDA_HOST_ENTRY(KERNEL)                                                                                     \
  CUDA_HOST_EXPORT int launch_##KERNEL(const void* arguments, unsigned grid, unsigned threads, size_t shared_bytes, \
                                       const char* schedule, int workers) {                                         \
    return cuda_host::launch_entry(KERNEL, arguments, grid, threads, shared_bytes, schedule, workers);              \
  }

CUDA_HOST_EXPORT const char* emulated_error() { return cuda_host::last_error(); }

// "FILE:LINE", "all", or "" to restore; 1 if it is none of these.
CUDA_HOST_EXPORT int emulated_remove(const char* barrier) {
  try {
    cuda_host::remove_barrier(barrier);
    return 0;
  } catch (const std::exception& error) {
    cuda_host::last_error_of_thread() = error.what();
    return 1;
  }
}

// One barrier a line; the text is the thread's until it asks again.
CUDA_HOST_EXPORT const char* emulated_sites() {
  static thread_local std::string text;
  text.clear();
  for (const std::string& site : cuda_host::sites()) text += site + "\n";
  return text.c_str();
}
