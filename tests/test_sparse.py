"""Sparse P and A: formats, batches, statuses, dispatch, and the same answers as dense arrays."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from problems import MIXED, WELL_POSED, infeasible, unbounded, varied_qps, well_posed
from scipy import sparse

import gpudiff as gd
from gpudiff import _crossover
from gpudiff.bench import sparse_families as families

FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")
SPARSE = {"backend": "clarabel"}


def as_sparse(problem, kind="csc"):
    """P and A of one problem as sparse matrices, and the rest of the arguments."""
    P = None if problem.P is None else sparse.csc_matrix(problem.P).asformat(kind)
    return P, problem.q, sparse.csc_matrix(problem.A).asformat(kind), problem.b, problem.gd_cones


def dense(value):
    return value.toarray() if hasattr(value, "toarray") else value


@pytest.mark.parametrize("name", WELL_POSED)
def test_answers_are_those_of_dense_arrays(name):
    problem = well_posed(name, 2).item(0)
    exact = gd.solve(*problem.args, backend="cpu")
    sol = gd.solve(*as_sparse(problem), **SPARSE)
    assert sol.ok
    assert sol.backend == "clarabel"
    for field in ("x", "y", "s", "obj"):
        # both are polished; the worst of them, extreme powers, is conditioned like 1e5
        assert_close(getattr(sol, field), getattr(exact, field), 1e-9, field)
    assert max(sol.primal_residual, sol.dual_residual, sol.gap) < 1e-11


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("array", [False, True], ids=["matrix", "array"])
def test_every_format_gives_gradients_on_its_own_pattern(rng, kind, array):
    problem = well_posed("qp with equalities", 1).item(0)
    P, A = problem.P * (np.abs(problem.P) > 0.05), problem.A * (rng.random(problem.A.shape) < 0.5)
    P = P + 3 * np.eye(P.shape[0])
    b = A @ problem.x + problem.s
    make = sparse.csc_array if array else sparse.csc_matrix
    P, A = make(P).asformat(kind), make(A).asformat(kind)
    x_bar = rng.standard_normal(problem.q.shape)
    exact = gd.solve(P.toarray(), problem.q, A.toarray(), b, problem.gd_cones, backend="cpu").vjp(x=x_bar)
    for backend in ("clarabel", "auto"):  # auto: small enough for the kernels
        sol = gd.solve(P, problem.q, A, b, problem.gd_cones, backend=backend)
        bar = sol.vjp(x=x_bar)
        for name, matrix in (("P", P), ("A", A)):
            got, full = getattr(bar, name), getattr(exact, name)
            assert type(got) is type(matrix)
            pattern = matrix.toarray() != 0
            assert_close(got.toarray(), full * pattern, 1e-12, name)
            if kind in ("csr", "csc"):
                assert_same_bits(got.indices, matrix.indices, name)
        assert (bar.P.toarray() == bar.P.toarray().T).all()
        assert_close(bar.q, exact.q, 1e-12, "q")


def test_stored_order_and_duplicates_are_the_callers(rng):
    """Unsorted rows and an entry stored twice: each stored number has the derivative of the entry."""
    problem = well_posed("qp", 1).item(0)
    A = sparse.coo_matrix(problem.A)
    order = rng.permutation(A.nnz)
    rows, columns, values = (np.append(part[order], part[order][:1]) for part in (A.row, A.col, A.data))
    values[0] = values[-1] = values[0] / 2
    shuffled = sparse.coo_matrix((values, (rows, columns)), A.shape)
    exact = gd.solve(*problem.args, backend="cpu").vjp(obj=1.0)
    bar = gd.solve(problem.P, problem.q, shuffled, problem.b, problem.gd_cones, **SPARSE).vjp(obj=1.0)
    assert_same_bits(bar.A.row, rows, "row")
    assert_close(bar.A.data, exact.A[rows, columns], 1e-11, "A")
    assert isinstance(bar.P, np.ndarray)  # a dense argument beside a sparse one keeps a dense gradient
    assert_close(bar.P, exact.P, 1e-11, "P")


def batch_of(problem, kind):
    """The matrices of a batch as a list, or as one pattern with values."""
    if kind == "list":
        return [sparse.csr_matrix(A) for A in problem.A]
    pattern = sparse.csr_matrix(np.ones(problem.A.shape[1:]))
    return gd.SparseBatch(pattern, problem.A.reshape(len(problem.A), -1))


@pytest.mark.parametrize("kind", ["list", "values"])
@pytest.mark.parametrize("backend", ["clarabel", "cpu"])
def test_batches(rng, kind, backend):
    problem, _ = varied_qps(rng, 5)
    P = [sparse.coo_matrix(P) for P in problem.P]
    sol = gd.solve(P, problem.q, batch_of(problem, kind), problem.b, problem.gd_cones, backend=backend)
    exact = gd.solve(*problem.args, backend="cpu")
    assert sol.ok.all()
    assert_close(sol.x, exact.x, 1e-9, "x")
    bar, full = sol.vjp(x=np.ones_like(exact.x)), exact.vjp(x=np.ones_like(exact.x))
    got = np.stack([dense(A) for A in bar.A]) if kind == "list" else bar.A.toarray()
    assert_close(got, full.A, 1e-8, "A")
    assert_close(np.stack([P.toarray() for P in bar.P]), full.P, 1e-8, "P")
    assert_close(bar.b, full.b, 1e-8, "b")


@pytest.mark.parametrize("shared", [("A",), ("P", "A"), ("P", "A", "b"), ("q",)])
def test_shared_arguments_have_summed_gradients(rng, shared):
    problem, _ = varied_qps(rng, 4, shared)
    exact = gd.solve(*problem.args, backend="cpu")
    P, A = (
        sparse.csc_matrix(data) if name in shared else [sparse.csc_matrix(one) for one in data]
        for name, data in (("P", problem.P), ("A", problem.A))
    )
    sol = gd.solve(P, problem.q, A, problem.b, problem.gd_cones, **SPARSE)
    bar, full = sol.vjp(x=np.ones_like(exact.x), obj=2.0), exact.vjp(x=np.ones_like(exact.x), obj=2.0)
    for name in ("P", "q", "A", "b"):
        got = getattr(bar, name)
        got = np.stack([one.toarray() for one in got]) if isinstance(got, list) else dense(got)
        assert_close(got, getattr(full, name), 1e-8, name)


def test_a_problem_has_the_same_bits_alone_and_in_any_batch(rng):
    problem, _ = varied_qps(rng, 5)
    A = [sparse.csc_matrix(one) for one in problem.A]
    P = [sparse.csc_matrix(one) for one in problem.P]
    together = gd.solve(P, problem.q, A, problem.b, problem.gd_cones, gd.Settings(threads=3), **SPARSE)
    bars = together.vjp(x=problem.q)
    for i in (0, 3):
        alone = gd.solve(P[i], problem.q[i], A[i], problem.b[i], problem.gd_cones, **SPARSE)
        for name in ("x", "y", "s", "obj", "iterations", "margin"):
            assert_same_bits(getattr(alone, name), getattr(together, name)[i], name)
        bar = alone.vjp(x=problem.q[i])
        assert_same_bits(bar.A.data, bars.A[i].data, "A")
        assert_same_bits(bar.b, bars.b[i], "b")


def test_statuses_are_each_problems_own(rng):
    """NaN in one problem's A, an unbounded and an infeasible one: neighbours keep their bits, derivatives are zero."""
    good = well_posed("lp", 1).item(0)
    n, m = good.q.size, good.b.size
    A, q, b = (np.stack([part] * 4) for part in (good.A, good.q, good.b))
    A[1, 0, 0] = np.nan
    A[2] = -np.eye(m, n)  # x ≥ 0 alone,
    q[2], b[2] = -1, 0  # with a reward without bound
    A[3, 0], A[3, 1], b[3, :2] = 1, -1, -1  # Σx ≤ −1 and Σx ≥ 1
    cones = [gd.Nonnegative(m)]
    sol = gd.solve(None, q, [sparse.csr_matrix(one) for one in A], b, cones, **SPARSE)
    assert [gd.Status(code).name for code in sol.status] == [
        "SOLVED",
        "INVALID_DATA",
        "DUAL_INFEASIBLE",
        "PRIMAL_INFEASIBLE",
    ]
    alone = gd.solve(None, q[0], sparse.csr_matrix(A[0]), b[0], cones, **SPARSE)
    assert_same_bits(alone.x, sol.x[0], "x")
    assert np.isnan(sol.x[1]).all()
    assert np.isnan(sol.y[2]).all()
    assert_close(q[2] @ sol.x[2], -1.0, 1e-9, "certificate")
    assert (A[2] @ sol.x[2]).max() < 1e-8
    assert_close(b[3] @ sol.y[3], -1.0, 1e-9, "certificate")
    assert np.abs(A[3].T @ sol.y[3]).max() < 1e-8
    assert sol.y[3].min() > -1e-9
    assert sol.obj[2] == -np.inf
    assert sol.obj[3] == np.inf
    bar = sol.vjp(x=np.ones((4, n)), obj=np.ones(4))
    for i in (1, 2, 3):
        assert not bar.q[i].any()
        assert not bar.A[i].data.any()
    assert np.isfinite(bar.A[1].data).all()
    dot = sol.jvp(q=np.ones((4, n)))
    assert not dot.x[1:].any()
    zero = gd.solve(None, q, [sparse.csr_matrix(one) for one in A], b, cones, gd.Settings(on_failure="zero"), **SPARSE)
    assert not zero.x[1:].any()


