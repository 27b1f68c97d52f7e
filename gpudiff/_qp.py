"""`solve_qp`: quadratic programs in the form and with the names of qpsolvers, stacked into one cone program and back.

The rows of the cone program are [A; G; one per upper bound; one per lower bound] with the cones Zero and Nonnegative.
A variable whose bound is infinite in every problem has no row for it; on a GPU, where looking would wait for the
device, it has one with +inf on the right, which stands for no row as well. What is shared by the batch stays shared:
rows are expanded over the batch only where a block that they stand in one matrix with has a batch axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpudiff._arrays import surface
from gpudiff._cones import Nonnegative, Zero
from gpudiff._device import DeviceArray, empty, eye, on_device, zeros
from gpudiff._errors import ArgumentError, ShapeError
from gpudiff._problem import (
    Array,
    Problem,
    as_array,
    as_cost,
    as_direction,
    as_problem,
    check_places,
    check_shape,
    chosen,
    common_batch,
    has_batch,
    show,
    unify,
)
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Block, Outcome, Result, Solution
from gpudiff._solve import finish, run_short

QP_DATA = ("P", "q", "G", "h", "A", "b", "lb", "ub")
QP_POINT = ("x", "y", "z", "z_box", "obj")
_CORE = {"P": 2, "q": 1, "G": 2, "h": 1, "A": 2, "b": 1, "lb": 1, "ub": 1}


@dataclass(frozen=True, eq=False)
class QPTangents:
    """Forward-mode derivatives of a QP's solution: x and z_box [B, n], y [B, p], z [B, k], obj [B]."""

    x: Any
    y: Any
    z: Any
    z_box: Any
    obj: Any


@dataclass(frozen=True, eq=False)
class QPCotangents:
    """Reverse-mode derivatives, each of exactly its argument's shape; None where absent or not asked for."""

    P: Any = None
    q: Any = None
    G: Any = None
    h: Any = None
    A: Any = None
    b: Any = None
    lb: Any = None
    ub: Any = None


@dataclass(frozen=True, eq=False, init=False, repr=False)
class QPSolution(Outcome[QPTangents, QPCotangents]):
    """The solutions of a batch of quadratic programs, in the caller's own kind of array.

    Attributes:
        x: minimisers [B, n].
        y: multipliers of A x = b [B, p].
        z: multipliers of G x ≤ h [B, k].
        z_box: multipliers of the bounds [B, n], positive at the upper and negative at the lower one.
        conic: the solution of the stacked cone program.
        obj: see `Solution`, as for all fields that are not listed here.
    """

    POINT = QP_POINT

    y: Any
    z: Any
    z_box: Any
    conic: Solution

    def jvp(
        self,
        P: Any = None,
        q: Any = None,
        G: Any = None,
        h: Any = None,
        A: Any = None,
        b: Any = None,
        lb: Any = None,
        ub: Any = None,
    ) -> QPTangents:
        """Forward-mode derivative: how the solutions move when the data do; see `Solution.jvp`.

        Args:
            P: tangent [n, n] or [B, n, n]; its symmetric part counts.
            q: tangent [n] or [B, n].
            G: tangent [k, n] or [B, k, n].
            h: tangent [k] or [B, k].
            A: tangent [p, n] or [B, p, n].
            b: tangent [p] or [B, p].
            lb: tangent [n] or [B, n]; without effect where the bound is infinite.
            ub: tangent [n] or [B, n]; without effect where the bound is infinite.

        Returns:
            Tangents of x, y, z, z_box and obj; 0 where a problem was not solved.

        Raises:
            ArgumentError: wrong shape or type, or a tangent for an argument that the problem does not have.
        """
        return self.linearization.jvp(
            {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub},
        )

    def vjp(
        self,
        x: Any = None,
        y: Any = None,
        z: Any = None,
        z_box: Any = None,
        obj: Any = None,
        *,
        wrt: Iterable[str] = QP_DATA,
    ) -> QPCotangents:
        """Reverse-mode derivative, the adjoint of `jvp`; see `Solution.vjp`.

        Args:
            x: cotangent [n] or [B, n].
            y: cotangent [p] or [B, p].
            z: cotangent [k] or [B, k].
            z_box: cotangent [n] or [B, n].
            obj: cotangent, a number or [B].
            wrt: names of the arguments whose cotangents are wanted; nothing is computed for the others.

        Returns:
            Cotangents of P, q, G, h, A, b, lb and ub, each of exactly its argument's shape (summed over the batch where
            it is shared); 0 at infinite bounds and where a problem was not solved.

        Raises:
            ArgumentError: wrong shape or type, or an unknown name in `wrt`.
        """
        return self.linearization.vjp({"x": x, "y": y, "z": z, "z_box": z_box, "obj": obj}, wrt)


