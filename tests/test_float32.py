"""float32 in, float32 out, and as accurate as the type can hold."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import HARD, WELL_POSED, hard, varied_qps, well_posed

import gpudiff as gd

EPS = float(np.finfo(np.float32).eps)
# Rounding moves a certificate a little, but not out of its cone. (With P an unbounded problem becomes bounded: its ray
# is no longer in the null space of the rounded P.)
CERTIFIED = [*(name for name in HARD if "infeasible" in name), "unbounded lp", "unbounded socp"]
FLOATS = ("x", "y", "s", "obj", "primal_residual", "dual_residual", "gap")


def both(name: str, batch: int = 16):
    """The float32 answer, and the float64 answer to the very same (rounded) data."""
    single = well_posed(name, batch, seed=4).astype(np.float32)
    return single, gd.solve(*single.args), gd.solve(*single.astype(np.float64).args)


@pytest.mark.parametrize("name", WELL_POSED)
def test_solution_is_accurate_to_the_type(name):
    _, sol, double = both(name)
    assert np.all(double.ok)
    assert np.all(sol.ok)
    for field in FLOATS:
        assert getattr(sol, field).dtype == np.float32
    for field in ("x", "y", "s", "obj"):
        actual, expected = getattr(sol, field), getattr(double, field)
        for got, wanted in zip(actual, expected, strict=True):
            assert_close(got, wanted, 4 * EPS, field)


@pytest.mark.parametrize("name", WELL_POSED)
def test_derivatives(name, rng):
    """Taken at the rounded solution, so its rounding is amplified by the condition of the problem."""
    single, sol, double = both(name)
    seed = {k: rng.standard_normal(getattr(sol, k).shape).astype(np.float32) for k in ("x", "y", "s", "obj")}
    bar, expected = sol.vjp(**seed), double.vjp(**{k: v.astype(float) for k, v in seed.items()})
    for key in ("P", "q", "A", "b"):
        if getattr(single, key) is not None:
            assert getattr(bar, key).dtype == np.float32
            assert_close(getattr(bar, key), getattr(expected, key), 1e-4, key)
    direction = {k: rng.standard_normal(getattr(single, k).shape).astype(np.float32) for k in ("q", "A", "b")}
    dot, expected = sol.jvp(**direction), double.jvp(**{k: v.astype(float) for k, v in direction.items()})
    for output in ("x", "y", "s", "obj"):
        assert getattr(dot, output).dtype == np.float32
        assert_close(getattr(dot, output), getattr(expected, output), 1e-4, output)


@pytest.mark.parametrize("name", CERTIFIED)
def test_infeasible_and_unbounded_are_recognised(name):
    problem = hard(name, 8)
    sol = gd.solve(*problem.astype(np.float32).args)
    expected = {problem.status, f"ALMOST_{problem.status}"}
    assert {gd.Status(int(code)).name for code in sol.status} <= expected


def test_residuals_are_small_in_single_precision():
    single, sol, _ = both("qp with equalities")
    for i, item in enumerate(single.items()):
        assert max(reference.residuals(item, sol.x[i], sol.y[i], sol.s[i])) <= 50 * EPS


def test_batch_invariance(rng):
    problem = varied_qps(rng, 200)[1].astype(np.float32)
    whole = gd.solve(*problem.args)
    seed = rng.standard_normal(whole.x.shape).astype(np.float32)
    gradient = whole.vjp(x=seed)
    assert np.all(whole.ok)
    for pick in (slice(0, 1), slice(5, 22), slice(199, 200), rng.permutation(200)):
        part = gd.solve(*(np.array(a[pick]) for a in problem.data), problem.gd_cones, settings=gd.Settings(threads=2))
        for name in RESULT_FIELDS:
            assert_same_bits(getattr(part, name), getattr(whole, name)[pick], name)
        bar = part.vjp(x=seed[pick])
        for key in ("P", "q", "A", "b"):
            assert_same_bits(getattr(bar, key), getattr(gradient, key)[pick], key)
