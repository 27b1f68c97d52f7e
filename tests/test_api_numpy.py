"""The NumPy surface: shapes, sharing, memory layouts, element types, edges, derivatives' shapes, results."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_same_bits

import gpudiff as gd

NAMES = ("P", "q", "A", "b")
CORE = {"P": 2, "q": 1, "A": 2, "b": 1}
CONES = [gd.SecondOrder(3), gd.Zero(1), gd.Nonnegative(4)]
n, m = 4, 8


def batch(rng, B=6, dtype=float):
    """Random strictly feasible QPs with cones of every kind."""
    L = rng.standard_normal((B, n, n))
    P = L @ np.swapaxes(L, 1, 2) / n + np.eye(n)
    A = rng.standard_normal((B, m, n))
    inside = np.array([2.0, 0.1, 0.1, 0.0, 0.5, 0.5, 0.5, 0.5])
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((B, n))) + inside
    data = {"P": (P + np.swapaxes(P, 1, 2)) / 2, "q": 3 * rng.standard_normal((B, n)), "A": A, "b": b}
    return {name: value.astype(dtype) for name, value in data.items()}


def shared(data, names):
    return {name: value[0] if name in names else value for name, value in data.items()}


def expanded(data, B):
    return {k: np.ascontiguousarray(np.broadcast_to(v, (B, *v.shape[v.ndim - CORE[k] :]))) for k, v in data.items()}


def assert_same_solution(actual, expected):
    for name in RESULT_FIELDS:
        assert_same_bits(getattr(actual, name), getattr(expected, name), name)


def test_the_solution_is_right(rng):
    data = batch(rng)
    sol = gd.solve(**data, cones=CONES)
    assert sol.ok.all()
    P, q, A, b = data.values()
    Px, Ax, Aty = (
        np.einsum("bij,bj->bi", P, sol.x),
        np.einsum("bij,bj->bi", A, sol.x),
        np.einsum("bij,bi->bj", A, sol.y),
    )
    primal, dual = np.abs(Ax + sol.s - b).max(1), np.abs(Px + q + Aty).max(1)
    obj = np.sum(sol.x * (Px / 2 + q), 1)
    gap = np.abs(np.sum(sol.x * (Px + q), 1) + np.sum(b * sol.y, 1))
    for ours, name in ((primal, "primal_residual"), (dual, "dual_residual"), (gap, "gap")):
        assert ours.max() < 1e-12
        np.testing.assert_allclose(getattr(sol, name), ours, atol=1e-13, err_msg=name)
    np.testing.assert_allclose(sol.obj, obj, rtol=1e-13)
    for v in (sol.s, sol.y):
        assert (v[:, 0] >= np.linalg.norm(v[:, 1:3], axis=1) - 1e-12).all()
        assert (v[:, 4:] >= -1e-12).all()
    assert np.abs(sol.s[:, 3]).max() < 1e-12


def test_shapes_and_types_of_the_results(rng):
    B = 6
    sol = gd.solve(**batch(rng), cones=CONES)
    assert sol.x.shape == (B, n)
    assert sol.y.shape == sol.s.shape == (B, m)
    for name in ("obj", "primal_residual", "dual_residual", "gap", "margin", "ok", "differentiable"):
        assert getattr(sol, name).shape == (B,), name
    assert sol.status.shape == sol.iterations.shape == (B,)
    assert sol.status.dtype == np.int8
    assert sol.iterations.dtype == np.int32
    assert sol.ok.dtype == sol.differentiable.dtype == bool
    assert sol.differentiable.all()
    assert sol.work.interior > 0
    assert sol.work.interior + sol.work.newton >= sol.iterations.sum() > 0
    assert sol.work.flops > 1000


def test_no_batch_axis_in_no_batch_axis_out(rng):
    data = batch(rng)
    alone = gd.solve(**shared(data, NAMES), cones=CONES)
    assert alone.x.shape == (n,)
    assert alone.y.shape == alone.s.shape == (m,)
    for name in ("obj", "status", "iterations", "gap", "margin", "ok", "differentiable"):
        assert getattr(alone, name).shape == (), name
    assert isinstance(alone.obj, float)
    assert alone.status == gd.Status.SOLVED
    assert gd.Status(alone.status) is gd.Status.SOLVED
    dot = alone.jvp(b=np.ones(m))
    assert dot.x.shape == (n,)
    assert dot.y.shape == dot.s.shape == (m,)
    assert dot.obj.shape == ()
    bar = alone.vjp(obj=1.0)
    assert {name: getattr(bar, name).shape for name in NAMES} == {"P": (n, n), "q": (n,), "A": (m, n), "b": (m,)}


@pytest.mark.parametrize("names", [("P",), ("A",), ("q",), ("b",), ("P", "A"), ("P", "q", "A"), ("q", "A", "b")])
@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
def test_shared_arguments_and_the_sum_of_their_gradients(rng, names, axis):
    B = 6
    data = shared(batch(rng), names)
    whole = expanded(data, B)
    if axis:
        data = {name: value[None] if name in names else value for name, value in data.items()}
    if "b" in names or "A" in names:  # one A or b cannot be strictly feasible for all: give the slack some room
        for d in (data, whole):
            d["b"] = d["b"] + np.array([9.0, 0, 0, 0, 9, 9, 9, 9])
    few, all_ = gd.solve(**data, cones=CONES), gd.solve(**whole, cones=CONES)
    assert all_.ok.all()
    np.testing.assert_allclose(few.x, all_.x, rtol=1e-9, atol=1e-9)
    cotangents = {
        "x": rng.standard_normal((B, n)),
        "y": rng.standard_normal((B, m)),
        "s": rng.standard_normal((B, m)),
        "obj": rng.standard_normal(B),
    }
    bar, full = few.vjp(**cotangents), all_.vjp(**cotangents)
    for name in NAMES:
        ours, theirs = getattr(bar, name), getattr(full, name)
        assert ours.shape == data[name].shape
        theirs = theirs.sum(0).reshape(ours.shape) if name in names else theirs
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8 * np.abs(theirs).max(), err_msg=name)
    assert_same_bits(bar.P, np.swapaxes(bar.P, -1, -2))


def test_a_problem_alone_has_the_bits_that_it_has_among_others(rng):
    data = batch(rng)
    sol = gd.solve(**data, cones=CONES)
    alone = gd.solve(**shared(data, NAMES), cones=CONES)
    for x in (rng.standard_normal(n), np.zeros(n)):  # of zeros, the sign too
        bar, expected = alone.vjp(x=x), sol.vjp(x=x)
        for name in NAMES:
            assert_same_bits(getattr(bar, name), getattr(expected, name)[0], name)


def test_all_arguments_of_extent_1_make_a_batch_of_1(rng):
    data = batch(rng, B=1)
    sol = gd.solve(**data, cones=CONES)
    alone = gd.solve(**shared(data, NAMES), cones=CONES)
    assert sol.x.shape == (1, n)
    assert_same_bits(sol.x[0], alone.x)
    assert_same_bits(sol.vjp(x=np.ones((1, n))).A[0], alone.vjp(x=np.ones(n)).A)


# ---- memory layouts --------------------------------------------------------------------------------------------------


def reverse(array):
    return np.ascontiguousarray(array[..., ::-1])[..., ::-1]


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every other problem": lambda a: np.repeat(a, 2, axis=0)[::2],
    "batch axis last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0),
    "batch reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "last axis reversed": reverse,
    "spread out": lambda a: np.repeat(a, 3, axis=-1)[..., 1::3],
    "read-only": read_only,
    "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "nested lists": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout_gives_the_same_bits(rng, layout):
    data = batch(rng)
    plain = gd.solve(**data, cones=CONES)
    assert all(plain.linearization.problem.data(name) is data[name] for name in NAMES)
    laid = {name: LAYOUTS[layout](value) for name, value in data.items()}
    before = {name: np.array(value) for name, value in laid.items()}
    sol = gd.solve(**laid, cones=CONES)
    assert_same_solution(sol, plain)
    for name in NAMES:
        array = sol.linearization.problem.data(name)
        assert array.flags.aligned
        assert array.dtype.isnative
    bars = {"x": rng.standard_normal((6, n)), "y": rng.standard_normal((6, m))}
    for name in NAMES:
        assert_same_bits(
            getattr(sol.vjp(**{k: LAYOUTS[layout](v) for k, v in bars.items()}), name), getattr(plain.vjp(**bars), name)
        )
        np.testing.assert_array_equal(laid[name], before[name])
    dots = {name: rng.standard_normal(value.shape) for name, value in data.items()}
    laid_dot, plain_dot = sol.jvp(**{k: LAYOUTS[layout](v) for k, v in dots.items()}), plain.jvp(**dots)
    assert_same_bits(laid_dot.x, plain_dot.x)
    assert_same_bits(laid_dot.s, plain_dot.s)


def test_a_broadcast_view_has_a_gradient_for_each_problem(rng):
    data = batch(rng)
    data["b"] += np.array([9.0, 0, 0, 0, 9, 9, 9, 9])
    wide = {**data, "A": np.broadcast_to(data["A"][0], data["A"].shape)}
    copied = {**wide, "A": wide["A"].copy()}
    bar, expected = (gd.solve(**d, cones=CONES).vjp(x=np.ones(n)) for d in (wide, copied))
    assert bar.A.shape == (6, m, n)
    np.testing.assert_allclose(bar.A, expected.A, rtol=1e-8, atol=1e-9)


def test_inputs_are_not_copied_when_they_can_be_used(rng):
    data = {name: read_only(value) for name, value in batch(rng).items()}
    problem = gd.solve(**data, cones=CONES).linearization.problem
    for name in NAMES:
        assert problem.data(name) is data[name]


# ---- element types ---------------------------------------------------------------------------------------------------


def test_float32_stays_float32(rng):
    sol = gd.solve(**batch(rng, dtype=np.float32), cones=CONES)
    assert sol.ok.all()
    for name in ("x", "y", "s", "obj", "primal_residual", "dual_residual", "gap", "margin"):
        assert getattr(sol, name).dtype == np.float32, name
    dot, bar = sol.jvp(b=np.ones(m)), sol.vjp(x=np.ones(n))
    assert dot.x.dtype == dot.obj.dtype == bar.A.dtype == bar.P.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_becomes_float64(rng, name):
    data = batch(rng, dtype=np.float32)
    data[name] = data[name].astype(np.float64)
    sol = gd.solve(**data, cones=CONES)
    assert sol.x.dtype == np.float64
    assert_same_solution(sol, gd.solve(**{k: v.astype(float) for k, v in data.items()}, cones=CONES))
    assert sol.vjp(x=np.ones(n)).b.dtype == np.float64


@pytest.mark.parametrize("dtype", [int, np.int8, np.uint16, np.int64, bool])
def test_integers_become_float64(dtype):
    P, q, A, b = np.eye(2, dtype=dtype), np.ones(2, dtype), np.eye(2, dtype=dtype), np.ones(2, dtype)
    sol = gd.solve(P, q, A, b, [gd.Nonnegative(2)])
    assert sol.x.dtype == np.float64
    np.testing.assert_allclose(sol.x, [-1, -1])
    mixed = gd.solve(P.astype(np.float32), q, A.astype(np.float32), b.astype(np.float32), [gd.Nonnegative(2)])
    assert mixed.x.dtype == np.float64


def test_lists_and_tuples():
    sol = gd.solve([[1, 0], [0, 1]], (1, 2), [[1, 1]], [0.5], {"z": 1})
    np.testing.assert_allclose(sol.x, [0.75, -0.25])
    assert sol.jvp(b=[1]).x.tolist() == pytest.approx([0.5, 0.5])


# ---- edges -----------------------------------------------------------------------------------------------------------


def test_an_empty_batch(rng):
    data = shared(batch(rng), ("P", "A"))
    data["q"], data["b"] = data["q"][:0], data["b"][:0]
    sol = gd.solve(**data, cones=CONES)
    assert sol.x.shape == (0, n)
    assert sol.y.shape == (0, m)
    assert sol.ok.shape == sol.obj.shape == (0,)
    sol.raise_for_status()
    assert "empty batch" in repr(sol)
    assert sol.jvp(q=np.zeros((0, n))).x.shape == (0, n)
    bar = sol.vjp(x=np.zeros((0, n)))
    assert bar.q.shape == (0, n)
    assert bar.P.shape == (n, n)
    assert not bar.P.any()
    assert not bar.A.any()
    assert gd.solve(None, np.zeros((0, 2)), np.eye(2)[None], np.ones((1, 2)), [gd.Zero(2)]).x.shape == (0, 2)


@pytest.mark.parametrize("A", [None, np.zeros((0, 2)), np.zeros((1, 0, 2)), np.zeros((3, 0, 2))])
@pytest.mark.parametrize("b", [None, [], np.zeros((3, 0))])
@pytest.mark.parametrize("cones", [(), [gd.Zero(0), gd.Nonnegative(0)], {}])
def test_no_rows(A, b, cones):
    P, q = np.diag([1.0, 2.0]), np.array([1.0, -4.0])
    sol = gd.solve(P, q, A, b, cones)
    B = 3 if any(v is not None and np.ndim(v) and np.shape(v)[0] == 3 for v in (A, b)) else 1
    np.testing.assert_allclose(sol.x.reshape(B, 2), np.tile([-1.0, 2.0], (B, 1)), rtol=1e-14)
    assert sol.y.shape == sol.s.shape == (*sol.x.shape[:-1], 0)
    bar = sol.vjp(x=np.ones(2))
    np.testing.assert_allclose(bar.q, [-B, -B / 2])
    assert (bar.A is None) == (A is None)
    assert (bar.b is None) == (b is None)
    if A is not None:
        assert bar.A.shape == A.shape


def test_no_rows_and_no_curvature():
    assert gd.solve(None, [1.0, 0.0]).status == gd.Status.DUAL_INFEASIBLE
    flat = gd.solve(None, [0.0, 0.0])
    assert flat.ok
    assert flat.obj == 0


def test_no_variables():
    A, cones = np.zeros((2, 0)), [gd.Nonnegative(2)]
    sol = gd.solve(np.zeros((0, 0)), [], A, [[1.0, 2.0], [1.0, -2.0]], cones)
    assert [gd.Status(c).name for c in sol.status] == ["SOLVED", "PRIMAL_INFEASIBLE"]
    assert sol.x.shape == (2, 0)
    np.testing.assert_array_equal(sol.s[0], [1, 2])
    np.testing.assert_array_equal(sol.y[0], [0, 0])
    assert sol.y[1] @ [1.0, -2.0] == pytest.approx(-1)
    assert sol.vjp(s=np.ones((2, 2))).b.tolist() == [[1, 1], [0, 0]]
    assert gd.solve(None, [], None, None, []).ok


def test_infinite_right_hand_sides_are_absent_rows(rng):
    data = batch(rng)
    few = gd.solve(
        data["P"], data["q"], data["A"][:, :6], data["b"][:, :6], [gd.SecondOrder(3), gd.Zero(1), gd.Nonnegative(2)]
    )
    data["b"][:, 6:] = np.inf
    sol = gd.solve(**data, cones=CONES)
    assert sol.ok.all()
    np.testing.assert_allclose(sol.x, few.x, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(sol.y[:, 6:], 0)
    np.testing.assert_array_equal(sol.s[:, 6:], np.inf)
    bar = sol.vjp(x=np.ones(n), y=np.ones(m))
    assert not bar.b[:, 6:].any()
    assert not bar.A[:, 6:].any()
    assert np.isfinite(bar.P).all()
    np.testing.assert_allclose(bar.q, few.vjp(x=np.ones(n), y=np.ones(6)).q, rtol=1e-8, atol=1e-8)
    data["b"][0, 3] = np.inf  # an equality
    data["b"][1, 0] = np.inf  # a row of a second-order cone
    status = gd.solve(**data, cones=CONES).status
    assert [gd.Status(c).name for c in status[:3]] == ["INVALID_DATA", "INVALID_DATA", "SOLVED"]


# ---- derivatives -----------------------------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_returned(rng):
    sol = gd.solve(**batch(rng), cones=CONES)
    bars = {"x": rng.standard_normal((6, n)), "obj": rng.standard_normal(6)}
    full = sol.vjp(**bars)
    for name in NAMES:
        for wrt in (name, [name], (name,)):
            bar = sol.vjp(**bars, wrt=wrt)
            assert_same_bits(getattr(bar, name), getattr(full, name), name)
            assert all(getattr(bar, other) is None for other in NAMES if other != name)
    assert all(getattr(sol.vjp(**bars, wrt=()), name) is None for name in NAMES)


def test_no_direction_is_the_zero_direction(rng):
    sol = gd.solve(**batch(rng), cones=CONES)
    dot, bar = sol.jvp(), sol.vjp()
    for name in ("x", "y", "s", "obj"):
        assert not getattr(dot, name).any()
        assert getattr(dot, name).shape == getattr(sol, name).shape
    for name in NAMES:
        assert not getattr(bar, name).any()


def test_directions_without_batch_axis_are_shared(rng):
    sol = gd.solve(**batch(rng), cones=CONES)
    q, x = rng.standard_normal(n), rng.standard_normal(n)
    assert_same_bits(sol.jvp(q=q).x, sol.jvp(q=np.tile(q, (6, 1))).x)
    assert_same_bits(sol.jvp(q=q[None]).x, sol.jvp(q=np.tile(q, (6, 1))).x)
    assert_same_bits(sol.vjp(x=x, obj=2).b, sol.vjp(x=np.tile(x, (6, 1)), obj=np.full(6, 2.0)).b)


def test_a_shared_argument_may_move_differently_in_each_problem(rng):
    data = batch(rng)
    shared_P = {**data, "P": data["P"][0]}
    dots = rng.standard_normal((6, n, n))
    dots += np.swapaxes(dots, 1, 2)
    few = gd.solve(**shared_P, cones=CONES).jvp(P=dots)
    full = gd.solve(**expanded(shared_P, 6), cones=CONES).jvp(P=dots)
    np.testing.assert_allclose(few.x, full.x, rtol=1e-7, atol=1e-8)


def test_jvp_and_vjp_are_adjoint_even_for_a_tangent_of_P_that_is_not_symmetric(rng):
    data = batch(rng)
    sol = gd.solve(**data, cones=CONES)
    dots = {name: rng.standard_normal(value.shape) for name, value in data.items()}
    bars = {name: rng.standard_normal(getattr(sol, name).shape) for name in ("x", "y", "s", "obj")}
    dot, bar = sol.jvp(**dots), sol.vjp(**bars)
    forward = sum(np.sum(bars[name] * getattr(dot, name)) for name in bars)
    reverse_ = sum(np.sum(dots[name] * getattr(bar, name)) for name in NAMES)
    assert forward == pytest.approx(reverse_, rel=1e-11)
    assert_same_bits(bar.P, np.swapaxes(bar.P, 1, 2))


def test_the_envelope_identities(rng):
    sol = gd.solve(**batch(rng), cones=CONES)
    bar = sol.vjp(obj=1)
    outer = np.einsum("bi,bj->bij", sol.x, sol.x) / 2
    for actual, expected in (
        (bar.P, outer),
        (bar.q, sol.x),
        (bar.A, np.einsum("bi,bj->bij", sol.y, sol.x)),
        (bar.b, -sol.y),
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


# ---- results ---------------------------------------------------------------------------------------------------------


def test_results_are_frozen(rng):
    sol = gd.solve(**batch(rng), cones=CONES)
    for record in (sol, sol.jvp(q=np.ones(n)), sol.vjp(x=np.ones(n))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.q = 0


def test_the_repr_of_a_batch(rng):
    data = batch(rng)
    data["q"][2] = np.nan
    text = repr(gd.solve(**data, cones=CONES))
    assert text.startswith("Solution(B=6, n=4, m=8, float64, backend 'cpu')\n")
    for word in ("x [6, 4]", "y [6, 8]", "obj [6]", "5 SOLVED, 1 INVALID_DATA", "iterations", "primal", "dual", "gap"):
        assert word in text
    assert gd.Status.INVALID_DATA.what in text
    assert "nan" not in text


def test_the_repr_of_one(rng):
    sol = gd.solve(**shared(batch(rng), NAMES), cones=CONES)
    text = repr(sol)
    assert text.startswith("Solution(n=4, m=8, float64, backend 'cpu')\n")
    assert "status      SOLVED" in text
    assert f"objective   {sol.obj:.10g}" in text
    spoiled = {**shared(batch(rng), NAMES), "q": np.full(n, np.nan)}
    assert "INVALID_DATA" in repr(gd.solve(**spoiled, cones=CONES))


def test_threads_of_python_may_solve_side_by_side(rng):
    items = [shared(batch(rng, B=1), NAMES) for _ in range(8)]
    expected = [gd.solve(**item, cones=CONES) for item in items]
    failures: list[str] = []

    def work(i):
        for _ in range(30):
            sol = gd.solve(**items[i], cones=list(CONES))
            if sol.x.tobytes() != expected[i].x.tobytes():
                failures.append(f"problem {i} came out differently")
            if sol.vjp(x=sol.x).A.tobytes() != expected[i].vjp(x=expected[i].x).A.tobytes():
                failures.append(f"the gradient of problem {i} came out differently")

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_solution_lives_on_without_the_names_of_its_data(rng):
    def made():
        return gd.solve(**{k: v.copy() for k, v in batch(rng, B=64).items()}, cones=CONES)

    sol = made()
    first = sol.vjp(x=np.ones(n)).A
    [np.full((64, m, n), np.nan) for _ in range(50)]  # would land where freed memory was
    assert_same_bits(sol.vjp(x=np.ones(n)).A, first)
