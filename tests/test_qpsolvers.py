"""`backend="qpsolvers:<solver>"`: points of other solvers are judged, never believed, and differentiated by gpudiff."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import N, Z, feasible_qps, infeasible, unbounded, well_posed

import gpudiff as gd
from gpudiff.given import qpsolvers as backend

qpsolvers = pytest.importorskip("qpsolvers")

SOLVERS = ("clarabel", "cvxopt", "daqp", "highs", "osqp", "piqp", "proxqp", "quadprog", "scs")
STRICT = ("quadprog",)  # wants a positive definite P
SLOW = ("osqp", "scs", "proxqp")  # does not come to the vertex of an LP in the iterations that it has
POINT = ("x", "y", "z", "z_box", "obj")
DATA = ("P", "q", "G", "h", "A", "b", "lb", "ub")


@pytest.fixture(params=SOLVERS)
def solver(request):
    if request.param not in qpsolvers.available_solvers:
        pytest.skip("not installed")
    return request.param


@pytest.fixture
def fake(monkeypatch):
    """Registers a function of a qpsolvers.Problem as a solver; what it returns are the fields of its solution."""

    def register(answer):
        def solve(problem, **options):
            return SimpleNamespace(**{"found": True, "x": None, "y": None, "z": None, **answer(problem, **options)})

        monkeypatch.setitem(qpsolvers.solvers.solve_function, "fake", solve)
        monkeypatch.setattr(qpsolvers, "available_solvers", [*qpsolvers.available_solvers, "fake"])
        return "qpsolvers:fake"

    return register


def truth(problem):
    """The point that gpudiff itself finds for a problem as qpsolvers has it."""
    P, q, G, h, A, b, _, _ = problem.unpack()
    sol = gd.solve_qp(P, q, G, h, A, b)
    return {"x": sol.x, "y": sol.y, "z": sol.z}


def box_qps(rng, batch=4, n=6):
    """QPs with everything: inequalities of which one is absent, an equality, bounds of which one is infinite."""
    M = rng.standard_normal((batch, n, n))
    P = M @ M.swapaxes(1, 2) + np.eye(n)
    h, ub = np.array([0.3, np.inf, 0.5, 0.4]), np.full(n, 0.2)
    ub[3] = np.inf
    arrays = ((P + P.swapaxes(1, 2)) / 2, 2 * rng.standard_normal((batch, n)), rng.standard_normal((4, n)), h)
    rest = (rng.standard_normal((1, n)), np.array([0.05]), np.full(n, -0.25), ub)
    return dict(zip(DATA, (*arrays, *rest), strict=True))


FAMILIES = ("qp", "qp with equalities", "lp with equalities", "qp, singular P", "equalities only", "unconstrained")


@pytest.mark.parametrize("name", FAMILIES)
def test_planted_answers(solver, name):
    """Polished to rounding; as the solver left it within 1e-4, tolerances being 1e-8 of its own kind of residuals."""
    if solver in STRICT and ("lp" in name or "singular" in name):
        pytest.skip("wants a positive definite P")
    if solver in SLOW and "lp" in name:
        pytest.skip("does not get there")
    problem = well_posed(name, 2)
    polished = gd.solve(*problem.args, backend=f"qpsolvers:{solver}")
    assert polished.backend == f"qpsolvers:{solver}"
    ok = polished.ok
    # HiGHS calls the first of these optimal at a point that is none, off by 4: what counts is that we do not.
    assert ok.all() or (solver == "highs" and "singular" in name)
    for part in ("x", "y", "s", "obj"):
        assert_close(getattr(polished, part)[ok], getattr(problem, part)[ok], 1e-11, part)
    raw = gd.solve(*problem.args, gd.Settings(polish=False), backend=f"qpsolvers:{solver}")
    assert (raw.status[ok] <= gd.Status.ALMOST_SOLVED).all()
    for part in ("x", "y", "s", "obj"):
        assert_close(getattr(raw, part)[ok], getattr(problem, part)[ok], 1e-4, part)
    assert (raw.iterations == 0).all()


def test_the_fields_and_derivatives_of_a_qp(solver, rng):
    """All eight arguments, with an absent row and an absent bound: what gpudiff's own solve gives."""
    data = box_qps(rng)
    sol, own = gd.solve_qp(**data, backend=f"qpsolvers:{solver}"), gd.solve_qp(**data)
    assert sol.ok.all()
    assert own.differentiable.all()
    assert_close(sol.differentiable, own.differentiable, 0)
    bars = {part: rng.standard_normal(np.shape(getattr(own, part))) for part in POINT}
    dots = {name: rng.standard_normal(array.shape) for name, array in data.items()}
    dots["P"] = dots["P"] + dots["P"].swapaxes(1, 2)
    dot, own_dot, bar, own_bar = sol.jvp(**dots), own.jvp(**dots), sol.vjp(**bars), own.vjp(**bars)
    for part in POINT:
        assert_close(getattr(sol, part), getattr(own, part), 1e-11, part)
        assert_close(getattr(dot, part), getattr(own_dot, part), 1e-9, part)
    for name in DATA:
        assert_close(getattr(bar, name), getattr(own_bar, name), 1e-9, name)
    assert np.abs(own_bar.lb).max() > 0 < np.abs(own_bar.ub).max()  # bounds are active: the test sees their signs


