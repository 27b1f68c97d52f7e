"""The GPU kernels in every mapping of problems to threads, by the emulation of CUDA: answers, bits, races.

Each group size and each memory layout is compiled for one small structure that has everything in it (equalities,
inequalities, second-order cones, rows in mixed order) and must give the CPU library's answers. test_cuda_kernels.py has
other structures.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from device_arrays import Package
from emulated_driver import RACE, SCHEDULES, available, run_sanitized
from problems import feasible_qps, hard, infeasible, stack, unbounded, well_posed

import gpudiff as gd

pytestmark = [pytest.mark.slow, pytest.mark.skipif(available() is not None, reason=str(available()))]

# (threads per problem, memory layout): each group size of another kind, each level.
MAPPINGS = [(1, 3), (4, 1), (8, 2), (32, 0), (160, 2)]
POINT = ("x", "y", "s", "obj")
DATA = ("P", "q", "A", "b")


def cotangents(rng, sol):
    return {name: rng.standard_normal(np.shape(getattr(sol, name))) for name in POINT}


def tangents(rng, problem):
    return {name: rng.standard_normal(a.shape) for name, a in zip(DATA, problem.data, strict=True) if a is not None}


def assert_parity(problem, rng, tolerance: float = 1e-9, **options) -> None:
    """Everything that a call answers is what the CPU backend answers."""
    expected = gd.solve(*problem.args, backend="cpu", **options)
    sol = gd.solve(*problem.args, backend="cuda", **options)
    assert_same_bits(sol.status, expected.status, "status")
    bars, dots = cotangents(rng, expected), tangents(rng, problem)
    pairs = [(POINT, sol, expected), (POINT, sol.jvp(**dots), expected.jvp(**dots))]
    pairs.append((DATA, sol.vjp(**bars), expected.vjp(**bars)))
    for names, mine, theirs in pairs:
        for name in names:
            if getattr(theirs, name) is not None:
                assert_close(getattr(mine, name), getattr(theirs, name), tolerance, name)


@pytest.mark.parametrize(("group", "level"), MAPPINGS)
def test_every_mapping_gives_the_cpus_answers(emulate, rng, group, level):
    driver = emulate(group, level, schedule="random:3")
    assert_parity(well_posed("mixed", 11), rng)
    threads = {threads for _, _, threads, _, _ in driver.launches}
    assert threads == {max(32, group)}


@pytest.mark.parametrize("polish", [True, False])
@pytest.mark.parametrize("on_failure", ["nan", "zero"])
def test_what_cannot_be_solved(emulate, rng, polish, on_failure):
    """Statuses, certificates and neighbours: the problems go through the careful kernel."""
    emulate(8, 2, blocks=2)
    cones = [("soc", 3), ("nonnegative", 4), ("zero", 2), ("soc", 4)]
    good = feasible_qps(rng, 1, 6, cones)
    good = stack([type(good)(good.P, good.q[0], good.A, good.b, cones)])
    items = [good.item(0), infeasible(rng, cones), unbounded(rng, cones, 6), good.item(0), good.item(0), good.item(0)]
    problem = stack(items)
    problem.A[3, 5, 2] = np.nan
    problem.P[4, 0, 1] += 1  # asymmetric
    problem.b[5, 4] = np.inf  # a row that is absent
    settings = gd.Settings(polish=polish, on_failure=on_failure)
    place = Package().wrap  # an asymmetric P is a status on a device, and an exception for arrays on the host
    sol = gd.solve(*map(place, problem.data), problem.gd_cones, settings=settings)
    wanted = ["SOLVED", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "INVALID_DATA", "INVALID_DATA", "SOLVED"]
    assert [gd.Status(int(code)).name for code in sol.status.native] == wanted
    P = problem.P.copy()
    P[4] = P[0]
    expected = gd.solve(P, *problem.args[1:], backend="cpu", settings=settings)
    for name in (*POINT, "primal_residual", "dual_residual", "gap"):
        mine, theirs = np.delete(getattr(sol, name).native, 4, 0), np.delete(getattr(expected, name), 4, 0)
        assert_same_bits(np.isnan(mine), np.isnan(theirs), f"NaN in {name}")
        assert_same_bits(np.isinf(mine), np.isinf(theirs), f"infinity in {name}")
        solved = np.isfinite(theirs[[0, 4]])
        tolerance = 1e-6 if name not in POINT else 1e-9 if polish else 1e-4
        assert_close(mine[[0, 4]][solved], theirs[[0, 4]][solved], tolerance, name)
    if on_failure == "nan":  # certificates, of which there are many
        y, x = sol.y.native[1], sol.x.native[2]
        assert_close(problem.b[1] @ y, -1.0, 1e-12, "primal certificate")
        assert_close(problem.A[1].T @ y, np.zeros(6), 1e-6, "primal certificate")
        assert_close(problem.q[2] @ x, -1.0, 1e-12, "dual certificate")
        assert_close(problem.P[2] @ x, np.zeros(6), 1e-6, "dual certificate")
    bar = sol.vjp(**{name: place(value) for name, value in cotangents(rng, expected).items()})
    for name in DATA:
        value = getattr(bar, name).native
        assert np.all(value[[1, 2, 3, 4]] == 0), name
        assert np.all(np.isfinite(value)), name
        assert np.any(value[0] != 0), name


def test_convexity_is_checked_when_asked_for(emulate):
    emulate(8, 2)
    problem = well_posed("mixed", 3)
    problem.P[1] -= 30 * np.eye(7)
    sol = gd.solve(*problem.args, backend="cuda", settings=gd.Settings(check_convex=True))
    assert [gd.Status(int(code)).name for code in sol.status] == ["SOLVED", "INVALID_DATA", "SOLVED"]


def test_badly_scaled_problems(emulate):
    emulate(8, 2)
    problem = hard("rows and columns scaled by 1e±4, mixed", 6)
    sol = gd.solve(*problem.args, backend="cuda")
    assert np.all(sol.ok)
    assert_close(sol.obj, problem.obj, 1e-8, "obj")


@pytest.mark.parametrize("group", [8, 64])
@pytest.mark.parametrize("name", ["small psd cones", "exponential, anywhere", "dual power", "every cone"])
def test_cones_with_matrices_and_of_three_rows(emulate, name, group, rng):
    """The answers and derivatives of the CPU's kernels, which other tests hold against exact ones."""
    emulate(group, 2)
    problem = well_posed(name, 3)
    sol, expected = (gd.solve(*problem.args, backend=backend) for backend in ("cuda", "cpu"))
    assert np.all(sol.ok)
    for field in POINT:
        assert_close(getattr(sol, field), getattr(expected, field), 1e-9, field)
    seed, direction = cotangents(rng, expected), tangents(rng, problem)
    bar, wanted = sol.vjp(**seed), expected.vjp(**seed)
    for key in direction:
        assert_close(getattr(bar, key), getattr(wanted, key), 1e-7, key)
    dot, wanted = sol.jvp(**direction), expected.jvp(**direction)
    for field in POINT:
        assert_close(getattr(dot, field), getattr(wanted, field), 1e-7, f"tangent of {field}")


