"""`solve` as autograd sees it: the solution map, whose derivatives are the kernels' or are put together in torch.

A plain backward or forward pass is one call of the fused kernels. Where the derivative itself is to be differentiated,
or a transform of `torch.func` looks at it, it is put together in torch (gpudiff/torch/composed.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from gpudiff._foreign import foreign_solution, solved
from gpudiff._problem import DATA, Array
from gpudiff._solution import Solution
from gpudiff.forms.stack import is_number
from gpudiff.torch.algebra import RANKS, batch_of, fold, unfold
from gpudiff.torch.arrays import (
    canonical,
    direction,
    forward_mode,
    is_listed,
    nestable,
    precise,
    saved,
    to_caller,
    to_core,
    transformed,
    watched,
)
from gpudiff.torch.composed import ComposedLinearization, fused_pullback, pullback, pushforward
from gpudiff.torch.directions import Site, Spec

Tensor: TypeAlias = torch.Tensor
Run: TypeAlias = Callable[[dict[str, Array | None]], Solution]  # P, q, A and b of the core → their solution

# The fields that are arrays: those with derivatives, and the others.
FIELDS = (*Solution.POINT, "status", "iterations", "primal_residual", "dual_residual", "gap", "margin")
_POINT = len(Solution.POINT)


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One solve on its way through autograd.

    Attributes:
        run: what solves.
        every: whether the result is all of `FIELDS`, as transforms need it, or those with derivatives alone.
        solution: what came of it, in arrays of the core; where an axis was mapped, of the folded problems.
    """

    run: Run
    every: bool
    solution: Solution | None = None

    def fields(self) -> tuple[Tensor, ...]:
        """The fields of the solution."""
        names = FIELDS if self.every else FIELDS[:_POINT]
        # Autograd makes what leaves here part of its graph, which holds the call and so the solution: that must not
        # hold the graph in turn, nor must a `Solver` that remembers where the solution ended.
        return tuple(to_caller(getattr(self.solution, name)).detach() for name in names)

    def spec(self) -> Spec:
        """What of it is no tensor."""
        assert self.solution is not None
        inner: Any = self.solution.linearization
        return Spec(inner.problem.cones, inner.settings, self.solution.backend, self.solution.method)


