"""The problem families of the benchmark, as data: a name, the sizes and a seeded generator for each.

Every generator draws a batch of *different* problems in float64 with a unique optimum, a strictly feasible point and
some active constraints. Dense, OptNet, MPC and portfolio QPs are drawn the way their sources do it (nothing about the
solution is known beforehand); LPs, SOCPs and those with other cones (conic_families.py) are built from a strictly
complementary primal-dual pair, because random data would make some of them unbounded or degenerate. ``n-m`` in a name
counts variables and *all* rows of A; ``sdp-k`` has matrices of order k.

To add a case, add a line to ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpudiff.bench.batch import Array as Array
from gpudiff.bench.batch import Batch, Rng, choose, from_pair, symmetric, times
from gpudiff.bench.conic_families import entropy, geometric, lmi, logistic, power, sdp


@dataclass(frozen=True)
class Family:
    """One case of the benchmark."""

    name: str
    make: Callable[[Rng, int], Batch]
    batch: int  # problems per call at which throughput no longer depends on the batch size
    about: str


def dense_qp(rng: Rng, batch: int, *, n: int, equalities: int) -> Batch:
    """Dense QP with 2n inequalities, P with eigenvalues from 0.1 to 4; at the optimum about 0.7 n rows are active."""
    rows = equalities + 2 * n
    M = rng.standard_normal((batch, n, n))
    P = symmetric(M @ M.transpose(0, 2, 1) / n + 0.1 * np.eye(n))
    A = rng.standard_normal((batch, rows, n))
    inside = rng.standard_normal((batch, n))
    slack = rng.random((batch, rows))
    slack[:, :equalities] = 0.0
    b = times(A, inside) + slack
    return Batch(P, rng.standard_normal((batch, n)), A, b, {"z": equalities, "l": 2 * n, "q": []})


def optnet_qp(rng: Rng, batch: int, *, n: int, equalities: int, inequalities: int) -> Batch:
    """The random QPs with which OptNet was timed (Amos & Kolter 2017): P = LLᵀ + 10⁻³I, L uniform."""
    L = rng.random((batch, n, n))
    P = symmetric(L @ L.transpose(0, 2, 1) + 1e-3 * np.eye(n))
    A = rng.standard_normal((batch, equalities + inequalities, n))
    inside = rng.standard_normal((batch, n))
    slack = rng.random((batch, equalities + inequalities))
    slack[:, :equalities] = 0.0
    b = times(A, inside) + slack
    return Batch(P, rng.standard_normal((batch, n)), A, b, {"z": equalities, "l": inequalities, "q": []})


def condensed_mpc(rng: Rng, batch: int, *, horizon: int) -> Batch:
    """Model-predictive control of a linear inverted pendulum by its jerk, states eliminated; P and A are shared.

    The pendulum's zero-moment point must stay in a band and the jerk within bounds (Wieber 2006). Initial state,
    velocity to be tracked and band differ from problem to problem; they enter q and b alone.
    """
    period, height_over_gravity = 0.1, 0.8 / 9.81
    step = np.array([[1.0, period, period**2 / 2], [0.0, 1.0, period], [0.0, 0.0, 1.0]])
    push = np.array([period**3 / 6, period**2 / 2, period])
    velocity, moment_point = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, -height_over_gravity])

    from_state = np.zeros((horizon, 3, 3))  # state after k + 1 steps = from_state[k] · initial state + from_jerk[k] · u
    from_jerk = np.zeros((horizon, 3, horizon))
    for k in range(horizon):
        from_state[k] = step @ (from_state[k - 1] if k else np.eye(3))
        from_jerk[k] = step @ from_jerk[k - 1] if k else 0.0
        from_jerk[k, :, k] = push
    speed_u, zmp_u = velocity @ from_jerk, moment_point @ from_jerk  # both [horizon, horizon]
    P = symmetric(speed_u.T @ speed_u + 0.03 * np.eye(horizon))
    A = np.vstack([zmp_u, -zmp_u, np.eye(horizon), -np.eye(horizon)])

    state = rng.standard_normal((batch, 3)) * np.array([0.05, 0.3, 0.5])
    target = rng.uniform(-0.5, 0.5, (batch, 1))
    q = (state @ (velocity @ from_state).T - target) @ speed_u
    amplitude, frequency, phase = rng.uniform([[[0.5]], [[0.1]], [[0.0]]], [[[2.5]], [[0.5]], [[6.3]]], (3, batch, 1))
    inside = amplitude * np.sin(frequency * np.arange(horizon) + phase)  # a jerk sequence that keeps to all limits
    zmp = inside @ zmp_u.T
    above, below = rng.uniform(0.02, 0.1, (2, batch, horizon))
    limit = np.full((batch, horizon), 3.0)
    b = np.hstack([zmp + above, below - zmp, limit, limit])
    return Batch(P, q, A, b, {"z": 0, "l": 4 * horizon, "q": []})


def portfolio(rng: Rng, batch: int, *, assets: int, factors: int) -> Batch:
    """Long-only mean-variance portfolio under a factor model of risk: Σx = 1, x ≥ 0."""
    F = 0.1 * rng.standard_normal((batch, assets, factors))
    idiosyncratic = rng.uniform(0.005, 0.03, (batch, assets))
    P = symmetric(2.0 * (F @ F.transpose(0, 2, 1) + idiosyncratic[:, None] * np.eye(assets)))
    A = np.broadcast_to(np.vstack([np.ones((1, assets)), -np.eye(assets)]), (batch, assets + 1, assets)).copy()
    b = np.zeros((batch, assets + 1))
    b[:, 0] = 1.0
    return Batch(P, -rng.uniform(0.0, 0.1, (batch, assets)), A, b, {"z": 1, "l": assets, "q": []})


def vertex_lp(rng: Rng, batch: int, *, n: int, rows: int) -> Batch:
    """LP whose optimum is a nondegenerate vertex: exactly n rows active, all with a positive multiplier."""
    A = rng.standard_normal((batch, rows, n))
    active = choose(rng, batch, rows, n)
    size = rng.uniform(0.1, 1.1, (batch, rows))
    return from_pair(
        rng, None, A, np.where(active, size, 0.0), np.where(active, 0.0, size), {"z": 0, "l": rows, "q": []}
    )


def socp(rng: Rng, batch: int, *, n: int, linear: int, cones: tuple[int, ...], local: bool = False) -> Batch:
    """Linear rows and second-order cones, from a strictly complementary pair.

    The objective is linear and A dense, or else (``local``) the objective is 0.05 ‖x‖² + qᵀx and each row involves a
    few neighbouring variables only, which sparse solvers exploit: 6 for a linear row, k + 2 for a cone of k rows.

    Each cone is active on its boundary (70 %), inactive (20 %) or at its apex (10 %; never where rows are local, which
    an apex would tie down too far), half of the linear rows are active. Draws that could leave x or y without
    uniqueness are drawn again: x is unique only if at least n directions resist (2 are added for good conditioning), y
    only if at most n are rigid (0.8 n for the same reason).
    """
    rows = linear + sum(cones)
    A = rng.standard_normal((batch, rows, n)) * (_neighbours(n, linear, cones) if local else 1.0)
    P = np.broadcast_to(0.1 * np.eye(n), (batch, n, n)).copy() if local else None
    dims = np.array(cones)
    odds = (0.8, 0.2, 0.0) if local else (0.7, 0.2, 0.1)
    state = np.empty((batch, len(cones)), int)  # 0 boundary, 1 inactive, 2 apex
    todo = np.ones(batch, bool)
    while todo.any():
        state[todo] = rng.choice(3, (int(todo.sum()), len(cones)), p=odds)
        resisting = linear // 2 + np.where(state == 0, dims - 1, np.where(state == 1, 0, dims)).sum(1)
        rigid = linear // 2 + np.where(state == 0, 1, np.where(state == 1, 0, dims)).sum(1)
        todo = (resisting < n + 2) | (rigid > 0.8 * n)

    active = choose(rng, batch, linear, linear // 2)
    size = rng.uniform(0.1, 1.1, (batch, linear))
    y, s = [np.where(active, size, 0.0)], [np.where(active, 0.0, size)]
    for j, k in enumerate(cones):
        axis = rng.standard_normal((batch, k - 1))
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        weight = rng.uniform(0.3, 1.3, (2, batch, 1))
        depth = rng.uniform(0.2, 0.8, (batch, 1))
        ray = np.hstack([np.ones((batch, 1)), axis])  # y on the boundary, s on the ray opposite to it
        opposite = np.hstack([np.ones((batch, 1)), -axis])
        interior = np.hstack([np.ones((batch, 1)), depth * axis])
        kind = state[:, j : j + 1]
        y.append(weight[0] * np.where(kind == 0, ray, np.where(kind == 1, 0.0, interior)))
        s.append(weight[1] * np.where(kind == 0, opposite, np.where(kind == 1, interior, 0.0)))
    return from_pair(rng, P, A, np.hstack(y), np.hstack(s), {"z": 0, "l": linear, "q": list(cones)})


def _neighbours(n: int, linear: int, cones: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which variables [rows, n] each row involves: windows spread evenly, for linear rows and for cones apart."""
    mask = np.zeros((linear + sum(cones), n), bool)
    for i in range(linear):
        mask[i, (i * n // linear + np.arange(6)) % n] = True
    row = linear
    for k in cones:
        mask[row : row + k, ((row - linear) * n // sum(cones) + np.arange(k + 2)) % n] = True
        row += k
    return mask


FAMILIES: tuple[Family, ...] = (
    Family("qp-8-16", partial(dense_qp, n=8, equalities=0), 8192, "dense QP"),
    Family("qp-16-36", partial(dense_qp, n=16, equalities=4), 4096, "dense QP, 4 equalities"),
    Family("qp-32-72", partial(dense_qp, n=32, equalities=8), 2048, "dense QP, 8 equalities"),
    Family("qp-64-144", partial(dense_qp, n=64, equalities=16), 512, "dense QP, 16 equalities"),
    Family("optnet-100-100", partial(optnet_qp, n=100, equalities=0, inequalities=100), 256, "OptNet QP"),
    Family(
        "optnet-100-150", partial(optnet_qp, n=100, equalities=50, inequalities=100), 256, "OptNet QP, 50 equalities"
    ),
    Family("mpc-30-120", partial(condensed_mpc, horizon=30), 2048, "condensed MPC, P and A shared"),
    Family("portfolio-50-51", partial(portfolio, assets=50, factors=8), 1024, "long-only portfolio QP"),
    Family("lp-20-60", partial(vertex_lp, n=20, rows=60), 2048, "LP with a nondegenerate vertex"),
    Family(
        "socp-10-30", partial(socp, n=10, linear=6, cones=(4, 4, 4, 4, 8)), 4096, "linear rows and 5 SOCs, dense, P = 0"
    ),
    Family(
        "socp-30-55",
        partial(socp, n=30, linear=15, cones=(4, 4, 4, 4, 4, 10, 10), local=True),
        1024,
        "linear rows and 7 SOCs, sparse",
    ),
    Family("sdp-3", partial(sdp, n=4, linear=4, order=3), 4096, "SDP, one matrix of order 3"),
    Family("sdp-5", partial(sdp, n=9, linear=6, order=5), 2048, "SDP, one matrix of order 5"),
    Family("sdp-8", partial(sdp, n=20, linear=8, order=8), 512, "SDP, one matrix of order 8"),
    Family("sdp-12", partial(sdp, n=36, linear=12, order=12), 128, "SDP, one matrix of order 12"),
    Family("lmi", partial(lmi, n=8, orders=(2, 3, 4, 4)), 2048, "linear matrix inequalities of orders 2, 3, 4 and 4"),
    Family("entropy", partial(entropy, n=10, equalities=2, linear=4), 1024, "entropy maximisation, 10 exp cones"),
    Family("logistic", partial(logistic, n=3, samples=8), 1024, "logistic regression, 16 exp cones"),
    Family("power", partial(power, n=4, linear=4), 2048, "sum of powers, 7 power cones"),
    Family("gp", partial(geometric, n=6, posynomials=3, terms=3, linear=2), 1024, "geometric program, 9 exp cones"),
)


def generate(family: Family, batch: int, seed: int) -> Batch:
    """A reproducible batch: the seed and the family's name decide the data."""
    return family.make(np.random.default_rng([seed, *family.name.encode()]), batch)
