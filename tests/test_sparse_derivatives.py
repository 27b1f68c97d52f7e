"""Derivatives of sparse problems: against dense ones, each other, finite differences, and within O(nnz) memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from problems import WELL_POSED, well_posed
from scipy import sparse

import gpudiff as gd
from gpudiff.backends.sparse import curvature as curvature_module
from gpudiff.backends.sparse import problem as problem_module
from gpudiff.bench import sparse_families as families

CASES = {
    "control": lambda: families.mpc(0, 125),  # n = 2000
    "dispatch": lambda: families.dispatch(0, 25, 40),  # a vertex of an LP, n = 1000
    "portfolio with factors": lambda: families.portfolio(0, 4900, 100),  # n = 5000
    "one large second-order cone": lambda: families.robust_portfolio(0, 300, 20),
    "many small second-order cones": lambda: families.many_norms(0, 300, 120),
    "semidefinite, explicit": lambda: families.correlation(0, 14),
    "semidefinite, matrix-free": lambda: families.correlation(0, 34),
    "entropy": lambda: families.entropy(0, 5000, 12),
    "random rows": lambda: families.lasso_like(0, 500, 300),
}


def directions(rng, case):
    """Tangents of all data, those of P and A on their patterns, P's symmetric."""
    A = case.A.copy()
    A.data = rng.standard_normal(A.nnz)
    P = None
    if case.P is not None:
        half = case.P.copy()
        half.data = rng.standard_normal(half.nnz)
        P = (half + half.T).tocsc()
    return {"P": P, "q": rng.standard_normal(case.q.size), "A": A, "b": rng.standard_normal(case.b.size)}


def paired(bar, dot):
    """⟨bar, dot⟩ and the sum of its terms' sizes."""
    terms = [
        np.atleast_1d((one.multiply(other) if sparse.issparse(one) else one * other).sum())
        for one, other in ((getattr(bar, name), other) for name, other in dot.items())
        if other is not None
    ]
    return float(np.sum(terms)), float(np.sum(np.abs(terms)))


@pytest.mark.parametrize("name", WELL_POSED)
def test_derivatives_are_those_of_dense_arrays(rng, name):
    problem = well_posed(name, 2).item(0)
    n, m = problem.q.size, problem.b.size
    exact = gd.solve(*problem.args, backend="cpu")
    P = None if problem.P is None else sparse.csc_matrix(problem.P)
    sol = gd.solve(P, problem.q, sparse.csr_matrix(problem.A), problem.b, problem.gd_cones, backend="clarabel")
    bars = {"x": rng.standard_normal(n), "y": rng.standard_normal(m), "s": rng.standard_normal(m), "obj": 0.7}
    got, full = sol.vjp(**bars), exact.vjp(**bars)
    for argument in ("P", "q", "A", "b"):
        value = getattr(got, argument)
        if value is not None:
            expected = getattr(full, argument)
            if sparse.issparse(value):
                pattern = getattr(problem, argument) != 0  # "qp, P = 0" has no entry
                value, expected = value.toarray(), expected * pattern
            assert_close(value, expected, 1e-9, argument)
    dot = {"q": rng.standard_normal(n), "A": rng.standard_normal((m, n)), "b": rng.standard_normal(m)}
    if P is not None:
        half = rng.standard_normal((n, n))
        dot["P"] = half + half.T
    tangents, dense = sol.jvp(**dot), exact.jvp(**dot)
    for field in ("x", "y", "s", "obj"):
        assert_close(getattr(tangents, field), getattr(dense, field), 1e-9, field)


