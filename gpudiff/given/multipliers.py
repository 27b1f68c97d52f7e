"""Multipliers of a point that came without them: the least stationarity residual among those complementary to s.

    minimise ‖P x + q + Aᵀy‖   over y ∈ K* with sᵀy = 0

The face of K* that s leaves is N C* for a smaller cone (gpudiff/given/faces.py). Least squares in z with y = N z is
tried first; where its z of least norm is not in C* the same problem is solved as a cone program in z. What is active is
found with a growing tolerance: rows are taken in, in decades of their slack, as long as that makes the residual a tenth
of what it was.

Source: Magoon et al. 2024 (dQP) find the active set of a QP from its solution and refine it by the residual; faces of
other cones than the nonnegative one are this module's.
"""

from __future__ import annotations

import numpy as np

from gpudiff._cones import Cone, DualExponential, DualPower, Exponential, Power, Zero, as_product
from gpudiff._problem import Array, as_problem
from gpudiff._project import projected
from gpudiff._settings import Settings
from gpudiff._solve import run
from gpudiff._status import keeps_point
from gpudiff.given.faces import Face, faces
from gpudiff.given.optimality import Host, product

_TOLERANCES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)  # of what counts as active, relative
_FALLS = 0.1  # what more active rows must leave of the residual to be taken in
_EXACT = 1e-13  # a relative residual that nothing need improve
_INSIDE = 1e-12  # distance of z from C*, relative, that is rounding


def recover(host: Host, x: Array, s: Array, where: Array | None = None) -> Array:
    """Multipliers [B, m] for x [B, n] and s [B, m], which are finite but for absent rows; problem by problem.

    With `where` [B] for the problems marked there alone, and 0 for the others.

    Cost: a least-squares problem of n rows for each, and up to seven where x is not exact.
    """
    gradient = product(host.P, x, host.problem.n).value + host.q
    y = np.zeros((host.batch, host.problem.m))
    tame = np.isfinite(gradient).all(axis=1) & ~np.isnan(s).any(axis=1)  # what overflowed has no multipliers
    for i in np.flatnonzero(tame if where is None else tame & where):
        A, b = (array[i if array.shape[0] > 1 else 0] for array in (host.A, host.b))
        size = np.maximum(np.maximum(1, np.abs(b)), np.abs(A * x[i]).max(axis=1, initial=0))
        y[i] = _recover_one(A, gradient[i], host.problem.cones.cones, s[i], size)
    return y


def _recover_one(A: Array, gradient: Array, cones: tuple[Cone, ...], s: Array, size: Array) -> Array:
    best, least, columns = np.zeros(s.size), np.inf, 0
    for tolerance in _TOLERANCES:
        found = faces(cones, s, size, tolerance)
        count = sum(face.N.shape[1] for face in found)
        if count == columns:
            continue
        columns = count
        y = _fit(A, gradient, found)
        residual = float(np.abs(gradient + A.T @ y).max(initial=0))
        if residual <= _FALLS * least:
            best, least = y, residual
        if least <= _EXACT * max(1.0, float(np.abs(gradient).max(initial=0))):
            break
    return best


def _fit(A: Array, gradient: Array, found: list[Face]) -> Array:
    """The multipliers in these faces that leave the least residual."""
    M = np.concatenate([A[face.rows].T @ face.N for face in found], axis=1)
    cones = tuple(face.cone for face in found)
    z = np.linalg.lstsq(M, -gradient, rcond=None)[0]
    inside = projected(z, cones, True)
    if np.abs(inside - z).max() > _INSIDE * np.abs(z).max():
        inside = _constrained(M, gradient, cones, inside)
    y = np.zeros(A.shape[0])
    at = 0
    for face in found:
        width = face.N.shape[1]
        y[face.rows] += face.N @ inside[at : at + width]
        at += width
    return y


def _constrained(M: Array, gradient: Array, cones: tuple[Cone, ...], guess: Array) -> Array:
    """Argmin ‖gradient + M z‖ over z ∈ C*: minimise ½ zᵀMᵀM z + (Mᵀ gradient)ᵀz subject to −z + w = 0, w ∈ C*."""
    scale = float(np.abs(M).max()) or 1.0
    size = float(np.abs(gradient).max()) or 1.0
    unit, target = M / scale, gradient / size
    restricted = [cone for cone in cones if not isinstance(cone, Zero)]
    A = -np.eye(M.shape[1])[np.concatenate([np.full(cone.rows, not isinstance(cone, Zero)) for cone in cones])]
    duals = as_product([_dual(cone) for cone in restricted])
    solution = run(as_problem(unit.T @ unit, unit.T @ target, A, np.zeros(A.shape[0]), duals), Settings())
    if not keeps_point(solution.status):
        return guess
    return projected(solution.x, cones, True) * (size / scale)


def _dual(cone: Cone) -> Cone:
    """K* as a cone of the list: each is its own dual but for exponential and power cones."""
    if isinstance(cone, Power):
        return (Power if isinstance(cone, DualPower) else DualPower)(cone.parameter)
    if isinstance(cone, Exponential | DualExponential):
        return (DualExponential if isinstance(cone, Exponential) else Exponential)(1)
    return cone
