"""jvp and vjp of the solutions of a cone program: check the directions, hand them to the backend, wrap the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpudiff._cones import Product
from gpudiff._device import DeviceArray, to_native
from gpudiff._errors import ShapeError
from gpudiff._problem import CORE, DATA, Array, Problem, as_array, as_directions, chosen, has_batch
from gpudiff._settings import Method, Settings
from gpudiff._solution import Block, Cotangents, Result, Tangents, Work
from gpudiff._status import keeps_point
from gpudiff._uniqueness import unique
from gpudiff.backends import Backend

POINT = {"x": 1, "y": 1, "s": 1, "obj": 0}  # axes of each without the batch axis


@dataclass(slots=True, eq=False)
class ConeLinearization:
    """The derivative of the solution map of a cone program at one solution; see `Solution.jvp` and `Solution.vjp`."""

    problem: Problem
    settings: Settings
    result: Result
    backend: Backend

    @property
    def point(self) -> Result | Block:
        """Where the solve ended, without the data of the problem."""
        return self.result

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        value = getattr(self.result, name)
        return value if isinstance(value, str) else item(value)

    def describe(self) -> str:
        """Sizes for a message."""
        return self.problem.describe()

    def jvp(self, tangents: dict[str, Any], directions: int | None = None) -> Tangents:
        """Tangents of the data, by name (None for zero), to those of the solution.

        `directions`: how many there are, where the caller knows better than these tangents.
        """
        problem = self.problem
        given: list[tuple[str, Any, tuple[int, ...]]] = []
        for name in DATA:
            value, data = tangents.get(name), problem.data(name)
            if value is not None and data is None:
                raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
            given.append((name, value, () if data is None else data.shape[data.ndim - CORE[name] :]))
        inputs, directions = as_directions(given, problem, directions)
        dots = self.backend.jvp(problem, self.settings, self.result, inputs, directions)
        if self.settings.failed_derivatives != "zero":
            dots = (self.mark_tangent(dot, core) for dot, core in zip(dots, POINT.values(), strict=True))
        return Tangents(*map(item, dots))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str], directions: int | None = None) -> Cotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`; see `jvp`."""
        problem, result = self.problem, self.result
        cores = {name: getattr(result, name).shape[len(problem.lead) :] for name in POINT}
        given = ((name, cotangents.get(name), core) for name, core in cores.items())
        inputs, directions = as_directions(given, problem, directions)
        bars = self.backend.vjp(problem, self.settings, result, inputs, chosen(wrt, DATA, "wrt"), directions)
        if self.settings.failed_derivatives != "zero":
            for name, bar in bars.items():
                bars[name] = self.mark_cotangent(bar, problem.data(name), CORE[name])
        return Cotangents(**bars)

    def unique(self) -> Any:
        """Where derivatives are those of a function."""
        found = unique(self.problem, self.settings, self.result, self.backend)
        return found if found is True else item(found)

    def mark_tangent(self, dot: Any, core: int) -> Any:
        """What stands for the tangents of failed problems, which are 0, in an array with `core` axes for each."""
        if self.settings.failed_derivatives == "zero":
            return dot
        return _kept(dot, keeps_point(to_native(self.result.status))[(..., *(None,) * core)])

    def mark_cotangent(self, bar: Any, argument: Any, core: int) -> Any:
        """The same for the cotangent of an argument; if all problems share it, it is that of all of them."""
        if self.settings.failed_derivatives == "zero":
            return bar
        if has_batch(argument, core, self.problem.batch):
            return self.mark_tangent(bar, core)
        return _kept(bar, keeps_point(to_native(self.result.status)).all())


def _kept(array: Any, keep: Any) -> Any:
    """NaN in place of what is not to be kept; nothing is waited for."""
    if isinstance(array, DeviceArray):
        return array.package.wrap(array.package.where(keep, array.native, np.nan))
    return np.where(keep, array, array.dtype.type(np.nan))


class Kind(NamedTuple):
    """What the problems that a `Single` solves have in common."""

    work: Callable[[Block], Work]
    cones: Product
    n: int
    dtype: np.dtype[Any]
    settings: Settings
    backend: Backend
    method: Method
    why: str


class LateLinearization(ConeLinearization):
    """The same for a problem that went the short way: the checked problem and the result are made when asked for."""

    __slots__ = ("arrays", "block", "kind")

    def __init__(self, kind: Kind, arrays: tuple[Array | None, Array, Array, Array], block: Block) -> None:
        # The slots of the dataclass stay empty, for `__getattr__` to fill.
        self.kind = kind
        self.arrays = arrays
        self.block = block

    def __getattr__(self, name: str) -> Any:  # only for what is not there yet
        make = _LATE.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = make(self)
        setattr(self, name, value)
        return value

    @property
    def point(self) -> Block:
        """Where the solve ended, without the data of the problem."""
        return self.block

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        return self.block.field(name) if name in self.block.layout.parts else ConeLinearization.field(self, name)


def _late_problem(late: LateLinearization) -> Problem:
    kind = late.kind
    P, q, A, b = (
        None if array is None else as_array(name, array) for name, array in zip(DATA, late.arrays, strict=True)
    )
    assert q is not None
    return Problem(P, q, A, b, kind.cones, 1, False, kind.n, kind.cones.rows, kind.dtype)


def _late_result(late: LateLinearization) -> Result:
    kind, block = late.kind, late.block
    parts: dict[str, Any] = {name: block.array(name) for name in block.layout.parts}
    return Result(**parts, work=kind.work(block), backend=kind.backend.name, method=kind.method, why=kind.why)


_LATE: dict[str, Callable[[LateLinearization], Any]] = {
    "problem": _late_problem,
    "result": _late_result,
    "settings": lambda late: late.kind.settings,
    "backend": lambda late: late.kind.backend,
}


def item(array: Any) -> Any:
    """An array without axes as NumPy's own reductions give it: a scalar. One on a GPU stays there."""
    return array if array.ndim or type(array) is DeviceArray else array[()]
