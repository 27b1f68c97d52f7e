"""The active-set method itself: what the properties of every method (optimality, derivatives, …) do not reach."""

from __future__ import annotations

import numpy as np
import pytest

import gpudiff as gd

ACTIVE_SET = gd.Settings(method="active_set", threads=1)
INTERIOR = gd.Settings(method="ipm", threads=1)


def random_qps(rng, batch, n, equalities, inequalities, condition=10.0):
    """Strictly convex QPs with a feasible point, P with eigenvalues from 1/condition to 1."""
    basis = np.linalg.qr(rng.standard_normal((batch, n, n)))[0]
    P = (basis * np.geomspace(1 / condition, 1, n)) @ basis.transpose(0, 2, 1)
    P = 0.5 * (P + P.transpose(0, 2, 1))
    A = rng.standard_normal((batch, equalities + inequalities, n))
    slack = rng.random((batch, equalities + inequalities))
    slack[:, :equalities] = 0
    b = (A @ rng.standard_normal((batch, n, 1)))[..., 0] + slack
    return P, rng.standard_normal((batch, n)), A, b, {"z": equalities, "l": inequalities}


def largest(a):
    return np.abs(a).max()


SHAPES = [(1, 0, 3), (2, 1, 0), (5, 0, 11), (8, 3, 9), (13, 13, 4), (16, 4, 32), (30, 7, 40), (45, 20, 61)]


@pytest.mark.parametrize(("n", "equalities", "inequalities"), SHAPES)
def test_agrees_with_the_interior_point(rng, n, equalities, inequalities):
    data = random_qps(rng, 23, n, equalities, inequalities)
    ours, other = gd.solve(*data, ACTIVE_SET), gd.solve(*data, INTERIOR)
    assert ours.ok.all()
    assert ours.work.fallbacks == 0
    assert ours.method == "active_set"
    for name in ("x", "y", "s", "obj"):
        a, b = getattr(ours, name), getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1.0, largest(b)))
    bars = {name: rng.standard_normal(np.shape(getattr(ours, name))) for name in ("x", "y", "s", "obj")}
    mine, theirs = ours.vjp(**bars), other.vjp(**bars)
    for name in "PqAb":
        a, b = getattr(mine, name), getattr(theirs, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, largest(b)))
    np.testing.assert_array_equal(mine.P, mine.P.transpose(0, 2, 1))


