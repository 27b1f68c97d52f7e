"""The two linear systems of a solution, as functions that can be differentiated to any order.

At a solution (x, y, s), with D the derivative of the projection onto K* at v = y − s,

    tangent   (r₁, r₂) → (ẋ, ẏ, ṡ):      P ẋ + Aᵀẏ = r₁,   A ẋ + ṡ = r₂,   ẏ = D (ẏ − ṡ)
    adjoint   (x̄, ȳ, s̄) → (a, c):        x̄ = P a + Aᵀc,   ȳ = A a + (I − D) e,   c = s̄ − D e

are each other's transpose. Both are linear in what they are given, and depend on P, A and v beside it. With the tangent
(ẋ, ẏ, ṡ) of cotangents of (a, c), or with the adjoint (a, c) of cotangents of (ẋ, ẏ, ṡ), the gradient of either is

    P: −sym(a ẋᵀ),   A: −(ẏ aᵀ + c ẋᵀ),   v: D²Π(v)[ẏ − ṡ, e]   with e = ȳ − A a − (c − s̄),

and moving them is one more system of the same kind: with h = D²Π(v)[v̇, ẏ − ṡ] for the tangent,

    (ẋ, ẏ, ṡ)˙ = tangent(ṙ₁ − Ṗẋ − Ȧᵀẏ − Aᵀh, ṙ₂ − Ȧẋ − h) + (0, h, h),

and with h = D²Π(v)[v̇, e] for the adjoint,

    (a, c)˙ = adjoint(x̄˙ − Ṗa − Ȧᵀc, ȳ˙ − Ȧa + h, s̄˙ − h).

Each is one call of the kernels, which is made here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch

from gpudiff._cones import Product
from gpudiff._derivative import ConeLinearization
from gpudiff._dispatch import candidates
from gpudiff._problem import Problem, as_problem
from gpudiff._settings import Method, Settings
from gpudiff._solution import Result
from gpudiff._status import keeps_point
from gpudiff.torch.algebra import RANKS, fold, outer, product, summed, symmetric, total, unfold
from gpudiff.torch.arrays import nestable, precise, saved, to_caller, to_core
from gpudiff.torch.curvature import curvature, is_flat
from gpudiff.torch.project import project

Tensor: TypeAlias = torch.Tensor

SITE_RANKS = (*RANKS, 1, 1, 1, 0)  # axes of what makes a `Site` without the batch axis


@dataclass(frozen=True)
class Spec:
    """What of a solve is no tensor.

    Attributes:
        cones: the cones.
        settings: of the solve.
        backend: the name of what ran.
        method: what it ran.
    """

    cones: Product
    settings: Settings
    backend: str
    method: Method

    def at_the_optimum(self) -> None:
        """See that derivatives are those of the optimum, which is all that is known where they are put together.

        Raises:
            NotImplementedError: they are those of a point of the central path.
        """
        if self.settings.smoothing is not None:
            raise NotImplementedError(
                "smoothing: expected a plain backward or forward pass, got a derivative of a derivative or a transform "
                "of torch.func, which know the optimum alone and not the point of the central path"
            )


@dataclass(frozen=True, eq=False)
class Site:
    """A problem and its solution: where derivatives are taken.

    Attributes:
        P: [(B,) n, n], or None.
        q: [(B,) n].
        A: [(B,) m, n], or None where there are no rows.
        b: [(B,) m], or None where there are no rows.
        x: [(B,) n].
        y: [(B,) m].
        s: [(B,) m].
        status: [(B)].
    """

    P: Tensor | None
    q: Tensor
    A: Tensor | None
    b: Tensor | None
    x: Tensor
    y: Tensor
    s: Tensor
    status: Tensor

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of it, in the order of the attributes."""
        return self.P, self.q, self.A, self.b, self.x, self.y, self.s, self.status

    @property
    def kept(self) -> Tensor:
        """[(B,) 1] which problems have a point and derivatives."""
        return keeps_point(self.status).unsqueeze(-1)

    def masked(self) -> Site:
        """The same with zeros for the points of problems without one, which may be NaN.

        Their data may be NaN as well; but for them the systems below give zeros whatever they are asked.
        """
        kept = self.kept
        x, y, s = (torch.where(kept, part, 0.0) for part in (self.x, self.y, self.s))
        return replace(self, x=x, y=y, s=s)

    def linearization(self, spec: Spec, problem: Problem | None = None) -> ConeLinearization:
        """The derivative of the solution map, as the core has it; without `problem` q and b are not shared."""
        x, y, s, status = (to_core(tensor) for tensor in (self.x, self.y, self.s, self.status))
        if problem is None:
            P, A = (None if matrix is None else to_core(matrix) for matrix in (self.P, self.A))
            q = to_core(self.q.detach().expand(self.x.shape))
            b = None if self.b is None else to_core(self.b.detach().expand(self.y.shape))
            problem = as_problem(P, q, A, b, spec.cones)
        # Of a result derivatives look at the point and the status alone; the shape of scalars is that of the status.
        result = Result(x, y, s, *[status] * 7, work=_no_work, backend=spec.backend, method=spec.method)
        return ConeLinearization(problem, spec.settings, result, candidates(spec.backend)[0])


