"""The demo's independent check: a sample of its replicates through Clarabel, for accuracy and for speed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import gpudiff as gd

Array = NDArray[np.float64]

TIGHT = 1e-12
"""Clarabel's tolerance where its answer is the reference; what it then leaves of |x − x*| is removed by `refine`."""


REPEATS = 3


@dataclass(frozen=True)
class Comparison:
    """One thread each, the same problems, the same run.

    Attributes:
        count: Problems compared.
        clarabel_rate: Problems per second of a loop over Clarabel at its default tolerances.
        gpudiff_rate: Problems per second of `gpudiff.solve` at its default settings.
        error: max |x − x*| of gpudiff.
        clarabel_error: max |x − x*| of Clarabel at its default tolerances.
        slope_error: max |jvp − difference quotient of Clarabel's solutions|.
        slope_count: Problems that could be compared in that way (the active set is the same at both ends).
    """

    count: int
    clarabel_rate: float
    gpudiff_rate: float
    error: float
    clarabel_error: float
    slope_error: float
    slope_count: int


def compare(P: Array, q: Array, A: Array, b: Array, cones: list[Any], b_dot: Array) -> Comparison:
    """Solve QPs with P `[B, n, n]`, q `[B, n]` and shared inequalities A x ≤ b by both, and compare x and its jvp."""
    settings = gd.Settings(threads=1)

    def ours() -> tuple[gd.Solution, float]:
        clock = time.perf_counter()
        solution = gd.solve(P, q, A, b, cones, settings=settings)
        return solution, time.perf_counter() - clock

    # In turns, and the best of each, so that a busy machine disturbs neither more than the other.
    rounds = [(clarabel_loop(P, q, A, b, None), ours()) for _ in range(REPEATS)]
    (loose, _), (sol, _) = rounds[0]
    loose_seconds = min(peer[1] for peer, _ in rounds)
    seconds = min(own[1] for _, own in rounds)
    exact = exact_solutions(P, q, A, b)
    dot = sol.jvp(b=b_dot)

    # x is piecewise linear in b, so a difference quotient is exact where both ends have the same active rows.
    step = 1e-4 * max(1.0, float(np.abs(b).max()))
    up, down = (exact_solutions(P, q, A, b + sign * step * b_dot) for sign in (1.0, -1.0))
    comparable = np.all(up.active == down.active, axis=1)
    quotient = (up.x - down.x) / (2 * step)
    return Comparison(
        count=len(P),
        clarabel_rate=len(P) / loose_seconds,
        gpudiff_rate=len(P) / seconds,
        error=float(np.abs(sol.x - exact.x).max()),
        clarabel_error=float(np.abs(loose.x - exact.x).max()),
        slope_error=float(np.abs(dot.x - quotient)[comparable].max(initial=0.0)),
        slope_count=int(comparable.sum()),
    )


@dataclass(frozen=True)
class Points:
    """Solutions x `[B, n]` and which inequalities are active `[B, m]`."""

    x: Array
    active: NDArray[np.bool_]


def exact_solutions(P: Array, q: Array, A: Array, b: Array) -> Points:
    """Clarabel at `TIGHT`, then the linear system of the rows it found active: exact to rounding."""
    points, _ = clarabel_loop(P, q, A, b, TIGHT)
    x = np.stack([refine(P[i], q[i], A, b, points.active[i]) for i in range(len(P))])
    return Points(x, points.active)


def refine(P: Array, q: Array, A: Array, b: Array, active: NDArray[np.bool_]) -> Array:
    """Minimiser x `[n]` of the QP whose active inequalities are taken as equalities."""
    rows = A[active]
    kkt = np.block([[P, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    solution = np.linalg.solve(kkt, np.concatenate([-q, b[active]]))
    return solution[: len(q)].astype(np.float64)


def clarabel_loop(P: Array, q: Array, A: Array, b: Array, tolerance: float | None) -> tuple[Points, float]:
    """Solve the QPs one after the other; returns the solutions and the seconds of the loop.

    The timed loop is the fastest way to use Clarabel on such problems: one solver object, whose P and q are replaced
    (no new symbolic analysis), with the sparse triangles of P made beforehand.
    """
    settings: Any = clarabel.DefaultSettings()  # pyright: ignore[reportAttributeAccessIssue]
    settings.verbose = False
    settings.max_threads = 1
    settings.presolve_enable = False  # Clarabel's condition for replacing data
    if tolerance is not None:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    n = len(q[0])
    columns, rows = np.tril_indices(n)  # of the upper triangle, column by column, as Clarabel stores it
    triangles = np.ascontiguousarray(P[:, rows, columns])
    pattern = (rows, np.concatenate([[0], np.cumsum(np.arange(1, n + 1))]))
    cones = [clarabel.NonnegativeConeT(len(b))]  # pyright: ignore[reportAttributeAccessIssue]
    solver: Any = clarabel.DefaultSolver(  # pyright: ignore[reportAttributeAccessIssue]
        sp.csc_matrix((triangles[0], *pattern), shape=(n, n)), q[0], sp.csc_matrix(A), b, cones, settings
    )
    found: list[Any] = []
    clock = time.perf_counter()
    for triangle, linear in zip(triangles, q, strict=True):
        solver.update(P=triangle, q=linear)
        found.append(solver.solve())
    seconds = time.perf_counter() - clock
    x = np.array([solution.x for solution in found])
    active = np.array([np.asarray(solution.z) > np.asarray(solution.s) for solution in found])
    return Points(x, active), seconds
