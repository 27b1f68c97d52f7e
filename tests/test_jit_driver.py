"""The CUDA driver without a GPU: why there is none, and its calls against a stand-in for libcuda.so.1.

emulation/cuda_driver_stub.cpp is that stand-in. cuda.bindings loads it as it would the driver, so the calls have the
form that the driver expects; and it insists on the right context.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

STUB = Path(__file__).parent / "emulation" / "cuda_driver_stub.cpp"


@pytest.fixture(scope="module")
def stub(tmp_path_factory) -> str:
    """The folder of the stand-in."""
    pytest.importorskip("cuda.bindings.driver", reason="install gpudiff[cuda] for the CUDA driver API")
    compiler = shutil.which("g++") or pytest.skip("needs g++")
    library = tmp_path_factory.mktemp("stub") / "libcuda.so.1"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-shared", "-fPIC", str(STUB), "-o", str(library)]
    subprocess.run(command, check=True, timeout=300)
    return str(library.parent)


@pytest.fixture
def with_stub(stub, run_python):
    """Run code in a process that finds the stand-in."""

    def run(code: str, **environment: str) -> list[str]:
        start = "import numpy as np, gpudiff\nfrom gpudiff.jit.cuda_driver import CudaDriver\ndriver = CudaDriver()\n"
        return run_python(start + code, LD_LIBRARY_PATH=stub, **environment).splitlines()

    return run


def test_importing_imports_no_cuda_package(run_python):
    code = """
import sys, gpudiff, gpudiff.jit, gpudiff.jit.kernels, gpudiff.jit.cuda_driver
print(*(m for m in ("cuda", "torch", "cupy") if m in sys.modules))
"""
    assert run_python(code).strip() == ""


def test_no_driver(run_python, tmp_path):
    code = """
from gpudiff.jit.cuda_driver import CudaDriver
from gpudiff.jit.driver import default_driver
import ctypes
def nothing(name):
    raise OSError
ctypes.CDLL = nothing
print(CudaDriver().why_unavailable())
print(default_driver() is default_driver())
"""
    assert run_python(code).splitlines() == ["no NVIDIA driver (libcuda.so.1 was not found)", "True"]


def test_no_package(with_stub):
    code = "import sys; sys.modules['cuda.core'] = None; print(driver.why_unavailable())"
    assert with_stub(code) == ["the Python package cuda-core is missing; pip install 'gpudiff[cuda]'"]


def test_no_device(with_stub):
    (line,) = with_stub("print(driver.why_unavailable())", STUB_INIT="100")
    assert line == "cuda: cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)"


def test_facts(with_stub):
    code = "print(driver.why_unavailable(), driver.device_count()); print(*driver.facts(1))"
    assert with_stub(code) == ["None 2", "Stub 1 sm_91 133 232448 233472 13.0"]


def test_an_old_device_is_refused(with_stub):
    (line,) = with_stub("print(driver.why_unavailable())", STUB_MAJOR="7")
    assert line == "expected GPUs of compute capability 7.5 or newer, found Stub 0 with 7.0"


MEMORY = """
assert driver.why_unavailable() is None
for device in (1, 0):
    pointer = driver.allocate(device, 64)
    assert pointer % 256 == 0
    driver.upload(device, pointer, np.arange(8.0), 0)
    driver.zero(device, pointer, 16, 7)
    back = np.empty(8)
    driver.download(device, pointer, back, 0)
    assert back.tolist() == [0, 0, 2, 3, 4, 5, 6, 7]
    driver.synchronize(device)
    driver.free(device, pointer)
assert int(driver.api.cuCtxGetCurrent()[1]) == 0
try:
    driver.allocate(0, 1 << 40)
except gpudiff.BackendError as error:
    print(error)
"""


def test_memory(with_stub):
    assert with_stub(MEMORY) == ["cuda: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (some error)"]


LAUNCH = """
import ctypes, threading
class Arguments(ctypes.Structure):
    _fields_ = (("to", ctypes.c_void_p), ("value", ctypes.c_uint64))
