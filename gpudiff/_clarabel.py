"""Problems as Clarabel takes them: its cones, and the linear map between its rows and ours.

Clarabel has no dual exponential and no dual power cone, but they are linear images of the others, and it wants the
upper triangle of a PSD cone column by column where our rows are the lower one. So s' = L s with an invertible L, block
by block, is in Clarabel's cones where s is in ours; A' = L A, b' = L b, and y = Lᵀ y'.
"""

from __future__ import annotations

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

# (u, v, w) is in the dual exponential cone where (u − v, −u, w) is in the exponential cone.
_DUAL_EXPONENTIAL = np.array([[1.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


class ClarabelForm(NamedTuple):
    """A product of cones as Clarabel takes it.

    Attributes:
        cones: Clarabel's cone objects.
        to: L, sparse [m, m].
        back: its inverse.
    """

    cones: list[Any]
    to: Any
    back: Any


def clarabel_form(product: Product) -> ClarabelForm:
    """Clarabel's cones for a product, and the map from our rows to its."""
    from scipy import sparse  # neither this nor Clarabel before it is needed: importing gpudiff stays fast

    clarabel: Any = import_module("clarabel")
    cones: list[Any] = []
    blocks: list[Array] = []
    for cone in product.cones:
        if not cone.rows:
            continue
        found, block = _of(clarabel, cone)
        cones += found
        blocks.append(block)

    def diagonal(
        blocks: list[Array],
    ) -> Any:  # without stored zeros, which would make NaN of the infinite b of absent rows
        return sparse.block_diag([sparse.csc_matrix(block) for block in blocks], "csc")

    if not blocks:
        return ClarabelForm(cones, sparse.csc_matrix((0, 0)), sparse.csc_matrix((0, 0)))
    return ClarabelForm(cones, diagonal(blocks), diagonal([np.linalg.inv(block) for block in blocks]))


def _of(clarabel: Any, cone: Cone) -> tuple[list[Any], Array]:
    """The objects for one cone, and its block of L."""
    same = np.eye(cone.rows)
    if isinstance(cone, Zero):
        return [clarabel.ZeroConeT(cone.rows)], same
    if isinstance(cone, Nonnegative):
        return [clarabel.NonnegativeConeT(cone.rows)], same
    if isinstance(cone, SecondOrder):
        return [clarabel.SecondOrderConeT(cone.rows)], same
    if isinstance(cone, PSD):
        columns, rows = np.triu_indices(cone.order)  # of our entries; Clarabel's are in the order of (row, column)
        return [clarabel.PSDTriangleConeT(cone.order)], same[np.lexsort((columns, rows))]
    if isinstance(cone, DualExponential):
        return [clarabel.ExponentialConeT()] * cone.count, np.kron(np.eye(cone.count), _DUAL_EXPONENTIAL)
    if isinstance(cone, Exponential):
        return [clarabel.ExponentialConeT()] * cone.count, same
    if isinstance(cone, DualPower):
        return [clarabel.PowerConeT(cone.alpha)], np.diag([1 / cone.alpha, 1 / (1 - cone.alpha), 1.0])
    assert isinstance(cone, Power)
    return [clarabel.PowerConeT(cone.alpha)], same