def test_the_iteration_limit(emulate):
    emulate(8, 2)
    problem = well_posed("mixed", 3)
    sol = gd.solve(*problem.args, backend="cuda", settings=gd.Settings(max_iter=1))
    limited = sol.status == gd.Status.MAX_ITERATIONS
    assert np.any(limited)
    assert np.all(limited | (sol.status == gd.Status.SOLVED))  # the polish may get there from anywhere
    assert np.all(np.isnan(sol.x[limited]))


def everything(problem, rng, **options) -> dict[str, np.ndarray]:
    """All that a call answers, by name."""
    sol = gd.solve(*problem.args, backend="cuda", **options)
    found = {name: getattr(sol, name) for name in RESULT_FIELDS}
    dot, bar = sol.jvp(**tangents(rng, problem)), sol.vjp(**cotangents(rng, sol))
    found |= {f"{name} tangent": getattr(dot, name) for name in POINT}
    return found | {f"{name} cotangent": getattr(bar, name) for name in DATA}


@pytest.mark.parametrize(("group", "level"), [(8, 2), (32, 0), (160, 2)])
def test_bits_do_not_depend_on_the_order_of_threads(emulate, group, level):
    problem, first = well_posed("mixed", 9), None
    for schedule in SCHEDULES:
        emulate(group, level, schedule=schedule)
        found = everything(problem, np.random.default_rng(0))
        for name, value in found.items():
            assert_same_bits(value, (first or found)[name], f"{name}, {schedule}")
        first = found


@pytest.mark.parametrize(("group", "level"), [(8, 2), (32, 0)])
def test_bits_do_not_depend_on_the_batch(emulate, group, level):
    """Alone, among others, at another position, with more or fewer groups at work."""
    many = well_posed("mixed", 33)
    emulate(group, level, blocks=1)
    expected = everything(many, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    dots = tangents(rng, many)
    emulate(group, level, blocks=3)
    order = np.random.default_rng(1).permutation(33)
    for picked in (order, order[:1], order[5:7]):
        some = stack([many.item(int(i)) for i in picked])
        sol = gd.solve(*some.args, backend="cuda")
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(sol, name), expected[name][picked], name)
        dot = sol.jvp(**{name: value[picked] for name, value in dots.items()})
        for name in POINT:
            assert_same_bits(getattr(dot, name), expected[f"{name} tangent"][picked], f"{name} tangent")


RACES = """
import os
os.environ["GPUDIFF_GPU_GROUP"], os.environ["GPUDIFF_GPU_LEVEL"] = "{group}", "{level}"
import numpy as np, pytest
from device_arrays import use
from emulated_driver import EmulatedDriver
from problems import hard, well_posed
from test_cuda_mappings import everything
import gpudiff as gd
driver = EmulatedDriver(sanitize=True, blocks=1)
driver.remove = "{remove}"
use(pytest.MonkeyPatch(), driver)
everything(well_posed("mixed", 6), np.random.default_rng(0))
problem = well_posed("mixed", 6)
gd.solve(*problem.args, backend="cuda", settings=gd.Settings(polish=False))
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