@pytest.mark.parametrize("make", [infeasible, unbounded])
def test_certificates_of_every_cone(make):
    """Like the dense ones: normalised, and of the same status."""
    for cones in (MIXED, [("zero", 2), ("psd", 6), ("dual exp", 3), ("dual power 0.3", 3), ("exp", 3)]):
        problem = make(np.random.default_rng(1), cones)
        sol = gd.solve(*as_sparse(problem), **SPARSE)
        assert gd.Status(sol.status).name == problem.status
        if sol.obj > 0:
            assert_close(problem.b @ sol.y, -1.0, 1e-9, "bᵀy")
            assert np.abs(problem.A.T @ sol.y).max() < 1e-6
            assert np.isnan(sol.x).all()
        else:
            assert_close(problem.q @ sol.x, -1.0, 1e-9, "qᵀx")
            assert_close(problem.A @ sol.x + sol.s, np.zeros_like(problem.b), 1e-6, "−Ax ∈ K")
            assert np.isnan(sol.y).all()


def test_an_infinite_bound_is_an_absent_row(rng):
    problem = well_posed("qp with equalities", 1).item(0)
    rows = np.cumsum([0, *(cone.rows for cone in problem.gd_cones)])
    first = next(r for r, cone in zip(rows, problem.gd_cones, strict=False) if isinstance(cone, gd.Nonnegative))
    b = problem.b.copy()
    b[first : first + 3] = np.inf
    exact = gd.solve(problem.P, problem.q, problem.A, b, problem.gd_cones, backend="cpu")
    P, q, A, _, cones = as_sparse(problem)
    sol = gd.solve(P, q, A, b, cones, **SPARSE)
    assert_close(sol.x, exact.x, 1e-10, "x")
    assert not sol.y[first : first + 3].any()
    assert np.isposinf(sol.s[first : first + 3]).all()
    y_bar = rng.standard_normal(b.size)
    bar, full = sol.vjp(x=q, y=y_bar), exact.vjp(x=q, y=y_bar)
    assert_close(bar.A.toarray(), full.A, 1e-10, "A")
    assert_close(bar.b, full.b, 1e-10, "b")
    assert_close(sol.jvp(b=np.ones(b.size)).x, exact.jvp(b=np.ones(b.size)).x, 1e-10, "jvp")
    equality = b.copy()
    equality[np.setdiff1d(np.arange(b.size), np.arange(first, first + 12))[:1]] = np.nan
    assert gd.solve(P, q, A, equality, cones, **SPARSE).status == gd.Status.INVALID_DATA


