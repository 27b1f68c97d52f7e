"""The active-set kernel, run by the emulation of CUDA: the CPU's answers in every mapping, bits, warm starts, races.

Whatever the method does not solve goes on to the careful interior point; what each of the two solved is counted.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from device_arrays import Package
from device_parity import assert_equal_up_to
from emulated_driver import RACE, SCHEDULES, available, run_sanitized
from problems import Problem, generator, well_posed

import gpudiff as gd

pytestmark = [pytest.mark.slow, pytest.mark.skipif(available() is not None, reason=str(available()))]

ACTIVE_SET = gd.Settings(method="active_set")
POINT = ("x", "y", "s", "obj")
# (threads per problem, memory layout): each group size of another kind, each level.
MAPPINGS = [(1, 3), (8, 2), (32, 0), (64, 1), (128, 2)]
SHAPES = {  # variables, equalities, inequalities
    "one variable": (1, 0, 1),
    "no rows": (3, 0, 0),
    "equalities only": (6, 3, 0),
    "a vertex of equalities": (4, 4, 3),
    "tall": (3, 0, 50),
    "large": (40, 6, 70),
}


def qps(n: int, zero: int, nonnegative: int, batch: int, active: float = 0.4) -> Problem:
    """Strictly convex QPs with a feasible point at which many rows are tight; the equalities' rows come last."""
    rng = generator("active set", n, zero, nonnegative)
    L = rng.standard_normal((batch, n, n))
    P = L @ L.swapaxes(1, 2) / n + 0.3 * np.eye(n)
    A = rng.standard_normal((batch, nonnegative + zero, n))
    slack = rng.random((batch, nonnegative + zero)) * (rng.random((batch, nonnegative + zero)) > active)
    slack[:, nonnegative:] = 0
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((batch, n))) + slack
    q = 3 * rng.standard_normal((batch, n))
    return Problem((P + P.swapaxes(1, 2)) / 2, q, A, b, [("nonnegative", nonnegative), ("zero", zero)])


MIXED = (7, 2, 13)  # the shape of most tests: few kernels are compiled


def solve(problem: Problem, settings=ACTIVE_SET, backend="cuda", **options):
    return gd.solve(*problem.args, settings, backend=backend, **options)


def assert_parity(problem: Problem, tolerance: float = 1e-9, settings=ACTIVE_SET):
    """The kernel's answers are the CPU library's, by as many steps up to ties; returns both."""
    sol, expected = solve(problem, settings), solve(problem, settings, backend="cpu")
    assert_same_bits(sol.status, expected.status, "status")
    for name in POINT:
        assert_close(getattr(sol, name), getattr(expected, name), tolerance, name)
    for name in ("primal_residual", "dual_residual", "gap"):
        assert np.all(getattr(sol, name) <= 1e-9 if tolerance < 1e-8 else 1e-2), name
    assert_equal_up_to(sol.margin, expected.margin, tolerance, "margin")
    assert sol.work.fallbacks == expected.work.fallbacks
    return sol, expected


