"""The driver for NVIDIA GPUs: `Driver` over the CUDA driver API, through cuda.bindings.

It works in each device's primary context, the one that torch, CuPy and the CUDA runtime use too, so that their arrays
and streams can be used as they are. A call makes that context current where it is not, and restores what was.

Importing this needs no GPU; cuda.bindings is imported when a GPU is first looked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import threading
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from gpudiff._errors import BackendError
from gpudiff.jit.build import build
from gpudiff.jit.compiler import INSTALL
from gpudiff.jit.driver import Compiled, DeviceFacts
from gpudiff.jit.plan import ARCHITECTURES

_LIBRARY = "libcuda.so.1"
_PACKAGES = {"cuda-bindings": "cuda.bindings", "cuda-core": "cuda.core"}
_OLDEST = min(ARCHITECTURES)


class CudaDriver:
    """This machine's NVIDIA GPUs."""

    def __init__(self) -> None:
        self.api: Any = None  # cuda.bindings.driver
        self._why: str | None = None
        self._looked = False
        self._count = 0
        self._contexts: dict[int, tuple[Any, int]] = {}  # of each device: CUcontext, and its address
        self._lock = threading.Lock()

    def why_unavailable(self) -> str | None:
        """Why no GPU can be used; looked for once in a process."""
        if not self._looked:
            with self._lock:
                if not self._looked:
                    self._why = self._look()
                    self._looked = True
        return self._why

    def _look(self) -> str | None:
        try:
            ctypes.CDLL(_LIBRARY)
        except OSError:
            return f"no NVIDIA driver ({_LIBRARY} was not found)"
        missing = [package for package, module in _PACKAGES.items() if not _installed(module)]
        if missing:
            return f"the Python package {' and '.join(missing)} is missing; {INSTALL}"
        try:
            self.api = importlib.import_module("cuda.bindings.driver")
        except ImportError as error:
            return f"cuda-bindings cannot be imported ({error}); {INSTALL}"
        try:
            self.call("cuInit", 0)
            self._count = self.call("cuDeviceGetCount")
            if self._count == 0:
                return "the NVIDIA driver finds no GPU"
            for device in range(self._count):
                major, minor = self._capability(device)
                if 10 * major + minor < _OLDEST:
                    return (
                        f"expected GPUs of compute capability {_OLDEST // 10}.{_OLDEST % 10} or newer, "
                        f"found {self._name(device)} with {major}.{minor}"
                    )
        except BackendError as error:
            return str(error)
        return None

    def device_count(self) -> int:
        """How many GPUs the driver shows."""
        return self._count

    def facts(self, device: int) -> DeviceFacts:
        """What a GPU is."""
        attribute = self.api.CUdevice_attribute
        major, minor = self._capability(device)
        version = self.call("cuDriverGetVersion")
        return DeviceFacts(
            name=self._name(device),
            arch=f"sm_{major}{minor}",
            multiprocessors=self._attribute(attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device),
            shared_per_block=self._attribute(attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device),
            shared_per_multiprocessor=self._attribute(
                attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, device
            ),
            driver_version=f"{version // 1000}.{version % 1000 // 10}",
        )

    def compile(self, source: str, arch: str, name: str) -> Compiled:
        """Compile by NVRTC, or find on disk; see `gpudiff.jit.build`."""
        return build(source, arch, name)

    def load(self, device: int, cubin: bytes, entry: str, shared_bytes: int) -> CudaFunction:
        """Load an entry into the device's primary context, where it stays until the process ends."""
        attribute = self.api.CUfunction_attribute
        with self._current(device):
            try:
                module = self.call("cuModuleLoadData", cubin)
            except BackendError as error:
                version = self.call("cuDriverGetVersion")
                raise BackendError(
                    f"{error}; the driver serves CUDA {version // 1000}.{version % 1000 // 10}, which must not be "
                    "older than the compiler that the package nvidia-cuda-nvrtc brings"
                ) from error
            function = self.call("cuModuleGetFunction", module, entry.encode())
            self.call("cuFuncLoad", function)  # now rather than at the first launch, which a graph may be capturing
            if shared_bytes > 0:
                largest = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                self.call("cuFuncSetAttribute", function, largest, shared_bytes)
                # All of it, as the kernels live in shared memory. Without any, the first-level cache is worth more.
                carveout = attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
                self.call("cuFuncSetAttribute", function, carveout, 100)
        return CudaFunction(self, device, entry, function)

    def zero(self, device: int, pointer: int, count: int, stream: int) -> None:
        """Set `count` bytes to zero, in the order of the stream."""
        pushed = self.enter(device)  # rather than `_current`: this is part of every solve
        try:
            self.call("cuMemsetD8Async", pointer, 0, count, stream)
        finally:
            if pushed:
                self.leave()

    def allocate(self, device: int, count: int) -> int:
        """Memory for `count` bytes, aligned to 256."""
        with self._current(device):
            return int(self.call("cuMemAlloc", count))

    def free(self, device: int, pointer: int) -> None:
        """Give back what `allocate` gave."""
        with self._current(device):
            self.call("cuMemFree", pointer)

    def upload(self, device: int, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Copy a C-contiguous host array to the device; pageable memory has been read when this returns."""
        with self._current(device):
            self.call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def download(self, device: int, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Copy into a C-contiguous host array, and wait for it."""
        with self._current(device):
            self.call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)
            self.call("cuStreamSynchronize", stream)

    def synchronize(self, device: int) -> None:
        """Wait for everything that was asked of the device's primary context."""
        with self._current(device):
            self.call("cuCtxSynchronize")

    @contextlib.contextmanager
    def _current(self, device: int) -> Generator[None, None, None]:
        """Make the device's primary context the thread's current one, for a while."""
        pushed = self.enter(device)
        try:
            yield
        finally:
            if pushed:
                self.leave()

    def enter(self, device: int) -> bool:
        """Make the device's primary context current; False if it was already, else `leave` must follow."""
        context, address = self._contexts.get(device) or self._retain(device)
        error, current = self.api.cuCtxGetCurrent()
        if error == 0 and int(current) == address:
            return False
        self.call("cuCtxPushCurrent", context)
        return True

    def leave(self) -> None:
        """Restore the context that was current before `enter`."""
        self.call("cuCtxPopCurrent")

    def _retain(self, device: int) -> tuple[Any, int]:
        with self._lock:
            if device not in self._contexts:
                context = self.call("cuDevicePrimaryCtxRetain", self.call("cuDeviceGet", device))
                self._contexts[device] = context, int(context)
        return self._contexts[device]

    def _name(self, device: int) -> str:
        name: bytes = self.call("cuDeviceGetName", 256, self.call("cuDeviceGet", device))
        return name.partition(b"\0")[0].decode(errors="replace")

    def _capability(self, device: int) -> tuple[int, int]:
        attribute = self.api.CUdevice_attribute
        major = self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
        return major, self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)

    def _attribute(self, attribute: Any, device: int) -> int:
        return self.call("cuDeviceGetAttribute", attribute, self.call("cuDeviceGet", device))

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the driver; its result, or None if it has none.

        Raises:
            BackendError: the driver refuses.
        """
        try:
            error, *results = getattr(self.api, name)(*arguments)
        except RuntimeError as missing:  # an old driver does not have the function
            raise BackendError(f"cuda: {name}: {missing}; expected a driver for CUDA 13") from missing
        if error != 0:
            raise BackendError(self.explain(name, error))
        return results[0] if results else None

    def explain(self, name: str, error: Any) -> str:
        """What an error code of the driver means."""
        _, text = self.api.cuGetErrorString(error)
        code = getattr(error, "name", error)
        return f"cuda: {name}: {code}" + (f" ({text.decode()})" if text else "")


class CudaFunction:
    """A kernel in the primary context of one GPU."""

    def __init__(self, driver: CudaDriver, device: int, entry: str, function: Any) -> None:
        self._driver = driver
        self._device = device
        self._entry = entry
        self._function = function
        self._launch = driver.api.cuLaunchKernel

    def blocks_per_multiprocessor(self, threads: int, shared_bytes: int) -> int:
        """How many blocks of this size can be resident on a multiprocessor."""
        driver = self._driver
        pushed = driver.enter(self._device)
        try:
            error, blocks = driver.api.cuOccupancyMaxActiveBlocksPerMultiprocessor(
                self._function, threads, shared_bytes
            )
        finally:
            if pushed:
                driver.leave()
        if error != 0:
            raise BackendError(f"{driver.explain('cuOccupancyMaxActiveBlocksPerMultiprocessor', error)}: {self._entry}")
        return blocks

    def launch(self, grid: int, threads: int, shared_bytes: int, stream: int, arguments: ctypes.Structure) -> None:
        """Start `grid` blocks on a stream; the driver copies the struct before this returns."""
        driver = self._driver
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        pushed = driver.enter(self._device)
        try:
            (error,) = self._launch(
                self._function, grid, 1, 1, threads, 1, 1, shared_bytes, stream, ctypes.addressof(parameters), 0
            )
        finally:
            if pushed:
                driver.leave()
        if error != 0:
            raise BackendError(
                f"{driver.explain('cuLaunchKernel', error)}: {self._entry}, {grid} blocks of {threads} threads with "
                f"{shared_bytes} bytes of shared memory"
            )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is part of
        return False
