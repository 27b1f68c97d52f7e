"""The backends: each one file behind the protocol below. A new one is one file and one line in `gpudiff._dispatch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gpudiff._problem import Array, Problem
from gpudiff._settings import Settings
from gpudiff._solution import Result

__all__ = ["Backend", "Start"]


class Start(NamedTuple):
    """A point to start from, x [n], y and s [m], shared or with a batch axis; NaN in it asks for a cold start."""

    x: Array
    y: Array
    s: Array


class Backend(Protocol):
    """Something that solves and differentiates batches of cone programs.

    Every method but the first two may assume that those returned None.
    """

    name: str

    def why_unavailable(self) -> str | None:
        """Why this backend cannot run on this machine; None if it can."""
        ...

    def refuses(self, problem: Problem) -> str | None:
        """Why this backend does not take this problem; None if it does."""
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
