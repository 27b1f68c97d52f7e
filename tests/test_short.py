"""The short way for one problem after another: the same bits, the same errors, and nothing shared between calls."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_same_bits

import gpudiff as gd
from gpudiff import _short
from gpudiff._derivative import LateLinearization

NAMES = ("P", "q", "A", "b")
CONES = [gd.Zero(1), gd.Nonnegative(3), gd.SecondOrder(3)]
n, m = 5, 7


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(_short, "_shelves", {})
    monkeypatch.setattr(_short, "_met", set())


def problem(rng, dtype=np.float64, size=n):
    L = rng.standard_normal((size, size))
    A = rng.standard_normal((m, size))
    b = A @ rng.standard_normal(size) + np.array([0, 0.4, 0.4, 0.4, 2, 0.1, 0.1])
    P = L @ L.T / size + 0.1 * np.eye(size)
    return [a.astype(dtype) for a in ((P + P.T) / 2, 3 * rng.standard_normal(size), A, b)]


def went_short(sol) -> bool:
    return type(sol.linearization) is LateLinearization


def solve(data, settings=None, cones=CONES):
    """A problem solved the short way."""
    sols = [gd.solve(*data, cones, settings) for _ in range(3)]
    assert went_short(sols[2])
    return sols[2]


def assert_same(short, long):
    for name in (*RESULT_FIELDS, "margin"):
        ours, theirs = getattr(short, name), getattr(long, name)
        assert type(ours) is type(theirs), name
        assert_same_bits(ours, theirs, name)
    assert (short.backend, short.method, short.work) == (long.backend, long.method, long.work)
    assert repr(short) == repr(long)
    x_bar = np.arange(short.x.size, dtype=float)
    for name in NAMES:
        ours, theirs = (getattr(sol.vjp(x=x_bar, s=np.ones(m)), name) for sol in (short, long))
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert_same_bits(ours, theirs, name)
    assert_same_bits(short.jvp(b=np.ones(m)).y, long.jvp(b=np.ones(m)).y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("family", ["mixed", "mixed, no P", "qp"])
@pytest.mark.parametrize("size", [1, 4, 5, 6])  # odd and even lengths of a block
def test_the_same_bits(rng, dtype, family, size):
    data = problem(rng, dtype, size)
    cones = [gd.Nonnegative(2), gd.Zero(0), gd.Nonnegative(5)] if family == "qp" else CONES
    if family == "mixed, no P":
        data[:2] = None, -data[2].T @ np.array([-1, 0.3, 0.5, 0.1, 1, 0.2, 0.3], dtype)  # bounded below
    long = gd.solve(*data, cones)
    assert long.ok
    assert not went_short(long)
    short = solve(data, cones=cones)
    assert_same(short, long)
    warm = gd.solve(*data, cones, warm_start=long)
    assert not went_short(warm)
    for _ in range(3):
        again = gd.solve(*data, cones, warm_start=short)
    assert went_short(again)
    assert_same(again, warm)
    for start in (long, warm):
        again = gd.solve(*data, cones, warm_start=start)
        assert went_short(again)
        assert_same_bits(again.x, gd.solve(*data, cones, gd.Settings(max_iter=199), warm_start=start).x)


def test_a_solver_goes_it_too(rng):
    solver = gd.Solver(CONES, n)
    data = problem(rng)
    sols = [solver.solve(*data) for _ in range(3)]
    assert [went_short(sol) for sol in sols] == [False, False, True]
    assert went_short(gd.solve(*data, list(CONES)))  # the same cones and settings: the same kind
    assert_same(sols[2], sols[0])
    with pytest.raises(gd.ShapeError, match="q: expected shape"):
        gd.Solver(CONES, n - 1).solve(*data)


def test_results_do_not_change_with_the_next_solve(rng):
    one, other = problem(rng), problem(rng)
    first = solve(one)
    kept = gd.solve(*one, CONES, gd.Settings(max_iter=199))
    second = gd.solve(*other, CONES)
    assert not np.array_equal(first.x, second.x)
    assert_same(first, kept)
    first.x[...] = 7  # belongs to the caller
    assert_same(gd.solve(*one, CONES), kept)


def test_fields_are_made_once_and_frozen(rng):
    sol = solve(problem(rng))
    assert "x" not in vars(sol)
    assert sol.x is sol.x
    assert {"x", "y", "s", "obj", "status", "method", "vjp"} <= set(dir(sol))
    with pytest.raises(AttributeError):
        sol.x = 0
    with pytest.raises(AttributeError, match="'Solution' object has no attribute 'z'"):
        _ = sol.z
    assert np.shares_memory(sol.x, sol.linearization.result.x)
    again = pickle.loads(pickle.dumps(sol))
    assert_same(again, sol)


STRIDES = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "spread out": lambda a: np.repeat(a, 3, axis=-1)[..., 1::3],
    "broadcast": lambda a: np.broadcast_to(a[None], (2, *a.shape))[1],
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("layout", STRIDES)
def test_any_strides(rng, layout):
    data = problem(rng)
    plain = solve(data)
    sol = gd.solve(*[STRIDES[layout](a) for a in data], CONES)
    assert went_short(sol)
    assert_same(sol, plain)


# ---- what goes the long way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda P, q, A, b: (P + np.triu(np.ones_like(P), 1), q, A, b), gd.DataError, "P: expected symmetric"),
        (lambda P, q, A, b: (P[:4], q, A, b), gd.ShapeError, "P: expected shape"),
        (lambda P, q, A, b: (P[0, 0], q, A, b), gd.ShapeError, "P: expected shape"),
        (lambda P, q, A, b: (P, q, A[:, :1], b), gd.ShapeError, "A: expected shape"),
        (lambda P, q, A, b: (P, q, None, b), gd.ShapeError, "A: expected an array"),
        (lambda P, q, A, b: (P, q, A, b[0]), gd.ShapeError, "b: expected shape"),
        (lambda P, q, A, b: (P, q, A, b.astype(complex)), gd.DtypeError, "b: expected float64"),
        (lambda P, q, A, b: (P, q, np.ma.masked_array(A), b), gd.DtypeError, "A: expected a plain array"),
    ],
)
def test_errors(rng, change, error, words):
    data = problem(rng)
    solve(data)
    with pytest.raises(error, match=words):
        gd.solve(*change(*data), CONES)
    with pytest.raises(gd.ArgumentError, match="warm_start: expected a Solution or None, got int"):
        gd.solve(*data, CONES, warm_start=3)
    with pytest.raises(gd.BackendError, match="backend: expected one of"):
        gd.solve(*data, CONES, backend="gpu")
    with pytest.raises(gd.ShapeError, match=r"warm_start: expected a solution of problems with n=5, m=7, .* n=2, m=1"):
        gd.solve(*data, CONES, warm_start=gd.solve(None, np.ones(2), np.ones((1, 2)), np.ones(1), [gd.Zero(1)]))
    assert went_short(gd.solve(*data, CONES))


@pytest.mark.parametrize(
    "change",
    [
        lambda P, q, A, b: (P, q, A.astype(np.float32), b),
        lambda P, q, A, b: (P.tolist(), q, A, b),
        lambda P, q, A, b: (P, q.astype(q.dtype.newbyteorder()), A, b),
        lambda P, q, A, b: (P, q[None], A, b),
        lambda P, q, A, b: (P, q, A, np.tile(b, (2, 1))),
        lambda P, q, A, b: (P, q, A.view(type("Sub", (np.ndarray,), {})), b),
    ],
)
def test_what_is_unusual(rng, change):
    data = problem(rng)
    plain = solve(data)
    sol = gd.solve(*change(*data), CONES)
    assert not went_short(sol)
    tolerance = 1e-3 if change(*data)[2].dtype == np.float32 else 1e-12
    np.testing.assert_allclose(sol.x, np.broadcast_to(plain.x, sol.x.shape), rtol=tolerance, atol=tolerance)


def test_faults_of_the_data_and_what_settings_ask_for(rng, capsys):
    data = problem(rng)
    bad = [data[0], np.full(n, np.nan), *data[2:]]
    solve(data)
    sol = gd.solve(*bad, CONES)
    assert went_short(sol)
    assert sol.status == gd.Status.INVALID_DATA
    assert np.isnan(sol.x).all()
    loud = gd.Settings(on_failure="raise", verbose=True)
    assert solve(data, loud).ok
    text = capsys.readouterr().out
    assert text.count("Solution(") == 3
    with pytest.raises(gd.SolveError, match="not solved"):
        gd.solve(*bad, CONES, loud)
    for settings in (gd.Settings(on_failure="zero"), gd.Settings(rescue=True)):
        sols = [gd.solve(*d, CONES, settings) for d in (data, data, data, bad)]
        assert not any(map(went_short, sols))
    start = gd.solve(*bad, CONES)
    for _ in range(4):  # a failed start is none
        assert_same_bits(gd.solve(*data, CONES, warm_start=start).x, gd.solve(*data, CONES).x)


def test_settings_that_are_gone_are_not_taken_for_others(rng):
    data = problem(rng)
    for limit in range(1, 60):  # an object dies in each round, and the next may get its address
        settings = gd.Settings(max_iter=limit, polish=False)
        sols = [gd.solve(*data, CONES, settings) for _ in range(3)]
        assert len({int(sol.iterations) for sol in sols}) == 1
        assert sols[0].linearization.settings is sols[2].linearization.settings is settings


def test_the_number_of_kinds_is_bounded(rng, monkeypatch):
    monkeypatch.setattr(_short, "_MOST", 4)
    for size in (*range(1, 12), 3, 3):
        for _ in range(3):
            sol = gd.solve(None, np.ones(size), -np.eye(size), np.zeros(size), [gd.Nonnegative(size)])
        assert sol.x.shape == (size,)
        assert len(_short._shelves) <= len(_short._met) <= 4


def test_large_problems_go_the_long_way():
    size = 150
    for _ in range(3):
        sol = gd.solve(np.eye(size), np.ones(size), -np.eye(size), np.ones(size), [gd.Nonnegative(size)])
    assert not went_short(sol)


def test_threads_side_by_side(rng):
    """Nothing of one call is seen by another; there come to be as many singles as there are calls at the same time."""
    problems = [problem(rng) for _ in range(6)]
    expected = [gd.solve(*data, CONES, gd.Settings(max_iter=199)) for data in problems]
    failures: list[int] = []
    together = threading.Barrier(6)

    def work(i):
        together.wait()
        for _ in range(300):
            sol = gd.solve(*problems[i], CONES)
            if sol.x.tobytes() != expected[i].x.tobytes() or sol.work != expected[i].work:
                failures.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    (shelf,) = _short._shelves.values()
    assert 1 <= len(shelf.singles) <= 6
