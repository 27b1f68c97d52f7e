"""Derivatives of a solution put together in torch, of operations that can be differentiated and mapped again.

With (a, c) = adjoint(x̄, ȳ, s̄) of gpudiff/torch/directions.py

    q̄ = −a,   b̄ = c,   Ā = −(y aᵀ + c xᵀ),   P̄ = −½(a xᵀ + x aᵀ),

to which the objective's cotangent adds ½ ōbj x xᵀ, ōbj x, ōbj y xᵀ and −ōbj y (the envelope theorem), and forward

    (ẋ, ẏ, ṡ) = tangent(−(Ṗ x + q̇ + Ȧᵀy), ḃ − Ȧ x),   obj˙ = ½ xᵀṖ x + q̇ᵀx + yᵀ(Ȧ x − ḃ).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch

from gpudiff._errors import ShapeError
from gpudiff._problem import DATA, chosen, show
from gpudiff._solution import Cotangents, Solution, Tangents
from gpudiff.torch.algebra import RANKS, outer, product, summed, symmetric, total
from gpudiff.torch.arrays import canonical, direction, precise, to_caller, to_core
from gpudiff.torch.directions import Site, Spec, adjoint, pairing, residue, tangent

Tensor: TypeAlias = torch.Tensor


def pullback(spec: Spec, site: Site, bars: Sequence[Tensor | None], wrt: Sequence[bool]) -> list[Tensor | None]:
    """Cotangents of P, q, A and b from those of x, y, s and obj; None for zero, and for what `wrt` does not ask for."""
    spec.at_the_optimum()
    x_bar, y_bar, s_bar, obj_bar = bars
    clean = site.masked()
    x, y = clean.x, clean.y
    a = c = None
    if x_bar is not None or y_bar is not None or s_bar is not None:
        a, c = adjoint(spec, site, x_bar, y_bar, s_bar)
    level = None if obj_bar is None else obj_bar.unsqueeze(-1)
    ox, oy = (None, None) if level is None else (level * x, level * y)
    a_full, a_half = (total(a, None if ox is None else -factor * ox) for factor in (1.0, 0.5))
    c_full = total(c, None if oy is None else -oy)
    P_bar = q_bar = A_bar = b_bar = None
    if a_full is None or a_half is None or c_full is None:
        return [None] * 4
    if wrt[0] and site.P is not None:
        P_bar = symmetric(outer((a_half,), (x / -2,), site.P))
    if wrt[1]:
        q_bar = -summed(a_full, site.q)
    if wrt[2] and site.A is not None:
        rows, columns = ((y,), (-a_full,)) if c is None else ((y, c), (-a_full, -x))
        A_bar = outer(rows, columns, site.A)
    if wrt[3] and site.b is not None:
        b_bar = summed(c_full, site.b)
    return [P_bar, q_bar, A_bar, b_bar]


def pushforward(spec: Spec, site: Site, dots: Sequence[Tensor | None]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tangents of x, y, s and obj from those of P, q, A and b; None for zero."""
    spec.at_the_optimum()
    P_dot, q_dot, A_dot, b_dot = dots
    clean = site.masked()
    x, y, s = clean.x, clean.y, clean.s
    Px = None if P_dot is None else product(symmetric(P_dot) / 2, x)
    Ax = None if A_dot is None else product(A_dot, x)
    r1 = total(Px, q_dot, None if A_dot is None else product(A_dot.mT, y))
    r2 = total(b_dot, None if Ax is None else -Ax)
    obj = total(
        None if Px is None else (Px * x).sum(-1) / 2,
        None if q_dot is None else (q_dot * x).sum(-1),
        None if r2 is None else -(r2 * y).sum(-1),
    )
    if obj is None:
        return torch.zeros_like(x), torch.zeros_like(y), torch.zeros_like(s), torch.zeros_like(x[..., 0])
    r1, r2 = None if r1 is None else -r1.expand_as(x), None if r2 is None else r2.expand_as(s)
    return *tangent(spec, site, r1, r2), obj


def fused_pullback(spec: Spec, site: Site, bars: Sequence[Tensor | None], wrt: Sequence[bool]) -> list[Tensor | None]:
    """What `pullback` gives, by the fused kernels; to be differentiated backwards, outside of any transform."""
    P_bar, A_bar, a, c = _Pullback.apply(spec, tuple(wrt), *site.tensors(), *bars)  # pyright: ignore[reportGeneralTypeIssues]
    q_bar = -summed(a, site.q) if wrt[1] else None
    return [P_bar, q_bar, A_bar, summed(c, site.b) if wrt[3] and site.b is not None else None]


