"""The cone program of a list of forms and the way between the two: for data and tangents there, for cotangents back.

What is shared by the batch stays shared: rows are expanded over the batch only where others that stand in one matrix
with them have a batch axis. On a GPU nothing is looked at; bounds that are infinite everywhere keep their rows there,
with +inf on the right, which stands for no row as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpudiff._derivative import ConeLinearization, item
from gpudiff._device import DeviceArray, empty, eye, on_device, zeros
from gpudiff._errors import ShapeError
from gpudiff._problem import (
    Array,
    Problem,
    as_array,
    as_cost,
    as_directions,
    as_problem,
    check_places,
    chosen,
    has_batch,
    unify,
)
from gpudiff._settings import Settings
from gpudiff._solution import Block, Result, Solution
from gpudiff.forms.plan import Field, Link, Placed, Plan, make_plan

_MOST = 256  # plans that are remembered

_plans: dict[Any, Plan] = {}


@dataclass(frozen=True, eq=False)
class Stack:
    """A checked problem in forms, and its cone program.

    Attributes:
        plan: what goes where.
        data: the arguments by name, of one element type; None for those that are absent.
        problem: the cone program.
    """

    plan: Plan
    data: dict[str, Array | None]
    problem: Problem

    @classmethod
    def of(
        cls, P: Any, q: Any, placed: tuple[Placed, ...], values: dict[str, Any], constants: tuple[Any, ...]
    ) -> Stack:
        """Check the arguments and stack them.

        Args:
            P: as for `solve`.
            q: as for `solve`.
            placed: the forms.
            values: their arguments, by name.
            constants: of each form, see `Form.constants`.

        Raises:
            ArgumentError: a subclass of it, with a message that names the argument.
        """
        cost = as_cost(q)
        numbers = {name: value for name, value in values.items() if is_number(value)}
        read: dict[str, Array | None] = {"P": None if P is None else as_array("P", P), "q": cost}
        for name, value in values.items():
            read[name] = None if value is None else as_array(name, value)
        if on_device(cost) or any(map(on_device, read.values())):
            check_places((name, array) for name, array in read.items() if name not in numbers)
        masks = presence(placed, read)
        plan = planned(placed, read, masks, constants)
        arrays, dtype = unify(None if name in numbers else array for name, array in read.items())
        data: dict[str, Array | None] = dict(zip(read, arrays, strict=True))
        for name, number in numbers.items():
            data[name] = value = zeros(cost, (), dtype)
            value[...] = number
        matrix = _assembled(plan.A, plan.whole_A, (plan.cones.rows, plan.n), data, cost, dtype)
        vector = _assembled(plan.b, plan.whole_b, (plan.cones.rows,), data, cost, dtype)
        batch = plan.batch, plan.batched
        problem = as_problem(data["P"], data["q"], matrix, vector, plan.cones, batch)
        return cls(plan, data, problem)

    def matrix_dot(self, dots: dict[str, Array | None]) -> Array | None:
        """Tangents of the arguments as that of the matrix; None for zero."""
        return self._dot(self.plan.A, self.plan.whole_A, (self.problem.m, self.problem.n), dots)

    def vector_dot(self, dots: dict[str, Array | None]) -> Array | None:
        """Tangents of the arguments as that of the vector; None for zero."""
        return self._dot(self.plan.b, self.plan.whole_b, (self.problem.m,), dots)

    def _dot(
        self, links: tuple[Link, ...], whole: bool, shape: tuple[int, ...], dots: dict[str, Array | None]
    ) -> Array | None:
        moving = tuple(link for link in links if dots.get(link.source) is not None)
        if not moving:
            return None
        return _assembled(moving, whole and len(moving) == len(links), shape, dots, self.problem.q, self.problem.dtype)

    def cotangent(self, name: str, matrix: Array | None, vector: Array | None, directions: int | None) -> Array:
        """The cotangent of an argument, out of those of the matrix and the vector, for so many directions."""
        like, rank = self.data[name], len(self.plan.cores[name])
        assert like is not None
        links = self.plan.arguments[name]
        shared = not has_batch(like, rank, self.problem.batch)
        alone = len(links) == 1 and links[0][1].of is None
        front = () if directions is None else (directions,)
        whole = (empty if alone else zeros)(like, (*front, *like.shape), self.problem.dtype)
        # That of a shared argument without its batch axis, if it has one: what is added to it has none.
        out = whole[(slice(None),) * len(front) + (0, ...)] if shared and like.ndim > rank else whole
        for core, link in links:
            bar = matrix if core == 2 else vector
            assert bar is not None
            part = bar[(..., *link.at)]
            if link.lifted and part.shape[-core] != 1:  # one number for all rows; the axis stays, to be lifted back
                part = part[..., None, :].sum(axis=-1)
            if shared and part.ndim > len(front) + core:
                part = part.sum(axis=len(front))  # it was expanded because a neighbour has a batch axis
            if alone:
                out[...] = _times(part, link.factor)
            else:
                out[... if link.of is None else (..., *link.of)] += _times(part, link.factor)
        return whole

    def joined(self, source: str, bars: dict[str, Array | None], slacks: Array | None) -> Array | None:
        """Cotangents of the fields that are made of `source` as that of the y or s of the cone program.

        Args:
            source: "y" or "s".
            bars: by name of the field; None for zero.
            slacks: s of the cone program, where it is known that a field needs it.
        """
        given = [(field, bars[name]) for name, field in self.plan.fields.items() if field.source == source]
        given = [(field, bar) for field, bar in given if bar is not None]
        if not given:
            return None
        fronts = [bar.shape[: bar.ndim - len(field.shape)] for field, bar in given]
        if any(field.square is not None for field, _ in given):
            fronts.append(self.problem.lead)  # one s̄ for all problems becomes one for each by their slacks
        front = np.broadcast_shapes(*fronts)
        out = zeros(self.problem.q, (*front, self.problem.m), self.problem.dtype)
        for field, bar in given:
            for link in field.links:
                assert link.of is not None
                out[(..., *link.of)] += _times(bar[(..., *link.at)], link.factor)
            if field.square is not None:
                assert slacks is not None
                out[..., field.square] += _times(slacks[..., field.square] * bar[..., None], -1)
        return out


@dataclass(frozen=True, eq=False)
class StackLinearization:
    """The derivative of the solution map of a problem in forms: that of its cone program between two changes of form.

    Attributes:
        stack: the problem.
        conic: the solution of its cone program.
        tangents: makes what `jvp` gives of its fields by name,
        cotangents: and what `vjp` gives.
        sizes: what `describe` says.
    """

    stack: Stack
    conic: Solution
    tangents: Callable[..., Any]
    cotangents: Callable[..., Any]
    sizes: Callable[[Stack], str]

    @property
    def result(self) -> Result:
        """The solution of the cone program as the backend left it."""
        return self.conic.linearization.result

    @property
    def settings(self) -> Settings:
        """How the cone program was solved."""
        return self.conic.linearization.settings

    @property
    def point(self) -> Result | Block:
        """Where the solve of the cone program ended."""
        return self.conic.linearization.point

    def field(self, name: str) -> Any:
        """A field of `Outcome`, which is that of the cone program, or one of a form."""
        field = self.stack.plan.fields.get(name)
        if field is None:
            return getattr(self.conic, name)
        return _value(field, getattr(self.conic, field.source))

    def describe(self) -> str:
        """Sizes for a message."""
        return self.sizes(self.stack)

    def unique(self) -> Any:
        """Where derivatives are those of a function."""
        return self.conic.linearization.unique()

    def jvp(self, tangents: dict[str, Any]) -> Any:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        stack, cone = self.stack, self._cone
        for name, value in tangents.items():
            if value is not None and stack.data[name] is None:
                raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
        given = ((name, tangents.get(name), core) for name, core in stack.plan.cores.items())
        arrays, directions = as_directions(given, stack.problem)
        dots = dict(zip(stack.plan.cores, arrays, strict=True))
        data = {"P": dots.get("P"), "q": dots["q"], "A": stack.matrix_dot(dots), "b": stack.vector_dot(dots)}
        dot = cone.jvp(data, directions)
        fields: dict[str, Any] = {}
        for name, field in stack.plan.fields.items():
            made = _tangent(field, getattr(dot, field.source), self._slacks(field))
            fields[name] = cone.mark_tangent(made, len(field.shape))
        return self.tangents(x=dot.x, obj=dot.obj, **fields)

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Any:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        stack = self.stack
        wanted = [name for name in chosen(wrt, tuple(stack.data), "wrt") if stack.data[name] is not None]
        cores = {"x": (stack.problem.n,), "obj": (), **{name: field.shape for name, field in stack.plan.fields.items()}}
        given = ((name, cotangents.get(name), core) for name, core in cores.items())
        arrays, directions = as_directions(given, stack.problem)
        bars = dict(zip(cores, arrays, strict=True))
        slacks: Array | None = None
        for name, field in stack.plan.fields.items():
            if bars[name] is not None and slacks is None:
                slacks = self._slacks(field)
        names = [name for name in ("P", "q") if name in wanted]
        rows = [name for name in wanted if name not in names]
        needed = {core for name in rows for core, _ in stack.plan.arguments[name]}
        names += [name for name, core in (("A", 2), ("b", 1)) if core in needed]
        seeds = {"x": bars["x"], "obj": bars["obj"], "y": stack.joined("y", bars, None)}
        bar = self._cone.vjp({**seeds, "s": stack.joined("s", bars, slacks)}, names, directions)
        found: dict[str, Any] = {name: getattr(bar, name) for name in ("P", "q") if name in names}
        for name in rows:
            made = stack.cotangent(name, bar.A, bar.b, directions)
            found[name] = self._cone.mark_cotangent(made, stack.data[name], len(stack.plan.cores[name]))
        return self.cotangents(**found)

    @property
    def _cone(self) -> ConeLinearization:
        """The derivative of the cone program, in arrays of the core."""
        linearization: Any = self.conic.linearization
        return linearization

    def _slacks(self, field: Field) -> Array | None:
        """The slacks that the derivative of a field depends on, zeros for those of problems without any."""
        if field.square is None:
            return None
        s: Any = self.conic.s
        if isinstance(s, DeviceArray):
            return s.package.wrap(s.package.where(s.native == s.native, s.native, 0.0))  # pyright: ignore[reportReturnType]
        return np.where(np.isnan(s), s.dtype.type(0), s)


def is_number(value: Any) -> bool:
    """Whether an argument is a Python number: it then takes the element type, and the place, of the arrays."""
    return type(value) is float or type(value) is int


def presence(placed: tuple[Placed, ...], read: dict[str, Array | None]) -> dict[str, Any]:
    """In which rows each bound is something else than infinite in some problem: True for all; None for no bound."""
    masks: dict[str, Any] = {}
    for form in placed:
        for own, absent in form.kind.INFINITE.items():
            name = form.arguments[own]
            bound = read[name]
            if bound is None or on_device(bound):
                masks[name] = None if bound is None else True
                continue
            present = bound != absent
            if present.all():
                masks[name] = True
                continue
            present = present.any(axis=0) if bound.ndim > 1 else present
            masks[name] = bool(present.all()) if present.all() == present.any() else present
    return masks


def planned(
    placed: tuple[Placed, ...],
    arrays: dict[str, Array | None],
    masks: dict[str, Any],
    constants: tuple[Any, ...],
) -> Plan:
    """The plan for problems of these forms and shapes, made when the first of them comes."""
    shapes = tuple([None if array is None else array.shape for array in arrays.values()])
    seen = tuple([mask.tobytes() if isinstance(mask, np.ndarray) else mask for mask in masks.values()])
    key = (placed, shapes, seen, constants)
    plan = _plans.get(key)
    if plan is None:
        plan = make_plan(placed, arrays, masks, constants)
        if len(_plans) >= _MOST:
            _plans.clear()
        _plans[key] = plan
    return plan


def _times(array: Array, factor: float) -> Array:
    return array if factor == 1 else -array if factor == -1 else array * array.dtype.type(factor)


@lru_cache(maxsize=64)
def _identity(n: int, dtype: np.dtype[Any]) -> Array:
    identity = np.eye(n, dtype=dtype)
    identity.flags.writeable = False
    return identity


def _assembled(
    links: tuple[Link, ...],
    whole: bool,
    shape: tuple[int, ...],
    sources: dict[str, Array | None],
    like: Array,
    dtype: np.dtype[Any],
) -> Array | None:
    """What links make of their sources: [*shape], with the leading axes that their sources have.

    An argument that is all there is is not copied.
    """
    if not shape[0]:
        return None
    core = len(shape)
    parts: list[Array | float] = []
    leads: list[tuple[int, ...]] = []
    for link in links:
        if link.source:
            part = sources[link.source]
            assert part is not None
            if link.of is not None:
                part = part[(..., *link.of)]
            if part.ndim > core:
                leads.append(part.shape[: part.ndim - core])
            if len(links) == 1 and whole and link.factor == 1 and not link.lifted:
                return part
            parts.append(_times(part, link.factor))
        elif core == 1:
            parts.append(link.factor)
        else:
            rows = eye(like, shape[1], dtype) if on_device(like) else _identity(shape[1], dtype)
            parts.append(_times(rows if link.of is None else rows[link.of], link.factor))
    lead = np.broadcast_shapes(*leads) if len(leads) > 1 else leads[0] if leads else ()
    out = empty(like, (*lead, *shape), dtype) if whole else zeros(like, (*lead, *shape), dtype)
    for link, part in zip(links, parts, strict=True):
        if link.first:
            out[(..., *link.at)] = part
        else:
            out[(..., *link.at)] += part
    return out


def _value(field: Field, source: Array) -> Any:
    """A field of a form, of the y or s of the cone program."""
    if len(field.links) == 1 and not field.gaps and field.square is None:
        link = field.links[0]
        if link.factor == 1 and len(link.at) == 1 and link.at[0] == slice(None) and link.of is not None:
            return source[..., link.of[0]]
    out = zeros(source, (*source.shape[:-1], *field.shape), source.dtype)
    for at, fill in field.gaps:
        out[(..., *at)] = fill
    if field.gaps and source.shape[-1]:
        out = _marked(out, source[..., 0], len(field.shape))
    return item(_linked(field, source, source, out))


def _tangent(field: Field, source: Array, slacks: Array | None) -> Any:
    """The tangent of a field of a form; nothing moves where no link leads to."""
    if len(field.links) == 1 and not field.gaps and field.square is None:
        return _value(field, source)
    out = zeros(source, (*source.shape[:-1], *field.shape), source.dtype)
    return item(_linked(field, source, slacks, out, 1.0))


def _linked(field: Field, source: Array, slacks: Array | None, out: Array, half: float = 0.5) -> Array:
    """Add what links, and the square, make of a source to `out`."""
    for link in field.links:
        assert link.of is not None
        out[(..., *link.at)] += _times(source[(..., *link.of)], link.factor)
    if field.square is not None:
        assert slacks is not None
        rows = slacks[..., field.square] * source[..., field.square]
        out[..., None] -= _times(rows[..., None, :].sum(axis=-1), half)
    return out


def _marked(out: Array, sign: Any, core: int) -> Array:
    """Fields with NaN all over where `sign`, of which they are made, is NaN: problems without any."""
    if isinstance(out, DeviceArray):
        keep = (sign.native == sign.native)[(..., *([None] * core))]
        return out.package.wrap(out.package.where(keep, out.native, np.nan))  # pyright: ignore[reportReturnType]
    out[np.isnan(sign)] = np.nan
    return out
