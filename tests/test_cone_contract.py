"""What every cone owes to the rest: its projection, its dual, complementarity, and indifference to order and units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from compare import assert_close
from problems import (
    ED,
    EVERY,
    MIXED,
    E,
    N,
    Q,
    S,
    Z,
    dual_kind,
    feasible_qps,
    gd_cones,
    generator,
    inside,
    scaled,
    scales_as_one,
    stack,
    well_posed,
)

import gpudiff as gd

CONES = {
    "zero": [(Z, 4)],
    "nonnegative": [(N, 7)],
    "soc of 1": [(Q, 1)],
    "soc of 2": [(Q, 2)],
    "soc of 3": [(Q, 3)],
    "soc of 20": [(Q, 20)],
    "ten cones": [(Q, 3)] * 10,
    "every kind of symmetric rows": MIXED,
    "psd of 1": [(S, 1)],
    "psd of 2": [(S, 3)],
    "psd of 5": [(S, 15)],
    "exponential": [(E, 3)],
    "dual exponential": [(ED, 3)],
    "power": [("power 0.3", 3)],
    "dual power": [("dual power 0.6", 3)],
    "extreme powers": [("power 0.01", 3), ("dual power 0.02", 3), ("power 0.99", 3)],
    "every kind": EVERY,
}
FAMILIES = ["qp with equalities", "lp", "socp", "many small cones", "mixed", "soc, slack at the tip"]
FAMILIES += [
    "sdp",
    "psd, at either tip",
    "exponential, anywhere",
    "dual exponential",
    "power",
    "dual power",
    "every cone",
]


def project(cones, v):
    """Solve min ½‖s − v‖² over s ∈ K, a problem in which s is also the variable x."""
    m = v.shape[-1]
    return gd.solve(np.eye(m), -v, -np.eye(m), np.zeros(m), gd_cones(cones))


def points(cones, batch: int, spread: float) -> np.ndarray:
    """Random points, the norm of a second-order tail comparable with its head so that all regions are visited."""
    m = sum(k for _, k in cones)
    v = generator("points", m, int(10 * spread)).standard_normal((batch, m))
    for kind, rows in reference.blocks(cones):
        if kind == Q and rows.stop - rows.start > 1:
            v[:, rows.start + 1 : rows.stop] /= np.sqrt(rows.stop - rows.start - 1)
    return v * 10 ** generator("sizes", m).uniform(-spread, spread, (batch, 1))


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("name", CONES)
def test_projection(name, spread):
    """Π_K in closed form, the multiplier Π_{K*}(−v), and the derivative DΠ_K."""
    cones = CONES[name]
    v = points(cones, 60, spread)
    direction = generator(name, "direction").standard_normal(v.shape)
    sol = project(cones, v)
    assert np.all(sol.ok)
    dot = sol.jvp(q=-direction)
    m = v.shape[1]
    regions = set()
    for i in range(len(v)):
        size = np.max(np.abs(v[i]))
        s = reference.project_primal(cones, v[i])
        assert_close(sol.x[i] / size, s / size, 1e-9, "x")
        assert_close(sol.s[i] / size, s / size, 1e-9, "s")
        assert_close(sol.y[i] / size, reference.project_dual(cones, -v[i]) / size, 1e-9, "y")
        D = np.eye(m) - reference.derivative_dual(cones, -v[i])
        assert_close(dot.x[i], D @ direction[i], 1e-7, "derivative")
        regions.add(int(np.linalg.matrix_rank(D)))
    assert len(regions) > 1 or name == "zero", "the points do not visit several regions"


@pytest.mark.parametrize("name", FAMILIES)
def test_membership_and_complementarity(name):
    problem = well_posed(name, 24)
    sol = gd.solve(*problem.args)
    for s, y in zip(sol.s, sol.y, strict=True):
        assert_close(s, reference.project_primal(problem.cones, s), 1e-12, "s in K")
        assert_close(y, reference.project_dual(problem.cones, y), 1e-12, "y in K*")
        for _, rows in reference.blocks(problem.cones):
            assert abs(s[rows] @ y[rows]) <= 1e-10 * max(1, np.linalg.norm(s) * np.linalg.norm(y))


def assert_same_answer(sol, x, y, s, tolerance: float = 1e-9) -> None:
    assert np.all(sol.ok)
    assert_close(sol.x, x, tolerance, "x")
    assert_close(sol.y, y, tolerance, "y")
    assert_close(sol.s, s, tolerance, "s")


def inner_permutation(rng, cones) -> np.ndarray:
    """A permutation of rows that every cone is indifferent to: only of a second-order one's tail, say."""
    order = []
    for kind, rows in reference.blocks(cones):
        index = np.arange(rows.start, rows.stop)
        fixed = {Z: 0, N: 0, Q: 1}.get(kind, len(index))
        order += [*index[:fixed], *rng.permutation(index[fixed:])]
    return np.array(order)


