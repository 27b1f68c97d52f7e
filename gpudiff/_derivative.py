"""jvp and vjp of the solutions of a cone program: check the directions, hand them to the backend, wrap the results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpudiff._device import DeviceArray
from gpudiff._errors import ShapeError
from gpudiff._problem import CORE, DATA, Array, Problem, as_direction, chosen
from gpudiff._settings import Settings
from gpudiff._solution import Cotangents, Result, Tangents
from gpudiff.backends import Backend

POINT = ("x", "y", "s", "obj")


@dataclass(slots=True, eq=False)
class ConeLinearization:
    """The derivative of the solution map of a cone program at one solution; see `Solution.jvp` and `Solution.vjp`."""

    problem: Problem
    settings: Settings
    result: Result
    backend: Backend

    def describe(self) -> str:
        """Sizes for a message."""
        return self.problem.describe()

    def jvp(self, tangents: dict[str, Any]) -> Tangents:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        problem = self.problem
        dots: list[Array | None] = []
        for name in DATA:
            value, data = tangents.get(name), problem.data(name)
            if value is None:
                dots.append(None)
                continue
            if data is None:
                raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
            core = data.shape[data.ndim - CORE[name] :]
            dots.append(as_direction(name, value, core, problem))
        return Tangents(*(item(dot) for dot in self.backend.jvp(problem, self.settings, self.result, dots)))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Cotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        problem, result = self.problem, self.result
        bars: list[Array | None] = []
        for name in POINT:
            value = cotangents.get(name)
            core = getattr(result, name).shape[len(problem.lead) :]
            bars.append(None if value is None else as_direction(name, value, core, problem))
        return Cotangents(**self.backend.vjp(problem, self.settings, result, bars, chosen(wrt, DATA, "wrt")))


def item(array: Any) -> Any:
    """An array without axes as NumPy's own reductions give it: a scalar. One on a GPU stays there."""
    return array if array.ndim or type(array) is DeviceArray else array[()]
