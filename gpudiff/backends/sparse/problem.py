"""One sparse problem with a solution: polish, derivatives, residuals.

Everything is done in the equilibrated space and given back in the caller's units.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from gpudiff import _margin
from gpudiff._blocks import blocks_of
from gpudiff._cones import Product
from gpudiff._problem import Array
from gpudiff.backends.sparse.curvature import curvature, project
from gpudiff.backends.sparse.scaling import scaled
from gpudiff.backends.sparse.system import MOST_ENTRIES, System

Data: TypeAlias = tuple[Any, Array, Any, Array, Product]  # P, q, A, b and the cones of one problem

_STEPS = 8
_EXACT = 1e-14  # residual over the size of its terms at which Newton's method is done
_PATIENCE = 3  # steps without a new best one
_UNMET = 1e-3  # of a right-hand side, when that is left of it the active rows are too few or too many
_ROUNDING = 1e-12  # of the data: what is less is met
_JUST = 1e-13  # how far beyond zero a row is put that becomes active or inactive


class Point:
    """A problem near or at its solution.

    Args:
        data: P ([n, n] compressed columns, or None), q, A ([m, n] compressed columns), b (finite) and the cones.
        point: x [n], y and s [m].
        entries: an estimate of the entries of a factor.

    Attributes:
        x: in the equilibrated space.
        v: y − s there.
        steps: factorisations of the polish.
    """

    def __init__(self, data: Data, point: tuple[Array, Array, Array], entries: int) -> None:
        P, q, A, b, self.cones = data
        x, y, s = point
        self.blocks = blocks_of(self.cones)
        self.data = scaled(P, q, A, b, self.blocks)
        self.x = x / self.data.D
        self.v = y * self.data.c / self.data.E - s * self.data.E
        self.matrix_free = entries > MOST_ENTRIES
        self.steps = 0
        self.system: System | None = None
        self._at: Array | None = None  # the v of the system, and whether it can be kept for another

    def polish(self) -> bool:
        """Newton's method from the point; whether it has become a better one.

        The best iterate is kept. Where projections are curved a factor serves for further steps as long as each
        divides the residual by ten; the limit is then quadratic in the first error all the same.
        """
        x, v = self.x, self.v
        r1, r2, size = self._residual(x, v)
        first = best = size
        system, waited = None, 0
        for _ in range(_STEPS):
            if size <= _EXACT or waited >= _PATIENCE:
                break
            if system is None or not self._serves(v):
                system = self._system_at(v)
                self.steps += 1
            h = -system.curvature.forward(r2)
            dx, eta = system.solve(-r1, h, True)
            dv = system.curvature.adjoint(eta) + self.data.A @ dx + r2
            ray = self._ray(system, -r1, h, dx, eta, v + dv) if self.blocks.linear else None
            x, v = x + dx, v + dv
            if ray is not None:
                x, v = x + ray[0], v + ray[1]
            before = size
            r1, r2, size = self._residual(x, v)
            if not np.isfinite(size):
                break
            if size < best:
                self.x, self.v, best, waited = x, v, size, 0
            else:
                waited += 1
            if size > before / 10:
                if self.blocks.linear and self._serves(v):
                    break  # the residual is affine here: what is left of it is rounding
                system = None
        return best < first

    def point(self) -> tuple[Array, Array, Array]:
        """The x, y and s in the caller's units: y in K*, s in K, and both complementary."""
        data = self.data
        y = project(self.v, self.blocks)
        return data.D * self.x, data.E * y / data.c, (y - self.v) / data.E

    def margin(self) -> float:
        """Relative distance of y − s to the nearest kink of the projection, in the equilibrated space."""
        y = project(self.v, self.blocks)
        return float(_margin.margins(y[None], (y - self.v)[None], self.cones.cones)[0])

    def jvp(self, r1: Array, r2: Array) -> tuple[Array, Array, Array]:
        """The tangents of x, y and s for r1 = −(Ṗ x + q̇ + Ȧᵀ y) and r2 = ḃ − Ȧ x."""
        data, system = self.data, self._derivative()
        rows = data.E * r2
        dx, eta = system.solve(data.c * data.D * r1, system.curvature.forward(rows))
        y = system.curvature.adjoint(eta)
        return data.D * dx, data.E * y / data.c, (rows - data.A @ dx) / data.E

    def vjp(self, x: Array, y: Array, s: Array) -> tuple[Array, Array]:
        """The cotangents (a, c) of the r1 and r2 of `jvp`.

        Jᵀ(a, c) = (x̄, D ȳ − (I − D) s̄) with D = Tᵀ… gives c = s̄ + Tᵀξ where (a, ξ) solves the system for the
        right-hand side (x̄ − Aᵀ s̄, T ȳ): no division by an eigenvalue anywhere.
        """
        data, system = self.data, self._derivative()
        slack = s / data.E
        a, xi = system.solve(data.D * x - data.A.T @ slack, system.curvature.forward(data.E * y / data.c))
        return data.c * data.D * a, data.E * (slack + system.curvature.adjoint(xi))

    def _ray(self, system: System, g: Array, h: Array, dx: Array, eta: Array, v: Array) -> tuple[Array, Array] | None:
        """The step to the next row, where the active rows are too few or too many for Newton's: of x and of v.

        What the system leaves of its right-hand side is then a ray. One in x leads down the objective along the active
        rows: to the first inactive one, which becomes active. One in y leads up the dual objective, away from rows that
        contradict each other: to the first multiplier of 0, whose row becomes inactive. Both are pivots of the simplex
        method; an interior point's answer may need a few, where y and s of a row are both small.
        """
        rows = self.blocks.nonnegative
        left = g - system.times(dx) - system.down(eta)
        if _size(left) > max(_UNMET * _size(g), _ROUNDING * _size(self.data.q)):
            dv = self.data.A @ left
            toward = rows[(v[rows] < 0) & (dv[rows] > 1e-9 * _size(dv))]
            if toward.size:
                steps = -v[toward] / dv[toward]
                first = int(np.argmin(steps))
                dv *= steps[first]
                dv[v > 0] = 0  # rounding: along the ray the active rows do not move
                dv[toward[first]] = -v[toward[first]] + _JUST * (1 + _size(v))
                return steps[first] * left, dv
        contradiction = h - system.across(dx)
        if _size(contradiction) > max(_UNMET * _size(h), _ROUNDING * _size(self.data.b)):
            dv = -system.curvature.adjoint(contradiction)
            toward = rows[(v[rows] > 0) & (dv[rows] < -1e-9 * _size(dv))]
            if toward.size:
                steps = -v[toward] / dv[toward]
                first = int(np.argmin(steps))
                dv *= steps[first]
                dv[toward[first]] = -v[toward[first]] - _JUST * (1 + _size(v))
                return np.zeros_like(g), dv
        return None

    def _residual(self, x: Array, v: Array) -> tuple[Array, Array, float]:
        """R(x, v) and its size, relative to that of its terms."""
        data = self.data
        y = project(v, self.blocks)
        Px = 0.0 if data.P is None else data.P @ x
        Ay, Ax = data.A.T @ y, data.A @ x
        r1, r2 = Px + data.q + Ay, Ax + y - v - data.b
        dual = _size(r1) / max(1e-100, _size(data.q), _size(Ay), _size(Px))
        primal = _size(r2) / max(1e-100, _size(data.b), _size(Ax), _size(v))
        return r1, r2, max(dual, primal)

    def _system_at(self, v: Array) -> System:
        self.system = System(self.data.P, self.data.A, curvature(v, self.blocks), self.matrix_free)
        self._at = v
        return self.system

    def _serves(self, v: Array) -> bool:
        """Whether the system can be used for another step at v: where cones are linear, if the same rows are active."""
        rows = self.blocks.nonnegative
        assert self._at is not None
        return not self.blocks.linear or np.array_equal(self._at[rows] > 0, v[rows] > 0)

    def _derivative(self) -> System:
        """The system at the point itself, made when it is first needed."""
        same = self._at is not None and (self._at is self.v if not self.blocks.linear else self._serves(self.v))
        return self.system if same and self.system is not None else self._system_at(self.v)


def _size(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))
