"""Central points by a method of their own: Newton's on the saddle function of the barrier problem, in NumPy.

    min over x, max over y of  ½xᵀPx + qᵀx + yᵀ(A x − b) − μ f*(y),

whose gradient in y is A x − b − μ∇f*(y) = A x + s − b with s = −μ∇f*(y). f* is the barrier of K*, where multipliers
live: −log y for the nonnegative cone, −½ log(y₀² − ‖y₁‖²), −log det, and those of Chares 2009 for the duals of the
exponential and the power cone; in the dual cones of these it is that of the primal ones' images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import reference_cones
from problems import Problem

import gpudiff as gd

Array = np.ndarray


def orthant(y: Array) -> tuple[Array, Array]:
    return -1 / y, np.diag(1 / y**2)


def second_order(y: Array) -> tuple[Array, Array]:
    J = np.diag([1.0] + [-1.0] * (len(y) - 1))
    det, Jy = y @ J @ y, J @ y
    return -Jy / det, 2 * np.outer(Jy, Jy) / det**2 - J / det


def matrix(y: Array) -> tuple[Array, Array]:
    basis = [gd.smat(e) for e in np.eye(len(y))]
    inverse = np.linalg.inv(gd.smat(y))
    columns = [gd.svec(inverse @ e @ inverse) for e in basis]
    return -gd.svec(inverse), np.array(columns)


def exponential(y: Array) -> tuple[Array, Array]:
    log_ratio = np.log(-y[2] / y[0])
    psi = y[1] - y[0] - y[0] * log_ratio
    slope, w = np.array([-log_ratio, 1, -y[0] / y[2]]), np.array([1 / y[0], 0, -1 / y[2]])
    gradient = -slope / psi - np.array([1 / y[0], 0, 1 / y[2]])
    bent = np.outer(slope, slope) / psi**2 - y[0] * np.outer(w, w) / psi
    return gradient, bent + np.diag([1 / y[0] ** 2, 0, 1 / y[2] ** 2])


def power(y: Array, a: float) -> tuple[Array, Array]:
    b = 1 - a
    phi = (y[0] / a) ** (2 * a) * (y[1] / b) ** (2 * b)
    psi = phi - y[2] ** 2
    pi = np.array([2 * a / y[0], 2 * b / y[1], 0])
    slope = phi * pi - np.array([0, 0, 2 * y[2]])
    bent = phi * (np.outer(pi, pi) - np.diag([2 * a / y[0] ** 2, 2 * b / y[1] ** 2, 0])) - np.diag([0, 0, 2.0])
    gradient = -slope / psi - np.array([b / y[0], a / y[1], 0])
    return gradient, np.outer(slope, slope) / psi**2 - bent / psi + np.diag([b / y[0] ** 2, a / y[1] ** 2, 0])


def exponential_inside(y: Array) -> bool:
    return y[0] < 0 < y[2] and y[1] - y[0] - y[0] * np.log(-y[2] / y[0]) > 0


def power_inside(y: Array, a: float) -> bool:
    return min(y[0], y[1]) > 0 and (y[0] / a) ** a * (y[1] / (1 - a)) ** (1 - a) > abs(y[2])


TO_PRIMAL = np.array([[1.0, -1, 0], [-1, 0, 0], [0, 0, 1]])  # from the dual exponential cone to the primal one


class Barrier:
    """f* of one cone: whether y is inside, the gradient and the Hessian there, and a point to start from.

    K* of a dual cone is the primal cone, whose barrier is that of its image M⁻¹y in the dual one.
    """

    def __init__(self, kind: str, k: int) -> None:
        self.kind, self.k = kind.removeprefix("dual ").partition(" ")[0], k
        self.alpha = float(reference_cones.alpha(kind)) if self.kind == "power" else 0.0
        self.image = np.eye(k)
        if kind.startswith("dual"):
            to_primal = np.diag([1 / self.alpha, 1 / (1 - self.alpha), 1]) if self.alpha else TO_PRIMAL
            self.image = np.linalg.inv(to_primal)

    def inside(self, y: Array) -> bool:
        z = self.image @ y
        if self.kind == "nonnegative":
            return bool(np.all(z > 0))
        if self.kind == "soc":
            return z[0] > np.linalg.norm(z[1:])
        if self.kind == "psd":
            return np.linalg.eigvalsh(gd.smat(z))[0] > 0
        return exponential_inside(z) if self.kind == "exp" else power_inside(z, self.alpha)

    def derivatives(self, y: Array) -> tuple[Array, Array]:
        table = {"nonnegative": orthant, "soc": second_order, "psd": matrix, "exp": exponential}
        z = self.image @ y
        gradient, hessian = power(z, self.alpha) if self.kind == "power" else table[self.kind](z)
        return self.image.T @ gradient, self.image.T @ hessian @ self.image

    def start(self) -> Array:
        if self.kind == "psd":
            return gd.svec(np.eye(reference_cones.order(self.k)))
        starts = {"nonnegative": np.ones(self.k), "soc": np.eye(self.k)[0], "exp": [-1.0, 1, 1], "power": [1.0, 1, 0]}
        return np.linalg.solve(self.image, starts[self.kind])


@dataclass
class Point:
    """A central point, by the names of the outputs."""

    x: Array
    y: Array
    s: Array
    obj: float


def central_point(problem: Problem, mu: float, start: Point | None = None) -> Point:
    """The central point at μ to rounding, from a cold start or from the point of a problem close by."""
    n, m = len(problem.q), len(problem.b)
    P = np.zeros((n, n)) if problem.P is None else problem.P
    q, A, b = problem.q, problem.A, problem.b
    cones, row = [], 0
    for kind, k in problem.cones:
        if kind != "zero" and k > 0:
            cones.append((slice(row, row + k), Barrier(kind, k)))
        row += k
    x, y = np.zeros(n), np.zeros(m)
    if start is not None:
        x, y = start.x.copy(), start.y.copy()
    for rows, cone in cones if start is None else []:
        y[rows] = np.sqrt(mu) * cone.start()

    def residual(x: Array, y: Array) -> tuple[Array, Array, Array]:
        s, curvature = np.zeros(m), np.zeros((m, m))
        for rows, cone in cones:
            if not cone.inside(y[rows]):
                return np.full(n + m, np.inf), s, curvature
            gradient, hessian = cone.derivatives(y[rows])
            s[rows], curvature[rows, rows] = -mu * gradient, mu * hessian
        return np.concatenate([P @ x + q + A.T @ y, A @ x + s - b]), s, curvature

    r, s, curvature = residual(x, y)
    for _ in range(200):
        step = np.linalg.solve(np.block([[P, A.T], [A, -curvature]]), -r)
        alpha, size = 1.0, np.linalg.norm(r)
        while alpha > 1e-10:
            there = residual(x + alpha * step[:n], y + alpha * step[n:])
            if np.linalg.norm(there[0]) <= (1 - 0.1 * alpha) * size:
                break
            alpha /= 2
        else:  # rounding
            assert size < 1e-10, f"no central point found: residual {size:.1e}"
            break
        x, y = x + alpha * step[:n], y + alpha * step[n:]
        r, s, curvature = there
    return Point(x, y, s, float(x @ P @ x / 2 + q @ x))