def solve_qp(
    P: Any,
    q: Any,
    G: Any = None,
    h: Any = None,
    A: Any = None,
    b: Any = None,
    lb: Any = None,
    ub: Any = None,
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: QPSolution | None = None,
) -> QPSolution:
    """Solve a batch of convex quadratic programs.

        minimise    ½ xᵀP x + qᵀx
        subject to  G x ≤ h,   A x = b,   lb ≤ x ≤ ub
        dual        P x + q + Gᵀz + Aᵀy + z_box = 0,   z ≥ 0

    Arguments have the order, and multipliers the names and signs, of qpsolvers. Sharing, element types and kinds of
    array are those of `solve`.

    Args:
        P: [B, n, n], symmetric positive semidefinite, both triangles; None for a linear objective.
        q: [B, n].
        G: [B, k, n], together with h.
        h: [B, k]; +inf leaves that row out.
        A: [B, p, n], together with b.
        b: [B, p].
        lb: [B, n]; −inf where there is no bound. lb > ub is an infeasible problem.
        ub: [B, n]; +inf where there is no bound.
        settings: tolerances and options; None for the defaults of `Settings`.
        backend: "auto", or the name of a backend.
        warm_start: an earlier `QPSolution` of problems of the same size, and with bounds in the same places, to start
            from; see `solve`.

    Returns:
        A `QPSolution` with x, y, z, z_box, obj, status, and jvp and vjp in all eight arrays.

    Raises:
        ArgumentError: an argument has a wrong shape, type or value (`ShapeError`, `DtypeError`, … are subclasses).
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.
    """
    foreign = surface(P, q, G, h, A, b, lb, ub)
    if foreign is not None:
        return foreign.solve_qp(P, q, G, h, A, b, lb, ub, settings, backend, warm_start)
    settings = as_settings(settings)
    stack = _Stack.of(P, q, G, h, A, b, lb, ub)
    start = None
    if warm_start is not None:
        if not isinstance(warm_start, QPSolution):  # pyright: ignore[reportUnnecessaryIsInstance]  # user input
            raise ArgumentError(f"warm_start: expected a QPSolution or None, got {type(warm_start).__name__}")
        start = warm_start.conic
    conic = run_short(stack.problem, settings, backend, start)
    y, z, z_box = stack.split(conic.y)
    solution = QPSolution(_QPLinearization(stack, conic), y=y, z=z, z_box=z_box, conic=conic)
    return finish(solution, settings)


class _Blocks(NamedTuple):
    """Where each block's rows are."""

    A: slice
    G: slice
    ub: slice
    lb: slice


class _Bounded(NamedTuple):
    """The variables with a row for their bound: an index of the last axis, and how many they are."""

    index: Any
    extent: int


