"""A problem's result has the same bits alone, in any batch, at any position, in any memory layout, next to anything."""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import (
    MIXED,
    Problem,
    Z,
    dual_kind,
    feasible_qps,
    infeasible,
    inside,
    stack,
    unbounded,
    varied_qps,
    well_posed,
)

import gpudiff as gd

INPUTS = ("P", "q", "A", "b")
OUTPUTS = ("x", "y", "s", "obj")
SIZE = 1000


class Everything:
    """All that a call can answer: the solution, tangents and gradients for fixed directions and seeds."""

    def __init__(self, problem: Problem, direction: dict, seed: dict, **options):
        sol = gd.solve(*problem.args, **options)
        dot, bar = sol.jvp(**direction), sol.vjp(**seed)
        fields = (*RESULT_FIELDS, "margin", "differentiable")
        self.parts = {name: np.asarray(getattr(sol, name)) for name in fields}
        self.parts |= {f"{name} tangent": np.asarray(getattr(dot, name)) for name in OUTPUTS}
        self.parts |= {f"{k} gradient": np.asarray(v) for k in INPUTS if (v := getattr(bar, k)) is not None}

    def assert_same(self, other: Everything, mine=slice(None), theirs=slice(None)) -> None:
        """These problems of mine are those problems of the other's, bit for bit."""
        for name, part in self.parts.items():
            assert_same_bits(part[mine], other.parts[name][theirs], name)


class Case:
    """A thousand problems and how to answer any selection of them."""

    def __init__(self, name: str):
        rng = np.random.default_rng(7)
        if name == "qp":
            self.problem = varied_qps(rng, SIZE)[1]
        elif name == "every status":
            self.problem = stack([self.any_status(rng, i % 3) for i in range(SIZE)])
        else:
            distinct = well_posed(name, 50)
            self.problem = stack([distinct.item(i % 50) for i in range(SIZE)])
        q, b = self.problem.q, self.problem.b
        arrays = {k: getattr(self.problem, k) for k in INPUTS if getattr(self.problem, k) is not None}
        self.direction = {k: rng.standard_normal(a.shape) for k, a in arrays.items()}
        if "P" in self.direction:
            self.direction["P"] += self.direction["P"].swapaxes(1, 2)
        self.seed = {"x": rng.standard_normal(q.shape), "y": rng.standard_normal(b.shape)}
        self.seed |= {"s": rng.standard_normal(b.shape), "obj": rng.standard_normal(len(q))}
        self.whole = Everything(self.problem, self.direction, self.seed)

    @staticmethod
    def any_status(rng, which: int) -> Problem:
        """A solvable, an infeasible or an unbounded problem, all of one shape."""
        if which == 0:
            p = feasible_qps(rng, 1, 6, MIXED)
            return Problem(p.P, p.q[0], p.A, p.b, MIXED)
        p = infeasible(rng, MIXED) if which == 1 else unbounded(rng, MIXED)
        return Problem(np.zeros((6, 6)) if p.P is None else p.P, p.q, p.A, p.b, MIXED)

    def answer(self, pick, problem: Problem | None = None, **options) -> Everything:
        """The answer for a selection, passed as an independent contiguous batch (or without the axis, for an int)."""
        source = self.problem if problem is None else problem
        data = [None if a is None else np.array(a[pick]) for a in source.data]
        direction = {k: np.array(v[pick]) for k, v in self.direction.items()}
        seed = {k: np.array(v[pick]) for k, v in self.seed.items()}
        return Everything(Problem(*data, source.cones), direction, seed, **options)


@pytest.fixture(scope="module", params=["qp", "lp", "mixed", "sdp", "every cone", "every status"])
def case(request) -> Case:
    return Case(request.param)


def test_the_cases_are_not_trivial(case):
    statuses = set(np.unique(case.whole.parts["status"]))
    iterations = np.unique(case.whole.parts["iterations"])
    assert gd.Status.SOLVED in statuses
    assert len(iterations) > 1, "lanes finish at different times"
    assert np.all(np.isfinite(case.whole.parts["x"][case.whole.parts["status"] == gd.Status.SOLVED]))


@pytest.mark.parametrize("i", [0, 1, 6, 7, 8, 63, 500, 997, 998, 999])
def test_alone(case, i):
    """As a batch of one, and without a batch axis."""
    case.answer(slice(i, i + 1)).assert_same(case.whole, theirs=slice(i, i + 1))
    case.answer(i).assert_same(case.whole, mine=(), theirs=i)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 9, 16, 17, 64, 65, 333])
def test_in_batches_of_any_size(case, size):
    for start in (0, 1, 5, SIZE - size):
        window = slice(start, start + size)
        case.answer(window).assert_same(case.whole, theirs=window)


def test_in_any_order(case, rng):
    order = rng.permutation(SIZE)
    case.answer(order).assert_same(case.whole, theirs=order)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_with_any_number_of_threads(case, threads):
    case.answer(slice(None), settings=gd.Settings(threads=threads)).assert_same(case.whole)


def test_on_every_run(case):
    case.answer(slice(None)).assert_same(case.whole)


