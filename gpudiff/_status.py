"""How a problem ended: one code per problem, each with what happened and what to try."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np


class Status(IntEnum):
    """How one problem ended; the numbers are those of `enum gd_status` in kernels/entry/gpudiff.h.

    Attributes:
        what: what happened.
        remedy: what to try.
    """

    what: str
    remedy: str

    def __new__(cls, code: int, what: str, remedy: str) -> Status:
        """Make a member whose value is `code`."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.what = what
        member.remedy = remedy
        return member

    SOLVED = (1, "solved to the tolerances of the settings", "nothing to do")
    ALMOST_SOLVED = (
        2,
        "progress stopped at a point that meets reduced tolerances only",
        "scale the data closer to 1, drop redundant constraints, or loosen tol_gap_abs, tol_gap_rel and tol_feas",
    )
    PRIMAL_INFEASIBLE = (
        3,
        "no x satisfies the constraints; y is a certificate: Aᵀy = 0, y ∈ K*, bᵀy = −1",
        "relax the constraints in which y is not zero",
    )
    DUAL_INFEASIBLE = (
        4,
        "the objective is unbounded below; x is a certificate: Px = 0, −Ax ∈ K, qᵀx = −1",
        "bound the variables along x, or add curvature to P",
    )
    ALMOST_PRIMAL_INFEASIBLE = (
        5,
        "a certificate of primal infeasibility was found to reduced tolerances only",
        "relax the constraints in which y is not zero, or scale the data closer to 1",
    )
    ALMOST_DUAL_INFEASIBLE = (
        6,
        "a certificate of dual infeasibility was found to reduced tolerances only",
        "bound the variables along x, or scale the data closer to 1",
    )
    MAX_ITERATIONS = (7, "max_iter was reached first", "raise max_iter, or scale the data closer to 1")
    TIME_LIMIT = (8, "the time limit was reached first", "raise the time limit")
    NUMERICAL_ERROR = (
        9,
        "the linear systems became too inaccurate to go on",
        "scale the data closer to 1, drop redundant constraints, or use float64",
    )
    INVALID_DATA = (
        10,
        "the data hold NaN or an infinity that has no meaning here, or P is not convex or, on a GPU, not symmetric",
        "look for non-finite entries in P, q, A and b (+inf is allowed in b on nonnegative rows alone), and for a P of "
        "one triangle",
    )


def keeps_point(codes: Any) -> Any:
    """Which problems keep their point and its derivatives (SOLVED and ALMOST_SOLVED): bool, the shape of `codes`."""
    return (codes == int(Status.SOLVED)) | (codes == int(Status.ALMOST_SOLVED))


def tally(codes: Any) -> dict[Status, int]:
    """How many problems ended in which status, the most frequent first."""
    values, counts = np.unique(np.asarray(codes), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {Status(int(values[i])): int(counts[i]) for i in order}
