"""Feasible problems for the tests of gpudiff.forms: a maker for each form, and ways to walk over arguments."""

from __future__ import annotations

import numpy as np

import gpudiff as gd
from gpudiff.forms import AtMost, Between, Bounds, Conic, Equal, Free, Norm, Quadratic, Rotated, Values

INF = np.inf
n = 6
CONES = [gd.Nonnegative(1), gd.SecondOrder(3)]


def _rows(M, x):
    return np.einsum("...ij,...j->...i", M, x)


def _equal(rng, x):
    A = rng.standard_normal((len(x), 2, n))
    return Equal(A, _rows(A, x))


def _at_most(rng, x):
    G = rng.standard_normal((len(x), 4, n))
    h = _rows(G, x) + rng.uniform(0.05, 0.5, (len(x), 4))
    h[:, 3] = INF
    return AtMost(G, h)


def _ends(rng, center):
    lower, upper = (center + sign * rng.uniform(0.05, 0.5, center.shape) for sign in (-1, 1))
    lower[:, 0] = -INF  # for all problems: no row
    upper[::2, 1] = INF  # for some
    lower[:, 4], upper[:, 4] = -INF, INF
    return lower, upper


def _between(rng, x):
    G = rng.standard_normal((len(x), 5, n))
    return Between(G, *_ends(rng, _rows(G, x)))


def _bounds(rng, x):
    return Bounds(*_ends(rng, x))


def _free(rng, x):
    return Free(rng.standard_normal((len(x), 2, n)))


def _norm(rng, x):
    F, g, c = (rng.standard_normal((len(x), *shape)) for shape in ((3, n), (3,), (n,)))
    size = np.linalg.norm(_rows(F, x) + g, axis=-1)
    return Norm(F, g, 0.2 * c, size - 0.2 * np.sum(c * x, -1) + rng.uniform(0.05, 0.2, len(x)))


def _rotated(rng, x):
    F, point = rng.standard_normal((len(x), 4, n)), rng.standard_normal((len(x), 4))
    point[:, 0] = rng.uniform(0.5, 2, len(x))
    point[:, 1] = (np.sum(point[:, 2:] ** 2, -1) / 2 + rng.uniform(0.05, 0.2, len(x))) / point[:, 0]
    return Rotated(F, point - _rows(F, x))


def _quadratic(rng, x):
    F, c = rng.standard_normal((len(x), 3, n)), rng.standard_normal((len(x), n))
    value = np.sum(_rows(F, x) ** 2, -1) / 2 + np.sum(c * x, -1)
    return Quadratic(F, c, value + rng.uniform(0.05, 0.2, len(x)))


def _conic(rng, x):
    A = rng.standard_normal((len(x), 4, n))
    return Conic(A, _rows(A, x) + np.array([0.2, 1.0, 0.3, -0.4]), CONES)


MAKE = {
    Equal: _equal, AtMost: _at_most, Between: _between, Bounds: _bounds, Free: _free,
    Norm: _norm, Rotated: _rotated, Quadratic: _quadratic, Conic: _conic,
}  # fmt: skip
KINDS = list(MAKE)
LISTS = {**{kind.__name__: [kind] for kind in KINDS}, "all": KINDS, "all, backwards": KINDS[::-1]}


def batch(rng, kinds, B=4):
    """P, q and a feasible form of each kind; P's optimum without them is far away, so that they matter."""
    L, x = rng.standard_normal((B, n, n)), rng.standard_normal((B, n))
    P = L @ np.swapaxes(L, 1, 2) / n + 0.3 * np.eye(n)
    return (P + np.swapaxes(P, 1, 2)) / 2, 3 * rng.standard_normal((B, n)), [MAKE[kind](rng, x) for kind in kinds]


def arguments(form):
    return {name: value for name in form.AXES if (value := getattr(form, name)) is not None}


def changed(form, **values):
    return type(form)(**{**vars(form), **values})


def mapped(form, function):
    """The form with `function` of each argument in its place."""
    return changed(form, **{name: function(value) for name, value in arguments(form).items()})


def item(P, q, listed, i):
    return P[i], q[i], [mapped(form, lambda value: value[i]) for form in listed]


def random_like(rng, P, q, listed):
    """Directions for all data, of their shapes; symmetric ones for P."""
    dP = rng.standard_normal(P.shape)
    return (
        dP + np.swapaxes(dP, -1, -2),
        rng.standard_normal(q.shape),
        [mapped(form, lambda value: rng.standard_normal(np.shape(value))) for form in listed],
    )


def seeds(rng, sol):
    """Cotangents for x, all y and s, and obj."""
    values = [Values(*(rng.standard_normal(np.shape(part)) for part in (v.y, v.s))) for v in sol.forms]
    return {"x": rng.standard_normal(sol.x.shape), "forms": values, "obj": rng.standard_normal(np.shape(sol.obj))}


def pairing(a, b):
    """⟨a, b⟩ of (P or x, q or obj, forms) triples."""
    total = sum(np.sum(one * other) for one, other in zip(a[:2], b[:2], strict=True))
    for one, other in zip(a[2], b[2], strict=True):
        names = ("y", "s") if isinstance(one, Values) else arguments(one)
        total += sum(np.sum(getattr(one, name) * getattr(other, name)) for name in names)
    return total


def outputs(sol):
    """Everything that has derivatives, by name."""
    named = {"x": sol.x, "obj": sol.obj}
    for i, v in enumerate(sol.forms):
        named[f"y{i}"], named[f"s{i}"] = v.y, v.s
    return named
