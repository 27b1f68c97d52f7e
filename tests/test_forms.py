"""solve_forms: every form against the same problem by hand, known answers, infinite bounds and statuses."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from form_problems import (
    CONES,
    INF,
    KINDS,
    LISTS,
    arguments,
    batch,
    changed,
    item,
    mapped,
    n,
    random_like,
    seeds,
)

import gpudiff as gd
from gpudiff import _short, forms
from gpudiff._derivative import LateLinearization
from gpudiff.forms import AtMost, Between, Bounds, Conic, Equal, Free, Norm, Quadratic, Rotated, Values
from gpudiff.forms.plan import Part

# ---- the same problem by hand ----------------------------------------------------------------------------------------


def by_hand(form):
    """A, b and cones of one unbatched form, not by the ways of gpudiff.forms: one cone for each bound, no √½."""
    if isinstance(form, Equal):
        return form.A, form.b, [gd.Zero(2)]
    if isinstance(form, AtMost):
        return form.G[:3], form.h[:3], [gd.Nonnegative(3)]
    if isinstance(form, Between | Bounds):
        G = form.G if isinstance(form, Between) else np.eye(n)
        high, low = np.isfinite(form.upper), np.isfinite(form.lower)
        A, b = np.vstack([-G[low], G[high]]), np.concatenate([-form.lower[low], form.upper[high]])
        return A, b, [gd.Nonnegative(1)] * len(b)
    if isinstance(form, Free):
        return np.zeros((0, n)), np.zeros(0), []
    if isinstance(form, Norm):
        return np.vstack([-form.c, -form.F]), np.concatenate([[form.r], form.g]), [gd.SecondOrder(4)]
    if isinstance(form, Rotated):  # (u + v/2)² − (u − v/2)² = 2uv
        T = np.eye(4)
        T[:2, :2] = [[1, 0.5], [1, -0.5]]
        return -T @ form.F, T @ form.g, [gd.SecondOrder(4)]
    if isinstance(form, Quadratic):  # (t + ½)² − (t − ½)² = 2t
        return (
            np.vstack([form.c, form.c, -form.F]),
            np.array([form.r + 0.5, form.r - 0.5, 0, 0, 0]),
            [gd.SecondOrder(5)],
        )
    return form.A, form.b, CONES


def check_optimal(P, q, listed, sol):
    """The optimality conditions in the forms' own terms."""
    stationarity = P @ sol.x + q
    for form, v in zip(listed, sol.forms, strict=True):
        y, s, x = v.y, v.s, sol.x
        if isinstance(form, Equal):
            stationarity += form.A.T @ y
            assert_close(s, np.zeros(2), 1e-12)
            assert_close(form.A @ x, form.b, 1e-9)
        elif isinstance(form, AtMost):
            stationarity += form.G.T @ y
            assert_close(s[:3], (form.h - form.G @ x)[:3], 1e-9)
            assert s[3] == INF
            assert y[3] == 0
            assert (s >= 0).all()
            assert (y >= 0).all()
            assert_close(y[:3] * s[:3], np.zeros(3), 1e-9)
        elif isinstance(form, Between | Bounds):
            value = form.G @ x if isinstance(form, Between) else x
            stationarity += form.G.T @ y if isinstance(form, Between) else y
            expected = np.stack([value - form.lower, form.upper - value])
            np.testing.assert_array_equal(np.isinf(s), np.isinf(expected))
            assert_close(s[np.isfinite(s)], expected[np.isfinite(s)], 1e-9)
            assert (s >= -1e-12).all()
            assert (y[s[0] > 1e-6] >= 0).all()
            assert (y[s[1] > 1e-6] <= 0).all()
            assert not y[np.isinf(s).all(axis=0)].any()
        elif isinstance(form, Free):
            np.testing.assert_array_equal(y, [0, 0])
            np.testing.assert_array_equal(s, [INF, INF])
        elif isinstance(form, Norm):
            stationarity -= form.c * y[0] + form.F.T @ y[1:]
            assert_close(s, np.concatenate([[form.c @ x + form.r], form.F @ x + form.g]), 1e-9)
            for part in (y, s):
                assert part[0] >= np.linalg.norm(part[1:]) - 1e-9
            assert abs(y @ s) < 1e-9
        elif isinstance(form, Rotated):
            stationarity -= form.F.T @ y
            assert_close(s, form.F @ x + form.g, 1e-9)
            for u, v_, *w in (y, s):
                assert 2 * u * v_ >= np.sum(np.square(w)) - 1e-9
                assert min(u, v_) >= -1e-12
            assert abs(y @ s) < 1e-9
        elif isinstance(form, Quadratic):
            stationarity += y * (form.F.T @ (form.F @ x) + form.c)
            assert_close(s, form.r - form.c @ x - np.sum((form.F @ x) ** 2) / 2, 1e-9)
            assert y >= 0
            assert s >= -1e-9
            assert abs(y * s) < 1e-9
        else:
            stationarity += form.A.T @ y
            assert_close(s, form.b - form.A @ x, 1e-9)
            assert abs(y @ s) < 1e-9
    assert_close(stationarity, np.zeros(n), 1e-9)


