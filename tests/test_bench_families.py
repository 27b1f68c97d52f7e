"""The benchmark's families are well posed, its reference is exact, and solvers are right on the families they take."""

from __future__ import annotations

import numpy as np
import pytest

from gpudiff.bench import runner, warm
from gpudiff.bench.families import FAMILIES, Batch, Family, generate
from gpudiff.bench.measure import Plan, run_family
from gpudiff.bench.ours import Gpudiff
from gpudiff.bench.peers import PEERS
from gpudiff.bench.reference import clarabel_start, project_dual, solve, vjp
from gpudiff.bench.reference_cones import blocks

COUNT = 4  # problems looked at per family
CONIC = ("sdp-3", "sdp-5", "lmi", "entropy", "logistic", "power", "gp")
EVERY_CONE = {"z": 1, "l": 2, "q": [4, 3], "s": [2, 4], "ep": 2, "ed": 2, "p": [0.3, -0.3, 0.5, -0.8]}
family_cases = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


@family_cases
def test_sizes_are_those_of_the_name(family):
    batch = generate(family, 3, seed=0)
    n, m = batch.n, batch.m
    kind, *sizes = family.name.split("-")
    if len(sizes) == 2:
        assert [n, m] == list(map(int, sizes))
    if kind == "sdp":
        assert batch.cones["s"] == list(map(int, sizes))
    assert sum(rows.stop - rows.start for _, rows, _ in blocks(batch.cones)) == m
    assert batch.q.shape == (3, n)
    assert batch.A.shape == ((m, n) if batch.shared else (3, m, n))


@family_cases
def test_every_problem_is_new_and_reproducible(family):
    batch, again, other = generate(family, 3, 0), generate(family, 3, 0), generate(family, 3, 1)
    np.testing.assert_array_equal(batch.q, again.q)
    np.testing.assert_array_equal(batch.A, again.A)
    assert not np.array_equal(batch.q, other.q)
    assert len(np.unique(batch.q, axis=0)) == 3
    if batch.P is not None:
        np.testing.assert_array_equal(batch.P, np.swapaxes(batch.P, -1, -2))


@family_cases
def test_problems_are_well_posed(family):
    """The reference solves them; the KKT conditions hold to 1e-12; strictly complementary, and some rows active."""
    sources = ("qp", "optnet", "mpc", "portfolio")
    count = COUNT if family.name.startswith(sources) else 4 * COUNT  # the others are built to be so: look harder
    batch = generate(family, count, seed=7)
    for i in range(count):
        point = solve(batch, i)
        P, q, A, b = batch.problem(i)
        x, y, s = (np.asarray(v, float) for v in (point.x, point.y, point.s))
        scale = 1 + max(np.abs(q).max(), np.abs(b).max())
        stationarity = q + A.T @ y + (0 if P is None else P @ x)
        assert np.abs(stationarity).max() <= 1e-12 * scale
        assert np.abs(A @ x + s - b).max() <= 1e-12 * scale
        assert abs(s @ y) <= 1e-12 * scale**2
        assert outside(s, batch.cones) <= 1e-12 * scale
        assert outside_dual(y, batch.cones) <= 1e-12 * scale
        assert point.margin > 1e-7
        assert np.abs(y[batch.cones["z"] :]).max() > 1e-3
        assert np.linalg.cond(np.asarray(point.jacobian, float)) < 1e8


def outside(s, cones) -> float:
    """By how much the worst of the inequalities that define the cones is violated."""
    found = [violation(key, np.asarray(s[rows], float), parameter) for key, rows, parameter in blocks(cones)]
    return float(max(0.0, *found))


def violation(key, v, parameter) -> float:
    match key:
        case "z":
            return np.abs(v).max()
        case "l":
            return -v.min()
        case "q":
            return np.linalg.norm(v[1:]) - v[0]
        case "s":
            return -np.linalg.eigvalsh(matrix(v)).min()
        case "ep":
            return outside_exponential(*v)
        case "ed":
            return outside_exponential(-v[1], -v[0], np.e * v[2])
        case _:
            return outside_power(v, parameter)


def outside_dual(y, cones) -> float:
    """The same for the dual cones."""
    worst = 0.0
    for key, rows, parameter in blocks(cones):
        swapped = {"ep": "ed", "ed": "ep"}.get(key, key)
        size = rows.stop - rows.start
        one = {"z": 0, "l": 0, "q": []}
        one[swapped] = {"l": size, "q": [size], "s": [int(parameter)], "p": [-parameter]}.get(key, 1)
        worst = max(worst, 0.0 if key == "z" else outside(y[rows], one))
    return worst


def matrix(v):
    """The symmetric matrix of a lower triangle, column by column."""
    k = int(np.sqrt(2 * len(v)))
    found, entries = np.zeros((k, k)), iter(v)
    for j in range(k):
        for i in range(j, k):
            found[i, j] = found[j, i] = next(entries) / (1 if i == j else np.sqrt(2))
    return found


