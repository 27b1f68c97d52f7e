"""What a GPU must be able to do for us: the `Driver` protocol. That of NVIDIA GPUs is in gpudiff/jit/cuda_driver.py.

The tests put an emulation of CUDA on the host behind the same protocol, which is why it is no wider than it must be.
A pointer is a device address as an integer, a stream the integer handle of a CUDA stream (0: the legacy default
stream). Nothing in here waits for a device but `download` and `synchronize`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray


class DeviceFacts(NamedTuple):
    """One device.

    Attributes:
        name: as its maker calls it, such as "NVIDIA H200".
        arch: what to compile for, such as "sm_90".
        multiprocessors: streaming multiprocessors.
        shared_per_block: bytes of shared memory that a block may ask for.
        shared_per_multiprocessor: bytes of shared memory of a multiprocessor.
        driver_version: newest CUDA version that the driver serves, such as "13.0".
    """

    name: str
    arch: str
    multiprocessors: int
    shared_per_block: int
    shared_per_multiprocessor: int
    driver_version: str


class Usage(NamedTuple):
    """What a kernel takes of a multiprocessor, as the assembler reports it.

    Attributes:
        registers: per thread.
        stack: bytes of local memory per thread.
        spill_stores: bytes per thread of registers that went to local memory,
        spill_loads: and that came back.
        static_shared: bytes of shared memory per block that the source declares itself.
    """

    registers: int
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    static_shared: int = 0


class Compiled(NamedTuple):
    """Machine code for one architecture.

    Attributes:
        cubin: the code, as the driver loads it.
        usage: by entry.
        seconds: how long the compiler took, or the cache to find it.
        from_cache: whether it came from the disk.
    """

    cubin: bytes
    usage: Mapping[str, Usage]
    seconds: float = 0.0
    from_cache: bool = False


class Function(Protocol):
    """A kernel that is loaded on one device."""

    def blocks_per_multiprocessor(self, threads: int, shared_bytes: int) -> int:
        """How many blocks of this size can be resident on a multiprocessor."""
        ...

    def launch(self, grid: int, threads: int, shared_bytes: int, stream: int, arguments: ctypes.Structure) -> None:
        """Start `grid` blocks of `threads` threads on a stream of the device; the struct is passed by value.

        Raises:
            BackendError: the driver refuses.
        """
        ...


class Driver(Protocol):
    """Devices that run kernels. Methods other than the first may assume that it returned None; all are thread-safe."""

    def why_unavailable(self) -> str | None:
        """Why no device can be used; None if one can. Cheap after the first call."""
        ...

    def device_count(self) -> int:
        """How many devices there are; they are numbered from 0."""
        ...

    def facts(self, device: int) -> DeviceFacts:
        """What a device is."""
        ...

    def compile(self, source: str, arch: str, name: str) -> Compiled:
        """Compile a kernel's source text, or find it compiled; `name` says in messages what it is.

        Raises:
            CompileError: the source does not compile.
            BackendError: there is no compiler.
        """
        ...

    def load(self, device: int, cubin: bytes, entry: str, shared_bytes: int) -> Function:
        """Load an entry on a device; its blocks will use up to `shared_bytes` of dynamic shared memory.

        Raises:
            BackendError: the driver refuses.
        """
        ...

    def zero(self, device: int, pointer: int, count: int, stream: int) -> None:
        """Set `count` bytes of device memory to zero, in the order of the stream."""
        ...

    def allocate(self, device: int, count: int) -> int:
        """Memory for `count` bytes, aligned to 256; for callers without a package that allocates.

        Raises:
            BackendError: out of memory.
        """
        ...

    def free(self, device: int, pointer: int) -> None:
        """Give back what `allocate` gave."""
        ...

    def upload(self, device: int, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Copy a C-contiguous host array to device memory, in the order of the stream; the array may then change."""
        ...

    def download(self, device: int, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Copy device memory into a C-contiguous host array, and wait for it."""
        ...

    def synchronize(self, device: int) -> None:
        """Wait until the device has done everything that it was asked for.

        Raises:
            BackendError: some of that failed.
        """
        ...


_default: Driver | None = None
_lock = threading.Lock()


def default_driver() -> Driver:
    """The driver for this machine's NVIDIA GPUs, one for the process. Neither this nor importing needs a GPU."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                from gpudiff.jit.cuda_driver import CudaDriver

                _default = CudaDriver()
    return _default