@pytest.mark.parametrize("name", FAMILIES)
def test_permuted_rows_permute(name, rng):
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    order = inner_permutation(rng, problem.cones)
    moved = gd.solve(problem.P, problem.q, problem.A[:, order], problem.b[:, order], problem.gd_cones)
    assert_same_answer(moved, sol.x, sol.y[:, order], sol.s[:, order])


@pytest.mark.parametrize("name", ["qp with equalities", "many small cones", "mixed", "mixed, no P", "every cone"])
def test_permuted_cones_permute(name, rng):
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    slices = [rows for _, rows in reference.blocks(problem.cones)]
    for _ in range(3):
        pick = rng.permutation(len(slices))
        order = np.concatenate([np.arange(slices[i].start, slices[i].stop) for i in pick])
        cones = gd_cones([problem.cones[i] for i in pick])
        moved = gd.solve(problem.P, problem.q, problem.A[:, order], problem.b[:, order], cones)
        assert_same_answer(moved, sol.x, sol.y[:, order], sol.s[:, order])


@pytest.mark.parametrize("name", FAMILIES)
def test_permuted_variables_permute(name, rng):
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    order = rng.permutation(problem.q.shape[1])
    P = None if problem.P is None else problem.P[:, order][:, :, order]
    moved = gd.solve(P, problem.q[:, order], problem.A[:, :, order], problem.b, problem.gd_cones)
    assert_same_answer(moved, sol.x[:, order], sol.y, sol.s)


@pytest.mark.parametrize("name", FAMILIES)
def test_units_do_not_matter(name, rng):
    """Rows in other units (those of a cone as one), variables in other units, the objective in another currency."""
    problem = well_posed(name, 8)
    units = [10 ** rng.uniform(-2, 2, 1 if scales_as_one(kind) else k) * np.ones(k) for kind, k in problem.cones]
    rows = np.concatenate(units)
    columns = 10 ** rng.uniform(-2, 2, problem.q.shape[1])
    other = stack([scaled(item, rows, columns, 37.0) for item in problem.items()])
    sol = gd.solve(*other.args)
    assert np.all(sol.ok)
    assert_close(sol.x * columns, problem.x, 1e-8, "x")
    assert_close(sol.y * rows / 37, problem.y, 1e-8, "y")
    assert_close(sol.s / rows, problem.s, 1e-8, "s")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "extra", [(N, 1), (Q, 3), (S, 6), (E, 3), (ED, 3), ("power 0.2", 3), ("dual power 0.4", 3)], ids=str
)
def test_an_inactive_cone_changes_nothing(name, extra, rng):
    problem = well_posed(name, 8)
    kind, k = extra
    sol = gd.solve(*problem.args)
    row = rng.standard_normal((8, k, problem.q.shape[1]))
    slack = inside(rng, [extra])
    A = np.concatenate([problem.A, row], axis=1)
    b = np.concatenate([problem.b, (row @ problem.x[..., None])[..., 0] + slack], axis=1)
    more = gd.solve(problem.P, problem.q, A, b, gd_cones([*problem.cones, (kind, k)]))
    m = problem.b.shape[1]
    assert np.all(more.ok)
    assert_close(more.x, sol.x, 1e-9, "x")
    assert_close(more.y[:, :m], sol.y, 1e-9, "y")
    assert_close(more.y[:, m:], np.zeros((8, k)), 1e-10, "multiplier of the new cone")
    assert_close(more.s[:, m:], np.broadcast_to(slack, (8, k)), 1e-9, "slack of the new cone")
    seed = rng.standard_normal(sol.x.shape)
    ours, theirs = more.vjp(x=seed), sol.vjp(x=seed)
    assert_close(ours.b[:, :m], theirs.b, 1e-7, "gradient of b")
    assert_close(ours.b[:, m:], np.zeros((8, k)), 1e-10, "gradient of the new cone")


