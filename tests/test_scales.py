"""The answer must not depend on the units of the data: rows, columns, cost and right-hand sides over many decades.

Each problem is planted: x, s and y are drawn first, strictly complementary, and q and b follow.
"""

from __future__ import annotations

import numpy as np
import pytest

import gpudiff as gd

BATCH, N, M, EQUALITIES = 200, 16, 40, 4
CONES = [gd.Zero(EQUALITIES), gd.Nonnegative(M - EQUALITIES)]


def planted(rng: np.random.Generator, decay: float = 0.0):
    """P, q, A, b and the solution x; `decay`: decades between P's extreme eigenvalues, about."""
    factor = rng.standard_normal((BATCH, N, N)) * np.logspace(0, -decay / 2, N)
    P = np.einsum("bki,bkj->bij", factor, factor) / N
    P = (P + P.transpose(0, 2, 1)) / 2
    A, x = rng.standard_normal((BATCH, M, N)), rng.standard_normal((BATCH, N))
    active = rng.random((BATCH, M)) < 0.3
    active[:, :EQUALITIES] = True
    y = np.where(active, rng.random((BATCH, M)) + 0.1, 0.0)
    s = np.where(active, 0.0, rng.random((BATCH, M)) + 0.1)
    q = -np.einsum("bij,bj->bi", P, x) - np.einsum("bij,bi->bj", A, y)
    return P, q, A, np.einsum("bij,bj->bi", A, x) + s, x


def decades(rng: np.random.Generator, shape: tuple[int, ...], width: float):
    """Powers of ten between 10^−width and 10^width."""
    return 10 ** rng.uniform(-width, width, shape)


def test_rows_of_many_sizes(rng):
    P, q, A, b, x = planted(rng)
    row = decades(rng, (BATCH, M), 4)
    sol = gd.solve(P, q, A * row[:, :, None], b * row, CONES)
    assert sol.ok.all()
    assert np.abs(sol.x - x).max() < 1e-8


def test_variables_of_many_sizes(rng):
    P, q, A, b, x = planted(rng)
    unit = decades(rng, (BATCH, N), 3)
    sol = gd.solve(P * unit[:, :, None] * unit[:, None, :], q * unit, A * unit[:, None, :], b, CONES)
    assert sol.ok.all()
    assert np.abs(sol.x * unit - x).max() < 1e-6


def test_costs_of_many_sizes(rng):
    P, q, A, b, x = planted(rng)
    cost = decades(rng, (BATCH, 1), 8)
    sol = gd.solve(P * cost[:, :, None], q * cost, A, b, CONES)
    assert sol.ok.all()
    assert np.abs(sol.x - x).max() < 1e-8


def test_a_feasible_problem_of_any_size_is_not_called_infeasible(rng):
    P, q, A, b, x = planted(rng)
    size = decades(rng, (BATCH, 1), 8)
    sol = gd.solve(P, q * size, A, b * size, CONES)
    assert np.isin(sol.status, [gd.Status.SOLVED, gd.Status.ALMOST_SOLVED]).all()
    # The tolerances are absolute below one, so nothing is promised of the digits of a tiny solution.
    large = (size >= 1).ravel()
    assert (np.abs(sol.x - size * x).max(axis=1) / size.ravel())[large].max() < 1e-5


@pytest.mark.parametrize("decay", [4.0, 8.0])
def test_ill_conditioned_objectives(rng, decay):
    P, q, A, b, x = planted(rng, decay)
    sol = gd.solve(P, q, A, b, CONES)
    assert sol.ok.all()
    objective = 0.5 * np.einsum("bi,bij,bj->b", x, P, x) + (q * x).sum(axis=1)
    assert np.abs(sol.obj - objective).max() < 1e-8 * np.abs(objective).max()
