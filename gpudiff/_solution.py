"""What a solve gives back: frozen results per problem, in the caller's own kind of array, with jvp and vjp.

A solution costs next to nothing to make: its fields are made when they are first asked for, each out of the
linearisation, which knows what the backend left. One small problem is solved in the time that a dozen objects take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from gpudiff._device import to_host
from gpudiff._errors import SolveError
from gpudiff._problem import Array
from gpudiff._settings import Method, Settings
from gpudiff._status import Status, keeps_point, tally

_SOLVED = int(Status.SOLVED)

# A derivative is trusted from this distance to the nearest kink of the projection on, relative to |y − s|: below it
# rounding decides which side the point is on (measured on polished points; float32 carries half the digits).
MARGIN = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}


class Work(NamedTuple):
    """What a solve cost, summed over the batch; a rescue is not counted.

    Attributes:
        interior: interior-point iterations.
        newton: factorisations of Newton's method on the optimality conditions.
        resumed: problems that needed a second, more careful interior-point run.
        flops: floating-point operations spent on problems (lanes that idle do not count); NaN where the backend does
            not count them, as on a GPU.
        fallbacks: problems that the active set left to the interior point.
        changes: rows that entered or left a working set of the active set.
    """

    interior: int = 0
    newton: int = 0
    resumed: int = 0
    flops: float = 0.0
    fallbacks: int = 0
    changes: int = 0


@dataclass(slots=True, eq=False)
class Result:
    """What a backend returns: arrays [B, …], or without the batch axis where the problem has none.

    They lie where the problem's data lie: NumPy arrays, or `DeviceArray`s on a GPU.
    """

    x: Array
    y: Array
    s: Array
    obj: Array
    status: Array
    iterations: Array
    primal_residual: Array
    dual_residual: Array
    gap: Array
    margin: Array
    work: Work | Callable[[], Work]  # a function where the counts lie on a GPU, and reading them waits for it
    rescued: int = 0
    backend: str = ""
    method: Method = "ipm"
    why: str = ""  # the backend was chosen

    def array(self, name: str) -> Array:
        """An array by name, as `Block` has it."""
        return getattr(self, name)


class Layout:
    """Where in a `Block` everything is; one object for all blocks of problems of one size.

    Args:
        n: number of variables.
        m: number of rows.
        dtype: element type of the results.
        tail: bytes of what a backend reports beside them.

    Attributes:
        dtype: element type of the results.
        length: elements of a block.
        parts: name → element type (None: that of the results) and index in units of it.
        tail: offset in bytes of the report.
    """

    __slots__ = ("dtype", "length", "parts", "tail")

    def __init__(self, n: int, m: int, dtype: np.dtype[Any], tail: int) -> None:
        ends = (n, n + m, n + 2 * m)
        scalars = ("obj", "primal_residual", "dual_residual", "gap", "margin")
        whole = -(-(ends[2] + len(scalars)) * dtype.itemsize // 8) * 8  # in bytes: what follows is aligned to 8
        self.dtype = dtype
        self.parts: dict[str, tuple[np.dtype[Any] | None, Any]] = {
            "x": (None, slice(0, ends[0])),
            "y": (None, slice(ends[0], ends[1])),
            "s": (None, slice(ends[1], ends[2])),
            **{name: (None, ends[2] + i) for i, name in enumerate(scalars)},
            "iterations": (np.dtype(np.int32), whole // 4),
            "status": (np.dtype(np.int8), whole + 4),
        }
        self.tail = whole + 8
        self.length = (self.tail + -(-tail // 8) * 8) // dtype.itemsize


class Block:
    """What a backend returns for one problem without a batch axis: all of it in one piece of memory.

    It is made in one go, by a copy of the memory that a backend writes to, and taken apart when somebody asks.

    Args:
        memory: elements of the layout's type.
        layout: what is where in it.
    """

    __slots__ = ("layout", "memory")

    def __init__(self, memory: Array, layout: Layout) -> None:
        self.memory = memory
        self.layout = layout

    @property
    def failed(self) -> bool:
        """Whether the problem did not keep its point: its objective is then infinite or NaN."""
        return not isfinite(self.field("obj"))

    def field(self, name: str) -> Any:
        """A field of a `Result`; a scalar where it has no axes."""
        kind, index = self.layout.parts[name]
        return (self.memory if kind is None else self.memory.view(kind))[index]

    def array(self, name: str) -> Array:
        """The same as an array in any case, a view of the block."""
        kind, index = self.layout.parts[name]
        return (self.memory if kind is None else self.memory.view(kind))[index, ...]


@dataclass(frozen=True, eq=False)
class Tangents:
    """Forward-mode derivatives of a solution: x [B, n], y and s [B, m], obj [B]."""

    x: Any
    y: Any
    s: Any
    obj: Any


@dataclass(frozen=True, eq=False)
class Cotangents:
    """Reverse-mode derivatives, each of exactly its argument's shape; None where absent or not asked for."""

    P: Any = None
    q: Any = None
    A: Any = None
    b: Any = None


