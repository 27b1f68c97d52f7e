"""Projections per second: ``gd.project`` and its derivative on one cone at a time, and NumPy where it has a way.

Points are normal, of which for each of these cones some lie inside, some project to its tip and most in between.
NumPy's way is what its users write: a batched eigendecomposition for a semidefinite cone, the closed form for a
second-order one. Repeats interleave, and the answers' difference stands beside the rates.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpudiff.bench.families import Array

_NUMBERS = 1 << 17  # in the points of a call: they and their projections stay in a level-two cache or close to it


class Case(NamedTuple):
    """A cone to project onto.

    Args:
        name: What it is called.
        cone: Its class in gpudiff,
        argument: and what that is made with.
        operations: Additions, multiplications, quotients and roots of a projection, counted by a scalar type that does
            so in place of a pack, on such points; an exponential is 42 of them, a logarithm 34.
        derivative: The same for the derivative in a direction.
    """

    name: str
    cone: str
    argument: float
    operations: float
    derivative: float


CASES = (
    Case("second-order 5", "SecondOrder", 5, 40, 80),
    Case("second-order 20", "SecondOrder", 20, 145, 305),
    Case("exponential", "Exponential", 1, 486, 566),
    Case("power 0.3", "Power", 0.3, 773, 853),
    Case("PSD 3", "PSD", 3, 868, 1123),
    Case("PSD 5", "PSD", 5, 4620, 5620),
    Case("PSD 8", "PSD", 8, 19419, 23107),
    Case("PSD 16", "PSD", 16, 167139, 194419),
    Case("PSD 32", "PSD", 32, 1427678, 1637118),
)


def projections(seconds: float, repeats: int, peak: dict[str, Any] | None, seed: int = 0) -> list[dict[str, Any]]:
    """Rates by cone and kind of call.

    Args:
        seconds: For each kind of call of a cone and each repeat.
        repeats: Their median is reported.
        peak: Of one core, from ``machine.fma_peak``; of all threads that are used.
        seed: Of the points.

    Returns:
        Dictionaries with case, call ("project", "derivative" or "numpy"), rate (points per second), rate_range,
        difference (of NumPy's answers from gpudiff's, over the points' size; None for gpudiff) and peak_fraction.
    """
    found: list[dict[str, Any]] = []
    for case in CASES:
        calls, points, difference = _calls(case, np.random.default_rng(seed))
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                rates[name].append(points / _time(call, seconds))
        for name, each in rates.items():
            operations = {"project": case.operations, "derivative": case.derivative}.get(name)
            rate = statistics.median(each)
            found.append(
                {
                    "case": case.name,
                    "call": name,
                    "rate": rate,
                    "rate_range": (min(each), max(each)),
                    "difference": difference if name == "numpy" else None,
                    "peak_fraction": rate * operations / (1e9 * peak["gflops"]) if operations and peak else None,
                }
            )
    return found


def _time(call: Callable[[], Array], seconds: float) -> float:
    """Seconds of a call, the mean over as many as fit."""
    start, count = time.perf_counter(), 0
    while True:
        call()
        count += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return spent / count


def _calls(case: Case, rng: np.random.Generator) -> tuple[dict[str, Callable[[], Array]], int, float]:
    """What is timed, by name; the number of points; and how far NumPy's answers are from ours."""
    import gpudiff as gd

    cones = [getattr(gd, case.cone)(case.argument)]
    m = cones[0].rows
    points = max(8, _NUMBERS // m)
    v, h = rng.standard_normal((2, points, m))
    calls: dict[str, Callable[[], Array]] = {
        "project": lambda: gd.project(v, cones),
        "derivative": lambda: gd.project_jvp(v, h, cones),
    }
    peer = {"SecondOrder": _second_order, "PSD": _semidefinite}.get(case.cone)
    if peer is None:
        return calls, points, 0.0
    calls["numpy"] = lambda: peer(v)
    difference = np.max(np.abs(peer(v) - gd.project(v, cones)), -1) / np.max(np.abs(v), -1)
    return calls, points, float(np.max(difference))


def _second_order(v: Array) -> Array:
    t, x = v[:, 0], v[:, 1:]
    n = np.linalg.norm(x, axis=1)
    high, low = np.maximum(t + n, 0), np.maximum(t - n, 0)
    out = np.empty_like(v)
    out[:, 0] = (high + low) / 2
    out[:, 1:] = x * ((high - low) / (2 * n))[:, None]
    return out


def _semidefinite(v: Array) -> Array:
    import gpudiff as gd

    values, vectors = np.linalg.eigh(gd.smat(v))
    return gd.svec((vectors * np.maximum(values, 0)[:, None]) @ vectors.swapaxes(1, 2))
