"""solve_qp: the form and names of qpsolvers, infinite bounds, derivatives in all eight arguments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpudiff as gd

NAMES = ("P", "q", "G", "h", "A", "b", "lb", "ub")
n, k, p = 5, 4, 2
INF = np.inf


def batch(rng, B=6):
    """Feasible QPs with every kind of constraint; some bounds are infinite."""
    L = rng.standard_normal((B, n, n))
    P = L @ np.swapaxes(L, 1, 2) / n + 0.3 * np.eye(n)
    x = rng.standard_normal((B, n))
    G, A = rng.standard_normal((B, k, n)), rng.standard_normal((B, p, n))
    lb, ub = x - rng.uniform(0.1, 1, (B, n)), x + rng.uniform(0.1, 1, (B, n))
    lb[:, 0] = -INF  # for all problems: no row
    ub[::2, 1] = INF  # for some
    ub[:, 4], lb[:, 4] = INF, -INF
    return {
        "P": (P + np.swapaxes(P, 1, 2)) / 2,
        "q": 3 * rng.standard_normal((B, n)),
        "G": G,
        "h": np.einsum("bij,bj->bi", G, x) + rng.uniform(0.05, 0.5, (B, k)),
        "A": A,
        "b": np.einsum("bij,bj->bi", A, x),
        "lb": lb,
        "ub": ub,
    }


def item(data, i):
    return {name: None if value is None else value[i] for name, value in data.items()}


def check_optimal(data, sol):
    """The optimality conditions in the signs of qpsolvers, for one problem."""
    P, q, G, h, A, b, lb, ub = (data.get(name) for name in NAMES)
    stationarity = P @ sol.x + q + sol.z_box
    if G is not None:
        stationarity += G.T @ sol.z
        assert (G @ sol.x <= h + 1e-9).all()
        assert (sol.z >= -1e-12).all()
        assert np.abs(sol.z * (h - G @ sol.x)).max() < 1e-9
    if A is not None:
        stationarity += A.T @ sol.y
        assert np.abs(A @ sol.x - b).max() < 1e-9
    for bound, sign in ((ub, 1), (lb, -1)):
        bound = np.full(n, sign * INF) if bound is None else bound
        assert (sign * (bound - sol.x) >= -1e-9).all()
        away = np.abs(bound - sol.x) > 1e-6
        assert (sign * sol.z_box[away] <= 1e-9).all()
    assert np.abs(stationarity).max() < 1e-9


def test_optimality_and_signs_of_the_multipliers(rng):
    data = batch(rng)
    sol = gd.solve_qp(**data)
    assert sol.ok.all()
    assert sol.x.shape == sol.z_box.shape == (6, n)
    assert sol.y.shape == (6, p)
    assert sol.z.shape == (6, k)
    assert (sol.z_box > 1e-3).any()
    assert (sol.z_box < -1e-3).any()
    for i in range(6):
        alone = gd.solve_qp(**item(data, i))
        check_optimal(item(data, i), alone)
        for name in ("x", "y", "z", "z_box", "obj"):
            np.testing.assert_allclose(getattr(alone, name), getattr(sol, name)[i], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(sol.obj, np.sum(sol.x * (np.einsum("bij,bj->bi", data["P"], sol.x) / 2 + data["q"]), 1))


@pytest.mark.parametrize("parts", [c for r in range(4) for c in itertools.combinations(("Gh", "Ab", "lb", "ub"), r)])
def test_every_subset_of_the_constraints(rng, parts):
    given = {"P", "q"} | {name for part in parts for name in ([part] if part in ("lb", "ub") else part)}
    data = {name: value for name, value in item(batch(rng), 0).items() if name in given}
    sol = gd.solve_qp(**data)
    assert sol.ok
    check_optimal(data, sol)
    assert sol.y.shape == ((p,) if "Ab" in parts else (0,))
    assert sol.z.shape == ((k,) if "Gh" in parts else (0,))
    bar = sol.vjp(x=np.ones(n), y=np.ones_like(sol.y), z=np.ones_like(sol.z), z_box=np.ones(n))
    for name in NAMES:
        assert (getattr(bar, name) is None) == (name not in given)
        if name in given:
            assert getattr(bar, name).shape == data[name].shape


def test_the_order_of_the_arguments():
    P, q, G, h = np.eye(2), np.array([-3.0, -3]), np.array([[1.0, 0]]), np.array([1.0])
    A, b, lb, ub = np.array([[1.0, -1]]), np.array([-1.0]), np.array([-9.0, -9]), np.array([9.0, 1.5])
    sol = gd.solve_qp(P, q, G, h, A, b, lb, ub, gd.Settings(), "cpu", None)
    np.testing.assert_allclose(sol.x, [0.5, 1.5])
    np.testing.assert_allclose(sol.y, [2.5])
    np.testing.assert_allclose(sol.z, [0], atol=1e-12)
    np.testing.assert_allclose(sol.z_box, [0, 4], atol=1e-12)


def test_absent_bounds_have_no_rows_and_change_nothing(rng):
    data = item(batch(rng), 0)
    data["lb"] = data["ub"] = None
    plain = gd.solve_qp(**data)
    infinite = gd.solve_qp(**{**data, "lb": np.full(n, -INF), "ub": np.full(n, INF)})
    assert infinite.x.tobytes() == plain.x.tobytes()
    assert infinite.conic.y.shape == (p + k,)
    assert not infinite.z_box.any()
    bar = infinite.vjp(x=np.ones(n), z_box=np.ones(n))
    assert not bar.lb.any()
    assert not bar.ub.any()
    assert not infinite.jvp(lb=np.ones(n), ub=np.ones(n)).x.any()


def test_what_bounds_may_be():
    P, q = np.eye(2), np.zeros(2)
    bounds = {
        "SOLVED": ([1.0, -INF], [2.0, INF]),
        "PRIMAL_INFEASIBLE": ([1.0, 0], [0.5, 1]),
        "INVALID_DATA": ([INF, 0], [INF, 1]),
    }
    lb, ub = (np.array([b[i] for b in bounds.values()]) for i in range(2))
    more = [([0.0, 0], [-INF, 1]), ([np.nan, 0], [1.0, 1]), ([0.0, 0], [1.0, np.nan])]
    lb, ub = np.vstack([lb, [m[0] for m in more]]), np.vstack([ub, [m[1] for m in more]])
    sol = gd.solve_qp(P, q, lb=lb, ub=ub)
    assert [gd.Status(c).name for c in sol.status] == [*bounds, *["INVALID_DATA"] * 3]
    np.testing.assert_allclose(sol.x[0], [1, 0], atol=1e-9)
    np.testing.assert_allclose(sol.z_box[0], [-1, 0], atol=1e-9)
    assert np.isnan(sol.x[1:]).all()
    assert np.isnan(sol.z_box[2:]).all()
    half = gd.solve_qp(P, q, lb=[0.0, -INF], ub=[-INF, INF])
    assert half.status == gd.Status.INVALID_DATA
    assert np.isnan(half.z_box).all()  # also where there is no bound
    # A variable's two bounds contradict each other: their multipliers are equal, and z_box is their difference.
    at_upper, at_lower = sol.conic.y[1].reshape(2, 2)
    assert (at_upper >= 0).all()
    assert (at_lower >= 0).all()
    np.testing.assert_allclose(at_upper - at_lower, sol.z_box[1], atol=1e-7)
    np.testing.assert_allclose(at_upper @ [0.5, 1] - at_lower @ [1, 0], -1, atol=1e-7)
    bar = sol.vjp(x=np.ones(2))
    assert not bar.lb[1:].any()
    np.testing.assert_allclose(bar.lb[0], [1, 0], atol=1e-9)
    alone = gd.solve_qp(P, q, h=[INF, 1.0], G=[[1.0, 0], [0, 1]])
    assert alone.ok
    assert gd.solve_qp(P, q, h=[-INF, 1.0], G=[[1.0, 0], [0, 1]]).status == gd.Status.INVALID_DATA


def test_equal_bounds_fix_a_variable(rng):
    data = item(batch(rng), 0)
    data["lb"][2] = data["ub"][2] = (data["lb"][2] + data["ub"][2]) / 2
    sol = gd.solve_qp(**data)
    assert sol.ok
    assert sol.x[2] == pytest.approx(data["lb"][2], abs=1e-8)


def test_a_linear_program():
    sol = gd.solve_qp(None, [-3, -5], [[2, 1], [1, 3]], [100, 90], lb=[0, 0])
    np.testing.assert_allclose(sol.x, [42, 16])
    np.testing.assert_allclose(sol.z, [0.8, 1.4])
    assert sol.vjp(obj=1).P is None
    with pytest.raises(gd.ArgumentError, match="P: expected no tangent"):
        sol.jvp(P=np.eye(2))


# ---- derivatives -----------------------------------------------------------------------------------------------------


def directions(rng, arrays):
    return {name: None if value is None else rng.standard_normal(value.shape) for name, value in arrays.items()}


def test_jvp_against_finite_differences(rng):
    data = item(batch(rng), 1)
    sol = gd.solve_qp(**data)
    assert sol.differentiable
    dots = directions(rng, data)
    dots["P"] += dots["P"].T
    dot = sol.jvp(**dots)
    step = 1e-5
    ahead, behind = (gd.solve_qp(**{name: data[name] + sign * step * dots[name] for name in NAMES}) for sign in (1, -1))
    for name in ("x", "y", "z", "z_box", "obj"):
        slope = (getattr(ahead, name) - getattr(behind, name)) / (2 * step)
        np.testing.assert_allclose(getattr(dot, name), slope, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("names", [(), ("P",), ("G",), ("A",), ("G", "A"), ("h", "b"), ("lb",), ("P", "G", "A", "ub")])
@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
def test_shared_arguments_adjointness_and_sums(rng, names, axis):
    data = batch(rng)
    x = np.zeros(n)
    for name, value in batch(np.random.default_rng(0)).items():  # one point feasible for all: x = 0
        data[name] = value if name in ("P", "q") else data[name]
    data["h"], data["b"] = rng.uniform(0.2, 1, (6, k)), np.zeros((6, p))
    data["lb"][:, 1:4], data["ub"][:, :4] = x[1:4] - rng.uniform(0.1, 1, (6, 3)), rng.uniform(0.1, 1, (6, 4))
    few = {name: value[:1] if name in names else value for name, value in data.items()}
    wide = {name: np.ascontiguousarray(np.broadcast_to(value, data[name].shape)) for name, value in few.items()}
    if not axis:
        few = {name: value[0] if name in names else value for name, value in few.items()}
    sol, full = gd.solve_qp(**few), gd.solve_qp(**wide)
    assert full.ok.all()
    np.testing.assert_allclose(sol.x, full.x, atol=1e-9)
    bars = {name: rng.standard_normal(getattr(sol, name).shape) for name in ("x", "y", "z", "z_box", "obj")}
    bar, expected = sol.vjp(**bars), full.vjp(**bars)
    for name in NAMES:
        summed = getattr(expected, name)
        summed = summed.sum(0).reshape(few[name].shape) if name in names else summed
        np.testing.assert_allclose(
            getattr(bar, name), summed, rtol=1e-7, atol=1e-7 * np.abs(summed).max(), err_msg=name
        )
    dots = directions(rng, few)
    dot = sol.jvp(**dots)
    forward = sum(np.sum(bars[name] * getattr(dot, name)) for name in bars)
    backward = sum(np.sum(dots[name] * getattr(bar, name)) for name in NAMES)
    assert forward == pytest.approx(backward, rel=1e-9)


def test_only_what_is_asked_for(rng):
    sol = gd.solve_qp(**batch(rng))
    full = sol.vjp(x=np.ones(n))
    for name in NAMES:
        bar = sol.vjp(x=np.ones(n), wrt=name)
        np.testing.assert_array_equal(getattr(bar, name), getattr(full, name))
        assert all(getattr(bar, other) is None for other in NAMES if other != name)


def test_shared_matrices_are_not_expanded(rng):
    data = batch(rng)
    few = {name: value[0] if name in ("P", "G", "A") else value for name, value in data.items()}
    problem = gd.solve_qp(**few).conic.linearization.problem
    assert problem.A.ndim == 2
    assert problem.P is few["P"]
    only = gd.solve_qp(data["P"], data["q"], data["G"], data["h"]).conic.linearization.problem
    assert only.A is data["G"]
    assert only.b is data["h"]


# ---- surroundings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"h": None}, "h: expected an array, for G is given"),
        ({"G": None}, "G: expected an array, for h is given"),
        ({"b": None}, "b: expected an array, for A is given"),
        ({"A": None}, "A: expected an array, for b is given"),
        ({"q": None}, "q: expected shape (n,)"),
        ({"q": 3.0}, "q: expected shape (n,)"),
        ({"G": np.ones((k, n + 1))}, f"G: expected shape ({k}, {n}) or (B, {k}, {n}) ({k} rows from h, n={n} from q)"),
        ({"A": np.ones((p + 1, n))}, f"A: expected shape ({p}, {n})"),
        ({"h": 1.0}, "h: expected shape (rows,)"),
        ({"lb": np.ones(n - 1)}, f"lb: expected shape ({n},)"),
        ({"ub": np.ones((2, 3, n))}, f"ub: expected shape ({n},)"),
        ({"lb": np.ones((4, n))}, "lb: expected a batch axis of extent 6 (that of P)"),
        ({"ub": np.ones(n, complex)}, "ub: expected float64"),
        ({"settings": 3}, "settings: expected"),
        ({"warm_start": 3}, "warm_start: expected a QPSolution"),
    ],
)
def test_bad_input(rng, changes, start):
    with pytest.raises(gd.ArgumentError) as error:
        gd.solve_qp(**{**batch(rng), **changes})
    assert str(error.value).startswith(start)


def test_wrong_directions(rng):
    sol = gd.solve_qp(**batch(rng))
    with pytest.raises(gd.ShapeError, match=rf"^h: expected shape \({k},\) or \(6, {k}\), got \(3,\)"):
        sol.jvp(h=np.ones(3))
    with pytest.raises(gd.ShapeError, match=r"^z_box: expected shape"):
        sol.vjp(z_box=np.ones(3))
    with pytest.raises(gd.ShapeError, match=r"^x: expected shape"):
        sol.vjp(x=np.ones(3))
    with pytest.raises(gd.ArgumentError, match="wrt: expected names among 'P', 'q', 'G', 'h'"):
        sol.vjp(x=np.ones(n), wrt="s")


def test_warm_start(rng):
    data = batch(rng)
    first = gd.solve_qp(**data)
    data["q"] = data["q"] + 1e-3
    cold, warm = gd.solve_qp(**data), gd.solve_qp(**data, warm_start=first)
    np.testing.assert_allclose(warm.x, cold.x, atol=1e-9)
    assert warm.iterations.sum() < cold.iterations.sum()
    with pytest.raises(gd.ShapeError, match="warm_start: expected"):
        gd.solve_qp(**{**data, "lb": None}, warm_start=first)


def test_batches_edges_and_types(rng):
    data = batch(rng)
    empty = gd.solve_qp(**{name: value[:0] for name, value in data.items()})
    assert empty.x.shape == empty.z_box.shape == (0, n)
    assert empty.vjp(x=np.ones((0, n))).G.shape == (0, k, n)
    single = gd.solve_qp(**{name: value.astype(np.float32) for name, value in data.items()})
    assert single.ok.all()
    assert single.x.dtype == single.z.dtype == single.z_box.dtype == single.vjp(x=np.ones(n)).ub.dtype == np.float32
    mixed = gd.solve_qp(**{**data, "lb": data["lb"].astype(np.float32)})
    assert mixed.x.dtype == np.float64
    whole = gd.solve_qp([[1, 0], [0, 1]], [-2, 0], lb=[0, 0], ub=[1, 1])
    np.testing.assert_allclose(whole.x, [1, 0], atol=1e-12)
    one = gd.solve_qp(np.eye(2), np.zeros(2), ub=np.full((3, 2), INF))
    assert one.x.shape == (3, 2)
    assert one.vjp(x=np.ones(2)).ub.shape == (3, 2)
    assert gd.solve_qp(np.zeros((0, 0)), [], lb=[], ub=[]).ok


def test_repr_and_failures(rng, capsys):
    data = batch(rng)
    data["lb"][3, 1], data["ub"][3, 1] = 5, 4
    sol = gd.solve_qp(**data)
    text = repr(sol)
    head = f"QPSolution(B=6, n=5, 2 equalities, 4 inequalities, 7 bounds, float64, backend {sol.backend!r})"
    assert text.startswith(head + "\n")
    for word in (f"z [6, {k}]", f"z_box [6, {n}]", "5 SOLVED, 1 PRIMAL_INFEASIBLE"):
        assert word in text
    with pytest.raises(gd.SolveError) as error:
        gd.solve_qp(**data, settings=gd.Settings(on_failure="raise"))
    assert isinstance(error.value.solution, gd.QPSolution)
    zero = gd.solve_qp(**data, settings=gd.Settings(on_failure="zero", verbose=True))
    assert capsys.readouterr().out.startswith("QPSolution(")
    for name in ("x", "y", "z", "z_box", "obj"):
        assert not getattr(zero, name)[3].any()
