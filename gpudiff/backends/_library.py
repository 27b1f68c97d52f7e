"""The compiled library of the CPU backend: where it is, how it is loaded, and its C structs as ctypes sees them.

The declarations follow kernels/entry/gpudiff.h line by line; a test compares the two. Pointers to arrays are declared
void: ctypes fills such a field three times as fast as a typed one.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

from gpudiff._errors import BackendError

ABI_VERSION = 1
NAMES = ("libgpudiff.so", "libgpudiff.dylib")

OK, OUT_OF_MEMORY, ASYMMETRIC_P, BAD_ARGUMENT = range(4)  # enum gd_result


class Tensor(ctypes.Structure):
    """gd_tensor: a view [batch, row, col] with strides in elements."""

    _fields_ = (("data", c_void_p), ("batch", c_int64), ("row", c_int64), ("col", c_int64))


class CProblem(ctypes.Structure):
    """gd_problem.

    Attributes:
        owner: whatever must live as long as the addresses in here; not a field of the struct.
    """

    owner: Any
    _fields_ = (
        ("batch", c_int64),
        ("n", c_int64),
        ("m", c_int64),
        ("dtype", c_int32),
        ("cone_count", c_int32),
        ("cone_kind", c_void_p),
        ("cone_rows", c_void_p),
        ("P", Tensor),
        ("q", Tensor),
        ("A", Tensor),
        ("b", Tensor),
    )


class CSettings(ctypes.Structure):
    """gd_settings."""

    _fields_ = (
        ("tol_gap_abs", c_double),
        ("tol_gap_rel", c_double),
        ("tol_feas", c_double),
        ("tol_infeas_abs", c_double),
        ("tol_infeas_rel", c_double),
        ("max_iter", c_int32),
        ("polish", c_int32),
        ("check_convex", c_int32),
        ("threads", c_int32),
    )


class CSolution(ctypes.Structure):
    """gd_solution."""

    _fields_ = (
        ("x", c_void_p),
        ("y", c_void_p),
        ("s", c_void_p),
        ("obj", c_void_p),
        ("primal_residual", c_void_p),
        ("dual_residual", c_void_p),
        ("gap", c_void_p),
        ("margin", c_void_p),
        ("status", c_void_p),
        ("iterations", c_void_p),
    )


class CReport(ctypes.Structure):
    """gd_report."""

    _fields_ = (
        ("index", c_int64),
        ("interior", c_int64),
        ("newton", c_int64),
        ("resumed", c_int64),
        ("flops", c_double),
    )


class CPoint(ctypes.Structure):
    """gd_point."""

    _fields_ = (("x", Tensor), ("y", Tensor), ("s", Tensor), ("status", c_void_p))


_TENSOR = POINTER(Tensor)
_DATA = [POINTER(CProblem), POINTER(CSettings)]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "gd_solve": (c_int, [*_DATA, _TENSOR, _TENSOR, _TENSOR, POINTER(CSolution), POINTER(CReport)]),
    "gd_jvp": (c_int, [*_DATA, POINTER(CPoint), *([_TENSOR] * 8), POINTER(CReport)]),
    "gd_vjp": (c_int, [*_DATA, POINTER(CPoint), *([_TENSOR] * 8), POINTER(CReport)]),
    "gd_abi_version": (c_int, []),
    "gd_isa": (c_char_p, []),
    "gd_isa_available": (c_char_p, []),
    "gd_use_isa": (c_int, [c_char_p]),
    "gd_fma_peak": (c_double, [c_int32]),
}

_loaded: ctypes.CDLL | None = None
_lock = threading.Lock()


def load() -> ctypes.CDLL:
    """The library, loaded on the first call.

    Raises:
        BackendError: it is missing, does not load, or belongs to another version of the package.
    """
    if _loaded is not None:
        return _loaded
    with _lock:
        return _loaded or _load()


def _load() -> ctypes.CDLL:
    global _loaded
    folders = [Path(folder) for folder in sys.modules["gpudiff.backends"].__path__]  # two in an editable install
    found = [folder / name for folder in folders for name in NAMES if (folder / name).exists()]
    if not found:
        raise BackendError(
            f"expected the compiled library {NAMES[0]} in {folders[0]}, found none; "
            "install gpudiff with `pip install .`, which compiles it"
        )
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise BackendError(f"the compiled library does not load: {error}") from error
    version = library.gd_abi_version()
    if version != ABI_VERSION:
        raise BackendError(
            f"{found[0]}: expected version {ABI_VERSION} of the C interface, got {version}; install gpudiff again"
        )
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    _loaded = library
    return library
