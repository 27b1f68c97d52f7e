"""The forms: each is its arguments, and how its rows of the cone program come linearly from them.

Multipliers have the signs of their term in the stationarity condition, which is said at each form: P x + q and the
terms of all forms add up to zero. Shapes are written without the batch axis, which every argument may have in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, ClassVar

from gpudiff._cones import Nonnegative, Product, SecondOrder, Zero, as_product
from gpudiff._errors import ArgumentError, ShapeError
from gpudiff.forms.base import Form
from gpudiff.forms.plan import ALL, Part, Present, Site

_HALF = sqrt(0.5)
_FIRST, _SECOND, _REST = slice(0, 1), slice(1, 2), slice(2, None)


@dataclass(frozen=True, eq=False, repr=False)
class Equal(Form):
    """Equalities A x = b.

    Its y [k] is free in sign, with the term Aᵀy in the stationarity condition; s [k] = b − A x is zero.

    Args:
        A: [k, n].
        b: [k].
    """

    A: Any = None
    b: Any = None

    AXES: ClassVar[dict[str, str]] = {"A": "kn", "b": "k"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("A", "b")

    @classmethod
    def lay(cls, at: Site) -> None:
        """One row of the zero cone for each."""
        rows = at.rows(at.sizes["k"], A=[Part("A")], b=[Part("b")])
        at.cone(Zero(at.sizes["k"]))
        at.same(rows)


@dataclass(frozen=True, eq=False, repr=False)
class AtMost(Form):
    """Inequalities G x ≤ h.

    Its y [k] ≥ 0 has the term Gᵀy in the stationarity condition; s [k] = h − G x.

    Args:
        G: [k, n].
        h: [k]; +inf leaves that row out (y = 0, s = +inf).
    """

    G: Any = None
    h: Any = None

    AXES: ClassVar[dict[str, str]] = {"G": "kn", "h": "k"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("G", "h")

    @classmethod
    def lay(cls, at: Site) -> None:
        """One nonnegative row for each."""
        rows = at.rows(at.sizes["k"], A=[Part("G")], b=[Part("h")])
        at.cone(Nonnegative(at.sizes["k"]))
        at.same(rows)


def _lay_interval(at: Site, matrix: str, extent: int) -> None:
    """Rows for upper bounds, then for lower ones, of the rows of `matrix` ("": of the identity)."""
    high, low = at.present("upper"), at.present("lower")
    above = at.rows(high.extent, A=[Part(matrix, 1, high.rows)], b=[Part("upper", 1, high.rows)])
    below = at.rows(low.extent, A=[Part(matrix, -1, low.rows)], b=[Part("lower", -1, low.rows)])
    at.cone(Nonnegative(high.extent + low.extent))
    partial = extent > 0 and extent not in (high.extent, low.extent)
    at.field(
        "y", "y", (extent,), [((high.rows,), above, 1), ((low.rows,), below, -1)], [((ALL,), 0.0)] if partial else []
    )
    ends: list[tuple[int, slice, Present]] = [(0, below, low), (1, above, high)]
    at.field(
        "s",
        "s",
        (2, extent),
        [((end, bound.rows), rows, 1) for end, rows, bound in ends],
        [((end, bound.others), inf) for end, _, bound in ends if bound.others is not None],
    )


@dataclass(frozen=True, eq=False, repr=False)
class Between(Form):
    """Two-sided inequalities lower ≤ G x ≤ upper.

    Its y [k] is positive at the upper and negative at the lower bound, with the term Gᵀy in the stationarity condition;
    s [2, k] is G x − lower, and below it upper − G x; +inf where there is no bound. Rows whose bounds differ by nothing
    but rounding are better told as `Equal`.

    Args:
        G: [k, n].
        lower: [k], or a number for all rows; −inf, or None for all rows, where there is no bound.
        upper: [k], or a number for all rows; +inf, or None for all rows, where there is no bound. lower > upper is an
            infeasible problem.
    """

    G: Any = None
    lower: Any = None
    upper: Any = None

    AXES: ClassVar[dict[str, str]] = {"G": "kn", "lower": "k", "upper": "k"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("G",)
    NUMBERS: ClassVar[tuple[str, ...]] = ("lower", "upper")
    INFINITE: ClassVar[dict[str, float]] = {"lower": -inf, "upper": inf}

    @classmethod
    def lay(cls, at: Site) -> None:
        """One nonnegative row for each bound that is finite in some problem."""
        _lay_interval(at, "G", at.sizes["k"])


@dataclass(frozen=True, eq=False, repr=False)
class Bounds(Form):
    """Bounds of the variables, lower ≤ x ≤ upper.

    Its y [n] is positive at the upper and negative at the lower bound, and is itself the term in the stationarity
    condition; s [2, n] is x − lower, and below it upper − x; +inf where there is no bound.

    Args:
        lower: [n], or a number for all variables; −inf, or None for all of them, where there is no bound.
        upper: [n], or a number for all variables; +inf, or None for all of them, where there is no bound. lower > upper
            is an infeasible problem.
    """

    lower: Any = None
    upper: Any = None

    AXES: ClassVar[dict[str, str]] = {"lower": "n", "upper": "n"}
    NUMBERS: ClassVar[tuple[str, ...]] = ("lower", "upper")
    INFINITE: ClassVar[dict[str, float]] = {"lower": -inf, "upper": inf}

    @classmethod
    def lay(cls, at: Site) -> None:
        """One nonnegative row for each bound that is finite in some problem."""
        _lay_interval(at, "", at.sizes["n"])


@dataclass(frozen=True, eq=False, repr=False)
class Free(Form):
    """Rows G x that nothing is asked of: a place in the list for constraints that are switched off.

    Its y [k] is zero and s [k] is +inf; neither depends on G, and there are no rows for it in the cone program.

    Args:
        G: [k, n].
    """

    G: Any = None

    AXES: ClassVar[dict[str, str]] = {"G": "kn"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("G",)

    @classmethod
    def lay(cls, at: Site) -> None:
        """No rows."""
        shape = (at.sizes["k"],)
        at.field("y", "y", shape, [], [((ALL,), 0.0)])
        at.field("s", "s", shape, [], [((ALL,), inf)])


@dataclass(frozen=True, eq=False, repr=False)
class Norm(Form):
    """A bound on a norm, ‖F x + g‖₂ ≤ cᵀx + r.

    Its s [1 + k] = (cᵀx + r, F x + g) and y [1 + k] are both in the second-order cone, with the term
    −c y₀ − Fᵀ(y₁, …) in the stationarity condition.

    Args:
        F: [k, n].
        g: [k]; None for zero.
        c: [n]; None for zero.
        r: a number; None for zero, which then c may not be.
    """

    F: Any = None
    g: Any = None
    c: Any = None
    r: Any = None

    AXES: ClassVar[dict[str, str]] = {"F": "kn", "g": "k", "c": "n", "r": ""}
    REQUIRED: ClassVar[tuple[str, ...]] = ("F",)

    @classmethod
    def lay(cls, at: Site) -> None:
        """A second-order cone: the bound above the vector."""
        if not at.has("c") and not at.has("r"):
            raise ShapeError(f"{at.name('r')}: expected a number, for {at.name('c')} is None, got None")
        bound = at.rows(1, A=[Part("c", -1)], b=[Part("r")])
        vector = at.rows(at.sizes["k"], A=[Part("F", -1)], b=[Part("g")])
        at.cone(SecondOrder(1 + at.sizes["k"]))
        at.same(slice(bound.start, vector.stop))


@dataclass(frozen=True, eq=False, repr=False)
class Rotated(Form):
    """A rotated second-order cone: F x + g = (u, v, w) with 2 u v ≥ ‖w‖₂² and u, v ≥ 0.

    Its s [k] = F x + g = (u, v, w) and y [k] are both in the rotated cone, with the term −Fᵀy in the stationarity
    condition. w of one entry 1 makes 2 u v ≥ 1, a hyperbolic constraint.

    Args:
        F: [k, n], k ≥ 2: a row for u, one for v, and those of w.
        g: [k]; None for zero.
    """

    F: Any = None
    g: Any = None

    AXES: ClassVar[dict[str, str]] = {"F": "kn", "g": "k"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("F",)

    @classmethod
    def lay(cls, at: Site) -> None:
        """A second-order cone for ((u + v)/√2, (u − v)/√2, w): an orthogonal map, which is its own inverse."""
        k = at.sizes["k"]
        if k < 2:
            raise ShapeError(f"{at.name('F')}: expected at least 2 rows, u and v, got {k}")
        blocks: list[slice] = []
        for sign in (1, -1):
            A = [Part("F", -_HALF, _FIRST), Part("F", -sign * _HALF, _SECOND)]
            b = [Part("g", _HALF, _FIRST), Part("g", sign * _HALF, _SECOND)]
            blocks.append(at.rows(1, A=A, b=b))
        sums, differences = blocks
        rest = at.rows(k - 2, A=[Part("F", -1, _REST)], b=[Part("g", 1, _REST)])
        at.cone(SecondOrder(k))
        for name in ("y", "s"):
            pairs = [((_FIRST,), sums, _HALF), ((_FIRST,), differences, _HALF)]
            pairs += [((_SECOND,), sums, _HALF), ((_SECOND,), differences, -_HALF)]
            at.field(name, name, (k,), [*pairs, ((_REST,), rest, 1)])


@dataclass(frozen=True, eq=False, repr=False)
class Quadratic(Form):
    """A convex quadratic constraint ½ ‖F x‖₂² + cᵀx ≤ r, which is ½ xᵀQ x + cᵀx ≤ r with Q = FᵀF.

    Its y, a number, is the multiplier λ ≥ 0, with the term λ (Q x + c) in the stationarity condition; s, a number, is
    the slack r − cᵀx − ½ ‖F x‖₂². The certificate of an infeasible problem has more than one entry for each such form:
    it is in the `conic` solution.

    It takes a factor, not Q itself, because factors are what quadratic constraints mostly come as (a factor model, a
    square root of weights), because a singular Q has factors but none with a derivative, and because whether Q has one
    at all could only be seen by waiting for a GPU. For a positive definite Q, F = cholesky(Q)ᵀ will do; in torch
    `torch.linalg.cholesky(Q).mT` has its derivative with it. In NumPy the cotangent of Q is that of F turned back,

        Q̄ = ½ sym(F⁻¹ F̄) = (M + Mᵀ) / 4   with M = np.linalg.solve(F, F̄),

    and a tangent of F for one of Q is Ḟ = ½ F⁻ᵀ Q̇: not that of the Cholesky factor, but one with the same
    ḞᵀF + FᵀḞ = Q̇, which is all that x, y and s depend on.

    Args:
        F: [k, n].
        c: [n]; None for zero.
        r: a number.
        scale: a number, the typical size of r − cᵀx. It changes nothing but rounding, and needs to be told only where
            that is far from 1: for r = 1e-8 in a problem else of size 1 the error of x was 1e-15 with it, 7e-5 without.
    """

    F: Any = None
    c: Any = None
    r: Any = None
    scale: float = 1.0

    AXES: ClassVar[dict[str, str]] = {"F": "kn", "c": "n", "r": ""}
    REQUIRED: ClassVar[tuple[str, ...]] = ("F", "r")

    def constants(self) -> float:
        """The square root of the scale."""
        try:
            scale = float(self.scale)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"scale: expected a positive number, got {self.scale!r}") from error
        if not 0 < scale < inf:
            raise ArgumentError(f"scale: expected a positive number, got {self.scale!r}")
        return sqrt(scale)

    @classmethod
    def lay(cls, at: Site) -> None:
        """The rotated cone 2 u v ≥ ‖w‖², see `Rotated`, for u = (r − cᵀx) / √scale, v = √scale and w = F x.

        λ is the multiplier of r − cᵀx, which u is made of; v has none, being constant.
        """
        root: float = at.constants
        part, whole = _HALF / root, _HALF * root
        sums = at.rows(1, A=[Part("c", part)], b=[Part("r", part), Part("", whole)])
        differences = at.rows(1, A=[Part("c", part)], b=[Part("r", part), Part("", -whole)])
        vector = at.rows(at.sizes["k"], A=[Part("F", -1)])
        at.cone(SecondOrder(2 + at.sizes["k"]))
        at.field("y", "y", (), [((None,), sums, part), ((None,), differences, part)])
        at.field("s", "s", (), [((None,), sums, whole), ((None,), differences, whole)], square=vector)


@dataclass(frozen=True, eq=False, repr=False)
class Conic(Form):
    """Rows as `gpudiff.solve` has them: A x + s = b, s in the product of `cones`.

    Its y [m] is in the dual cone, with the term Aᵀy in the stationarity condition; s [m] = b − A x.

    Args:
        A: [m, n].
        b: [m].
        cones: a list of cones, or an SCS-style dict.
    """

    A: Any = None
    b: Any = None
    cones: Any = None

    AXES: ClassVar[dict[str, str]] = {"A": "mn", "b": "m"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("A", "b")

    def constants(self) -> Product:
        """The cones."""
        return as_product(self.cones)

    @classmethod
    def lay(cls, at: Site) -> None:
        """The rows as they are."""
        rows = at.rows(at.sizes["m"], A=[Part("A")], b=[Part("b")])
        at.cone(*at.constants.cones)
        at.same(rows)