TangentsT = TypeVar("TangentsT", covariant=True)
CotangentsT = TypeVar("CotangentsT", covariant=True)


class Linearization(Protocol[TangentsT, CotangentsT]):
    """The derivative of a solution map at one solution."""

    @property
    def result(self) -> Result:
        """The solution as the backend left it."""
        ...

    @property
    def settings(self) -> Settings:
        """How it was solved."""
        ...

    @property
    def point(self) -> Result | Block:
        """Where the solve ended: what another one can start from, without the data."""
        ...

    def field(self, name: str) -> Any:
        """A field of `Outcome` by name, in the caller's own kind of array."""
        ...

    def describe(self) -> str:
        """Sizes for a message."""
        ...

    def unique(self) -> Any:
        """Where derivatives are those of a function, in the caller's own kind of array, or True."""
        ...

    def jvp(self, tangents: dict[str, Any]) -> TangentsT:
        """Tangents of the data, by name, to those of the solution."""
        ...

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> CotangentsT:
        """Cotangents of the solution, by name, to those of the data in `wrt`."""
        ...


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Outcome(Generic[TangentsT, CotangentsT]):
    """What the solutions of every problem form have in common; see `Solution`.

    Args:
        linearization: knows everything else.
        given: fields that it does not know, or that are to be others than it would make.
    """

    POINT: ClassVar[tuple[str, ...]]  # the fields that have derivatives
    LATE: ClassVar[tuple[str, ...]] = (  # the fields that the linearisation makes when they are first asked for
        *("x", "obj", "status", "iterations", "primal_residual", "dual_residual", "gap", "margin"),
        *("backend", "method"),
    )

    x: Any
    obj: Any
    status: Any
    iterations: Any
    primal_residual: Any
    dual_residual: Any
    gap: Any
    margin: Any
    backend: str
    method: Method
    linearization: Linearization[TangentsT, CotangentsT]

    def __init__(self, linearization: Linearization[TangentsT, CotangentsT], **given: Any) -> None:
        fields = self.__dict__  # the way into a frozen dataclass, as functools.cached_property takes it
        fields["linearization"] = linearization
        if given:
            fields.update(given)

    def __getattr__(self, name: str) -> Any:  # only for what is not there yet
        if name not in self.LATE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.setdefault(name, self.linearization.field(name))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.LATE]

    @property
    def work(self) -> Work:
        """What the solve cost; on a GPU this waits for the solve."""
        work = self.linearization.result.work
        return work if isinstance(work, Work) else work()

    @property
    def rescued(self) -> int:
        """How many problems `Settings(rescue=True)` has solved on the host."""
        return self.linearization.result.rescued

    @property
    def why(self) -> str:
        """Why `backend` is what it is: what the others said of the problem, or that it was asked for."""
        return self.linearization.result.why

    @property
    def ok(self) -> Any:
        """Which problems are SOLVED: bool [B], on the device of the data."""
        return self.status == _SOLVED

    @property
    def differentiable(self) -> Any:
        """Where the derivatives can be trusted: bool [B].

        The problem kept its point; y − s is not within rounding of a kink of the projection onto the cone (`margin`
        above 1e-6, or 1e-3 in float32): there jvp and vjp give a one-sided choice; and x and y are unique: where they
        are not, jvp and vjp give an answer of least squares. The latter is found out by a forward derivative when this
        is first asked for, on the host alone: on a GPU it is not looked at.

        With `Settings(smoothing=…)` the derivatives are those of a point that is unique and has no kinks: wherever the
        problem kept its point. Whether there is a central path is found out by jvp and vjp, which are 0 where there is
        none.
        """
        fields, linearization = self.__dict__, self.linearization
        if "_differentiable" not in fields:
            found = keeps_point(self.status)
            if linearization.settings.smoothing is None:
                smooth = self.margin > MARGIN[linearization.result.margin.dtype]
                found = found & smooth & linearization.unique()
            fields["_differentiable"] = found
        return fields["_differentiable"]

    def raise_for_status(self) -> None:
        """Do nothing if every problem is SOLVED; on a GPU this waits for the solve.

        Raises:
            SolveError: some are not; it says how many, which first, why, and what to try.
        """
        codes = to_host(self.linearization.result.status)
        self._raise_where(codes, codes != _SOLVED)

    def raise_for_failure(self) -> None:
        """Do nothing if every problem is SOLVED or ALMOST_SOLVED; on a GPU this waits for the solve.

        Raises:
            SolveError: some are not; it says how many, which first, why, and what to try.
        """
        codes = to_host(self.linearization.result.status)
        self._raise_where(codes, ~keeps_point(codes))

    def _raise_where(self, codes: Array, failed: Any) -> None:
        codes, failed = np.atleast_1d(codes), np.atleast_1d(failed)
        if not failed.any():
            return
        what = f"{int(failed.sum())} of {failed.size} problems were not solved" if self.batched else "not solved"
        counts = tally(codes[failed])
        reasons = [f"{count} {status.name}: {status.what}; try: {status.remedy}" for status, count in counts.items()]
        first = f" (the first is number {int(np.argmax(failed))})" if self.batched else ""
        raise SolveError(f"{what}{first}\n  " + "\n  ".join(reasons), self)

    @property
    def batched(self) -> bool:
        """Whether results have a batch axis."""
        return self.linearization.result.status.ndim > 0

    def __repr__(self) -> str:
        result = self.linearization.result
        lines = [f"{type(self).__name__}({self.linearization.describe()}, backend {self.backend!r})"]
        shapes = ", ".join(f"{name} {_shape(getattr(self, name))}" for name in self.POINT)
        lines.append(f"  arrays      {shapes}")
        if result.status.size == 0:
            return "\n".join([*lines, "  status      empty batch"])
        codes, iterations = to_host(result.status), to_host(result.iterations)
        counts = tally(codes)
        lines.append(
            "  status      " + ", ".join(_count(status, count, self.batched) for status, count in counts.items())
        )
        low, high = int(iterations.min()), int(iterations.max())
        lines.append(f"  iterations  {low}" + (f" to {high}" if high > low else ""))
        lines.append(f"  method      {self._how()}")
        kept = keeps_point(codes)
        if np.any(kept):
            residuals = (("primal", result.primal_residual), ("dual", result.dual_residual), ("gap", result.gap))
            worst = ", ".join(f"{name} {float(np.max(to_host(values)[kept])):.1e}" for name, values in residuals)
            lines.append(f"  {'worst' if self.batched else 'residual'}{'       ' if self.batched else '    '}{worst}")
        if self.rescued:
            lines.append(f"  rescued     {self.rescued}")
        if codes.ndim == 0:
            lines.append(f"  objective   {float(to_host(result.obj)):.10g}")
        lines += [f"  {status.name}: {status.what}" for status in counts if status is not Status.SOLVED]
        return "\n".join(lines)

    def _how(self) -> str:
        """The method, and what it did beside its iterations."""
        if self.method == "ipm":
            return self.method
        work = self.work
        changes = f", {work.changes} changes of working sets" if work.changes else ""
        return f"{self.method}{changes}" + (f", {work.fallbacks} left to ipm" if work.fallbacks else "")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Solution(Outcome[Tangents, Cotangents]):
    """The solutions of a batch of cone programs, in the caller's own kind of array.

    Without a batch axis in any argument the results have none either.

    Attributes:
        x: minimisers [B, n]; of a dual infeasible problem its certificate; NaN where there is neither.
        y: multipliers [B, m]; of a primal infeasible problem its certificate; NaN where there is neither.
        s: slacks b − A x [B, m].
        obj: objective values ½ xᵀP x + qᵀx [B]; +inf where primal, −inf where dual infeasible.
        status: codes of `Status`, int8 [B].
        iterations: factorisations, interior-point iterations plus Newton steps; of a problem that the active set solved
            the rows that entered or left its working set; int32 [B].
        primal_residual: ‖A x + s − b‖∞ [B].
        dual_residual: ‖P x + q + Aᵀy‖∞ [B].
        gap: |primal − dual objective| [B].
        margin: distance of y − s to the nearest kink of the projection, relative to its size [B]; 0 is at a kink.
        backend: the name of what ran.
        method: "ipm" or "active_set", what the batch was given to; `work.fallbacks` counts the problems that the active
            set left to the interior point.
        linearization: what `jvp` and `vjp` are computed from: the solution and the data, which are borrowed, not
            copied. Do not overwrite either before the last derivative has been taken.

    On a GPU all of these stay there, and nothing waits for the solve until something is asked that the host must know:
    `bool(...)` of an array, `raise_for_status`, `repr`, `work`.
    """

    POINT = ("x", "y", "s", "obj")
    LATE = (*Outcome.LATE, "y", "s")

    y: Any
    s: Any

    def jvp(self, P: Any = None, q: Any = None, A: Any = None, b: Any = None) -> Tangents:
        """Forward-mode derivative: how the solutions move when the data do.

        With v = y − s and D the derivative of the projection onto K* at v, the tangents solve

            P ẋ + Aᵀ D v̇ = −(Ṗ x + q̇ + Ȧᵀ y),     A ẋ + D v̇ − v̇ = ḃ − Ȧ x,     ẏ = D v̇,  ṡ = ẏ − v̇.

        Several directions at once are an axis more, in front of the batch axis: tangents [K, B, n], or [K, 1, n] where
        all problems share them, and [K, n] where problems have no batch axis. A tangent without it is common to all K.

        Args:
            P: tangent [n, n] or [B, n, n], or of K directions; its symmetric part counts.
            q: tangent [n] or [B, n], or of K directions.
            A: tangent [m, n] or [B, m, n], or of K directions.
            b: tangent [m] or [B, m], or of K directions. None stands for zero everywhere; without a batch axis the
                tangent is shared.

        Returns:
            Tangents of x, y, s and obj, with the axis of directions if one of the arguments has it, each direction to
            the bits that it has alone; 0 where a problem was not solved (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, not as many directions as there are in another, or a tangent for an
                argument that the problem does not have.

        Cost: one factorisation of order n + m for each problem, whatever K, and one solve for each direction.

        Source: Busseti, Moursi and Boyd 2019; Healey, Nobel and Boyd 2025.
        """
        return self.linearization.jvp({"P": P, "q": q, "A": A, "b": b})

    def vjp(
        self,
        x: Any = None,
        y: Any = None,
        s: Any = None,
        obj: Any = None,
        *,
        wrt: Iterable[str] = ("P", "q", "A", "b"),
    ) -> Cotangents:
        """Reverse-mode derivative: the gradient of ⟨x̄, x⟩ + ⟨ȳ, y⟩ + ⟨s̄, s⟩ + ⟨ōbj, obj⟩; the adjoint of `jvp`.

        Several cotangents at once, the rows of a Jacobian say, have an axis more in front, as for `jvp`.

        Args:
            x: cotangent [n] or [B, n], or of K directions, [K, B, n].
            y: cotangent [m] or [B, m], or of K directions.
            s: cotangent [m] or [B, m], or of K directions.
            obj: cotangent, a number or [B], or of K directions, [K, B]. None stands for zero everywhere; without a
                batch axis it is shared.
            wrt: names of the arguments whose cotangents are wanted; nothing is computed for the others.

        Returns:
            Cotangents of P (bitwise symmetric), q, A and b, each of exactly its argument's shape, behind the axis of
            directions if there is one: that of an argument shared by the batch is the sum over the batch. Each
            direction has the bits that it has alone. 0 where a problem was not solved (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, not as many directions as there are in another, or an unknown name in
                `wrt`.

        Cost: one factorisation of order n + m for each problem, whatever K, and one solve for each direction; and what
        it takes to write the results, [K, B, m, n] for A.

        Source: Agrawal, Barratt, Boyd, Busseti and Moursi 2019; Healey, Nobel and Boyd 2025.
        """
        return self.linearization.vjp({"x": x, "y": y, "s": s, "obj": obj}, wrt)


def _shape(array: Any) -> str:
    shape = tuple(array.shape)
    return "[" + ", ".join(map(str, shape)) + "]"


def _count(status: Status, count: int, batched: bool) -> str:
    return f"{count} {status.name}" if batched else status.name