@dataclass(frozen=True, eq=False)
class _Stack:
    """The cone program of a QP, and the way between the two."""

    data: dict[str, Array | None]
    blocks: _Blocks
    upper: _Bounded
    lower: _Bounded
    problem: Problem

    @classmethod
    def of(cls, P: Any, q: Any, G: Any, h: Any, A: Any, b: Any, lb: Any, ub: Any) -> _Stack:
        """Check the arguments of `solve_qp` and stack them.

        Raises:
            ArgumentError: a subclass of it, with a message that names the argument.
        """
        for matrix, vector, names in ((G, h, "Gh"), (A, b, "Ab")):
            if (matrix is None) != (vector is None):
                missing, given = names if matrix is None else reversed(names)
                raise ShapeError(f"{missing}: expected an array, for {given} is given, got None")
        cost = as_cost(q)
        values = zip(QP_DATA, (P, cost, G, h, A, b, lb, ub), strict=True)
        read = {name: None if value is None else as_array(name, value) for name, value in values}
        if DeviceArray in map(type, read.values()):
            check_places(read.items())
        p, k = _sizes(read, cost.shape[-1])
        batch = common_batch((name, array, _CORE[name]) for name, array in read.items())
        arrays, dtype = unify(read.values())
        data: dict[str, Array | None] = dict(zip(read, arrays, strict=True))
        upper, lower = _bounded(data["ub"], np.inf), _bounded(data["lb"], -np.inf)
        ends = np.cumsum([p, k, upper.extent, lower.extent]).tolist()
        blocks = _Blocks(slice(0, p), slice(p, ends[1]), slice(ends[1], ends[2]), slice(ends[2], ends[3]))
        matrix = _stacked([data["A"], data["G"], *_bound_rows(cost, upper, lower, dtype)], 2)
        vector = _stacked([data["b"], data["h"], _take(data["ub"], upper), _negative(_take(data["lb"], lower))], 1)
        cones = (Zero(p), Nonnegative(ends[3] - p))
        problem = as_problem(data["P"], data["q"], matrix, vector, cones, batch)
        return cls(data, blocks, upper, lower, problem)

    def describe(self) -> str:
        """Sizes for a message."""
        problem, blocks = self.problem, self.blocks
        batch = f"B={problem.batch}, " if problem.batched else ""
        rows = f"{blocks.A.stop} equalities, {blocks.G.stop - blocks.G.start} inequalities"
        return f"{batch}n={problem.n}, {rows}, {self.upper.extent + self.lower.extent} bounds, {problem.dtype}"

    def split(self, y: Array) -> tuple[Array, Array, Array]:
        """The multipliers of the cone program, or their tangents, as y, z and z_box."""
        blocks, n = self.blocks, self.problem.n
        box = zeros(y, (*y.shape[:-1], n), y.dtype)
        if blocks.lb.stop > blocks.ub.start and n not in (self.upper.extent, self.lower.extent):
            # A multiplier that is NaN marks a problem without solution, also in variables without a bound.
            box[np.isnan(y[..., blocks.ub.start])] = np.nan
        if self.upper.extent:
            box[..., self.upper.index] += y[..., blocks.ub]
        if self.lower.extent:
            box[..., self.lower.index] -= y[..., blocks.lb]
        return y[..., blocks.A], y[..., blocks.G], box

    def join(self, y: Array | None, z: Array | None, box: Array | None) -> Array | None:
        """Cotangents of y, z and z_box as that of the multipliers of the cone program; the adjoint of `split`."""
        if y is None and z is None and box is None:
            return None
        return self._filled([y, z, _take(box, self.upper), _negative(_take(box, self.lower))], ())

    def vector_dot(self, dots: dict[str, Array | None]) -> Array | None:
        """Tangents of b, h, ub and lb as that of the stacked vector."""
        parts = [dots["b"], dots["h"], _take(dots["ub"], self.upper), _negative(_take(dots["lb"], self.lower))]
        return None if all(part is None for part in parts) else self._filled(parts, ())

    def matrix_dot(self, dots: dict[str, Array | None]) -> Array | None:
        """Tangents of A and G as that of the stacked matrix; the rows of bounds do not move."""
        if dots["A"] is None and dots["G"] is None:
            return None
        return self._filled([dots["A"], dots["G"], None, None], (self.problem.n,))

    def _filled(self, parts: list[Array | None], width: tuple[int, ...]) -> Array | None:
        """Stack a direction's blocks, zeros for those that are None."""
        shapes = [(rows.stop - rows.start, *width) for rows in self.blocks]
        dtype = self.problem.dtype
        like = self.problem.q
        blocks = [
            zeros(like, shape, dtype) if part is None else part for part, shape in zip(parts, shapes, strict=True)
        ]
        return _stacked(blocks, 1 + len(width))

    def cotangent(self, name: str, matrix: Array | None, vector: Array | None) -> Array:
        """The cotangent of A, b, G, h, lb or ub, out of those of the stacked matrix and vector."""
        like, core = self.data[name], _CORE[name]
        assert like is not None
        out = zeros(like, like.shape, self.problem.dtype)
        rows: slice = getattr(self.blocks, {"b": "A", "h": "G"}.get(name, name))
        bar = matrix if core == 2 else vector
        if bar is None or rows.start == rows.stop:
            return out  # nothing depends on it
        part = bar[..., rows, :] if core == 2 else bar[..., rows]
        if part.ndim > core and not has_batch(like, core, self.problem.batch):
            part = part.sum(axis=0)  # it was expanded because a neighbour has a batch axis
        if name == "ub":
            out[..., self.upper.index] = part
        elif name == "lb":
            out[..., self.lower.index] = -part
        else:
            out[...] = part
        return out


