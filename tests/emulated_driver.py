"""A GPU driver without a GPU: g++ compiles the kernels' source text, and an emulation of CUDA on the host runs it.

`EmulatedDriver` implements `gpudiff.jit.driver.Driver`. Its device memory is host memory, and a launch returns when the
kernel has ended. emulation/cuda_host.hpp says what the emulation checks and how to vary it.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from device_arrays import StandInDriver

from gpudiff._errors import BackendError, CompileError
from gpudiff.jit import headers
from gpudiff.jit.driver import Compiled, DeviceFacts

EMULATION = Path(__file__).parent / "emulation"
HEADERS = sorted(EMULATION.glob("cuda_host*.hpp"))
# Compiling is most of what a test takes: no optimisation. Nothing is exported but by name, and nothing is merged with
# what another kernel's library calls the same.
FLAGS = ["-std=c++17", "-O0", "-w", "-pthread", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-gnu-unique"]
SANITIZED = ["-fsanitize=thread", "-O1", "-g1"]
RACE = 66  # exit code of a process in which ThreadSanitizer saw a race
SCHEDULES = ("ascending", "descending", "random:1")

_ENTRY = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


class EmulationError(BackendError):
    """A kernel did what no kernel may do; the message says which thread, what, and where."""


def available() -> str | None:
    """Why kernels cannot be emulated here; None if they can."""
    return None if shutil.which("g++") else "needs g++"


@lru_cache(maxsize=1)
def build_folder() -> Path:
    """Where this process keeps what it has compiled; GD_EMULATED_CACHE names a folder that stays."""
    kept = os.environ.get("GD_EMULATED_CACHE")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    folder = Path(tempfile.mkdtemp(prefix="gpudiff-emulated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class EmulatedDriver(StandInDriver):
    """Runs kernels on the host; memory is that of the stand-in.

    Args:
        schedule: the order in which the threads of a block take turns, "ascending", "descending" or "random:SEED";
            empty leaves it to GD_EMULATED_SCHEDULE.
        workers: blocks that run at a time; 0 leaves it to GD_EMULATED_WORKERS.
        blocks: blocks that fit on a multiprocessor. With few of them groups take several problems, one after another.
        sanitize: build for ThreadSanitizer; only in a process started by `run_sanitized`.

    Attributes:
        remove: a barrier to leave out, "FILE:LINE" or "all"; empty for none.
    """

    def __init__(self, schedule: str = "", workers: int = 0, blocks: int = 1, sanitize: bool = False) -> None:
        super().__init__()
        self.schedule = schedule
        self.workers = workers
        self.blocks = blocks
        self.flags = [*FLAGS, *(SANITIZED if sanitize else [])]
        self.remove = os.environ.get("GD_EMULATED_REMOVE", "")
        self._libraries: dict[bytes, ctypes.CDLL] = {}
        self._lock = threading.Lock()

    def why_unavailable(self):
        return available()

    def facts(self, device):
        return DeviceFacts("emulated", "sm_90", 2, 227 << 10, 228 << 10, "13.0")

    def compile(self, source, arch, name):
        start = time.perf_counter()
        kernels = headers.folder()
        exports = "".join(f"CUDA_HOST_ENTRY({entry})\n" for entry in _entries(source, kernels))
        text = f'#line 1 "kernel.cu"\n{source}\n#include "{EMULATION / "cuda_host_library.hpp"}"\n{exports}'
        parts = [text, headers.digest(), *self.flags, *(path.read_text() for path in HEADERS)]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        library = build_folder() / f"{key}.so"
        found = library.exists()
        if not found:
            unit = library.with_suffix(f".{os.getpid()}.{threading.get_ident()}.cpp")
            unit.write_text(text)
            command = ["g++", *self.flags, "-include", str(EMULATION / "cuda_host.hpp"), f"-I{kernels}", str(unit)]
            environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            done = subprocess.run(
                [*command, "-o", f"{unit}.so"], env=environment, capture_output=True, text=True, timeout=900
            )
            if done.returncode != 0:
                raise CompileError(f"cuda: {name} does not compile for the emulation: {done.stderr[-4000:]}")
            os.replace(f"{unit}.so", library)
            unit.unlink()
        # The compiler says nothing of registers and spills that would hold for a device.
        return Compiled(os.fsencode(library), {}, time.perf_counter() - start, found)

    def load(self, device, cubin, entry, shared_bytes):
        with self._lock:
            library = self._libraries.get(cubin)
            if library is None:
                library = self._libraries[cubin] = ctypes.CDLL(os.fsdecode(cubin))
                library.emulated_error.restype = library.emulated_sites.restype = ctypes.c_char_p
                library.emulated_remove.argtypes = [ctypes.c_char_p]
        return _EmulatedFunction(self, library, entry, shared_bytes)

    def sites(self) -> set[str]:
        """The barriers that any launch has met, "FILE:LINE"."""
        return {site for library in self._libraries.values() for site in library.emulated_sites().decode().split()}


class _EmulatedFunction:
    def __init__(self, driver: EmulatedDriver, library: ctypes.CDLL, entry: str, shared_bytes: int) -> None:
        self._driver = driver
        self._library = library
        self._entry = entry
        self._shared_bytes = shared_bytes
        self._start = getattr(library, f"launch_{entry}")
        unsigned = [ctypes.c_uint, ctypes.c_uint, ctypes.c_size_t]
        self._start.argtypes = [ctypes.c_void_p, *unsigned, ctypes.c_char_p, ctypes.c_int]

    def blocks_per_multiprocessor(self, threads, shared_bytes):
        return self._driver.blocks

    def launch(self, grid, threads, shared_bytes, stream, arguments):
        driver, library = self._driver, self._library
        if shared_bytes > self._shared_bytes:
            raise EmulationError(
                f"{self._entry}: loaded for {self._shared_bytes} bytes of shared memory, launched with {shared_bytes}"
            )
        with driver._lock:
            driver.launches.append((self._entry, grid, threads, shared_bytes, stream))
            if library.emulated_remove(driver.remove.encode()):
                raise EmulationError(library.emulated_error().decode())
        schedule = driver.schedule.encode()
        if self._start(ctypes.addressof(arguments), grid, threads, shared_bytes, schedule, driver.workers):
            raise EmulationError(f"{self._entry}: {library.emulated_error().decode()}")


def _entries(source: str, folder: Path) -> list[str]:
    """The kernels that a text defines, itself or in the files that it includes."""
    texts = [source, *(path.read_text() for name in _INCLUDE.findall(source) if (path := folder / name).exists())]
    return [entry for text in texts for entry in _ENTRY.findall(text)]


def run_sanitized(code: str, timeout: float = 600, **environment: str) -> tuple[int, str]:
    """Run Python code in a process where `EmulatedDriver(sanitize=True)` works; exit code (`RACE`) and output."""
    import gpudiff

    runtime = subprocess.run(["g++", "-print-file-name=libtsan.so"], capture_output=True, text=True).stdout.strip()
    folders = [str(Path(gpudiff.__file__).parents[1]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "GD_EMULATED_CACHE": str(build_folder()),
        "OPENBLAS_NUM_THREADS": "1",
        "LD_PRELOAD": os.path.realpath(runtime),
        "TSAN_OPTIONS": f"halt_on_error=1 exitcode={RACE} report_thread_leaks=0 atexit_sleep_ms=0",
        **environment,
    }
    # Without address randomisation, of which some systems do more than ThreadSanitizer can live with.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*fixed, sys.executable, "-c", code],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        cwd=build_folder(),  # and no package that lies in the current directory
    )
    return done.returncode, done.stdout


def run_sanitized_each(
    setup: str, cases: Sequence[str], timeout: float = 600, **environment: str
) -> list[tuple[int, str]]:
    """Run `setup` once as `run_sanitized` does, then each case in a process that starts from there.

    Returns:
        Exit code and output of each case.

    Raises:
        EmulationError: the setup failed.
    """
    code, output = run_sanitized(_EACH.format(setup=setup, cases=list(cases)), timeout, **environment)
    parts = re.split(r"\n?<case (-?\d+)>\n", output)
    codes, outputs = parts[1::2], parts[0:-1:2]
    if code != 0 or len(codes) != len(cases):
        raise EmulationError(f"exit code {code} of the process under ThreadSanitizer: {output[-4000:]}")
    return [(int(code), output) for code, output in zip(codes, outputs, strict=True)]


_EACH = """
import os, sys, traceback
{setup}
sys.stdout.flush()
for case in {cases!r}:
    child = os.fork()
    if child == 0:
        code = 0
        try:
            exec(case)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"\\n<case {{code}}>", flush=True)
"""