def test_jvp_and_vjp_are_adjoint(rng):
    data = random_qps(rng, 9, 12, 3, 20)
    sol = gd.solve(*data, ACTIVE_SET)
    dots = [rng.standard_normal(a.shape) for a in data[:4]]
    dots[0] = dots[0] + dots[0].transpose(0, 2, 1)
    bars = {name: rng.standard_normal(np.shape(getattr(sol, name))) for name in ("x", "y", "s", "obj")}
    tangent, cotangent = sol.jvp(*dots), sol.vjp(**bars)
    left = sum((bars[name] * getattr(tangent, name)).sum() for name in bars)
    right = sum((dot * getattr(cotangent, name)).sum() for dot, name in zip(dots, "PqAb", strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-11)


@pytest.mark.parametrize(("n", "equalities", "inequalities"), [(8, 0, 16), (16, 4, 32), (31, 5, 50)])
def test_shared_data_agree_with_the_same_data_repeated(rng, n, equalities, inequalities):
    P, q, A, b, cones = random_qps(rng, 17, n, equalities, inequalities)
    inside = rng.standard_normal((17, n))
    slack = np.abs(rng.standard_normal((17, equalities + inequalities)))
    slack[:, :equalities] = 0
    b = inside @ A[0].T + slack
    shared = gd.solve(P[0], q, A[0], b, cones, ACTIVE_SET)
    repeated = gd.solve(np.stack([P[0]] * 17), q, np.stack([A[0]] * 17), b, cones, ACTIVE_SET)
    assert shared.ok.all()
    for name in ("x", "y", "s"):
        np.testing.assert_allclose(getattr(shared, name), getattr(repeated, name), atol=1e-11)
    bar = shared.vjp(x=shared.x)
    assert bar.P.shape == (n, n)
    np.testing.assert_allclose(bar.A, repeated.vjp(x=repeated.x).A.sum(0), atol=1e-9)


def test_a_lane_that_is_left_over_leaves_nothing_behind():
    """P = 0 is not for this method; the problem that comes into the same lane next must not notice."""
    P, q = np.ones((9, 1, 1)), np.ones((9, 1))
    P[0] = 0
    A, b = np.array([[1.0], [0.0], [1.0]]), np.array([2.0, 2.0, 0.0])
    sol = gd.solve(P, q, np.stack([A] * 9), np.stack([b] * 9), {"l": 3}, ACTIVE_SET)
    np.testing.assert_allclose(sol.x[1:], -1)
    assert sol.work.fallbacks == 1
    assert sol.status[0] == gd.Status.DUAL_INFEASIBLE


@pytest.mark.parametrize("size", [1e3, 1e5, 1e7])
def test_a_far_unconstrained_minimum_costs_no_digits(rng, size):
    P, q, A, b, _ = random_qps(rng, 40, 10, 0, 30)
    A = np.concatenate([A, np.eye(10)[None].repeat(40, 0), -np.eye(10)[None].repeat(40, 0)], axis=1)
    b = np.concatenate([b, np.full((40, 20), 10.0)], axis=1)
    q = size * q
    sol = gd.solve(P, q, A, b, {"l": 50}, ACTIVE_SET)
    assert sol.ok.all()
    assert largest(np.minimum(b - (A @ sol.x[..., None])[..., 0], 0)) < 1e-12 * largest(b)
    gradient = (P @ sol.x[..., None])[..., 0] + q + (A.transpose(0, 2, 1) @ sol.y[..., None])[..., 0]
    assert largest(gradient) < 1e-11 * size


@pytest.mark.parametrize("condition", [1e4, 1e7, 1e10])
def test_ill_conditioned_problems_are_right_or_left_to_the_other_method(rng, condition):
    P, q, A, b, cones = random_qps(rng, 64, 9, 2, 18, condition)
    sol = gd.solve(P, q, A, b, cones, ACTIVE_SET)
    assert sol.ok.all()
    x = sol.x[..., None]
    gradient = (P @ x)[..., 0] + q + (A.transpose(0, 2, 1) @ sol.y[..., None])[..., 0]
    terms = np.abs(P @ x)[..., 0] + np.abs(q) + (np.abs(A).transpose(0, 2, 1) @ np.abs(sol.y)[..., None])[..., 0]
    assert (np.abs(gradient) <= 1e-9 * terms).all()
    residual = (A @ x)[..., 0] + sol.s - b
    assert (np.abs(residual) <= 1e-9 * ((np.abs(A) @ np.abs(x))[..., 0] + np.abs(b))).all()
    assert (sol.s >= 0).all()
    assert (sol.y[:, 2:] >= 0).all()
    assert (sol.y[:, 2:] * sol.s[:, 2:] == 0).all()


def test_what_the_method_cannot_do_is_done_by_the_other_and_counted(rng):
    P, q, A, b, cones = random_qps(rng, 6, 5, 2, 8)
    P[1] = 0  # a linear objective
    A[1, 2:7], A[1, 7:] = np.eye(5), -np.ones((3, 5))
    b[1, 2:] = 100.0
    P[2, 0] = P[2, :, 0] = 0  # singular
    A[3, 1], b[3, 1] = A[3, 0], b[3, 0]  # the same equality twice
    sol, other = gd.solve(P, q, A, b, cones, ACTIVE_SET), gd.solve(P, q, A, b, cones, INTERIOR)
    assert sol.work.fallbacks == 3
    np.testing.assert_array_equal(sol.status, other.status)
    bar, theirs = sol.vjp(x=np.ones_like(sol.x)), other.vjp(x=np.ones_like(sol.x))
    good = np.flatnonzero(sol.ok & sol.differentiable)
    assert good.size >= 4
    np.testing.assert_allclose(bar.q[good], theirs.q[good], atol=1e-8)


def test_a_linear_objective_goes_to_the_interior_point(rng):
    _, _, A, b, cones = random_qps(rng, 4, 3, 0, 6)
    y = rng.random((4, 6))
    sol = gd.solve(None, -(A.transpose(0, 2, 1) @ y[..., None])[..., 0], A, b, cones, ACTIVE_SET)
    assert sol.ok.all()
    assert sol.work.fallbacks == 4


def test_certificates_are_exact(rng):
    P, q, A, b, _ = random_qps(rng, 30, 7, 2, 12)
    weights = rng.random((30, 5))  # a positive combination of rows that cannot be: 0 ≤ −1
    A[:, 2] = -(weights[..., None] * A[:, 3:8]).sum(1)
    b[:, 2] = -(weights * b[:, 3:8]).sum(1) - 1
    sol = gd.solve(P, q, A, b, {"z": 2, "l": 12}, ACTIVE_SET)
    assert (sol.status == gd.Status.PRIMAL_INFEASIBLE).all()
    assert sol.work.fallbacks == 0
    assert largest((A.transpose(0, 2, 1) @ sol.y[..., None])[..., 0]) < 1e-12 * largest(sol.y)
    assert (sol.y[:, 2:] >= 0).all()
    np.testing.assert_allclose((b * sol.y).sum(1), -1, rtol=1e-12)
    assert np.isposinf(sol.obj).all()


@pytest.mark.parametrize("guess", ["right", "moved", "wrong", "everything", "nothing"])
def test_a_warm_start_changes_the_work_and_not_the_answer(rng, guess):
    P, q, A, b, cones = random_qps(rng, 33, 14, 3, 25)
    cold = gd.solve(P, q, A, b, cones, ACTIVE_SET)
    moved = q * (1 + 0.01 * rng.standard_normal(q.shape)) if guess == "moved" else q
    previous = cold
    if guess == "wrong":
        previous = gd.solve(P[::-1].copy(), -q, A, b, cones, ACTIVE_SET)
    elif guess in ("everything", "nothing"):  # the multipliers of a problem where they are all positive, or all zero
        far = np.where(np.arange(28) < 3, 0, 1.0) if guess == "everything" else np.zeros(28)
        rows = np.eye(14)[np.arange(28) % 14]
        previous = gd.solve(np.eye(14), -rows.T @ far, rows, far, {"z": 3, "l": 25}, INTERIOR)
    warm = gd.solve(P, moved, A, b, cones, ACTIVE_SET, warm_start=previous)
    again = gd.solve(P, moved, A, b, cones, ACTIVE_SET)
    assert warm.ok.all()
    for name in ("x", "y", "s"):
        np.testing.assert_allclose(getattr(warm, name), getattr(again, name), atol=1e-11)
    if guess == "right":
        assert warm.work.changes == 0
    if guess == "moved":
        assert warm.work.changes < 0.2 * again.work.changes


def test_one_problem_has_the_bits_it_has_in_a_batch(rng):
    for n, equalities, inequalities in SHAPES:
        P, q, A, b, cones = random_qps(rng, 6, n, equalities, inequalities)
        if inequalities >= 4:
            A[:, -2:], b[:, -2:] = A[:, equalities : equalities + 2], b[:, equalities : equalities + 2]
        together = gd.solve(P, q, A, b, cones, ACTIVE_SET)
        bars = together.vjp(x=together.x, y=together.y)
        for i in range(6):
            alone = gd.solve(P[i], q[i], A[i], b[i], cones, ACTIVE_SET)
            for name in ("x", "y", "s", "obj", "margin"):
                assert np.asarray(getattr(alone, name)).tobytes() == getattr(together, name)[i].tobytes()
            bar = alone.vjp(x=alone.x, y=alone.y)
            assert bar.A.tobytes() == bars.A[i].tobytes()
            assert bar.P.tobytes() == bars.P[i].tobytes()


def test_degenerate_vertices(rng):
    """Thirty rows through one point, which is the solution: any basis of the active rows will do, and it is found."""
    n = 6
    x = rng.standard_normal((20, n))
    A = rng.standard_normal((20, 30, n))
    y = np.where(np.arange(30) < 8, rng.random((20, 30)), 0)
    P = np.eye(n)[None].repeat(20, 0)
    q = -x - (A.transpose(0, 2, 1) @ y[..., None])[..., 0]
    sol = gd.solve(P, q, A, (A @ x[..., None])[..., 0], {"l": 30}, ACTIVE_SET)
    assert sol.ok.all()
    assert sol.work.fallbacks == 0
    np.testing.assert_allclose(sol.x, x, atol=1e-12 * largest(x) * 100)
    assert not sol.differentiable.any()


def test_scales_change_nothing(rng):
    P, q, A, b, cones = random_qps(rng, 16, 8, 2, 20)
    plain = gd.solve(P, q, A, b, cones, ACTIVE_SET)
    rows = 10.0 ** rng.uniform(-6, 6, (16, 22))
    columns = 10.0 ** rng.uniform(-3, 3, (16, 8))
    cost = 10.0 ** rng.uniform(-8, 8, (16, 1))
    scaled = gd.solve(
        P * columns[:, None] * columns[:, :, None] * cost[..., None],
        q * columns * cost,
        A * columns[:, None] * rows[..., None],
        b * rows,
        cones,
        ACTIVE_SET,
    )
    assert scaled.ok.all()
    assert scaled.work.fallbacks == 0
    np.testing.assert_allclose(scaled.x * columns, plain.x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scaled.margin, plain.margin, rtol=1e-6)


@pytest.mark.parametrize("batch", [33, 65, 129, 261, 517])
def test_what_is_left_over_in_a_shorter_last_chunk(rng, batch):
    """All problems go to the other method, in chunks of which the last is shorter; sizes are no multiple of four."""
    n, rows = 29, 23
    A = rng.standard_normal((batch, rows, n))
    b = (A @ rng.standard_normal((batch, n, 1)))[..., 0] + rng.random((batch, rows))
    P = np.zeros((batch, n, n))
    P[:, :3, :3] = np.eye(3)
    q = (A.transpose(0, 2, 1) @ -rng.random((batch, rows, 1)))[..., 0]
    sol = gd.solve(P, q, A, b, {"l": rows}, ACTIVE_SET)
    other = gd.solve(P, q, A, b, {"l": rows}, INTERIOR)
    assert sol.work.fallbacks == batch
    np.testing.assert_array_equal(sol.status, other.status)
    assert sol.x.tobytes() == other.x.tobytes()
    assert sol.y.tobytes() == other.y.tobytes()