@pytest.mark.parametrize("polish", [True, False])
def test_a_wrong_claim_is_not_believed(fake, polish):
    """A point that is off by 1e-2 is what `differentiate` says of it, and polishing does not make it good."""
    problem = well_posed("qp with equalities", 3)
    name = fake(lambda qp, **_: {**truth(qp), "x": truth(qp)["x"] + 0.01})
    sol = gd.solve(*problem.args, gd.Settings(polish=polish), backend=name)
    judged = gd.differentiate(*problem.args, problem.x + 0.01, problem.y)
    assert (sol.status == judged.status).all()
    assert (sol.status == gd.Status.MAX_ITERATIONS).all()
    assert np.isnan(sol.x).all()
    assert not sol.vjp(x=np.ones_like(sol.x)).q.any()


def test_a_point_that_is_nearly_right_is_polished(fake):
    problem = well_posed("qp with equalities", 3)
    name = fake(lambda qp, **_: {**truth(qp), "x": truth(qp)["x"] + 1e-6})
    raw = gd.solve(*problem.args, gd.Settings(polish=False), backend=name)
    assert (raw.status == gd.Status.ALMOST_SOLVED).all()
    assert_close(raw.x, problem.x + 1e-6, 1e-12)
    sol = gd.solve(*problem.args, backend=name)
    assert sol.ok.all()
    assert_close(sol.x, problem.x, 1e-12)


@pytest.mark.parametrize("what", ["none", "half", "wrong sign", "NaN", "too few", "empty"])
def test_multipliers_that_are_missing_or_wrong_are_found(fake, what):
    def answer(qp, **_):
        right = truth(qp)
        y, z = right["y"], right["z"]
        given = {
            "none": (None, None),
            "half": (None, z),
            "wrong sign": (-y, -z),
            "NaN": (y * np.nan, z),
            "too few": (y, z[:-1]),
            "empty": (y[:0], z[:0]),
        }
        return {"x": right["x"], **dict(zip("yz", given[what], strict=True))}

    problem = well_posed("qp with equalities", 3)
    sol = gd.solve(*problem.args, gd.Settings(polish=False), backend=fake(answer))
    assert sol.ok.all()
    assert_close(sol.x, problem.x, 1e-12)
    assert_close(sol.y, problem.y, 1e-10)


def test_what_a_solver_says_of_a_failure_is_not_believed_either(fake):
    """Without a point, or with a bad one that it does not claim: NUMERICAL_ERROR. A good one is taken all the same."""
    problem = well_posed("qp", 1)
    for answer, status in (
        ({"found": False}, gd.Status.NUMERICAL_ERROR),
        ({"found": True}, gd.Status.NUMERICAL_ERROR),
        ({"found": False, "x": problem.x[0] * np.nan}, gd.Status.NUMERICAL_ERROR),
        ({"found": False, "x": problem.x[0] + 1}, gd.Status.NUMERICAL_ERROR),
        ({"found": None, "x": problem.x[0]}, gd.Status.SOLVED),
    ):
        sol = gd.solve(*problem.args, backend=fake(lambda qp, answer=answer, **_: answer))
        assert sol.status == [status], answer


def test_an_exception_is_of_its_problem_alone(fake, rng):
    def answer(qp, **_):
        if qp.q[0] == 7:
            raise ValueError("seven")
        return truth(qp)

    problem = feasible_qps(rng, 4, cones=[(Z, 1), (N, 6)])
    q = problem.q.copy()
    q[2, 0] = 7
    name = fake(answer)
    args = (problem.P, q, problem.A, problem.b, problem.gd_cones)
    with pytest.warns(
        RuntimeWarning, match="qpsolvers:fake: 1 of 4 problems raised an exception, .* ValueError: seven"
    ):
        sol = gd.solve(*args, backend=name)
    assert sol.status.tolist() == [1, 1, gd.Status.NUMERICAL_ERROR, 1]
    with pytest.warns(RuntimeWarning):
        rescued = gd.solve(*args, gd.Settings(rescue=True), backend=name)
    assert rescued.ok.all()
    assert rescued.rescued == 1


