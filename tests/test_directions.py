"""Several tangents or cotangents in one call: each gets the bits that it gets alone; and what failed problems give."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from device_arrays import StandInDriver
from device_parity import Gpu, host
from problems import feasible_qps, infeasible, stack, unbounded, varied_qps, well_posed

import gpudiff as gd
from gpudiff import forms
from gpudiff.backends import cpu

DATA = ("P", "q", "A", "b")
POINT = ("x", "y", "s", "obj")
K = 5  # odd: solved for in twos, and the last alone

FAMILIES = (
    *("equalities only", "lp", "socp", "soc, slack at the tip", "sdp", "exponential, anywhere", "power, anywhere"),
    *("mixed", "mixed, no P", "every cone"),
)
QPS = ("qp", "qp with equalities", "tall", "wide")


def along(rng, arrays, count=K, ranks=None):
    """Directions [count, …] of these shapes, by name; [count, 1, …] for those of `ranks` that have no batch axis."""
    shapes = {name: np.shape(a) for name, a in arrays.items() if a is not None}
    for name, rank in (ranks or {}).items():
        if name in shapes and len(shapes[name]) == rank:
            shapes[name] = (1, *shapes[name])
    return {name: rng.standard_normal((count, *shape)) for name, shape in shapes.items()}


def quadratic(method, rng, batch, shared=()):
    """The same strictly feasible problems twice: with these arguments shared, and with all of them expanded."""
    both = varied_qps(rng, batch, shared)
    if method == "ipm":
        return both
    return [type(p)(p.P, p.q, p.A, np.abs(p.b) + 0.1, [("nonnegative", p.b.shape[-1])]) for p in both]


def fields(answer):
    return {name: value for name, value in vars(answer).items() if name != "placed" and value is not None}


def assert_as_alone(call, directions, count=K, shared=()):
    """Each direction's answer is what the call gives for it alone; `shared` are arguments that all have in common."""
    together = fields(call(**directions))
    assert together
    for k in range(count):
        alone = fields(call(**{name: v if name in shared else v[k] for name, v in directions.items()}))
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            assert_same_bits(np.asarray(together[name][k]), np.asarray(value), f"{name} of direction {k}")
    return together


def assert_all_as_alone(rng, sol, data, count=K):
    """The same for tangents and cotangents of a cone program, which are each other's adjoint, every one of every."""
    bars = along(rng, {name: getattr(sol, name) for name in POINT}, count)
    ranks = {"P": 2, "q": 1, "A": 2, "b": 1} if sol.batched else None
    dots = along(rng, dict(zip(DATA, data, strict=True)), count, ranks)
    bar, dot = assert_as_alone(sol.vjp, bars, count), assert_as_alone(sol.jvp, dots, count)
    arguments = zip(DATA, data, strict=True)
    assert {name: v.shape for name, v in bar.items()} == {n: (count, *a.shape) for n, a in arguments if a is not None}
    if "P" in bar:
        assert_same_bits(bar["P"], np.ascontiguousarray(bar["P"].swapaxes(-1, -2)), "P cotangent, transposed")

    def inner(left, right):
        pairs = [(left[name].reshape(count, -1), right[name].reshape(count, -1)) for name in right]
        return sum(a @ b.T for a, b in pairs), sum(np.abs(a) @ np.abs(b).T for a, b in pairs)

    (forward, size), (reverse, other) = inner(bars, dot), inner(bar, dots)
    tolerance = 1e-9 if sol.x.dtype == np.float64 else 1e-2
    assert np.all(np.abs(forward - reverse) <= tolerance * (size + other))


@pytest.mark.parametrize("family", FAMILIES)
def test_by_the_interior_point(family, rng):
    problem = well_posed(family, 9)
    sol = gd.solve(*problem.args, settings=gd.Settings(method="ipm"))
    assert_all_as_alone(rng, sol, problem.data)


@pytest.mark.parametrize("family", QPS)
@pytest.mark.parametrize("method", ["active_set", "ipm"])
def test_of_quadratic_programs(family, method, rng):
    problem = well_posed(family, 9)
    sol = gd.solve(*problem.args, settings=gd.Settings(method=method))
    assert sol.method == method
    assert_all_as_alone(rng, sol, problem.data)


@pytest.mark.parametrize("method", ["active_set", "ipm"])
def test_float32(method, rng):
    problem = quadratic(method, rng, 9)[1].astype(np.float32)
    sol = gd.solve(*problem.args, settings=gd.Settings(method=method))
    assert sol.vjp(x=np.ones((K, 1, 5))).A.dtype == np.float32
    assert_all_as_alone(rng, sol, problem.data)


