"""What the device can do at most, measured in the same run: fused multiply-adds per second, and bytes per second.

The kernel goes the way of gpudiff's own: NVRTC, the cache of compiled kernels, the driver.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpudiff.bench.cuda.device import TorchDevice

THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 8  # 64 warps: all that a multiprocessor of an H200 holds
CHAINS = 8  # independent chains of a thread, more than the latency of an instruction
UNROLLED = 16
_COPY_BYTES = 2 << 30

# Every chain converges to 1, and the compiler cannot know: nothing is left out, nothing overflows.
SOURCE = """
struct gd_peak { @T@* out; long long rounds; @T@ factor; };

extern "C" __global__ void __launch_bounds__(@THREADS@) gd_fma_peak(gd_peak arguments) {
  @T@ chain[@CHAINS@];
  const @T@ factor = arguments.factor, rest = 1 - factor;
#pragma unroll
  for (int k = 0; k < @CHAINS@; ++k) chain[k] = (@T@)(threadIdx.x + k);
  for (long long round = 0; round < arguments.rounds; ++round) {
#pragma unroll
    for (int step = 0; step < @UNROLLED@; ++step) {
#pragma unroll
      for (int k = 0; k < @CHAINS@; ++k) chain[k] = chain[k] * factor + rest;
    }
  }
  @T@ sum = 0;
#pragma unroll
  for (int k = 0; k < @CHAINS@; ++k) sum += chain[k];
  if (sum == (@T@)-1) arguments.out[blockIdx.x] = sum;
}
"""
_TYPES = {"float64": ("double", ctypes.c_double), "float32": ("float", ctypes.c_float)}


def source(dtype: str) -> str:
    """The kernel's text for one element type."""
    values = {"T": _TYPES[dtype][0], "THREADS": THREADS, "CHAINS": CHAINS, "UNROLLED": UNROLLED}
    text = SOURCE
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def flops_per_block(rounds: int) -> float:
    """Two for each fused multiply-add."""
    return 2.0 * rounds * UNROLLED * CHAINS * THREADS


def arguments_type(dtype: str) -> type[ctypes.Structure]:
    """The kernel's argument."""

    class Arguments(ctypes.Structure):
        _fields_ = (("out", ctypes.c_void_p), ("rounds", ctypes.c_longlong), ("factor", _TYPES[dtype][1]))

    return Arguments


def fma_peak(device: TorchDevice, dtype: str) -> float:
    """Floating-point operations per second of fused multiply-adds that do not wait for one another.

    Raises:
        gpudiff.BackendError: If the kernel does not compile or cannot be launched.
    """
    from gpudiff.jit.driver import default_driver

    driver, torch = default_driver(), device.torch
    index = torch.cuda.current_device()
    facts = driver.facts(index)
    compiled = driver.compile(source(dtype), facts.arch, f"peak of {dtype}")
    function = driver.load(index, compiled.cubin, "gd_fma_peak", 0)
    grid = facts.multiprocessors * BLOCKS_PER_MULTIPROCESSOR
    out = torch.zeros(grid, dtype=getattr(torch, dtype), device=device.name)
    stream = torch.cuda.current_stream().cuda_stream

    def seconds(rounds: int) -> float:
        arguments = arguments_type(dtype)(out.data_ptr(), rounds, 0.5)
        return device.seconds(lambda _k: function.launch(grid, THREADS, 0, stream, arguments), 1)

    seconds(100)  # loads it, and raises the clocks
    rounds = max(100, int(1000 * 0.02 / seconds(1000)))  # about 20 ms
    return grid * flops_per_block(rounds) / min(seconds(rounds) for _ in range(7))


def bandwidth(device: TorchDevice) -> float:
    """Bytes per second, read and written, of a copy of 2 GiB, or of an eighth of the free memory if that is less."""
    torch = device.torch
    count = min(_COPY_BYTES, device.free_bytes() // 8)
    source_bytes = torch.ones(count, dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source_bytes)
    device.seconds(lambda _k: target.copy_(source_bytes), 3)
    best = min(device.seconds(lambda _k: target.copy_(source_bytes), 3) for _ in range(7))
    return 2.0 * count / best
