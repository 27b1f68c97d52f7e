"""Problems in forms, and QPs: stacked in torch operations, so that the derivatives are those of the cone program.

The stack is read off the very links that the core reads (gpudiff/forms/plan.py). They are linear, and a field of a form
is linear or quadratic in the y and s of the cone program, so that every form has derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import torch

from gpudiff._errors import DeviceError
from gpudiff._foreign import foreign_solution
from gpudiff._problem import DATA, Array, as_cost, as_problem
from gpudiff._settings import Settings
from gpudiff._solution import Solution
from gpudiff._solve import finish, run_short
from gpudiff.forms.plan import Field, Link, Placed, Plan
from gpudiff.forms.stack import Stack, StackLinearization, is_number, planned, presence
from gpudiff.torch.algebra import RANKS, batch_of
from gpudiff.torch.arrays import direction, hidden, to_caller, to_core, transformed
from gpudiff.torch.autograd import FIELDS, differentiable

Tensor: TypeAlias = torch.Tensor
Made: TypeAlias = Callable[[Stack, Solution], Any]  # a solution in forms of the core, of that of its cone program


def solve_stacked(
    arguments: dict[str, Any],
    placed: tuple[Placed, ...],
    constants: tuple[Any, ...],
    settings: Settings,
    backend: str,
    start: Any,
    made: Made,
) -> Any:
    """Solve a problem in forms under autograd.

    Args:
        arguments: P, q and the arguments of the forms by name: tensors of one element type, Python numbers, or None.
        placed: the forms.
        constants: of each form.
        settings: of the solve.
        backend: "auto", or the name of a backend.
        start: the solution of a cone program, or None.
        made: see `Made`.

    Raises:
        DeviceError: the tensors do not lie in one place.
        ArgumentError: an argument is not acceptable.
    """
    q: Any = arguments["q"]
    as_cost(np.broadcast_to(0.0, tuple(q.shape)) if isinstance(q, torch.Tensor) else q)  # raises if it is none
    tensors: dict[str, Any] = {
        name: q.new_tensor(value) if is_number(value) else value for name, value in arguments.items()
    }
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != q.device:
            raise DeviceError(f"{name}: expected a tensor on {q.device}, where q lies, got one on {tensor.device}")
    plan = planned(placed, tensors, _presence(placed, tensors), constants)
    data = cone_program(plan, tensors)

    def run(arrays: dict[str, Array | None]) -> Solution:
        P, q, A, b = (arrays[name] for name in DATA)
        return run_short(as_problem(P, q, A, b, plan.cones), settings, backend, start)

    conic = differentiable(run, data)
    given = fields_of(plan.fields.items(), conic)
    inner: Any = conic.linearization
    if transformed():
        solution = made(Stack(plan, {}, inner.inner.problem), conic)
        given |= {name: getattr(conic, name) for name in FIELDS[len(Solution.POINT) :]}
        others = {name: value for name, value in vars(solution).items() if name != "linearization"}
        parts = vars(solution.linearization)
        return finish(type(solution)(_Hidden(**parts), **{**others, **given}), settings)
    arrays: dict[str, Array | None] = {name: None if t is None else to_core(t) for name, t in tensors.items()}
    stack = Stack(plan, arrays, inner.inner.problem)
    return finish(foreign_solution(made(stack, Solution(inner.inner)), direction, to_caller, **given), settings)


def cone_program(plan: Plan, tensors: dict[str, Any]) -> dict[str, Any]:
    """P, q, A and b of the cone program, from the arguments by name."""
    P, q, rows, n = tensors["P"], tensors["q"], plan.cones.rows, plan.n
    A = _assembled(plan.A, plan.whole_A, (rows, n), tensors, q)
    b = _assembled(plan.b, plan.whole_b, (rows,), tensors, q)
    if plan.batched and batch_of((P, q, A, b), RANKS) != plan.batch:
        q = q.expand(plan.batch, n)  # the batch axis is that of an argument which the cone program does not have
    return {"P": P, "q": q, "A": A, "b": b}


def fields_of(fields: Iterable[tuple[str, Field]], conic: Solution) -> dict[str, Tensor]:
    """x, obj and the fields of the forms, from the solution of the cone program."""
    given = {"x": conic.x, "obj": conic.obj}
    for name, field in fields:
        given[name] = _value(field, getattr(conic, field.source))
        if not field.links:  # a constant, which is part of the graph like all others
            obj = conic.obj[(..., *([None] * len(field.shape)))]
            given[name] = torch.where(torch.zeros_like(obj, dtype=torch.bool), obj, given[name])
    return given


class _Hidden(StackLinearization):
    """What a transform of `torch.func` leaves of a linearisation: the arguments are not what memory holds."""

    def jvp(self, tangents: dict[str, Any]) -> Any:
        """Not to be had.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_USE.format("jvp"))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Any:
        """Not to be had.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_USE.format("vjp"))


_USE = (
    "{0} of a solution in forms: expected to be called outside of the transforms of torch.func, got a call inside of "
    "one; use torch.func.{0}, or the solution of a cone program, gpudiff.solve"
)


def _presence(placed: tuple[Placed, ...], tensors: dict[str, Any]) -> dict[str, Any]:
    """In which rows each bound is finite somewhere; in all where that cannot be looked at, as on a GPU."""
    seen = {name: None if t is None or hidden(t) else to_core(t) for name, t in tensors.items()}
    masks = presence(placed, seen)
    return {name: True if mask is None and tensors[name] is not None else mask for name, mask in masks.items()}


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    """Some entries of the last axes; row numbers come as NumPy arrays."""
    places = (torch.as_tensor(i, device=tensor.device) if isinstance(i, np.ndarray) else i for i in index)
    return tensor[(..., *places)]


def _times(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else -tensor if factor == -1 else tensor * factor


def _assembled(
    links: tuple[Link, ...], whole: bool, shape: tuple[int, ...], sources: dict[str, Any], like: Tensor
) -> Tensor | None:
    """What links make of their sources: [*shape], with a batch axis if one of the sources has it."""
    if not shape[0]:
        return None
    core = len(shape)
    blocks: dict[tuple[int, int], Tensor] = {}
    for link in links:
        rows: slice = link.at[0]
        if link.source:
            part: Tensor = sources[link.source]
            part = part if link.of is None else _indexed(part, link.of)
            part = _times(part, link.factor)
        elif core == 1:
            part = like.new_full((rows.stop - rows.start,), link.factor)
        else:
            identity = torch.eye(shape[1], dtype=like.dtype, device=like.device)
            part = _times(identity if link.of is None else _indexed(identity, link.of), link.factor)
        key = (rows.start, rows.stop)
        blocks[key] = blocks[key] + part if key in blocks else part
    if not whole:
        end = 0
        for start, stop in [*sorted(blocks), (shape[0], shape[0])]:
            if start > end:
                blocks[end, start] = like.new_zeros(start - end, *shape[1:])
            end = stop
    batch = batch_of(tuple(blocks.values()), (core,) * len(blocks))
    lead = () if batch is None else (batch,)
    parts = [blocks[rows].expand(*lead, rows[1] - rows[0], *shape[1:]) for rows in sorted(blocks)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -core)


def _value(field: Field, source: Tensor) -> Tensor:
    """A field of a form, of the y or s of the cone program."""
    if len(field.links) == 1 and not field.gaps and field.square is None:
        link = field.links[0]
        if link.factor == 1 and len(link.at) == 1 and link.at[0] == slice(None) and link.of is not None:
            return source[..., link.of[0]]
    out = source.new_zeros((*source.shape[:-1], *field.shape))
    for at, fill in field.gaps:
        out[(..., *at)] = fill
    if field.gaps and source.shape[-1]:  # NaN all over where y and s are: problems without any
        failed = torch.isnan(source[..., 0])[(..., *([None] * len(field.shape)))]
        out = torch.where(failed, torch.nan, out)
    for link in field.links:
        assert link.of is not None
        at = tuple(torch.as_tensor(i, device=out.device) if isinstance(i, np.ndarray) else i for i in link.at)
        out[(..., *at)] += _times(_indexed(source, link.of), link.factor)
    if field.square is not None:
        out = out - (source[..., field.square] ** 2).sum(-1)[(..., *([None] * len(field.shape)))] / 2
    return out
