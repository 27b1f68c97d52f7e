"""Solver and warm starts."""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_same_bits

import gpudiff as gd

CONES = [gd.Zero(1), gd.Nonnegative(6), gd.SecondOrder(3)]
n, m = 5, 10


def batch(rng, B=16):
    L = rng.standard_normal((B, n, n))
    P = L @ np.swapaxes(L, 1, 2) / n + 0.1 * np.eye(n)
    A = rng.standard_normal((B, m, n))
    inside = np.array([0, *[0.4] * 6, 2, 0.1, 0.1])
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((B, n))) + inside
    return [(P + np.swapaxes(P, 1, 2)) / 2, 3 * rng.standard_normal((B, n)), A, b]


def test_a_solver_gives_what_solve_gives(rng):
    data = batch(rng)
    settings = gd.Settings(max_iter=100)
    solver = gd.Solver(CONES, n, settings=settings, backend="cpu")
    assert solver.cones == tuple(CONES)
    assert solver.n == n
    assert solver.settings is settings
    for arrays in (data, [a[0] for a in data]):
        ours, theirs = solver.solve(*arrays), gd.solve(*arrays, CONES, settings)
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(ours, name), getattr(theirs, name), name)
    assert_same_bits(solver.solve(*data).vjp(x=np.ones(n)).A, gd.solve(*data, CONES, settings).vjp(x=np.ones(n)).A)
    assert solver.solve(P=data[0], q=data[1], A=data[2], b=data[3]).ok.all()
    assert f"Solver([Zero(rows=1), Nonnegative(rows=6), SecondOrder(rows=3)], n={n}" in repr(solver)


def test_a_solver_takes_dicts_and_problems_without_rows():
    assert gd.Solver({"z": 1}, 2).solve(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], [1.0]).x == pytest.approx([0.5, 0.5])
    assert gd.Solver([], 1).solve([[2.0]], [-2.0]).x == pytest.approx(1)


@pytest.mark.parametrize("size", [-1, 1.5, "2", None])
def test_a_wrong_n_is_named(size):
    with pytest.raises(gd.ArgumentError, match="n: expected an integer of at least 0, got"):
        gd.Solver(CONES, size)


def test_what_a_solver_refuses_at_once():
    with pytest.raises(gd.ConeError, match="cones: expected a list"):
        gd.Solver(3, n)
    with pytest.raises(gd.BackendError, match="backend: expected one of"):
        gd.Solver(CONES, n, backend="gpu")
    with pytest.raises(gd.SettingsError, match="settings: expected"):
        gd.Solver(CONES, n, settings={})


def test_a_q_of_another_size_is_an_error(rng):
    data = batch(rng)
    for size in (n - 1, n + 1):
        with pytest.raises(gd.ShapeError, match=rf"q: expected shape \(5,\) or \(B, 5\), got \(16, {size}\)"):
            gd.Solver(CONES, n).solve(data[0], np.ones((16, size)), *data[2:])


# ---- warm starts -----------------------------------------------------------------------------------------------------


def test_a_warm_start_reaches_the_same_point_in_fewer_iterations(rng):
    data = batch(rng)
    solver = gd.Solver(CONES, n)
    first = solver.solve(*data)
    moved = [data[0], data[1] + 1e-3 * rng.standard_normal(data[1].shape), *data[2:]]
    cold, warm = solver.solve(*moved), solver.solve(*moved, warm_start=first)
    assert cold.ok.all()
    assert warm.ok.all()
    np.testing.assert_allclose(warm.x, cold.x, rtol=1e-9, atol=1e-9)
    assert warm.iterations.sum() < 0.7 * cold.iterations.sum()


def test_failed_items_of_a_warm_start_are_ignored(rng):
    data = batch(rng)
    cold = gd.solve(*data, CONES)
    spoiled = [a.copy() for a in data]
    spoiled[1][3] = np.nan
    spoiled[3][5, 1:3], spoiled[2][5, 2] = [-1, -1], -spoiled[2][5, 1]  # a contradiction: infeasible
    for on_failure in ("nan", "zero"):
        previous = gd.solve(*spoiled, CONES, gd.Settings(on_failure=on_failure))
        assert np.flatnonzero(~previous.ok).tolist() == [3, 5]
        kept = previous.x.copy()
        warm = gd.solve(*data, CONES, warm_start=previous)
        np.testing.assert_array_equal(previous.x, kept)
        assert warm.ok.all()
        for i in (3, 5):
            assert_same_bits(warm.x[i], cold.x[i])
            assert warm.iterations[i] == cold.iterations[i]


def test_a_warm_start_may_be_one_for_all_or_of_another_precision(rng):
    data = batch(rng)
    cold = gd.solve(*data, CONES)
    one = gd.solve(*[a[0] for a in data], CONES)
    single = gd.solve(*[a.astype(np.float32) for a in data], CONES)
    for previous in (one, single, cold):
        warm = gd.solve(*data, CONES, warm_start=previous)
        assert warm.ok.all()
        np.testing.assert_allclose(warm.x, cold.x, rtol=1e-8, atol=1e-8)


def test_a_warm_start_of_another_size_is_an_error(rng):
    data = batch(rng)
    sol = gd.solve(*data, CONES)
    half = [a[:8] for a in data]
    with pytest.raises(gd.ShapeError, match=r"warm_start: expected .* B=8, n=5, m=10.* got one with B=16, n=5, m=10"):
        gd.solve(*half, CONES, warm_start=sol)
    with pytest.raises(gd.ShapeError, match=r"warm_start: .* n=4, m=0.* got one with B=16, n=5"):
        gd.solve(np.eye(4), np.ones(4), warm_start=sol)
    with pytest.raises(gd.ArgumentError, match="warm_start: expected a Solution or None, got ndarray"):
        gd.solve(*data, CONES, warm_start=sol.x)
