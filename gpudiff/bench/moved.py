"""Batches whose data have moved a little, as warm starts meet them, from the generators of the families.

The generator runs again on the same random numbers, each of them moved: a normal z becomes √(1 − δ²) z + δ w and a
uniform u becomes (1 − δ) u + δ v with new w and v, while choices (which rows are active at an optimum that is built)
stay. So a moved problem is one of its family: feasible, bounded, P convex, what the family shares still shared. Its
data are moved by about δ of their size, and what follows from them (b from a point inside, say) follows.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from gpudiff.bench.families import Batch, Family, Rng


def moved(family: Family, batch: int, seed: int, step: float, copy: int) -> Batch:
    """The batch ``generate(family, batch, seed)`` moved by ``step``, which is δ above.

    Args:
        family: What to draw.
        batch: How many problems.
        seed: That of the batch that is moved.
        step: How far, from 0 to 1; 0 is the batch itself.
        copy: Number of the copy: each moves in a direction of its own.
    """
    own = np.random.default_rng([seed, *family.name.encode()])  # as in `generate`
    new = np.random.default_rng([seed, 1 + copy, *family.name.encode()])
    return family.make(cast(Rng, _Moving(own, new, step)), batch)


class _Moving:
    """Stands for a generator: its numbers, moved by those of another one."""

    def __init__(self, own: Rng, new: Rng, step: float) -> None:
        self.own, self.new, self.step = own, new, step
        self.choice, self.permuted = own.choice, own.permuted

    def standard_normal(self, size: Any = None) -> Any:
        keep = np.sqrt(1.0 - self.step**2)
        return keep * self.own.standard_normal(size) + self.step * self.new.standard_normal(size)

    def random(self, size: Any = None) -> Any:
        return (1.0 - self.step) * self.own.random(size) + self.step * self.new.random(size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return (1.0 - self.step) * self.own.uniform(low, high, size) + self.step * self.new.uniform(low, high, size)