def test_dispatch_says_what_ran_and_why():
    small = well_posed("qp", 1).item(0)
    sol = gd.solve(*as_sparse(small))
    assert sol.backend == "cpu"
    assert "small" in sol.why
    large = families.banded(0, 300)
    sol = gd.solve(*large)
    assert sol.backend == "clarabel"
    assert "large" in sol.why
    assert gd.solve(*large, backend="cpu").backend == "cpu"
    assert gd.solve(*small.args).backend == "cpu"
    named = gd.solve(*small.args, backend="clarabel")  # dense arrays by name, with dense gradients
    assert named.backend == "clarabel"
    assert named.why == "asked for by name"
    assert_close(named.vjp(x=small.q).A, gd.solve(*small.args).vjp(x=small.q).A, 1e-10, "A")
    assert gd.info().backends["clarabel"] is None
    with pytest.raises(gd.BackendError, match="'clarabel'"):
        gd.solve(*large, backend="nothing")
    with pytest.raises(gd.BackendError, match="active_set"):
        gd.solve(*large, gd.Settings(method="active_set"), backend="clarabel")


def test_the_table_decides_by_structure_alone():
    from gpudiff._sparse_problem import as_sparse_problem

    case = families.banded(0, _crossover.TABLE[0].n)
    assert _crossover.densify(as_sparse_problem(*case))[0]
    case = families.banded(0, _crossover.TABLE[0].n + 1)
    assert not _crossover.densify(as_sparse_problem(*case))[0]
    shares = [limit.share for limit in _crossover.TABLE]
    assert shares == sorted(shares)
    assert shares[-1] > 1  # so that every problem has a limit


