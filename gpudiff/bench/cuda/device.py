"""The device that is measured, as the benchmark sees it, and the one that it is: a CUDA device through torch.

Everything that needs the device goes through ``Device``: the tests run the whole benchmark on another one, whose
memory and clock are the host's.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Device(Protocol):
    """Where arrays lie and calls run; its arrays are torch tensors.

    Attributes:
        name: What torch calls it, such as "cuda".
        l2_bytes: Size of the cache that must not hold the data of the next call.
    """

    name: str
    l2_bytes: int

    def why_unavailable(self) -> str | None:
        """Why it cannot be used here; None if it can."""
        ...

    def describe(self) -> dict[str, Any]:
        """What its figures depend on: name, sizes, versions, clocks."""
        ...

    def put(self, array: NDArray[Any]) -> Any:
        """A copy of a host array on the device."""
        ...

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Any:
        """Standard normal numbers drawn on the device."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has nothing left to do."""
        ...

    def seconds(self, call: Callable[[int], Any], calls: int) -> float:
        """Mean seconds of ``call(0) … call(calls − 1)``, one after the other without a pause, on the device's clock."""
        ...

    def free_bytes(self) -> int:
        """Memory that can still be allocated."""
        ...

    def peak_bytes(self, call: Callable[[], Any]) -> int | None:
        """Most memory allocated at a time during a call, beyond what was allocated before it; None if not known."""
        ...

    def release(self) -> None:
        """Gives back memory that is kept for reuse."""
        ...

    def capture(self, call: Callable[[], Any]) -> Callable[[], None]:
        """A CUDA graph of a call; what is returned replays it."""
        ...

    def fma_peak(self, dtype: str) -> float:
        """Measured floating-point operations per second of dependent-free fused multiply-adds."""
        ...

    def bandwidth(self) -> float:
        """Measured bytes per second, read and written, of a copy much larger than the caches."""
        ...


class TorchDevice:
    """The current CUDA device, with torch's allocator, events and graphs."""

    name = "cuda"

    def __init__(self) -> None:
        self.torch: Any = None
        self.l2_bytes = 0

    def why_unavailable(self) -> str | None:
        """Without a device gpudiff's own reason, without torch that it is missing."""
        import gpudiff as gd

        reason = gd.info().backends.get("cuda", "this version of gpudiff has no such backend")
        if reason is not None:
            return reason
        try:
            self.torch = importlib.import_module("torch")
        except ImportError as error:
            return f"{error}; its arrays and clocks are torch's: pip install torch"
        if not self.torch.cuda.is_available():
            return f"torch {self.torch.__version__} was built without CUDA, or does not work with this driver"
        self.l2_bytes = self._properties().L2_cache_size
        return None

    def describe(self) -> dict[str, Any]:
        """From torch, and clocks and power from nvidia-smi where it is installed."""
        found = self._properties()
        facts: dict[str, Any] = {
            "gpu": found.name,
            "capability": f"{found.major}.{found.minor}",
            "multiprocessors": found.multi_processor_count,
            "memory_bytes": found.total_memory,
            "l2_bytes": found.L2_cache_size,
            "cuda": self.torch.version.cuda,
        }
        fields = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,persistence_mode"
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            if done.returncode == 0:
                facts |= dict(zip(fields.split(","), (text.strip() for text in done.stdout.split(",")), strict=False))
        return facts

    def put(self, array: NDArray[Any]) -> Any:
        """Contiguous."""
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.name)

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Any:
        """By torch's generator of the device."""
        generator = self.torch.Generator(device=self.name).manual_seed(seed)
        return self.torch.randn(shape, dtype=getattr(self.torch, dtype), device=self.name, generator=generator)

    def synchronize(self) -> None:
        """Of all streams."""
        self.torch.cuda.synchronize()

    def seconds(self, call: Callable[[int], Any], calls: int) -> float:
        """Between two events on the current stream."""
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.synchronize()
        start.record()
        for k in range(calls):
            call(k)
        stop.record()
        stop.synchronize()
        return 1e-3 * start.elapsed_time(stop) / calls

    def free_bytes(self) -> int:
        """What the driver has, and what torch keeps for reuse."""
        cuda = self.torch.cuda
        return cuda.mem_get_info()[0] + cuda.memory_reserved() - cuda.memory_allocated()

    def peak_bytes(self, call: Callable[[], Any]) -> int | None:
        """As torch's allocator counts: gpudiff allocates nothing elsewhere."""
        cuda = self.torch.cuda
        self.synchronize()
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        kept = call()
        self.synchronize()
        peak = cuda.max_memory_allocated()
        del kept
        return peak - before

    def release(self) -> None:
        """Empties torch's cache."""
        self.synchronize()
        self.torch.cuda.empty_cache()

    def capture(self, call: Callable[[], Any]) -> Callable[[], None]:
        """After three calls on a stream of its own, as torch asks for."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = call()

        def replay() -> None:
            _ = kept  # the graph writes to it
            graph.replay()

        return replay

    def fma_peak(self, dtype: str) -> float:
        """By a kernel of its own, the best of several launches."""
        from gpudiff.bench.cuda import ceilings

        return ceilings.fma_peak(self, dtype)

    def bandwidth(self) -> float:
        """By torch's copy, the best of several."""
        from gpudiff.bench.cuda import ceilings

        found = ceilings.bandwidth(self)
        self.release()
        return found

    def _properties(self) -> Any:
        return self.torch.cuda.get_device_properties(self.torch.cuda.current_device())


def to_host(tensor: Any) -> NDArray[Any]:
    """A tensor's numbers as a NumPy array; waits for the device."""
    return tensor.detach().cpu().numpy()