def outside_exponential(x, y, z) -> float:
    """Of a point that is moved inwards by rounding: by itself, that may change x/y at will."""
    x, y, z = x - 1e-15, y + 1e-15, z + 1e-15
    return y * np.exp(x / y) - z if y > 0 else max(-y, x, -z)


def outside_power(v, alpha) -> float:
    x, y, z = v
    a = abs(alpha)
    if alpha < 0:
        x, y = x / a, y / (1 - a)
    return max(-x, -y, abs(z) - max(x, 0.0) ** a * max(y, 0.0) ** (1 - a))


@pytest.mark.parametrize("name", ["qp-8-16", "qp-16-36", "lp-20-60", "socp-10-30", *CONIC])
def test_reference_gradients_agree_with_differences(name):
    """In extended precision a central difference with step 1e-5 is good to about 1e-9."""
    batch = generate(named(name), 1, seed=5)
    rng = np.random.default_rng(0)
    x_bar = rng.standard_normal(batch.n)
    gradient = vjp(solve(batch, 0), x_bar)
    dots = {key: rng.standard_normal(getattr(batch, key).shape) for key in ("q", "A", "b")}
    if batch.P is not None:
        dots["P"] = rng.standard_normal(batch.P.shape)
        dots["P"] += np.swapaxes(dots["P"], -1, -2)
        curved = np.diagonal(batch.P, axis1=1, axis2=2) > 0  # elsewhere P would cease to be semidefinite
        dots["P"] *= curved[:, :, None] & curved[:, None, :]
    step = 1e-5

    def moved(sign: float) -> np.longdouble:
        data = {key: getattr(batch, key) + sign * step * dot for key, dot in dots.items()}
        return x_bar @ solve(Batch(data.get("P"), data["q"], data["A"], data["b"], batch.cones), 0).x

    difference = float((moved(1.0) - moved(-1.0)) / (2 * step))
    exact = sum(float((getattr(gradient, key) * dot[0]).sum()) for key, dot in dots.items())
    assert exact == pytest.approx(difference, rel=1e-6, abs=1e-7)


def test_projection_satisfies_moreau_and_its_derivative():
    """y ∈ K*, s = y − v ∈ K and s ⟂ y say that y = Π(v); in extended precision a difference is good to 1e-12."""
    rng = np.random.default_rng(0)
    size = sum(rows.stop - rows.start for _, rows, _ in blocks(EVERY_CONE))
    differences = 0
    for _ in range(60):
        v = rng.standard_normal(size).astype(np.longdouble)
        y, D, margin = project_dual(v, EVERY_CONE)
        assert abs(float((y * (y - v)).sum())) < 1e-16  # orthogonal
        assert outside_dual(y, EVERY_CONE) < 1e-14
        assert outside(y - v, EVERY_CONE) < 1e-14
        step = 1e-8 * rng.standard_normal(size)
        if margin > 1e-2:
            differences += 1
            moved = [project_dual(v + sign * step, EVERY_CONE)[0] for sign in (1, -1)]
            np.testing.assert_allclose(
                np.asarray(moved[0] - moved[1], float), np.asarray(2 * D @ step, float), atol=1e-7 * 1e-8
            )
    assert differences > 10


def alone(key: str, parameter: float, v) -> tuple[np.ndarray, np.ndarray, float]:
    """Π of a primal cone of three rows, by way of the dual."""
    cones = {"z": 0, "l": 0, "q": [], key: [parameter] if key == "p" else 1}
    y, D, margin = project_dual(-np.array(v, np.longdouble), cones)
    return np.asarray(y + v, float), np.eye(3) - np.asarray(D, float), margin


def test_projection_onto_faces():
    p, D, margin = alone("ep", 0, [-2.0, -1.0, 0.5])
    np.testing.assert_array_equal(p, [-2.0, 0.0, 0.5])
    np.testing.assert_array_equal(D, np.diag([1.0, 0.0, 1.0]))
    assert margin == 0.5
    for v in ([-1.0, 3.0, 0.0], [3.0, -1.0, 0.0]):
        p, D, margin = alone("p", 0.5, v)
        np.testing.assert_array_equal(p, np.maximum(v, 0.0))
        moved, _, _ = alone("p", 0.5, [*v[:2], 1e-5])
        np.testing.assert_allclose(D, np.diag([v[0] > 0, v[1] > 0, 3.0 / 5.0]), rtol=1e-15)
        assert moved[2] / 1e-5 == pytest.approx(D[2, 2], rel=1e-8)
        assert margin == 1.0
        for alpha in (0.3, 0.7):
            moved, _, _ = alone("p", alpha, [*v[:2], 1e-60])
            assert moved[2] / 1e-60 == pytest.approx(alone("p", alpha, v)[1][2, 2], abs=1e-6)


