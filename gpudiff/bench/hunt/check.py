"""What a claimed answer must satisfy, checked for a whole batch at once in extended precision.

A status is a claim, and each claim has a proof that costs a few products: for SOLVED the optimality conditions, for the
two kinds of infeasibility a certificate. Nothing here is taken from a solver but x, y, s and the status.

Sizes are natural ones. With u the size of an entry of x (``Case.unit``), a residual is divided by the sum of the
absolute terms that it is the difference of, and of what an x of size u would contribute:

    primal          A x + s = b, s ∈ K              over  |A|(|x| + u) + |s| + |b|, row by row
    dual            P x + q + Aᵀy = 0               over  |P||x| + |q| + |A|ᵀ|y| + c/u, entry by entry
    gap             xᵀP x + qᵀx + bᵀy = 0, and sᵀy  over  |x|ᵀ|P||x| + |q|ᵀ|x| + |b|ᵀ|y| + c
    multipliers     y ≥ 0                           over  c, each times |A| u of its row

c is the largest |u|(|P| u + |q|), what the objective amounts to at size u (1 where there is none). All of them are
invariant under a scaling of rows, variables and objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.hunt.draw import Case, Known

Long = NDArray[Any]  # of np.longdouble
GROSS = 100.0  # times what is allowed
LOOSE = 1e-4  # the tolerance for ALMOST_SOLVED
FARTHEST = 1e5  # a certificate must rule out every x up to this many units, and a ray must hold for as many
KINDS = ("primal", "dual", "gap", "sign", "x", "certificate")  # of errors

SOLVED, ALMOST, PRIMAL, DUAL, ALMOST_PRIMAL, ALMOST_DUAL = range(1, 7)  # gpudiff.Status, without importing it


@dataclass(frozen=True)
class Answer:
    """What a solver says about a batch: x [B, n], y and s [B, m], obj and status [B]."""

    x: Array
    y: Array
    s: Array
    obj: Array
    status: NDArray[Any]


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check.

    Attributes:
        excess: ``[B]`` the largest error over what is allowed: above 1 is wrong, above ``GROSS`` grossly so; infinite
            for a statement that is false.
        reasons: For each problem why the answer is wrong, or "".
        errors: By kind ``[B]``, NaN where the kind does not apply.
    """

    excess: Array
    reasons: list[str]
    errors: dict[str, Array]

    @classmethod
    def of(cls, size: int) -> Verdict:
        """Nothing wrong so far."""
        return cls(np.zeros(size), [""] * size, {kind: np.full(size, np.nan) for kind in KINDS})

    @property
    def residual(self) -> Array:
        """``[B]`` the largest error in the optimality conditions."""
        return np.fmax.reduce([self.errors[kind] for kind in ("primal", "dual", "gap", "sign")])

    @property
    def wrong(self) -> NDArray[np.intp]:
        """Numbers of the problems with a wrong answer."""
        return np.flatnonzero(self.excess > 1.0)

    def measure(self, kind: str, error: Array, allowed: Any, where: Any, what: str | None = None) -> None:
        """Enters errors ``[B]`` of one kind; a NaN is as wrong as can be."""
        self.errors[kind] = np.fmax(self.errors[kind], np.where(where, error, np.nan))
        excess = np.where(where, np.where(np.isnan(error), np.inf, error / allowed), 0.0)
        for i in np.flatnonzero((excess > 1.0) & (excess > self.excess)):
            self.reasons[i] = f"{what or kind + ' error'} ({error[i]:.1e})"
        np.maximum(self.excess, excess, out=self.excess)

    def refuse(self, where: Any, why: str) -> None:
        """Enters statements that are false."""
        for i in np.flatnonzero(where):
            self.excess[i], self.reasons[i] = np.inf, why


def check(case: Case, answer: Answer, tolerance: float) -> Verdict:
    """Checks every claim of an answer.

    Args:
        case: The problems.
        answer: What is claimed of them.
        tolerance: For the residuals of SOLVED.

    Returns:
        Which claims are wrong, and all errors.
    """
    terms, verdict, status = _Terms(case), Verdict.of(case.batch.size), answer.status
    point = (status == SOLVED) | (status == ALMOST)
    if point.any():
        allowed = np.where(status == SOLVED, tolerance, max(tolerance, LOOSE))
        for kind, error in terms.optimality(answer).items():
            verdict.measure(kind, error, allowed, point)
    for codes, certify, infeasible in (
        ((PRIMAL, ALMOST_PRIMAL), terms.primal_certificate, True),
        ((DUAL, ALMOST_DUAL), terms.dual_certificate, False),
    ):
        claimed = np.isin(status, codes)
        if not claimed.any():
            continue
        full = status == codes[0]  # an "almost" certificate promises less
        verdict.measure("certificate", certify(answer), 1.0, full, "a certificate that does not hold")
        if case.known is Known.SOLVABLE or (case.known is Known.UNBOUNDED and infeasible):
            verdict.refuse(claimed, f"{'infeasible' if infeasible else 'unbounded'}, though {case.known.value}")
    if case.known in (Known.INFEASIBLE, Known.UNBOUNDED):
        verdict.refuse(point, f"solved, though {case.known.value}")
    return verdict


