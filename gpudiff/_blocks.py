"""The rows of a product of cones, cones of one kind and size together, for what computes on all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gpudiff._cones import PSD, Cone, DualExponential, Exponential, Nonnegative, Product, SecondOrder, Zero
from gpudiff._problem import Array


class Blocks(NamedTuple):
    """Rows by kind of cone.

    Attributes:
        zero: rows of all zero cones.
        nonnegative: rows of all nonnegative cones, and of second-order cones of one row.
        second_order: for each size k ≥ 2 the rows [count, k].
        psd: for each order the rows [count, k(k+1)/2].
        triples: for each kind of cone of three rows one such cone, and the rows [count, 3].
    """

    zero: Array
    nonnegative: Array
    second_order: tuple[Array, ...]
    psd: tuple[tuple[int, Array], ...]
    triples: tuple[tuple[Cone, Array], ...]

    @property
    def linear(self) -> bool:
        """Whether there are zero and nonnegative cones alone."""
        return not (self.second_order or self.psd or self.triples)

    @property
    def scaled_as_one(self) -> list[Array]:
        """Rows [count, rows] of the cones all of whose rows have to be in the same units."""
        return [*self.second_order, *(rows for _, rows in self.psd), *(rows for _, rows in self.triples)]


@lru_cache(maxsize=64)
def blocks_of(product: Product) -> Blocks:
    """Sort the rows of a product; remembered for the latest products."""
    zero: list[Array] = []
    nonnegative: list[Array] = []
    second_order: dict[int, list[Array]] = {}
    psd: dict[int, list[Array]] = {}
    triples: dict[Cone, list[Array]] = {}
    start = 0
    for cone in product.cones:
        rows = np.arange(start, start + cone.rows)
        start += cone.rows
        if isinstance(cone, Zero):
            zero.append(rows)
        elif isinstance(cone, Nonnegative) or (isinstance(cone, SecondOrder) and cone.rows == 1):
            nonnegative.append(rows)
        elif isinstance(cone, SecondOrder):
            second_order.setdefault(cone.rows, []).append(rows)
        elif isinstance(cone, PSD):
            psd.setdefault(cone.order, []).append(rows)
        elif cone.rows:
            triples.setdefault(_single(cone), []).append(rows.reshape(-1, 3))
    none = np.zeros(0, np.intp)
    return Blocks(
        np.concatenate([none, *zero]),
        np.concatenate([none, *nonnegative]),
        tuple(np.stack(rows) for rows in second_order.values()),
        tuple((order, np.stack(rows)) for order, rows in psd.items()),
        tuple((cone, np.concatenate(rows)) for cone, rows in triples.items()),
    )


def _single(cone: Cone) -> Cone:
    """One cone of three rows out of several equal ones."""
    return cone if cone.rows == 3 else type(cone)()


def blocks(cones: tuple[Cone, ...]) -> Iterator[tuple[Cone, slice]]:
    """Each cone with its rows; several exponential cones in one come one by one, cones without rows not at all."""
    row = 0
    for cone in cones:
        count = cone.rows // 3 if isinstance(cone, Exponential | DualExponential) else min(1, cone.rows)
        single = type(cone)(1) if isinstance(cone, Exponential | DualExponential) else cone
        for _ in range(count):
            yield single, slice(row, row + single.rows)
            row += single.rows
