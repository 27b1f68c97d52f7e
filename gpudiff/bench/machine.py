"""What a benchmark figure depends on and must be written down with it: processor, cores, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def describe() -> dict[str, Any]:
    """Processor, system and interpreter."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(usable_cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def usable_cores() -> set[int]:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def pin_to_one_core() -> int | None:
    """Keeps this process, and the threads it will start, on its last usable core; None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(usable_cores())
    os.sched_setaffinity(0, {core})
    return core


def single_threaded_environment() -> dict[str, str] | None:
    """The environment with every thread count set to 1, or None if it is so already.

    Libraries read these variables when they are loaded, so a running process cannot change its mind.
    """
    if all(os.environ.get(name) == "1" for name in THREAD_VARIABLES):
        return None
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}


def versions(packages: list[str]) -> dict[str, str]:
    """Installed versions of the packages, by distribution name; those not installed are left out."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout this file is in, with "+changes" if it differs.

    Outside of one that in GPUDIFF_COMMIT, or else None.
    """
    here = Path(__file__).resolve().parent
    known = os.environ.get("GPUDIFF_COMMIT") or None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--error-unmatch", __file__):
            return known
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return known


def fma_peak(dtype: str) -> dict[str, Any]:
    """Measured peak of one core in GFLOP/s for this dtype, and the instruction-set variant it holds for.

    Raises:
        gpudiff.GpudiffError: If the compiled library is missing.
    """
    from gpudiff._library import load

    library = load()
    return {"isa": library.gd_isa().decode(), "gflops": float(library.gd_fma_peak({"float64": 0, "float32": 1}[dtype]))}


def fresh_interpreter(code: str) -> list[str]:
    """A command that runs code with the gpudiff that is running here, whatever lies in the current directory."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); {code}"]


def import_seconds(repeats: int) -> dict[str, float]:
    """Median seconds of ``import gpudiff`` in a fresh interpreter, and of the NumPy import contained in it."""
    found: dict[str, float] = {}
    for module in ("gpudiff", "numpy"):
        code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
        times = [
            float(subprocess.run(fresh_interpreter(code), capture_output=True, text=True, check=True).stdout)
            for _ in range(repeats)
        ]
        found[module] = statistics.median(times)
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
