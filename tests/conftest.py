"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng(request) -> np.random.Generator:
    """A generator seeded by the test's own name: the same numbers alone or in the whole suite, in any order."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.split("::", 1)[-1].encode()))


@pytest.fixture
def emulate(monkeypatch):
    """Make the CUDA backend run on the emulation of CUDA, with a group size and a memory layout; returns the driver."""
    from device_arrays import use
    from emulated_driver import EmulatedDriver

    def start(group: int = 0, level: int | None = None, **options) -> EmulatedDriver:
        for name, value in (("GROUP", group or None), ("LEVEL", level)):
            if value is None:
                monkeypatch.delenv(f"GPUDIFF_GPU_{name}", raising=False)
            else:
                monkeypatch.setenv(f"GPUDIFF_GPU_{name}", str(value))
        driver = EmulatedDriver(**options)
        use(monkeypatch, driver)
        return driver

    return start


@pytest.fixture
def run_python(tmp_path):
    """Run code in a fresh interpreter that can import gpudiff and the modules of this folder; return its output."""

    def run(code: str, timeout: float = 120, **environment: str) -> str:
        import gpudiff

        folders = [str(Path(gpudiff.__file__).parents[1]), str(Path(__file__).parent)]
        path = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,  # and no package that lies in the current directory
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
