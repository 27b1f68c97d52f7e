"""What the GPU kernels are launched with: the structs of kernels/entry/gpu/arguments.h, line by line.

A test compares the two.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int16, c_int32, c_int64, c_uint64, c_void_p

from gpudiff._abi import CPoint, CSettings, CSolution, Tensor


class Control(ctypes.Structure):
    """gd_control: a call's counters in device memory, zero before each launch sequence."""

    _fields_ = (
        ("next", c_uint64),
        ("unfinished", c_uint64),
        ("next_unfinished", c_uint64),
        ("interior", c_uint64),
        ("newton", c_uint64),
        ("changes", c_uint64),
    )


class Unfinished(ctypes.Structure):
    """gd_unfinished: one for each problem of the batch, in device memory."""

    _fields_ = (("index", c_int32), ("interior", c_int16), ("newton", c_int16))


class GpuSolve(ctypes.Structure):
    """gd_gpu_solve: argument of the kinds "solve", "active_set" and "careful"."""

    _fields_ = (
        ("batch", c_int64),
        ("P", Tensor),
        ("q", Tensor),
        ("A", Tensor),
        ("b", Tensor),
        ("warm_x", Tensor),
        ("warm_y", Tensor),
        ("warm_s", Tensor),
        ("settings", CSettings),
        ("out", CSolution),
        ("control", c_void_p),
        ("unfinished", c_void_p),
        ("workspace", c_void_p),
        ("zero_on_failure", c_int32),
        ("unused", c_int32),
    )


class GpuSensitivity(ctypes.Structure):
    """gd_gpu_sensitivity: argument of the kinds "jvp" and "vjp"."""

    _fields_ = (
        ("batch", c_int64),
        ("P", Tensor),
        ("q", Tensor),
        ("A", Tensor),
        ("b", Tensor),
        ("point", CPoint),
        ("P_dir", Tensor),
        ("q_dir", Tensor),
        ("A_dir", Tensor),
        ("b_dir", Tensor),
        ("x_dir", Tensor),
        ("y_dir", Tensor),
        ("s_dir", Tensor),
        ("obj_dir", Tensor),
        ("control", c_void_p),
        ("workspace", c_void_p),
        ("sums", c_void_p),
        ("segment", c_int64),
        ("directions", c_int64),
        ("smoothing", c_double),
    )


class GpuProject(ctypes.Structure):
    """gd_gpu_project: argument of the kind "project"."""

    _fields_ = (
        ("batch", c_int64),
        ("v", Tensor),
        ("direction", Tensor),
        ("primal", Tensor),
        ("derivative", Tensor),
        ("workspace", c_void_p),
        ("dual", c_int32),
        ("unused", c_int32),
    )


class GpuSum(ctypes.Structure):
    """gd_gpu_sum: argument of the kind "sum"."""

    _fields_ = (
        ("sums", c_void_p),
        ("segments", c_int64),
        ("words", c_int64),
        ("directions", c_int64),
        ("P_dir", Tensor),
        ("q_dir", Tensor),
        ("A_dir", Tensor),
        ("b_dir", Tensor),
    )