@pytest.mark.parametrize("name", CASES)
def test_jvp_and_vjp_are_adjoint_and_agree_with_finite_differences(rng, name):
    """On real structures: ⟨bar, J dot⟩ = ⟨Jᵀ bar, dot⟩ to 1e-10, and central differences of the polished solution."""
    case = CASES[name]()
    sol = gd.solve(*case, backend="clarabel")
    assert sol.ok
    n, m = case.q.size, case.b.size
    bars = {"x": rng.standard_normal(n), "y": rng.standard_normal(m), "s": rng.standard_normal(m), "obj": 0.3}
    dot = directions(rng, case)
    tangents, bar = sol.jvp(**dot), sol.vjp(**bars)
    left = sum(float(np.sum(value * getattr(tangents, field))) for field, value in bars.items())
    right, size = paired(bar, dot)
    assert abs(left - right) <= 1e-10 * max(size, abs(left))
    assert bar.A.nnz == case.A.nnz
    # A step far below the margin, so that no cone's piece of the projection changes between the two solves.
    largest = max(1.0, np.abs(tangents.x).max(), np.abs(tangents.y).max(), np.abs(tangents.s).max())
    step = min(1e-5, 0.05 * float(sol.margin)) / largest
    ends = []
    for sign in (1, -1):
        P = None if case.P is None else case.P + sign * step * dot["P"]
        moved = (case.A + sign * step * dot["A"]).tocsc()
        data = (P, case.q + sign * step * dot["q"], moved, case.b + sign * step * dot["b"])
        ends.append(gd.solve(*data, case.cones, backend="clarabel"))
    for field in ("x", "y", "s", "obj"):
        difference = (getattr(ends[0], field) - getattr(ends[1], field)) / (2 * step)
        # rounding of the polished points, 1e-13 of their size, over the step
        noise = 1e-12 * max(1.0, np.abs(getattr(sol, field)).max()) / step
        assert_close(getattr(tangents, field), difference, 1e-5 + noise / max(1, np.abs(difference).max()), field)


def test_explicit_and_matrix_free_semidefinite_cones_agree(rng, monkeypatch):
    case = families.correlation(1, 10)
    bars = {"x": rng.standard_normal(case.q.size), "y": rng.standard_normal(case.b.size)}
    explicit = gd.solve(*case, backend="clarabel")
    expected = explicit.vjp(**bars)
    monkeypatch.setattr(curvature_module, "EXPLICIT_ORDER", 3)
    operator = gd.solve(*case, backend="clarabel")
    assert operator.linearization.problem.kept.point(0, operator.linearization.result)._derivative().matrix_free
    got = operator.vjp(**bars)
    assert_close(operator.x, explicit.x, 1e-11, "x")
    for name in ("q", "b"):
        assert_close(getattr(got, name), getattr(expected, name), 1e-9, name)


def test_without_a_factor(rng, monkeypatch):
    """Where a factor would not fit the same system is solved without one."""
    case = families.mpc(1, 20)
    bar = {"x": rng.standard_normal(case.q.size)}
    expected = gd.solve(*case).vjp(**bar)
    monkeypatch.setattr(problem_module, "MOST_ENTRIES", 10)
    sol = gd.solve(*case)
    assert_close(sol.vjp(**bar).b, expected.b, 1e-8, "b")
    assert sol.linearization.problem.kept.points[0].system.entries == 0


@pytest.mark.parametrize("taken", [False, True], ids=["an active row seems inactive", "an inactive row seems active"])
def test_polish_finds_the_active_rows_of_a_vertex(taken):
    """Where the rows that seem active are too few or too many Newton's system is singular; a pivot puts it right."""
    case = families.dispatch(1, 10, 12)
    exact = gd.solve(*case, backend="clarabel")
    active = int(np.argmax(np.where(exact.y > 1e-3, np.arange(exact.y.size), 0)))  # the last row with a multiplier
    near = case._replace(  # the same row again, 1e-7 further out: a solver cannot tell which of the two is active
        A=sparse.vstack([case.A, case.A[active]], "csc"),
        b=np.append(case.b, case.b[active] + 1e-7),
        cones=[*case.cones, gd.Nonnegative(1)],
    )
    sol = gd.solve(*near, backend="clarabel")
    point = sol.linearization.problem.kept.point(0, sol.linearization.result)
    x, v = point.x.copy(), point.v.copy()
    rows = point.blocks.nonnegative
    assert v[active] > 0 > v[-1]
    assert (v[rows] > 0).sum() + point.blocks.zero.size == x.size  # a vertex
    point.x, point.v = x + 1e-9, v.copy()
    if taken:
        point.v[[active, -1]] = v[active] / 2
    else:
        point.v[active] = -1e-9
    assert point.polish()
    assert_close(point.x, x, 1e-11, "x")
    assert_close(point.v, v, 1e-11, "v")


def test_the_factor_is_kept_and_the_polish_leaves_it(rng):
    case = families.mpc(0, 20)
    sol = gd.solve(*case)
    point = sol.linearization.problem.kept.points[0]
    made = point.system  # by the polish, at the same active rows
    assert made is not None
    sol.vjp(x=rng.standard_normal(case.q.size))
    sol.jvp(q=rng.standard_normal(case.q.size))
    assert point.system is made


