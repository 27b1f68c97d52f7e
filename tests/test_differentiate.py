"""`differentiate`: points that came from anywhere are judged, completed and differentiated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import WELL_POSED, from_answer, gd_cones, generator, hard, pair, well_posed
from scipy.optimize import linprog

import gpudiff as gd
from gpudiff._margin import margins

GIVEN = {"x": (), "x and y": ("y",), "x and s": ("s",), "x, y and s": ("y", "s")}
POINT = ("x", "y", "s", "obj")
KINDS = ["soc", "psd", "exp", "dual exp", "power 0.3", "dual power 0.7"]


def directions(problem, rng):
    """A tangent of every argument that there is, and a cotangent of every output."""
    dots = {name: rng.standard_normal(a.shape) for name, a in zip("PqAb", problem.data, strict=True) if a is not None}
    if "P" in dots:
        dots["P"] = dots["P"] + np.swapaxes(dots["P"], -1, -2)
    bars = {name: rng.standard_normal(getattr(problem, name).shape) for name in POINT}
    return dots, bars


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", WELL_POSED)
def test_a_point_known_in_part_is_completed(name, given):
    """The planted point is exact and its multipliers are unique: whatever was dropped comes back to rounding."""
    problem = well_posed(name, 2)
    sol = gd.differentiate(*problem.args, problem.x, **{part: getattr(problem, part) for part in GIVEN[given]})
    assert sol.ok.all()
    assert sol.differentiable.all()
    for part in POINT:
        assert_close(getattr(sol, part), getattr(problem, part), 1e-12, part)
    for residual in (sol.primal_residual, sol.dual_residual, sol.gap):
        assert (residual < 1e-12).all()


@pytest.mark.parametrize("name", ["qp with equalities", "lp", "socp", "sdp", "exponential", "power", "every cone"])
def test_derivatives_are_those_of_a_solve(name, rng):
    """1e-9: the point that `solve` polishes is off by up to 1e-12, times the condition of the derivative."""
    problem = well_posed(name, 3)
    sol, solved = gd.differentiate(*problem.args, problem.x), gd.solve(*problem.args)
    dots, bars = directions(problem, rng)
    for part in POINT:
        assert_close(getattr(sol.jvp(**dots), part), getattr(solved.jvp(**dots), part), 1e-9, part)
    for part in dots:
        assert_close(getattr(sol.vjp(**bars), part), getattr(solved.vjp(**bars), part), 1e-9, part)
    assert sol.method == solved.method


@pytest.mark.parametrize("name", ["qp", "sdp", "every cone"])
def test_derivatives_against_finite_differences_in_extended_precision(name, rng):
    problem = well_posed(name, 1).item(0)
    dots, bars = directions(problem, rng)
    sol = gd.differentiate(*problem.args, problem.x)
    moved = reference.finite_difference(problem, reference.exact(problem), **dots)
    dot, bar = sol.jvp(**dots), sol.vjp(**bars)
    for part in POINT:
        assert_close(getattr(dot, part), getattr(moved, part).astype(float), 1e-8, part)
    forward = sum(np.sum(bars[part] * getattr(dot, part)) for part in POINT)
    backward = sum(np.sum(dots[part] * getattr(bar, part)) for part in dots)
    assert_close(forward, backward, 1e-10)


@pytest.mark.parametrize("name", ["qp with equalities", "mixed", "small psd cones", "every cone"])
def test_a_point_of_clarabel(name, rng):
    """Clarabel at its default tolerance: SOLVED with its y and s; without them ALMOST_SOLVED or better, derivatives as
    good as that; polished it is what `solve` gives.
    """
    problem = well_posed(name, 1).item(0)
    x, y, s = (part.astype(float) for part in reference.clarabel_solution(problem, 1e-8))
    assert gd.differentiate(*problem.args, x, y, s).ok
    solved = gd.solve(*problem.args)
    dots, _ = directions(problem, rng)
    raw, polished = gd.differentiate(*problem.args, x), gd.differentiate(*problem.args, x, polish=True)
    assert raw.status in (gd.Status.SOLVED, gd.Status.ALMOST_SOLVED)
    assert_close(raw.x, x, 0)
    assert polished.ok
    for part in POINT:
        assert_close(getattr(raw.jvp(**dots), part), getattr(solved.jvp(**dots), part), 1e-3, part)
        assert_close(getattr(polished, part), getattr(solved, part), 1e-11, part)
        assert_close(getattr(polished.jvp(**dots), part), getattr(solved.jvp(**dots), part), 1e-8, part)


def test_a_vertex_of_scipy():
    """The production LP of the examples by HiGHS's simplex method, which gives x alone here."""
    q, b = np.array([-3.0, -5.0]), np.array([100.0, 90.0, 0.0, 0.0])
    A = np.array([[2.0, 1.0], [1.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
    x = linprog(q, A[:2], b[:2]).x
    sol = gd.differentiate(None, q, A, b, [gd.Nonnegative(4)], x)
    assert sol.ok
    assert_close(sol.y, np.array([0.8, 1.4, 0, 0]), 1e-12)
    assert_close(sol.jvp(b=[1.0, 0, 0, 0]).x, np.array([0.6, -0.2]), 1e-12)
    assert_close(sol.vjp(x=[1.0, -0.5]).b, np.array([0.7, -0.4, 0, 0]), 1e-12)


@pytest.mark.parametrize("name", [name for name in WELL_POSED if name != "unconstrained"])
def test_points_with_errors_of_1e_6(name):
    """Active rows are found with a tolerance; y is off by 1e-6 times a condition number (1e3 at most here)."""
    problem = well_posed(name, 2)
    noise = generator("noise", name).uniform(-1e-6, 1e-6, problem.x.shape)
    sol = gd.differentiate(*problem.args, problem.x + noise)
    assert (sol.status <= gd.Status.ALMOST_SOLVED).all()
    assert_close(sol.y, problem.y, 1e-3, "y")
    assert (sol.primal_residual + sol.dual_residual + sol.gap > 1e-9).all()


@pytest.mark.parametrize(
    ("kind", "state"), [*product(KINDS, ["surface", "inside", "tip"]), ("exp", "face"), ("dual exp", "face")]
)
def test_multipliers_of_each_face(kind, state, rng):
    """One cone with s on its surface, inside, at the apex or on a flat face, with as many variables as rows."""
    rows = {"soc": 4, "psd": 6}.get(kind, 3)
    s, y = pair(rng, kind, rows, 0, "rank 1" if kind == "psd" and state == "surface" else state)
    A = rng.standard_normal((rows, rows))
    problem = from_answer(np.eye(rows), A, [(kind, rows)], rng.standard_normal(rows), y, s)
    for given in ({}, {"s": problem.s}):
        sol = gd.differentiate(*problem.args, problem.x, **given)
        assert sol.ok
        assert_close(sol.y, problem.y, 1e-11)


def test_faces_of_power_cones(rng):
    """s = (0, t, 0) leaves y = (r, 0, 0), and s = (t, 0, 0) y = (0, r, 0): edges, where the surface is no guide."""
    for cone in (gd.Power(0.3), gd.DualPower(0.6)):
        for k in range(2):
            s, y = np.zeros(3), np.zeros(3)
            s[1 - k], y[k] = 2.0, 3.0
            A, x = rng.standard_normal((3, 3)), rng.standard_normal(3)
            sol = gd.differentiate(np.eye(3), -x - A.T @ y, A, A @ x + s, [cone], x, s=s)
            assert sol.ok
            assert_close(sol.y, y, 1e-11)


@pytest.mark.parametrize(
    "name", ["redundant inequalities", "redundant equalities", "degenerate lp", "no strict interior"]
)
def test_multipliers_that_are_not_unique_are_still_multipliers(name):
    """Nonnegative least squares where the least-norm answer is not in K*: the status says that y is one."""
    problem = hard(name, 4)
    solved = gd.solve(*problem.args)
    sol = gd.differentiate(*problem.args, solved.x)
    assert sol.ok.all()
    assert_close(sol.obj, problem.obj, 1e-9)


def test_duplicated_rows_share_their_multiplier():
    """min ½‖x − c‖² s.t. x₁ ≤ 0 three times: y₁ + y₂ + y₃ = 1, of least norm a third each."""
    A, b = np.tile([[1.0, 0.0]], (3, 1)), np.zeros(3)
    sol = gd.differentiate(np.eye(2), [-1.0, -2.0], A, b, [gd.Nonnegative(3)], [0.0, 2.0])
    assert_close(sol.y, np.full(3, 1 / 3), 1e-14)


def test_wrong_points_are_reported():
    """min ½(x − 3)² s.t. x ≤ 1: each way to be wrong shows in the measure that it belongs to."""
    data = (np.eye(1), [-3.0], [[1.0]], [1.0], [gd.Nonnegative(1)])

    def judged(x, y, s):
        return gd.differentiate(*data, [x], [y], [s])

    right = judged(1.0, 2.0, 0.0)
    assert right.ok
    assert right.primal_residual == right.dual_residual == right.gap == 0
    infeasible = judged(2.0, 1.0, 0.0)
    assert_close(infeasible.primal_residual, 1.0, 1e-15)
    outside = judged(2.0, 1.0, -1.0)  # A x + s = b holds, s ≥ 0 does not
    assert_close(outside.primal_residual, 1.0, 1e-15)
    not_stationary = judged(1.0, 1.5, 0.0)
    assert_close(not_stationary.dual_residual, 0.5, 1e-15)
    negative = judged(4.0, -1.0, -3.0)
    assert_close(negative.dual_residual, 1.0, 1e-15)
    not_complementary = judged(0.0, 3.0, 1.0)
    assert_close(not_complementary.gap, 3.0, 1e-15)  # sᵀy
    for sol in (infeasible, outside, not_stationary, negative, not_complementary):
        assert sol.status == gd.Status.MAX_ITERATIONS
        assert not sol.differentiable
        assert np.isnan(sol.x).all()
        assert sol.jvp(b=[1.0]).x == 0
        assert sol.vjp(x=[1.0]).b == 0


def test_the_statuses_have_the_tolerances_that_are_promised():
    data = (np.eye(1), [-3.0], [[1.0]], [1.0], [gd.Nonnegative(1)])
    # Residuals of ε beside terms of 3, a gap of about 2ε beside an objective of 2.5.
    expected = {1e-9: gd.Status.SOLVED, 2e-5: gd.Status.ALMOST_SOLVED, 2e-3: gd.Status.MAX_ITERATIONS}
    for error, status in expected.items():
        assert gd.differentiate(*data, [1.0 + error]).status == status
    assert gd.differentiate(*data, [1.0 + 2e-5], settings=gd.Settings(tol_feas=1e-4, tol_gap_rel=1e-4)).ok


def test_wrong_points_are_polished_to_the_answer(rng):
    problem = well_posed("every cone", 3)
    sol = gd.differentiate(*problem.args, problem.x + rng.standard_normal(problem.x.shape), polish=True)
    assert sol.ok.all()
    assert_close(sol.x, problem.x, 1e-11)
    assert (sol.iterations > 0).all()


def test_failures_as_the_settings_say():
    data = (np.eye(1), [-3.0], [[1.0]], [1.0], [gd.Nonnegative(1)], [2.0])
    zeros = gd.differentiate(*data, settings=gd.Settings(on_failure="zero"))
    assert zeros.x == zeros.y == zeros.s == zeros.obj == 0
    with pytest.raises(gd.SolveError) as caught:
        gd.differentiate(*data, settings=gd.Settings(on_failure="raise"))
    assert_close(caught.value.solution.primal_residual, 1.0, 1e-15)


@pytest.mark.parametrize("polish", [False, True])
@pytest.mark.parametrize("where", ["x", "y", "s", "q", "A"])
def test_what_is_not_finite_concerns_its_problem_alone(where, polish, rng):
    problem = well_posed("mixed", 4)
    clean = gd.differentiate(*problem.args, problem.x, problem.y, problem.s, polish=polish)
    arrays = dict(zip("PqAb", problem.data, strict=True)) | {name: getattr(problem, name) for name in "xys"}
    arrays[where] = arrays[where].copy()
    arrays[where][2].flat[1] = np.nan if where != "y" else np.inf
    sol = gd.differentiate(**arrays, cones=problem.gd_cones, polish=polish)
    others = [0, 1, 3]
    assert sol.status[2] == gd.Status.INVALID_DATA
    assert np.isnan(sol.x[2]).all()
    assert not sol.differentiable[2]
    for name in (*RESULT_FIELDS, "margin"):
        assert_same_bits(getattr(sol, name)[others], getattr(clean, name)[others], name)
    q_dot = rng.standard_normal(problem.q.shape)
    dot, expected = sol.jvp(q=q_dot), clean.jvp(q=q_dot)
    assert (dot.x[2] == 0).all()
    assert_same_bits(dot.x[others], expected.x[others])


@pytest.mark.parametrize("given", GIVEN)
def test_numbers_that_overflow_concern_their_problem_alone(given):
    """1e300 times 1e300 is no number; the point is finite, so that it is a wrong one, not an invalid one."""
    problem = well_posed("every cone", 3)
    arrays = dict(zip("PqAb", problem.data, strict=True)) | {
        name: getattr(problem, name) for name in ("x", *GIVEN[given])
    }
    clean = gd.differentiate(**arrays, cones=problem.gd_cones)
    arrays |= {name: arrays[name].copy() for name in "Ax"}
    arrays["A"][1] *= 1e300
    arrays["x"][1] = 1e300
    sol = gd.differentiate(**arrays, cones=problem.gd_cones)
    assert sol.status.tolist() == [gd.Status.SOLVED, gd.Status.MAX_ITERATIONS, gd.Status.SOLVED]
    for name in (*RESULT_FIELDS, "margin"):
        assert_same_bits(getattr(sol, name)[[0, 2]], getattr(clean, name)[[0, 2]], name)
    assert (sol.vjp(x=np.ones(20)).q[1] == 0).all()


def test_without_constraints():
    sol = gd.differentiate(np.eye(2), [1.0, -2.0], None, None, [], [-1.0, 2.0])
    assert sol.ok
    assert sol.margin == np.inf
    assert_close(sol.jvp(q=[1.0, 0.0]).x, np.array([-1.0, 0.0]), 1e-14)
    assert gd.differentiate(np.eye(2), [1.0, -2.0], None, None, {}, [-1.0, 1.0]).status == gd.Status.MAX_ITERATIONS


@pytest.mark.parametrize("name", ["qp with equalities", "mixed", "small psd cones", "every cone"])
def test_the_same_bits_alone_and_in_any_batch(name):
    problem = well_posed(name, 5)
    x = problem.x + generator("bits", name).uniform(-1e-7, 1e-7, problem.x.shape)
    whole = gd.differentiate(*problem.args, x)
    for i, alone in enumerate(problem.items()):
        sol = gd.differentiate(*alone.args, x[i])
        for field in (*RESULT_FIELDS, "margin"):
            assert_same_bits(getattr(sol, field), getattr(whole, field)[i], field)


def test_absent_rows():
    """+inf in b: y = 0 and s = +inf there, whatever was given."""
    data = (np.eye(2), [-3.0, 1.0], np.eye(2), [1.0, np.inf], [gd.Nonnegative(2)])
    sol = gd.differentiate(*data, [1.0, -1.0])
    given = gd.differentiate(*data, [1.0, -1.0], [2.0, np.nan], [0.0, np.nan])
    for found in (sol, given):
        assert found.ok
        assert_close(found.y, np.array([2.0, 0.0]), 1e-15)
        assert found.s[1] == np.inf
        assert_close(found.jvp(b=[1.0, 5.0]).x, np.array([1.0, 0.0]), 1e-15)


def test_batch_axes_of_data_and_point_meet(rng):
    """One problem and many points, all of them the same solution: each is judged, and gradients are sums."""
    problem = well_posed("mixed", 1).item(0)
    sol = gd.differentiate(*problem.args, np.tile(problem.x, (3, 1)), problem.y)
    assert sol.ok.tolist() == [True] * 3
    bar = rng.standard_normal(problem.x.shape)
    alone = gd.differentiate(*problem.args, problem.x)
    assert_close(sol.vjp(x=bar).q, 3 * alone.vjp(x=bar).q, 1e-13)
    none = gd.differentiate(problem.P, np.zeros((0, 7)), problem.A, problem.b, problem.gd_cones, problem.x)
    assert none.status.shape == (0,)


def test_float32(rng):
    problem = well_posed("every cone", 2)
    single = problem.astype(np.float32)
    x = gd.solve(*single.args).x
    sol = gd.differentiate(*single.args, x.astype(float))
    assert sol.x.dtype == np.float32
    assert (sol.status <= gd.Status.ALMOST_SOLVED).all()
    dot = rng.standard_normal(problem.q.shape)
    assert_close(sol.jvp(q=dot).x, gd.solve(*problem.args).jvp(q=dot).x, 2e-2)


def test_what_is_refused():
    data = (np.eye(2), np.zeros(2), np.eye(2), np.ones(2), [gd.Nonnegative(2)])
    with pytest.raises(gd.ShapeError, match=r"x: expected shape \(2,\) or \(B, 2\) \(n=2 from q\), got \(3,\)"):
        gd.differentiate(*data, np.zeros(3))
    with pytest.raises(gd.ShapeError, match=r"y: expected shape \(2,\)"):
        gd.differentiate(*data, np.zeros(2), np.zeros(1))
    with pytest.raises(gd.ShapeError, match="s: expected a batch axis of extent 2"):
        gd.differentiate(*data, np.zeros((2, 2)), s=np.zeros((3, 2)))
    with pytest.raises(gd.DataError, match="P: expected symmetric matrices"):
        gd.differentiate([[1.0, 0.5], [0.0, 1.0]], *data[1:], np.zeros(2))
    with pytest.raises(gd.BackendError, match="backend: expected one of"):
        gd.differentiate(*data, np.zeros(2), backend="abacus")


# ---- margins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["surface", "inside", "tip"])
def test_margins_are_those_of_a_solve(kind, state, rng):
    """With A = P = I and no large numbers there is nothing to equilibrate, and both look at the same y − s."""
    rows = {"soc": 4, "psd": 6}.get(kind, 3)
    found = []
    for _ in range(4):
        s, y = pair(rng, kind, rows, 0, "rank 1" if kind == "psd" and state == "surface" else state)
        size = max(np.abs(s).max(), np.abs(y).max())
        found.append(from_answer(np.eye(rows), np.eye(rows), [(kind, rows)], np.zeros(rows), y / size, s / size))
    for problem in found:
        solved = gd.solve(*problem.args)
        ours = margins(problem.y, problem.s, problem.gd_cones)
        assert ours > 1e-4
        assert 0.2 < ours / solved.margin < 5


def test_margin_of_rows_and_kinks():
    cones = [gd.Zero(1), gd.Nonnegative(2), gd.SecondOrder(3)]
    # v = (5 | 1, −0.5 | 0.1, 2, 0): |v₀ − ‖v₁‖| = 1.9; the size of a zero row's multiplier does not count
    y = np.array([5.0, 1.0, 0.0, 1.05, 1.05, 0.0])
    s = np.array([0.0, 0.0, 0.5, 0.95, -0.95, 0.0])
    assert_close(margins(y, s, cones), 0.5 / 2, 1e-15)
    s[2] = 0.0  # weakly active
    assert margins(y, s, cones) == 0
    s[2] = np.inf  # absent
    assert_close(margins(y, s, cones), 1 / 2, 1e-15)
    assert margins(y[:1], s[:1], cones[:1]) == np.inf


@pytest.mark.parametrize("name", ["weakly active", "weakly active, soc", "weakly active, psd"])
def test_weakly_active_points_are_not_differentiable(name):
    problem = hard(name, 3)
    sol = gd.differentiate(*problem.args, problem.x, problem.y, problem.s)
    assert sol.ok.all()
    assert not sol.differentiable.any()


@pytest.mark.parametrize("kind", ["exp", "dual exp", "power 0.3", "dual power 0.7"])
def test_margin_near_a_curved_surface(kind, rng):
    """From a point of the surface 1e-4 along the normal, either way: that is the distance, to first order."""
    for _ in range(10):
        s, y = pair(rng, kind, 3, 0, "surface")
        distance = 1e-4 * np.abs(s).max()
        inward = distance * y / np.linalg.norm(y)
        cones = gd_cones([(kind, 3)])
        inside = margins(np.zeros(3), s + inward, cones) * np.abs(s + inward).max()
        outside = margins(inward, s, cones) * np.abs(inward - s).max()
        assert_close(np.array([inside, outside]) / distance, np.ones(2), 0.02)


# ---- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_torch(rng):
    """Tensors in, tensors out; autograd's gradient is the vjp, and nothing flows into the given point."""
    torch = pytest.importorskip("torch")
    problem = well_posed("every cone", 2)
    data = [torch.from_numpy(a).requires_grad_() for a in problem.data]
    x = torch.from_numpy(problem.x).requires_grad_()
    sol = gd.differentiate(*data, problem.gd_cones, x)
    assert isinstance(sol.margin, torch.Tensor)
    assert_close(sol.x.detach(), problem.x, 0)
    weight = rng.standard_normal(problem.x.shape)
    ((sol.x * torch.from_numpy(weight)).sum() + sol.obj.sum()).backward()
    expected = gd.differentiate(*problem.args, problem.x).vjp(x=weight, obj=np.ones(2))
    for tensor, name in zip(data, "PqAb", strict=True):
        assert_same_bits(tensor.grad.numpy(), getattr(expected, name), name)
    assert x.grad is None
    plain = gd.differentiate(*problem.args, x)  # one tensor makes all results tensors
    assert isinstance(plain.x, torch.Tensor)
    polished = gd.differentiate(*data, problem.gd_cones, x + 1e-5, polish=True)
    assert polished.x.requires_grad
    assert_close(polished.x.detach(), problem.x, 1e-11)
