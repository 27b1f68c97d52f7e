"""Source text → machine code for one architecture, by NVRTC through cuda.core. Needs no GPU and no driver.

Always cubin, never PTX: a driver refuses PTX that is newer than itself, and compiles it again at every start.
"""

from __future__ import annotations

import importlib
import io
import re
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpudiff._errors import BackendError, CompileError
from gpudiff._version import version_of
from gpudiff.jit.driver import Compiled, Usage

INSTALL = "pip install 'gpudiff[cuda]'"
# Contraction to FMA stays on (NVRTC's default), fast math off: NaN and infinity carry meaning.
OPTIONS: dict[str, Any] = {"std": "c++17", "fma": True, "use_fast_math": False, "ptxas_options": ["-v"]}

_MOST_LINES = 40  # of a compiler's log in a message

_importing = threading.Lock()

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def compile_source(source: str, arch: str, name: str, include: Sequence[Path] = ()) -> Compiled:
    """Compile CUDA source text.

    Args:
        source: the text.
        arch: such as "sm_90".
        name: what it is, for messages: `Specification.describe()`.
        include: folders to search for headers.

    Raises:
        CompileError: it does not compile, or the compiler does not know the architecture; with the compiler's log.
        BackendError: a package is missing.
    """
    compiler_version()  # says what is missing where NVRTC itself is
    core = _import("cuda.core")
    log = io.StringIO()
    start = time.perf_counter()
    try:
        options = core.ProgramOptions(arch=arch, include_path=[str(path) for path in include], **OPTIONS)
        cubin = core.Program(source, "c++", options).compile("cubin", logs=log).code
    except Exception as error:  # cuda.core has several kinds
        raise CompileError(
            f"cuda: {name} does not compile for {arch} with NVRTC {compiler_version()}: {_beginning(str(error))}"
        ) from error
    return Compiled(bytes(cubin), read_usage(log.getvalue()), time.perf_counter() - start)


def read_usage(log: str) -> dict[str, Usage]:
    """What `ptxas -v` says of each entry; functions that were not inlined count towards the entry before them."""
    usage: dict[str, Usage] = {}
    parts = _ENTRY.split(log)
    for entry, text in zip(parts[1::2], parts[2::2], strict=True):
        registers = [int(count) for count in _REGISTERS.findall(text)]
        memory = [[int(count) for count in counts] for counts in _MEMORY.findall(text)]
        if registers and memory:
            stack, stores, loads = (sum(column) for column in zip(*memory, strict=True))
            shared = sum(int(count) for count in _SHARED.findall(text))
            usage[entry] = Usage(max(registers), stack, stores, loads, shared)
    return usage


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """The version of NVRTC, such as "13.5 (13.5.37)": that of the library, and of the wheel where it came in one.

    Raises:
        BackendError: it is missing.
    """
    nvrtc = _import("cuda.bindings.nvrtc")
    try:
        _, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:  # which kind depends on what is missing, and on the version of cuda-bindings
        raise BackendError(f"cuda: expected the compiler NVRTC ({_line(error)}); {INSTALL}") from error
    wheel = version_of("nvidia-cuda-nvrtc")
    return f"{major}.{minor} ({wheel})" if wheel else f"{major}.{minor}"


def _import(module: str) -> Any:
    """Import a module of the CUDA packages, one thread at a time: cuda.core does not bear two.

    Raises:
        BackendError: it is not installed, or does not work here.
    """
    with _importing:
        try:
            return importlib.import_module(module)
        except Exception as error:  # a broken installation raises whatever it likes
            raise BackendError(f"cuda: expected the Python module {module} ({_line(error)}); {INSTALL}") from error


def _beginning(log: str) -> str:
    """A compiler's log up to where it only repeats itself."""
    lines = log.strip().splitlines()
    return "\n".join(lines[:_MOST_LINES]) + (
        f"\n… {len(lines) - _MOST_LINES} more lines" if lines[_MOST_LINES:] else ""
    )


def _line(error: Exception) -> str:
    """The first line of what an exception says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