def tangent(spec: Spec, site: Site, r1: Tensor | None, r2: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(ẋ, ẏ, ṡ), see above; one of the right-hand sides may be None, for zero. 0 where a problem was not solved."""
    return _apply(_Tangent, spec, False, site, r1, r2)


def adjoint(
    spec: Spec, site: Site, x_bar: Tensor | None, y_bar: Tensor | None, s_bar: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(a, c), see above; None stands for zero, but not in all three. 0 where a problem was not solved."""
    return _apply(_Adjoint, spec, False, site, x_bar, y_bar, s_bar)


def _apply(function: Any, spec: Spec, many: bool, site: Site, *directions: Tensor | None) -> Any:
    return function.apply(spec, many, *site.tensors(), *directions)


def _solved(
    spec: Spec, many: bool, site: Site, forward: bool, directions: tuple[Tensor | None, ...]
) -> tuple[Tensor, ...]:
    """The kernels' answer for directions [(K,) (B,) …]: tangents if `forward`, or else adjoints.

    The one place where directions of autograd reach the core.
    """
    linearization = site.linearization(spec)
    given = [None if part is None else to_core(part) for part in directions]
    if forward:
        q_dot = None if directions[0] is None else to_core(-directions[0])
        dot = linearization.jvp({"q": q_dot, "b": given[1]})
        return tuple(to_caller(value) for value in (dot.x, dot.y, dot.s))
    bar = linearization.vjp(dict(zip("xys", given, strict=True)), ("q", "b"))
    if bar.b is not None:
        return -to_caller(bar.q), to_caller(bar.b)
    count = [next(part.shape[0] for part in directions if part is not None)] if many else []
    return -to_caller(bar.q), site.y.new_zeros(*count, *site.y.shape)


def _bend(spec: Spec, site: Site, g: Tensor, h: Tensor) -> Tensor | None:
    """D²Π(v)[g, h] at a masked site; None for cones that have none."""
    return None if is_flat(spec.cones) else curvature(project, site.y - site.s, g, h, spec.cones, True)


def residue(site: Site, a: Tensor, c: Tensor, y_bar: Tensor | None, s_bar: Tensor | None, many: bool = False) -> Tensor:
    """What e is at a masked site, ȳ − A a − (c − s̄); 0 where a problem was not solved."""
    Aa = None if site.A is None else product(site.A, a, many)
    e = total(y_bar, s_bar, -c if Aa is None else -(Aa + c))
    assert e is not None
    return torch.where(site.kept, e, 0.0)


def pairing(
    spec: Spec,
    site: Site,
    many: bool,
    needs: tuple[bool, ...],
    adjoints: tuple[Tensor, Tensor],
    e: Tensor,
    tangents: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor | None, ...]:
    """Cotangents of P, q, A, b, x, y, s and the status of a (masked) site; see the top of the file."""
    (a, c), (x_dot, y_dot, s_dot) = adjoints, tangents
    P_bar = A_bar = bent = None
    if site.P is not None and needs[0]:
        P_bar = symmetric(outer((a,), (x_dot / -2,), site.P, many))
    if site.A is not None and needs[2]:
        A_bar = outer((y_dot, c), (-a, -x_dot), site.A, many)
    if needs[5] or needs[6]:
        bent = _bend(spec, site, y_dot - s_dot, e)
        if bent is not None:
            bent = summed(torch.where(site.kept, bent, 0.0), site.y)
    return P_bar, None, A_bar, None, None, bent, None if bent is None else -bent, None


class _System(torch.autograd.Function):
    """What both systems have in common: the arguments are a `Spec`, `many`, what makes a `Site`, and directions."""

    DIRECTIONS = 0
    FORWARD = False

    @classmethod
    def solved(cls, *arguments: Any) -> tuple[Tensor, ...]:
        """Solve the system."""
        spec, many, *tensors = arguments
        return _solved(spec, many, Site(*tensors[:8]), cls.FORWARD, tuple(tensors[8:]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep everything: each derivative depends on all of it."""
        ctx.spec, ctx.many, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)

    @classmethod
    def mapped(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """Map over directions alone, which takes one more axis of them, or over problems, which takes a batch axis."""
        size, (spec, many, *tensors), axes = info.batch_size, arguments, in_dims[2:]
        function: Any = cls
        site, directions = tensors[:8], tensors[8:]
        if all(axis is None for axis in axes[:8]):
            moved: list[Tensor | None] = []
            for part, axis in zip(directions, axes[8:], strict=True):
                if part is not None:
                    part = part.expand(size, *part.shape) if axis is None else part.movedim(axis, 0)
                moved.append(part.flatten(0, 1) if many and part is not None else part)
            answers = function.apply(spec, True, *site, *moved)
            return tuple(answer.unflatten(0, (size, -1)) if many else answer for answer in answers), (0,) * len(answers)
        status, axis = site[7], axes[7]
        batch = None if status.ndim == (axis is not None) else status.movedim(axis or 0, 0).shape[-1]
        data = fold(size, site[:4], axes[:4], SITE_RANKS[:4], batch)
        point = fold(size, site[4:], axes[4:8], SITE_RANKS[4:], batch, whole=True)
        moved = []
        for part, axis in zip(directions, axes[8:], strict=True):
            if part is not None:
                part = part.unsqueeze(0) if axis is None else part.movedim(axis, 0)
                part = part.movedim(0, 1) if many else part  # [(K,) mapped, (B,) …]
                at = int(many)
                part = part.expand(*part.shape[:at], size, *part.shape[at + 1 :])
                part = part if batch is None else part.flatten(at, at + 1)
            moved.append(part)
        answers = function.apply(spec, many, *data, *point, *moved)
        return tuple(unfold(answer, size, batch, int(many)) for answer in answers), (int(many),) * len(answers)


class _Tangent(_System):
    """The tangent system."""

    FORWARD = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        """(ẋ, ẏ, ṡ)."""
        return _Tangent.solved(*arguments)

    @staticmethod
    @precise
    def backward(ctx: Any, *bars: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cotangents of (ẋ, ẏ, ṡ): one adjoint system."""
        *tensors, x_dot, y_dot, s_dot = ctx.saved_tensors
        site, needs = Site(*tensors[:8]), ctx.needs_input_grad[2:]
        if all(bar is None for bar in bars):
            return (None,) * 12
        a, c = _apply(_Adjoint, ctx.spec, ctx.many, site, *bars)
        site = site.masked()
        e = residue(site, a, c, bars[1], bars[2], ctx.many)
        data = pairing(ctx.spec, site, ctx.many, needs, (a, c), e, (x_dot, y_dot, s_dot))
        return None, None, *data, a if needs[8] else None, c if needs[9] else None

    @staticmethod
    @nestable
    def jvp(ctx: Any, *dots: Any) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One more tangent system."""
        P_dot, _, A_dot, _, _, y_move, s_move, _, r1_dot, r2_dot = dots[2:]
        *tensors, x_dot, y_dot, s_dot = saved(ctx)
        site, many = Site(*tensors[:8]), ctx.many
        clean = site.masked()
        h = _bent_along(ctx.spec, clean, y_move, s_move, y_dot - s_dot)
        Ah = None if h is None or clean.A is None else product(clean.A.mT, h, many)
        r1 = total(
            r1_dot, *_moved(_half(P_dot), x_dot, many), *_moved(A_dot, y_dot, many, True), None if Ah is None else -Ah
        )
        r2 = total(r2_dot, *_moved(A_dot, x_dot, many), None if h is None else -h)
        if r1 is None and r2 is None:
            return torch.zeros_like(x_dot), torch.zeros_like(y_dot), torch.zeros_like(s_dot)
        x, y, s = _apply(_Tangent, ctx.spec, many, site, r1, r2)
        return (x, y, s) if h is None else (x, y + h, s + h)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `_System.mapped`."""
        return _Tangent.mapped(info, in_dims, *arguments)


class _Adjoint(_System):
    """The adjoint system."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        """(a, c)."""
        return _Adjoint.solved(*arguments)

    @staticmethod
    @precise
    def backward(ctx: Any, *bars: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cotangents of (a, c): one tangent system."""
        *tensors, a, c = ctx.saved_tensors
        site, directions, needs = Site(*tensors[:8]), tensors[8:], ctx.needs_input_grad[2:]
        if all(bar is None for bar in bars):
            return (None,) * 13
        dots = _apply(_Tangent, ctx.spec, ctx.many, site, *bars)
        site = site.masked()
        e = residue(site, a, c, directions[1], directions[2], ctx.many)
        data = pairing(ctx.spec, site, ctx.many, needs, (a, c), e, dots)
        return None, None, *data, *(dot if need else None for dot, need in zip(dots, needs[8:], strict=True))

    @staticmethod
    @nestable
    def jvp(ctx: Any, *dots: Any) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One more adjoint system."""
        P_dot, _, A_dot, _, _, y_move, s_move, _, x_bar, y_bar, s_bar = dots[2:]
        *tensors, a, c = saved(ctx)
        site, many = Site(*tensors[:8]), ctx.many
        clean = site.masked()
        h = _bent_along(ctx.spec, clean, y_move, s_move, residue(clean, a, c, tensors[9], tensors[10], many))
        x_bar = total(x_bar, *_moved(_half(P_dot), a, many), *_moved(A_dot, c, many, True))
        y_bar = total(y_bar, *_moved(A_dot, a, many), h)
        s_bar = total(s_bar, None if h is None else -h)
        if x_bar is None and y_bar is None and s_bar is None:
            return torch.zeros_like(a), torch.zeros_like(c)
        return _apply(_Adjoint, ctx.spec, many, site, x_bar, y_bar, s_bar)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `_System.mapped`."""
        return _Adjoint.mapped(info, in_dims, *arguments)


def _moved(matrix_dot: Tensor | None, vectors: Tensor, many: bool, transposed: bool = False) -> tuple[Tensor, ...]:
    """Minus a matrix' tangent times vectors, if it moves."""
    if matrix_dot is None:
        return ()
    return (-product(matrix_dot.mT if transposed else matrix_dot, vectors, many),)


def _half(P_dot: Tensor | None) -> Tensor | None:
    """What of a tangent of P counts: its symmetric part."""
    return None if P_dot is None else symmetric(P_dot) / 2


def _bent_along(
    spec: Spec, clean: Site, y_dot: Tensor | None, s_dot: Tensor | None, direction: Tensor
) -> Tensor | None:
    """D²Π(v)[v̇, direction] for a point that moves; None where it does not or the cones have no curvature."""
    v_dot = total(y_dot, None if s_dot is None else -s_dot)
    if v_dot is None:
        return None
    bent = _bend(spec, clean, v_dot.expand_as(direction), direction)
    return None if bent is None else torch.where(clean.kept, bent, 0.0)


def _no_work() -> Any:
    return cast(Any, None)
