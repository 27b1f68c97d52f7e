"""How much a point misses optimality, and the status that it deserves.

The same measures and tests as those of a solve (kernels/ipm/termination.cuh), in NumPy, for points that no kernel has
seen. All sums run entry by entry in one order, so that a problem's figures have the same bits alone and in any batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpudiff._blocks import blocks
from gpudiff._cones import PSD, DualExponential, DualPower, Exponential, Nonnegative, Power, SecondOrder
from gpudiff._problem import FLOAT32, Array, Problem
from gpudiff._project import projected
from gpudiff._settings import Settings
from gpudiff._status import Status

# Those of kernels/entry/stages.cuh: ALMOST_SOLVED, and the least that float32 data allow to ask for.
ALMOST_GAP, ALMOST_FEASIBILITY, FLOAT32_TOLERANCE = 5e-5, 1e-4, 1e-6
_ROUNDING = 1e-14  # of terms that cancelled; no more of them is excused


class Product(NamedTuple):
    """M v, and the largest |M[i, j] v[j]| in each row."""

    value: Array
    largest: Array


def product(M: Array | None, v: Array, extent: int, transposed: bool = False) -> Product:
    """M v or Mᵀ v for batches of either, zeros where there is no M.

    Args:
        M: [B or 1, k, l] or None.
        v: [B, l], or transposed [B, k].
        extent: entries of the result.
        transposed: use Mᵀ.
    """
    value = np.zeros((v.shape[0], extent))
    largest = np.zeros_like(value)
    if M is not None:
        columns = np.ascontiguousarray(np.moveaxis(M, 1 if transposed else 2, 0))
        for j, column in enumerate(columns):  # in this order, whatever the batch: see the module
            term = column * v[:, j, None]
            value += term
            np.maximum(largest, np.abs(term, out=term), out=largest)
    return Product(value, largest)


def dot(a: Array, b: Array) -> Array:
    """aᵀb [B], added up in order."""
    terms = a * b
    return np.add.accumulate(terms, axis=1)[:, -1] if terms.shape[1] else np.zeros(terms.shape[0])


class Host(NamedTuple):
    """A batch of problems in double precision in host memory: each argument [B or 1, …], P None where there is none.

    Attributes:
        present: rows that are there [B, m]: those where b is not +inf.
        valid: problems whose data are finite, but for absent rows [B].
        b: 0 in absent rows.
    """

    P: Array | None
    q: Array
    A: Array
    b: Array
    present: Array
    valid: Array
    problem: Problem

    @property
    def batch(self) -> int:
        """B."""
        return self.problem.batch


def on_host(problem: Problem, data: list[Array | None]) -> Host:
    """Gather what the checks need; `data` are the problem's P, q, A and b on the host."""

    def wide(array: Array | None, shape: tuple[int, ...]) -> Array:
        if array is None:
            return np.zeros((1, *shape))
        return (array if array.ndim > len(shape) else array[None]).astype(np.float64)

    P, q, A, b = data
    n, m, B = problem.n, problem.m, problem.batch
    quadratic = None if P is None else wide(P, (n, n))
    cost, matrix, bound = wide(q, (n,)), wide(A, (m, n)), wide(b, (m,))
    optional = np.zeros(m, dtype=bool)
    for cone, rows in blocks(problem.cones.cones):
        optional[rows] = isinstance(cone, Nonnegative)
    absent = optional & np.isposinf(bound)
    bound = np.where(absent, 0, bound)
    valid = np.ones(B, dtype=bool)
    for array in (quadratic, cost, matrix, bound):
        if array is not None:
            valid &= np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    return Host(quadratic, cost, matrix, bound, np.broadcast_to(~absent, (B, m)), valid, problem)


class Check(NamedTuple):
    """What `check` finds, all [B]; see `gpudiff.Solution`."""

    obj: Array
    primal_residual: Array
    dual_residual: Array
    gap: Array
    status: Array