@pytest.mark.parametrize("cone", [(N, 1), (Q, 1), (S, 1)])
def test_a_half_line_is_a_half_line(cone, rng):
    """SecondOrder(1), PSD(1) and Nonnegative(1) are the same set."""
    problem = feasible_qps(rng, 20, 4, [(Z, 1), *[(N, 1)] * 6])
    other = replace(problem, cones=[(Z, 1), *[cone] * 6])
    joined = replace(problem, cones=[(Z, 1), (N, 6)])
    sol, expected = gd.solve(*other.args), gd.solve(*joined.args)
    assert_same_answer(sol, expected.x, expected.y, expected.s)


def test_linear_function_on_a_ball(rng):
    """Min cᵀx = −‖c‖ and max cᵀx = ‖c‖ over the unit ball, at ∓c/‖c‖."""
    c = rng.standard_normal((30, 5))
    length = np.linalg.norm(c, axis=1)
    A, b = np.vstack([np.zeros(5), -np.eye(5)]), np.eye(6)[0]
    low, high = (gd.solve(None, sign * c, A, b, [gd.SecondOrder(6)]) for sign in (1, -1))
    assert_close(low.obj, -length, 1e-10)
    assert_close(-high.obj, length, 1e-10)
    assert_close(low.x, -c / length[:, None], 1e-10)
    assert_close(high.x, c / length[:, None], 1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "qp",
        "qp with equalities",
        "lp",
        "lp with equalities",
        "socp",
        "mixed",
        "sdp",
        "exponential",
        "power",
        "every cone",
    ],
)
def test_the_dual_problem_has_the_negated_value(name):
    """Max of the dual = min of the primal, the dual handed in as a minimisation over (x, y) with y ∈ K*."""
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    batch, n = problem.q.shape
    n = 0 if problem.P is None else n  # without P the dual has no x
    m = problem.b.shape[1]
    quadratic = np.zeros((batch, n + m, n + m))
    columns = [problem.A.swapaxes(1, 2)]
    if problem.P is not None:
        quadratic[:, :n, :n] = problem.P
        columns.insert(0, problem.P)
    linear = np.concatenate([np.zeros((batch, n)), problem.b], axis=1)
    bounded = [n + i for kind, part in reference.blocks(problem.cones) if kind != Z for i in range(m)[part]]
    signs = np.broadcast_to(-np.eye(n + m)[bounded], (batch, len(bounded), n + m))
    A = np.concatenate([np.concatenate(columns, axis=2), signs], axis=1)
    b = np.concatenate([-problem.q, np.zeros((batch, len(bounded)))], axis=1)
    cones = gd_cones([(Z, problem.q.shape[1]), *((dual_kind(kind), k) for kind, k in problem.cones if kind != Z)])
    dual = gd.solve(quadratic, linear, A, b, cones)
    assert np.all(dual.ok)
    assert_close(-dual.obj, sol.obj, 1e-8)
    assert_close(dual.x[:, n:], problem.y, 1e-7)


def test_scs_style_dict_means_the_same(rng):
    problem = feasible_qps(rng, 4, 6, [(Z, 2), (N, 5), (Q, 3), (Q, 4)])
    by_list = gd.solve(*problem.args)
    by_dict = gd.solve(*problem.data, {"z": 2, "l": 5, "q": [3, 4]})
    assert np.all(by_list.ok)
    np.testing.assert_array_equal(by_dict.x, by_list.x)
    np.testing.assert_array_equal(by_dict.y, by_list.y)
