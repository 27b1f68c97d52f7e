"""The emulation of CUDA (emulation/cuda_host.hpp): good kernels give CUDA's answers, every kind of fault is caught."""

from __future__ import annotations

import ctypes
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from emulated_driver import (
    EMULATION,
    RACE,
    SCHEDULES,
    EmulatedDriver,
    EmulationError,
    available,
    run_sanitized,
    run_sanitized_each,
)

from gpudiff._errors import CompileError

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

GOOD = r"""
struct Arguments {
  const double* in;
  double* out;
  unsigned long long* counter;
  long long n;
};

__device__ double warp_sum(double a) {
  for (int o = 16; o > 0; o >>= 1) a += __shfl_xor_sync(~0u, a, o);
  return a;
}

extern "C" __global__ void __launch_bounds__(256, 2) block_sums(const Arguments a) {
  __shared__ double partial[32];
  const double sum = warp_sum(a.in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    const double total = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) a.out[blockIdx.x] = total;
  }
}

extern "C" __global__ void __launch_bounds__(64) product(const Arguments a) {  // [n, n] · [n, n], n a multiple of 8
  GD_DYNAMIC_SHARED(memory);
  double *left = reinterpret_cast<double*>(memory), *right = left + 64;
  const int n = int(a.n), tiles = n / 8, i = threadIdx.x / 8, j = threadIdx.x % 8;
  const int row = blockIdx.x / tiles * 8 + i, column = blockIdx.x % tiles * 8 + j;
  double sum = 0;
  for (int t = 0; t < n; t += 8) {
    left[i * 8 + j] = a.in[row * n + t + j];
    right[i * 8 + j] = a.in[n * n + (t + i) * n + column];
    __syncthreads();
    for (int k = 0; k < 8; k++) sum += left[i * 8 + k] * right[k * 8 + j];
    __syncthreads();
  }
  a.out[row * n + column] = sum;
}

// Groups of 8 lanes take items from a counter; out: [n] squares of sums of squares, [n + group] how many each took.
extern "C" __global__ void __launch_bounds__(32) persistent(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  const unsigned tile = threadIdx.x / 8, rank = threadIdx.x % 8, mask = 0xffu << tile * 8;
  double* mine = reinterpret_cast<double*>(memory) + tile * 8;
  double taken = 0;
  for (;;) {
    unsigned long long item = 0;
    if (rank == 0) item = atomicAdd(a.counter, 1ull);
    item = __shfl_sync(mask, item, 0, 8);
    if (item >= (unsigned long long)(a.n)) break;
    __syncwarp(mask);  // behind a shuffle, which keeps the lanes together: no schedule misses it
    mine[rank] = a.in[item * 8 + rank] * a.in[item * 8 + rank];
    __syncwarp(mask);
    double sum = 0;
    for (int k = 0; k < 8; k++) sum += mine[(rank + k) % 8];
    if (rank == 7) a.out[item] = sum;
    taken++;
  }
  if (rank == 0) a.out[a.n + blockIdx.x * 4 + tile] = taken;
}

extern "C" __global__ void shuffles(const Arguments a) {
  const int lane = int(threadIdx.x), width = int(a.n);
  double* out = a.out + lane * 5;
  out[0] = __shfl_sync(~0u, double(lane), lane + 3, width);
  out[1] = __shfl_up_sync(~0u, lane, 3, width);
  out[2] = __shfl_down_sync(~0u, (long long)(lane), 3, width);
  out[3] = __shfl_xor_sync(~0u, float(lane), 5, width);
  const unsigned odd = 0xaaaaaaaau;
  out[4] = lane % 2 ? double(__shfl_sync(odd, unsigned(lane), 7)) : -1.0;
}

extern "C" __global__ void votes(const Arguments a) {
  const int value = int(a.in[threadIdx.x]);
  double* out = a.out + threadIdx.x * 6;
  out[0] = __ballot_sync(~0u, value);
  out[1] = __any_sync(~0u, value);
  out[2] = __all_sync(~0u, value);
  out[3] = __syncthreads_count(value);
  out[4] = __syncthreads_or(value);
  out[5] = __syncthreads_and(value);
}

extern "C" __global__ void atomics(const Arguments a) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(a.out, 1.0);
  atomicAdd(reinterpret_cast<float*>(a.out + 1), 1.0f);
  atomicAdd(reinterpret_cast<int*>(a.out + 2), 1);
  atomicMax(reinterpret_cast<int*>(a.out + 3), i);
  atomicMin(reinterpret_cast<int*>(a.out + 4), -i);
  atomicAdd(a.counter, 1ull);
}

extern "C" __global__ void indices(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  const double here = reinterpret_cast<double*>(memory)[threadIdx.x];
  reinterpret_cast<double*>(memory)[threadIdx.x] = 1;  // the next block must not see it
  double* out = a.out + (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  out[0] = isnan(here);
  out[1] = blockIdx.x;
  out[2] = threadIdx.x;
  out[3] = gridDim.x * 1000 + blockDim.x;
}

extern "C" __global__ void mathematics(const Arguments a) {
  double* out = a.out;
  out[0] = rsqrt(4.0) + rsqrtf(16.0f) + __fma_rn(2.0, 3.0, 1.0) + fmax(1.0, double(__int_as_float(0x7fc00000)));
  out[1] = __hiloint2double(__double2hiint(a.in[0]), __double2loint(a.in[0]));
  out[2] = __popc(0xf0u) + 100 * __clz(1) + 10000 * __ffs(8) + 1000000 * min(3, max(2, 1));
}
"""