@pytest.mark.parametrize("make", [infeasible, unbounded])
def test_no_certificate_is_claimed(solver, make, rng):
    """Only `rescue`, which has the CPU backend find one, tells what the problem is."""
    problem = make(rng, [(Z, 1), (N, 8)])
    name = f"qpsolvers:{solver}"
    with pytest.warns(RuntimeWarning) if solver in STRICT and make is unbounded else nullcontext():
        sol = gd.solve(*problem.args, backend=name)
        rescued = gd.solve(*problem.args, gd.Settings(rescue=True), backend=name)
    assert sol.status in (gd.Status.NUMERICAL_ERROR, gd.Status.MAX_ITERATIONS)
    expected = gd.Status.PRIMAL_INFEASIBLE if make is infeasible else gd.Status.DUAL_INFEASIBLE
    assert rescued.status == expected


def test_a_problem_has_the_same_bits_alone_and_in_any_batch(rng):
    """With faulty and infeasible neighbours, and with one thread or two."""
    pytest.importorskip("daqp")
    data = box_qps(rng, 6)
    data["q"][1, 2] = np.nan
    data["P"][2, 0, 0] = np.inf
    data["b"] = np.full((6, 1), 0.05)
    data["b"][3] = 100.0
    name = "qpsolvers:daqp"
    sol = gd.solve_qp(**data, settings=gd.Settings(threads=2), backend=name)
    bad = [gd.Status.INVALID_DATA, gd.Status.INVALID_DATA, gd.Status.NUMERICAL_ERROR]
    assert sol.status.tolist() == [1, *bad, 1, 1]
    for i in range(6):
        one = {key: data[key][i] for key in ("P", "q", "b")}
        alone = gd.solve_qp(**{**data, **one}, settings=gd.Settings(threads=1), backend=name)
        for part in (*POINT, "status", "margin", "gap", "dual_residual"):
            assert_same_bits(getattr(sol, part)[i], getattr(alone, part), part)


def test_kinds_of_batches(rng):
    pytest.importorskip("daqp")
    data = box_qps(rng, 1)
    name = "qpsolvers:daqp"
    empty = gd.solve_qp(**{**data, "q": np.zeros((0, 6))}, backend=name)
    assert empty.x.shape == (0, 6)
    single = {key: np.float32(value) for key, value in data.items()}
    sol = gd.solve_qp(**single, backend=name)
    assert sol.x.dtype == np.float32
    assert sol.ok
    assert_close(sol.x, gd.solve_qp(**data).x, 1e-5)


def test_what_a_solver_is_told(fake, monkeypatch, rng):
    """Tolerances by the solver's own names, the start of a problem that has one, and data that it may overwrite."""
    seen = []

    def answer(qp, **options):
        seen.append(options)
        found = truth(qp)
        qp.q[:], qp.P[:] = np.nan, np.nan
        return found

    name = fake(answer)
    monkeypatch.setitem(backend._OPTIONS, "fake", {"eps": "tol_feas", "steps": "max_iter"})
    problem = feasible_qps(rng, 3, cones=[(Z, 1), (N, 6)])
    settings = gd.Settings(tol_feas=1e-7, max_iter=70, threads=1)
    sol = gd.solve(*problem.args, settings, name)
    assert sol.ok.all()
    assert [options["initvals"] for options in seen] == [None] * 3
    assert all(options["eps"] == 1e-7 and options["steps"] == 70 for options in seen)
    seen.clear()
    q = problem.q.copy()
    q[1] = np.nan
    before = gd.solve(problem.P, q, *problem.args[2:], settings, name)
    seen.clear()
    assert gd.solve(*problem.args, settings, name, warm_start=before).ok.all()
    assert_close(seen[0]["initvals"], before.x[0], 0)
    assert seen[1]["initvals"] is None
    monkeypatch.setattr(backend, "_FIRST_ORDER", ("fake",))
    seen.clear()
    gd.solve(*problem.args, settings, name)
    assert seen[0]["steps"] == 7000
    assert seen[0]["eps"] == 1e-7


def test_options_are_those_that_the_solvers_know(solver, rng):
    """A keyword that a solver does not know makes most of them raise, which would be a warning here."""
    settings = gd.Settings(tol_feas=1e-6, tol_gap_abs=1e-6, tol_gap_rel=1e-6, max_iter=150)
    assert gd.solve_qp(**box_qps(rng), settings=settings, backend=f"qpsolvers:{solver}").ok.all()