@dataclass(frozen=True, eq=False)
class _QPLinearization:
    """The derivative of the solution map of a QP: that of its cone program between two changes of form."""

    stack: _Stack
    conic: Solution

    @property
    def result(self) -> Result:
        """The solution of the cone program as the backend left it."""
        return self.conic.linearization.result

    @property
    def point(self) -> Result | Block:
        """Where the solve of the cone program ended."""
        return self.conic.linearization.point

    def field(self, name: str) -> Any:
        """A field of `Outcome`, which is that of the cone program."""
        return getattr(self.conic, name)

    def describe(self) -> str:
        """Sizes for a message."""
        return self.stack.describe()

    def jvp(self, tangents: dict[str, Any]) -> QPTangents:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        stack = self.stack
        dots: dict[str, Array | None] = {}
        for name in QP_DATA:
            value, data = tangents.get(name), stack.data[name]
            if value is not None and data is None:
                raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
            core = () if data is None else data.shape[data.ndim - _CORE[name] :]
            dots[name] = None if value is None else as_direction(name, value, core, stack.problem)
        dot = self.conic.jvp(P=dots["P"], q=dots["q"], A=stack.matrix_dot(dots), b=stack.vector_dot(dots))
        y, z, z_box = stack.split(dot.y)
        return QPTangents(dot.x, y, z, z_box, dot.obj)

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> QPCotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        stack = self.stack
        wanted = [name for name in chosen(wrt, QP_DATA, "wrt") if stack.data[name] is not None]
        blocks = stack.blocks
        cores = {
            "y": (blocks.A.stop,),
            "z": (blocks.G.stop - blocks.G.start,),
            "z_box": (stack.problem.n,),
        }
        bars = {
            name: None if cotangents.get(name) is None else as_direction(name, cotangents[name], core, stack.problem)
            for name, core in cores.items()
        }
        names = [name for name in ("P", "q") if name in wanted]
        names += ["A"] if {"A", "G"} & set(wanted) else []
        names += ["b"] if {"b", "h", "lb", "ub"} & set(wanted) else []
        joined = stack.join(bars["y"], bars["z"], bars["z_box"])
        bar = self.conic.vjp(x=cotangents.get("x"), y=joined, obj=cotangents.get("obj"), wrt=names)
        out: dict[str, Array] = {}
        for name in wanted:
            if name in ("P", "q"):
                out[name] = getattr(bar, name)
            else:
                out[name] = stack.cotangent(name, bar.A, bar.b)
        return QPCotangents(**out)


def _sizes(data: dict[str, Array | None], n: int) -> tuple[int, int]:
    """Equalities and inequalities, having checked every shape."""
    rows = {"Ab": 0, "Gh": 0}
    for matrix, vector in rows:
        array, right = data[matrix], data[vector]
        if array is None or right is None:
            continue
        if not 1 <= right.ndim <= 2:
            raise ShapeError(f"{vector}: expected shape (rows,) or (B, rows), got {show(right.shape)}")
        rows[matrix + vector] = r = right.shape[-1]
        check_shape(matrix, array, (r, n), f"{r} rows from {vector}, n={n} from q")
    for name, core in (("P", (n, n)), ("lb", (n,)), ("ub", (n,))):
        array = data[name]
        if array is not None:
            check_shape(name, array, core, f"n={n} from q")
    return rows["Ab"], rows["Gh"]


def _bounded(bound: Array | None, absent: float) -> _Bounded:
    """The variables whose bound is something else than `absent` in some problem; on a GPU all of them."""
    if bound is None:
        return _Bounded(slice(0, 0), 0)
    if on_device(bound):
        return _Bounded(slice(None), bound.shape[-1])
    present = bound != absent
    variables = np.flatnonzero(present if bound.ndim == 1 else present.any(axis=0))
    return _Bounded(variables, variables.size)


def _bound_rows(like: Array, upper: _Bounded, lower: _Bounded, dtype: Any) -> tuple[Array | None, Array | None]:
    if not upper.extent and not lower.extent:
        return None, None
    identity = eye(like, like.shape[-1], dtype)
    return identity[upper.index], -identity[lower.index]


def _take(bound: Array | None, variables: _Bounded) -> Array | None:
    return None if bound is None else bound[..., variables.index]


def _negative(array: Array | None) -> Array | None:
    return None if array is None else -array


def _stacked(parts: Iterable[Array | None], core: int) -> Array | None:
    """Blocks one below the other, with a batch axis only if one of them has it; a block alone is not copied."""
    blocks = [part for part in parts if part is not None and part.shape[-core] > 0]
    if not blocks:
        return None
    if len(blocks) == 1:
        return blocks[0]
    extents = [block.shape[0] for block in blocks if block.ndim > core]
    lead = (next((extent for extent in extents if extent != 1), 1),) if extents else ()
    rows = sum(block.shape[-core] for block in blocks)
    out = empty(blocks[0], (*lead, rows, *blocks[0].shape[blocks[0].ndim - core + 1 :]), blocks[0].dtype)
    start = 0
    for block in blocks:
        stop = start + block.shape[-core]
        out[(..., slice(start, stop), *([slice(None)] * (core - 1)))] = block
        start = stop
    return out