@pytest.mark.parametrize("name", LISTS)
def test_against_the_problem_by_hand_and_optimality(rng, name):
    P, q, listed = batch(rng, LISTS[name], 12)
    sol = gd.solve_forms(P, q, listed)
    assert sol.ok.all()
    active = [np.abs(v.y).max() > 1e-3 for v in sol.forms]
    assert all(active[i] or isinstance(form, Free) for i, form in enumerate(listed)), "a form without effect"
    for i in range(len(q)):
        Pi, qi, forms_i = item(P, q, listed, i)
        rows = [by_hand(form) for form in forms_i]
        A, b = (np.concatenate([part[j] for part in rows]) for j in range(2))
        hand = gd.solve(Pi, qi, A, b, [cone for part in rows for cone in part[2]])
        alone = gd.solve_forms(Pi, qi, forms_i)
        assert_close(sol.x[i], hand.x, 1e-9)
        assert_close(sol.obj[i], hand.obj, 1e-9)
        assert_close(alone.x, hand.x, 1e-9)
        check_optimal(Pi, qi, forms_i, alone)
        for together, one in zip(sol.forms, alone.forms, strict=True):
            for part in ("y", "s"):
                np.testing.assert_allclose(getattr(together, part)[i], getattr(one, part), rtol=1e-7, atol=1e-8)


def test_linear_forms_are_a_qp(rng):
    """The same bits as `solve_qp` gives, by the active set; its three forms are these."""
    P, q, (equal, most, bounds) = batch(rng, [Equal, AtMost, Bounds])
    sol = gd.solve_forms(P, q, [equal, most, bounds])
    qp = gd.solve_qp(P, q, most.G, most.h, equal.A, equal.b, bounds.lower, bounds.upper)
    assert sol.method == qp.method == "active_set"
    for ours, theirs in zip((sol.x, *(v.y for v in sol.forms)), (qp.x, qp.y, qp.z, qp.z_box), strict=True):
        assert_same_bits(ours, theirs)
    bar, expected = sol.vjp(x=np.ones(n)), qp.vjp(x=np.ones(n))
    assert_same_bits(bar.forms[2].upper, expected.ub)
    assert_same_bits(bar.forms[1].G, expected.G)


# ---- known answers ---------------------------------------------------------------------------------------------------


def test_projection_onto_a_ball(rng):
    point, center = 3 * rng.standard_normal((5, n)), rng.standard_normal(n)
    sol = gd.solve_forms(np.eye(n), -point, [Norm(np.eye(n), -center, r=0.5)])
    away = point - center
    distance = np.linalg.norm(away, axis=1)
    assert_close(sol.x, center + 0.5 * away / distance[:, None], 1e-9)
    assert_close(sol.forms[0].y[:, 0], distance - 0.5, 1e-9)
    bar = sol.vjp(x=away)
    assert_close(bar.forms[0].r, np.asarray(distance.sum()), 1e-9)
    assert_close(sol.jvp(forms={0: Norm(r=1.0)}).x, away / distance[:, None], 1e-9)
    assert bar.forms[0].r.shape == ()
    assert bar.forms[0].c is None


def test_mean_variance_with_a_risk_limit():
    Sigma = np.array([[0.002, 0.0005, 0.001], [0.0005, 0.003, 0.0002], [0.001, 0.0002, 0.0025]])
    mu, F, sigma = np.array([0.05, 0.08, 0.12]), np.linalg.cholesky(Sigma).T, 0.04
    budget = [AtMost(np.ones((1, 3)), [1.0]), Bounds(0.0)]
    by_variance = gd.solve_forms(None, -mu, [*budget, Quadratic(F, None, sigma**2 / 2)])
    by_norm = gd.solve_forms(None, -mu, [*budget, Norm(F, r=sigma)])
    for sol in (by_variance, by_norm):
        assert_close(sol.x, np.array([0, 0.28692941, 0.71307059]), 1e-8)
    # dx/dσ = σ dx/dr
    assert_close(
        by_norm.vjp(x=mu).forms[2].r, np.asarray(sigma * by_variance.vjp(x=mu, wrt="forms[2].r").forms[2].r), 1e-8
    )
    assert_close(by_norm.forms[2].y[0], np.asarray(sigma * by_variance.forms[2].y), 1e-8)