def check(host: Host, settings: Settings, x: Array, y: Array, s: Array) -> Check:
    """Judge points.

    Args:
        host: the problems.
        settings: whose tolerances decide between the statuses.
        x: [B, n], finite.
        y: [B, m], finite.
        s: [B, m], finite but for absent rows.
    """
    problem, present = host.problem, host.present
    slack = np.where(present, s, 0)
    Px, Ax = product(host.P, x, problem.n), product(host.A, x, problem.m)
    Ay = product(host.A, y, problem.n, transposed=True)
    outside_s = slack - projected(slack, problem.cones, False)
    outside_y = y - projected(y, problem.cones, True)
    primal = np.where(present, Ax.value + slack - host.b, 0)
    dual = Px.value + host.q + Ay.value
    bound_terms = _size(host.b, Ax.value, slack)
    cost_terms = _size(host.q, Px.value, Ay.value)
    dual_rows = _size(np.ones((1, problem.m)), y)
    feasibility = np.maximum.reduce(
        [
            _worst(np.maximum(np.abs(primal) - _ROUNDING * Ax.largest, 0) / bound_terms),
            _worst(np.maximum(np.abs(dual) - _ROUNDING * np.maximum(Px.largest, Ay.largest), 0) / cost_terms),
            _worst(np.abs(outside_s) / bound_terms),
            _worst(np.abs(outside_y) / dual_rows),
        ]
    )
    quadratic, linear, bound = dot(x, Px.value), dot(host.q + np.zeros_like(x), x), dot(host.b + np.zeros_like(y), y)
    obj, dual_obj = quadratic / 2 + linear, -quadratic / 2 - bound
    gap = np.abs(obj - dual_obj)
    scale = np.minimum(np.abs(obj), np.abs(dual_obj))
    floor = FLOAT32_TOLERANCE if problem.dtype == FLOAT32 else 0.0

    def meets(absolute: float, relative: float, feasible: float) -> Array:
        return (gap <= np.maximum(absolute, relative * scale)) & (feasibility <= feasible)

    strict = [max(t, floor) for t in (settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas)]
    almost = [max(t, a) for t, a in zip(strict, (ALMOST_GAP, ALMOST_GAP, ALMOST_FEASIBILITY), strict=True)]
    status = np.where(meets(*strict), Status.SOLVED, np.where(meets(*almost), Status.ALMOST_SOLVED, _UNFINISHED))
    return Check(
        obj,
        np.maximum(_worst(np.abs(primal)), _worst(np.abs(outside_s))),
        np.maximum(_worst(np.abs(dual)), _worst(np.abs(outside_y))),
        gap,
        status.astype(np.int8),
    )


_UNFINISHED = Status.MAX_ITERATIONS  # of a point that its solver has not brought to the optimum


def _size(*terms: Array) -> Array:
    """What a residual is compared with, row by row: its largest term or one."""
    size = np.ones(())
    for term in terms:
        size = np.maximum(size, np.abs(term))
    return size


def _worst(values: Array) -> Array:
    return values.max(axis=1, initial=0)


def balanced(host: Host, y: Array, s: Array) -> tuple[Array, Array]:
    """Y and s with the largest coefficient of each row one (of each cone, where its rows scale as one), and the cost's.

    What `gpudiff._margin.margins` should see: one step of the equilibration that a solve does.
    """
    row = np.abs(host.A).max(axis=2, initial=0)
    for cone, rows in blocks(host.problem.cones.cones):
        if isinstance(cone, SecondOrder | PSD | Exponential | DualExponential | Power | DualPower):
            row[:, rows] = row[:, rows].max(axis=1, keepdims=True)
    row = np.where(row > 0, row, 1)
    cost = np.abs(host.q).max(axis=1, initial=0)
    if host.P is not None:
        cost = np.maximum(cost, np.abs(host.P).max(axis=(1, 2), initial=0))
    cost = np.where(cost > 0, cost, 1)[:, None]
    return y * row / cost, s / row