def test_time_limit():
    case = families.lasso_like(0, 1500, 1000)  # some 0.3 s
    sol = gd.solve(*case, gd.Settings(time_limit=1e-3))
    assert sol.status == gd.Status.TIME_LIMIT
    assert np.isnan(sol.x).all()
    assert not sol.vjp(x=np.ones(1500)).q.any()
    small = well_posed("qp", 2)
    assert gd.solve(*small.args, gd.Settings(time_limit=10)).backend == "clarabel"
    with pytest.raises(gd.SettingsError, match=r"time_limit.*'cpu'"):
        gd.solve(*small.args, gd.Settings(time_limit=10), backend="cpu")
    for bad in (0, -1, "1", True, float("nan")):
        with pytest.raises(gd.SettingsError, match="time_limit"):
            gd.Settings(time_limit=bad)


def test_wrong_arguments_are_named():
    P, q, A, b, cones = as_sparse(well_posed("qp", 1).item(0))
    with pytest.raises(gd.ShapeError, match="A: expected shape"):
        gd.solve(P, q, A[:-1], b, cones)
    with pytest.raises(gd.ShapeError, match="P: expected shape"):
        gd.solve(P[:, :-1], q, A, b, cones)
    with pytest.raises(gd.DataError, match=r"P: expected symmetric.*P\[0, 1\]"):
        gd.solve(sparse.triu(sparse.eye(q.size) + sparse.coo_matrix(([1.0], ([0], [1])), P.shape)), q, A, b, cones)
    with pytest.raises(gd.DtypeError, match="A: expected float64"):
        gd.solve(P, q, A.astype(complex), b, cones)
    with pytest.raises(gd.ShapeError, match="b: expected a batch axis of extent 3"):
        gd.solve(P, q, [A] * 3, np.stack([b] * 2), cones)
    with pytest.raises(gd.DtypeError, match=r"A\[1\]: expected a sparse matrix"):
        gd.solve(P, q, [A, A.toarray()], b, cones)
    with pytest.raises(gd.ShapeError, match="values: expected shape"):
        gd.SparseBatch(A, np.ones((2, 3)))
    with pytest.raises(gd.DtypeError, match="pattern"):
        gd.SparseBatch(A.toarray(), np.ones(3))
    sol = gd.solve(None, q, A, np.abs(b) + 1, cones, **SPARSE)
    with pytest.raises(gd.ShapeError, match="P: expected no tangent"):
        sol.jvp(P=P)
    with pytest.raises(gd.ShapeError, match="x: expected shape"):
        sol.vjp(x=np.ones(3))