@pytest.mark.parametrize("what", ["NaN", "inf", "infeasible", "huge", "indefinite"])
def test_next_to_anything(case, what, rng):
    """Every other problem is spoilt; those between keep all their bits."""
    P, q, A, b = (None if a is None else a.copy() for a in case.problem.data)
    spoilt = np.arange(SIZE) % 2 == 1
    if what == "NaN":
        q[spoilt, 0] = np.nan
    elif what == "inf":
        A[spoilt, 0, 0] = np.inf
    elif what == "infeasible":
        y = inside(rng, [(kind if kind == Z else dual_kind(kind), k) for kind, k in case.problem.cones])
        A[spoilt] -= y[:, None] * (y @ A[spoilt])[:, None, :] / (y @ y)
        b[spoilt] -= np.outer(b[spoilt] @ y + 1, y) / (y @ y)
    elif what == "huge":
        A[spoilt] *= 1e150
        q[spoilt] *= 1e-150
    elif P is None:
        pytest.skip("this case has no P to be made indefinite")
    else:
        P[spoilt] = -P[spoilt]
    answer = case.answer(slice(None), Problem(P, q, A, b, case.problem.cones))
    answer.assert_same(case.whole, mine=~spoilt, theirs=~spoilt)
    before, after = case.whole.parts["x"][spoilt], answer.parts["x"][spoilt]
    assert not np.array_equal(before, after, equal_nan=True), "the spoilt problems are what they were"


# ---- memory layout ---------------------------------------------------------------------------------------------------


def reversed_view(a: np.ndarray) -> np.ndarray:
    return a[::-1].copy()[::-1]


def every_second(a: np.ndarray) -> np.ndarray:
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan)
    wide[..., ::2] = a
    return wide[..., ::2]


def last_axis_reversed(a: np.ndarray) -> np.ndarray:
    return a[..., ::-1].copy()[..., ::-1]


def batch_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.nbytes + 1, dtype=np.uint8)
    out = raw[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def other_endian(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder())


LAYOUTS = [
    *(reversed_view, every_second, last_axis_reversed, batch_last),
    *(np.asfortranarray, read_only, unaligned, other_endian),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_memory_layout_does_not_matter(layout, rng):
    problem = varied_qps(rng, 50)[1]
    direction = {k: rng.standard_normal(getattr(problem, k).shape) for k in ("q", "A", "b")}
    seed = {k: rng.standard_normal(v.shape) for k, v in (("x", problem.q), ("y", problem.b), ("s", problem.b))}
    before = [a.copy() for a in problem.data]
    plain = Everything(problem, direction, seed)
    moved = Problem(*(layout(a) for a in problem.data), problem.cones)
    other = Everything(moved, {k: layout(v) for k, v in direction.items()}, {k: layout(v) for k, v in seed.items()})
    other.assert_same(plain)
    for a, b in zip(problem.data, before, strict=True):
        assert_same_bits(a, b, "inputs are only read")


def test_a_broadcast_view_means_the_expanded_array(rng):
    """A stride of 0 made by the caller is a batch axis like any other: its gradient is per problem."""
    compact, full = varied_qps(rng, 20, ("A",))
    view = np.broadcast_to(compact.A, full.A.shape)
    sol, expected = gd.solve(full.P, full.q, view, full.b, full.gd_cones), gd.solve(*full.args)
    assert_same_bits(sol.x, expected.x)
    seed = rng.standard_normal(sol.x.shape)
    assert_same_bits(sol.vjp(x=seed).A, expected.vjp(x=seed).A)


@pytest.mark.parametrize("shared", [("A",), ("P", "A"), ("q",), ("P", "A", "b")], ids="".join)
def test_shared_and_expanded_agree(shared, rng):
    compact, full = varied_qps(rng, 200, shared)
    sol, expected = gd.solve(*compact.args), gd.solve(*full.args)
    assert np.all(sol.ok)
    for name in OUTPUTS:
        assert_close(getattr(sol, name), getattr(expected, name), 1e-11, name)


@pytest.mark.parametrize("shared", [("A",), ("P", "A", "b")], ids="".join)
def test_batch_invariance_with_shared_arguments(shared, rng):
    compact, _ = varied_qps(rng, 200, shared)
    whole = gd.solve(*compact.args)
    for pick in (slice(0, 1), slice(3, 10), slice(199, 200), rng.permutation(200)):
        data = [a if k in shared else np.array(a[pick]) for k, a in zip(INPUTS, compact.data, strict=True)]
        part = gd.solve(*data, compact.gd_cones)
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(part, name), getattr(whole, name)[pick], name)


def test_a_batch_of_one_keeps_its_axis_and_a_single_problem_has_none(rng):
    problem = varied_qps(rng, 1)[1]
    one, single = gd.solve(*problem.args), gd.solve(*problem.item(0).args)
    assert one.x.shape == (1, 5)
    for name in RESULT_FIELDS:
        assert_same_bits(np.asarray(getattr(one, name))[0], np.asarray(getattr(single, name)), name)


def test_compiled_solver_gives_the_same_bits(rng):
    problem = varied_qps(rng, 40)[1]
    solver = gd.Solver(problem.gd_cones, 5)
    expected = gd.solve(*problem.args)
    for _ in range(2):
        sol = solver.solve(*problem.data)
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(sol, name), getattr(expected, name), name)