class _Solve(torch.autograd.Function):
    """The solution map: tensors of the data in, fields of the solution out."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve, and leave the whole solution in `call`."""
        arrays = {name: None if t is None else to_core(t) for name, t in zip(DATA, tensors, strict=True)}
        call.solution = solved(lambda: call.run(arrays), direction, to_caller)
        return call.fields()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what derivatives need: the solution, and the tensors under autograd's watch for in-place changes."""
        call, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[_POINT:])
        ctx.save_for_backward(*tensors, *output[: _POINT + 1])
        ctx.save_for_forward(*tensors, *output[: _POINT + 1])

    @staticmethod
    @precise
    def backward(ctx: Any, *bars: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cotangents of the arguments that require them."""
        site = _site(
            ctx, ctx.saved_tensors
        )  # raises if the data or the solution have been overwritten, which the call would not see
        needed: tuple[bool, ...] = ctx.needs_input_grad[1:]
        given = {name: bar for name, bar in zip(FIELDS[:_POINT], bars[:_POINT], strict=True) if bar is not None}
        wrt = [name for name, need in zip(DATA, needed, strict=True) if need]
        if not given or not wrt:
            return (None,) * (1 + len(DATA))
        if any(bar is not None and is_listed(bar) for bar in bars):
            return None, *_mapped_pullback(ctx.call.spec(), site, bars[:_POINT], needed)
        if ctx.call.every or transformed() or forward_mode():
            return None, *pullback(ctx.call.spec(), site, bars[:_POINT], needed)
        if torch.is_grad_enabled():
            return None, *fused_pullback(ctx.call.spec(), site, bars[:_POINT], needed)
        cotangents = {name: to_core(bar) for name, bar in given.items()}
        bar = ctx.call.solution.linearization.vjp(cotangents, wrt)
        return (None, *(to_caller(getattr(bar, name)) if name in wrt else None for name in DATA))

    @staticmethod
    @nestable
    def jvp(ctx: Any, *dots: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tangents of the solution."""
        site = _site(ctx, saved(ctx))
        seen = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*site.tensors(), *dots[1:]))
        if ctx.call.every or seen:
            tangents = pushforward(ctx.call.spec(), site, dots[1:])
        else:
            given = {name: to_core(dot) for name, dot in zip(DATA, dots[1:], strict=True) if dot is not None}
            dot = ctx.call.solution.linearization.jvp(given)
            tangents = tuple(to_caller(getattr(dot, name)) for name in FIELDS[:_POINT])
        return (*tangents, *[None] * (len(FIELDS) - _POINT if ctx.call.every else 0))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], call: Call, *tensors: Tensor | None) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mapped axis is a batch axis, or part of it."""
        moved = [
            t if axis is None or t is None else t.movedim(axis, 0) for t, axis in zip(tensors, in_dims[1:], strict=True)
        ]
        batch = batch_of(
            [t if a is None or t is None else t[0] for t, a in zip(moved, in_dims[1:], strict=True)], RANKS
        )
        folded = fold(info.batch_size, tensors, in_dims[1:], RANKS, batch)
        inner = Call(call.run, True)
        outputs: Any = _Solve.apply(inner, *folded)
        call.solution = inner.solution
        return tuple(unfold(output, info.batch_size, batch) for output in outputs), (0,) * len(outputs)


def _mapped_pullback(
    spec: Spec, site: Site, bars: tuple[Tensor | None, ...], wrt: tuple[bool, ...]
) -> list[Tensor | None]:
    """Cotangents for many at once, as `torch.autograd.grad(is_grads_batched=True)` hands them over: by vmap.

    That is an older vmap than that of torch.func, which autograd functions have no rule for.
    """
    legacy: Any = torch  # its private functions, which have no types
    level = legacy._C._vmapmode_increment_nesting() - 1
    legacy._C._vmapmode_decrement_nesting()
    listed = [bar is not None and is_listed(bar) for bar in bars]
    plain: list[Any] = [
        legacy._remove_batch_dim(bar, level, 0, 0) if many else bar for bar, many in zip(bars, listed, strict=True)
    ]
    given = [i for i, bar in enumerate(plain) if bar is not None]

    def one(*parts: Tensor) -> list[Tensor]:
        whole = dict(zip(given, parts, strict=True))
        found = pullback(spec, site, [whole.get(i) for i in range(len(bars))], wrt)
        return [part for part in found if part is not None]

    mapped = iter(torch.func.vmap(one, tuple(0 if listed[i] else None for i in given))(*[plain[i] for i in given]))
    present = [want and data is not None for want, data in zip(wrt, site.tensors()[: len(DATA)], strict=True)]
    return [legacy._add_batch_dim(next(mapped), 0, level) if there else None for there in present]


def _site(ctx: Any, kept: Any) -> Site:
    """Where a solve ended; the status is a tensor of autograd's where transforms need it to be."""
    P, q, A, b, x, y, s, _, *status = kept
    return Site(P, q, A, b, x, y, s, status[0] if status else to_caller(ctx.call.solution.status))


def differentiable(run: Run, tensors: dict[str, Tensor | None]) -> Solution:
    """Run a solve under autograd and give its solution back in tensors.

    Args:
        run: what solves, given P, q, A and b as arrays of the core.
        tensors: P, q, A and b, of one element type.
    """
    data = [tensors.get(name) for name in DATA]
    if not watched(tensor for tensor in data if tensor is not None):
        arrays = {name: None if t is None else to_core(t) for name, t in zip(DATA, data, strict=True)}
        return foreign_solution(solved(lambda: run(arrays), direction, to_caller), direction, to_caller)
    call = Call(run, transformed())
    outputs: Any = _Solve.apply(call, *data)
    fields = dict(zip(FIELDS, outputs, strict=False))
    solution: Any = call.solution
    if not call.every:
        return foreign_solution(solution, direction, to_caller, **fields)
    site = Site(*data, *outputs[:3], fields["status"])  # pyright: ignore
    linearization = ComposedLinearization(call.spec(), site, solution.linearization)
    return Solution(linearization, **fields)


def tensors_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as tensors of one element type; None for those that are absent, and Python numbers as they are."""
    tensors = {
        name: value if value is None or is_number(value) else canonical(name, value)
        for name, value in arguments.items()
    }
    if len({tensor.dtype for tensor in tensors.values() if isinstance(tensor, torch.Tensor)}) > 1:
        # Widen here rather than further down: autograd then narrows the gradients again.
        return {name: t.to(torch.float64) if isinstance(t, torch.Tensor) else t for name, t in tensors.items()}
    return tensors
