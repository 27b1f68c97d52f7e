"""A device for the GPU benchmark whose memory and clock are the host's."""

from __future__ import annotations

import time

import pytest

from gpudiff.bench.cuda.device import TorchDevice
from gpudiff.bench.cuda.solver import result_bytes

torch = pytest.importorskip("torch")


class HostDevice(TorchDevice):
    """torch on the CPU.

    Args:
        tick: seconds that every call takes on its clock; None for those that it really takes.
    """

    name = "cpu"

    def __init__(self, tick=None):
        super().__init__()
        self.torch, self.l2_bytes, self.tick = torch, 4096, tick
        self.captured = self.released = 0

    def why_unavailable(self):
        return None

    def describe(self):
        return {"gpu": "none", "l2_bytes": self.l2_bytes}

    def synchronize(self):
        pass

    def seconds(self, call, calls):
        start = time.perf_counter()
        for k in range(calls):
            call(k)
        return self.tick or (time.perf_counter() - start) / calls

    def free_bytes(self):
        return 1 << 30

    def peak_bytes(self, call):
        return result_bytes(call()) + 4321

    def release(self):
        self.released += 1

    def capture(self, call):
        self.captured += 1
        return call

    def fma_peak(self, dtype):
        return {"float64": 1e9, "float32": 2e9}[dtype]

    def bandwidth(self):
        return 1e8
