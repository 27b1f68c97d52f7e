"""Comparisons that say what differs."""

from __future__ import annotations

import numpy as np

RESULT_FIELDS = ("x", "y", "s", "obj", "status", "iterations", "primal_residual", "dual_residual", "gap")


def assert_same_bits(actual, expected, what: str = "") -> None:
    """Equal shape, dtype and bytes; NaN equals NaN, 0 differs from −0."""
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype}, expected {expected.dtype}"
    if actual.tobytes() == expected.tobytes():
        return
    raw = np.dtype(f"u{actual.dtype.itemsize}")
    unequal = actual.view(raw) != expected.view(raw)
    if actual.dtype.kind == "f":
        unequal &= ~(np.isnan(actual) & np.isnan(expected))
    differs = np.argwhere(unequal)
    if differs.size == 0:
        return
    first = tuple(int(i) for i in differs[0])
    raise AssertionError(
        f"{what}: {len(differs)} of {actual.size} entries differ, first at {first}: {actual[first]!r}, "
        f"expected {expected[first]!r}"
    )


def assert_close(actual, expected, tolerance: float, what: str = "") -> None:
    """|actual − expected|∞ ≤ tolerance · max(1, |expected|∞), with equal shapes and no NaN."""
    actual = np.asarray(actual)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return
    error = np.max(np.abs(np.asarray(actual, dtype=np.longdouble) - expected))
    bound = tolerance * max(1, np.max(np.abs(expected)))
    assert error <= bound, f"{what}: off by {float(error):.2e}, allowed {float(bound):.2e}"
