"""The C interface as ctypes sees it: the structs and functions of kernels/entry/gpudiff.h, line by line.

A test compares the two. Pointers to arrays are declared void: ctypes fills such a field three times as fast as a typed
one. The structs that only GPU kernels take are in gpudiff/jit/arguments.py.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from typing import Any

ABI_VERSION = 6

OK, OUT_OF_MEMORY, ASYMMETRIC_P, BAD_ARGUMENT = range(4)  # enum gd_result
DTYPE = {"float64": 0, "float32": 1}  # enum gd_dtype
METHOD = {"ipm": 0, "active_set": 1}  # enum gd_method


class Tensor(ctypes.Structure):
    """gd_tensor: a view [batch, row, col], of a derivative [direction, batch, row, col], with strides in elements."""

    _fields_ = (("data", c_void_p), ("batch", c_int64), ("row", c_int64), ("col", c_int64), ("direction", c_int64))


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
        ("cone_parameter", c_void_p),
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
        ("smoothing", c_double),
        ("max_iter", c_int32),
        ("polish", c_int32),
        ("check_convex", c_int32),
        ("threads", c_int32),
        ("method", c_int32),
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
        ("fallbacks", c_int64),
        ("changes", c_int64),
        ("flops", c_double),
    )


class CPoint(ctypes.Structure):
    """gd_point."""

    _fields_ = (("x", Tensor), ("y", Tensor), ("s", Tensor), ("status", c_void_p))


_TENSOR = POINTER(Tensor)
_INTEGERS = POINTER(c_int64)
_DATA = [POINTER(CProblem), POINTER(CSettings)]
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "gd_solve": (c_int, [*_DATA, _TENSOR, _TENSOR, _TENSOR, POINTER(CSolution), POINTER(CReport)]),
    "gd_jvp": (c_int, [*_DATA, POINTER(CPoint), c_int64, *([_TENSOR] * 8), POINTER(CReport)]),
    "gd_vjp": (c_int, [*_DATA, POINTER(CPoint), c_int64, *([_TENSOR] * 8), POINTER(CReport)]),
    "gd_project": (c_int, [POINTER(CProblem), c_int32, c_int32, _TENSOR, _TENSOR, _TENSOR, _TENSOR]),
    "gd_row_order": (c_int, [POINTER(CProblem), _INTEGERS, _INTEGERS, _INTEGERS, POINTER(c_double)]),
    "gd_gpu_layout": (c_int, [POINTER(CProblem), c_int32, c_int32, c_int32, c_int32, _INTEGERS, _INTEGERS]),
    "gd_abi_version": (c_int, []),
    "gd_isa": (c_char_p, []),
    "gd_isa_available": (c_char_p, []),
    "gd_use_isa": (c_int, [c_char_p]),
    "gd_release_memory": (None, []),
    "gd_fma_peak": (c_double, [c_int32]),
}