def test_a_two_sided_linear_program():
    # 1 ≤ x₁ + x₂ ≤ 3 and 0 ≤ x₁ − x₂ ≤ 2: x₁ + 2 x₂ is largest where the first is 3 and the second 0.
    sol = gd.solve_forms(None, [-1.0, -2], [Between([[1, 1], [1, -1]], [1, 0], [3, 2])])
    assert_close(sol.x, np.array([1.5, 1.5]), 1e-12)
    assert_close(sol.forms[0].y, np.array([1.5, -0.5]), 1e-12)
    assert_close(sol.forms[0].s, np.array([[2.0, 0], [0, 2]]), 1e-12)
    bar = sol.vjp(obj=1.0).forms[0]
    assert_close(bar.upper, np.array([-1.5, 0]), 1e-12)
    assert_close(bar.lower, np.array([0, 0.5]), 1e-12)


def test_a_hyperbolic_constraint():
    # x₁ x₂ ≥ 1: minimising a x₁ + b x₂ gives x₁ = √(b/a), and 2 √(ab).
    a, b = np.array([1.0, 2, 3]), np.array([1.0, 0.5, 4])
    sol = gd.solve_forms(None, np.stack([a, b], 1), [Rotated([[1, 0], [0, 1], [0, 0]], [0, 0, np.sqrt(2)])])
    assert_close(sol.x, np.stack([np.sqrt(b / a), np.sqrt(a / b)], 1), 1e-9)
    assert_close(sol.obj, 2 * np.sqrt(a * b), 1e-9)
    assert_close(sol.vjp(x=[1.0, 0]).q[:, 0], -np.sqrt(b / a) / (2 * a), 1e-8)


