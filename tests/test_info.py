"""info(), the version, the C interface's declarations, dispatch, and what importing costs."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

import gpudiff as gd
from gpudiff import _abi, _library
from gpudiff._cones import _KINDS
from gpudiff.backends.cpu import CpuBackend
from gpudiff.jit import arguments

HEADER = Path(__file__).parents[1] / "kernels" / "entry" / "gpudiff.h"
GPU_HEADER = HEADER.parent / "gpu" / "arguments.h"


def test_info_says_what_is_usable():
    info = gd.info()
    assert list(info.backends) == ["cuda", "cpu", "clarabel"]
    assert info.backends["cpu"] is None
    assert bool(info.devices) == (info.backends["cuda"] is None)
    assert info.isa in info.isa_available
    assert info.threads >= 1
    assert info.packages["numpy"] == np.__version__
    text = str(info)
    assert repr(info) == text
    names = ("torch", "cupy", "cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc")
    for word in (gd.__version__, "backend cpu", "backend cuda", "usable", info.isa, np.__version__, *names):
        assert word in text


def test_a_missing_library_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(_library, "_loaded", None)
    monkeypatch.setattr(gd.backends, "__path__", [str(tmp_path)])
    why = CpuBackend().why_unavailable()
    assert "libgpudiff.so" in why
    assert str(tmp_path) in why
    assert "pip install" in why
    assert why in str(gd.info())
    with pytest.raises(gd.BackendError, match=r"none takes this problem \(n=1, m=0, float64\); cpu: expected the comp"):
        gd.solve([[1.0]], [1.0], backend="cpu")
    sol = gd.solve([[1.0]], [1.0])  # Clarabel needs no library of ours for linear cones
    assert sol.backend == "clarabel"
    assert re.search("cuda: .*; cpu: expected the comp", sol.why)


def test_a_broken_library_is_explained(monkeypatch, tmp_path):
    (tmp_path / "libgpudiff.so").write_text("not a library")
    monkeypatch.setattr(_library, "_loaded", None)
    monkeypatch.setattr(gd.backends, "__path__", [str(tmp_path)])
    assert "does not load" in CpuBackend().why_unavailable()


def test_another_version_of_the_library_is_refused(monkeypatch):
    monkeypatch.setattr(_library, "_loaded", None)
    monkeypatch.setattr(_library, "ABI_VERSION", 999)
    assert re.search(r"expected version 999 of the C interface, got \d+", CpuBackend().why_unavailable())


@pytest.mark.parametrize("name", ["gpu", "", None, 3])
def test_an_unknown_backend_is_named_with_those_that_exist(name):
    with pytest.raises(gd.BackendError) as error:
        gd.solve([[1.0]], [1.0], backend=name)
    names = "'auto', 'cuda', 'cpu', 'clarabel', 'qpsolvers:<solver>'"
    assert str(error.value) == f"backend: expected one of {names}, got {name!r}"


def test_the_solution_says_what_ran():
    for backend in ("auto", "cpu"):
        assert gd.solve([[1.0]], [1.0], backend=backend).backend == "cpu"


# ---- the C interface -------------------------------------------------------------------------------------------------

STRUCTS = {
    "gd_tensor": _abi.Tensor,
    "gd_problem": _abi.CProblem,
    "gd_settings": _abi.CSettings,
    "gd_solution": _abi.CSolution,
    "gd_report": _abi.CReport,
    "gd_point": _abi.CPoint,
    "gd_control": arguments.Control,
    "gd_unfinished": arguments.Unfinished,
    "gd_gpu_solve": arguments.GpuSolve,
    "gd_gpu_sensitivity": arguments.GpuSensitivity,
    "gd_gpu_sum": arguments.GpuSum,
    "gd_gpu_project": arguments.GpuProject,
}
SIZES = {"double": 8, "int16_t": 2, "int32_t": 4, "int64_t": 8, "uint64_t": 8}
SIZES |= {name: ctypes.sizeof(struct) for name, struct in STRUCTS.items()}


def declared(name: str) -> list[tuple[str, int]]:
    """Name and size of each field of a struct in the header."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text() + GPU_HEADER.read_text(), flags=re.DOTALL)
    body = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", text, re.DOTALL).group(1)
    fields = []
    for statement in filter(None, (part.strip() for part in body.split(";"))):
        kind, names = re.match(r"(?:const )?(\w+)\s*(.*)", statement, re.DOTALL).groups()
        for field in names.split(","):
            pointer = "*" in field
            fields.append((field.strip(" *\n"), 8 if pointer else SIZES[kind]))
    return fields


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_are_declared_as_in_the_header(name):
    ours = [(field, ctypes.sizeof(kind)) for field, kind in STRUCTS[name]._fields_]
    assert ours == declared(name)


def test_functions_are_declared_as_in_the_header():
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = re.findall(r"\b(gd_\w+)\(([^)]*)\);", text)
    arguments = {name: 0 if words in ("void", "") else words.count(",") + 1 for name, words in found}
    assert {name: len(types) for name, (_, types) in _abi.SIGNATURES.items()} == arguments


def test_enums_are_those_of_the_header():
    text = HEADER.read_text()
    assert int(re.search(r"GD_ABI_VERSION (\d+)", text).group(1)) == _abi.ABI_VERSION
    for cone in _KINDS:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cone.__name__).upper()
        assert int(re.search(rf"\bGD_{name} = (\d+)", text).group(1)) == cone.code
    for name in ("OK", "OUT_OF_MEMORY", "ASYMMETRIC_P", "BAD_ARGUMENT"):
        assert int(re.search(rf"GD_{name} = (\d+)", text).group(1)) == getattr(_abi, name)


# ---- importing -------------------------------------------------------------------------------------------------------


def test_importing_imports_no_other_package(run_python):
    """Nor what compiles kernels; solving on the host does not either."""
    names = ("scipy", "clarabel", "torch", "cupy", "cuda", "matplotlib", "gpudiff.jit", "concurrent.futures", "logging")
    show = f"print(*(name for name in {names} if name in sys.modules))"
    assert run_python(f"import sys, gpudiff; gpudiff.solve([[1.0]], [1.0]); {show}").strip() == ""


def test_everything_exported_exists_and_is_documented():
    for name in gd.__all__:
        value = getattr(gd, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = gd.nonsense