@pytest.mark.parametrize(("key", "parameter"), [("ep", 0.0), ("p", 0.3), ("p", 0.7)])
def test_margins_are_distances(key, parameter):
    """From a point of the surface a little way along the normal, into the cone or into its polar, and between both."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        v = rng.standard_normal(3)
        p, D, margin = alone(key, parameter, v)
        y = p - v
        away = min(np.linalg.norm(p), np.linalg.norm(y))
        if away < 0.1 or (key == "ep" and v[0] <= 0 and v[1] <= 0):  # in the cone, in its polar or over a face
            continue
        assert margin == pytest.approx(away, rel=1e-12)
        assert np.linalg.matrix_rank(D, tol=1e-12) == 2
        for point, rank in ((p + 1e-6 * y / np.linalg.norm(y), 3), (-y - 1e-6 * p / np.linalg.norm(p), 0)):
            _, D, margin = alone(key, parameter, point)
            assert margin == pytest.approx(1e-6, rel=0.1)
            assert np.linalg.matrix_rank(D) == rank


def test_clarabel_takes_every_cone():
    """The nearest point of a product of all cones: matrices in its order, dual cones as images of primal ones."""
    rng = np.random.default_rng(2)
    size = sum(rows.stop - rows.start for _, rows, _ in blocks(EVERY_CONE))
    v = rng.standard_normal(size)
    y, _, _ = project_dual(-v.astype(np.longdouble), EVERY_CONE)
    found = clarabel_start(np.eye(size), -v, -np.eye(size), np.zeros(size), EVERY_CONE)
    for mine, exact in zip(found, (v + y, y, v + y), strict=True):
        np.testing.assert_allclose(mine, np.asarray(exact, float), atol=1e-5)
    batch = Batch(np.eye(size)[None], -v[None], -np.eye(size)[None], np.zeros((1, size)), EVERY_CONE)
    np.testing.assert_allclose(np.asarray(solve(batch, 0).x, float), np.asarray(v + y, float), atol=1e-15)


def test_clarabel_as_a_peer():
    """The one peer that is always installed; it takes every family, shared or not."""
    (clarabel,) = runner.select_peers("clarabel")
    for name in ("qp-16-36", "mpc-30-120", "lp-20-60", "socp-10-30", "socp-30-55", "portfolio-50-51", *CONIC):
        batch = generate(named(name), 4, seed=1)
        outcome = clarabel.prepare(batch, False).forward()
        for i in range(4):
            exact = np.asarray(solve(batch, i).x, float)
            assert np.abs(outcome.x[i] - exact).max() <= 1e-3 * max(1.0, np.abs(exact).max()), name


@pytest.mark.parametrize("name", ["moreau-ipm", "diffcp", "scs"])
@pytest.mark.parametrize("case", ["mpc-30-120", "socp-10-30", *CONIC])
def test_conic_peers_are_right(name, case):
    (peer,) = (peer for peer in runner.select_peers("all") if peer.name == name)
    batch = generate(named(case), 6, 0)
    if peer.unavailable() is not None or not peer.supports(batch):
        pytest.skip("not installed, or not made for it")
    (record,), _ = run_family(named(case), [peer], Plan(seconds=0.0, repeats=1, sample=6, seed=0, batch=6), print)
    assert record.error is None
    assert record.unsolved == 0
    assert record.correct
    assert record.correct_gradient == peer.differentiates


def test_peers_are_asked_for_what_they_can_solve():
    one = {family.name: generate(family, 1, 0) for family in FAMILIES}
    takes = {peer.name: {name for name, batch in one.items() if peer.supports(batch)} for peer in PEERS}
    linear, everything = {family.name for family in FAMILIES if warm.applies(family)}, set(one)
    for name in ("daqp", "piqp", "proxqp", "moreau-as"):
        assert takes[name] == linear
    assert takes["qoco"] == linear | {"socp-10-30", "socp-30-55"}
    for name in ("clarabel", "scs", "moreau-ipm"):
        assert takes[name] == everything
    assert takes["diffcp"] == {name for name, batch in one.items() if batch.P is None} - {"power"}
    dual = Batch(None, np.ones((1, 3)), -np.eye(3)[None], np.zeros((1, 3)), {"z": 0, "l": 0, "q": [], "ed": 1})
    assert {peer.name for peer in PEERS if peer.supports(dual)} == {"clarabel", "scs"}


@family_cases
def test_gpudiff_is_right_on_every_family(family):
    plan = Plan(seconds=0.0, repeats=1, sample=COUNT, seed=11, batch=COUNT)
    (record,), facts = run_family(family, [Gpudiff("cpu")], plan, lambda _: None)
    assert record.error is None
    assert record.unsolved == 0
    assert record.x_error_max <= 1e-8
    assert record.gradient_error_max <= 1e-6
    assert facts["reference_residual"] <= 1e-15
