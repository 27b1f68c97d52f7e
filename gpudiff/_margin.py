"""How far a point is from where its derivative jumps: what the kernels report as `margin`, in NumPy.

For points that no kernel has seen: those of other solvers. With v = y − s the solution is differentiable where the
projection onto K* is at v; the margin is the distance of v to the nearest v at which it is not, over the size of v. The
formulas are those of kernels/cones (one `margin` for each cone).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpudiff._blocks import blocks_of
from gpudiff._cones import (
    PSD,
    Cone,
    DualExponential,
    DualPower,
    Exponential,
    Nonnegative,
    Power,
    Product,
    SecondOrder,
    as_product,
)
from gpudiff._problem import Array
from gpudiff._svec import smat

_SMALLEST = 1e-8  # a v smaller than this is nothing beside the data, and its size is not divided by
_FAR = np.inf


def margins(y: Array, s: Array, cones: Any) -> Array:
    """Distance of y − s to the nearest kink of the projection onto K*, relative to its largest entry.

    By cone, with v = y − s: |vₖ| for a nonnegative row, |v₀ ± ‖v₁‖| for a second-order cone, the smallest |eigenvalue|
    for a PSD cone; for an exponential or power cone and their duals the smaller of ‖s‖ and ‖y‖, or where one of them is
    zero the distance of the other to the surface. A zero cone has no kinks.

    y − s adds things of different units: a caller whose data are badly scaled should pass equilibrated y and s.

    Args:
        y: multipliers [..., m], in K* or nearly so.
        s: slacks [..., m], in K or nearly so and complementary to y; +inf in an absent row, which does not count.
        cones: what `gpudiff.solve` takes.

    Returns:
        [...], 0 at a kink, +inf where there are no kinks at all.

    Raises:
        ConeError: `cones` are no cones.

    Cost: O(m), and O(k³) for a PSD cone of order k.
    """
    y, s = np.asarray(y, dtype=np.float64), np.asarray(s, dtype=np.float64)
    v = y - s
    nearest = np.full(v.shape[:-1], _FAR)
    size = np.full(v.shape[:-1], _SMALLEST)
    for cone, rows in _groups(as_product(cones)):
        part = v[..., rows]
        nearest = np.minimum(nearest, _nearest(cone, part, y[..., rows], s[..., rows]).min(-1))
        size = np.maximum(size, np.where(np.isinf(part), 0, np.abs(part)).max((-2, -1)))
    return nearest / size


def _groups(product: Product) -> Iterator[tuple[Cone, Array]]:
    """One cone of each kind and size, and the rows [count, rows] of all like it; zero cones have no kinks."""
    blocks = blocks_of(product)
    if blocks.nonnegative.size:
        yield Nonnegative(blocks.nonnegative.size), blocks.nonnegative[None]
    for rows in blocks.second_order:
        yield SecondOrder(rows.shape[1]), rows
    for order, rows in blocks.psd:
        yield PSD(order), rows
    yield from blocks.triples


def _nearest(cone: Cone, v: Array, y: Array, s: Array) -> Array:
    if isinstance(cone, Nonnegative):
        return np.abs(v).min(-1)
    if isinstance(cone, SecondOrder):
        norm = np.linalg.norm(v[..., 1:], axis=-1)
        return np.minimum(np.abs(v[..., 0] + norm), np.abs(v[..., 0] - norm))
    if isinstance(cone, PSD):
        return np.abs(eigenvalues(v)).min(-1)
    # With w = p − d: p in the exponential or power cone itself, d in its dual.
    dual = isinstance(cone, DualExponential | DualPower)
    w, p, d = (v, y, s) if dual else (-v, s, y)
    inside, outside = surface_distance(_primal(cone), w), surface_distance(_dual(cone), -w)
    apart = np.minimum(np.linalg.norm(p, axis=-1), np.linalg.norm(d, axis=-1))
    magnitude = np.abs(w)
    if isinstance(cone, Power):
        edges = magnitude[..., :2].min(-1)
        flat = w[..., 2] == 0
        return np.where(flat, edges, _choose(inside, outside, edges, apart))
    r, t = w[..., 0], w[..., 1]
    inner, outer = (np.minimum(magnitude[..., k], magnitude[..., 2]) for k in (1, 0))
    face = (r <= 0) & (t <= 0)  # above {x ≤ 0, y = 0, z ≥ 0} the projection clips coordinates
    edges = np.where(inside >= 0, inner, outer)
    return np.where(
        (inside >= 0) | (outside >= 0) | ~face,
        _choose(inside, outside, edges, np.minimum(apart, np.maximum(np.maximum(r, t), 0))),
        magnitude.min(-1),
    )


def _choose(inside: Array, outside: Array, edges: Array, apart: Array) -> Array:
    """Of a point in the cone or in its polar the distance to the surface and to the edges, otherwise `apart`."""
    surface = np.maximum(inside, outside)
    return np.where(surface >= 0, np.minimum(surface, edges), apart)


def _primal(cone: Cone) -> Cone:
    return Power(cone.parameter) if isinstance(cone, Power) else Exponential(1)


def _dual(cone: Cone) -> Cone:
    return DualPower(cone.parameter) if isinstance(cone, Power) else DualExponential(1)


def eigenvalues(v: Array) -> Array:
    """The eigenvalues of smat(v), ascending [..., k]; NaN where v is not finite."""
    finite = np.isfinite(v).all(-1, keepdims=True)
    return np.where(finite, np.linalg.eigvalsh(smat(np.where(finite, v, 0))), np.nan)


def surface_distance(cone: Cone, v: Array) -> Array:
    """Distance of a point in a cone of three rows to its curved surface, to first order where that is small.

    Args:
        cone: one exponential or power cone or one of their duals.
        v: [..., 3].

    Returns:
        [...], negative outside, −inf beyond the half-spaces that the cone lies in.
    """
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    if isinstance(cone, Power):
        a = cone.parameter
        shares = np.array([a, 1 - a]) if isinstance(cone, DualPower) else np.ones(2)
        there = (x > 0) & (y > 0)
        x, y, z = np.where(there, x, 1), np.where(there, y, 1), np.abs(z)
        mean = (x / shares[0]) ** a * (y / shares[1]) ** (1 - a)
        slope = np.hypot(np.hypot(1, a * mean / x), (1 - a) * mean / y)
        return np.where(there, (mean - z) / slope, -np.inf)
    # y log(z/y) ≥ x, and for the dual d log(w/d) ≥ −v − d with d = −u.
    dual = isinstance(cone, DualExponential)
    divisor = -x if dual else y
    there = (divisor > 0) & (z > 0)
    divisor, z = np.where(there, divisor, 1), np.where(there, z, 1)
    quotient = np.log(z / divisor)
    slack = divisor * quotient - (-y - divisor if dual else x)
    gradient = quotient if dual else quotient - 1
    return np.where(there, slack / np.hypot(np.hypot(1, gradient), divisor / z), -np.inf)


def surface_normal(cone: Cone, v: Array) -> Array:
    """The direction of the multiplier that belongs to a point on the curved surface of a cone of three rows.

    The gradient of the function that is zero on the surface and positive inside, its largest entry one; it lies in the
    dual cone and is orthogonal to v.

    Args:
        cone: as in `surface_distance`.
        v: [3], on the surface or near it, with x, y > 0 (power), y, z > 0 (exponential), u < 0 < w (its dual).
    """
    x, y, z = (float(value) for value in v)
    if isinstance(cone, Power):
        # The mean is |z| on the surface; taking it from z makes the normal orthogonal to v.
        a = cone.parameter
        normal = np.array([a * abs(z) / x, (1 - a) * abs(z) / y, -np.sign(z)])
    elif isinstance(cone, DualExponential):
        ratio = y / x
        normal = np.array([(1 - ratio) * (-z / x), -z / x, 1.0])
    else:
        ratio = x / y
        normal = np.array([-z / y, (ratio - 1) * (z / y), 1.0])
    return normal / np.abs(normal).max()