def compare(case: Case, x: Array, other: Array) -> tuple[Array, Array]:
    """The distance of two answers ``[B, n]`` in natural units, and how large it may be for its conditioning.

    Returns:
        ``[B]`` distances, ``[B]`` bounds; infinite where the optimum is not unique enough for a bound.
    """
    size = np.maximum(1.0, np.abs(other / case.unit).max(1, initial=0.0))
    return np.abs((x - other) / case.unit).max(1, initial=0.0) / size, uniqueness(case)


def uniqueness(case: Case) -> Array:
    """How far two exact answers may differ through rounding, max(1e-9, 1e3·ε·cond(P)); more where rows nearly repeat.

    Returns:
        ``[B]``, infinite where cond(P) exceeds 1e10: x need not be unique.
    """
    batch = case.batch
    if batch.P is None or batch.n == 0:
        return np.full(batch.size, np.inf)
    values = np.linalg.eigvalsh(case.unit[:, :, None] * batch.P * case.unit[:, None, :])
    cond = np.where(values[:, 0] > 0, values[:, -1] / np.where(values[:, 0] > 0, values[:, 0], 1.0), np.inf)
    bound = np.maximum(1e-9, 1e3 * np.finfo(float).eps * cond)
    if not case.exact:  # strong convexity alone bounds x then: its square is what is in the gap's noise
        bound = np.maximum(bound, 1e-6 * np.sqrt(cond))
    return np.where(cond <= 1e10, bound, np.inf)


