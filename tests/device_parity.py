"""What both tests of the CUDA backend ask, with a stand-in for the kernels and with the kernels emulated."""

from __future__ import annotations

import numpy as np
from compare import assert_close
from device_arrays import Package, Spy, use

import gpudiff as gd
from gpudiff._device import DeviceArray

NAMES = ("P", "q", "A", "b")
POINT = ("x", "y", "s", "obj")
SCALARS = ("status", "iterations", "primal_residual", "dual_residual", "gap", "margin")
FAMILIES = ("qp", "qp with equalities", "lp", "socp", "mixed", "mixed, no P", "equalities only", "unconstrained")

LAYOUTS = {
    "reversed": lambda a: a[::-1].copy()[::-1],
    "transposed": lambda a: np.ascontiguousarray(np.swapaxes(a, -1, -2)).swapaxes(-1, -2) if a.ndim > 2 else a,
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "batch last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0),
    "last axis reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
}


class Gpu:
    """A device in host memory."""

    def __init__(self, monkeypatch, driver) -> None:
        self.package = Package()
        self.driver = driver
        self.spy = Spy(driver)
        self.backend = use(monkeypatch, self.spy)

    @property
    def waits(self) -> int:
        return self.package.waits + self.spy.waits

    def put(self, *arrays, device=0):
        """Arrays as they would lie on the device, strides and all."""
        moved = [None if a is None else self.package.wrap(a, device) for a in arrays]
        return moved if len(moved) != 1 else moved[0]


def host(value):
    return value.native if isinstance(value, DeviceArray) else np.asarray(value)


def cotangents(rng, sol):
    return {name: rng.standard_normal(host(getattr(sol, name)).shape) for name in POINT}


def assert_parity(gpu, rng, data, cones, tolerance=1e-9, **options) -> None:
    """Everything that a call answers is what the CPU backend answers, and it was answered without waiting."""
    expected = gd.solve(*data, cones, backend="cpu", **options)
    before = gpu.waits
    sol = gd.solve(*gpu.put(*data), cones, **options)
    bars = cotangents(rng, expected)
    tangents = {name: rng.standard_normal(a.shape) for name, a in zip(NAMES, data, strict=True) if a is not None}
    if "P" in tangents:
        tangents["P"] = tangents["P"] + tangents["P"].swapaxes(-1, -2)
    dot = sol.jvp(**{name: gpu.put(value) for name, value in tangents.items()})
    bar = sol.vjp(**{name: gpu.put(value) for name, value in bars.items()})
    assert gpu.waits == before, "something waited for the device"
    assert sol.backend == "cuda"
    for name in (*POINT, *SCALARS):
        mine, theirs = getattr(sol, name), np.asarray(getattr(expected, name))
        assert isinstance(mine, DeviceArray), name
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), name
        if name not in ("iterations", "margin"):
            assert_equal_up_to(host(mine), theirs, tolerance, name)
    dot_expected, bar_expected = expected.jvp(**tangents), expected.vjp(**bars)
    for name in POINT:
        assert_equal_up_to(host(getattr(dot, name)), getattr(dot_expected, name), tolerance, f"{name} tangent")
    for name, argument in zip(NAMES, data, strict=True):
        mine, theirs = getattr(bar, name), getattr(bar_expected, name)
        assert (mine is None) == (argument is None)
        if argument is not None:
            assert host(mine).shape == argument.shape
            assert_equal_up_to(host(mine), theirs, tolerance, f"{name} cotangent")


def assert_equal_up_to(actual, expected, tolerance, what) -> None:
    """As `assert_close`, where NaN and infinities must be in the same places."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite], what)
    assert_close(actual[finite], expected[finite], tolerance, what)
