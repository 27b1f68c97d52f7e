// A stand-in for libcuda.so.1: enough of the CUDA driver API for gpudiff/jit/cuda_driver.py, on host memory.
//
// It shows that the calls have the form that cuda.bindings and the driver expect, and that the right context is current
// whenever one must be. Two devices; their contexts are 0xC0 and 0xC1. It runs no machine code: its one "kernel" takes
// struct { uint64_t* to; uint64_t value; } and writes value + grid · block to *to.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr int kInvalidValue = 1, kInvalidContext = 201, kInvalidImage = 200, kNotFound = 500, kOutOfMemory = 2;
constexpr uintptr_t kContext = 0xC0;

thread_local std::vector<uintptr_t> contexts;

struct Function {
  uintptr_t context;
  int shared = 48 << 10, carveout = -1;
};
std::map<void*, uintptr_t> memory;  // address → context

uintptr_t current() { return contexts.empty() ? 0 : contexts.back(); }

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

int attribute(int which, int device) {
  switch (which) {
    case 75:  // compute capability
      return from_environment("STUB_MAJOR", 9);
    case 76:
      return device;
    case 16:  // multiprocessors
      return 132 + device;
    case 97:  // shared memory per block, where asked for
      return 232448;
    case 81:  // per multiprocessor
      return 233472;
  }
  return -1;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return from_environment("STUB_INIT", 0); }
int cuDriverGetVersion(int* v) { return *v = 13000, 0; }
int cuGetErrorString(int error, const char** text) {
  *text = error == 100               ? "no CUDA-capable device is detected"
          : error == kInvalidContext ? "invalid device context"
                                     : "some error";
  return 0;
}
int cuDeviceGetCount(int* count) { return *count = 2, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < 2 ? 0 : 101; }
int cuDeviceGetName(char* name, int length, int device) { return std::snprintf(name, length, "Stub %d", device), 0; }
int cuDeviceGetAttribute(int* value, int which, int device) {
  return *value = attribute(which, device), *value < 0 ? kInvalidValue : 0;
}
int cuDevicePrimaryCtxRetain(uintptr_t* context, int device) { return *context = kContext + device, 0; }
int cuCtxGetCurrent(uintptr_t* context) { return *context = current(), 0; }
int cuCtxPushCurrent_v2(uintptr_t context) { return contexts.push_back(context), 0; }
int cuCtxPopCurrent_v2(uintptr_t* context) {
  if (contexts.empty()) return kInvalidContext;
  *context = contexts.back();
  contexts.pop_back();
  return 0;
}
int cuCtxSynchronize(void) { return current() ? 0 : kInvalidContext; }
int cuModuleLoadData(void** module, const void* image) {
  if (!current()) return kInvalidContext;
  if (std::memcmp(image,
                  "\x7f"
                  "ELF",
                  4))
    return kInvalidImage;
  *module = reinterpret_cast<void*>(current());
  return 0;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  if (std::strncmp(name, "gd_", 3)) return kNotFound;
  *function = new Function{reinterpret_cast<uintptr_t>(module)};
  return 0;
}
int cuFuncLoad(Function* function) { return function->context == current() ? 0 : kInvalidContext; }
int cuFuncSetAttribute(Function* function, int which, int value) {
  if (which == 8) return function->shared = value, value <= 232448 ? 0 : kInvalidValue;
  if (which == 9) return function->carveout = value, 0;
  return kInvalidValue;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads, size_t shared) {
  if (function->context != current()) return kInvalidContext;
  if (int64_t(shared) > function->shared) return kInvalidValue;
  *blocks = 2048 / threads;
  return 0;
}
int cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** parameters, void** extra) {
  if (function->context != current()) return kInvalidContext;
  if (gy != 1 || gz != 1 || by != 1 || bz != 1 || extra || int64_t(shared) > function->shared) return kInvalidValue;
  if (shared > 0 && function->carveout != 100) return kInvalidValue;
  struct Arguments {
    uint64_t *to, value;
  } arguments;
  std::memcpy(&arguments, parameters[0], sizeof arguments);
  *arguments.to = arguments.value + uint64_t(gx) * bx + (uint64_t(uintptr_t(stream)) << 32);
  return 0;
}
int cuMemAlloc_v2(uintptr_t* pointer, size_t bytes) {
  if (!current()) return kInvalidContext;
  if (bytes > size_t(1) << 32) return kOutOfMemory;
  void* block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  memory[block] = current();
  return *pointer = uintptr_t(block), 0;
}
int cuMemFree_v2(uintptr_t pointer) {
  const auto found = memory.find(reinterpret_cast<void*>(pointer));
  if (found == memory.end() || found->second != current()) return kInvalidContext;
  std::free(found->first);
  memory.erase(found);
  return 0;
}
int cuMemsetD8Async(uintptr_t pointer, unsigned char value, size_t count, void*) {
  if (!current()) return kInvalidContext;
  std::memset(reinterpret_cast<void*>(pointer), value, count);
  return 0;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t count, void*) {
  if (!current()) return kInvalidContext;
  std::memcpy(reinterpret_cast<void*>(to), from, count);
  return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t count, void*) {
  if (!current()) return kInvalidContext;
  std::memcpy(to, reinterpret_cast<void*>(from), count);
  return 0;
}
int cuStreamSynchronize(void*) { return current() ? 0 : kInvalidContext; }

// NVRTC asks for one when a driver is there, and compiles without.
int cuGetExportTable(const void** table, const void*) { return *table = nullptr, kNotFound; }

// cuda.bindings asks for every function here.
int cuGetProcAddress_v2(const char* name, void** address, int, uint64_t, int* found) {
  static const std::map<std::string, void*> functions = {
#define FUNCTION(NAME) {#NAME, reinterpret_cast<void*>(NAME)}
#define SECOND_VERSION(NAME) {#NAME, reinterpret_cast<void*>(NAME##_v2)}
      FUNCTION(cuInit),
      FUNCTION(cuDriverGetVersion),
      FUNCTION(cuGetErrorString),
      FUNCTION(cuDeviceGetCount),
      FUNCTION(cuDeviceGet),
      FUNCTION(cuDeviceGetName),
      FUNCTION(cuDeviceGetAttribute),
      FUNCTION(cuDevicePrimaryCtxRetain),
      FUNCTION(cuCtxGetCurrent),
      SECOND_VERSION(cuCtxPushCurrent),
      SECOND_VERSION(cuCtxPopCurrent),
      FUNCTION(cuCtxSynchronize),
      FUNCTION(cuModuleLoadData),
      FUNCTION(cuModuleGetFunction),
      FUNCTION(cuFuncLoad),
      FUNCTION(cuFuncSetAttribute),
      FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessor),
      FUNCTION(cuLaunchKernel),
      SECOND_VERSION(cuMemAlloc),
      SECOND_VERSION(cuMemFree),
      FUNCTION(cuMemsetD8Async),
      SECOND_VERSION(cuMemcpyHtoDAsync),
      SECOND_VERSION(cuMemcpyDtoHAsync),
      FUNCTION(cuStreamSynchronize)};
  const auto function = functions.find(name);
  *address = function == functions.end() ? nullptr : function->second;
  if (found) *found = *address ? 0 : 1;
  return *address ? 0 : kNotFound;
}
}
