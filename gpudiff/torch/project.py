"""torch tensors: projections onto cones as differentiable functions.

A projection is differentiable once: its derivative is itself an autograd function, linear in the direction, so that
`torch.func` and vmap go through it, and a second derivative is a clear error rather than a wrong zero.
"""

from __future__ import annotations

from typing import Any

import torch

from gpudiff import _project
from gpudiff._cones import Product, as_product
from gpudiff._errors import ShapeError
from gpudiff.torch.arrays import canonical, to_caller, to_core, watched


def project(v: Any, cones: Any, dual: bool = False) -> torch.Tensor:
    """`gpudiff.project` for torch tensors, differentiable."""
    points, product = canonical("v", v), as_product(cones)
    if watched((points,)):
        return _Projection.apply(points, product, dual)  # pyright: ignore[reportReturnType]
    return _run(points, product, dual)


def project_derivative(v: Any, name: str, direction: Any, cones: Any, dual: bool = False) -> torch.Tensor:
    """`gpudiff.project_jvp` and `project_vjp` for torch tensors, differentiable in the direction alone."""
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
    def backward(ctx: Any, p_bar: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) p̄."""
        (v,) = ctx.saved_tensors
        return _Derivative.apply(v, p_bar, ctx.cones, ctx.dual), None, None  # pyright: ignore[reportReturnType]

    @staticmethod
    def jvp(ctx: Any, v_dot: torch.Tensor, *_: None) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) v̇."""
        (v,) = ctx.saved_tensors
        return _Derivative.apply(v, v_dot, ctx.cones, ctx.dual)  # pyright: ignore[reportReturnType]

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: tuple[Any, ...], v: torch.Tensor, cones: Product, dual: bool
    ) -> tuple[Any, int]:
        """The mapped axis is one more leading axis."""
        return _Projection.apply(v.movedim(in_dims[0], 0), cones, dual), 0


class _Derivative(torch.autograd.Function):
    """DΠ(v) h as autograd sees it: linear in h, self-adjoint, and not differentiable in v."""

    @staticmethod
    def forward(v: torch.Tensor, h: torch.Tensor, cones: Product, dual: bool) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Differentiate."""
        return _run(v, cones, dual, "direction", h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the points."""
        v, _, ctx.cones, ctx.dual = inputs
        ctx.save_for_backward(v)
        ctx.save_for_forward(v)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, bar: torch.Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) is symmetric.

        Raises:
            NotImplementedError: the derivative with respect to v is asked for.
        """
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(_ONCE)
        if bar is None or not ctx.needs_input_grad[1]:
            return None, None, None, None
        (v,) = ctx.saved_tensors
        return None, _Derivative.apply(v, bar, ctx.cones, ctx.dual), None, None

    @staticmethod
    def jvp(ctx: Any, v_dot: torch.Tensor | None, h_dot: torch.Tensor | None, *_: None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """DΠ(v) ḣ.

        Raises:
            NotImplementedError: the derivative with respect to v is asked for.
        """
        if v_dot is not None:
            raise NotImplementedError(_ONCE)
        (v,) = ctx.saved_tensors
        return None if h_dot is None else _Derivative.apply(v, h_dot, ctx.cones, ctx.dual)

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


_ONCE = "gpudiff.project: expected first derivatives alone, got a request for a second one, which there is not"
