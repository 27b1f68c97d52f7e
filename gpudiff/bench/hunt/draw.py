"""What the families of the hunt are made of: a case, what is known about it, and what cases are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch, Rng

LARGEST = 30  # variables
_WORDS = 1 << 19  # most entries of A in a batch: problems with many rows come in smaller batches


class Known(Enum):
    """What is known of the problems of a case by how they were built."""

    SOLVABLE = "feasible and bounded"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded and feasible"
    NOTHING = "whatever is said must be proved"


@dataclass(frozen=True)
class Case:
    """A batch of problems of one size with what is known about them.

    Attributes:
        batch: The problems, as everywhere in the benchmark.
        known: What may be said about them.
        unit: ``[B, n]`` the size that an entry of x naturally has; residuals are compared with what such an x gives.
        exact: Whether the rows are independent enough for x to be known as exactly as cond(P) allows.
        misled: Whether to start from the solutions of other problems of the batch.
    """

    batch: Batch
    known: Known
    unit: Array
    exact: bool = True
    misled: bool = False


def convex(rng: Rng, size: int, n: int, cond: float = 100.0, rank: int | None = None) -> Array:
    """Random orthogonal matrices around eigenvalues spread evenly over the logarithm, from 1 down to 1/cond."""
    Q = np.linalg.qr(rng.standard_normal((size, n, n)))[0]
    values = np.exp(-np.log(cond) * rng.random((size, n)))
    values[:, -1] = 1.0 / cond
    values[:, 0] = 1.0
    if rank is not None:
        values[:, rank:] = 0.0
    P = (Q * values[:, None, :]) @ Q.transpose(0, 2, 1)
    return 0.5 * (P + P.transpose(0, 2, 1))


def times(M: Array, v: Array) -> Array:
    """M v for each problem."""
    return (M @ v[..., None])[..., 0]


def case_of(
    P: Array | None, q: Array, A: Array, b: Array, z: int, known: Known = Known.SOLVABLE, exact: bool = True
) -> Case:
    """A case in which x is of size 1, from its data and the number of equalities."""
    return Case(Batch(P, q, A, b, {"z": z, "l": b.shape[1] - z, "q": []}), known, np.ones(q.shape), exact)


def order(rng: Rng, size: int, n: int | None = None, rows: int | None = None) -> tuple[int, int]:
    """The order n, and how many problems of that size make a batch."""
    n = int(rng.integers(1, LARGEST + 1)) if n is None else n
    return n, int(max(1, min(size, _WORDS // (n * (rows or 4 * n)))))


def inside(rng: Rng, A: Array, z: int) -> Array:
    """Right-hand sides that leave a random point inside, with slacks up to 1; none in the first z rows."""
    slack = rng.random(A.shape[:2])
    slack[:, :z] = 0.0
    return times(A, rng.standard_normal((len(A), A.shape[2]))) + slack


def dense_case(rng: Rng, size: int, n: int | None = None, z: int | None = None, cond: float = 100.0) -> Case:
    """Normal q, A and a point inside; by default up to n/2 equalities, and up to 3n inequalities."""
    n, size = order(rng, size, n)
    z = int(rng.integers(0, n // 2 + 1)) if z is None else z
    A = rng.standard_normal((size, z + int(rng.integers(1, 3 * n + 1)), n))
    return case_of(convex(rng, size, n, cond), rng.standard_normal((size, n)), A, inside(rng, A, z), z)


def changed(
    case: Case, known: Known | None = None, exact: bool | None = None, unit: Array | None = None, **data: Any
) -> Case:
    """The case with other data; the cones follow the rows."""
    batch = replace(case.batch, **data)
    z = batch.cones["z"]
    batch = replace(batch, cones={"z": z, "l": batch.m - z, "q": []})
    found = replace(case, batch=batch, unit=case.unit if unit is None else unit)
    found = found if known is None else replace(found, known=known)
    return found if exact is None else replace(found, exact=exact)


def appended(case: Case, A: Array, b: Array, **other: Any) -> Case:
    """The case with more inequalities."""
    joined = np.concatenate([case.batch.A, A], 1), np.concatenate([case.batch.b, b], 1)
    return changed(case, A=joined[0], b=joined[1], **other)


def powers(rng: Rng, low: float, high: float, shape: Any) -> Array:
    """Powers of ten, their exponents uniform."""
    return 10.0 ** rng.uniform(low, high, shape)


def through(rng: Rng, P: Array | None, A: Array, kind: Array) -> tuple[Array, Array, Array]:
    """q, A and b, as ``case_of`` takes them, that make a random x optimal.

    Args:
        rng: Where numbers come from.
        P: ``[B, n, n]`` or None.
        A: ``[B, m, n]``, all of it inequalities.
        kind: ``[B, m]`` of each row: 0 has slack, 1 is active, 2 is active without a multiplier.
    """
    size, m, n = A.shape
    x, amount = rng.standard_normal((size, n)), rng.uniform(0.1, 1.1, (size, m))
    y, s = np.where(kind == 1, amount, 0.0), np.where(kind == 0, amount, 0.0)
    return -times(A.transpose(0, 2, 1), y) - (0.0 if P is None else times(P, x)), A, times(A, x) + s
