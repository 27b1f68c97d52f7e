"""The backends: each one file behind the protocol below. A new one is one file and one line in `gpudiff._dispatch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpudiff._cones import Product
from gpudiff._problem import Array, Problem
from gpudiff._settings import Method, Settings
from gpudiff._solution import Block, Layout, Result, Work

__all__ = ["Backend", "CompileReport", "Single", "Start", "Structure"]


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


class Single(Protocol):
    """Problems of one size without a batch axis, made ready to be solved one after another; not by two threads at once.

    Attributes:
        layout: of the blocks that `solve` returns.
        P_shape: shape of P, None where there is none.
        A_shape: shape of A.
        b_shape: shape of b.
    """

    layout: Layout
    P_shape: tuple[int, ...] | None
    A_shape: tuple[int, ...]
    b_shape: tuple[int, ...]

    def solve(self, P: Array | None, q: Array, A: Array, b: Array, start: Block | None) -> Block | None:
        """Solve a problem whose arrays have the shapes and the element type that this was made for.

        Args:
            P: [n, n], or None where there is none.
            q: [n].
            A: [m, n].
            b: [m].
            start: an earlier result of the same layout to start from; NaN in it asks for a cold start.

        Returns:
            The result; None if an error is to be raised, which `Backend.solve` does.
        """
        ...

    @staticmethod
    def work(block: Block) -> Work:
        """What a solve cost."""
        ...


class Backend(Protocol):
    """Something that solves and differentiates batches of cone programs.

    Results lie where the problem's data lie. `solve`, `jvp`, `vjp` and `compile` may assume that `refuses` and
    `why_unavailable` returned None.

    Attributes:
        name: what it is called in `solve(backend=…)`.
        methods: the methods that it has.
        automatic: those of them that "auto" may choose.
    """

    name: str
    methods: tuple[Method, ...]
    automatic: tuple[Method, ...]

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

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch by one of `methods`, whatever the settings say of it.

        Raises:
            DataError: P is not symmetric.
            BackendError: out of memory.
        """
        ...

    def single(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> Single | None:
        """The short way for problems without a batch axis of the sizes of this one; None where there is none."""
        ...

    def jvp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        tangents: Sequence[Array | None],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Tangents of P, q, A, b, as `as_directions` leaves them, to those of x, y, s, obj.

        P moves among symmetric matrices: of its tangent the symmetric part counts. Results have as many directions in
        front as are told, each with the bits that it has alone; None: one, without an axis for it.
        """
        ...

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
        directions: int | None = None,
    ) -> dict[str, Array]:
        """Cotangents of x, y, s, obj, as for `jvp`, to those of the arguments named in `wrt`."""
        ...

    def project(self, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
        """Projections of points v [batch, m], or with a direction of that shape and type DΠ(v) direction.

        Raises:
            BackendError: out of memory.
        """
        ...
