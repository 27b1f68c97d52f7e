"""Problems as Clarabel takes them: its cones, the linear map between its rows and ours, its settings and its statuses.

Clarabel has no dual exponential and no dual power cone, but they are linear images of the others, and it wants the
upper triangle of a PSD cone column by column where our rows are the lower one. So s' = L s with an invertible L, block
by block, is in Clarabel's cones where s is in ours; A' = L A, b' = L b, and y = Lᵀ y'.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

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
    Zero,
)
from gpudiff._problem import Array
from gpudiff._settings import Settings
from gpudiff._status import Status

# (u, v, w) is in the dual exponential cone where (u − v, −u, w) is in the exponential cone: row, column, entry; inverse
_DUAL_EXPONENTIAL = ((0, 0, 1, 2), (0, 1, 0, 2), (1.0, -1.0, -1.0, 1.0))
_DUAL_EXPONENTIAL_BACK = ((0, 1, 1, 2), (1, 0, 1, 2), (-1.0, -1.0, -1.0, 1.0))

STATUS = {
    "Solved": Status.SOLVED,
    "AlmostSolved": Status.ALMOST_SOLVED,
    "PrimalInfeasible": Status.PRIMAL_INFEASIBLE,
    "DualInfeasible": Status.DUAL_INFEASIBLE,
    "AlmostPrimalInfeasible": Status.ALMOST_PRIMAL_INFEASIBLE,
    "AlmostDualInfeasible": Status.ALMOST_DUAL_INFEASIBLE,
    "MaxIterations": Status.MAX_ITERATIONS,
    "MaxTime": Status.TIME_LIMIT,
    "NumericalError": Status.NUMERICAL_ERROR,
    "InsufficientProgress": Status.NUMERICAL_ERROR,
}
_TOLERANCES = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_infeas_abs", "tol_infeas_rel")


class ClarabelForm(NamedTuple):
    """A product of cones as Clarabel takes it.

    Attributes:
        cones: Clarabel's cone objects.
        to: L, sparse [m, m]; None where it is the identity.
        back: its inverse.
    """

    cones: list[Any]
    to: Any
    back: Any

    def rows(self, data: Any) -> Any:
        """L A or L b for our A or b."""
        return data if self.to is None else self.to @ data

    def multiplier(self, y: Array) -> Array:
        """Our y for Clarabel's."""
        return y if self.to is None else self.to.T @ y

    def slack(self, s: Array) -> Array:
        """Our s for Clarabel's."""
        return s if self.back is None else self.back @ s


@lru_cache(maxsize=64)
def clarabel_form(product: Product) -> ClarabelForm:
    """Clarabel's cones for a product, and the map from our rows to its: O(m) entries; remembered."""
    from scipy import sparse  # neither this nor Clarabel before it is needed: importing gpudiff stays fast

    clarabel: Any = import_module("clarabel")
    cones: list[Any] = []
    to: list[tuple[Array, Array, Array]] = []
    back: list[tuple[Array, Array, Array]] = []
    same, start = True, 0
    for cone in product.cones:
        if not cone.rows:
            continue
        cones += _objects(clarabel, cone)
        changes = _changes(cone)
        same = same and changes is None
        there, again = changes or (_diagonal(np.ones(cone.rows)),) * 2
        for parts, (rows, columns, values) in ((to, there), (back, again)):
            parts.append(
                (rows + start, columns + start, values)
            )  # no stored zeros: NaN from the infinite b of absent rows
        start += cone.rows
    if same:
        return ClarabelForm(cones, None, None)

    def joined(parts: list[tuple[Array, Array, Array]]) -> Any:
        rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        return sparse.csc_matrix((values, (rows, columns)), (start, start))

    return ClarabelForm(cones, joined(to), joined(back))


def _objects(clarabel: Any, cone: Cone) -> list[Any]:
    """Clarabel's objects for one cone."""
    if isinstance(cone, Zero):
        return [clarabel.ZeroConeT(cone.rows)]
    if isinstance(cone, Nonnegative):
        return [clarabel.NonnegativeConeT(cone.rows)]
    if isinstance(cone, SecondOrder):
        return [clarabel.SecondOrderConeT(cone.rows)]
    if isinstance(cone, PSD):
        return [clarabel.PSDTriangleConeT(cone.order)]
    if isinstance(cone, Exponential | DualExponential):
        return [clarabel.ExponentialConeT()] * cone.count
    assert isinstance(cone, Power)
    return [clarabel.PowerConeT(cone.alpha)]


def _changes(cone: Cone) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]] | None:
    """The cone's block of L and of its inverse, each as rows, columns and entries; None for the identity."""
    if isinstance(cone, PSD):
        columns, rows = np.triu_indices(cone.order)  # of our entries; Clarabel's are in the order of (row, column)
        order, each, ones = np.lexsort((columns, rows)), np.arange(cone.rows), np.ones(cone.rows)
        return (each, order, ones), (order, each, ones)
    if isinstance(cone, DualExponential):
        return _repeated(_DUAL_EXPONENTIAL, cone.count), _repeated(_DUAL_EXPONENTIAL_BACK, cone.count)
    if isinstance(cone, DualPower):
        scale = np.array([1 / cone.alpha, 1 / (1 - cone.alpha), 1.0])
        return _diagonal(scale), _diagonal(1 / scale)
    return None


def _diagonal(values: Array) -> tuple[Array, Array, Array]:
    each = np.arange(values.size)
    return each, each, values


def _repeated(block: Any, count: int) -> tuple[Array, Array, Array]:
    """A block of three rows, `count` times along the diagonal."""
    rows, columns, values = (np.asarray(part) for part in block)
    shift = 3 * np.arange(count)[:, None]
    return (rows + shift).ravel(), (columns + shift).ravel(), np.tile(values, count)


def clarabel_settings(settings: Settings, largest: float = 1.0) -> Any:
    """Clarabel's settings for ours, with tolerances of at most `largest`."""
    clarabel: Any = import_module("clarabel")
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.max_iter = settings.max_iter
    options.max_threads = 1  # problems are what is done side by side; and an answer's bits depend on this number
    if settings.time_limit is not None:
        options.time_limit = settings.time_limit
    for name in _TOLERANCES:
        setattr(options, name, min(getattr(settings, name), largest))
    return options