assert driver.why_unavailable() is None
image = b"\\x7fELF"
def launch(device, stream):
    pointer = driver.allocate(device, 8)
    function = driver.load(device, image, "gd_x", 100_000)
    assert function.blocks_per_multiprocessor(64, 100_000) == 32
    function.launch(3, 64, 100_000, stream, Arguments(pointer, 1000))
    back = np.empty(1, np.uint64)
    driver.download(device, pointer, back, stream)
    assert back[0] == 1000 + 3 * 64 + (stream << 32)
launch(0, 5)
launch(1, 0)
thread = threading.Thread(target=launch, args=(1, 2))
thread.start()
thread.join()
context, address = driver._contexts[0]
driver.api.cuCtxPushCurrent(context)
launch(1, 9)  # the caller's own context comes back
assert int(driver.api.cuCtxGetCurrent()[1]) == address
launch(0, 9)
assert int(driver.api.cuCtxGetCurrent()[1]) == address
pointer = driver.allocate(0, 8)
function = driver.load(0, image, "gd_x", 0)
for attempt in (
    lambda: function.launch(3, 64, 60_000, 0, Arguments(pointer, 0)),
    lambda: function.blocks_per_multiprocessor(64, 60_000),
    lambda: driver.load(0, b"PTX", "gd_x", 0),
    lambda: driver.load(0, image, "other", 0),
    lambda: driver.load(0, image, "gd_x", 1 << 20),
):
    try:
        attempt()
        print("no error")
    except gpudiff.BackendError as error:
        print(error)
assert int(driver.api.cuCtxGetCurrent()[1]) == address
"""


def test_launch_on_several_devices_and_threads(with_stub):
    lines = with_stub(LAUNCH)
    assert lines[0] == (
        "cuda: cuLaunchKernel: CUDA_ERROR_INVALID_VALUE (some error): gd_x, 3 blocks of 64 threads with "
        "60000 bytes of shared memory"
    )
    assert lines[1].startswith("cuda: cuOccupancyMaxActiveBlocksPerMultiprocessor: CUDA_ERROR_INVALID_VALUE")
    assert lines[2].startswith(
        "cuda: cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE (some error); the driver serves CUDA 13.0"
    )
    assert lines[3].startswith("cuda: cuModuleGetFunction: CUDA_ERROR_NOT_FOUND")
    assert lines[4].startswith("cuda: cuFuncSetAttribute: CUDA_ERROR_INVALID_VALUE")
    assert len(lines) == 5


def test_what_a_launch_costs(with_stub):
    """Beyond the driver's own work: a few microseconds, and fewer where the caller's context is current, as always."""
    code = (
        LAUNCH.split("launch(0, 5)")[0]
        + """
import timeit
driver.enter(0)
pointer = driver.allocate(0, 8)
function = driver.load(0, image, "gd_x", 0)
arguments = Arguments(pointer, 0)
def both():
    driver.zero(0, pointer, 8, 0)
    function.launch(3, 64, 0, 0, arguments)
print(min(timeit.repeat(both, number=2000, repeat=10)) / 2000)
"""
    )
    (seconds,) = with_stub(code)
    assert float(seconds) < 30e-6  # it takes 2.4 µs


def test_the_default_driver_compiles_through_the_cache(with_stub, tmp_path):
    """From the driver to machine code on disk, with the CUDA packages as they are."""
    code = """
from gpudiff.jit.kernels import Kernels
from gpudiff.jit.specification import Shape
assert driver.why_unavailable() is None
for turn in range(2):
    ready = Kernels(driver).get(0, "sum", Shape(2, 0, 3))
    print(ready.from_cache, ready.usage.registers > 0, ready.specification.entry)
"""
    lines = with_stub(code, GPUDIFF_CACHE_DIR=str(tmp_path / "cache"))
    assert lines == ["False True gd_sum_kernel", "True True gd_sum_kernel"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
