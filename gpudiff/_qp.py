"""`solve_qp`: quadratic programs in the form and with the names of qpsolvers.

A QP is a list of three forms, `Equal`, `AtMost` and `Bounds`, under the names that qpsolvers has for their arguments
and multipliers; gpudiff/forms makes one cone program of it, and derivatives in all eight arrays. Its rows are those of
[A; G; one per upper bound; one per lower bound].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpudiff._arrays import surface
from gpudiff._errors import ArgumentError, ShapeError
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Outcome, Solution
from gpudiff._solve import Remembered, finish, run_short
from gpudiff.forms.kinds import AtMost, Bounds, Equal
from gpudiff.forms.plan import Placed
from gpudiff.forms.stack import Stack, StackLinearization

QP_DATA = ("P", "q", "G", "h", "A", "b", "lb", "ub")
QP_POINT = ("x", "y", "z", "z_box", "obj")


@dataclass(frozen=True, eq=False)
class QPTangents:
    """Forward-mode derivatives of a QP's solution: x and z_box [B, n], y [B, p], z [B, k], obj [B]."""

    x: Any
    y: Any
    z: Any
    z_box: Any
    obj: Any


@dataclass(frozen=True, eq=False)
class QPCotangents:
    """Reverse-mode derivatives, each of exactly its argument's shape; None where absent or not asked for."""

    P: Any = None
    q: Any = None
    G: Any = None
    h: Any = None
    A: Any = None
    b: Any = None
    lb: Any = None
    ub: Any = None


@dataclass(frozen=True, eq=False, init=False, repr=False)
class QPSolution(Outcome[QPTangents, QPCotangents]):
    """The solutions of a batch of quadratic programs, in the caller's own kind of array.

    Attributes:
        x: minimisers [B, n].
        y: multipliers of A x = b [B, p].
        z: multipliers of G x ≤ h [B, k].
        z_box: multipliers of the bounds [B, n], positive at the upper and negative at the lower one.
        conic: the solution of the stacked cone program.
        obj: see `Solution`, as for all fields that are not listed here.
    """

    POINT = QP_POINT
    LATE = (*Outcome.LATE, "y", "z", "z_box")

    y: Any
    z: Any
    z_box: Any
    conic: Solution

    def jvp(
        self,
        P: Any = None,
        q: Any = None,
        G: Any = None,
        h: Any = None,
        A: Any = None,
        b: Any = None,
        lb: Any = None,
        ub: Any = None,
    ) -> QPTangents:
        """Forward-mode derivative: how the solutions move when the data do; see `Solution.jvp`, also for K directions.

        Args:
            P: tangent [n, n] or [B, n, n]; its symmetric part counts.
            q: tangent [n] or [B, n].
            G: tangent [k, n] or [B, k, n].
            h: tangent [k] or [B, k].
            A: tangent [p, n] or [B, p, n].
            b: tangent [p] or [B, p].
            lb: tangent [n] or [B, n]; without effect where the bound is infinite.
            ub: tangent [n] or [B, n]; without effect where the bound is infinite.

        Returns:
            Tangents of x, y, z, z_box and obj; 0 where a problem was not solved (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, or a tangent for an argument that the problem does not have.
        """
        return self.linearization.jvp(
            {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub},
        )

    def vjp(
        self,
        x: Any = None,
        y: Any = None,
        z: Any = None,
        z_box: Any = None,
        obj: Any = None,
        *,
        wrt: Iterable[str] = QP_DATA,
    ) -> QPCotangents:
        """Reverse-mode derivative, the adjoint of `jvp`; see `Solution.vjp`, also for K directions at once.

        Args:
            x: cotangent [n] or [B, n].
            y: cotangent [p] or [B, p].
            z: cotangent [k] or [B, k].
            z_box: cotangent [n] or [B, n].
            obj: cotangent, a number or [B].
            wrt: names of the arguments whose cotangents are wanted; nothing is computed for the others.

        Returns:
            Cotangents of P, q, G, h, A, b, lb and ub, each of exactly its argument's shape (summed over the batch where
            it is shared); 0 at infinite bounds and where a problem was not solved (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, or an unknown name in `wrt`.
        """
        return self.linearization.vjp({"x": x, "y": y, "z": z, "z_box": z_box, "obj": obj}, wrt)


