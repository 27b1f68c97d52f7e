"""Settings: what they accept, what they say otherwise, and that each of them does something."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

import gpudiff as gd
from gpudiff._settings import thread_count

TOLERANCES = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_infeas_abs", "tol_infeas_rel")


def test_settings_are_frozen_and_equal_by_value():
    assert gd.Settings() == gd.Settings()
    assert gd.Settings(max_iter=3) != gd.Settings()
    assert hash(gd.Settings(max_iter=3)) == hash(gd.Settings(max_iter=3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        gd.Settings().max_iter = 3
    with pytest.raises(TypeError):
        gd.Settings(tolerance=1e-3)


def test_every_field_is_documented():
    for field in dataclasses.fields(gd.Settings):
        assert f"\n        {field.name}: " in gd.Settings.__doc__


@pytest.mark.parametrize("name", TOLERANCES)
@pytest.mark.parametrize("value", [0, -1e-8, 2, np.nan, np.inf, "1e-8", None, True, [1e-8]])
def test_a_tolerance_out_of_its_limits_is_named(name, value):
    with pytest.raises(gd.SettingsError) as error:
        gd.Settings(**{name: value})
    assert str(error.value) == f"{name}: expected a number above 0 and at most 1, got {value!r}"


@pytest.mark.parametrize("name", ["max_iter", "threads"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, "3", True])
def test_a_count_out_of_its_limits_is_named(name, value):
    with pytest.raises(gd.SettingsError) as error:
        gd.Settings(**{name: value})
    for word in (name, "from 1 to 2147483647", repr(value)):
        assert word in str(error.value)


@pytest.mark.parametrize("value", [0, -0.1, np.nan, np.inf, "0.1", True, [0.1]])
def test_smoothing_is_a_positive_number(value):
    with pytest.raises(gd.SettingsError) as error:
        gd.Settings(smoothing=value)
    assert str(error.value) == f"smoothing: expected None or a finite number above 0, got {value!r}"
    assert gd.Settings(smoothing=np.float32(100)).smoothing == 100.0


@pytest.mark.parametrize("name", ["polish", "check_convex", "rescue", "verbose"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_switch_is_true_or_false(name, value):
    with pytest.raises(gd.SettingsError, match=f"{name}: expected True or False, got {value!r}"):
        gd.Settings(**{name: value})


def test_the_choices():
    for method in ("auto", "ipm", "active_set"):
        assert gd.Settings(method=method).method == method
    with pytest.raises(gd.SettingsError, match="method: expected one of 'auto', 'ipm', 'active_set', got 'simplex'"):
        gd.Settings(method="simplex")
    with pytest.raises(gd.SettingsError, match="failed_derivatives: expected one of 'zero', 'nan', got None"):
        gd.Settings(failed_derivatives=None)
    with pytest.raises(gd.SettingsError, match="on_failure: expected one of 'nan', 'zero', 'raise', got None"):
        gd.Settings(on_failure=None)


def test_numbers_of_numpy_become_plain_ones():
    settings = gd.Settings(max_iter=np.int64(7), tol_feas=np.float32(0.5), threads=np.int32(2))
    assert type(settings.max_iter) is type(settings.threads) is int
    assert type(settings.tol_feas) is float


@pytest.mark.parametrize("settings", [{"max_iter": 3}, gd.Settings, "fast"])
def test_something_else_than_settings_is_refused(settings):
    with pytest.raises(gd.SettingsError, match=r"settings: expected gpudiff\.Settings or None, got"):
        gd.solve(None, [1.0], [[-1.0]], [0.0], [gd.Nonnegative(1)], settings)


def test_the_default_number_of_threads(monkeypatch):
    assert thread_count(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert thread_count(None) == 5
    assert thread_count(2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert thread_count(None) == 4
    for nonsense in ("", "many", "0", "-1"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert thread_count(None) == len(os.sched_getaffinity(0))


# ---- each setting does what it says ----------------------------------------------------------------------------------


def lp():
    """An LP whose solution is the vertex (42, 16)."""
    A = np.array([[2.0, 1], [1, 3], [-1, 0], [0, -1]])
    return {"P": None, "q": [-3.0, -5.0], "A": A, "b": [100.0, 90, 0, 0], "cones": [gd.Nonnegative(4)]}


def test_max_iter():
    sol = gd.solve(**lp(), settings=gd.Settings(max_iter=1))
    assert sol.status == gd.Status.MAX_ITERATIONS
    assert np.isnan(sol.x).all()


def test_polish_and_tolerances():
    P = np.diag([1.0, 2.0, 3.0])
    A, b, q = np.vstack([np.eye(3), -np.eye(3)]), np.ones(6), np.array([-5.0, 0.3, 0.7])
    exact = np.clip(-q / np.diag(P), -1, 1)
    error = {}
    for polish, tolerance in ((True, 1e-8), (False, 1e-8), (False, 1e-2)):
        limits = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), tolerance)
        sol = gd.solve(P, q, A, b, [gd.Nonnegative(6)], gd.Settings(polish=polish, **limits))
        assert sol.ok
        error[polish, tolerance] = np.abs(sol.x - exact).max()
    assert error[True, 1e-8] < 1e-13
    assert 1e-13 < error[False, 1e-8] < 1e-6
    assert error[False, 1e-8] < error[False, 1e-2] < 1e-1


def test_check_convex():
    P, q, A, b = np.diag([1.0, -1.0]), np.zeros(2), np.vstack([np.eye(2), -np.eye(2)]), np.ones(4)
    checked = gd.solve(P, q, A, b, [gd.Nonnegative(4)], gd.Settings(check_convex=True))
    assert checked.status == gd.Status.INVALID_DATA
    convex = gd.solve(abs(P), q, A, b, [gd.Nonnegative(4)], gd.Settings(check_convex=True))
    assert convex.ok


def test_verbose_prints_the_solution(capsys):
    gd.solve(**lp())
    assert capsys.readouterr().out == ""
    sol = gd.solve(**lp(), settings=gd.Settings(verbose=True))
    assert capsys.readouterr().out == f"{sol!r}\n"


def failing():
    """Three problems `min qᵀx, l ≤ x ≤ 1`: solved, infeasible (l = 2), invalid (NaN)."""
    A = np.array([[1.0], [-1.0]])
    b = np.array([[1.0, 0.0], [1.0, -2.0], [1.0, np.nan]])
    return {"P": None, "q": np.array([1.0]), "A": A, "b": b, "cones": [gd.Nonnegative(2)]}


def test_on_failure_nan():
    sol = gd.solve(**failing())
    assert sol.x[0] == pytest.approx(0, abs=1e-9)
    assert np.isnan(sol.x[1:]).all()
    assert sol.y[1] @ failing()["b"][1] == pytest.approx(-1)
    assert sol.obj[1] == np.inf
    assert np.isnan(sol.y[2]).all()
    assert np.isnan(sol.obj[2])


def test_on_failure_zero_keeps_sums_finite():
    plain = gd.solve(**failing())
    sol = gd.solve(**failing(), settings=gd.Settings(on_failure="zero"))
    np.testing.assert_array_equal(sol.status, plain.status)
    for name in ("x", "y", "s", "obj"):
        values = getattr(sol, name)
        np.testing.assert_array_equal(values[0], getattr(plain, name)[0])
        assert not values[1:].any()
    assert not sol.vjp(x=np.ones((3, 1)), wrt="b").b[1:].any()


def test_on_failure_raise():
    with pytest.raises(gd.SolveError) as error:
        gd.solve(**failing(), settings=gd.Settings(on_failure="raise"))
    message = str(error.value)
    for word in ("2 of 3", "number 1", "1 PRIMAL_INFEASIBLE", "1 INVALID_DATA", gd.Status.INVALID_DATA.remedy):
        assert word in message
    assert error.value.solution.ok.tolist() == [True, False, False]
    fine = failing()
    fine["b"] = fine["b"][:1]
    assert gd.solve(**fine, settings=gd.Settings(on_failure="raise")).ok.all()
