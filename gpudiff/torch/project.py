"""torch tensors: projections onto cones as differentiable functions.

The derivative of a projection is itself an autograd function, linear in the direction, and its own derivative is made
of the second one of the projection (gpudiff/torch/curvature.py): both modes, `torch.func`, vmap and every order.
"""

from __future__ import annotations

from typing import Any

import torch

from gpudiff import _project
from gpudiff._cones import Product, as_product
from gpudiff._errors import ShapeError
from gpudiff.torch.arrays import canonical, nestable, precise, saved, to_caller, to_core, watched
from gpudiff.torch.curvature import curvature


def project(v: Any, cones: Any, dual: bool = False) -> torch.Tensor:
    """`gpudiff.project` for torch tensors, differentiable."""
    points, product = canonical("v", v), as_product(cones)
    if watched((points,)):
        return _Projection.apply(points, product, dual)  # pyright: ignore[reportReturnType]
    return _run(points, product, dual)


def project_derivative(v: Any, name: str, direction: Any, cones: Any, dual: bool = False) -> torch.Tensor:
    """`gpudiff.project_jvp` and `project_vjp` for torch tensors, differentiable."""
    points, along, product = canonical("v", v), canonical(name, direction), as_product(cones)
    if along.shape != points.shape:
        raise ShapeError(f"{name}: expected shape {tuple(points.shape)}, that of v, got {tuple(along.shape)}")
    if along.dtype != points.dtype:  # here rather than further down: autograd then narrows the gradients again
        points, along = points.to(torch.float64), along.to(torch.float64)
    if watched((points, along)):
        return _Derivative.apply(points, along, product, dual)  # pyright: ignore[reportReturnType]
    return _run(points, product, dual, name, along)


def _run(
    v: torch.Tensor, cones: Product, dual: bool, name: str = "", direction: torch.Tensor | None = None
) -> torch.Tensor:
    along = None if direction is None else to_core(direction)
    return to_caller(_project.projected(to_core(v), cones, dual, name, along))


class _Projection(torch.autograd.Function):
    """Π as autograd sees it."""

    @staticmethod
    def forward(v: torch.Tensor, cones: Product, dual: bool) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Project."""
        return _run(v, cones, dual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the points; everything else is computed again where a derivative is asked for."""
        v, ctx.cones, ctx.dual = inputs
        ctx.save_for_backward(v)
        ctx.save_for_forward(v)

    @staticmethod
    @precise
    def backward(ctx: Any, p_bar: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) p̄."""
        (v,) = ctx.saved_tensors
        return _Derivative.apply(v, p_bar, ctx.cones, ctx.dual), None, None  # pyright: ignore[reportReturnType]

    @staticmethod
    @nestable
    def jvp(ctx: Any, v_dot: torch.Tensor, *_: None) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) v̇."""
        (v,) = saved(ctx)
        return _Derivative.apply(v, v_dot, ctx.cones, ctx.dual)  # pyright: ignore[reportReturnType]

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: tuple[Any, ...], v: torch.Tensor, cones: Product, dual: bool
    ) -> tuple[Any, int]:
        """The mapped axis is one more leading axis."""
        return _Projection.apply(v.movedim(in_dims[0], 0), cones, dual), 0


class _Derivative(torch.autograd.Function):
    """DΠ(v) h as autograd sees it: linear in h and self-adjoint."""

    @staticmethod
    def forward(v: torch.Tensor, h: torch.Tensor, cones: Product, dual: bool) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Differentiate."""
        return _run(v, cones, dual, "direction", h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the points and the directions."""
        v, h, ctx.cones, ctx.dual = inputs
        ctx.save_for_backward(v, h)
        ctx.save_for_forward(v, h)
        ctx.set_materialize_grads(False)

    @staticmethod
    @precise
    def backward(ctx: Any, bar: torch.Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) is symmetric, and so is D²Π(v) in all three arguments."""
        if bar is None:
            return None, None, None, None
        v, h = ctx.saved_tensors
        v_bar = curvature(project, v, h, bar, ctx.cones, ctx.dual) if ctx.needs_input_grad[0] else None
        h_bar = _Derivative.apply(v, bar, ctx.cones, ctx.dual) if ctx.needs_input_grad[1] else None
        return v_bar, h_bar, None, None

    @staticmethod
    @nestable
    def jvp(ctx: Any, v_dot: torch.Tensor | None, h_dot: torch.Tensor | None, *_: None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """D²Π(v)[v̇, h] + DΠ(v) ḣ."""
        v, h = saved(ctx)
        bent = None if v_dot is None else curvature(project, v, v_dot, h, ctx.cones, ctx.dual)
        along: Any = None if h_dot is None else _Derivative.apply(v, h_dot, ctx.cones, ctx.dual)
        return along if bent is None else bent if along is None else bent + along

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: tuple[Any, ...], v: torch.Tensor, h: torch.Tensor, cones: Product, dual: bool
    ) -> tuple[Any, int]:
        """The mapped axis is one more leading axis, of both."""
        moved = [
            tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            for tensor, axis in zip((v, h), in_dims[:2], strict=True)
        ]
        return _Derivative.apply(*moved, cones, dual), 0