BROKEN = r"""
struct Arguments {
  const double* in;
  double* out;
  unsigned long long* counter;
  long long n;
};

extern "C" __global__ void reversed_without_barrier(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  double* s = reinterpret_cast<double*>(memory);
  s[threadIdx.x] = a.in[threadIdx.x];
  a.out[threadIdx.x] = s[31 - threadIdx.x];
}
extern "C" __global__ void divergent(const Arguments a) {
  if (threadIdx.x < 40) __syncthreads();
}
extern "C" __global__ void two_barriers(const Arguments a) {
  if (threadIdx.x % 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
extern "C" __global__ void shuffle_from_ended(const Arguments a) {
  if (threadIdx.x == 5) return;
  a.out[threadIdx.x] = __shfl_sync(~0u, threadIdx.x, 5);
}
extern "C" __global__ void shuffle_from_stranger(const Arguments a) {
  if (threadIdx.x < 16) a.out[threadIdx.x] = __shfl_sync(0xffffu, threadIdx.x, 20);
}
extern "C" __global__ void not_in_mask(const Arguments a) { __syncwarp(0xffu); }
extern "C" __global__ void different_masks(const Arguments a) { __syncwarp(threadIdx.x < 4 ? ~0u : ~1u); }
extern "C" __global__ void different_calls(const Arguments a) {
  if (threadIdx.x == 0)
    __syncwarp();
  else
    __any_sync(~0u, 1);
}
extern "C" __global__ void far_out(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  if (threadIdx.x == 3) memory[600] = 1;
}
extern "C" __global__ void just_out(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  if (threadIdx.x == 3) memory[a.n] = 1;
}
__device__ int deep(int n) {
  volatile char large[1024];
  for (int i = 0; i < 1024; i++) large[i] = char(n);
  return n == 0 ? 0 : deep(n - 1) + large[n % 1024];
}
extern "C" __global__ void deep_stack(const Arguments a) { a.out[0] = deep(1 << 20); }
extern "C" __global__ void null_pointer(const Arguments a) {
  if (threadIdx.x == 7) *reinterpret_cast<volatile int*>(8) = 1;
}
extern "C" __global__ void endless(const Arguments a) {
  for (volatile int i = 1; i; ) __syncwarp();
}
extern "C" __global__ void trap(const Arguments a) {
  if (threadIdx.x == 9) __trap();
}
// The shuffle keeps the lanes together but orders no stores.
extern "C" __global__ void ordered_by_a_shuffle(const Arguments a) {
  GD_DYNAMIC_SHARED(memory);
  double* s = reinterpret_cast<double*>(memory);
  s[threadIdx.x] = a.in[threadIdx.x];
  const double sum = __shfl_sync(~0u, 1.0, 0);
  a.out[threadIdx.x] = s[31 - threadIdx.x] * sum;
}
extern "C" __global__ void race_between_blocks(const Arguments a) {
  if (threadIdx.x == 0) a.out[blockIdx.x] = 1;
  if (threadIdx.x == 1 && blockIdx.x > 0) a.out[40] = a.out[blockIdx.x - 1];
}
"""


