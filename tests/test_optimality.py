"""Solutions satisfy the optimality conditions and are where they should be; hard problems end in the right status.

Residuals are recomputed here in extended precision from the data; what the solver reports is only compared with that.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from compare import assert_close
from problems import HARD, WELL_POSED, N, Q, Z, feasible_qps, hard, infeasible, unbounded, well_posed

import gpudiff as gd

SOLVABLE = [name for name in HARD if "infeasible" not in name and "unbounded" not in name]
INFEASIBLE = [name for name in HARD if "infeasible" in name]
UNBOUNDED = [name for name in HARD if "unbounded" in name]


def statuses(sol) -> list[str]:
    return [gd.Status(int(code)).name for code in np.atleast_1d(sol.status)]


def assert_optimal(problem, sol, tolerance: float) -> None:
    for i, item in enumerate(problem.items()):
        worst = reference.residuals(item, sol.x[i], sol.y[i], sol.s[i])
        assert max(worst) <= tolerance, f"problem {i}: {worst}"
        exact_obj = reference.objective(item, sol.x[i])
        assert abs(sol.obj[i] - exact_obj) <= 1e-12 * max(1, abs(exact_obj), reference.norm(item.q * sol.x[i]))


@pytest.mark.parametrize("name", WELL_POSED)
def test_reference_agrees_with_the_planted_answer(name):
    """Two independent ways to the answer: if they disagreed, the other tests here would mean nothing."""
    problem = well_posed(name, 2)
    for item in problem.items():
        found = reference.exact(item)
        for field in ("x", "y", "s", "obj"):
            assert_close(getattr(found, field), getattr(item, field), 1e-10, field)


@pytest.mark.parametrize("name", WELL_POSED)
def test_well_posed_solutions_are_exact(name):
    problem = well_posed(name, 100)
    sol = gd.solve(*problem.args)
    assert statuses(sol) == ["SOLVED"] * 100
    assert np.all(sol.ok)
    for field in ("x", "y", "s", "obj"):
        assert_close(getattr(sol, field), getattr(problem, field), 1e-8, field)
    assert_optimal(problem, sol, 1e-9)


@pytest.mark.parametrize(
    "name", ["qp with equalities", "lp", "socp", "mixed", "sdp", "exponential", "power", "every cone"]
)
def test_interior_point_alone_reaches_its_tolerance(name):
    """Without polish the answer has the interior point's accuracy, no more is promised."""
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args, settings=gd.Settings(polish=False))
    assert statuses(sol) == ["SOLVED"] * 8
    assert_optimal(problem, sol, 1e-7)
    assert_close(sol.x, problem.x, 1e-3)


@pytest.mark.parametrize("name", ["qp", "lp with equalities", "mixed"])
def test_reported_residuals_are_those_of_the_point(name):
    """In the problem's own units, for a solver stopped early so that there is something to report."""
    problem = well_posed(name, 8)
    settings = gd.Settings(polish=False, tol_gap_abs=1e-3, tol_gap_rel=1e-3, tol_feas=1e-3)
    sol = gd.solve(*problem.args, settings=settings)
    for i, item in enumerate(problem.items()):
        x, y, s = (reference.extended(part[i]) for part in (sol.x, sol.y, sol.s))
        Px = np.zeros_like(x) if item.P is None else item.P @ x
        primal = item.A @ x + s - item.b
        dual = Px + item.q + item.A.T @ y
        gap = x @ (Px + item.q) + item.b @ y
        for reported, residual in [(sol.primal_residual[i], primal), (sol.dual_residual[i], dual)]:
            assert abs(reported - reference.norm(residual)) <= 1e-13 + 0.01 * reference.norm(residual)
        assert abs(sol.gap[i] - abs(gap)) <= 1e-12 + 0.01 * abs(gap)


@pytest.mark.parametrize("name", SOLVABLE)
def test_hard_problems_are_solved(name):
    problem = hard(name, 60)
    sol = gd.solve(*problem.args)
    assert statuses(sol) == ["SOLVED"] * 60
    assert_optimal(problem, sol, 1e-7)
    assert_close(sol.obj, problem.obj, 1e-7, "objective")
    if problem.x is not None:
        scale = np.maximum(1, np.abs(problem.x))
        assert_close(sol.x / scale, problem.x / scale, 1e-6, "x")


@pytest.mark.parametrize("name", INFEASIBLE)
def test_primal_infeasibility_is_certified(name):
    """Aᵀy = 0, y ∈ K*, bᵀy = −1, and nothing else is reported."""
    problem = hard(name, 60)
    sol = gd.solve(*problem.args)
    assert statuses(sol) == [problem.status] * 60
    assert not np.any(sol.ok)
    assert np.all(np.isnan(sol.x))
    assert np.all(sol.obj == np.inf)
    for i, item in enumerate(problem.items()):
        y = reference.extended(sol.y[i])
        size = max(1, reference.norm(y))
        assert abs(item.b @ y + 1) <= 1e-10 * size
        assert reference.norm(item.A.T @ y) <= 1e-7 * size
        assert reference.norm(y - reference.project_dual(item.cones, y)) <= 1e-10 * size