def sensitivity(case: Case, answer: Answer, i: int) -> float:
    """How far x of problem i may be off through rounding, by the conditioning of its active rows: 1e3·ε·cond.

    Of the system [P Aᵀ; A 0] with the equalities and the rows that have a multiplier, every row and variable in natural
    units; infinite where those rows depend on each other.
    """
    P, _, A, b = case.batch.problem(i)
    unit = case.unit[i]
    rows = A[(np.arange(len(b)) < case.batch.cones["z"]) | (answer.y[i] > 0)] * unit
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-300)[:, None]
    curvature = np.zeros((len(unit), len(unit))) if P is None else unit[:, None] * P * unit
    curvature = curvature / (np.abs(curvature).max(initial=0) or 1.0)
    K = np.block([[curvature, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    with np.errstate(all="ignore"):
        return float(1e3 * np.finfo(float).eps * np.linalg.cond(K))


class _Terms:
    """The data in extended precision with their absolute values, and the natural sizes."""

    def __init__(self, case: Case) -> None:
        batch = case.batch
        self.equal = np.arange(batch.m) < batch.cones["z"]
        self.present = np.isfinite(batch.b)
        self.P = None if batch.P is None else batch.P.astype(np.longdouble)
        self.q, self.A = batch.q.astype(np.longdouble), batch.A.astype(np.longdouble)
        self.b = np.where(self.present, batch.b, 0.0).astype(np.longdouble)
        self.unit = case.unit.astype(np.longdouble)
        self.absolute_P = None if self.P is None else np.abs(self.P)
        self.absolute_A = np.abs(self.A)
        reach = _times(self.absolute_A, self.unit)  # [B, m]
        self.reach = np.where(reach > 0, reach, 1)  # a row of zeros has no size of its own
        self.gradient = self.quadratic(self.absolute_P, self.unit) + np.abs(self.q)
        cost = (self.unit * self.gradient).max(1, initial=0)
        self.cost = np.where(cost > 0, cost, 1)

    def quadratic(self, P: Long | None, x: Long) -> Long:
        return np.zeros_like(x) if P is None else _times(P, x)

    def optimality(self, answer: Answer) -> dict[str, Array]:
        """The errors of a point."""
        x, y = answer.x.astype(np.longdouble), answer.y.astype(np.longdouble)
        s = np.where(self.present, answer.s, 0.0).astype(np.longdouble)
        Ax, Px, Ay = _times(self.A, x), self.quadratic(self.P, x), _times(_transpose(self.A), y)
        size = _times(self.absolute_A, np.abs(x)) + self.reach + np.abs(self.b)
        slack = self.b - Ax
        violated = np.where(self.equal, np.abs(slack), np.maximum(-slack, 0))
        broken = np.abs(slack - s) / _positive(size + np.abs(s))
        outside = np.where(self.equal, np.abs(s), np.maximum(-s, 0)) / _positive(size)
        rows = np.maximum(np.maximum(violated / _positive(size), broken), outside)
        primal = _largest(np.where(self.present, rows, 0))

        terms = self.quadratic(self.absolute_P, np.abs(x)) + np.abs(self.q)
        size = terms + _times(_transpose(self.absolute_A), np.abs(y)) + self.cost[:, None] / self.unit
        dual = _largest(np.abs(Px + self.q + Ay) / size)

        value = (x * (Px + self.q)).sum(1) + (self.b * y).sum(1)
        total = (np.abs(x) * terms).sum(1) + (np.abs(self.b) * np.abs(y)).sum(1) + self.cost
        slackness = np.where(self.present, np.abs(np.where(self.equal, 0, slack) * y), 0).sum(1)
        objective = (x * (0.5 * Px + self.q)).sum(1)
        told = np.abs(objective - answer.obj)
        gap = np.maximum(np.maximum(np.abs(value), slackness), told) / total

        free = self.equal | ~self.present
        sign = np.where(free, 0, np.maximum(-y, 0)) * self.reach / self.cost[:, None]
        absent = np.where(self.present, 0, np.abs(y))  # a row that is not there has no multiplier
        sign = np.maximum(_largest(sign), _largest(absent))
        found = {"primal": primal, "dual": dual, "gap": gap, "sign": sign}
        return {kind: np.asarray(error, float) for kind, error in found.items()}

    def primal_certificate(self, answer: Answer) -> Array:
        """At most 1 where y proves that no x up to ``FARTHEST`` units satisfies the rows: |Aᵀy|ᵀ|x| < −bᵀy for all."""
        y = np.where(self.present, answer.y, 0.0).astype(np.longdouble)
        outside = np.where(self.equal, 0, np.maximum(-y, 0)) * (self.reach + np.abs(self.b))
        total = (np.abs(y) * (self.reach + np.abs(self.b))).sum(1)
        strength = -(self.b * y).sum(1)
        rest = (np.abs(_times(_transpose(self.A), y)) * self.unit).sum(1)
        proof = FARTHEST * rest / _positive(strength)
        proof = np.maximum(proof, 1e9 * outside.sum(1) / _positive(total))
        wrong = ~(strength > 0) | (np.where(self.present, 0, np.abs(np.nan_to_num(answer.y))) > 0).any(1)
        return np.asarray(np.where(wrong, np.inf, proof), float)

    def dual_certificate(self, answer: Answer) -> Array:
        """At most 1 where the ray x makes the objective fall for ``FARTHEST`` units, and keeps to the rows."""
        x = answer.x.astype(np.longdouble)
        x = x / _positive(np.abs(x / self.unit).max(1, initial=0))[:, None]
        Ax, Px, slope = _times(self.A, x), self.quadratic(self.P, x), -(self.q * x).sum(1)
        bent = FARTHEST * np.abs((x * Px).sum(1)) / _positive(slope)
        against = np.where(self.equal, np.abs(Ax), np.maximum(Ax, 0)) / _positive(self.reach)
        proof = np.maximum(bent, 1e7 * _largest(np.where(self.present, against, 0)))
        return np.asarray(np.where(slope > 0, proof, np.inf), float)


def _times(M: Long, v: Long) -> Long:
    return (M @ v[..., None])[..., 0]


def _transpose(M: Long) -> Long:
    return np.swapaxes(M, -1, -2)


def _largest(values: Long) -> Long:
    return values.max(1, initial=0)


def _positive(values: Long) -> Long:
    """A divisor: what is divided by a 0 here is 0 itself, or wrong by any measure."""
    return np.maximum(values, np.longdouble(1e-300))


def normalised(case: Case, i: int) -> Batch:
    """Problem i alone, in natural units (its x times ``unit`` is the case's) and without rows whose b is infinite.

    References measure residuals by the largest entry of all data, which a row of another scale would escape.
    """
    P, q, A, b = case.batch.problem(i)
    unit, present = case.unit[i], np.isfinite(b)
    rows, right, slope = A[present] * unit, b[present], q * unit
    row = np.linalg.norm(rows, axis=1)
    row = np.where(row > 0, row, 1.0)
    curvature = None if P is None else unit[:, None] * P * unit
    cost = max(np.abs(slope).max(initial=0), 0.0 if curvature is None else np.abs(curvature).max(initial=0)) or 1.0
    z = int(present[: case.batch.cones["z"]].sum())
    cones = {"z": z, "l": len(right) - z, "q": []}
    quadratic = None if curvature is None else 0.5 * (curvature + curvature.T)[None] / cost
    return Batch(quadratic, slope[None] / cost, (rows / row[:, None])[None], (right / row)[None], cones)
