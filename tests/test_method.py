"""The choice of a method, what is told of it, and starting from earlier solutions with either."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from device_arrays import StandInDriver, use

import gpudiff as gd
from gpudiff import _library, _method
from gpudiff._abi import METHOD, CReport, CSettings
from gpudiff._problem import as_problem
from gpudiff.backends._single import work
from gpudiff.backends.cpu import CpuBackend

LINEAR = [gd.Zero(1), gd.Nonnegative(6)]
ROUND = [gd.Nonnegative(4), gd.SecondOrder(3)]
n, m = 4, 7
METHODS = ("ipm", "active_set")


def batch(rng, B=8):
    """Strictly feasible QPs, some of whose rows are active; they suit `LINEAR` and `ROUND` alike."""
    L = rng.standard_normal((B, n, n))
    P = L @ np.swapaxes(L, 1, 2) / n + 0.5 * np.eye(n)
    A = rng.standard_normal((B, m, n))
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((B, n)))
    b[:, 1:] += 0.3
    return [(P + np.swapaxes(P, 1, 2)) / 2, 3 * rng.standard_normal((B, n)), A, b]


def problem(rng, cones=LINEAR, P=True, size=n, rows=m):
    return as_problem(np.eye(size) if P else None, np.ones(size), np.ones((rows, size)), np.ones(rows), cones)


# ---- which -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "cones", "P", "polish", "expected"),
    [
        ("auto", LINEAR, True, True, "active_set"),
        ("auto", LINEAR, False, True, "ipm"),
        ("auto", LINEAR, True, False, "ipm"),
        ("auto", ROUND, True, True, "ipm"),
        ("ipm", LINEAR, True, True, "ipm"),
        ("ipm", ROUND, False, False, "ipm"),
        ("active_set", LINEAR, True, True, "active_set"),
        ("active_set", LINEAR, False, True, "active_set"),
        ("active_set", LINEAR, True, False, "active_set"),
    ],
)
def test_the_choice(rng, asked, cones, P, polish, expected):
    settings = gd.Settings(method=asked, polish=polish)
    assert _method.choose(settings, problem(rng, cones, P), CpuBackend(), False) == expected
    data = batch(rng)
    sol = gd.solve(data[0] if P else None, *data[1:], cones, settings)
    assert sol.method == expected
    assert f"\n  method      {expected}" in repr(sol)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_the_crossover(rng, warm, shared, monkeypatch):
    key = (True, shared, warm)
    monkeypatch.setitem(_method._ACTIVE_SET_UP_TO, key, _method._Largest(n=5, m=9))
    cpu, auto = CpuBackend(), gd.Settings()
    for size, rows, expected in ((5, 9, "active_set"), (6, 9, "ipm"), (5, 10, "ipm")):
        P, q, A, b = np.eye(size), np.ones((3, size)), np.ones((rows, size)), np.ones(rows)
        stacked = as_problem(P if shared else np.stack([P] * 3), q, A, b, [gd.Nonnegative(rows)])
        assert _method.choose(auto, stacked, cpu, warm) == expected
        others = [facts for facts in _method._ACTIVE_SET_UP_TO if facts[0] and facts != key]
        assert min(_method._ACTIVE_SET_UP_TO[facts].n for facts in others) > 6
        alone = as_problem(P, q[0], A, b, [gd.Nonnegative(rows)])  # shares nothing
        assert _method.choose(auto, alone, cpu, warm) == ("active_set" if shared else expected)


def test_the_active_set_refuses_other_cones(rng):
    settings = gd.Settings(method="active_set")
    expected = "method: expected 'auto' or 'ipm', .* Zero and Nonnegative alone, got 'active_set' with SecondOrder"
    with pytest.raises(gd.SettingsError, match=expected):
        gd.solve(*batch(rng), ROUND, settings)
    with pytest.raises(gd.SettingsError, match=expected):
        gd.Solver(ROUND, n, settings)


def test_a_gpu_has_the_active_set_for_those_who_ask(rng, monkeypatch):
    driver = StandInDriver()
    backend = use(monkeypatch, driver)
    data, settings = batch(rng), gd.Settings(method="active_set")
    assert gd.solve(*data, LINEAR, backend="cuda").method == "ipm"
    assert [entry for entry, *_ in driver.launches] == ["gd_solve_kernel", "gd_careful_kernel"]
    sol, expected = gd.solve(*data, LINEAR, settings, backend="cuda"), gd.solve(*data, LINEAR, settings)
    assert [entry for entry, *_ in driver.launches[2:]] == ["gd_active_set_kernel", "gd_careful_kernel"]
    assert (sol.method, sol.backend) == ("active_set", "cuda")
    assert_same_bits(sol.x, expected.x)
    assert sol.work.changes == expected.work.changes > 0
    linear = gd.solve(None, *data[1:], [gd.Zero(1), gd.Nonnegative(6)], settings, backend="cuda")
    assert [entry for entry, *_ in driver.launches[4:]] == ["gd_solve_kernel", "gd_careful_kernel"]
    assert (linear.work.fallbacks, linear.work.changes) == (8, 0)
    monkeypatch.setattr(backend, "methods", ("ipm",))
    message = "method: expected one of 'auto', 'ipm', which backend 'cuda' has, got 'active_set'"
    with pytest.raises(gd.BackendError, match=message):
        gd.solve(*data, LINEAR, settings, backend="cuda")


@pytest.mark.parametrize("polish", [True, False])
def test_a_solver_compiles_the_kernels_of_its_method(monkeypatch, polish):
    use(monkeypatch, StandInDriver())
    settings = gd.Settings(method="active_set", polish=polish)
    derivatives = ("jvp", "vjp", "sum")
    assert gd.Solver(LINEAR, n, settings).compile().kernels == ("active_set", "careful", *derivatives)
    first = ("solve",) if polish else ()  # there is no active set without a P
    assert gd.Solver(LINEAR, n, settings).compile(has_P=False).kernels == (*first, "careful", *derivatives)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alone", [False, True])
def test_the_library_is_told(rng, monkeypatch, method, alone):
    """The method that solved a problem goes with every call, derivatives included; its counts come back."""
    library, told = _library.load(), []

    def listen(name):
        function = getattr(library, name)

        def call(first, settings, *rest):
            settings = settings if isinstance(settings, CSettings) else settings._obj
            told.append((name, settings.method))
            code = function(first, settings, *rest)
            report = rest[-1] if isinstance(rest[-1], CReport) else rest[-1]._obj
            report.changes, report.fallbacks = 12, 3
            return code

        monkeypatch.setattr(library, name, call)

    for name in ("gd_solve", "gd_jvp", "gd_vjp"):
        listen(name)
    data = [a[0] for a in batch(rng)] if alone else batch(rng)
    settings = gd.Settings(method=method, max_iter=150)  # an object of its own: nothing is known of it yet
    for _ in range(3):  # the last one the short way, where there is one
        sol = gd.solve(*data, LINEAR, settings)
        sol.jvp(q=np.ones(n))
        sol.vjp(x=np.ones(n))
    assert told == [(name, METHOD[method]) for name in ("gd_solve", "gd_jvp", "gd_vjp")] * 3
    assert (sol.work.changes, sol.work.fallbacks) == (12, 3)
    counts = "active_set, 12 changes of working sets, 3 left to ipm" if method == "active_set" else "ipm"
    assert f"\n  method      {counts}\n" in repr(sol)


def test_every_count_of_a_report_has_its_place():
    counts = {"interior": 1, "newton": 2, "resumed": 3, "flops": 4.0, "fallbacks": 5, "changes": 6}
    assert work(CReport(index=9, **counts))._asdict() == counts


@pytest.mark.parametrize("shared", [False, True])
def test_the_methods_agree(rng, shared):
    P, q, A, _ = batch(rng, 40)
    P, A = (P[0], A[0]) if shared else (P, A)
    b = (A @ rng.standard_normal((40, n, 1)))[..., 0] + np.array([0, *[0.3] * 6])
    sols = {method: gd.solve(P, q, A, b, LINEAR, gd.Settings(method=method)) for method in METHODS}
    assert sols["ipm"].ok.all()
    assert sols["active_set"].ok.all()
    x_bar = rng.standard_normal(sols["ipm"].x.shape)
    for name in ("x", "y", "s", "obj"):
        assert_close(*(getattr(sols[method], name) for method in METHODS), 1e-9, name)
    assert_close(*(sols[method].vjp(x=x_bar).q for method in METHODS), 1e-7)


def test_the_counts_of_the_active_set(rng):
    data = batch(rng, 64)
    sol = gd.solve(*data, LINEAR, gd.Settings(method="active_set"))
    if sol.work.changes == 0:
        pytest.skip("the compiled library has no active set")
    assert sol.work.fallbacks == 0
    assert sol.work.interior == 0
    assert sol.iterations.sum() == sol.work.changes
    assert f"active_set, {sol.work.changes} changes" in repr(sol)
    again = gd.solve(*data, LINEAR, gd.Settings(method="active_set"), warm_start=sol)
    assert again.iterations.sum() < sol.iterations.sum()


def test_solve_qp_says_which(rng):
    P, q, A, b = batch(rng)
    settings = gd.Settings(method="active_set")
    sol = gd.solve_qp(P, q, A, b, lb=-np.ones(n), settings=settings)
    assert (sol.method, sol.backend) == ("active_set", "cpu")
    assert sol.work == sol.conic.work
    assert "\n  method      active_set" in repr(sol)
    assert gd.solve_qp(None, q, A, b, lb=-np.ones(n), ub=np.ones(n)).method == "ipm"


# ---- warm starts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_any_warm_start_gives_the_same_answers(rng, method):
    """The right one, one for all, one of another precision, one of quite other problems, one that failed."""
    data, other = batch(rng), batch(rng)
    settings = gd.Settings(method=method)
    cold = gd.solve(*data, LINEAR, settings)
    spoiled = [other[0], other[1] * np.where(np.arange(8) % 3, 1, np.nan)[:, None], *other[2:]]
    starts = {
        "itself": cold,
        "without axis": gd.solve(*[a[0] for a in data], LINEAR, settings),
        "extent 1": gd.solve(*[a[:1] for a in data], LINEAR, settings),
        "float32": gd.solve(*[a.astype(np.float32) for a in data], LINEAR, settings),
        "the other method": gd.solve(*data, LINEAR, gd.Settings(method=METHODS[method == "ipm"])),
        "other problems": gd.solve(*other, LINEAR, settings),
        "far away": gd.solve(1e3 * other[0], -1e5 * other[1], *other[2:], LINEAR, settings),
        "failures": gd.solve(*spoiled, LINEAR, settings),
        "one failure": gd.solve(data[0][0], np.full(n, np.nan), data[2][0], data[3][0], LINEAR, settings),
    }
    for name, start in starts.items():
        warm = gd.solve(*data, LINEAR, settings, warm_start=start)
        assert warm.ok.all(), name
        assert_close(warm.x, cold.x, 1e-9, name)
        assert_close(warm.y, cold.y, 1e-8, name)
    for name in ("without axis", "extent 1", "one failure"):
        one = gd.solve(*[a[3] for a in data], LINEAR, settings, warm_start=starts[name])
        assert_close(one.x, cold.x[3], 1e-9, name)


def test_a_float32_problem_starts_from_a_float64_solution(rng):
    data = [a.astype(np.float32) for a in batch(rng)]
    start = gd.solve(*[a.astype(np.float64) for a in data], LINEAR)
    for previous in (start, gd.solve(*[a[0].astype(np.float64) for a in data], LINEAR)):
        warm = gd.solve(*data, LINEAR, warm_start=previous)
        assert warm.x.dtype == np.float32
        assert_close(warm.x, start.x, 1e-4)


def test_solve_qp_starts_from_one_for_all(rng):
    P, q, _, _ = batch(rng)
    lb, total = -np.ones(n), np.zeros((8, 1))
    A = np.ones((1, n))
    cold = gd.solve_qp(P, q, A=A, b=total, lb=lb)
    alone = gd.solve_qp(P[0], q[0], A=A, b=total[0], lb=lb)
    assert cold.ok.all()
    for start in (cold, alone, gd.solve_qp(P[:1], q[:1], A=A, b=total[:1], lb=lb)):
        warm = gd.solve_qp(P, q, A=A, b=total, lb=lb, warm_start=start)
        assert_close(warm.x, cold.x, 1e-9)
        assert_close(warm.z_box, cold.z_box, 1e-8)


# ---- a solver that remembers -----------------------------------------------------------------------------------------


def test_remember_and_forget(rng):
    data = batch(rng)
    solver, plain = gd.Solver(ROUND, n, remember=True), gd.Solver(ROUND, n)
    assert repr(solver).endswith(", remember=True)")
    first = solver.solve(*data)
    moved = [data[0], data[1] + 1e-3, *data[2:]]
    expected = plain.solve(*moved, warm_start=first)
    warm = solver.solve(*moved)
    for name in RESULT_FIELDS:
        assert_same_bits(getattr(warm, name), getattr(expected, name), name)
    assert warm.iterations.sum() < plain.solve(*moved).iterations.sum()
    solver.forget()
    for name in RESULT_FIELDS:
        assert_same_bits(getattr(solver.solve(*moved), name), getattr(plain.solve(*moved), name), name)
        solver.forget()
    given = solver.solve(*moved, warm_start=first)  # what is given comes before what is remembered
    assert_same_bits(given.iterations, expected.iterations)


def test_one_problem_after_another(rng):
    """Without a batch axis, where all but the first few go the short way."""
    data = batch(rng, 20)
    solver, plain = gd.Solver(ROUND, n, remember=True), gd.Solver(ROUND, n)
    last = None
    for i in range(20):
        one = [data[0][i], data[1][i], data[2][i], data[3][i]]
        if i in (8, 9):
            one[1] = np.full(n, np.nan)  # the next one starts cold
        sol, expected = solver.solve(*one), plain.solve(*one, warm_start=last)
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(sol, name), getattr(expected, name), name)
        last = expected
    assert sol.ok


def test_what_does_not_fit_is_not_used(rng):
    data = batch(rng)
    solver = gd.Solver(ROUND, n, remember=True)
    cold = gd.solve(*data, ROUND)
    solver.solve(*[a[:3] for a in data])
    assert_same_bits(solver.solve(*data).iterations, cold.iterations)
    one = solver.solve(*[a[0] for a in data])  # eight are no start for one
    assert_same_bits(one.iterations, cold.iterations[0])
    assert_close(solver.solve(*data).x, cold.x, 1e-9)  # one is a start for eight
    assert_close(solver.solve(*[a.astype(np.float32) for a in data]).x, cold.x, 1e-3)


@pytest.mark.parametrize("remember", [1, None, "yes"])
def test_remember_is_true_or_false(remember):
    with pytest.raises(gd.ArgumentError, match=f"remember: expected True or False, got {remember!r}"):
        gd.Solver(LINEAR, n, remember=remember)


# ---- torch -----------------------------------------------------------------------------------------------------------


def tensors(data, requires_grad=False):
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(a.copy()).requires_grad_(requires_grad) for a in data]


def test_through_torch(rng):
    data = batch(rng)
    torch_data = tensors(data)
    sol = gd.solve(*torch_data, LINEAR, gd.Settings(method="active_set"))
    assert sol.method == "active_set"
    assert sol.work.interior == gd.solve(*data, LINEAR, gd.Settings(method="active_set")).work.interior
    assert gd.solve(*torch_data, ROUND).method == "ipm"
    assert "\n  method      active_set" in repr(sol)
    alone = gd.solve(*[a[0] for a in torch_data], LINEAR)
    for start in (sol, alone, gd.solve(*data, LINEAR), gd.solve(*[a.float() for a in torch_data], LINEAR)):
        assert_close(gd.solve(*torch_data, LINEAR, warm_start=start).x, sol.x, 1e-9)
    P, q, _, _ = torch_data
    box = -np.ones(n)
    cold, one = gd.solve_qp(P, q, lb=box), gd.solve_qp(P[0], q[0], lb=box)
    assert cold.method == "active_set"
    for start in (cold, one):
        assert_close(gd.solve_qp(P, q, lb=box, warm_start=start).x, cold.x, 1e-9)


@pytest.mark.parametrize("alone", [False, True])
def test_a_solver_that_remembers_keeps_no_graph(rng, alone):
    data = [a[0] for a in batch(rng)] if alone else batch(rng)
    solver, plain = gd.Solver(ROUND, n, remember=True), gd.Solver(ROUND, n)
    for _ in range(4):
        inputs = tensors(data, requires_grad=True)
        sol = solver.solve(*inputs)
        sol.x.square().sum().backward()
    expected = tensors(data, requires_grad=True)
    plain.solve(*expected).x.square().sum().backward()
    for ours, theirs in zip(inputs, expected, strict=True):
        assert_close(ours.grad, theirs.grad, 1e-7)
    kept = [weakref.ref(tensor) for tensor in (*inputs, sol.x, sol.y)]
    gc.disable()  # nor is there a cycle that only the collector would undo
    try:
        del inputs, sol, ours
        assert [ref() for ref in kept] == [None] * len(kept)
    finally:
        gc.enable()
    assert solver.solve(*data).iterations.max() <= 2  # it does remember