@pytest.mark.parametrize("r", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_the_scale_of_a_quadratic_constraint_changes_rounding_alone(rng, r):
    F, q = rng.standard_normal((n, n)), rng.standard_normal(n)
    direction = np.linalg.solve(F.T @ F, q)
    length = np.sqrt(q @ direction)
    sol = gd.solve_forms(None, q, [Quadratic(F, None, r, scale=r)])
    exact = -np.sqrt(2 * r) * direction / length
    assert_close(sol.x / np.sqrt(r), exact / np.sqrt(r), 1e-11)
    assert_close(sol.forms[0].y * np.sqrt(r), np.asarray(length / np.sqrt(2)), 1e-11)
    assert abs(sol.forms[0].s) < 1e-11 * r
    assert sol.vjp(x=q).forms[0].r == pytest.approx(q @ exact / (2 * r), rel=1e-9)
    if 1e-4 <= r <= 1e4:
        assert_close(gd.solve_forms(None, q, [Quadratic(F, None, r)]).x, sol.x, 1e-9)


# ---- bounds, numbers, statuses ---------------------------------------------------------------------------------------


def test_infinite_bounds_have_no_rows(rng):
    P, q, (between,) = item(*batch(rng, [Between]), 0)
    sol = gd.solve_forms(P, q, [between])
    assert sol.conic.y.shape == (np.isfinite(between.lower).sum() + np.isfinite(between.upper).sum(),)
    free = gd.solve_forms(P, q, [Between(between.G, np.full(5, -INF)), Bounds(), Free(between.G)])
    assert free.conic.y.shape == (0,)
    assert_close(free.x, -np.linalg.solve(P, q), 1e-9)
    assert (free.forms[0].s == INF).all()
    assert not free.forms[1].y.any()
    bar = free.vjp(x=np.ones(n), forms={0: Values(y=np.ones(5), s=np.ones((2, 5)))})
    assert not bar.forms[0].lower.any()
    assert not bar.forms[0].G.any()
    assert not bar.forms[2].G.any()
    assert bar.forms[0].upper is None
    assert not free.jvp(forms=[Between(lower=np.ones(5)), None, Free(between.G)]).x.any()


def test_numbers_stand_for_all_rows_and_take_the_type_of_the_arrays(rng):
    P, q, (between,) = batch(rng, [Between], 3)
    G = between.G[0]
    sol = gd.solve_forms(P, q, [Between(G, -0.3, 0.2), Bounds(-0.5, np.float64(0.4))])
    wide = gd.solve_forms(
        P, q, [Between(G, np.full(5, -0.3), np.full(5, 0.2)), Bounds(np.full(n, -0.5), np.full(n, 0.4))]
    )
    assert_same_bits(sol.x, wide.x)
    bars = seeds(rng, sol)
    bar, expected = sol.vjp(**bars), wide.vjp(**bars)
    for i, name in itertools.product(range(2), ("lower", "upper")):
        ours, theirs = getattr(bar.forms[i], name), getattr(expected.forms[i], name)
        assert ours.shape == ()
        assert ours == pytest.approx(theirs.sum(), rel=1e-9, abs=1e-12)
        assert np.abs(theirs).max() > 0
    dot = sol.jvp(forms=[Between(lower=1.0), Bounds(upper=2)])
    assert_close(dot.x, wide.jvp(forms=[Between(lower=np.ones(5)), Bounds(upper=np.full(n, 2.0))]).x, 1e-12)
    assert gd.solve_forms(P, q, [Bounds(-INF, INF)]).conic.y.shape == (3, 0)
    single = gd.solve_forms(
        *(a.astype(np.float32) for a in (P, q)), [Bounds(0, 1), Quadratic(G.astype(np.float32), None, 2)]
    )
    assert single.x.dtype == single.forms[1].s.dtype == single.vjp(x=np.ones(n)).forms[1].r.dtype == np.float32


def test_each_problem_has_its_own_status(rng):
    P, q, listed = batch(rng, [Between, Quadratic, Free], 5)
    listed[0].lower[1, 2], listed[0].upper[1, 2] = 1, 0
    listed[1].r[2] = -1e3
    listed[1].F[3, 0, 0] = np.nan
    sol = gd.solve_forms(P, q, listed)
    names = ["SOLVED", "PRIMAL_INFEASIBLE", "PRIMAL_INFEASIBLE", "INVALID_DATA", "SOLVED"]
    assert [gd.Status(code).name for code in sol.status] == names
    for values in (sol.forms[0].y, sol.forms[0].s, sol.forms[1].y, sol.forms[2].y, sol.forms[2].s):
        assert np.isnan(values[3]).all()
        assert not np.isnan(values[[0, 4]]).any()
    assert np.isnan(sol.forms[1].s[[1, 2, 3]]).all()
    dot, bar = sol.jvp(*random_like(rng, P, q, listed)), sol.vjp(**seeds(rng, sol))
    for values in (dot.x, *(part for v in dot.forms for part in (v.y, v.s)), bar.forms[1].F, bar.forms[0].lower):
        assert np.isfinite(values).all()
        assert not values[[1, 2, 3]].any()
    alone = gd.solve_forms(*item(P, q, listed, 4))
    assert_close(sol.x[4], alone.x, 1e-9)
    zero = gd.solve_forms(P, q, listed, gd.Settings(on_failure="zero"))
    assert not zero.forms[0].y[3].any()
    with pytest.raises(gd.SolveError, match="3 of 5") as error:
        gd.solve_forms(P, q, listed, gd.Settings(on_failure="raise"))
    assert isinstance(error.value.solution, gd.FormsSolution)
    text = repr(sol)
    assert text.startswith(f"FormsSolution(B=5, n=6, 3 forms, {sol.conic.y.shape[1]} rows, float64, backend 'cpu')\n")
    assert "forms[0].s [5, 2, 5]" in text
    assert repr(listed[0]) == "Between(G [5, 5, 6], lower [5, 5], upper [5, 5])"
    assert repr(Bounds(0.0)) == "Bounds(lower=0.0)"


def test_an_infinite_radius_is_no_radius(rng):
    P, q, listed = item(*batch(rng, [Norm, Quadratic]), 0)
    for position in range(2):
        changed_r = [changed(form, r=INF) if i == position else form for i, form in enumerate(listed)]
        assert gd.solve_forms(P, q, changed_r).status == gd.Status.INVALID_DATA


def test_warm_starts_and_single_problems_go_the_short_way(rng, monkeypatch):
    monkeypatch.setattr(_short, "_shelves", {})
    monkeypatch.setattr(_short, "_met", set())
    P, q, listed = batch(rng, [Norm, Bounds])
    first = gd.solve_forms(P, q, listed)
    cold, warm = (gd.solve_forms(P, q + 1e-4, listed, warm_start=start) for start in (None, first))
    assert_close(warm.x, cold.x, 1e-9)
    assert warm.iterations.sum() < cold.iterations.sum()
    with pytest.raises(gd.ShapeError, match=r"warm_start: expected a solution of problems with B=4, n=6"):
        gd.solve_forms(P, q, listed[:1], warm_start=first)
    with pytest.raises(gd.ArgumentError, match="warm_start: expected a FormsSolution"):
        gd.solve_forms(P, q, listed, warm_start=first.conic)
    one = item(P, q, listed, 0)
    sols = [gd.solve_forms(*one) for _ in range(3)]
    assert type(sols[2].conic.linearization) is LateLinearization
    assert_same_bits(sols[2].forms[0].y, sols[0].forms[0].y)
    assert_same_bits(sols[2].vjp(x=q[0]).forms[0].F, sols[0].vjp(x=q[0]).forms[0].F)


def test_a_plan_for_one_problem_does_not_serve_another(rng):
    """Same shapes, but bounds in other places, other cones, another scale."""
    P, q = np.eye(2), np.array([-3.0, -4])
    for upper in ([1, INF], [INF, 1], [1, 1], [INF, INF]):
        assert_close(gd.solve_forms(P, q, [Bounds(None, upper)]).x, np.minimum(upper, -q), 1e-12)
    A, b = -np.eye(2), np.zeros(2)
    for cones, x in (([gd.Zero(2)], [0, 0]), ([gd.Nonnegative(2)], [3, 4]), ([gd.SecondOrder(2)], [3.5, 3.5])):
        assert_close(gd.solve_forms(P, q, [Conic(A, b, cones)]).x, np.array(x, float), 1e-9)
    for scale in (1.0, 3.0):
        sol = gd.solve_forms(P, q, [Quadratic(P, None, 0.5, scale=scale)])
        assert_close(sol.x, -q / 5, 1e-9)
        assert_close(sol.forms[0].y, np.asarray(4.0), 1e-9)


def test_no_forms_empty_forms_and_empty_batches(rng):
    P, q, listed = batch(rng, KINDS)
    assert_close(gd.solve_forms(P, q, []).x, -np.linalg.solve(P, q[..., None])[..., 0], 1e-9)
    none = np.zeros((0, n))
    empty = [Equal(none, []), Between(none, 0, 1), Norm(none, c=np.zeros(n), r=1.0), Free(none)]
    sol = gd.solve_forms(P, q, empty)
    assert sol.forms[1].s.shape == (4, 2, 0)
    assert sol.vjp(x=q).forms[0].A.shape == (0, n)
    assert_close(sol.x, gd.solve_forms(P, q, []).x, 1e-9)
    nothing = gd.solve_forms(P[:0], q[:0], [mapped(form, lambda value: value[:0]) for form in listed])
    assert nothing.forms[7].y.shape == (0,)
    bar = nothing.vjp(x=np.ones((0, n)))
    assert [value.shape[0] for form in bar.forms for value in arguments(form).values()] == [0] * 21


@dataclass(frozen=True, eq=False, repr=False)
class AtLeast(forms.Form):
    """A form of a user's own."""

    G: object = None
    h: object = None

    AXES: ClassVar = {"G": "kn", "h": "k"}
    REQUIRED: ClassVar = ("G", "h")

    @classmethod
    def lay(cls, at):
        rows = at.rows(at.sizes["k"], A=[Part("G", -1)], b=[Part("h", -1)])
        at.cone(gd.Nonnegative(at.sizes["k"]))
        at.same(rows)


def test_a_form_of_ones_own(rng):
    P, q, (most,) = batch(rng, [AtMost])
    own, same = (gd.solve_forms(P, q, [form]) for form in (AtLeast(-most.G, -most.h), most))
    assert_same_bits(own.x, same.x)
    bar, expected = (sol.vjp(x=q).forms[0] for sol in (own, same))
    assert type(bar) is AtLeast
    np.testing.assert_array_equal(bar.h, -expected.h)
    np.testing.assert_array_equal(bar.G, -expected.G)


def test_readme_names_every_form():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(forms).values() if isinstance(kind, type) and issubclass(kind, forms.Form)]
    kinds.remove(forms.Form)
    assert set(kinds) == set(KINDS)
    for kind in kinds:
        assert re.search(rf"^\| `{kind.__name__}\({', '.join(kind.AXES)}", readme, flags=re.MULTILINE), kind