@pytest.mark.parametrize(("group", "level"), MAPPINGS)
def test_every_mapping_gives_the_cpus_answers(emulate, group, level):
    driver = emulate(group, level, schedule="random:3")
    sol, expected = assert_parity(qps(*MIXED, 11))
    assert sol.ok.all()
    assert sol.work.fallbacks == sol.work.interior == 0
    assert sol.work.changes == sol.iterations.sum() == expected.work.changes
    assert {threads for _, _, threads, _, _ in driver.launches} == {max(32, group)}
    assert [entry for entry, *_ in driver.launches] == ["gd_active_set_kernel", "gd_careful_kernel"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_cpus_answers(emulate, shape):
    emulate(8, 2)
    sol, _ = assert_parity(qps(*SHAPES[shape], 6))
    assert sol.ok.all()
    assert sol.work.fallbacks == 0
    bars = {name: np.ones_like(getattr(sol, name)) for name in ("x", "obj")}
    expected = solve(qps(*SHAPES[shape], 6), backend="cpu").vjp(**bars) if shape == "one variable" else None
    if expected is not None:  # derivatives are those of the interior point's kernels
        assert_close(sol.vjp(**bars).q, expected.q, 1e-9)


def test_float32_data(emulate):
    emulate(8, 2)
    sol, _ = assert_parity(qps(*MIXED, 6).astype(np.float32), 1e-5)
    assert sol.x.dtype == np.float32
    assert sol.ok.all()
    assert sol.work.fallbacks == 0


@pytest.mark.parametrize("on_failure", ["nan", "zero"])
@pytest.mark.parametrize("polish", [True, False])
def test_what_it_does_not_solve(emulate, polish, on_failure):
    """Infeasible, singular, dependent, unbounded and bad data in one batch; neighbours are untouched."""
    emulate(8, 2)
    problem = qps(*MIXED, 10)
    plain = solve(problem)
    P, q, A, b = problem.data
    A[1, 1], b[1, :2] = -A[1, 0], -1  # aᵀx ≤ −1 and −aᵀx ≤ −1
    P[2] -= np.linalg.eigvalsh(P[2])[0] * np.eye(7)  # singular: for the interior point
    A[3, 14], b[3, 14] = A[3, 13], b[3, 13]  # an equality twice: for the interior point
    q[4, 3] = np.nan
    P[5, 0, 1] += 1  # asymmetric
    b[6, :4] = np.inf  # absent rows
    A[7, 3], b[7, 3] = np.inf, np.inf  # an absent row must be finite all the same
    A[8, 14], b[8, 14] = A[8, 13], b[8, 13] + 1  # equalities that contradict each other
    settings = gd.Settings(method="active_set", on_failure=on_failure, polish=polish)
    place = Package().wrap  # an asymmetric P is a status on a device, and an exception for arrays on the host
    sol = gd.solve(*map(place, problem.data), problem.gd_cones, settings=settings)
    names = [gd.Status(int(code)).name for code in sol.status.native]
    wrong = {1: "PRIMAL_INFEASIBLE", 4: "INVALID_DATA", 5: "INVALID_DATA", 7: "INVALID_DATA", 8: "PRIMAL_INFEASIBLE"}
    assert names == [wrong.get(i, "SOLVED") for i in range(10)]
    assert sol.work.fallbacks == 3
    for i in (0, 9):
        for name in POINT:
            assert_same_bits(getattr(sol, name).native[i], getattr(plain, name)[i], name)
    P[5] = P[0]
    expected = gd.solve(*problem.args, settings, backend="cpu")
    for i in (2, 3, 6):
        tolerance = 1e-4 if i != 6 and not polish else 1e-7
        assert_close(sol.x.native[i], expected.x[i], tolerance, f"x {i}")
        assert_close(sol.obj.native[i], expected.obj[i], tolerance, f"obj {i}")
    assert_same_bits(np.isposinf(sol.s.native[6]), np.isposinf(b[6]), "slacks of absent rows")
    assert not sol.y.native[6, :4].any()
    for i in (1, 4, 5, 7, 8):
        nothing = sol.x.native[i] if on_failure == "nan" else sol.y.native[i]
        assert np.isnan(nothing).all() if on_failure == "nan" else not nothing.any(), i
    if on_failure == "nan":
        assert np.isposinf(sol.obj.native[1])
        y = sol.y.native[1]
        assert_close(problem.b[1] @ y, -1.0, 1e-12, "certificate")
        assert_close(problem.A[1].T @ y, np.zeros(7), 1e-12, "certificate")
        assert y[:13].min() >= 0


def test_convexity_is_checked_when_asked_for(emulate):
    emulate(8, 2)
    problem = qps(*MIXED, 3)
    problem.P[1] -= 30 * np.eye(7)
    sol = solve(problem, gd.Settings(method="active_set", check_convex=True))
    assert [gd.Status(int(code)).name for code in sol.status] == ["SOLVED", "INVALID_DATA", "SOLVED"]


def test_degenerate_problems(emulate):
    """Rows that are there twice, rows that meet in one point, rows of zeros, one row at its bound without need."""
    emulate(8, 2)
    problem = qps(*MIXED, 6, active=1.0)
    problem.A[:, 3], problem.b[:, 3] = problem.A[:, 2], problem.b[:, 2]
    problem.A[1, 4], problem.b[1, 4] = 0, 0
    problem.A[2, :13], problem.b[2, :13] = np.tile(np.eye(7), (2, 1))[:13], 0
    problem.b[2, 13:] = 0
    sol, expected = solve(problem), solve(problem, backend="cpu")
    assert sol.ok.all()
    assert_close(sol.x, expected.x, 1e-9)
    assert_close(sol.obj, expected.obj, 1e-9)
    for i in range(6):  # multipliers are not unique
        stationary = problem.P[i] @ sol.x[i] + problem.q[i] + problem.A[i].T @ sol.y[i]
        assert_close(stationary, np.zeros(7), 1e-9)
        assert sol.y[i, :13].min() >= 0
        assert_close(sol.y[i, :13] * sol.s[i, :13], np.zeros(13), 1e-9)


def test_badly_scaled_problems(emulate):
    emulate(8, 2)
    problem, rng = qps(*MIXED, 6), np.random.default_rng(4)
    rows, columns = 10.0 ** rng.uniform(-4, 4, (6, 15)), 10.0 ** rng.uniform(-4, 4, (6, 7))
    P = problem.P * columns[:, :, None] * columns[:, None, :]
    A = problem.A * rows[:, :, None] * columns[:, None, :]
    scaled = Problem(P, problem.q * columns, A, problem.b * rows, problem.cones)
    sol, expected = solve(scaled), solve(problem, backend="cpu")
    assert sol.ok.all()
    assert sol.work.fallbacks == 0
    assert_close(sol.x * columns, expected.x, 1e-9)
    assert_close(sol.obj, expected.obj, 1e-9)


def ill_conditioned(batch: int) -> Problem:
    """QPs whose P has eigenvalues from 1e-5 to 1e5: their points are refined."""
    problem, rng = qps(*MIXED, batch), np.random.default_rng(5)
    for i in range(batch):
        basis = np.linalg.qr(rng.standard_normal((7, 7)))[0]
        P = basis @ np.diag(10.0 ** rng.uniform(-5, 5, 7)) @ basis.T
        problem.P[i] = (P + P.T) / 2
    return problem


def test_ill_conditioned_problems(emulate):
    emulate(8, 2)
    sol, _ = assert_parity(ill_conditioned(20), 1e-5)
    assert sol.ok.all()
    assert sol.work.fallbacks == 0
    assert sol.primal_residual.max() < 1e-9


def test_warm_starts(emulate):
    """The right one, those of others, one for all, one that failed, and one that holds everything for active."""
    emulate(8, 2)
    problem = qps(*MIXED, 6)
    cold = solve(problem)
    again = solve(problem, warm_start=cold)
    assert not again.iterations.any()
    assert_close(again.x, cold.x, 1e-12)
    spoiled = Problem(problem.P, np.full((6, 7), np.nan), problem.A, problem.b, problem.cones)
    everything = solve(problem)
    everything.y[:] = 1.0
    for start in (
        solve(qps(*MIXED, 6, active=0.9)),
        solve(problem.item(2)),
        solve(problem, gd.Settings(method="ipm"), backend="cpu"),
        solve(spoiled),
        everything,
    ):
        warm = solve(problem, warm_start=start)
        assert warm.ok.all()
        assert warm.work.fallbacks == 0
        assert_close(warm.x, cold.x, 1e-10)
        assert_close(warm.y, cold.y, 1e-9)


@pytest.mark.parametrize("shared", ["PA", "P", "A", "qb", "PqAb"])
def test_shared_arguments_give_the_same_bits(emulate, shared):
    """With P and A in common each group prepares them once, whatever rows are absent in which problem."""
    emulate(8, 2)
    problem = qps(*MIXED, 9)
    if "b" not in shared:
        problem.b[::3, 1:4] = np.inf
    given = [a[0] if name in shared else a for name, a in zip("PqAb", problem.data, strict=True)]
    spread = [np.broadcast_to(a, b.shape).copy() for a, b in zip(given, problem.data, strict=True)]
    if shared == "PA":  # so that there is a solution
        b = (given[2] @ np.random.default_rng(3).standard_normal((9, 7, 1)))[..., 0] + 0.1 * (np.arange(15) < 13)
        given[3] = spread[3] = np.where(np.isinf(problem.b), np.inf, b)
    sol = gd.solve(*given, problem.gd_cones, ACTIVE_SET, backend="cuda")
    plain = gd.solve(*spread, problem.gd_cones, ACTIVE_SET, backend="cuda")
    assert shared not in ("PA", "PqAb") or sol.ok.all()
    for name in RESULT_FIELDS:
        expected = getattr(plain, name)
        assert_same_bits(getattr(sol, name), expected[0] if shared == "PqAb" else expected, name)


@pytest.mark.parametrize(("group", "level"), [(8, 2), (64, 1)])
def test_bits_do_not_depend_on_the_order_of_threads(emulate, group, level):
    problem, first = qps(*MIXED, 9), None
    for schedule in SCHEDULES:
        emulate(group, level, schedule=schedule)
        sol = solve(problem)
        first = first or sol
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(sol, name), getattr(first, name), f"{name}, {schedule}")