class Arguments(ctypes.Structure):
    _fields_ = (
        ("input", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("n", ctypes.c_int64),
    )


class Kernels:
    """The kernels of a source text."""

    def __init__(self, source: str, driver: EmulatedDriver) -> None:
        self.driver = driver
        self.cubin = driver.compile(source, "sm_90", "kernels of the test").cubin

    def run(self, entry, outputs, grid=1, threads=32, shared=0, given=(), n=0) -> np.ndarray:
        given, out = np.array(given, float), np.zeros(outputs)
        self.counter = ctypes.c_uint64(0)
        arguments = Arguments(given.ctypes.data, out.ctypes.data, ctypes.addressof(self.counter), n)
        self.driver.load(0, self.cubin, entry, shared).launch(grid, threads, shared, 0, arguments)
        return out


@pytest.fixture(scope="module")
def good() -> Kernels:
    return Kernels(GOOD, EmulatedDriver())


@pytest.fixture(scope="module")
def broken() -> Kernels:
    return Kernels(BROKEN, EmulatedDriver())


@pytest.fixture(params=[*SCHEDULES, "random:2", "ascending, two workers"])
def kernels(good, request) -> Kernels:
    good.driver.schedule, _, workers = request.param.partition(", ")
    good.driver.workers = 2 if workers else 1
    good.driver.remove = ""
    return good


# ---- good kernels ----------------------------------------------------------------------------------------------------


def block_sums(kernels, rng):
    given = rng.integers(0, 100, (6, 96)).astype(float)
    return kernels.run("block_sums", 6, grid=6, threads=96, given=given), given.sum(axis=1)


def product(kernels, rng):
    given = rng.integers(0, 9, (2, 24, 24)).astype(float)
    out = kernels.run("product", 24 * 24, grid=9, threads=64, shared=1024, given=given, n=24)
    return out.reshape(24, 24), given[0] @ given[1]


def persistent(kernels, rng):
    given = rng.integers(0, 9, (50, 8)).astype(float)
    out = kernels.run("persistent", 50 + 12, grid=3, shared=256, given=given, n=50)
    assert out[50:].sum() == 50
    assert kernels.counter.value == 50 + 12, "each group asks once more than there is"
    return out[:50], (given**2).sum(axis=1)


CASES = (block_sums, product, persistent)
BARRIERS = {
    f"kernel.cu:{number}": line
    for number, line in enumerate(GOOD.splitlines(), start=1)
    if line.strip().startswith(("__syncthreads();", "__syncwarp("))
}
assert len(BARRIERS) == 5


def run_all(kernels, rng) -> bool:
    """Whether all kernels that share memory give what they should."""
    return all(np.array_equal(*case(kernels, rng)) for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_kernels_that_share_memory(kernels, rng, case):
    np.testing.assert_array_equal(*case(kernels, rng))


def test_persistent_groups_share_the_work(good, rng):
    good.driver.schedule, good.driver.workers = "ascending", 1
    out = good.run("persistent", 50 + 4, grid=1, shared=256, given=rng.standard_normal((50, 8)), n=50)
    assert out[50:].min() >= 10, "groups of a block take turns"


def test_several_threads_launch_at_once(good, broken):
    good.driver.schedule, good.driver.workers = "random:3", 2

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        kernels = Kernels.__new__(Kernels)  # each with a counter of its own
        kernels.__dict__.update(good.__dict__)
        with pytest.raises(EmulationError, match="deadlock"):
            broken.run("divergent", 64, threads=64)
        return run_all(kernels, rng)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


@pytest.mark.parametrize("width", [4, 8, 32])
def test_shuffles(kernels, width):
    out = kernels.run("shuffles", (32, 5), n=width)
    lane = np.arange(32)
    start = lane // width * width
    np.testing.assert_array_equal(out[:, 0], start + (lane + 3) % width)
    np.testing.assert_array_equal(out[:, 1], np.where(lane - start >= 3, lane - 3, lane))
    np.testing.assert_array_equal(out[:, 2], np.where(lane - start + 3 < width, lane + 3, lane))
    # Lanes of an earlier segment may be read, those of a later one not.
    np.testing.assert_array_equal(out[:, 3], np.where((lane ^ 5) < start + width, lane ^ 5, lane))
    np.testing.assert_array_equal(out[:, 4], np.where(lane % 2, 7, -1))


def test_votes(kernels):
    values = np.arange(64) % 3 == 0
    values[32:] = True
    out = kernels.run("votes", (64, 6), threads=64, given=values)
    ballot = sum(1 << lane for lane in range(32) if values[lane])
    np.testing.assert_array_equal(out[:32], np.tile([ballot, 1, 0, values.sum(), 1, 0], (32, 1)))
    np.testing.assert_array_equal(out[32:], np.tile([2.0**32 - 1, 1, 1, values.sum(), 1, 0], (32, 1)))
    assert kernels.run("votes", (64, 6), threads=64, given=np.ones(64))[0, 5] == 1


def test_atomics(kernels):
    out = kernels.run("atomics", 5, grid=20, threads=128)
    count = 20 * 128
    assert out[0] == count
    assert out[1:2].view(np.float32)[0] == count
    np.testing.assert_array_equal(out[2:].view(np.int32)[::2], [count, count - 1, 1 - count])
    assert kernels.counter.value == count


def test_indices_and_fresh_shared_memory(kernels):
    out = kernels.run("indices", (3, 64, 4), grid=3, threads=64, shared=512)
    block, thread = np.indices((3, 64))
    np.testing.assert_array_equal(out, np.stack([np.ones((3, 64)), block, thread, np.full((3, 64), 3064)], axis=-1))


def test_mathematics(good):
    out = good.run("mathematics", 3, threads=1, given=[0.1])
    np.testing.assert_array_equal(out, [0.5 + 0.25 + 7 + 1, 0.1, 4 + 3100 + 40000 + 2000000])


# ---- faults ----------------------------------------------------------------------------------------------------------


FAULTS = {
    "divergent": r"deadlock.*threads 0-39 at __syncthreads\(\) in kernel.cu:\d+; threads 40-63 at its end",
    "two_barriers": "divergent __syncthreads.*threads 0,2,4,.* at __syncthreads",
    "shuffle_from_ended": "deadlock.*threads 0-4,6-31 at a shuffle of lanes 0xffffffff.*threads 5,32-63 at its end|"
    "deadlock.*at a shuffle of lanes 0xffffffff.*threads 5,37 at its end",
    "shuffle_from_stranger": "a shuffle of lanes 0x0000ffff in kernel.cu:.* reads lane 20, which is not in its mask",
    "not_in_mask": r"thread \(\d+,0,0\): __syncwarp\(0x000000ff\).*is called by lane \d+, which is not in its mask",
    "different_masks": r"deadlock.*at __syncwarp\(0xffffffff\).*at __syncwarp\(0xfffffffe\)|not in its mask",
    "different_calls": r"deadlock.*at __syncwarp\(0xffffffff\).*at a vote of lanes 0xffffffff",
    "far_out": r"thread \(3,0,0\) touched 0x\w+, 600 bytes from the start of the 512 bytes of dynamic shared memory",
    "just_out": "a write 300 bytes from the start of the 300 bytes of dynamic shared memory",
    "deep_stack": "its stack has overflowed",
    "null_pointer": r"block \(0,0,0\), thread \(7,0,0\) touched 0x8",
    "endless": "an endless loop",
    "trap": r"block \(0,0,0\), thread \(9,0,0\): __trap\(\)",
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("entry", FAULTS)
def test_fault_is_caught(broken, monkeypatch, entry, schedule):
    monkeypatch.setenv("GD_EMULATED_LIMIT", "100000")
    broken.driver.schedule = schedule
    shared = {"just_out": 300, "far_out": 512}.get(entry, 0)
    with pytest.raises(EmulationError, match=f"^{entry}: .*({FAULTS[entry]})"):
        broken.run(entry, 64, threads=64, shared=shared, n=shared)


def test_a_launch_after_a_fault_is_good(broken, good, rng):
    for entry in ("trap", "null_pointer", "divergent"):
        with pytest.raises(EmulationError):
            broken.run(entry, 64, threads=64)
    broken.driver.schedule = "ascending"
    assert np.isnan(broken.run("reversed_without_barrier", 32, shared=256, given=np.ones(32))[:16]).all()


def test_what_no_device_launches(good):
    for grid, threads, shared in ((0, 32, 0), (1, 0, 0), (1, 1025, 0), (1, 32, (227 << 10) + 1)):
        with pytest.raises(EmulationError, match="no device launches"):
            good.run("indices", 1, grid=grid, threads=threads, shared=shared)
    with pytest.raises(EmulationError, match="loaded for 8 bytes of shared memory, launched with 16"):
        good.driver.load(0, good.cubin, "indices", 8).launch(1, 32, 16, 0, Arguments())


def test_bad_requests(good, monkeypatch):
    for schedule in ("sideways", "random:", "random:x"):
        monkeypatch.setattr(good.driver, "schedule", schedule)
        with pytest.raises(EmulationError, match=f"schedule: expected ascending.*got {schedule}"):
            good.run("indices", 1)
    monkeypatch.setattr(good.driver, "remove", "kernel.cu")
    with pytest.raises(EmulationError, match=r"barrier to remove: expected FILE:LINE or all, got kernel\.cu"):
        good.run("indices", 1)
    with pytest.raises(CompileError, match=r"(?s)nothing does not compile.*kernel.cu:1.*nonsense"):
        good.driver.compile("nonsense", "sm_90", "nothing")


# ---- missing barriers ------------------------------------------------------------------------------------------------


def test_a_missing_barrier_shows_under_some_schedule(broken):
    given = np.arange(32.0)
    answers = []
    for schedule in SCHEDULES:
        broken.driver.schedule = schedule
        answers.append(broken.run("reversed_without_barrier", 32, shared=256, given=given))
    for answer in answers:
        assert not np.array_equal(answer, given[::-1])
    assert not np.array_equal(answers[0], answers[1], equal_nan=True)


def test_removed_barriers_show_under_some_schedule(good, rng, monkeypatch):
    """And are known by their places."""
    driver = good.driver
    monkeypatch.setattr(driver, "workers", 1)
    monkeypatch.setattr(driver, "remove", "")
    assert run_all(good, rng)
    assert set(BARRIERS) <= driver.sites()
    for site, text in BARRIERS.items():
        monkeypatch.setattr(driver, "remove", site)
        noticed = False
        for schedule in (*SCHEDULES, "random:2"):
            monkeypatch.setattr(driver, "schedule", schedule)
            noticed = noticed or not run_all(good, rng)
        assert noticed == ("behind a shuffle" not in text), f"{site}: {text}"


# ---- ThreadSanitizer -------------------------------------------------------------------------------------------------

SETUP = """
import numpy as np
import test_cuda_host as t
driver = t.EmulatedDriver(sanitize=True)
good, broken = t.Kernels(t.GOOD, driver), t.Kernels(t.BROKEN, driver)

def run_good(schedule="ascending", remove=""):
    driver.schedule, driver.remove = schedule, remove
    rng = np.random.default_rng(1)
    right = t.run_all(good, rng)
    good.run("votes", (64, 6), threads=64, given=np.ones(64))
    good.run("shuffles", (32, 5), n=8)
    assert good.run("atomics", 5, grid=3, threads=64)[0] == 192
    assert right or remove
"""
RACES = {
    "reversed_without_barrier": "1, 32, 256, np.ones(32)",
    "ordered_by_a_shuffle": "1, 32, 256, np.ones(32)",
    "race_between_blocks": "5, 32",
}


@pytest.fixture(scope="module")
def sanitized():
    """Exit code and output by case, everything in one process: it takes a second to start."""
    for source in (GOOD, BROKEN):
        EmulatedDriver(sanitize=True).compile(source, "sm_90", "kernels of the test")
    code, output = run_sanitized("print('alive')")
    if code != 0:
        pytest.skip(f"ThreadSanitizer does not run here: {output[-500:]}")
    cases = {schedule: f"run_good({schedule!r})" for schedule in SCHEDULES}
    cases |= {site: f"run_good(remove={site!r})" for site in BARRIERS}
    cases |= {entry: f"broken.run({entry!r}, 64, {options})" for entry, options in RACES.items()}
    cases["divergent"] = "broken.run('divergent', 64, threads=64)"
    return dict(zip(cases, run_sanitized_each(SETUP, list(cases.values())), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_good_kernels_have_no_race(sanitized, schedule):
    code, output = sanitized[schedule]
    assert code == 0, output[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*RACES, *BARRIERS])
def test_race_is_reported(sanitized, case):
    """Also between blocks, also where a shuffle keeps the lanes together, and wherever a barrier is removed."""
    code, output = sanitized[case]
    assert code == RACE, output[-4000:]
    assert "ThreadSanitizer: data race" in output
    assert case in BARRIERS or case in output


@pytest.mark.slow
def test_faults_under_the_sanitizer(sanitized):
    code, output = sanitized["divergent"]
    assert (code, "EmulationError: divergent: block (0,0,0)" in output, "deadlock" in output) == (1, True, True), output


# ---- without assembly ------------------------------------------------------------------------------------------------

DIMENSIONS = r"""
#include <cstdio>
__global__ void where(int* out) {
  __shared__ int s[16];
  const int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  s[t] = t;
  __syncthreads();
  out[b * 16 + t] = b * 100 + s[15 - t] + __shfl_xor_sync(0xffffu, t, 1);
}
int main() {
  int out[6 * 16];
  const int code = cuda_host::launch(dim3(3, 2), dim3(4, 2, 2), 0, [&] { where(out); });
  for (int b = 0; b < 6; b++)
    for (int t = 0; t < 16; t++)
      if (out[b * 16 + t] != b * 100 + 15 - t + (t ^ 1)) return 2;
  const int bad = cuda_host::launch(1, 2, 0, [] { if (threadIdx.x) __syncthreads(); });
  std::printf("%s", cuda_host::last_error());
  return code == 0 && bad == 1 ? 0 : 3;
}
"""


@pytest.mark.parametrize("flags", [[], ["-DCUDA_HOST_PORTABLE"]], ids=["assembly", "portable"])
def test_grids_and_blocks_of_several_dimensions(tmp_path, flags):
    """As a program of its own, with warnings as errors, and with the fallback for other processors."""
    program = tmp_path / "program"
    command = ["g++", "-std=c++17", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", *flags]
    command += ["-include", str(EMULATION / "cuda_host.hpp"), "-xc++", "-", "-o", str(program)]
    done = subprocess.run(command, input=DIMENSIONS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    for schedule in SCHEDULES:
        done = subprocess.run(
            [program], env={"GD_EMULATED_SCHEDULE": schedule}, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, "deadlock" in done.stdout) == (0, True), (schedule, done.stdout)
