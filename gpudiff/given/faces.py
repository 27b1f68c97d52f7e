"""The multipliers that a slack allows: the face of K* complementary to s, as the image of a smaller cone.

    {y ∈ K*: sᵀy = 0} = {N z: z ∈ C}

with N and C by cone: a free z for a row of the zero cone, z ≥ 0 for an active nonnegative row, all of K* at an apex;
the ray through the mirror image of s on the surface of a second-order cone; Z Y Zᵀ with Y ⪰ 0 and Z a basis of the null
space for a PSD cone; the normal on the surface of an exponential or power cone, and rays on its flat faces. What is
"active" is decided with a tolerance, since s comes from a solver that stopped somewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpudiff._blocks import blocks
from gpudiff._cones import (
    PSD,
    Cone,
    DualExponential,
    Exponential,
    Nonnegative,
    Power,
    SecondOrder,
    Zero,
)
from gpudiff._margin import surface_distance, surface_normal
from gpudiff._problem import Array
from gpudiff._svec import smat, svec


class Face(NamedTuple):
    """Part of the face: the multipliers N z of some rows.

    Attributes:
        rows: those rows.
        N: [rows, k].
        cone: C with z ∈ C*; the zero cone stands for a free z.
    """

    rows: slice
    N: Array
    cone: Cone


def faces(cones: tuple[Cone, ...], s: Array, size: Array, tolerance: float) -> list[Face]:
    """The face of K* complementary to s.

    Args:
        cones: the cones.
        s: slack [m], in K; +inf in absent rows.
        size: [m], what a slack is compared with in each row.
        tolerance: a row or eigenvalue below this, times its size, is active.
    """
    found: list[Face] = []
    for cone, rows in blocks(cones):
        part, scale = s[rows], float(size[rows].max())
        if isinstance(cone, Zero):
            found.append(Face(rows, np.eye(cone.rows), cone))
        elif isinstance(cone, Nonnegative):
            active = np.flatnonzero(part <= tolerance * size[rows])
            if active.size:
                found.append(Face(rows, np.eye(cone.rows)[:, active], Nonnegative(active.size)))
        elif np.abs(part).max() <= tolerance * scale:
            found.append(Face(rows, np.eye(cone.rows), cone))
        elif isinstance(cone, SecondOrder):
            norm = float(np.linalg.norm(part[1:]))
            if part[0] - norm <= tolerance * scale:
                ray = np.concatenate([[1.0], -part[1:] / norm if norm else part[1:]])
                found.append(Face(rows, ray[:, None], Nonnegative(1)))
        elif isinstance(cone, PSD):
            values, vectors = np.linalg.eigh(smat(part))
            null = vectors[:, values <= tolerance * scale]
            if null.shape[1]:
                found.append(_matrices(rows, null))
        else:
            rays = _rays(cone, part, tolerance * scale)
            if rays:
                found.append(Face(rows, np.stack(rays, axis=1), Nonnegative(len(rays))))
    return found


def _matrices(rows: slice, null: Array) -> Face:
    """Z Y Zᵀ for all Y ⪰ 0: an isometry of svec(Y), as Z has orthonormal columns."""
    order = null.shape[1]
    entries = smat(np.eye(order * (order + 1) // 2))
    return Face(rows, svec(null @ entries @ null.T).T, PSD(order))


def _rays(cone: Cone, s: Array, least: float) -> list[Array]:
    """The extreme rays of the face of a cone of three rows, away from the apex."""
    e = np.eye(3)
    if isinstance(cone, Power):
        if abs(s[2]) <= least:
            flat = [e[k] for k in range(2) if s[k] <= least]
            if flat:
                return flat
    elif isinstance(cone, Exponential) and s[0] <= least and s[1] <= least:
        return [e[1]] if s[2] > least else [e[1], e[2]]  # the face {x ≤ 0, y = 0, z ≥ 0}
    elif isinstance(cone, DualExponential) and s[0] >= -least:
        return [-e[0]] if s[2] > least else [-e[0], e[2]]  # the face {u = 0, v ≥ 0, w ≥ 0}
    elif isinstance(cone, Exponential) and (s[1] <= 0 or s[2] <= 0):
        return []  # not in the cone
    if surface_distance(cone, s) > least:
        return []
    if isinstance(cone, Power):
        s = np.concatenate([np.where(s[:2] > 0, s[:2], least), s[2:]])
    return [surface_normal(cone, s)]
