"""The families of the hunt: random and adversarial QPs, of which it is known what may be said about them.

Each draws a batch of one size, n from 1 to 30, with the data of every problem its own. What is hard about them is what
goes wrong in practice: scaling, rank, duplicated rows, vertices with too many rows, zero multipliers, no interior,
hardly infeasible, unbounded, nothing to do at all. To add one, write a function and put ``@family`` above it; its first
docstring line is what the list shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gpudiff.bench.families import Array, Rng
from gpudiff.bench.hunt.draw import (
    LARGEST,
    Case,
    Known,
    appended,
    case_of,
    changed,
    convex,
    dense_case,
    inside,
    order,
    powers,
    through,
    times,
)

Make = Callable[[Rng, int], Case]
FAMILIES: dict[str, Make] = {}


def family(make: Make) -> Make:
    """Enters a generator into ``FAMILIES`` under its name."""
    FAMILIES[make.__name__.strip("_").replace("_", "-")] = make
    return make


def about(name: str) -> str:
    """The line that describes a family."""
    return (FAMILIES[name].__doc__ or "").splitlines()[0].rstrip(".")


# --- conditioning and scale ------------------------------------------------------------------------------------------


@family
def dense(rng: Rng, size: int) -> Case:
    """Dense, cond(P) = 100, up to n/2 equalities and 3n inequalities."""
    return dense_case(rng, size)


@family
def conditioned(rng: Rng, size: int) -> Case:
    """cond(P) from 1e4 to 1e10."""
    return dense_case(rng, size, cond=10.0 ** rng.uniform(4, 10))


@family
def singular(rng: Rng, size: int) -> Case:
    """P of rank n/2 or less, in a box."""
    n, size = order(rng, size)
    P = convex(rng, size, n, rank=int(rng.integers(0, n // 2 + 1)))
    box = np.broadcast_to(np.vstack([np.eye(n), -np.eye(n)]), (size, 2 * n, n))
    A = np.concatenate([rng.standard_normal((size, n, n)), box], 1)
    return case_of(P, rng.standard_normal((size, n)), A, inside(rng, A, 0), 0)


@family
def row_scales(rng: Rng, size: int) -> Case:
    """Rows scaled by 1e-6 to 1e6."""
    case = dense_case(rng, size)
    scale = powers(rng, -6, 6, case.batch.b.shape)
    return changed(case, A=scale[:, :, None] * case.batch.A, b=scale * case.batch.b)


@family
def column_scales(rng: Rng, size: int) -> Case:
    """Variables scaled by 1e-3 to 1e3."""
    case = dense_case(rng, size)
    d, batch = powers(rng, -3, 3, case.batch.q.shape), case.batch
    assert batch.P is not None
    P = batch.P * (d[:, :, None] * d[:, None, :])
    return changed(case, P=P, q=d * batch.q, A=batch.A * d[:, None, :], unit=1.0 / d)


@family
def cost_scale(rng: Rng, size: int) -> Case:
    """P and q scaled by 1e-8 to 1e8."""
    case, scale = dense_case(rng, size), 10.0 ** rng.uniform(-8, 8)
    assert case.batch.P is not None
    return changed(case, P=scale * case.batch.P, q=scale * case.batch.q)


@family
def data_scale(rng: Rng, size: int) -> Case:
    """b, or q, or both, scaled by 1e-8 to 1e8."""
    case, which = dense_case(rng, size), int(rng.integers(3))
    scales = np.where([which != 1, which != 0], 10.0 ** rng.uniform(-8, 8, 2), 1.0)
    if which == 2:
        scales[1] = scales[0]
    unit = np.full(case.unit.shape, scales.min())
    return changed(case, q=scales[1] * case.batch.q, b=scales[0] * case.batch.b, unit=unit)


@family
def far_bounds(rng: Rng, size: int) -> Case:
    """Bounds of 1e10 and of +inf among the rows."""
    case = dense_case(rng, size)
    count, n = case.batch.q.shape
    rows = np.broadcast_to(np.vstack([np.eye(n), -np.eye(n)]), (count, 2 * n, n))
    return appended(case, rows, rng.choice([1e10, np.inf, 1e6], (count, 2 * n)))


# --- rows that repeat each other -------------------------------------------------------------------------------------


@family
def near_duplicates(rng: Rng, size: int) -> Case:
    """Rows repeated with relative differences of 1e-14 to 1e-3."""
    case = dense_case(rng, size)
    batch, z = case.batch, case.batch.cones["z"]
    which = rng.integers(z, batch.m, int(rng.integers(1, batch.m - z + 1)))
    move = powers(rng, -14, -3, (batch.size, len(which)))
    A = batch.A[:, which] * (1 + move[:, :, None] * rng.standard_normal((batch.size, len(which), batch.n)))
    return appended(
        case, A, batch.b[:, which] + 3 * batch.n * move * rng.random(move.shape), known=Known.NOTHING, exact=False
    )


@family
def duplicates(rng: Rng, size: int) -> Case:
    """Rows repeated exactly, some of them scaled by powers of two."""
    case = dense_case(rng, size)
    which = rng.integers(case.batch.cones["z"], case.batch.m, int(rng.integers(1, case.batch.m + 1)))
    scale = 2.0 ** rng.integers(-1, 2, len(which))
    return appended(case, scale[:, None] * case.batch.A[:, which], scale * case.batch.b[:, which])


@family
def redundant_equalities(rng: Rng, size: int) -> Case:
    """Equalities that are sums of others, consistent exactly: all data are small integers."""
    n, size = order(rng, size, int(rng.integers(2, LARGEST + 1)))
    z = int(rng.integers(1, n))
    x = rng.integers(-3, 4, (size, n)).astype(float)
    first = rng.integers(-3, 4, (size, z, n)).astype(float)
    E = np.concatenate([first, first[:, rng.integers(z, size=2)] + first[:, rng.integers(z, size=2)], first[:, :1]], 1)
    G = rng.standard_normal((size, n, n))
    b = np.concatenate([times(E, x), times(G, x) + rng.random((size, n))], 1)
    return case_of(convex(rng, size, n), rng.standard_normal((size, n)), np.concatenate([E, G], 1), b, z + 3)


@family
def tall(rng: Rng, size: int) -> Case:
    """40 n rows."""
    n = int(rng.integers(1, LARGEST + 1))
    n, size = order(rng, size, n, 40 * n)
    A = rng.standard_normal((size, 40 * n, n))
    return case_of(convex(rng, size, n), 3.0 * rng.standard_normal((size, n)), A, inside(rng, A, 0), 0)


# --- degeneracy ------------------------------------------------------------------------------------------------------


@family
def degenerate(rng: Rng, size: int) -> Case:
    """A vertex with up to 4n rows through it, at most n of them with a multiplier."""
    n, size = order(rng, size)
    m = n + int(rng.integers(1, 3 * n + 1))
    kind = np.full((size, m), 2)
    kind[:, : int(rng.integers(0, n + 1))] = 1
    P, A = convex(rng, size, n), rng.standard_normal((size, m, n))
    return case_of(P, *through(rng, P, A, kind), 0)


@family
def degenerate_integers(rng: Rng, size: int) -> Case:
    """The same in small integers: the rows meet exactly, and some are parallel."""
    n, size = order(rng, size, int(rng.integers(1, 13)))
    m = n + int(rng.integers(1, 3 * n + 1))
    A = rng.integers(-2, 3, (size, m, n)).astype(float)
    L = rng.integers(-1, 2, (size, n, n)).astype(float)
    P = L @ L.transpose(0, 2, 1) + np.eye(n)
    x = rng.integers(-2, 3, (size, n)).astype(float)
    y = np.where(np.arange(m) < rng.integers(0, n + 1), rng.integers(1, 4, (size, m)), 0).astype(float)
    return case_of(P, -times(P, x) - times(A.transpose(0, 2, 1), y), A, times(A, x), 0)


@family
def weakly_active(rng: Rng, size: int) -> Case:
    """Rows active at the optimum with a multiplier of zero, among others."""
    n, size = order(rng, size)
    m = int(rng.integers(1, 2 * n + 1))
    kind = rng.choice([0, 1, 2], (size, m), p=[0.5, 0.25, 0.25])
    P, A = convex(rng, size, n), rng.standard_normal((size, m, n))
    return case_of(P, *through(rng, P, A, kind), 0)


@family
def integers(rng: Rng, size: int) -> Case:
    """Small random integers everywhere, zero rows and zero matrices among them: any status."""
    n, size = order(rng, size, int(rng.integers(1, 9)))
    z, m = int(rng.integers(0, n + 1)), int(rng.integers(1, 4 * n + 1))
    L = rng.integers(-1, 2, (size, n, int(rng.integers(1, n + 1)))).astype(float)
    A = rng.integers(-1, 2, (size, z + m, n)).astype(float)
    q, b = rng.integers(-2, 3, (size, n)).astype(float), rng.integers(-2, 4, (size, z + m)).astype(float)
    return case_of(L @ L.transpose(0, 2, 1), q, A, b, z, Known.NOTHING)


@family
def tiny(rng: Rng, size: int) -> Case:
    """One to three variables."""
    return dense_case(rng, size, int(rng.integers(1, 4)))


@family
def zero_rows(rng: Rng, size: int) -> Case:
    """Rows of zeros with b ≥ 0, which say nothing."""
    case = dense_case(rng, size)
    count, n = case.batch.q.shape
    b = rng.choice([0.0, 1e-12, 1.0], (count, 3))
    return appended(case, np.zeros((count, 3, n)), b)


# --- no interior -----------------------------------------------------------------------------------------------------


@family
def fixed(rng: Rng, size: int) -> Case:
    """Variables fixed by two inequalities each."""
    n, size = order(rng, size)
    A = np.concatenate([np.eye(n), -np.eye(n), np.ones((1, n))])
    x, width = rng.standard_normal((size, n)), rng.random((size, n)) * (rng.random((size, n)) < 0.5)
    b = np.concatenate([x + width, -x, x.sum(1, keepdims=True) + n], 1)
    return case_of(
        convex(rng, size, n), rng.standard_normal((size, n)), np.broadcast_to(A, (size, *A.shape)).copy(), b, 0
    )


@family
def flat(rng: Rng, size: int) -> Case:
    """Pairs of opposite inequalities that leave no width, up to n/2 of them."""
    n, size = order(rng, size)
    pairs = int(rng.integers(1, n // 2 + 2))
    A = rng.standard_normal((size, pairs + int(rng.integers(0, 2 * n + 1)), n))
    b = inside(rng, A, pairs)
    case = case_of(convex(rng, size, n), rng.standard_normal((size, n)), A, b, 0)
    return appended(case, -A[:, :pairs], -b[:, :pairs])


@family
def equality_heavy(rng: Rng, size: int) -> Case:
    """As many equalities as variables, or one less."""
    n, size = order(rng, size)
    z = n - int(rng.integers(0, 2))
    A = rng.standard_normal((size, z + int(rng.integers(0, n + 1)), n))
    A[:, :z] = np.linalg.qr(rng.standard_normal((size, n, n)))[0][:, :z] * rng.uniform(0.5, 2.0, (size, z, 1))
    return case_of(convex(rng, size, n), rng.standard_normal((size, n)), A, inside(rng, A, z), z)


# --- without a solution ----------------------------------------------------------------------------------------------


def _contradicted(rng: Rng, size: int, gap: Array | float) -> Case:
    """A dense case, and a row opposite to a combination of others with weights ≥ 0, by ``gap`` too tight."""
    case = dense_case(rng, size)
    batch, z = case.batch, case.batch.cones["z"]
    weights = rng.random((batch.size, batch.m)) * (rng.random((batch.size, batch.m)) < 0.5)
    weights[:, :z] *= rng.choice([-1.0, 1.0], (batch.size, z))
    weights[:, -1] += 0.5
    weights /= np.abs(weights).sum(1, keepdims=True)
    row = -(weights[:, None] @ batch.A)
    b = -(weights * batch.b).sum(1, keepdims=True) - gap
    return appended(case, row, b, known=Known.INFEASIBLE)


@family
def infeasible(rng: Rng, size: int) -> Case:
    """Infeasible by 0.01 to 10."""
    return _contradicted(rng, size, 10.0 ** rng.uniform(-2, 1))


@family
def barely_infeasible(rng: Rng, size: int) -> Case:
    """Infeasible by 1e-10 to 1e-3."""
    gap = 10.0 ** rng.uniform(-10, -3)
    return replace(_contradicted(rng, size, gap), known=Known.NOTHING, exact=False)


@family
def barely_feasible(rng: Rng, size: int) -> Case:
    """A set of width 1e-10 to 1e-3."""
    case = _contradicted(rng, size, -(10.0 ** rng.uniform(-10, -3)))
    return replace(case, known=Known.NOTHING, exact=False)


@family
def contradictory_equalities(rng: Rng, size: int) -> Case:
    """An equality that others contradict."""
    case = dense_case(rng, size, n=int(rng.integers(2, LARGEST + 1)), z=1)
    batch = case.batch
    A = np.concatenate([2.0 * batch.A[:, :1], batch.A], 1)
    b = np.concatenate([2.0 * batch.b[:, :1] + 1.0, batch.b], 1)
    cones = {"z": 2, "l": batch.m - 1, "q": []}
    return changed(case, Known.INFEASIBLE, A=A, b=b, cones=cones)


@family
def unbounded(rng: Rng, size: int) -> Case:
    """P singular, and a direction along which nothing stops the fall of q."""
    n, size = order(rng, size, int(rng.integers(2, LARGEST + 1)))
    P = convex(rng, size, n, rank=n // 2)
    vectors = np.linalg.eigh(P)[1]
    free = vectors[:, :, 0]  # of eigenvalue 0
    rows = rng.standard_normal((size, 2 * n, n))
    A = rows - 2.0 * np.maximum(times(rows, free), 0.0)[..., None] * free[:, None, :]  # those against it reflected
    q = rng.standard_normal((size, n))
    q -= (1.0 + (q * free).sum(1, keepdims=True)) * free  # qᵀ free = −1
    return case_of(P, q, A, inside(rng, A, 0), 0, Known.UNBOUNDED)


# --- linear programs, and next to nothing ----------------------------------------------------------------------------


@family
def lp(rng: Rng, size: int) -> Case:
    """LPs with a nondegenerate vertex."""
    n, size = order(rng, size)
    A = rng.standard_normal((size, n + int(rng.integers(0, 2 * n + 1)), n))
    kind = rng.permuted(np.tile(np.arange(A.shape[1]) < n, (size, 1)), axis=1).astype(int)
    return case_of(None, *through(rng, None, A, kind), 0)


@family
def lp_degenerate(rng: Rng, size: int) -> Case:
    """LPs with a face of optima, or a vertex of too many rows, or both."""
    n, size = order(rng, size)
    A = rng.standard_normal((size, 3 * n, n))
    kind = np.zeros((size, 3 * n), int)
    kind[:, : int(rng.integers(0, 2 * n))] = 2
    kind[:, : int(rng.integers(0, n + 1))] = 1
    kind = rng.permuted(kind, axis=1)
    return case_of(None, *through(rng, None, A, kind), 0)


@family
def lp_any(rng: Rng, size: int) -> Case:
    """LPs with random data: feasible, mostly unbounded for few rows."""
    n, size = order(rng, size)
    A = rng.standard_normal((size, int(rng.integers(1, 4 * n + 1)), n))
    return case_of(None, rng.standard_normal((size, n)), A, inside(rng, A, 0), 0, Known.NOTHING)


@family
def feasibility(rng: Rng, size: int) -> Case:
    """No objective at all."""
    n, size = order(rng, size)
    A = rng.standard_normal((size, int(rng.integers(1, 3 * n + 1)), n))
    return case_of(np.zeros((size, n, n)), np.zeros((size, n)), A, inside(rng, A, 0), 0)


@family
def unconstrained(rng: Rng, size: int) -> Case:
    """No rows at all, or far ones alone."""
    n, size = order(rng, size)
    A = rng.standard_normal((size, int(rng.integers(0, 2)) * n, n))
    return case_of(convex(rng, size, n), rng.standard_normal((size, n)), A, np.full(A.shape[:2], 1e3), 0)


@family
def shared(rng: Rng, size: int) -> Case:
    """P and A common to the batch."""
    case = dense_case(rng, size)
    batch = case.batch
    assert batch.P is not None
    A = batch.A[0]
    b = rng.standard_normal(batch.q.shape) @ A.T + (np.arange(batch.m) >= batch.cones["z"]) * rng.random(batch.b.shape)
    return changed(case, P=batch.P[0], A=A, b=b)


@family
def box(rng: Rng, size: int) -> Case:
    """Bounds alone, half of them active."""
    n, size = order(rng, size)
    A = np.broadcast_to(np.vstack([np.eye(n), -np.eye(n)]), (size, 2 * n, n)).copy()
    return case_of(convex(rng, size, n, 1e3), 2.0 * rng.standard_normal((size, n)), A, rng.random((size, 2 * n)), 0)


# --- warm starts from elsewhere --------------------------------------------------------------------------------------


@family
def misled(rng: Rng, size: int) -> Case:
    """Dense, each started from the solution of another problem."""
    return replace(dense_case(rng, size), misled=True)


@family
def misled_degenerate(rng: Rng, size: int) -> Case:
    """Degenerate vertices, each started from the solution of another problem."""
    return replace(degenerate(rng, size), misled=True)


@family
def misled_infeasible(rng: Rng, size: int) -> Case:
    """Integers of any status, each started from what the one before left."""
    return replace(integers(rng, size), misled=True)
