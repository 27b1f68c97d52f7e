"""Bad input: either it is right, or a GpudiffError names the argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import gpudiff as gd


def good(batch=3, n=2, m=4):
    """A batch of box-constrained QPs."""
    P = np.tile(np.eye(n), (batch, 1, 1))
    A = np.tile(np.vstack([np.eye(n), -np.eye(n)]), (batch, 1, 1))
    return {"P": P, "q": np.ones((batch, n)), "A": A, "b": np.ones((batch, m)), "cones": [gd.Nonnegative(m)]}


def message(error, **changes):
    with pytest.raises(error) as caught:
        gd.solve(**{**good(), **changes})
    assert isinstance(caught.value, gd.GpudiffError)
    return str(caught.value)


def test_good_is_good():
    assert gd.solve(**good()).ok.all()


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("q", (), ["(n,) or (B, n)", "()"]),
        ("q", (2, 3, 2), ["(n,) or (B, n)", "(2, 3, 2)"]),
        ("P", (2,), ["(2, 2) or (B, 2, 2)", "n=2 from q", "(2,)"]),
        ("P", (3, 3), ["(2, 2) or (B, 2, 2)", "(3, 3)"]),
        ("P", (3, 2, 3), ["(2, 2)", "(3, 2, 3)"]),
        ("P", (1, 3, 2, 2), ["(2, 2)", "(1, 3, 2, 2)"]),
        ("A", (2, 4), ["(4, 2) or (B, 4, 2)", "m=4 rows of the cones", "(2, 4)"]),
        ("A", (3, 5, 2), ["(4, 2)", "(3, 5, 2)"]),
        ("A", (8,), ["(4, 2)", "(8,)"]),
        ("b", (), ["(4,) or (B, 4)", "()"]),
        ("b", (3,), ["(4,) or (B, 4)", "(3,)"]),
        ("b", (3, 4, 1), ["(4,)", "(3, 4, 1)"]),
        ("b", (5, 4), ["extent 3", "that of P", "got 5"]),
        ("q", (0, 2), ["extent 3", "that of P", "got 0"]),
        ("P", (2, 2, 2), ["q: ", "extent 2", "that of P", "got 3"]),
    ],
)
def test_wrong_shapes(name, shape, words):
    text = message(gd.ShapeError, **{name: np.ones(shape)})
    for word in words:
        assert word in text
    if not words[0].startswith("q"):
        assert text.startswith(f"{name}: expected ")


def test_the_cones_rows_are_what_A_and_b_are_measured_by():
    assert message(gd.ShapeError, cones=[gd.Nonnegative(3)]).startswith("A: expected shape (3, 2)")
    assert message(gd.ConeError, cones=None).startswith("cones: expected a list")


@pytest.mark.parametrize("name", ["q", "A", "b"])
def test_a_missing_argument(name):
    assert message(gd.ShapeError, **{name: None}).startswith(f"{name}: expected ")


@pytest.mark.parametrize("name", ["P", "q", "A", "b"])
@pytest.mark.parametrize(
    "dtype", [np.complex128, np.complex64, np.float16, np.longdouble, object, "U4", "datetime64[s]"]
)
def test_refused_element_types(name, dtype):
    value = good()[name].astype(np.int64).astype(dtype)
    text = message(gd.DtypeError, **{name: value})
    assert text.startswith(f"{name}: expected float64, float32 or integers, got ")
    assert str(value.dtype) in text


@pytest.mark.parametrize("name", ["q", "b"])
@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_array, sparse.coo_matrix])
def test_sparse_vectors(name, kind):
    text = message(gd.DtypeError, **{name: kind(good()[name])})
    assert text.startswith(f"{name}: expected a dense array, got a sparse {kind.__name__}")
    assert f"{name}.toarray()" in text


@pytest.mark.parametrize("name", ["P", "q", "A", "b"])
def test_what_is_no_array(name):
    assert message(gd.ShapeError, **{name: [[1.0], [1.0, 2.0]]}).startswith(f"{name}: expected an array of numbers")
    assert "'str'" not in message(gd.ArgumentError, **{name: "numbers"})
    assert message(gd.ArgumentError, **{name: {"a": 1}}).startswith(f"{name}: expected ")
    assert message(gd.DtypeError, **{name: [None, 1.0]}).startswith(f"{name}: expected float64")
    masked = np.ma.masked_array(good()[name], mask=True)
    assert message(gd.DtypeError, **{name: masked}).startswith(f"{name}: expected a plain array, got a masked")


def test_an_asymmetric_P_is_shown():
    P = good()["P"]
    P[1, 0, 1] = 0.5
    text = message(gd.DataError, P=P)
    assert text.startswith("P: expected symmetric matrices")
    assert "P[1, 0, 1] = 0.5 and P[1, 1, 0] = 0.0" in text
    assert "P[0, 1] = 3.0 and P[1, 0] = 0.0" in message(gd.DataError, P=np.array([[4.0, 3.0], [0.0, 4.0]]))
    shared = np.array([[[4.0, 3.0], [0.0, 4.0]]])
    assert "P[0, 0, 1] = 3.0 and P[0, 1, 0] = 0.0" in message(gd.DataError, P=shared)


@pytest.mark.parametrize(("dtype", "fine", "wrong"), [(np.float64, 1e-11, 1e-9), (np.float32, 3e-6, 1e-4)])
def test_symmetric_up_to_rounding(dtype, fine, wrong):
    data = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in good().items()}
    for off, accepted in ((fine, True), (wrong, False)):
        P = np.array([[1.0, 0.25 + off], [0.25, 1.0]], dtype)
        if accepted:
            assert gd.solve(**{**data, "P": P}).ok.all()
        else:
            with pytest.raises(gd.DataError):
                gd.solve(**{**data, "P": P})


def test_non_finite_values_are_statuses_of_their_own_problem():
    plain = gd.solve(**good(batch=8))
    spoiled = good(batch=8)
    spoiled["q"][1, 0] = np.nan
    spoiled["b"][2, 1] = -np.inf
    spoiled["A"][3, 1, 1] = np.inf
    spoiled["P"][4, 1, 1] = np.nan
    spoiled["q"][5, 1] = np.inf
    sol = gd.solve(**spoiled)
    assert [gd.Status(c).name for c in sol.status] == ["SOLVED"] + ["INVALID_DATA"] * 5 + ["SOLVED"] * 2
    kept = [0, 6, 7]
    for name in ("x", "y", "s", "obj", "iterations", "primal_residual", "dual_residual", "gap", "margin"):
        assert getattr(sol, name)[kept].tobytes() == getattr(plain, name)[kept].tobytes(), name
        if name not in ("iterations", "margin"):
            assert np.isnan(getattr(sol, name)[1:6]).all(), name
    for bar in ("q", "b", "A", "P"):
        assert not getattr(sol.vjp(x=np.ones(2)), bar)[1:6].any()


# ---- tangents and cotangents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("q", np.ones(3), ["(2,) or (3, 2)", "(3,)"]),
        ("q", np.ones((4, 2)), ["(2,) or (3, 2)", "(4, 2)"]),
        ("P", np.ones(2), ["(2, 2) or (3, 2, 2)", "(2,)"]),
        ("b", 1.0, ["(4,) or (3, 4)", "()"]),
        ("A", np.ones((4, 2, 1)), ["(4, 2)", "(4, 2, 1)"]),
    ],
)
def test_wrong_tangents(name, value, words):
    sol = gd.solve(**good())
    with pytest.raises(gd.ShapeError) as error:
        sol.jvp(**{name: value})
    assert str(error.value).startswith(f"{name}: expected shape")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("name", "value"), [("x", np.ones(3)), ("y", np.ones((2, 4))), ("obj", np.ones(2))])
def test_wrong_cotangents(name, value):
    with pytest.raises(gd.ShapeError, match=f"^{name}: expected shape"):
        gd.solve(**good()).vjp(**{name: value})
    with pytest.raises(gd.DtypeError, match=f"^{name}: expected float64"):
        gd.solve(**good()).vjp(**{name: value.astype(complex)})


def test_a_problem_without_batch_axis_takes_no_batch_of_directions():
    sol = gd.solve(np.eye(2), np.ones(2))
    for call in (lambda: sol.jvp(q=np.ones((3, 1, 2))), lambda: sol.vjp(x=np.ones((3, 1, 2)))):
        with pytest.raises(gd.ShapeError, match=r"expected shape \(2,\), got \(3, 1, 2\)"):
            call()


def test_a_tangent_for_an_argument_that_was_none():
    sol = gd.solve(None, np.ones(2), np.eye(2), np.ones(2), [gd.Zero(2)])
    with pytest.raises(gd.ArgumentError, match="P: expected no tangent, for the problem was solved with P=None"):
        sol.jvp(P=np.eye(2))
    assert sol.vjp(x=np.ones(2)).P is None
    free = gd.solve(np.eye(2), np.ones(2))
    with pytest.raises(gd.ArgumentError, match="A: expected no tangent"):
        free.jvp(A=np.zeros((0, 2)))


def test_an_unknown_name_in_wrt():
    with pytest.raises(gd.ArgumentError, match="wrt: expected names among 'P', 'q', 'A', 'b', got 'c'"):
        gd.solve(**good()).vjp(x=np.ones(2), wrt=["q", "c"])
    with pytest.raises(TypeError):
        gd.solve(**good()).vjp(z=np.ones(2))


# ---- the classes of errors -------------------------------------------------------------------------------------------


def test_every_error_is_a_gpudiff_error_and_what_python_calls_it():
    for kind in (gd.ShapeError, gd.DtypeError, gd.DeviceError, gd.DataError, gd.ConeError, gd.SettingsError):
        assert issubclass(kind, gd.ArgumentError)
        assert issubclass(kind, ValueError)
    assert issubclass(gd.DtypeError, TypeError)
    for kind in (gd.ArgumentError, gd.BackendError, gd.SolveError):
        assert issubclass(kind, gd.GpudiffError)