def solve_qp(
    P: Any,
    q: Any,
    G: Any = None,
    h: Any = None,
    A: Any = None,
    b: Any = None,
    lb: Any = None,
    ub: Any = None,
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: QPSolution | None = None,
) -> QPSolution:
    """Solve a batch of convex quadratic programs.

        minimise    ½ xᵀP x + qᵀx
        subject to  G x ≤ h,   A x = b,   lb ≤ x ≤ ub
        dual        P x + q + Gᵀz + Aᵀy + z_box = 0,   z ≥ 0

    Arguments have the order, and multipliers the names and signs, of qpsolvers. Sharing, element types and kinds of
    array are those of `solve`.

    Args:
        P: [B, n, n], symmetric positive semidefinite, both triangles; None for a linear objective.
        q: [B, n].
        G: [B, k, n], together with h.
        h: [B, k]; +inf leaves that row out.
        A: [B, p, n], together with b.
        b: [B, p].
        lb: [B, n], or a number for all variables; −inf where there is no bound. lb > ub is an infeasible problem.
        ub: [B, n], or a number for all variables; +inf where there is no bound.
        settings: tolerances and options; None for the defaults of `Settings`.
        backend: "auto", or the name of a backend, such as "qpsolvers:osqp"; see `solve`.
        warm_start: an earlier `QPSolution` of problems of the same size, and with bounds in the same places, to start
            from; see `solve`.

    Returns:
        A `QPSolution` with x, y, z, z_box, obj, status, and jvp and vjp in all eight arrays.

    Raises:
        ArgumentError: an argument has a wrong shape, type or value (`ShapeError`, `DtypeError`, … are subclasses).
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.
    """
    foreign = surface(P, q, G, h, A, b, lb, ub)
    if foreign is not None:
        return foreign.solve_qp(P, q, G, h, A, b, lb, ub, settings, backend, warm_start)
    settings = as_settings(settings)
    arguments = {"G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub}
    check_pairs(arguments)
    stack = Stack.of(P, q, QP_FORMS, arguments, QP_CONSTANTS)
    conic = run_short(stack.problem, settings, backend, start_of(warm_start))
    return finish(qp_solution(stack, conic), settings)


def check_pairs(arguments: dict[str, Any]) -> None:
    """See that rows have both their matrix and their vector.

    Raises:
        ShapeError: one of the two is missing.
    """
    for names in ("Gh", "Ab"):
        missing = [name for name in names if arguments[name] is None]
        if len(missing) == 1:
            given = names.replace(missing[0], "")
            raise ShapeError(f"{missing[0]}: expected an array, for {given} is given, got None")


def start_of(warm_start: Any) -> Solution | Remembered | None:
    """The solution of the cone program to start from.

    Raises:
        ArgumentError: the warm start is no `QPSolution`.
    """
    if warm_start is None or isinstance(warm_start, Remembered):
        return warm_start
    if not isinstance(warm_start, QPSolution):
        raise ArgumentError(f"warm_start: expected a QPSolution or None, got {type(warm_start).__name__}")
    return warm_start.conic


def qp_solution(stack: Stack, conic: Solution) -> QPSolution:
    """The solution of a QP from that of its cone program."""
    return QPSolution(StackLinearization(stack, conic, QPTangents, QPCotangents, _sizes), conic=conic)


QP_CONSTANTS = (None, None, None)
QP_FORMS = (
    Placed(Equal, {"A": "A", "b": "b"}, {"y": "y"}, optional=True),
    Placed(AtMost, {"G": "G", "h": "h"}, {"y": "z"}, optional=True),
    Placed(Bounds, {"lower": "lb", "upper": "ub"}, {"y": "z_box"}),
)


def _sizes(stack: Stack) -> str:
    problem, (equalities, inequalities, bounds) = stack.problem, stack.plan.counts
    batch = f"B={problem.batch}, " if problem.batched else ""
    rows = f"{equalities} equalities, {inequalities} inequalities, {bounds} bounds"
    return f"{batch}n={problem.n}, {rows}, {problem.dtype}"
