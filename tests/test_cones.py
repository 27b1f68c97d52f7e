"""Cone classes, lists of them, and SCS-style dicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import gpudiff as gd
from gpudiff._cones import as_product


@pytest.mark.parametrize("cone", [gd.Zero, gd.Nonnegative, gd.SecondOrder])
def test_a_cone_is_frozen_hashable_and_equal_by_value(cone):
    assert cone(3) == cone(np.int64(3)) == cone(rows=3)
    assert hash(cone(3)) == hash(cone(3))
    assert cone(3) != cone(4)
    assert repr(cone(3)) == f"{cone.__name__}(rows=3)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        cone(3).rows = 4


def test_cones_of_different_kinds_differ():
    cones = [gd.Zero(3), gd.Nonnegative(3), gd.SecondOrder(3), gd.PSD(3), gd.Exponential(3), gd.DualExponential(3)]
    cones += [gd.Power(0.3), gd.DualPower(0.3)]
    assert len(set(cones)) == len(cones)
    assert gd.Zero(3) != gd.Nonnegative(3)
    assert gd.Power(0.3) != gd.DualPower(0.3)


def test_rows_of_cones_that_are_told_by_something_else():
    assert [gd.PSD(k).rows for k in (1, 2, 3, 10)] == [1, 3, 6, 55]
    assert [gd.Exponential().rows, gd.Exponential(4).rows, gd.DualExponential(0).rows] == [3, 12, 0]
    assert gd.Power(0.3).rows == gd.DualPower(np.float32(0.5)).rows == 3
    assert repr([gd.PSD(3), gd.Exponential(2), gd.DualPower(0.25)]) == (
        "[PSD(order=3), Exponential(count=2), DualPower(alpha=0.25)]"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        gd.PSD(3).rows = 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gd.PSD(0), ["PSD", "an order", "at least 1", "got 0"]),
        (lambda: gd.PSD(2.0), ["PSD", "2.0"]),
        (lambda: gd.Exponential(-1), ["Exponential", "number of cones", "got -1"]),
        (lambda: gd.DualExponential(True), ["DualExponential", "True"]),
        (lambda: gd.Power(0), ["Power", "from 1e-6 to 1 - 1e-6", "got 0"]),
        (lambda: gd.DualPower(1.0), ["DualPower", "got 1.0"]),
        (lambda: gd.Power("a half"), ["Power", "'a half'"]),
        (lambda: gd.Power(float("nan")), ["Power", "nan"]),
    ],
)
def test_a_wrong_order_count_or_exponent_is_an_error_that_says_so(make, words):
    with pytest.raises(gd.ConeError) as error:
        make()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("rows", [-1, 1.5, 2.0, "3", None, True, [3]])
@pytest.mark.parametrize("cone", [gd.Zero, gd.Nonnegative, gd.SecondOrder])
def test_a_wrong_number_of_rows_is_an_error_that_says_so(cone, rows):
    with pytest.raises(gd.ConeError) as error:
        cone(rows)
    assert cone.__name__ in str(error.value)
    assert repr(rows) in str(error.value)


def test_only_the_second_order_cone_needs_a_row():
    assert gd.Zero(0).rows == gd.Nonnegative(0).rows == 0
    with pytest.raises(gd.ConeError, match="at least 1, got 0"):
        gd.SecondOrder(0)


def test_a_list_keeps_its_order():
    cones = [gd.SecondOrder(3), gd.Zero(1), gd.Nonnegative(2), gd.Zero(2)]
    product = as_product(cones)
    assert list(product.cones) == cones
    assert product.rows == 8
    assert as_product(iter(cones)) is product


def test_a_dict_has_the_fixed_order_of_scs_whatever_its_own():
    product = as_product({"q": [3, 4], "l": 2, "z": 1})
    assert product.cones == (gd.Zero(1), gd.Nonnegative(2), gd.SecondOrder(3), gd.SecondOrder(4))


@pytest.mark.parametrize(
    ("entries", "cones"),
    [
        ({}, ()),
        ({"l": np.int64(2)}, (gd.Nonnegative(2),)),
        ({"q": np.array([2, 3])}, (gd.SecondOrder(2), gd.SecondOrder(3))),
        ({"q": 3}, (gd.SecondOrder(3),)),
        ({"z": [2]}, (gd.Zero(2),)),
        ({"z": 1, "q": [], "s": [], "ep": 0, "ed": 0, "p": []}, (gd.Zero(1),)),
        ({"l": 1, "s": 0, "p": 0}, (gd.Nonnegative(1),)),
        ({"s": [3, 2], "ep": 2, "ed": [1]}, (gd.PSD(3), gd.PSD(2), gd.Exponential(2), gd.DualExponential(1))),
        ({"p": [0.3, -0.4], "s": 2}, (gd.PSD(2), gd.Power(0.3), gd.DualPower(0.4))),
    ],
)
def test_dicts_as_scs_and_diffcp_write_them(entries, cones):
    assert as_product(entries).cones == cones


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"s": [3, 0]}, ["'s'", "PSD", "got 0"]),
        ({"ep": -1}, ["'ep'", "Exponential", "-1"]),
        ({"ed": [1, 2]}, ["'ed'", "DualExponential", "one number of cones", "[1, 2]"]),
        ({"p": [0.3, "x"]}, ["'p'", "Power", "'x'"]),
        ({"p": [-1.5]}, ["'p'", "DualPower", "1.5"]),
        ({"f": 2}, ["'f'", "unknown key", "'z', 'l', 'q'"]),
        ({3: 2}, ["3", "unknown key"]),
        ({"l": -1}, ["'l'", "Nonnegative", "-1"]),
        ({"z": [1, 2]}, ["'z'", "one number of rows", "[1, 2]"]),
        ({"q": [3, 0]}, ["'q'", "SecondOrder", "0"]),
        ({"q": "3"}, ["'q'", "'3'"]),
        ({"l": None}, ["'l'", "None"]),
    ],
)
def test_what_a_dict_may_not_hold(entries, words):
    with pytest.raises(gd.ConeError) as error:
        as_product(entries)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("cones", "words"),
    [
        (gd.Zero(1), ["list of cones", "Zero(rows=1)"]),
        (3, ["list of cones", "3"]),
        (None, ["list of cones", "None"]),
        ("z", ["list of cones", "'z'"]),
        ([gd.Zero(1), 3], ["cones[1]", "SecondOrder", "3"]),
        ([gd.Zero], ["cones[0]", "Zero"]),
    ],
)
def test_what_is_no_list_of_cones(cones, words):
    with pytest.raises(gd.ConeError) as error:
        as_product(cones)
    for word in words:
        assert word in str(error.value)


def test_a_dict_and_its_list_solve_the_same_problem(rng):
    A, x = rng.standard_normal((6, 2)), rng.standard_normal(2)
    b = A @ x + np.array([0.0, 1.0, 1.0, 2.0, 0.5, 0.5])
    q = rng.standard_normal(2)
    listed = gd.solve(np.eye(2), q, A, b, [gd.Zero(1), gd.Nonnegative(2), gd.SecondOrder(3)])
    told = gd.solve(np.eye(2), q, A, b, {"z": 1, "l": 2, "q": [3]})
    assert listed.ok
    assert told.x.tobytes() == listed.x.tobytes()
