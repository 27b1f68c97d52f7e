"""The solve and its backward pass as operators of torch, for graphs that torch.compile and torch.export make.

torch.compile does not follow the autograd functions that the rest of this package is made of, but takes an operator as
it is: `torch.ops.gpudiff.solve` knows its shapes, its derivative, `torch.ops.gpudiff.vjp`, and how it is mapped.
What is no tensor goes through as text (gpudiff/torch/text.py). A graph differentiates a solve once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from gpudiff import _solve
from gpudiff._dispatch import select
from gpudiff._method import choose
from gpudiff._problem import DATA, as_problem
from gpudiff._solution import Solution
from gpudiff.torch.algebra import RANKS, batch_of, fold, unfold
from gpudiff.torch.arrays import to_caller, to_core
from gpudiff.torch.autograd import FIELDS
from gpudiff.torch.directions import Site, Spec
from gpudiff.torch.text import parsed_cones, parsed_settings

Tensor: TypeAlias = torch.Tensor
_DATA = "Tensor? P, Tensor q, Tensor? A, Tensor? b, "
_BARS = "Tensor? x_bar, Tensor? y_bar, Tensor? s_bar, Tensor? obj_bar, "
_TEXT = "str cones, str settings, str backend"


@torch.library.custom_op(
    "gpudiff::solve", mutates_args=(), schema=f"({_DATA}{_TEXT}) -> ({', '.join(['Tensor'] * len(FIELDS))})"
)
def solve(
    P: Tensor | None, q: Tensor, A: Tensor | None, b: Tensor | None, cones: str, settings: str, backend: str
) -> tuple[Tensor, ...]:
    """The fields x, y, s, obj, status, iterations, primal_residual, dual_residual, gap and margin of a `Solution`."""
    data: Any = {name: None if t is None else to_core(t) for name, t in zip(DATA, (P, q, A, b), strict=True)}
    solution = _solve.solve(**data, cones=parsed_cones(cones), settings=parsed_settings(settings), backend=backend)
    return tuple(to_caller(getattr(solution, name)).clone() for name in FIELDS)


@torch.library.custom_op(
    "gpudiff::vjp",
    mutates_args=(),
    schema=f"({_DATA}Tensor x, Tensor y, Tensor s, Tensor status, {_BARS}bool[] wrt, {_TEXT})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def vjp(*arguments: Any) -> tuple[Tensor, ...]:
    """Cotangents of P, q, A and b, each of its argument's shape; empty for what `wrt` does not ask for."""
    P, q, A, b, *point = arguments[:8]
    bars, (wrt, cones, settings, backend) = arguments[8:12], arguments[12:]
    x, y, s, status = point
    site, checked, product = Site(P, q, A, b, x, y, s, status), parsed_settings(settings), parsed_cones(cones)
    data: Any = {name: None if t is None else to_core(t) for name, t in zip(DATA, (P, q, A, b), strict=True)}
    lead = (site.status.numel(), site.status.ndim > 0)
    problem = as_problem(**data, cones=product, batch=lead)
    ran = select(problem, backend).backend
    spec = Spec(product, checked, ran.name, choose(checked, problem, ran, False))
    given = {name: None if bar is None else to_core(bar) for name, bar in zip(Solution.POINT, bars, strict=True)}
    found = site.linearization(spec, problem).vjp(given, [name for name, want in zip(DATA, wrt, strict=True) if want])
    values = (getattr(found, name) for name in DATA)
    return tuple(site.q.new_empty(0) if value is None else to_caller(value) for value in values)


@solve.register_fake
def _(
    P: Tensor | None, q: Tensor, A: Tensor | None, b: Tensor | None, cones: str, settings: str, backend: str
) -> tuple[Tensor, ...]:
    batch = batch_of((P, q, A, b), RANKS)
    lead = () if batch is None else (batch,)
    vector, rows, number = (q.new_empty((*lead, *core)) for core in ((q.shape[-1],), (parsed_cones(cones).rows,), ()))
    point = (vector, rows, torch.empty_like(rows), number)
    codes = number.to(torch.int8), number.to(torch.int32)
    return (*point, *codes, *(torch.empty_like(number) for _ in FIELDS[len(point) + len(codes) :]))


@vjp.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    data, wrt = arguments[:4], arguments[12]
    return tuple(
        arguments[1].new_empty(0) if tensor is None or not want else tensor.new_empty(tensor.shape)
        for tensor, want in zip(data, wrt, strict=True)
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass of a solve needs."""
    *data, ctx.cones, ctx.settings, ctx.backend = inputs
    x, y, s, _, status, *_ = output
    ctx.save_for_backward(*data, x, y, s, status)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *bars: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cotangents of the data from those of x, y, s and obj."""
    wrt, point = list(ctx.needs_input_grad[:4]), bars[:4]
    if all(bar is None for bar in point):
        return (None,) * 7
    found = torch.ops.gpudiff.vjp(*ctx.saved_tensors, *point, wrt, ctx.cones, ctx.settings, ctx.backend)
    return (*(bar if want else None for bar, want in zip(found, wrt, strict=True)), None, None, None)


solve.register_autograd(_backward, setup_context=_keep)


@solve.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    data, axes = arguments[:4], in_dims[:4]
    batch = _batch(data, axes, RANKS)
    folded = fold(info.batch_size, data, axes, RANKS, batch)
    outputs = torch.ops.gpudiff.solve(*folded, *arguments[4:])
    return tuple(unfold(output, info.batch_size, batch) for output in outputs), (0,) * len(outputs)


def _batch(tensors: Any, axes: Any, ranks: tuple[int, ...]) -> int | None:
    """The extent of the batch axis of tensors of which some have a mapped axis beside it."""
    plain = [t if t is None or axis is None else t.movedim(axis, 0)[0] for t, axis in zip(tensors, axes, strict=True)]
    return batch_of(plain, ranks)