def test_float32_in_float32_out(rng):
    problem = well_posed("qp", 1).item(0)
    P, A = sparse.csr_matrix(problem.P.astype(np.float32)), sparse.csr_matrix(problem.A.astype(np.float32))
    q, b = problem.q.astype(np.float32), problem.b.astype(np.float32)
    sol = gd.solve(P, q, A, b, problem.gd_cones, **SPARSE)
    assert sol.x.dtype == np.float32
    assert_close(sol.x, problem.x, 1e-4, "x")
    bar = sol.vjp(x=q)
    assert {bar.P.dtype, bar.q.dtype, bar.A.dtype, bar.b.dtype} == {np.dtype(np.float32)}
    assert sol.differentiable


def test_no_rows_and_no_quadratic():
    P = sparse.diags([1.0, 2.0, 4.0], format="csc")
    sol = gd.solve(P, [1.0, 2.0, 4.0], **SPARSE)
    assert_close(sol.x, -np.ones(3), 1e-14, "x")
    assert_close(sol.vjp(obj=1.0).P.data, np.full(3, 0.5), 1e-14, "P")


def test_check_convex():
    P = sparse.diags([1.0, -1.0], format="csc")
    A, b = sparse.eye(2, format="csc"), np.ones(2)
    cones = [gd.Nonnegative(2)]
    settings = gd.Settings(check_convex=True)
    assert gd.solve(P, np.zeros(2), A, b, cones, settings, **SPARSE).status == gd.Status.INVALID_DATA
    singular = sparse.csc_matrix(np.ones((2, 2)))
    assert gd.solve(singular, np.ones(2), -A, b, cones, settings, **SPARSE).ok


def test_warm_starts_and_polish_change_nothing_but_digits():
    case = families.mpc(0, 20)
    sol = gd.solve(*case)
    again = gd.solve(*case, warm_start=sol)  # Clarabel starts anew
    assert_same_bits(sol.x, again.x, "x")
    with pytest.raises(gd.ArgumentError, match="warm_start"):
        gd.solve(*case, warm_start=gd.solve(*families.mpc(0, 21)))
    rough = gd.solve(*case, gd.Settings(polish=False))
    assert_close(rough.x, sol.x, 1e-5, "x")
    assert max(sol.primal_residual, sol.gap) < 1e-12 < min(rough.primal_residual, rough.gap)
    solver = gd.Solver(case.cones, case.q.size, remember=True)
    assert_same_bits(solver.solve(*case[:4]).x, solver.solve(*case[:4]).x, "x")


def test_progress_of_large_batches_is_told(capsys):
    problem = well_posed("qp", 1).item(0)
    P, _, A, b, cones = as_sparse(problem)
    gd.solve(P, np.stack([problem.q] * 100), A, b, cones, gd.Settings(verbose=True), **SPARSE)
    assert "100 of 100 problems solved" in capsys.readouterr().err


def test_empty_batch():
    P, _, A, b, cones = as_sparse(well_posed("qp", 1).item(0))
    sol = gd.solve(P, np.zeros((0, P.shape[0])), A, b, cones, **SPARSE)
    assert sol.x.shape == (0, P.shape[0])
    assert not sol.vjp(x=np.zeros(P.shape[0])).A.data.any()


def test_smoothing_is_for_the_kernels():
    """What Clarabel cannot give it does not pretend to: "auto" makes the problem dense, by name it is an error."""
    case = as_sparse(well_posed("qp with equalities", 1).item(0))
    smooth = gd.Settings(smoothing=1e-2)
    assert gd.solve(*case, smooth).backend == "cpu"
    with pytest.raises(gd.SettingsError, match=r"smoothing.*'clarabel'"):
        gd.solve(*case, smooth, backend="clarabel")
    with pytest.raises(gd.SettingsError, match=r"failed_derivatives.*sparse"):
        gd.solve(*case, gd.Settings(failed_derivatives="nan"))
