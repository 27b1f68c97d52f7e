"""What one call with one problem takes through Python: ``gd.solve``, ``gd.Solver.solve``, and DAQP where installed.

Problems follow each other round by round, every call on every problem, so that all of them see the same state of the
machine and data that the last call did not leave in a cache. The answers' errors stand beside the times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gpudiff.bench.families import FAMILIES, Array, Batch, generate
from gpudiff.bench.measure import points, relative_error
from gpudiff.bench.peers.daqp import Daqp

NAMES = ("qp-8-16", "qp-16-36", "qp-32-72")
COUNT = 64  # problems of each family
_ROUNDS = 3  # at least

Call = Callable[[int], Array]


def latency(seconds: float, backend: str, sample: int, seed: int = 0) -> list[dict[str, Any]]:
    """Median microseconds of one unbatched call through NumPy, by size and kind of call.

    Args:
        seconds: For each size, all kinds together.
        backend: Of gpudiff.
        sample: Problems whose answers are compared with the exact reference.
        seed: Of the data.

    Returns:
        Dictionaries with family, n, call, us (median over problems and rounds), us_range (10th and 90th percentile) and
        x_error_max.
    """
    found: list[dict[str, Any]] = []
    for family in FAMILIES:
        if family.name not in NAMES:
            continue
        batch = generate(family, COUNT, seed)
        exact = points(batch, min(sample, COUNT)).points
        calls = _calls(batch, backend)
        answers = {kind: [call(i) for i in range(len(exact))] for kind, call in calls.items()}
        times: dict[str, list[float]] = {kind: [] for kind in calls}
        stop, rounds = time.perf_counter() + seconds, 0
        while rounds < _ROUNDS or time.perf_counter() < stop:
            for i in range(COUNT):
                for kind, call in calls.items():
                    start = time.perf_counter()
                    call(i)
                    times[kind].append(time.perf_counter() - start)
            rounds += 1
        for kind, each in times.items():
            low, *_, high = statistics.quantiles(each[COUNT:], n=10)  # the first round warms up
            errors = [relative_error(x, point.x) for x, point in zip(answers[kind], exact, strict=True)]
            found.append(
                {
                    "family": family.name,
                    "n": batch.n,
                    "call": kind,
                    "us": 1e6 * statistics.median(each[COUNT:]),
                    "us_range": (1e6 * low, 1e6 * high),
                    "x_error_max": max(errors),
                }
            )
    return found


def _calls(batch: Batch, backend: str) -> dict[str, Call]:
    """Problem number → x, by kind of call."""
    import gpudiff as gd

    problems = [batch.problem(i) for i in range(batch.size)]
    cones = [gd.Zero(batch.cones["z"]), gd.Nonnegative(batch.cones["l"])]
    settings, x_bar = gd.Settings(threads=1), np.ones(batch.n)
    solver = gd.Solver(cones, batch.n, settings, backend)

    def solve(i: int) -> Array:
        P, q, A, b = problems[i]
        return gd.solve(P, q, A, b, cones, settings, backend).x

    def solver_solve(i: int) -> Array:
        return solver.solve(*problems[i]).x

    def solve_vjp(i: int) -> Array:
        P, q, A, b = problems[i]
        solution = gd.solve(P, q, A, b, cones, settings, backend)
        solution.vjp(x=x_bar)
        return solution.x

    calls: dict[str, Call] = {"gd.solve": solve, "gd.Solver.solve": solver_solve, "gd.solve and vjp": solve_vjp}
    peer = Daqp()
    if peer.unavailable() is None:
        calls["daqp.solve"] = peer.single(batch)
    return calls