@pytest.mark.parametrize("name", UNBOUNDED)
def test_dual_infeasibility_is_certified(name):
    """P x = 0, −A x ∈ K, qᵀx = −1, and nothing else is reported."""
    problem = hard(name, 60)
    sol = gd.solve(*problem.args)
    assert statuses(sol) == [problem.status] * 60
    assert not np.any(sol.ok)
    assert np.all(np.isnan(sol.y))
    assert np.all(sol.obj == -np.inf)
    for i, item in enumerate(problem.items()):
        x = reference.extended(sol.x[i])
        size = max(1, reference.norm(x))
        assert abs(item.q @ x + 1) <= 1e-10 * size
        if item.P is not None:
            assert reference.norm(item.P @ x) <= 1e-7 * size
        ray = -(item.A @ x)
        assert reference.norm(ray - reference.project_primal(item.cones, ray)) <= 1e-7 * size


def test_unbounded_without_any_constraint():
    sol = gd.solve(None, np.array([3.0, -4.0]), np.zeros((0, 2)), np.zeros(0), [])
    assert gd.Status(int(sol.status)) is gd.Status.DUAL_INFEASIBLE
    assert_close(np.array([3.0, -4.0]) @ sol.x, -1.0, 1e-10)


def test_contradicting_equalities():
    sol = gd.solve(np.eye(2), np.zeros(2), np.ones((2, 2)), np.array([0.0, 1.0]), [gd.Zero(2)])
    assert gd.Status(int(sol.status)) is gd.Status.PRIMAL_INFEASIBLE
    assert_close(sol.y, np.array([1.0, -1.0]), 1e-7)


def test_absent_rows_are_as_if_deleted(rng):
    """+inf in b on a nonnegative row: y = 0, s = +inf, the rest as without the row."""
    problem = well_posed("mixed", 6)
    kinds = np.concatenate([[kind] * k for kind, k in problem.cones])
    rows = np.flatnonzero(kinds == N)[::2]
    free = problem.s[:, rows] > 0
    b = problem.b.copy()
    b[:, rows] = np.where(free, np.inf, b[:, rows])
    sol = gd.solve(problem.P, problem.q, problem.A, b, problem.gd_cones)
    assert np.all(sol.ok)
    assert np.sum(free) > 3
    assert_close(sol.x, problem.x, 1e-8)
    assert np.all(sol.y[:, rows][free] == 0)
    assert np.all(sol.s[:, rows][free] == np.inf)
    bar = sol.vjp(x=rng.standard_normal(sol.x.shape))
    assert np.all(bar.b[:, rows][free] == 0)
    assert np.all(np.isfinite(bar.A))
    assert np.all(bar.A[:, rows][free] == 0)


def test_iteration_limit_is_reported():
    problem = well_posed("qp with equalities", 4)
    sol = gd.solve(*problem.args, settings=gd.Settings(max_iter=1, polish=False))
    assert statuses(sol) == ["MAX_ITERATIONS"] * 4
    assert not np.any(sol.ok)


def test_every_status_in_one_batch(rng):
    """Each problem of a mixed batch gets its own status and the solved ones their own answer."""
    cones = [(Z, 1), (N, 6), (Q, 3)]
    good = feasible_qps(rng, 1, 6, cones).data[1:]
    bad, ray = infeasible(rng, cones, None), unbounded(rng, cones, None)
    good = good[0][0], *good[1:]
    q, A, b = (np.stack(parts) for parts in zip(good, bad.data[1:], ray.data[1:], good, strict=True))
    P = np.zeros((4, 6, 6))
    P[0] = np.eye(6)
    P[3, 2, 2] = np.nan
    sol = gd.solve(P, q, A, b, bad.gd_cones)
    assert statuses(sol) == ["SOLVED", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "INVALID_DATA"]
    assert list(sol.ok) == [True, False, False, False]
    assert np.all(np.isnan(sol.x[3]))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 17, 33, 40])
def test_no_size_is_special(size, rng):
    """Sizes around the widths of registers and tiles."""
    problem = feasible_qps(rng, 5, size, [(Z, size // 4), (N, size + 1), (Q, 2 + size // 2)])
    sol = gd.solve(*problem.args)
    assert np.all(sol.ok)
    for i in range(5):
        item = type(problem)(problem.P, problem.q[i], problem.A, problem.b, problem.cones)
        assert_close(sol.x[i], reference.exact(item).x, 1e-8)
