"""Solutions in the arrays of another package than NumPy: the same dataclasses, holding that package's arrays.

What torch and CuPy have in common: the core solves views of the caller's memory; here its results are given back in the
caller's own kind of array, and directions of derivatives are taken in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from gpudiff._device import DeviceArray
from gpudiff._errors import SolveError
from gpudiff._settings import Settings
from gpudiff._solution import Block, Outcome, Result

ToCore: TypeAlias = Callable[[str, Any], Any]  # (name, the caller's array) → array of the core; may raise ArgumentError
_ARRAYS = (np.ndarray, np.generic, DeviceArray)
_BY_LINEARIZATION = {*Outcome.LATE, "linearization"}

ToCaller: TypeAlias = Callable[[Any], Any]  # array of the core → the caller's


@dataclasses.dataclass(frozen=True, eq=False)
class ForeignLinearization:
    """A linearisation whose directions come and go as arrays of another package."""

    inner: Any
    to_core: ToCore
    to_caller: ToCaller

    @property
    def result(self) -> Result:
        """The solution as the backend left it."""
        return self.inner.result

    @property
    def settings(self) -> Settings:
        """How it was solved."""
        return self.inner.settings

    @property
    def point(self) -> Result | Block:
        """Where the solve ended; arrays of the core."""
        return self.inner.point

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        value = self.inner.field(name)
        return self.to_caller(value) if isinstance(value, _ARRAYS) else value

    def describe(self) -> str:
        """Sizes for a message."""
        return self.inner.describe()

    def unique(self) -> Any:
        """Where derivatives are those of a function."""
        found = self.inner.unique()
        return self.to_caller(found) if isinstance(found, _ARRAYS) else found

    def jvp(self, tangents: dict[str, Any]) -> Any:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        return converted(self.inner.jvp(self._directions(tangents)), self.to_caller)

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Any:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        return converted(self.inner.vjp(self._directions(cotangents), wrt), self.to_caller)

    def _directions(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: None if value is None else self.to_core(name, value) for name, value in values.items()}


def solved(run: Callable[[], Any], to_core: ToCore, to_caller: ToCaller) -> Any:
    """What `run` gives, a solution of the core; one that comes with an exception is given in the caller's arrays.

    Raises:
        SolveError: what `run` raises.
    """
    try:
        return run()
    except SolveError as error:
        error.solution = foreign_solution(error.solution, to_core, to_caller)
        raise


def foreign_solution(solution: Any, to_core: ToCore, to_caller: ToCaller, **given: Any) -> Any:
    """A solution of the core as one of the caller's arrays; `given` for the fields named there."""
    linearization = ForeignLinearization(solution.linearization, to_core, to_caller)
    for name in solution.POINT:
        if name not in given:
            given[name] = to_caller(getattr(solution, name))
    # What the core made beside the fields that its linearisation makes, which are converted when asked for.
    others = {
        name: value for name, value in vars(solution).items() if name not in _BY_LINEARIZATION and name not in given
    }
    return type(solution)(linearization, **given, **others)


def converted(values: Any, to_caller: ToCaller) -> Any:
    """Tangents or cotangents with the caller's arrays for those of the core."""
    fields = vars(values).items()
    return type(values)(**{name: to_caller(value) if isinstance(value, _ARRAYS) else value for name, value in fields})
