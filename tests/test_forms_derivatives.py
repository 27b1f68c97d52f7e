"""Derivatives of solve_forms in the forms' own terms: finite differences, adjointness, sums over what is shared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from form_problems import (
    KINDS,
    LISTS,
    arguments,
    batch,
    changed,
    item,
    mapped,
    n,
    outputs,
    pairing,
    random_like,
    seeds,
)

import gpudiff as gd
from gpudiff.forms import Bounds, Conic, Equal, Free, Norm, Quadratic, Values

# ---- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in kind.AXES])
def test_each_argument_against_finite_differences(rng, kind, name):
    """In the company of a norm, so that multipliers move too."""
    P, q, listed = batch(rng, [Norm, kind], 8)
    sol = gd.solve_forms(P, q, listed)
    assert sol.differentiable.all()
    value = getattr(listed[1], name)
    direction = rng.standard_normal(np.shape(value))
    dot = outputs(sol.jvp(forms={1: kind(**{name: direction})}))
    step = 1e-5
    moved = [
        outputs(gd.solve_forms(P, q, [listed[0], changed(listed[1], **{name: value + sign * step * direction})]))
        for sign in (1, -1)
    ]
    for key, tangent in dot.items():
        ahead, behind = (np.asarray(out[key]) for out in moved)
        finite = np.isfinite(ahead)
        slope = (ahead[finite] - behind[finite]) / (2 * step)
        np.testing.assert_allclose(np.asarray(tangent)[finite], slope, rtol=1e-5, atol=1e-6, err_msg=key)
        assert not np.asarray(tangent)[~finite].any()
    assert np.abs(dot["x"]).max() > 1e-2 or kind is Free


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "sharing", ["nothing", "all but q", "all but q, extent 1", "every other", "every other, extent 1"]
)
def test_adjointness_shapes_and_sums_of_shared_arguments(rng, name, sharing):
    kinds = LISTS[name]
    if "all" in name and sharing != "nothing":
        kinds = [kind for kind in kinds if kind not in (Equal, Conic)]  # one point must be feasible for all
    P, q, listed = batch(rng, kinds, 5)
    alone = itertools.count()

    def compact(value):
        shared = sharing != "nothing" and ("all" in sharing or next(alone) % 2 == 0)
        return value if not shared else value[:1] if "extent 1" in sharing else value[0]

    if "every other" in sharing:  # what is not shared must still be feasible with what is
        listed = [mapped(form, lambda value: value[:1] + 1e-3 * rng.standard_normal(value.shape)) for form in listed]
    few = compact(P), q, [mapped(form, compact) for form in listed]

    def expand(value, like):
        return np.ascontiguousarray(np.broadcast_to(value, like.shape))

    wide = [
        changed(form, **{k: expand(v, getattr(full, k)) for k, v in arguments(form).items()})
        for form, full in zip(few[2], listed, strict=True)
    ]
    sol, whole = gd.solve_forms(*few), gd.solve_forms(expand(few[0], P), q, wide)
    assert whole.ok.all()
    assert_close(sol.x, whole.x, 1e-8)
    bars = seeds(rng, sol)
    bar, expected = sol.vjp(**bars), whole.vjp(**bars)
    pairs = [(bar.P, few[0], expected.P), (bar.q, q, expected.q)]
    for ours, form, theirs in zip(bar.forms, few[2], expected.forms, strict=True):
        assert type(ours) is type(form)
        pairs += [(getattr(ours, k), v, getattr(theirs, k)) for k, v in arguments(form).items()]
    for ours, argument, theirs in pairs:
        shape = np.shape(argument)
        assert ours.shape == shape
        summed = theirs if shape == theirs.shape else theirs.sum(0).reshape(shape)
        np.testing.assert_allclose(ours, summed, rtol=1e-6, atol=1e-7 * (1 + np.abs(summed).max(initial=0)))
    dots = random_like(rng, *few)
    dot = sol.jvp(*dots)
    forward = pairing((bars["x"], bars["obj"], bars["forms"]), (dot.x, dot.obj, dot.forms))
    backward = pairing(dots, (bar.P, bar.q, bar.forms))
    assert forward == pytest.approx(backward, rel=1e-8)


def test_cotangents_without_a_batch_axis_and_one_at_a_time(rng):
    P, q, listed = batch(rng, [Quadratic, Bounds])
    sol = gd.solve_forms(P, q, listed)
    shared = seeds(rng, gd.solve_forms(*item(P, q, listed, 0)))
    each = {"x": np.tile(shared["x"], (4, 1)), "obj": np.full(4, shared["obj"])}
    each["forms"] = [Values(*(np.stack([part] * 4) for part in (v.y, v.s))) for v in shared["forms"]]
    for chosen in ({"x"}, {"forms"}, {"obj"}, {"x", "forms", "obj"}):
        ours, theirs = (sol.vjp(**{k: bars[k] for k in chosen}) for bars in (shared, each))
        assert_same_bits(ours.forms[0].F, theirs.forms[0].F)
        assert_same_bits(ours.q, theirs.q)
    only = sol.vjp(forms={0: Values(s=1.0)}, wrt=["forms[0].r", "forms[1]"])
    full = sol.vjp(forms=[Values(s=np.ones(4)), None])
    assert_same_bits(only.forms[0].r, full.forms[0].r)
    assert_same_bits(only.forms[1].upper, full.forms[1].upper)
    assert only.q is None
    assert only.forms[0].F is None


def test_a_matrix_in_place_of_its_factor(rng):
    """The cotangent and the tangent of Q that the docstring of `Quadratic` gives."""
    L, C, q = rng.standard_normal((n, n)), rng.standard_normal((n, n)), rng.standard_normal(n)
    Q, Q_dot = L @ L.T / n + np.eye(n), C + C.T

    def solve(Q):
        return gd.solve_forms(np.eye(n), 5 * q, [Quadratic(np.linalg.cholesky(Q).T, 0.1 * q, 0.7)])

    sol = solve(Q)
    ahead, behind = solve(Q + 1e-6 * Q_dot), solve(Q - 1e-6 * Q_dot)
    F = np.linalg.cholesky(Q).T
    dot = sol.jvp(forms={0: Quadratic(np.linalg.solve(F.T, Q_dot) / 2)})
    assert_close(dot.x, (ahead.x - behind.x) / 2e-6, 1e-8)
    assert_close(dot.forms[0].y, (ahead.forms[0].y - behind.forms[0].y) / 2e-6, 1e-8)
    x_bar, y_bar = rng.standard_normal(n), 0.3
    M = np.linalg.solve(F, sol.vjp(x=x_bar, forms={0: Values(y=y_bar)}).forms[0].F)
    slope = x_bar @ (ahead.x - behind.x) + y_bar * (ahead.forms[0].y - behind.forms[0].y)
    assert np.sum((M + M.T) / 4 * Q_dot) == pytest.approx(slope / 2e-6, rel=1e-6)