def test_errors(monkeypatch):
    args = (np.eye(2), np.ones(2), np.eye(2), np.ones(2))
    known = ", ".join(qpsolvers.available_solvers)
    for wrong in ("nope", ""):
        with pytest.raises(gd.BackendError) as error:
            gd.solve_qp(*args, backend=f"qpsolvers:{wrong}")
        assert known in str(error.value)
        assert "pip install 'qpsolvers[<solver>]'" in str(error.value)
        assert repr(wrong) in str(error.value)
    name = f"qpsolvers:{qpsolvers.available_solvers[0]}"
    with pytest.raises(gd.BackendError, match="expected the cones Zero and Nonnegative alone, got SecondOrder"):
        gd.solve(*args, [gd.SecondOrder(2)], backend=name)
    with pytest.raises(gd.BackendError, match="'auto', 'ipm', which backend 'qpsolvers:"):
        gd.solve_qp(*args, settings=gd.Settings(method="active_set"), backend=name)
    with pytest.raises(gd.DataError, match="symmetric"):
        gd.solve_qp([[1.0, 0.5], [0.0, 1.0]], *args[1:], backend=name)
    monkeypatch.setitem(sys.modules, "qpsolvers", None)
    with pytest.raises(gd.BackendError, match=r"pip install 'gpudiff\[qpsolvers\]'"):
        gd.solve_qp(*args, backend=name)


def test_an_indefinite_p_where_that_is_asked(fake):
    """The stationary point of a saddle meets the conditions of optimality; only its P tells that it is no minimum."""
    P = np.array([np.eye(2), np.diag([1.0, -1.0])])
    name = fake(lambda qp, **_: {"x": -np.linalg.solve(qp.P, qp.q)})
    for polish in (True, False):
        settings = gd.Settings(check_convex=True, polish=polish)
        assert gd.solve(P, np.ones(2), settings=settings, backend=name).status.tolist() == [1, gd.Status.INVALID_DATA]


@pytest.mark.parametrize("choice", ["zero", "nan", "raise"])
def test_what_stands_in_the_place_of_a_failure(fake, choice):
    problem = well_posed("qp", 2)
    name = fake(lambda qp, **_: {"found": False})
    settings = gd.Settings(on_failure=choice)
    if choice == "raise":
        with pytest.raises(gd.SolveError, match="2 of 2 problems were not solved"):
            gd.solve(*problem.args, settings, name)
        return
    sol = gd.solve(*problem.args, settings, name)
    for part in ("x", "y", "s", "obj"):
        values = getattr(sol, part)
        assert np.isnan(values).all() if choice == "nan" else not values.any()


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    pytest.importorskip("daqp")
    data = box_qps(rng)
    tensors = {name: torch.tensor(value, requires_grad=name in ("q", "lb")) for name, value in data.items()}
    sol = gd.solve_qp(**tensors, backend="qpsolvers:daqp")
    sol.x.square().sum().backward()
    own = gd.solve_qp(**data)
    bar = own.vjp(x=2 * own.x)
    assert_close(tensors["q"].grad.numpy(), bar.q, 1e-9)
    assert_close(tensors["lb"].grad.numpy(), bar.lb, 1e-9)


def test_a_bar_for_large_batches(fake, capsys):
    name = fake(lambda qp, **_: {"x": -qp.q})
    for count in (99, 100):
        for verbose in (True, False):
            gd.solve(np.eye(1), np.ones((count, 1)), settings=gd.Settings(verbose=verbose), backend=name)
            assert bool(capsys.readouterr().err) == (verbose and count == 100)


def test_info_lists_solvers_and_imports_them_when_asked(run_python):
    info = gd.info()
    assert info.solvers == tuple(f"qpsolvers:{name}" for name in qpsolvers.available_solvers)
    assert ", ".join(info.solvers) in str(info)
    code = "import sys, gpudiff; gpudiff.info(); print('qpsolvers' in sys.modules)"
    assert run_python(code).strip() == "False"


def test_info_without_qpsolvers(monkeypatch):
    monkeypatch.setitem(sys.modules, "qpsolvers", None)
    assert gd.info().solvers == ()


def test_same_bits_as_the_point_where_nothing_is_polished(fake):
    """The solution is the solver's point and nothing else, with the residuals that `differentiate` finds."""
    problem = well_posed("qp with equalities", 2)
    sol = gd.solve(*problem.args, gd.Settings(polish=False), fake(lambda qp, **_: truth(qp)))
    again = gd.differentiate(*problem.args, sol.x, sol.y)
    for part in RESULT_FIELDS:
        assert_same_bits(getattr(sol, part), getattr(again, part), part)