def test_what_the_working_set_cannot_solve(rng):
    """Active rows that differ by 3e-5: refinement is enough for some directions and not for others of one problem.

    Those are left to the general system, each for itself, beside problems of which nothing is left.
    """
    n, size = 6, 40
    A = rng.standard_normal((size, 4, n))
    A[::2, 1::2] = A[::2, ::2] + 3e-5 * rng.standard_normal((size // 2, 2, n))
    x, y = rng.standard_normal((size, n)), rng.uniform(1, 2, (size, 4))
    data = np.eye(n), -(x + np.einsum("bkj,bk->bj", A, y)), A, np.einsum("bkj,bj->bk", A, x)
    sol = gd.solve(*data, [gd.Nonnegative(4)], settings=gd.Settings(method="active_set"))
    assert sol.ok.all()
    for count in (8, 70):  # the latter more than one word notes
        bars = along(rng, {name: getattr(sol, name) for name in POINT}, count)
        bars["y"][count // 2 :] = 0
        answer = assert_as_alone(sol.vjp, bars, count)
        assert_as_alone(sol.jvp, {"A": rng.standard_normal((count, size, 4, n))}, count)
        sol.linearization.result.method = "ipm"  # all of them by the general system
        left = np.all(sol.vjp(**bars).q == answer["q"], axis=2).sum(axis=0)
        sol.linearization.result.method = "active_set"
        assert np.any((left > 0) & (left < count)), "the test shows nothing"
        assert np.any(left == 0)


@pytest.mark.parametrize("shared", ["P", "qb", "PA", "PqA"])
@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
@pytest.mark.parametrize("method", ["active_set", "ipm"])
def test_shared_arguments_get_a_sum_for_each_direction(shared, axis, method, rng):
    compact, full = quadratic(method, rng, 70, tuple(shared))  # more than two chunks
    data = [a[None] if axis and name in shared else a for name, a in zip(DATA, compact.data, strict=True)]
    settings = gd.Settings(method=method, threads=2)
    sol = gd.solve(*data, compact.gd_cones, settings=settings)
    assert_all_as_alone(rng, sol, data)
    bars = along(rng, {name: getattr(sol, name) for name in POINT})
    bar, expected = sol.vjp(**bars), gd.solve(*full.args, settings=settings).vjp(**bars)
    for name in DATA:
        value = getattr(expected, name)
        value = value.sum(axis=1, keepdims=axis) if name in shared else value
        assert_close(getattr(bar, name), value, 1e-9, name)


@pytest.mark.parametrize("family", ["qp", "mixed", "every cone"])
def test_a_problem_without_a_batch_axis(family, rng):
    problem = well_posed(family, 1).item(0)
    sol = gd.solve(*problem.args)
    assert_all_as_alone(rng, sol, problem.data)
    many = sol.vjp(obj=np.arange(3.0))
    assert many.q.shape == (3, *problem.q.shape)
    assert_close(many.q, np.arange(3.0)[:, None] * sol.x, 1e-15)


def test_what_has_no_axis_is_common_to_all_directions(rng):
    problem = varied_qps(rng, 6)[1]
    sol = gd.solve(*problem.args)
    y, s = rng.standard_normal((2, K, 6, problem.b.shape[1]))
    for x in (np.ones(5), rng.standard_normal((1, 5)), rng.standard_normal((6, 5))):
        assert_as_alone(lambda **given: sol.vjp(obj=2.0, **given), {"x": x, "y": y, "s": s}, shared=("x",))
    whole = sol.vjp(x=np.broadcast_to(y[:, :1, :5], (K, 6, 5)))
    assert_same_bits(sol.vjp(x=y[:, :1, :5]).A, whole.A, "one cotangent for the batch, in each direction")
    q, A = rng.standard_normal((K, 1, 5)), rng.standard_normal(problem.A.shape)
    assert_as_alone(sol.jvp, {"q": q, "A": A}, shared=("A",))
    seeds = rng.standard_normal((K, 6, 10))[:, ::-1, ::2]
    assert_same_bits(sol.vjp(x=seeds).P, sol.vjp(x=seeds.copy()).P, "any strides")


def test_one_direction_and_none(rng):
    problem = varied_qps(rng, 6, ("P",))[0]
    sol = gd.solve(*problem.args)
    assert_all_as_alone(rng, sol, problem.data, 1)
    bar, dot = sol.vjp(x=np.ones((0, 6, 5))), sol.jvp(q=np.ones((0, 1, 5)))
    assert {name: v.shape for name, v in fields(bar).items()} == {n: (0, *getattr(problem, n).shape) for n in DATA}
    assert [dot.x.shape, dot.obj.shape] == [(0, 6, 5), (0, 6)]
    alone = gd.solve(*varied_qps(rng, 1)[1].item(0).args)
    assert alone.vjp(obj=np.ones(0)).q.shape == (0, 5)


@pytest.mark.parametrize("shared", [(), ("A",)])
def test_an_empty_batch(shared, rng):
    problem, _ = varied_qps(rng, 2, shared)
    data = [a if name in shared else a[:0] for name, a in zip(DATA, problem.data, strict=True)]
    sol = gd.solve(*data, problem.gd_cones)
    bar = sol.vjp(x=np.ones((K, 1, 5)))
    assert bar.A.shape == (K, *data[2].shape)
    assert not bar.A.any()
    assert sol.jvp(q=np.ones((K, 0, 5))).y.shape == (K, 0, problem.b.shape[1])


def test_solve_qp(rng):
    B, n = 7, 5
    G, A = rng.standard_normal((4, n)), rng.standard_normal((B, 2, n))
    ub = np.full((B, n), 2.0)
    ub[:, 3] = np.inf
    data = {"P": np.eye(n), "q": 3 * rng.standard_normal((B, n)), "G": G, "h": np.ones((1, 4)), "A": A}
    data |= {"b": 0.1 * rng.standard_normal((B, 2)), "lb": np.full(n, -2.0), "ub": ub}
    sol = gd.solve_qp(**data)
    assert sol.ok.all()
    seeds = along(rng, {name: getattr(sol, name) for name in ("x", "y", "z", "z_box", "obj")})
    bar = assert_as_alone(sol.vjp, seeds)
    assert {name: v.shape for name, v in bar.items()} == {name: (K, *np.shape(v)) for name, v in data.items()}
    ranks = {"P": 2, "q": 1, "G": 2, "h": 1, "A": 2, "b": 1, "lb": 1, "ub": 1}
    dot = assert_as_alone(sol.jvp, along(rng, data, ranks=ranks))
    assert dot["z_box"].shape == (K, B, n)
    # Tangents of different leading axes that go into one matrix or vector.
    assert_as_alone(sol.jvp, {"G": rng.standard_normal((K, 1, 4, n)), "A": A, "lb": np.ones(n)}, shared=("A", "lb"))
    assert_as_alone(sol.jvp, {"G": rng.standard_normal((B, 4, n)), "A": along(rng, {"A": A})["A"]}, shared=("G",))


def test_solve_qp_without_a_batch_axis(rng):
    data = {"P": np.eye(3), "q": rng.standard_normal(3), "G": np.eye(3), "h": np.zeros(3), "ub": np.full(3, np.inf)}
    sol = gd.solve_qp(**data)
    assert_as_alone(sol.vjp, {"z": rng.standard_normal((K, 3)), "x": np.ones(3)}, shared=("x",))
    assert_as_alone(sol.jvp, {"h": rng.standard_normal((K, 3)), "G": np.eye(3)}, shared=("G",))
    # No row of the cone program depends on these, but there are K of them.
    assert sol.jvp(ub=np.ones((K, 3))).x.shape == (K, 3)
    assert sol.vjp(z_box=np.ones((K, 3))).q.shape == (K, 3)


@pytest.mark.parametrize("batched", [True, False])
def test_solve_forms(batched, rng):
    B, n = 4, 5
    lead = (B,) if batched else ()
    F, r = rng.standard_normal((3, n)), np.full(lead, 2.0)
    listed = [
        forms.Norm(F=F, g=0.1 * rng.standard_normal((*lead, 3)), r=r),
        forms.Quadratic(F=rng.standard_normal((2, n)), r=3.0 * np.ones(())),
        forms.Rotated(F=np.eye(4, n), g=np.array([3.0, 3.0, 0, 0])),
        forms.Bounds(lower=-1.0, upper=np.full(n, 1.5)),
        forms.Free(G=np.ones((2, n))),
    ]
    sol = gd.solve_forms(np.eye(n), 4 * rng.standard_normal((*lead, n)), listed)
    assert np.all(sol.ok)
    values = [forms.Values(**along(rng, {"y": f.y, "s": f.s})) for f in sol.forms]
    bar, x = sol.vjp(x=np.ones(n), forms=values), rng.standard_normal((K, *lead, n))
    dots = []
    for f in listed:
        arguments = {own: getattr(f, own) for own in f.AXES}
        ranks = {own: 0 if type(a) is float else len(f.AXES[own]) for own, a in arguments.items()} if batched else None
        dots.append(type(f)(**along(rng, arguments, ranks=ranks)))
    dot = sol.jvp(q=x, forms=dots)
    for k in range(K):
        one = sol.vjp(x=np.ones(n), forms=[forms.Values(y=v.y[k], s=v.s[k]) for v in values])
        for mine, theirs, form in zip(bar.forms, one.forms, listed, strict=True):
            for own in form.AXES:
                if getattr(form, own) is not None:
                    assert_same_bits(getattr(mine, own)[k], np.asarray(getattr(theirs, own)), own)
                    assert getattr(mine, own)[k].shape == np.shape(getattr(form, own))
        each = [type(f)(**{own: v[k] for own in f.AXES if (v := getattr(f, own)) is not None}) for f in dots]
        one = sol.jvp(q=x[k], forms=each)
        for mine, theirs in zip((dot, *dot.forms), (one, *one.forms), strict=True):
            for name in ("x", "obj") if mine is dot else ("y", "s"):
                assert_same_bits(getattr(mine, name)[k], np.asarray(getattr(theirs, name)), name)


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    problem = varied_qps(rng, 6, ("A",))[0]
    seeds = rng.standard_normal((K, 6, 5))
    bar = gd.solve(*(torch.tensor(a) for a in problem.data), problem.gd_cones).vjp(x=torch.tensor(seeds))
    expected = gd.solve(*problem.args).vjp(x=seeds)
    for name in DATA:
        assert_same_bits(getattr(bar, name).numpy(), getattr(expected, name), name)


def test_errors(rng):
    sol = gd.solve(*varied_qps(rng, 6)[1].args)
    with pytest.raises(gd.ShapeError, match="y: expected 3 directions, as x has, got 2"):
        sol.vjp(x=np.ones((3, 6, 5)), y=np.ones((2, 6, 10)), obj=1.0)
    with pytest.raises(gd.ShapeError, match=r"q: expected shape \(5,\) or \(6, 5\), got \(3, 5\); .* \(K, 6, 5\)"):
        sol.jvp(q=np.ones((3, 5)))
    for wrong in ((3, 2, 5), (2, 3, 6, 5), (6, 4)):
        with pytest.raises(gd.ShapeError, match="x: expected shape"):
            sol.vjp(x=np.ones(wrong))
    alone = gd.solve(np.eye(2), np.ones(2))
    for wrong in ((1, 1, 2), (3,), (2, 1)):
        with pytest.raises(gd.ShapeError, match=r"x: expected shape \(2,\), got .* \(K, 2\)"):
            alone.vjp(x=np.ones(wrong))
    qp = gd.solve_qp(np.eye(2), np.ones((4, 2)), lb=np.zeros(2))
    with pytest.raises(gd.ShapeError, match="z_box: expected 3 directions, as x has, got 2"):
        qp.vjp(x=np.ones((3, 1, 2)), z_box=np.ones((2, 4, 2)))


def test_nothing_is_computed_for_what_is_not_asked_for(rng, monkeypatch):
    """Of the cone program behind a problem in forms neither P̄ nor Ā is asked for where no argument needs it."""
    asked: list[tuple[str, ...]] = []
    inner = cpu.CpuBackend.vjp

    def spy(self, problem, settings, result, cotangents, wrt, directions=None):
        asked.append(tuple(wrt))
        return inner(self, problem, settings, result, cotangents, wrt, directions)

    monkeypatch.setattr(cpu.CpuBackend, "vjp", spy)
    data = {"P": np.eye(3), "q": rng.standard_normal((4, 3)), "G": np.ones((2, 3)), "h": np.ones(2), "lb": -np.ones(3)}
    sol = gd.solve_qp(**data)
    for wrt, needed in ((("q", "h"), ("q", "b")), (("lb",), ("b",)), (("G",), ("A",)), (("P",), ("P",))):
        bar = fields(sol.vjp(x=np.ones(3), wrt=wrt))
        assert set(bar) == set(wrt)
        assert asked.pop() == needed
    monkeypatch.setattr(cpu, "_derivative", None)  # not called
    assert fields(sol.conic.vjp(x=np.ones(3), wrt=())) == {}


# ---- failed problems -------------------------------------------------------------------------------------------------

NAN = gd.Settings(failed_derivatives="nan")
CONES = [("soc", 3), ("nonnegative", 4)]


def with_failures(rng):
    """Solved, infeasible, solved, unbounded."""
    good = feasible_qps(rng, 1, 6, CONES)
    good = type(good)(good.P, good.q[0], good.A, good.b, CONES)
    return stack([good, infeasible(rng, CONES), good, unbounded(rng, CONES, 6)])


@pytest.mark.parametrize("device", [False, True])
def test_derivatives_of_failed_problems(device, rng, monkeypatch):
    problem = with_failures(rng)
    gpu = Gpu(monkeypatch, StandInDriver()) if device else None
    put = gpu.put if gpu else lambda *arrays: arrays if len(arrays) != 1 else arrays[0]
    spoiled = problem.q.copy()
    spoiled[1] = np.nan
    for data in (problem.data, [problem.P[:1], spoiled, problem.A[:1], problem.b]):
        zero, nan = (gd.solve(*put(*data), problem.gd_cones, settings=s) for s in (gd.Settings(), NAN))
        solved = np.isin(host(zero.status), (gd.Status.SOLVED, gd.Status.ALMOST_SOLVED))
        assert solved.any()
        assert not solved.all()
        bars = {name: put(rng.standard_normal((3, *host(getattr(zero, name)).shape))) for name in POINT}
        waits = gpu.waits if gpu else 0
        bar, marked = zero.vjp(**bars), nan.vjp(**bars)
        dots = {name: put(rng.standard_normal((2, *a.shape))) for name, a in zip(DATA, data, strict=True)}
        dot, marked_dot = zero.jvp(**dots), nan.jvp(**dots)
        assert (gpu.waits if gpu else 0) == waits, "something waited for the device"
        for name in DATA:
            plain, value = host(getattr(bar, name)), host(getattr(marked, name))
            if plain.shape[1] == 1:  # the sum over a batch in which something failed
                assert np.isfinite(plain).all()
                assert np.isnan(value).all()
                continue
            assert not plain[:, ~solved].any()
            assert np.isnan(value[:, ~solved]).all()
            assert_same_bits(value[:, solved], plain[:, solved], name)
        for name in POINT:
            plain, value = host(getattr(dot, name)), host(getattr(marked_dot, name))
            assert not plain[:, ~solved].any()
            assert np.isnan(value[:, ~solved]).all()
            assert_same_bits(value[:, solved], plain[:, solved], name)


def test_nan_where_nothing_failed_changes_nothing(rng):
    problem = varied_qps(rng, 6, ("P", "b"))[0]
    bar, dot = (getattr(gd.solve(*problem.args, settings=NAN), mode)(**{name: np.ones(5)}) for mode, name in
                (("vjp", "x"), ("jvp", "q")))  # fmt: skip
    sol = gd.solve(*problem.args)
    for mine, theirs in ((bar, sol.vjp(x=np.ones(5))), (dot, sol.jvp(q=np.ones(5)))):
        for name, value in fields(theirs).items():
            assert_same_bits(getattr(mine, name), value, name)
    empty = gd.solve(problem.P, problem.q[:0], problem.A[:0], problem.b, problem.gd_cones, settings=NAN)
    assert not empty.vjp(x=np.ones(5)).P.any(), "the sum over an empty batch is zero"


def test_nan_in_the_derivatives_of_forms(rng):
    """Also where no row of the cone program leads to: absent bounds, and forms without rows."""
    q = np.zeros((2, 2))
    lower, upper = np.array([[0.0, -np.inf], [3.0, -np.inf]]), np.array([1.0, np.inf])  # the second is infeasible
    listed = [forms.Bounds(lower=lower, upper=upper), forms.Free(G=np.ones((1, 2)))]
    sol = gd.solve_forms(np.eye(2), q, listed, settings=NAN)
    assert list(sol.ok) == [True, False]
    dot, bar = sol.jvp(q=np.ones(2)), sol.vjp(x=np.ones(2))
    for value in (dot.x, dot.obj, dot.forms[0].y, dot.forms[0].s, dot.forms[1].y, bar.q, bar.forms[0].lower):
        assert np.isfinite(value[0]).all()
        assert np.isnan(value[1]).all()
    for value in (bar.P, bar.forms[0].upper, bar.forms[1].G):
        assert np.isnan(value).all()


def test_a_failure_without_a_batch_axis():
    data = (np.eye(1), np.zeros(1), np.array([[1.0], [-1.0]]), np.array([-1.0, -1.0]), [gd.Nonnegative(2)])
    assert np.isnan(gd.solve(*data, settings=NAN).vjp(x=np.ones(1)).A).all()
    dot = gd.solve(*data, settings=NAN).jvp(q=np.ones(1))
    assert np.isnan(dot.x).all()
    assert np.isnan(dot.obj)
    assert gd.solve(*data).jvp(q=np.ones(1)).obj == 0