def test_degenerate_problems_have_bounded_derivatives(rng):
    """Doubled rows: multipliers are not unique, x is; its derivative is that without the copies."""
    case = families.lasso_like(3, 60, 40)
    again = case._replace(
        A=sparse.vstack([case.A, case.A], "csc"), b=np.concatenate([case.b] * 2), cones=case.cones * 2
    )
    x_bar = rng.standard_normal(case.q.size)
    one, two = (gd.solve(*each, backend="clarabel") for each in (case, again))
    assert_close(two.x, one.x, 1e-9, "x")
    bar, twice = one.vjp(x=x_bar), two.vjp(x=x_bar)
    assert_close(twice.q, bar.q, 1e-8, "q")
    both = twice.b.reshape(2, -1)
    assert_close(both.sum(axis=0), bar.b, 1e-8, "b")
    y_bar = rng.standard_normal(again.b.size)
    assert np.abs(two.vjp(y=y_bar).q).max() < 1e3  # 1 / ε = 1e8 without care


def test_memory_grows_with_the_stored_entries(rng):
    """n = 50 000 in bands: a dense [m, n] matrix would take 40 GB; solve, vjp and jvp take some copies of the data."""
    case = families.banded(0, 50_000)
    entries = case.A.nnz + case.P.nnz + case.q.size + 3 * case.b.size
    x_bar = rng.standard_normal(case.q.size)
    tracemalloc.start()
    try:
        sol = gd.solve(*case)
        bar = sol.vjp(x=x_bar)
        sol.jvp(A=case.A)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sol.ok
    assert bar.A.nnz == case.A.nnz
    # 8-byte numbers and 4- or 8-byte indices; the system holds A twice (as B and Bᵀ). Measured: 80 bytes an entry (what
    # Clarabel and SuperLU allocate themselves is not seen here; it is measured by the benchmark).
    assert peak < 160 * entries


def test_tangents_may_be_values_of_the_pattern(rng):
    case = families.mpc(2, 10)
    batch = gd.SparseBatch(case.A, np.stack([case.A.data, 1.01 * case.A.data]))
    sol = gd.solve(case.P, case.q, batch, case.b, case.cones, backend="clarabel")
    values = rng.standard_normal(batch.values.shape)
    expected = sol.jvp(A=list(gd.SparseBatch(case.A, values)))
    assert_close(sol.jvp(A=values).x, expected.x, 1e-13, "values")
    assert_close(sol.jvp(A=gd.SparseBatch(case.A, values)).x, expected.x, 1e-13, "SparseBatch")
    assert_close(sol.jvp(A=gd.SparseBatch(case.A, values).toarray()).x, expected.x, 1e-13, "dense")


def test_polish_off_still_differentiates(rng):
    case = families.lasso_like(5, 200, 100)
    x_bar = rng.standard_normal(case.q.size)
    exact, rough = gd.solve(*case), gd.solve(*case, gd.Settings(polish=False))
    assert_close(rough.vjp(x=x_bar).q, exact.vjp(x=x_bar).q, 1e-4, "q")


@pytest.mark.parametrize("backend", ["clarabel", "cpu"])
def test_several_directions(rng, backend):
    """Each has the bits that it has alone; the cotangent of a sparse matrix is one at a time."""
    problem = well_posed("mixed", 3)
    P, A = (list(map(sparse.csc_matrix, matrix)) for matrix in (problem.P, problem.A))
    sol = gd.solve(P, problem.q, A, problem.b, problem.gd_cones, backend=backend)
    x_bar, obj_bar = rng.standard_normal((4, *sol.x.shape)), rng.standard_normal((4, 1))
    bars = sol.vjp(x=x_bar, obj=obj_bar, wrt=("q", "b"))
    q_dot = rng.standard_normal((4, *sol.x.shape))
    dots = sol.jvp(q=q_dot)
    for k in range(4):
        alone = sol.vjp(x=x_bar[k], obj=obj_bar[k], wrt=("q", "b"))
        assert_same_bits(bars.q[k], alone.q, "q")
        assert_same_bits(bars.b[k], alone.b, "b")
        assert_same_bits(dots.y[k], sol.jvp(q=q_dot[k]).y, "y")
    assert sol.vjp(x=x_bar[:0], wrt="q").q.shape == (0, *problem.q.shape)
    with pytest.raises(gd.ShapeError, match="one direction at a time"):
        sol.vjp(x=x_bar)