def test_bits_do_not_depend_on_the_batch(emulate):
    """Alone, among others, at another position, with more or fewer groups at work."""
    problem = qps(*MIXED, 33)
    problem.P[7] -= np.linalg.eigvalsh(problem.P[7])[0] * np.eye(7)  # what this leaves behind harms nobody
    problem.q[9] *= 1e200
    emulate(8, 2, blocks=1)
    whole = solve(problem)
    emulate(8, 2, blocks=3)
    order = np.random.default_rng(1).permutation(33)
    for picked in (order, order[:1], order[5:7], [9, 10]):
        some = solve(Problem(*(a[picked] for a in problem.data), problem.cones))
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(some, name), getattr(whole, name)[picked], name)


def test_a_linear_objective_goes_to_the_interior_point(emulate):
    driver = emulate(8, 2)
    problem = well_posed("lp", 3)
    sol = solve(problem)
    assert sol.ok.all()
    assert sol.work.fallbacks == 3
    assert [entry for entry, *_ in driver.launches] == ["gd_solve_kernel", "gd_careful_kernel"]


RACES = """
import os
os.environ["GPUDIFF_GPU_GROUP"], os.environ["GPUDIFF_GPU_LEVEL"] = "{group}", "{level}"
import numpy as np, pytest
from device_arrays import use
from emulated_driver import EmulatedDriver
from test_cuda_active_set import MIXED, ill_conditioned, qps, solve
driver = EmulatedDriver(sanitize=True, blocks=1)
driver.remove = "{remove}"
use(pytest.MonkeyPatch(), driver)
problem = qps(*MIXED, 8)
problem.A[1, 1], problem.b[1, :2] = -problem.A[1, 0], -1
problem.b[2, :3] = np.inf
sol = solve(problem)
solve(problem, warm_start=sol)
solve(ill_conditioned(4))
print("finished")
"""


@pytest.mark.parametrize(("group", "level"), [(8, 0), (64, 1)])
def test_no_data_race(group, level):
    """ThreadSanitizer, to which every thread of the emulated GPU is a thread of its own."""
    code, output = run_sanitized(RACES.format(group=group, level=level, remove=""))
    assert code == 0, output[-4000:]
    assert output.endswith("finished\n")


def test_kernels_without_barriers_race():
    code, output = run_sanitized(RACES.format(group=8, level=0, remove="all"))
    assert code == RACE, output[-4000:]