class _Pullback(torch.autograd.Function):
    """Cotangents of P and A, and (a′, c′) = (a − ōbj x, c − ōbj y), minus and plus those of each problem's q and b.

    It is linear in the cotangents of the solution, so that its transpose is the tangent of the solution along the
    cotangents (P̃, q̃ = −ã, Ã, b̃ = c̃) of what it gives. Beside what it inherits from the adjoint
    system it depends on x and y:

        x: −sym(P̃) a′ − Ãᵀc′ + ōbj q̃,   y: −Ã a′ − ōbj b̃.
    """

    @staticmethod
    def forward(spec: Spec, wrt: tuple[bool, ...], *tensors: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One call of the kernels."""
        site = Site(*tensors[:8])
        cotangents = {name: direction(name, bar) for name, bar in zip(Solution.POINT, tensors[8:], strict=True)}
        names = [name for name, want in zip(DATA, (wrt[0], True, wrt[2], True), strict=True) if want]
        bar = site.linearization(spec).vjp(cotangents, names)
        P_bar, A_bar = (None if matrix is None else to_caller(matrix) for matrix in (bar.P, bar.A))
        c = torch.zeros_like(site.y) if bar.b is None else to_caller(bar.b)
        return P_bar, A_bar, -to_caller(bar.q), c

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        """Keep everything: the derivative depends on all of it."""
        ctx.spec, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[2:])

    @staticmethod
    @precise
    def backward(ctx: Any, *tilde: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One more call of the kernels, forward, and products."""
        ctx.spec.at_the_optimum()
        *tensors, a, c = ctx.saved_tensors
        spec, site, (_, y_bar, s_bar, level), needs = (
            ctx.spec,
            Site(*tensors[:8]),
            tensors[8:],
            ctx.needs_input_grad[2:],
        )
        P_move, A_move, a_move, b_move = tilde
        q_move = None if a_move is None else -a_move
        dots = P_move, q_move, A_move, b_move
        if torch.is_grad_enabled():
            x_dot, y_dot, s_dot, obj_dot = pushforward(spec, site, dots)
        else:
            given = {name: to_core(dot) for name, dot in zip(DATA, dots, strict=True) if dot is not None}
            dot = site.linearization(spec).jvp(given)
            x_dot, y_dot, s_dot, obj_dot = (to_caller(getattr(dot, name)) for name in Solution.POINT)
        clean = site.masked()
        level = None if level is None else level.unsqueeze(-1)
        full = (a, c) if level is None else (a + level * clean.x, c + level * clean.y)
        e = residue(clean, *full, y_bar, s_bar)
        P_bar, _, A_bar, _, _, y_part, s_part, _ = pairing(spec, clean, False, needs, full, e, (x_dot, y_dot, s_dot))
        x_part = total(
            None if P_move is None else -product(symmetric(P_move) / 2, a),
            None if A_move is None else -product(A_move.mT, c),
            None if q_move is None or level is None else level * q_move,
        )
        y_part = total(
            y_part,
            None if A_move is None else -product(A_move, a),
            None if b_move is None or level is None else -level * b_move,
        )
        found = P_bar, None, A_bar, None, x_part, y_part, s_part, None, x_dot, y_dot, s_dot, obj_dot
        return None, None, *(part if need else None for part, need in zip(found, needs, strict=True))


@dataclasses.dataclass(frozen=True, eq=False)
class ComposedLinearization:
    """The derivative of the solution map in tensors that autograd or a transform looks at.

    Attributes:
        spec: what of the solve is no tensor.
        site: the problem and its solution.
        inner: the linearisation of what was solved, mapped axes being batch axes; None where there is none to be had.
    """

    spec: Spec
    site: Site
    inner: Any

    @property
    def result(self) -> Any:
        """The solution as the backend left it."""
        return self.inner.result

    @property
    def settings(self) -> Any:
        """How it was solved."""
        return self.spec.settings

    @property
    def point(self) -> Any:
        """Where the solve ended; arrays of the core."""
        return self.inner.point

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        value = self.inner.field(name)
        return value if isinstance(value, str) else to_caller(value)

    def describe(self) -> str:
        """Sizes for a message."""
        return self.inner.describe()

    def unique(self) -> Any:
        """Not looked at where a transform is at work."""
        return True

    def jvp(self, tangents: dict[str, Any]) -> Tangents:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        dots: list[Tensor | None] = []
        for name, data, rank in zip(DATA, self.site.tensors()[: len(DATA)], RANKS, strict=True):
            value = tangents.get(name)
            if value is not None and data is None:
                raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
            core = () if data is None else tuple(data.shape[data.ndim - rank :])
            dots.append(None if value is None else self._direction(name, value, core))
        return Tangents(*pushforward(self.spec, self.site, dots))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Cotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        site, names = self.site, chosen(wrt, DATA, "wrt")
        bars: list[Tensor | None] = []
        for name, like in zip(Solution.POINT, (site.x, site.y, site.s, site.x[..., 0]), strict=True):
            value, core = cotangents.get(name), like.shape[site.status.ndim :]
            bars.append(None if value is None else self._direction(name, value, tuple(core)).expand(like.shape))
        wanted = [name in names for name in DATA]
        found = pullback(self.spec, site, bars, wanted)
        for i, (data, want) in enumerate(zip(site.tensors()[: len(DATA)], wanted, strict=True)):
            if want and data is not None and found[i] is None:
                found[i] = torch.zeros_like(data)
        return Cotangents(*found)

    def _direction(self, name: str, value: Any, core: tuple[int, ...]) -> Tensor:
        tensor = canonical(name, value).to(self.site.x.dtype)
        lead = tuple(self.site.status.shape)
        if tuple(tensor.shape) not in (core, (*lead, *core), (*(1 for _ in lead), *core)):
            batched = f" or {show((*lead, *core))}" if lead else ""
            raise ShapeError(f"{name}: expected shape {show(core)}{batched}, got {show(tuple(tensor.shape))}")
        return tensor
