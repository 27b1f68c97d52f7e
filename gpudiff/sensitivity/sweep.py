"""`Sweep`: a problem solved for more values of its parameters than fit in memory at once, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpudiff._errors import ShapeError
from gpudiff._problem import Array, show
from gpudiff._progress import Progress

CHUNK = 4096
"""Items at a time: enough to keep all threads busy, little beside the results."""


class Sweep:
    """Many solves, some at a time; made by `Sensitivity.sweep`.

    Attributes:
        total: items.
        done: items that are finished.
        results: arrays [total, …] by name, of which the first `done` items are filled.
    """

    def __init__(
        self,
        part: Callable[[slice], Any],
        total: int,
        chunk: int,
        each: Callable[[Any], Mapping[str, Any]] | None,
    ) -> None:
        self._part, self._chunk, self._each = part, chunk, each or _usual
        self.total, self.done = total, 0
        self.results: dict[str, Array] = {}

    def run(self, progress: bool = False) -> Sweep:
        """Solve what is not done yet, and return this object.

        Args:
            progress: show a bar on standard error where tqdm is installed, otherwise a line.

        Raises:
            ShapeError: `each` gave something that is not one entry for each item.
            SolveError: as `Sensitivity.solve`; what was done before is kept, here as after any exception or interrupt.
        """
        bar = Progress(self.total, quiet=not progress)
        if self.done:
            bar.tick("solved", self.done)
        try:
            while self.done < self.total:
                rows = slice(self.done, min(self.done + self._chunk, self.total))
                found = {name: np.asarray(value) for name, value in self._each(self._part(rows)).items()}
                count = rows.stop - rows.start
                for name, value in found.items():
                    if value.shape[:1] != (count,):
                        raise ShapeError(f"each: expected {name!r} of shape ({count}, …), got {show(value.shape)}")
                for name, value in found.items():
                    if name not in self.results:
                        self.results[name] = np.zeros((self.total, *value.shape[1:]), value.dtype)
                    self.results[name][rows] = value
                self.done = rows.stop
                bar.tick("solved", count)
        finally:
            bar.close()
        return self

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {show(value.shape)}" for name, value in self.results.items())
        return f"Sweep({self.done} of {self.total} done; {names or 'no results yet'})"


def _usual(solution: Any) -> dict[str, Any]:
    return {"x": solution.x, "obj": solution.obj, "status": solution.status}
