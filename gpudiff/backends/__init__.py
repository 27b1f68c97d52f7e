"""The backends: each one file behind the protocol below. A new one is one file and one line in `gpudiff._dispatch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpudiff._cones import Product
from gpudiff._problem import Array, Problem
from gpudiff._settings import Settings
from gpudiff._solution import Result

__all__ = ["Backend", "CompileReport", "Start", "Structure"]


class Structure(NamedTuple):
    """What kernels are compiled for: all of a problem but its numbers and their number."""

    cones: Product
    n: int
    has_P: bool
    dtype: np.dtype[Any]


class CompileReport(NamedTuple):
    """What compiling ahead has done.

    Attributes:
        backend: the name of the backend that it was done for.
        kernels: names of the kernels that are ready now; empty where nothing needs to be compiled.
        cached: how many of them were found compiled.
        seconds: how long it took.
    """

    backend: str
    kernels: tuple[str, ...] = ()
    cached: int = 0
    seconds: float = 0.0


class Start(NamedTuple):
    """A point to start from, x [n], y and s [m], shared or with a batch axis; NaN in it asks for a cold start."""

    x: Array
    y: Array
    s: Array


class Backend(Protocol):
    """Something that solves and differentiates batches of cone programs.

    Results lie where the problem's data lie. `solve`, `jvp`, `vjp` and `compile` may assume that `refuses` and
    `why_unavailable` returned None.
    """

    name: str

    def refuses(self, problem: Problem, by_name: bool) -> str | None:
        """Why this backend does not take this problem, asked for `by_name` or not; None if it does."""
        ...

    def why_unavailable(self) -> str | None:
        """Why this backend cannot run on this machine; None if it can."""
        ...

    def devices(self) -> tuple[str, ...]:
        """What it would run on, in words, for `gpudiff.info`; empty where there is no choice."""
        ...

    def compile(self, structure: Structure, settings: Settings, device: int) -> CompileReport:
        """Do ahead what the first solve and its derivatives would otherwise do.

        Raises:
            BackendError: it fails.
        """
        ...

    def solve(self, problem: Problem, settings: Settings, start: Start | None) -> Result:
        """Solve every problem of the batch.

        Raises:
            DataError: P is not symmetric.
            BackendError: out of memory.
        """
        ...

    def jvp(
        self, problem: Problem, settings: Settings, result: Result, tangents: Sequence[Array | None]
    ) -> tuple[Array, Array, Array, Array]:
        """Tangents of P, q, A, b (shared, with a batch axis, or None) to those of x, y, s, obj.

        P moves among symmetric matrices: of its tangent the symmetric part counts.
        """
        ...

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
    ) -> dict[str, Array]:
        """Cotangents of x, y, s, obj (shared, with a batch axis, or None) to those of the arguments named in `wrt`."""
        ...
