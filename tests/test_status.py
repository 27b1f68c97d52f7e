"""Statuses: their numbers, their words, and what solutions make of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import gpudiff as gd
from gpudiff._status import keeps_point, tally

HEADER = Path(__file__).parents[1] / "kernels" / "entry" / "gpudiff.h"


def test_the_numbers_are_those_of_the_kernels():
    body = re.search(r"enum gd_status \{(.*?)\};", HEADER.read_text(), re.DOTALL).group(1)
    numbers = {name: int(value) for name, value in re.findall(r"GD_(\w+) = (\d+)", body)}
    assert numbers.pop("UNFINISHED") == 0
    assert numbers == {status.name: status.value for status in gd.Status}


@pytest.mark.parametrize("status", list(gd.Status))
def test_every_status_says_what_happened_and_what_to_try(status):
    assert len(status.what) > 10
    assert len(status.remedy) > 5
    assert gd.Status(int(status)) is status
    assert gd.Status(np.int8(status)) is status


def test_which_statuses_keep_their_point():
    codes = np.array(list(gd.Status), np.int8)
    assert [gd.Status(c).name for c in codes[keeps_point(codes)]] == ["SOLVED", "ALMOST_SOLVED"]


def test_tally_counts_most_frequent_first():
    counts = tally(np.array([3, 1, 1, 10, 1, 3], np.int8))
    assert list(counts.items()) == [
        (gd.Status.SOLVED, 3),
        (gd.Status.PRIMAL_INFEASIBLE, 2),
        (gd.Status.INVALID_DATA, 1),
    ]


def test_raise_for_status_and_ok():
    A, cones = np.array([[1.0], [-1.0]]), [gd.Nonnegative(2)]
    sol = gd.solve(None, np.array([[1.0], [1.0]]), A, np.array([[1.0, 0.0], [1.0, -2.0]]), cones)
    assert sol.ok.tolist() == [True, False]
    assert sol.ok.dtype == bool
    with pytest.raises(gd.SolveError, match=r"1 of 2 problems were not solved \(the first is number 1\)") as error:
        sol.raise_for_status()
    assert error.value.solution is sol
    alone = gd.solve(None, [1.0], A, [1.0, -2.0], cones)
    with pytest.raises(gd.SolveError, match=r"^not solved\n  1 PRIMAL_INFEASIBLE: no x satisfies"):
        alone.raise_for_status()
    fine = gd.solve(None, [1.0], A, [1.0, 0.0], cones)
    assert fine.raise_for_status() is None


def test_unbounded_problems_carry_their_certificate():
    P, q, A = np.diag([1.0, 0.0]), np.array([0.0, -2.0]), np.array([[0.0, -1.0]])
    sol = gd.solve(P, q, A, [0.0], [gd.Nonnegative(1)])
    assert sol.status == gd.Status.DUAL_INFEASIBLE
    assert sol.obj == -np.inf
    np.testing.assert_allclose(sol.x, [0, 0.5], atol=1e-7)
    assert np.isnan(sol.y).all()
    assert not sol.differentiable
    assert not sol.vjp(x=np.ones(2)).q.any()
