"""The CUDA device of the benchmark and its ceilings: how torch and the driver are called, what the kernel is."""

from __future__ import annotations

import contextlib
import ctypes
import types

import numpy as np
import pytest
from host_device import torch

from gpudiff.bench.cuda import ceilings
from gpudiff.bench.cuda.device import TorchDevice
from gpudiff.jit.driver import Compiled


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_peak_kernel_compiles_to_multiply_adds(dtype):
    """NVRTC needs no GPU: the kernel has the fused multiply-adds that are counted, and does not spill."""
    pytest.importorskip("cuda.core")
    from gpudiff.jit.compiler import compile_source

    compiled = compile_source(ceilings.source(dtype), "sm_90", "peak")
    usage = compiled.usage["gd_fma_peak"]
    assert usage.spill_stores == usage.stack == 0
    assert usage.registers <= 32  # so that all 64 warps of a multiprocessor are resident
    wanted = ceilings.UNROLLED * ceilings.CHAINS
    opcode = {"float64": 0x22B, "float32": 0x223}[dtype]  # DFMA, FFMA: the low 12 bits of a 16-byte instruction
    words = np.frombuffer(compiled.cubin[: len(compiled.cubin) // 8 * 8], np.uint64)
    assert int(((words & 0xFFF) == opcode).sum()) >= wanted
    size = ctypes.sizeof(ceilings.arguments_type(dtype))
    assert size == 24
    assert ceilings.flops_per_block(10) == 2 * 10 * wanted * ceilings.THREADS


class FakeCuda:
    """The parts of torch.cuda that are used, with a clock that every call advances by a millisecond."""

    def __init__(self):
        self.now, self.done, self.allocated, self.peak = 0.0, [], 100, 0

    def Event(self, enable_timing):
        cuda = self

        class Event:
            def record(self):
                self.at = cuda.now

            def synchronize(self):
                cuda.done.append("event")

            def elapsed_time(self, other):
                return other.at - self.at

        assert enable_timing
        return Event()

    def synchronize(self):
        self.done.append("synchronize")

    def memory_allocated(self):
        return self.allocated

    def max_memory_allocated(self):
        return self.peak

    def reset_peak_memory_stats(self):
        self.peak = self.allocated

    def memory_reserved(self):
        return 150

    def mem_get_info(self):
        return 1000, 2000

    def empty_cache(self):
        self.done.append("empty")

    def current_device(self):
        return 0

    def current_stream(self):
        return types.SimpleNamespace(cuda_stream=77, wait_stream=lambda other: self.done.append("wait"))

    def Stream(self):
        return types.SimpleNamespace(wait_stream=lambda other: self.done.append("wait"))

    def stream(self, stream):
        return contextlib.nullcontext()

    def CUDAGraph(self):
        return types.SimpleNamespace(replay=lambda: self.done.append("replay"))

    def graph(self, graph):
        self.done.append("capture")
        return contextlib.nullcontext()


@pytest.fixture
def torch_device():
    """TorchDevice on the fake, with torch's own functions on the CPU."""
    device = TorchDevice()
    names = ("zeros", "ones", "empty_like", "uint8", "float64", "float32")
    device.torch = types.SimpleNamespace(cuda=FakeCuda(), **{name: getattr(torch, name) for name in names})
    device.name = "cpu"
    return device


def test_events_memory_and_graphs(torch_device):
    cuda = torch_device.torch.cuda
    called = []

    def call(k=None):
        called.append(k)
        cuda.now += 1.0
        cuda.peak = max(cuda.peak, cuda.allocated + 40)

    assert torch_device.seconds(call, 4) == pytest.approx(1e-3)
    assert called == [0, 1, 2, 3]
    assert cuda.done[-1] == "event"
    assert torch_device.peak_bytes(call) == 40
    assert torch_device.free_bytes() == 1000 + 150 - 100
    cuda.done.clear()
    called.clear()
    replay = torch_device.capture(call)
    assert cuda.done == ["wait", "wait", "capture"]
    assert len(called) == 4  # three to warm up, one captured
    replay()
    assert cuda.done[-1] == "replay"
    assert len(called) == 4


def test_ceilings_count_what_was_launched(torch_device, monkeypatch):
    """A launch of r rounds takes r microseconds, a copy a millisecond."""
    cuda, launches = torch_device.torch.cuda, []

    class Function:
        def launch(self, grid, threads, shared, stream, arguments):
            assert (threads, shared, stream) == (ceilings.THREADS, 0, 77)
            assert arguments.out
            launches.append((grid, arguments.rounds))
            cuda.now += 1e-3 * arguments.rounds

    driver = types.SimpleNamespace(
        facts=lambda index: types.SimpleNamespace(arch="sm_90", multiprocessors=10),
        compile=lambda source, arch, name: Compiled(b"cubin", {}),
        load=lambda index, cubin, entry, shared: Function(),
    )
    monkeypatch.setattr("gpudiff.jit.driver.default_driver", lambda: driver)
    grid = 10 * ceilings.BLOCKS_PER_MULTIPROCESSOR
    per_round = grid * ceilings.THREADS * ceilings.CHAINS * ceilings.UNROLLED * 2
    assert torch_device.fma_peak("float64") == pytest.approx(per_round / 1e-6)
    assert {count for count, _ in launches} == {grid}
    assert launches[-1][1] == 20_000  # 20 ms

    class Bytes:
        def copy_(self, other):
            cuda.now += 1.0

    torch_device.torch.empty_like = lambda tensor: Bytes()
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (8_000_000, 0))
    assert torch_device.bandwidth() == pytest.approx(2 * (8_000_050 // 8) / 1e-3)
    assert cuda.done[-1] == "empty"
